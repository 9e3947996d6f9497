"""What travels between actors: requests, and what the runtime itself sends."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import field, frozen

if TYPE_CHECKING:
    from runtime.asking import ReplyPort

__all__ = ["Down", "DownReason", "Request"]

Reply_co = TypeVar("Reply_co", covariant=True)


class Request(Generic[Reply_co]):
    """Base of messages that want an answer; the type argument says what kind.

    ``class CreateTask(Request[Task])`` makes ``await tasks.ask(CreateTask(...), timeout=2)`` a ``Task``
    for the type checker. Subclasses are frozen attrs classes.
    """

    __slots__ = ()


class DownReason(enum.Enum):
    """Why an incarnation ended."""

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
    """Told once to every actor that monitors another, when that other ends."""

    path: str
    """Path of the actor that ended."""
    incarnation: int
    """Which incarnation of it."""
    reason: DownReason
    """How it ended."""
    error: BaseException | None = field(default=None, eq=False)
    """What it raised, when it crashed."""


# System messages. They travel on a lane of their own that is served before the mailbox's messages,
# so that a full mailbox can still be stopped, told and looked at.


@frozen
class StopMessage:
    """Finish the current message, run `stopping`, end."""

    reason: str


@frozen
class SuspendMessage:
    """Take no more user messages until told otherwise."""

    suspended: bool


@frozen
class SnapshotMessage:
    """Answer with the actor's own redacted snapshot."""

    port: ReplyPort


SystemMessage = StopMessage | SuspendMessage | SnapshotMessage | Down
