"""The process that ends ours when no Python code of it can run any more: OP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import Watchdog
from tests.system.serving_process import is_alive, wait_for

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

PROGRAM = """
    import ctypes, os, sys, threading, trio
    from runtime import Actor, ActorSystem, ChildSpec, SupervisorSpec, Watchdog

    def hold():
        # A library's code that does not give the interpreter's lock back.
        print("held", flush=True)
        library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(128)
        library.pthread_mutex_lock(mutex)
        # For ever, and no signal interrupts it.
        library.pthread_mutex_lock(mutex)

    class Child(Actor):
        async def started(self):
            self.context.spawn(self.go)
        async def go(self):
            await trio.sleep(0.01)
            match sys.argv[1]:
                case "loop":
                    hold()
                case "thread":
                    threading.Thread(target=hold, daemon=True).start()
                case "memory":
                    # As under a limit that was reached.
                    threading.Thread.start = lambda self: (_ for _ in ()).throw(RuntimeError("can't start new thread"))
                    print("held", flush=True)
                case "stopped":
                    self.context._life.system.request_stop("from within")
                    hold()
                case "shielded":
                    print("held", flush=True)
                    with trio.CancelScope(shield=True):
                        await trio.sleep(60)
                case "none":
                    print("held", flush=True)

    watchdog = Watchdog.start(float(sys.argv[2]))
    print(watchdog.pid, flush=True)
    spec = SupervisorSpec(children=(ChildSpec(id="a", start=Child, drain_seconds=0.1, cancel_seconds=0.1),))
    system = ActorSystem(
        handle_signals=True, drain_seconds=0.1, total_stop_seconds=float(sys.argv[3]), watchdog=watchdog
    )
    trio.run(system.run, spec)
    print("over", flush=True)
"""


@contextmanager
def program(how: str, watchdog_seconds: float, stop_seconds: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server that has got into trouble, and the process id of its watchdog."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), how, str(watchdog_seconds), str(stop_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        watchdog = int(process.stdout.readline())
        assert process.stdout.readline() == "held\n"
        yield process, watchdog
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["loop", "thread", "stopped"])
def test_op_a_signal_ends_a_server_whose_interpreter_is_held_by_native_code(how: str) -> None:
    with program(how, 0.5, 60) as (process, watchdog):
        if how != "stopped":
            process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
        assert "did not end within 0.5 s" in error
        if how == "loop":
            assert "in hold" in error, "where it was when it was told"
        wait_for(lambda: not is_alive(watchdog), what="the watchdog's end")


def test_op_a_second_signal_ends_it_sooner() -> None:
    with program("loop", 600, 600) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGKILL


def test_op_the_deadline_of_a_stop_needs_no_new_thread() -> None:
    """A regression: the thread was made when the signal came, and without memory for it nothing stopped."""
    with program("memory", 30, 30) as (process, _):
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "over\n"), error


def test_op_where_python_still_runs_the_server_says_itself_what_is_stuck() -> None:
    with program("shielded", 30, 0.5) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=20)
        assert process.returncode == 70
        assert "still running" in error


@pytest.mark.parametrize("how", ["asked", "killed"])
def test_op_the_watchdog_ends_with_its_server(how: str) -> None:
    with program("none", 30, 30) as (process, watchdog):
        assert is_alive(watchdog)
        # A terminal's Ctrl-C is for the server alone.
        os.kill(watchdog, signal.SIGINT)
        os.kill(watchdog, signal.SIGTERM)
        process.send_signal(signal.SIGTERM if how == "asked" else signal.SIGKILL)
        process.communicate(timeout=20)
        assert process.returncode == (0 if how == "asked" else -signal.SIGKILL)
        wait_for(lambda: not is_alive(watchdog), what="the watchdog's end")


def test_op_without_a_descriptor_or_a_process_there_is_no_watchdog_and_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "posix_spawn", refuse)
    assert Watchdog.start(1) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    monkeypatch.setattr(os, "pipe", refuse)
    assert Watchdog.start(1) is None
