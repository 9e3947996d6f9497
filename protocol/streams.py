"""Stream bookkeeping for both ends: position, epoch, and coverage of a frame. No sockets, no clock.

In each stream `seq` starts at 1 and rises by one per event; a frame covers `first_seq` to `seq` (a single event if
`first_seq` is absent). A frame that does not follow the last one directly means loss, and the client resumes. The design
is Centrifugo's: epoch and offset, and a resume that delivers everything or a snapshot, never a part.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from protocol.commands import ResumePoint
from protocol.events import ResumeResult

__all__ = ["Coverage", "EventIds", "Positions", "Reception", "StreamPosition", "coverage_of", "merged"]


@frozen
class Coverage:
    """The events that a frame covers, both numbers inclusive."""

    first_seq: int
    seq: int

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.first_seq <= self.seq:
            raise ValueError(f"a frame cannot cover {self.first_seq} to {self.seq}")


def coverage_of(frame: Mapping[str, Any]) -> Coverage:
    """The coverage of a message on a stream. Raises `ValueError` for invalid numbers."""
    seq = frame.get("seq")
    first_seq = frame.get("first_seq", seq)
    if type(seq) is not int or type(first_seq) is not int:
        raise ValueError("seq and first_seq must be integers")
    return Coverage(first_seq, seq)


def merged(earlier: Coverage, later: Coverage) -> Coverage:
    """The coverage of two adjacent frames combined. Raises `ValueError` if they are not adjacent."""
    if later.first_seq != earlier.seq + 1:
        raise ValueError(f"{later.first_seq} does not follow {earlier.seq}")
    return Coverage(earlier.first_seq, later.seq)


class Reception(enum.Enum):
    """Relation of a frame to a client's position."""

    NEXT = "next"
    """It directly follows the last one."""
    SEEN = "seen"
    """All of it was received before."""
    LOSS = "loss"
    """Something is missing before it, or it repeats a part that cannot be separated from the rest."""


@define
class StreamPosition:
    """A client's position in one stream."""

    stream: str
    epoch: str
    seq: int
    """Number of the last event received, 0 before the first."""
    is_recovering: bool = False
    """True after a loss; frames do not count until the resume is answered."""

    def take(self, coverage: Coverage) -> Reception:
        """Classifies a frame and advances if it is the next one."""
        if coverage.seq <= self.seq:
            return Reception.SEEN
        if self.is_recovering or coverage.first_seq != self.seq + 1:
            self.is_recovering = True
            return Reception.LOSS
        self.seq = coverage.seq
        return Reception.NEXT

    def resume_point(self) -> ResumePoint:
        """The position as sent to the server."""
        return ResumePoint(self.stream, self.epoch, self.seq)

    def resumed(self, result: ResumeResult, epoch: str | None = None) -> bool:
        """Applies the server's answer; False if events are lost and its snapshot replaces them."""
        self.is_recovering = False
        if epoch is not None:
            self.epoch = epoch
        if result.resumed:
            return True
        snapshot = result.snapshot or {}
        self.epoch = snapshot.get("epoch", self.epoch)
        self.seq = snapshot.get("seq", result.head)
        return False


@define
class Positions:
    """All streams that a client follows."""

    _by_stream: dict[str, StreamPosition] = field(factory=dict)

    def follow(self, stream: str, epoch: str, seq: int = 0) -> StreamPosition:
        """Starts following a stream after ``seq``, or restarts."""
        position = self._by_stream[stream] = StreamPosition(stream, epoch, seq)
        return position

    def leave(self, stream: str) -> None:
        """Stops following a stream; its frames are ignored from now on."""
        self._by_stream.pop(stream, None)

    def get(self, stream: str) -> StreamPosition | None:
        """The position in a stream, or None if the client does not follow it."""
        return self._by_stream.get(stream)

    def resume_points(self) -> list[ResumePoint]:
        """Positions for a `hello` on a new connection."""
        return [position.resume_point() for position in self._by_stream.values()]


@define
class EventIds:
    """Recent ids of durable events, for deduplication: the relay may send one twice, with another number or on another stream."""

    capacity: int = 4096
    _ids: OrderedDict[str, None] = field(factory=OrderedDict)

    def is_new(self, event_id: str) -> bool:
        """True the first time; the oldest ids are dropped beyond the capacity."""
        if event_id in self._ids:
            self._ids.move_to_end(event_id)
            return False
        self._ids[event_id] = None
        if len(self._ids) > self.capacity:
            self._ids.popitem(last=False)
        return True
