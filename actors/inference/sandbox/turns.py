"""Whose job runs next: fair queueing over clients, and over the callers that share a client id. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

from attrs import define, field, frozen

from actors.inference.sandbox.limits import JobLimits

__all__ = ["Asker", "Turns"]

Job = TypeVar("Job")


@frozen
class Asker:
    """Who a job is done for."""

    client_id: str
    caller: str = ""
    """Which of the programs that share the client id; empty where the id is one program's own."""


@define
class _Client(Generic[Job]):
    """Jobs of one client that wait, by caller, the caller that was served longest ago first."""

    waiting: OrderedDict[str, deque[Job]] = field(factory=OrderedDict)
    size: int = 0


class Turns(Generic[Job]):
    """Jobs of one kind. The client with the fewest running is served next, round robin among equals.

    Within a client the same rule chooses the caller. A client that asks for much waits for itself: some processes are never
    its own. Where several callers share its id, all but one process may be theirs, and each has no more than a client has.
    """

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, _Client[Job]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._running_of_caller: Counter[Asker] = Counter()

    @property
    def waiting(self) -> int:
        """Jobs that wait."""
        return sum(client.size for client in self._waiting.values())

    @property
    def running(self) -> int:
        """Jobs that have a process."""
        return self._running.total()

    def may_wait(self, asker: Asker) -> bool:
        """Whether one more job of that client may wait."""
        client = self._waiting.get(asker.client_id)
        return client is None or client.size < self._limits.waiting_of_client

    def push(self, asker: Asker, job: Job) -> None:
        """Let a job wait behind the others of its caller."""
        client = self._waiting.setdefault(asker.client_id, _Client())
        client.waiting.setdefault(asker.caller, deque()).append(job)
        client.size += 1

    def start_next(self) -> Job | None:
        """Take the job whose turn it is and count it as running; None while none that waits may run."""
        if self.running >= self._limits.processes:
            return None
        # Of equals the first, which is the one that was served longest ago.
        may_run = [one for one in self._waiting if self._caller_of(one) is not None]
        client_id = min(may_run, key=self._running.__getitem__, default=None)
        if client_id is None:
            return None
        client, caller = self._waiting[client_id], self._caller_of(client_id)
        assert caller is not None
        job = client.waiting[caller].popleft()
        client.waiting.move_to_end(caller)
        self._waiting.move_to_end(client_id)
        self._took(client_id, caller)
        self._running[client_id] += 1
        self._running_of_caller[Asker(client_id, caller)] += 1
        return job

    def end(self, asker: Asker) -> None:
        """A job of that caller has left its process."""
        # A difference of counters leaves out what has come to nothing, so that these do not grow with the names that were ever said.
        self._running = self._running - Counter({asker.client_id: 1})
        self._running_of_caller = self._running_of_caller - Counter({asker: 1})

    def withdraw(self, asker: Asker, job: Job) -> bool:
        """Take a job out of the queue; whether it still waited."""
        client = self._waiting.get(asker.client_id)
        jobs = None if client is None else client.waiting.get(asker.caller)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        self._took(asker.client_id, asker.caller)
        return True

    def _caller_of(self, client_id: str) -> str | None:
        """Whose job of this client would run next; None where none may."""
        waiting = self._waiting[client_id].waiting
        is_shared = any(waiting) or any(one.caller for one in self._running_of_caller if one.client_id == client_id)
        most = self._limits.processes_of_client
        if is_shared:
            most = max(most, self._limits.processes - 1)
        if self._running[client_id] >= most:
            return None
        running = {caller: self._running_of_caller[Asker(client_id, caller)] for caller in waiting}
        may_run = (caller for caller in waiting if running[caller] < self._limits.processes_of_client)
        return min(may_run, key=running.__getitem__, default=None)

    def _took(self, client_id: str, caller: str) -> None:
        """One job has left that queue."""
        client = self._waiting[client_id]
        client.size -= 1
        if not client.waiting[caller]:
            del client.waiting[caller]
        if not client.waiting:
            del self._waiting[client_id]
