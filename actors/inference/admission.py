"""Admission rules: fair queueing and memory limits. No clock, no I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from attrs import frozen

__all__ = ["AdmissionLimits", "FairQueue", "fits", "may_wait", "most_positions", "worth_trying_after_ms"]

Item = TypeVar("Item")

TYPICAL_ANSWER_MS = 1000.0
"""Assumed duration of an answer until one has been measured."""
RETRY_MS = (250, 60_000)
KV_STEP_TOKENS = 256
"""mlx-lm's caches grow by this many positions at a time from any starting point, so a cache may exceed its rows by up
to this much."""


@frozen(kw_only=True)
class AdmissionLimits:
    """Limits on the queue and on the worker's batch."""

    waiting_requests: int = 2048
    waiting_prompt_tokens: int = 1_048_576
    rows: int = 32
    kv_bytes: int = 3 * 1024**3
    """Limit on keys and values of all rows, priced as rows × longest row."""


def fits(limits: AdmissionLimits, row_lengths: list[int], new_length: int, kv_bytes_per_token: int) -> bool:
    """True if one more row of ``new_length`` positions (prompt and whole answer) fits into the batch.

    A batch holds rows × longest row, left-padded, so one long row makes all the others as long.
    """
    rows = len(row_lengths) + 1
    if rows > limits.rows:
        return False
    longest = max([new_length, *row_lengths])
    return rows * (longest + KV_STEP_TOKENS) * kv_bytes_per_token <= limits.kv_bytes


def most_positions(limits: AdmissionLimits, kv_bytes_per_token: int) -> int | None:
    """Length of the longest row that fits on its own; a longer one could never run. None if positions cost no memory."""
    if kv_bytes_per_token == 0:
        return None
    return limits.kv_bytes // kv_bytes_per_token - KV_STEP_TOKENS


def may_wait(limits: AdmissionLimits, waiting_requests: int, waiting_tokens: int, prompt_tokens: int) -> bool:
    """True if a queue with this many requests and prompt tokens can take another request of ``prompt_tokens``."""
    return waiting_requests < limits.waiting_requests and waiting_tokens + prompt_tokens <= limits.waiting_prompt_tokens


def worth_trying_after_ms(limits: AdmissionLimits, waiting_requests: int, last_answer_ms: float | None) -> int:
    """Suggests when to retry after the queue was full: once the requests waiting now should have been answered, within
    limits."""
    wanted = int((last_answer_ms or TYPICAL_ANSWER_MS) * (1 + waiting_requests) / limits.rows)
    return max(RETRY_MS[0], min(RETRY_MS[1], wanted))


class FairQueue(Generic[Item]):
    """One queue per client, served round-robin, so that a client with many requests delays only itself."""

    def __init__(self, tokens_of: Callable[[Item], int]) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()
        self._tokens_of = tokens_of
        self._count = 0
        self.tokens = 0
        """Prompt tokens of all waiting requests."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for queue in self._queues.values():
            yield from queue

    def push(self, client_id: str, item: Item, *, first: bool = False) -> None:
        """Queues an item behind the client's other items, or ahead of them."""
        queue = self._queues.setdefault(client_id, deque())
        if first:
            queue.appendleft(item)
        else:
            queue.append(item)
        self._count += 1
        self.tokens += self._tokens_of(item)

    def peek(self) -> Item | None:
        """Returns the next item without removing it; None if the queue is empty."""
        for queue in self._queues.values():
            return queue[0]
        return None

    def pop(self) -> Item:
        """Removes and returns the next item; its client moves to the back. Raises `IndexError` when empty."""
        if not self._queues:
            raise IndexError("nobody waits")
        client_id, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        if queue:
            self._queues.move_to_end(client_id)
        else:
            del self._queues[client_id]
        self._count -= 1
        self.tokens -= self._tokens_of(item)
        return item

    def remove(self, client_id: str, item: Item) -> bool:
        """Removes an item from anywhere in the queue. Returns True if it was there."""
        queue = self._queues.get(client_id)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        if not queue:
            del self._queues[client_id]
        self._count -= 1
        self.tokens -= self._tokens_of(item)
        return True
