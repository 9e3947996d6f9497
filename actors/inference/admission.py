"""Who runs next and whether it fits: pure rules, without a clock or a socket."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from attrs import frozen

__all__ = ["AdmissionLimits", "FairQueue", "fits", "may_wait", "most_positions", "worth_trying_after_ms"]

Item = TypeVar("Item")

TYPICAL_ANSWER_MS = 1000.0
"""What an answer is reckoned to take before one was measured."""
RETRY_MS = (250, 60_000)
KV_STEP_TOKENS = 256
"""mlx-lm's caches grow by this many positions at once, from wherever they end: so far may one reach beyond its rows."""


@frozen(kw_only=True)
class AdmissionLimits:
    """What the waiting room and the worker may hold."""

    waiting_requests: int = 2048
    waiting_prompt_tokens: int = 1_048_576
    rows: int = 32
    kv_bytes: int = 3 * 1024**3
    """Bound on keys and values of all rows, priced as rows × longest row."""


def fits(limits: AdmissionLimits, row_lengths: list[int], new_length: int, kv_bytes_per_token: int) -> bool:
    """Whether one more row of ``new_length`` positions (prompt and whole answer) may join these.

    A batch holds rows × longest row, left-padded, so one long row makes all the others as long.
    """
    rows = len(row_lengths) + 1
    if rows > limits.rows:
        return False
    longest = max([new_length, *row_lengths])
    return rows * (longest + KV_STEP_TOKENS) * kv_bytes_per_token <= limits.kv_bytes


def most_positions(limits: AdmissionLimits, kv_bytes_per_token: int) -> int | None:
    """The longest row that fits at all, alone; what is longer could never run. None where positions cost nothing."""
    if kv_bytes_per_token == 0:
        return None
    return limits.kv_bytes // kv_bytes_per_token - KV_STEP_TOKENS


def may_wait(limits: AdmissionLimits, waiting_requests: int, waiting_tokens: int, prompt_tokens: int) -> bool:
    """Whether the waiting room, which holds so many requests and prompt tokens, takes one more of ``prompt_tokens``."""
    return waiting_requests < limits.waiting_requests and waiting_tokens + prompt_tokens <= limits.waiting_prompt_tokens


def worth_trying_after_ms(limits: AdmissionLimits, waiting_requests: int, last_answer_ms: float | None) -> int:
    """When one who found no room should come again: when those who wait now have been answered, within bounds."""
    wanted = int((last_answer_ms or TYPICAL_ANSWER_MS) * (1 + waiting_requests) / limits.rows)
    return max(RETRY_MS[0], min(RETRY_MS[1], wanted))


class FairQueue(Generic[Item]):
    """One queue per client, served round robin: who asks much waits behind himself, not before others."""

    def __init__(self, tokens_of: Callable[[Item], int]) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()
        self._tokens_of = tokens_of
        self._count = 0
        self.tokens = 0
        """Prompt tokens that wait."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for queue in self._queues.values():
            yield from queue

    def push(self, client_id: str, item: Item, *, first: bool = False) -> None:
        """Wait behind the client's other requests, or before them."""
        queue = self._queues.setdefault(client_id, deque())
        if first:
            queue.appendleft(item)
        else:
            queue.append(item)
        self._count += 1
        self.tokens += self._tokens_of(item)

    def peek(self) -> Item | None:
        """Whose turn it is."""
        for queue in self._queues.values():
            return queue[0]
        return None

    def pop(self) -> Item:
        """Take the one whose turn it is; its client goes to the back. Raises `IndexError` when empty."""
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
        """Take one out of the middle; whether it was there."""
        queue = self._queues.get(client_id)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        if not queue:
            del self._queues[client_id]
        self._count -= 1
        self.tokens -= self._tokens_of(item)
        return True
