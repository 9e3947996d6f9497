"""Measures how long a worker was ready to run but got no processor: not a hang, and a new worker would fare no better.

Linux counts, for each thread, the time it was runnable and waited for its turn (`/proc/PID/task/TID/schedstat`, second
number, nanoseconds; Documentation/scheduler/sched-stats). A thread that sleeps, is stopped or waits for a lock accrues
nothing, so a hung worker is excused nothing. An endless computation looks like work, so on a busy machine it is
detected later by the time it waited, at most `LONGEST_EXCUSE_SECONDS`. Other systems report nothing, and nothing is
excused.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["LONGEST_EXCUSE_SECONDS", "RunQueueDelay"]

LONGEST_EXCUSE_SECONDS = 10.0
"""A step that waited longer than this is late for whatever reason."""
_PROCESSES = Path("/proc")


class RunQueueDelay:
    """Run-queue delay of one process since the last `begin`. Reads a few small files, without blocking."""

    def __init__(self, pid: int) -> None:
        self._threads = _PROCESSES / str(pid) / "task"
        self._before: dict[str, int] = {}

    def begin(self) -> None:
        """Starts counting from now."""
        self._before = self._waited_nanoseconds()

    def seconds(self) -> float:
        """Delay of the thread that waited longest, at most `LONGEST_EXCUSE_SECONDS`; 0 if unknown.

        Threads wait concurrently, so their sum would exceed the time that passed.
        """
        waits = (now - self._before.get(thread, now) for thread, now in self._waited_nanoseconds().items())
        return min(LONGEST_EXCUSE_SECONDS, max(waits, default=0) / 1e9)

    def _waited_nanoseconds(self) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            for thread in self._threads.iterdir():
                found[thread.name] = int((thread / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            pass  # the thread has just ended, or the system does not count
        return found
