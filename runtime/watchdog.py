"""A process beside ours that ends us when we were told to stop and cannot.

A thread is not enough for that: it needs the interpreter's lock, which native code may hold without end, and making it
needs memory. So the process is there from the beginning. It hears of a signal from faulthandler, whose handler in C writes
the stack of the main thread into a pipe without the lock and without memory, and then calls the handler that was there
before (Trio's). A timer of the system (`SIGALRM`) would have to be armed by the very loop that may be held, and
`faulthandler.dump_traceback_later` starts a thread when it is armed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Watchdog"]

_log = logging.getLogger("runtime")

PROGRAM = Path(__file__).with_name("watchdog_process.py")
STOP = b"stop\n"


class Watchdog:
    """Owns the process. It ends with ours, whatever ends ours."""

    def __init__(self, pipe: int, pid: int) -> None:
        self.pid = pid
        self._pipe = pipe

    @classmethod
    def start(cls, seconds: float) -> Watchdog | None:
        """Start the process; ``seconds`` is what a stop may take. None, and a line in the log, where it cannot be had."""
        try:
            theirs, ours = os.pipe()
        except OSError as error:
            _log.warning("no watchdog: %s", error)
            return None
        try:
            pid = os.posix_spawn(
                sys.executable,
                # Neither the environment nor site: it starts in a tenth of the time and knows no secrets.
                [sys.executable, "-I", "-S", str(PROGRAM), str(os.getpid()), str(seconds)],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                # A terminal's Ctrl-C reaches both, and only one is to act on it.
                setsigmask=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP],
            )
        except OSError as error:
            os.close(ours)
            _log.warning("no watchdog: %s", error)
            return None
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        return cls(ours, pid)

    def arm(self) -> None:
        """From now on the seconds count. Never waits, needs no memory to speak of; again, it changes nothing."""
        with contextlib.suppress(OSError):
            os.write(self._pipe, STOP)

    @contextlib.contextmanager
    def hearing(self, *numbers: signal.Signals) -> Iterator[None]:
        """Arm by these signals too, also while no Python code can run. Enter it after their handlers are installed."""
        for number in numbers:
            # The current thread alone: the stacks of others could be changing.
            faulthandler.register(number, file=self._pipe, all_threads=False, chain=True)
        try:
            yield
        finally:
            for number in numbers:
                faulthandler.unregister(number)

    def close(self) -> None:
        """Let the process go; for tests, as the end of ours does the same."""
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
