"""Fair queue of texts to embed: round robin over clients, and over the callers that share a client id. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from attrs import define, field

from actors.inference.encoder.limits import (
    BATCH_BYTES,
    BATCH_TEXTS,
    WAITING_BYTES,
    WAITING_OF_CLIENT,
    WAITING_REQUESTS,
)

__all__ = ["EmbeddingQueue", "Job", "Piece", "size_of"]

Input = str | tuple[int, ...]


def size_of(one: Input) -> int:
    """Approximate size of a text in bytes; an id counts as a word."""
    return len(one) if isinstance(one, str) and one.isascii() else 4 * len(one)


@define(eq=False)
class Job:
    """One request and its progress."""

    client_id: str
    caller: str
    inputs: Sequence[Input]
    taken: int = 0
    """Inputs computed or being computed."""
    tries: int = 0
    """Workers lost while computing texts of this job."""
    size_bytes: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size_bytes = sum(size_of(one) for one in self.inputs)


@define(eq=False)
class Piece:
    """Some inputs of a job, in one batch."""

    job: Job
    first: int
    count: int

    @property
    def inputs(self) -> Sequence[Input]:
        """The inputs of this piece."""
        return self.job.inputs[self.first : self.first + self.count]


class EmbeddingQueue:
    """Waiting jobs. A batch takes from each client in turn, so that a long request delays others by at most one batch."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, deque[Job]]] = OrderedDict()
        self._size_bytes = 0
        self._jobs = 0

    def __len__(self) -> int:
        """Number of waiting jobs."""
        return self._jobs

    def problem(self, job: Job) -> str | None:
        """The reason why one more job may not wait; None if it may."""
        callers = self._clients.get(job.client_id)
        own = 0 if callers is None else sum(len(jobs) for jobs in callers.values())
        if own >= WAITING_OF_CLIENT:
            return f"{WAITING_OF_CLIENT} requests of this client are already waiting for the encoder"
        if self._jobs >= WAITING_REQUESTS or self._size_bytes + job.size_bytes > WAITING_BYTES:
            return "too many texts are waiting for the encoder"
        return None

    def push(self, job: Job) -> None:
        """Enqueues a job after the others of its caller."""
        self._callers(job).setdefault(job.caller, deque()).append(job)
        self._count(job, 1)

    def push_back(self, piece: Piece) -> None:
        """Requeues a piece whose worker was lost: it is computed again, alone and before the rest of its job."""
        job = piece.job
        is_waiting = job in (self._of_caller(job) or ())
        job.taken = min(job.taken, piece.first)
        if not is_waiting:
            self._callers(job).setdefault(job.caller, deque()).appendleft(job)
            self._count(job, 1)

    def withdraw(self, job: Job) -> None:
        """Removes a job whose caller has left or has been answered."""
        jobs = self._of_caller(job)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            self._count(job, -1)
            self._drop_empty(job)

    def take(self) -> list[Piece]:
        """Takes the next batch; empty if nothing waits. A job that has lost a worker gets a batch to itself."""
        pieces: list[Piece] = []
        texts, size_bytes = BATCH_TEXTS, BATCH_BYTES
        while texts > 0 and size_bytes > 0:
            before = len(pieces)
            share = max(1, BATCH_TEXTS // max(1, len(self._clients)))
            # The least recently served client comes first.
            for client_id in list(self._clients):
                caller, jobs = next(iter(self._clients[client_id].items()))
                job = jobs[0]
                if pieces and job.tries:
                    continue
                count, taken_bytes = _fitting(job, min(texts, share), size_bytes, must=not pieces)
                if not count:
                    continue
                pieces.append(Piece(job, job.taken, count))
                job.taken += count
                texts, size_bytes = texts - count, size_bytes - taken_bytes
                self._served(client_id, caller)
                if job.taken == len(job.inputs):
                    self.withdraw(job)
                if job.tries:
                    return pieces
            if len(pieces) == before:
                break
        return pieces

    def _served(self, client_id: str, caller: str) -> None:
        self._clients[client_id].move_to_end(caller)
        self._clients.move_to_end(client_id)

    def _of_caller(self, job: Job) -> deque[Job] | None:
        callers = self._clients.get(job.client_id)
        return None if callers is None else callers.get(job.caller)

    def _callers(self, job: Job) -> OrderedDict[str, deque[Job]]:
        return self._clients.setdefault(job.client_id, OrderedDict())

    def _count(self, job: Job, by: int) -> None:
        self._jobs += by
        self._size_bytes += by * job.size_bytes

    def _drop_empty(self, job: Job) -> None:
        callers = self._clients[job.client_id]
        if not callers[job.caller]:
            del callers[job.caller]
        if not callers:
            del self._clients[job.client_id]


def _fitting(job: Job, texts: int, size_bytes: int, *, must: bool) -> tuple[int, int]:
    """Number and size of the job's next inputs that fit; at least one with ``must``."""
    count = taken_bytes = 0
    for one in job.inputs[job.taken : job.taken + texts]:
        size = size_of(one)
        if taken_bytes + size > size_bytes and not (must and count == 0):
            break
        count += 1
        taken_bytes += size
    return count, taken_bytes
