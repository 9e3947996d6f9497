"""Fair queueing of jobs over clients, and over the addresses and callers that share a client id. No I/O."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import define, field, frozen

from actors.inference.sandbox.limits import JobLimits

__all__ = ["Asker", "Turns"]

Job = TypeVar("Job")


@frozen
class Asker:
    """The party that a job is done for."""

    client_id: str
    caller: str = ""
    """One of several programs that share the client id, as `address:port`; empty if the id belongs to one program."""

    @property
    def address(self) -> str:
        """The caller's address. An address may open any number of connections, so its callers share a turn."""
        return self.caller.rpartition(":")[0]


@define
class _Client(Generic[Job]):
    """Waiting jobs of one client, by address and caller, least recently served first."""

    addresses: OrderedDict[str, OrderedDict[str, deque[Job]]] = field(factory=OrderedDict)
    size: int = 0

    def size_of(self, address: str) -> int:
        """Number of waiting jobs from an address."""
        return sum(map(len, self.addresses.get(address, {}).values()))

    def callers(self) -> Iterator[str]:
        """All callers with waiting jobs."""
        return (caller for callers in self.addresses.values() for caller in callers)


class Turns(Generic[Job]):
    """Jobs of one kind. The client with the fewest running jobs is served next, round robin among equals.

    Within a client the same rule chooses the address, and then the caller. A client with many jobs waits for itself:
    some processes are always left to others. If several callers share its id, they may use all processes but one, and each caller has
    the share of a single client. Callers with many waiting jobs cannot crowd out others of the same id (`make_room`).
    """

    def __init__(self, limits: JobLimits) -> None:
        self._limits = limits
        self._waiting: OrderedDict[str, _Client[Job]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._running_of_caller: Counter[Asker] = Counter()

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        return sum(client.size for client in self._waiting.values())

    @property
    def running(self) -> int:
        """Number of jobs that have a process."""
        return self._running.total()

    def may_wait(self, asker: Asker) -> bool:
        """True if one more job of that client may wait."""
        client = self._waiting.get(asker.client_id)
        return client is None or client.size < self._limits.waiting_of_client

    def make_room(self, asker: Asker) -> tuple[Asker, Job] | None:
        """Evicts a job when no more may wait: the newest of the address and caller with most jobs, if it has at least two more
        than this one.

        The caller of this method must notify the evicted job. Returns None if there is none to evict; the new job is then refused.
        """
        client = self._waiting[asker.client_id]
        address = max(client.addresses, key=client.size_of)
        own_address = client.size_of(asker.address) >= client.size_of(address)
        if own_address:
            address = asker.address
        elif client.size_of(address) < client.size_of(asker.address) + 2:
            return None
        callers = client.addresses[address]
        caller = max(callers, key=lambda one: len(callers[one]))
        if own_address and len(callers[caller]) < len(callers.get(asker.caller, ())) + 2:
            return None
        job = callers[caller].pop()
        self._took(asker.client_id, caller)
        return Asker(asker.client_id, caller), job

    def push(self, asker: Asker, job: Job) -> None:
        """Enqueues a job after the others of its caller."""
        client = self._waiting.setdefault(asker.client_id, _Client())
        client.addresses.setdefault(asker.address, OrderedDict()).setdefault(asker.caller, deque()).append(job)
        client.size += 1

    def start_next(self) -> Job | None:
        """Takes the next job and counts it as running; None if no waiting job may run."""
        if self.running >= self._limits.processes:
            return None
        # `min` takes the first among equals, which is the least recently served.
        may_run = [one for one in self._waiting if self._caller_of(one) is not None]
        client_id = min(may_run, key=self._running.__getitem__, default=None)
        if client_id is None:
            return None
        client, caller = self._waiting[client_id], self._caller_of(client_id)
        assert caller is not None
        address = Asker(client_id, caller).address
        job = client.addresses[address][caller].popleft()
        client.addresses[address].move_to_end(caller)
        client.addresses.move_to_end(address)
        self._waiting.move_to_end(client_id)
        self._took(client_id, caller)
        self._running[client_id] += 1
        self._running_of_caller[Asker(client_id, caller)] += 1
        return job

    def end(self, asker: Asker) -> None:
        """Records that a job of that caller has left its process."""
        # Subtracting counters drops zero entries, so that these do not grow with every client id ever seen.
        self._running = self._running - Counter({asker.client_id: 1})
        self._running_of_caller = self._running_of_caller - Counter({asker: 1})

    def withdraw(self, asker: Asker, job: Job) -> bool:
        """Removes a job from the queue. Returns True if it was still waiting."""
        client = self._waiting.get(asker.client_id)
        callers = None if client is None else client.addresses.get(asker.address)
        jobs = None if callers is None else callers.get(asker.caller)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        self._took(asker.client_id, asker.caller)
        return True

    def _caller_of(self, client_id: str) -> str | None:
        """The caller whose job of this client would run next; None if none may."""
        waiting = self._waiting[client_id]
        running = {one: count for one, count in self._running_of_caller.items() if one.client_id == client_id}
        is_shared = any(waiting.callers()) or any(one.caller for one in running)
        most = self._limits.processes_of_client
        if is_shared:
            most = max(most, self._limits.processes - 1)
        if self._running[client_id] >= most:
            return None
        of_address: Counter[str] = Counter()
        for one, count in running.items():
            of_address[one.address] += count

        def rank(caller: str) -> tuple[int, int, int]:
            asker = Asker(client_id, caller)
            return of_address[asker.address], order[asker.address], running.get(asker, 0)

        order = {address: place for place, address in enumerate(waiting.addresses)}
        may_run = (
            caller
            for caller in waiting.callers()
            if running.get(Asker(client_id, caller), 0) < self._limits.processes_of_client
        )
        return min(may_run, key=rank, default=None)

    def _took(self, client_id: str, caller: str) -> None:
        """Updates the bookkeeping after a job has left a caller's queue."""
        client = self._waiting[client_id]
        client.size -= 1
        address = Asker(client_id, caller).address
        if not client.addresses[address][caller]:
            del client.addresses[address][caller]
        if not client.addresses[address]:
            del client.addresses[address]
        if not client.addresses:
            del self._waiting[client_id]
