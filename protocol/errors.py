"""Error codes and close codes of the protocol, as tables that code, tests and documents read.

::

    ProtocolFault             a client's message cannot be accepted; `code` tells the kind of problem
    ├─ BadMessage             not a JSON object of this protocol
    │  └─ NotAnObject         valid JSON, but not an object
    ├─ UnknownType            no command has this name
    ├─ InvalidField           a field is missing, unknown, of the wrong type or out of bounds; `field` is its path
    └─ TooLarge               over the size limit of its type
"""

from __future__ import annotations

import enum
from typing import Any

from attrs import frozen

__all__ = [
    "CLOSE_CODES",
    "BadMessage",
    "CloseCode",
    "CloseMeaning",
    "ErrorCode",
    "InvalidField",
    "NotAnObject",
    "ProtocolFault",
    "TooLarge",
    "UnknownType",
]


class ErrorCode(enum.Enum):
    """Every value of `error.code`."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_FIELD = "invalid_field"
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    MODEL_UNAVAILABLE = "model_unavailable"
    ENGINE_FAILED = "engine_failed"
    UNAVAILABLE = "unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    SHUTTING_DOWN = "shutting_down"
    ANSWER_TOO_LARGE = "answer_too_large"
    INTERNAL = "internal"

    @property
    def is_temporary(self) -> bool:
        """True if the same request may succeed later."""
        return self in _TEMPORARY


_TEMPORARY = frozenset(
    {
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.MODEL_UNAVAILABLE,
        ErrorCode.ENGINE_FAILED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.SHUTTING_DOWN,
    }
)


class CloseCode(enum.IntEnum):
    """WebSocket close codes that the server uses."""

    GOING_AWAY = 1001
    NOT_UTF8 = 1007
    FRAME_TOO_LARGE = 1009
    INTERNAL = 1011
    RESTARTING = 1012
    TOO_SLOW = 4008
    NOT_THIS_PROTOCOL = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    TIMED_OUT = 4408
    DISPLACED = 4409
    TOO_MANY = 4429


@frozen
class CloseMeaning:
    """Meaning of a close code for the client."""

    meaning: str
    reconnect: str
    """`yes`, `no` or `after` (the hint in `going_away` or `retry_after_ms`)."""


CLOSE_CODES: dict[CloseCode, CloseMeaning] = {
    CloseCode.GOING_AWAY: CloseMeaning("the server is going away", "after"),
    CloseCode.NOT_UTF8: CloseMeaning("a text frame was not UTF-8", "no"),
    CloseCode.FRAME_TOO_LARGE: CloseMeaning("a frame was over 1 MiB, or over 64 KiB before hello", "no"),
    CloseCode.INTERNAL: CloseMeaning("the server's fault", "yes"),
    CloseCode.RESTARTING: CloseMeaning("the server restarts", "after"),
    CloseCode.TOO_SLOW: CloseMeaning("the client read too slowly", "yes"),
    CloseCode.NOT_THIS_PROTOCOL: CloseMeaning("not this protocol", "no"),
    CloseCode.UNAUTHORIZED: CloseMeaning("token refused, or a command before hello", "no"),
    CloseCode.FORBIDDEN: CloseMeaning("client id or origin refused", "no"),
    CloseCode.TIMED_OUT: CloseMeaning("no hello in time, or no pong", "yes"),
    CloseCode.DISPLACED: CloseMeaning("a newer connection of this device took its place", "no"),
    CloseCode.TOO_MANY: CloseMeaning("too many connections or refusals, or a second hello", "after"),
}


class ProtocolFault(Exception):
    """A client's message cannot be accepted. Carries the data of the `error` answer."""

    code = ErrorCode.BAD_MESSAGE

    def __init__(self, message: str, *, field: str | None = None, command_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        """Path of the field, such as `data.messages[0].role`."""
        self.command_id = command_id
        """The command's id, if it could be read."""
        self.parsed: dict[str, Any] | None = None
        """The message, if it is readable JSON and the problem is one of its values."""


class BadMessage(ProtocolFault):
    """Not a JSON object of this protocol."""


class NotAnObject(BadMessage):
    """Valid JSON that is not an object."""


class UnknownType(ProtocolFault):
    """No command has this type."""

    code = ErrorCode.UNKNOWN_TYPE


class InvalidField(ProtocolFault):
    """A field is invalid."""

    code = ErrorCode.INVALID_FIELD


class TooLarge(ProtocolFault):
    """The message exceeds the limit of its type."""

    code = ErrorCode.TOO_LARGE
