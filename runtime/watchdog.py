"""A separate process that kills this one if it fails to stop when asked.

A thread cannot do that: it needs the GIL, which native code may hold indefinitely, and starting one
needs memory. So the process is started at the beginning. It learns of a signal from faulthandler, whose C handler writes
the stack of the main thread into a pipe without the GIL and without allocating, and then calls the previous
handler (Trio's). A system timer (`SIGALRM`) would have to be armed by the very loop that may be blocked, and
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
    """Owns the process, which ends with this one, however this one ends."""

    def __init__(self, pipe: int, pid: int) -> None:
        self.pid = pid
        self._pipe = pipe

    @classmethod
    def start(cls, seconds: float) -> Watchdog | None:
        """Starts the process; ``seconds`` is the time allowed for a stop. Logs and returns None if that fails."""
        try:
            theirs, ours = os.pipe()
        except OSError as error:
            _log.warning("no watchdog: %s", error)
            return None
        try:
            pid = os.posix_spawn(
                sys.executable,
                # Without environment and site: it starts in a tenth of the time and receives no secrets.
                [sys.executable, "-I", "-S", str(PROGRAM), str(os.getpid()), str(seconds)],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                # A terminal's Ctrl-C reaches both processes, and only one should act on it.
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
        """Starts the countdown. Never waits, needs practically no memory; further calls have no effect."""
        with contextlib.suppress(OSError):
            os.write(self._pipe, STOP)

    @contextlib.contextmanager
    def hearing(self, *numbers: signal.Signals) -> Iterator[None]:
        """Also arms on these signals, even while no Python code can run. Enter it after their handlers are installed."""
        for number in numbers:
            # Only the current thread: the stacks of others may be changing.
            faulthandler.register(number, file=self._pipe, all_threads=False, chain=True)
        try:
            yield
        finally:
            for number in numbers:
                faulthandler.unregister(number)

    def close(self) -> None:
        """Ends the process; for tests, since the end of this process does the same."""
        os.close(self._pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
