"""How long a worker that wanted a processor got none: that is no hang, and a new worker would get none either.

Linux counts for each thread the time that it was ready to run and waited for its turn (`/proc/PID/task/TID/schedstat`, second
number, nanoseconds; Documentation/scheduler/sched-stats). One that sleeps, is stopped or waits for a lock counts nothing, so
a worker that stands still is excused nothing. One that computes for ever looks like one that works, so on a busy machine it is
noticed by so much later as it waited, at most `LONGEST_EXCUSE_SECONDS`. Elsewhere nothing is known and nobody is excused.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["LONGEST_EXCUSE_SECONDS", "RunQueueDelay"]

LONGEST_EXCUSE_SECONDS = 10.0
"""A step that waited longer than this is late whatever the reason."""
_PROCESSES = Path("/proc")


class RunQueueDelay:
    """Of one process, since the last `begin`. Reads a few small files, at once."""

    def __init__(self, pid: int) -> None:
        self._threads = _PROCESSES / str(pid) / "task"
        self._before: dict[str, int] = {}

    def begin(self) -> None:
        """Count from now on."""
        self._before = self._waited_nanoseconds()

    def seconds(self) -> float:
        """Of the thread that waited longest, at most `LONGEST_EXCUSE_SECONDS`; 0 where nothing is known.

        Threads wait side by side, so their sum would excuse more than passed.
        """
        waits = (now - self._before.get(thread, now) for thread, now in self._waited_nanoseconds().items())
        return min(LONGEST_EXCUSE_SECONDS, max(waits, default=0) / 1e9)

    def _waited_nanoseconds(self) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            for thread in self._threads.iterdir():
                found[thread.name] = int((thread / "schedstat").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            pass  # it ends just now, or the system does not count
        return found
