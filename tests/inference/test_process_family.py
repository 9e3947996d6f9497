"""The memory of all our processes, while some of them come and go."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from actors.inference.process_family import family_bytes


def test_jd8_of_a_process_that_is_gone_nothing_is_known() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert family_bytes(gone.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell what a process holds")
def test_jd8_processes_that_end_amid_the_measuring_are_left_out() -> None:
    """Found by the fuzzer of schemas: the folder of a process went between two looks at it."""
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            with contextlib.suppress(BlockingIOError):
                subprocess.run(["true"], check=True)

    busy = [threading.Thread(target=come_and_go) for _ in range(2)]
    for one in busy:
        one.start()
    try:
        held = [family_bytes(os.getpid()) for _ in range(100)]
    finally:
        is_over.set()
        for one in busy:
            one.join()
    assert all(one is not None and one > 1e6 for one in held)
