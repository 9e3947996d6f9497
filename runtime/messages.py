"""Messages: the base of requests, and the runtime's own."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import field, frozen

if TYPE_CHECKING:
    from runtime.asking import ReplyPort

__all__ = ["Down", "DownReason", "Request"]

Reply_co = TypeVar("Reply_co", covariant=True)


class Request(Generic[Reply_co]):
    """Base of messages that expect an answer; the type argument is the answer's type.

    ``class CreateTask(Request[Task])`` makes ``await tasks.ask(CreateTask(...), timeout=2)`` a ``Task``
    for the type checker. Subclasses are frozen attrs classes.
    """

    __slots__ = ()


class DownReason(enum.Enum):
    """The reason for an incarnation's end."""

    RETURNED = "returned"
    """It stopped itself."""
    STOPPED = "stopped"
    """Its supervisor asked it to stop."""
    CRASHED = "crashed"
    """It raised."""
    CANCELLED = "cancelled"
    """It was cancelled because it did not stop in time."""
    DEAD = "dead"
    """It was not running when the monitor was set up."""


@frozen
class Down:
    """Sent once to every actor that monitors another, when that other ends."""

    path: str
    """Path of the actor that ended."""
    incarnation: int
    """The number of the incarnation that ended."""
    reason: DownReason
    """How it ended."""
    error: BaseException | None = field(default=None, eq=False)
    """The exception, if it crashed."""


# System messages travel on a lane of their own that is served before the user messages,
# so that an actor with a full mailbox can still be stopped, notified and inspected.


@frozen
class StopMessage:
    """Makes the actor finish the current message, run `stopping` and end."""

    reason: str


@frozen
class SuspendMessage:
    """Makes the actor stop taking user messages, or resume."""

    suspended: bool


@frozen
class SnapshotMessage:
    """Requests the actor's own redacted snapshot."""

    port: ReplyPort


SystemMessage = StopMessage | SuspendMessage | SnapshotMessage | Down
