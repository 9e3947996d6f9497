"""A cursor in a client's event log: decides which event is next and which events each frame covers. No I/O.

Events reach a connection live or in pages read from the log. One number governs both: the last event that this
connection has sent or skipped. Only the next event is ever sent; any other is either known already or shows that the
log must be read.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import define, field

from actors.storage.messages import LogPage, StoredEvent
from protocol.codec import wire_time
from protocol.commands import Subscribe
from protocol.events import Priority

__all__ = ["LogCursor", "Next", "can_resume"]

SKIPPED_KEPT = 1000
"""As many events as a log retains: nothing asks about older ones."""


class Next(enum.Enum):
    """Action for a live event."""

    NOTHING = "nothing"
    """The event is known, or the log is being read already."""
    SEND = "send"
    """It is the next one: send it."""
    READ = "read"
    """Read the log now."""
    READ_LATER = "read later"
    """Read the log when the subscription's pace allows."""


def can_resume(page: LogPage, epoch: str, seq: int) -> bool:
    """True if the log holds everything after ``seq``."""
    return epoch == page.epoch and page.oldest - 1 <= seq <= page.head


@define
class LogCursor:
    """Position of one connection in its client's log."""

    epoch: str = ""
    seq: int = 0
    """Last event sent or skipped."""
    covered: int = 0
    """Last event that a frame covered; the next frame covers the events skipped since."""
    begun: int = 0
    """Where this connection began or was resumed; other connections sent what came before."""
    skipped: tuple[int, ...] = ()
    """The newest events since ``begun`` that the subscription filtered out."""
    is_reading: bool = False
    """Pages are being read; live events only show that there is more."""
    is_stale: bool = False
    """The log may hold more than was read."""
    subscription: Subscribe = field(factory=Subscribe)
    paced_until: float = 0.0
    """Trio clock: a paced subscription gets only critical events before this time."""

    def begin(self, epoch: str, seq: int) -> None:
        """Begin after ``seq``, which the client has."""
        self.epoch, self.seq, self.covered = epoch, seq, seq
        self.begun, self.skipped = seq, ()

    @property
    def is_paced(self) -> bool:
        """True if the subscription delays events."""
        return self.subscription.batch_ms > 0 or self.subscription.max_events_per_second is not None

    def judge(self, event: StoredEvent) -> Next:
        """Decide what to do about a live event."""
        if event.seq <= self.seq:
            return Next.NOTHING
        if self.is_reading:
            self.is_stale = True
            return Next.NOTHING
        if self.is_paced:
            self.is_stale = True
            is_urgent = event.priority is Priority.CRITICAL and self._wants(event)
            return Next.READ if is_urgent else Next.READ_LATER
        if event.seq != self.seq + 1:
            self.is_stale = True
            return Next.READ
        return Next.SEND

    def delay_seconds(self, now: float) -> float:
        """Seconds to wait for more events before sending, under a paced subscription."""
        return max(self.subscription.batch_ms / 1000, self.paced_until - now, 0.0)

    def sent(self, now: float) -> None:
        """Note that a frame was sent under a paced subscription."""
        rate = self.subscription.max_events_per_second
        self.paced_until = now if rate is None else now + 1 / rate

    def take(self, event: StoredEvent) -> bytes | None:
        """Advance over the next event. Returns its frame, or None if the subscription filters it out."""
        self.seq = event.seq
        if not self._wants(event):
            self._skip(event.seq)
            return None
        first, self.covered = self.covered + 1, event.seq
        return _frame(event, first)

    def take_together(self, events: Sequence[StoredEvent]) -> bytes | None:
        """Advance over the next several events. Returns one frame, or None if the subscription filters out all."""
        wanted = [one for one in events if self._wants(one)]
        self._skip(*(one.seq for one in events if not self._wants(one)))
        self.seq = events[-1].seq
        if not wanted:
            return None
        first, self.covered = self.covered + 1, wanted[-1].seq
        if len(wanted) == 1:
            return _frame(wanted[0], first)
        covers = b'"first_seq":%d,' % first if first != self.covered else b""
        head = b'{"type":"events","stream":"client",%s"seq":%d,"time":"%s","data":{"events":['
        envelopes = b",".join(_frame(one, one.seq) for one in wanted)
        return head % (covers, self.covered, wire_time(wanted[-1].time_ms / 1000).encode()) + envelopes + b"]}}"

    def skip_forgotten(self, oldest: int) -> None:
        """Skip to the oldest event still in the log. No frame covers those before it, so the client sees the gap."""
        # Acknowledging a later event does not confirm the events that were never sent.
        self._skip(*range(max(self.seq + 1, oldest - SKIPPED_KEPT), oldest))
        self.seq = self.covered = oldest - 1

    def _wants(self, event: StoredEvent) -> bool:
        return self.subscription.wants(event.channel, event.priority)

    def _skip(self, *seqs: int) -> None:
        self.skipped = (*self.skipped, *seqs)[-SKIPPED_KEPT:]


def _frame(event: StoredEvent, first_seq: int) -> bytes:
    covers = b'"first_seq":%d,' % first_seq if first_seq != event.seq else b""
    head = b'{"type":"%s","stream":"client",%s"seq":%d,"time":"%s","data":'
    return head % (event.type.encode(), covers, event.seq, wire_time(event.time_ms / 1000).encode()) + event.data + b"}"
