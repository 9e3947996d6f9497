"""What both ends keep in mind about streams: how far, of which epoch, and what a frame covers. No sockets, no clock.

Per stream `seq` starts at 1 and rises by one per event; a frame covers `first_seq` to `seq` (one number where
`first_seq` is left out). What does not begin right after the last one means loss, and the client resumes. The shape
is Centrifugo's: epoch and offset, and a resume that gives all or a snapshot, never a part.
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
    """The events that one frame stands for, both numbers included."""

    first_seq: int
    seq: int

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.first_seq <= self.seq:
            raise ValueError(f"a frame cannot cover {self.first_seq} to {self.seq}")


def coverage_of(frame: Mapping[str, Any]) -> Coverage:
    """Of a message on a stream. Raises `ValueError` where its numbers are none."""
    seq = frame.get("seq")
    first_seq = frame.get("first_seq", seq)
    if type(seq) is not int or type(first_seq) is not int:
        raise ValueError("seq and first_seq must be integers")
    return Coverage(first_seq, seq)


def merged(earlier: Coverage, later: Coverage) -> Coverage:
    """What one frame covers that stands for two neighbours. Raises `ValueError` where something lies between."""
    if later.first_seq != earlier.seq + 1:
        raise ValueError(f"{later.first_seq} does not follow {earlier.seq}")
    return Coverage(earlier.first_seq, later.seq)


class Reception(enum.Enum):
    """What a frame is to somebody who stands at a position."""

    NEXT = "next"
    """It begins right after the last one."""
    SEEN = "seen"
    """All of it came before."""
    LOSS = "loss"
    """Something is missing before it, or it repeats a part that cannot be told from the rest."""


@define
class StreamPosition:
    """How far a client has followed one stream."""

    stream: str
    epoch: str
    seq: int
    """The last event that it has, 0 before the first."""
    is_recovering: bool = False
    """A loss was seen; nothing counts until the resume is answered."""

    def take(self, coverage: Coverage) -> Reception:
        """Judge a frame and, where it is the next one, stand behind it."""
        if coverage.seq <= self.seq:
            return Reception.SEEN
        if self.is_recovering or coverage.first_seq != self.seq + 1:
            self.is_recovering = True
            return Reception.LOSS
        self.seq = coverage.seq
        return Reception.NEXT

    def resume_point(self) -> ResumePoint:
        """What to tell the server."""
        return ResumePoint(self.stream, self.epoch, self.seq)

    def resumed(self, result: ResumeResult, epoch: str | None = None) -> bool:
        """Take the server's answer; False where events are lost and its snapshot holds instead of them."""
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
    """Every stream that one client follows."""

    _by_stream: dict[str, StreamPosition] = field(factory=dict)

    def follow(self, stream: str, epoch: str, seq: int = 0) -> StreamPosition:
        """Begin, or begin anew, behind ``seq``."""
        position = self._by_stream[stream] = StreamPosition(stream, epoch, seq)
        return position

    def leave(self, stream: str) -> None:
        """Its frames are nobody's from now on."""
        self._by_stream.pop(stream, None)

    def get(self, stream: str) -> StreamPosition | None:
        """None where the client does not follow it."""
        return self._by_stream.get(stream)

    def resume_points(self) -> list[ResumePoint]:
        """For a `hello` on a new connection."""
        return [position.resume_point() for position in self._by_stream.values()]


@define
class EventIds:
    """The last ids of durable events: the relay may tell one twice, with another number or on another stream."""

    capacity: int = 4096
    _ids: OrderedDict[str, None] = field(factory=OrderedDict)

    def is_new(self, event_id: str) -> bool:
        """True the first time; the oldest of too many are forgotten."""
        if event_id in self._ids:
            self._ids.move_to_end(event_id)
            return False
        self._ids[event_id] = None
        if len(self._ids) > self.capacity:
            self._ids.popitem(last=False)
        return True
