"""Fork-join thread pool: the calling thread, and workers that sleep between calls."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["ThreadPool"]

_Job = tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...]]


class ThreadPool:
    """Belongs to the thread that calls it. Workers run only compiled code, which releases the GIL."""

    def __init__(self, threads: int) -> None:
        """``threads`` includes the caller's."""
        self.threads = threads
        self._helpers = [_Worker(number) for number in range(1, threads)]
        weakref.finalize(self, _shutdown, [helper.jobs for helper in self._helpers])

    def run(self, function: Callable[..., None], arguments: Sequence[tuple[Any, ...]], kept: tuple[Any, ...]) -> None:
        """Runs ``function(*arguments[i])`` on the i-th thread, the first on the calling one, whose return means that all is done.

        ``function`` must therefore share its work so that a late worker finds nothing left. Objects that a late worker still
        reads are kept alive by its arguments and ``kept``. A worker still busy with the previous call is skipped.
        """
        for helper, one in zip(self._helpers, arguments[1:], strict=True):
            helper.offer((function, one, kept))
        function(*arguments[0])


class _Worker:
    def __init__(self, number: int) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_free = threading.Event()
        self._is_free.set()
        threading.Thread(target=_work, args=(self.jobs, self._is_free), name=f"products-{number}", daemon=True).start()

    def offer(self, job: _Job) -> None:
        if self._is_free.is_set():
            self._is_free.clear()
            self.jobs.put(job)


def _work(jobs: queue.SimpleQueue[_Job | None], is_free: threading.Event) -> None:
    while (job := jobs.get()) is not None:
        function, arguments, kept = job
        function(*arguments)
        del job, function, arguments, kept
        is_free.set()


def _shutdown(all_jobs: Sequence[queue.SimpleQueue[_Job | None]]) -> None:
    for jobs in all_jobs:
        jobs.put(None)
