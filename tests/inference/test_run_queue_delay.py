"""Waiting for a processor is distinguished from hanging, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.inference.watchdog import LONGEST_EXCUSE_SECONDS, RunQueueDelay
from tests.server_fixture import eventually

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="macOS keeps no such count")

BUSY = "import sys; print(flush=True)\nwhile True: pass"
ASLEEP = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def process(program: str, processor: int) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            os.sched_setaffinity(child.pid, {processor})
            yield child
        finally:
            child.kill()


async def test_a_process_that_shares_its_processor_is_excused_what_it_waited() -> None:
    processor = min(os.sched_getaffinity(0))
    with process(BUSY, processor) as one, process(BUSY, processor):
        wait = RunQueueDelay(one.pid)
        wait.begin()
        began = time.monotonic()
        await eventually(lambda: wait.seconds() >= 0.2)
        assert wait.seconds() <= time.monotonic() - began + 0.5
        wait.begin()
        assert wait.seconds() < 0.2, "counted anew"


async def test_one_that_sleeps_is_excused_nothing_though_others_keep_its_processor_busy() -> None:
    processor = min(os.sched_getaffinity(0))
    with process(ASLEEP, processor) as sleeper, process(BUSY, processor) as busy, process(BUSY, processor):
        wait, others = RunQueueDelay(sleeper.pid), RunQueueDelay(busy.pid)
        wait.begin()
        others.begin()
        await eventually(lambda: others.seconds() >= 0.3)
        assert wait.seconds() < 0.05


def test_nothing_is_excused_beyond_the_bound_nor_for_a_process_that_is_gone() -> None:
    wait = RunQueueDelay(os.getpid())
    wait._before = {thread.name: -(10**12) for thread in Path("/proc/self/task").iterdir()}
    assert wait.seconds() == LONGEST_EXCUSE_SECONDS
    with process(ASLEEP, min(os.sched_getaffinity(0))) as child:
        gone = RunQueueDelay(child.pid)
        gone.begin()
    assert gone.seconds() == 0.0
