"""Mailboxes: bounded queues with a named overflow policy, and a system lane that is served first.

A mailbox is the queue of a single receiver, so it parks that task directly instead of using a Trio
memory channel: the receiver can then wait on both lanes at once, a blocked sender hands its message over
in order, and an idle actor costs a third of the memory of two channels.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import trio
from attrs import field, frozen, validators
from outcome import Error, Value

from runtime.asking import ReplyPort
from runtime.errors import ActorDead, MailboxFull
from runtime.messages import SystemMessage

__all__ = [
    "MAXIMUM_CAPACITY",
    "Mailbox",
    "MailboxSpec",
    "MailboxStatistics",
    "Overflow",
    "block",
    "conflate",
    "drop_newest",
    "drop_oldest",
    "reject",
]

MAXIMUM_CAPACITY = 1_000_000
"""Upper bound of all capacities: an unbounded queue is a leak that has not happened yet."""

Entry = tuple[Any, ReplyPort | None, float]
"""A queued message, the destination of its answer, and the time it was queued (Trio clock, seconds)."""


class Overflow(enum.Enum):
    """Treatment of a message to a full mailbox."""

    BLOCK = "block"
    """The sender waits for space, in order."""
    REJECT = "reject"
    """The sender gets `MailboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting message is dropped, counted, and becomes a dead letter."""
    DROP_NEWEST = "drop_newest"
    """The new message is dropped, counted, and becomes a dead letter."""
    CONFLATE = "conflate"
    """Messages with one key replace each other in place; keys beyond the capacity are rejected."""


@frozen(kw_only=True)
class MailboxSpec:
    """Capacity and overflow policy. Create it with `block`, `reject`, `drop_oldest`, `drop_newest` or `conflate`."""

    capacity: int = field(validator=[validators.instance_of(int), validators.ge(1), validators.le(MAXIMUM_CAPACITY)])
    """Most waiting messages; for `conflate`, most keys."""
    overflow: Overflow = field(validator=validators.instance_of(Overflow))
    """Treatment of one more."""
    key: Callable[[Any], Hashable] | None = None
    """For `conflate`: messages with equal keys are states of the same thing."""


def block(capacity: int) -> MailboxSpec:
    """A full mailbox makes the sender wait. `tell_nowait` raises `MailboxFull` instead."""
    return MailboxSpec(capacity=capacity, overflow=Overflow.BLOCK)


def reject(capacity: int) -> MailboxSpec:
    """A full mailbox raises `MailboxFull` in the sender."""
    return MailboxSpec(capacity=capacity, overflow=Overflow.REJECT)


def drop_oldest(capacity: int) -> MailboxSpec:
    """A full mailbox drops its oldest message."""
    return MailboxSpec(capacity=capacity, overflow=Overflow.DROP_OLDEST)


def drop_newest(capacity: int) -> MailboxSpec:
    """A full mailbox drops the new message."""
    return MailboxSpec(capacity=capacity, overflow=Overflow.DROP_NEWEST)


def conflate(capacity: int, *, key: Callable[[Any], Hashable]) -> MailboxSpec:
    """Keeps only the newest of the messages with one key, at the position of the first."""
    return MailboxSpec(capacity=capacity, overflow=Overflow.CONFLATE, key=key)


@frozen(kw_only=True)
class MailboxStatistics:
    """A mailbox at one moment."""

    used: int
    """Messages waiting."""
    capacity: int
    """Most messages that can wait."""
    peak: int
    """Most messages that have waited at once in this incarnation."""
    dropped: int
    """Messages dropped or replaced by the overflow policy."""
    last_dropped: str | None
    """Class name of the last one dropped."""
    blocked_senders: int
    """Tasks waiting for space."""
    oldest_age_seconds: float | None
    """Waiting time of the first message."""


class Mailbox:
    """The queue of one incarnation. Owned by the runtime; actors and senders have no direct access."""

    __slots__ = (
        "_blocked",
        "_latest",
        "_on_drop",
        "_receiver",
        "_user",
        "closed",
        "dropped",
        "last_dropped",
        "path",
        "peak",
        "spec",
        "system",
    )

    def __init__(self, path: str, spec: MailboxSpec, on_drop: Callable[[Any, ReplyPort | None], None]) -> None:
        self.path = path
        self.spec = spec
        self.peak = 0
        self.dropped = 0
        self.last_dropped: type | None = None
        self.closed: ActorDead | None = None
        # Queues are created when first needed: an empty deque is 760 bytes, and most actors are idle.
        self.system: deque[SystemMessage] | None = None
        self._user: deque[Any] | None = None
        self._latest: dict[Hashable, Entry] | None = None
        self._blocked: OrderedDict[trio.lowlevel.Task, Entry] | None = None
        self._receiver: trio.lowlevel.Task | None = None
        self._on_drop = on_drop

    def put_nowait(self, message: Any, port: ReplyPort | None) -> None:
        """Queues a message or applies the overflow policy.

        Raises `MailboxFull` if the policy is to reject (or to block, which this call cannot) and
        `ActorDead` after `close`.
        """
        if self.closed is not None:
            raise self.closed.again()
        if self._latest is not None or self.spec.overflow is Overflow.CONFLATE:
            self._put_conflated(message, port)
            return
        queue = self._user
        if queue is None:
            queue = self._user = deque()
        if len(queue) >= self.spec.capacity and not self._make_room(queue, message, port):
            return
        queue.append((message, port, trio.current_time()))
        if len(queue) > self.peak:  # noqa: PLR1730  on the path of every message, where max() costs a call
            self.peak = len(queue)
        self.wake()

    async def put(self, message: Any, port: ReplyPort | None) -> None:
        """Queues a message, waiting for space if the policy is `block`.

        Cancellation while waiting withdraws the message. Always a checkpoint.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.closed is None and self.spec.overflow is Overflow.BLOCK:
            queue = self._user
            if queue is not None and len(queue) >= self.spec.capacity:
                await self._wait_for_room((message, port, trio.current_time()))
                return
        self.put_nowait(message, port)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def put_system(self, message: SystemMessage) -> None:
        """Queues on the system lane, which cannot fill up: only the runtime sends there."""
        if self.closed is not None:
            return
        if self.system is None:
            self.system = deque()
        self.system.append(message)
        self.wake()

    def take(self) -> Entry | None:
        """Takes the next user message, or None."""
        queue = self._user
        if not queue:
            return None
        first = queue.popleft()
        if self._latest is not None:
            entry: Entry = self._latest.pop(first)
            return entry
        if self._blocked:
            sender, waiting = self._blocked.popitem(last=False)
            queue.append(waiting)
            trio.lowlevel.reschedule(sender, Value(None))
        return first  # type: ignore[no-any-return]  # the queue holds keys or entries, by policy

    async def park(self) -> None:
        """Waits until either lane may have a message. Cancel-safe: nothing is taken here."""
        self._receiver = trio.lowlevel.current_task()

        def abort(_: Callable[[], Any]) -> trio.lowlevel.Abort:
            self._receiver = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> None:
        """Wakes the parked receiver."""
        task = self._receiver
        if task is not None:
            self._receiver = None
            trio.lowlevel.reschedule(task)

    def close(self, error: ActorDead) -> Iterator[Entry]:
        """Rejects everything from now on; yields the waiting messages, including those of blocked senders."""
        self.closed = error
        left: list[Entry] = []
        if self._user:
            left.extend(self._latest[one] if self._latest is not None else one for one in self._user)
        if self._blocked:
            for sender, entry in self._blocked.items():
                left.append(entry)
                trio.lowlevel.reschedule(sender, Error(error.again()))
        self._user = self._blocked = self._latest = None
        return iter(left)

    def statistics(self, now: float) -> MailboxStatistics:
        """Figures for inspection. Read-only."""
        oldest: float | None = None
        if self._user:
            first = self._latest[self._user[0]] if self._latest is not None else self._user[0]
            oldest = max(0.0, now - first[2])
        return MailboxStatistics(
            used=len(self._user) if self._user else 0,
            capacity=self.spec.capacity,
            peak=self.peak,
            dropped=self.dropped,
            last_dropped=None if self.last_dropped is None else self.last_dropped.__name__,
            blocked_senders=len(self._blocked) if self._blocked else 0,
            oldest_age_seconds=oldest,
        )

    def _make_room(self, queue: deque[Any], message: Any, port: ReplyPort | None) -> bool:
        """Applies the policy of a full mailbox; True if the new message may be queued."""
        match self.spec.overflow:
            case Overflow.DROP_OLDEST:
                oldest, oldest_port, _ = queue.popleft()
                self._drop(oldest, oldest_port)
                return True
            case Overflow.DROP_NEWEST:
                self._drop(message, port)
                return False
            case _:
                raise MailboxFull(self.path, self.spec.capacity)

    def _put_conflated(self, message: Any, port: ReplyPort | None) -> None:
        assert self.spec.key is not None
        key = self.spec.key(message)
        if self._latest is None:
            self._latest = {}
            self._user = deque()
        assert self._user is not None
        replaced = self._latest.get(key)
        if replaced is None:
            if len(self._user) >= self.spec.capacity:
                raise MailboxFull(self.path, self.spec.capacity)
            self._user.append(key)
            self.peak = max(self.peak, len(self._user))
        else:
            self._drop(replaced[0], replaced[1], replaced=True)
        self._latest[key] = (message, port, trio.current_time())
        self.wake()

    def _drop(self, message: Any, port: ReplyPort | None, *, replaced: bool = False) -> None:
        self.dropped += 1
        self.last_dropped = type(message)
        # A conflated state without an asker was superseded, not lost, so it is not reported.
        if not replaced or port is not None:
            self._on_drop(message, port)

    async def _wait_for_room(self, entry: Entry) -> None:
        if self._blocked is None:
            self._blocked = OrderedDict()
        task = trio.lowlevel.current_task()
        self._blocked[task] = entry

        def abort(_: Callable[[], Any]) -> trio.lowlevel.Abort:
            if self._blocked is not None:
                self._blocked.pop(task, None)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
