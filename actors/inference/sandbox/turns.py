"""Whose job is next: the client that has the fewest running, and round robin among equals. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

from actors.inference.sandbox.limits import JobLimits

__all__ = ["Turns"]

Job = TypeVar("Job")


class Turns(Generic[Job]):
    """Jobs of one kind. A client that asks for much waits for itself: the last process is never its own."""

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._running: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return sum(len(jobs) for jobs in self._waiting.values())

    @property
    def running(self) -> int:
        """Jobs that have a process."""
        return self._running.total()

    def may_wait(self, client_id: str) -> bool:
        """Whether one more job of that client may wait."""
        return len(self._waiting.get(client_id, ())) < self._limits.waiting_of_client

    def push(self, client_id: str, job: Job) -> None:
        """Let a job wait behind the others of its client."""
        self._waiting.setdefault(client_id, deque()).append(job)

    def start_next(self) -> Job | None:
        """Take the job whose turn it is and count it as running; None while none that waits may run."""
        if self.running >= self._limits.processes:
            return None
        may_run = (one for one in self._waiting if self._running[one] < self._limits.processes_of_client)
        # Of equals the first, which is the one that was served longest ago.
        client_id = min(may_run, key=self._running.__getitem__, default=None)
        if client_id is None:
            return None
        jobs = self._waiting[client_id]
        job = jobs.popleft()
        if jobs:
            self._waiting.move_to_end(client_id)
        else:
            del self._waiting[client_id]
        self._running[client_id] += 1
        return job

    def end(self, client_id: str) -> None:
        """A job of that client has left its process."""
        self._running[client_id] -= 1
        if self._running[client_id] <= 0:
            del self._running[client_id]

    def withdraw(self, client_id: str, job: Job) -> bool:
        """Take a job out of the queue; whether it still waited."""
        jobs = self._waiting.get(client_id)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        if not jobs:
            del self._waiting[client_id]
        return True
