"""What a room answers when it will not do what it was asked: one class that every door knows how to tell."""

from __future__ import annotations

from typing import Any

from protocol.errors import ErrorCode
from runtime import HandlerFailed, Refused, RuntimeFault

__all__ = ["CommandRefused", "what_failed"]


class CommandRefused(Refused):
    """A command was understood and is not carried out; carries what an `error` or a problem needs."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
        current: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        """Path of the field at fault, as `data.title`."""
        self.retry_after_ms = retry_after_ms
        self.current = current
        """What is stored now, as plain JSON values, where a stale write was refused with `conflict`."""


def what_failed(error: Exception) -> Exception:
    """The fault behind a handler that failed because a neighbour of its own did: dead, late, or with too much to do.

    Whoever asked a room does not know whom that asks in turn; a neighbour that restarts is no bug of the room's.
    """
    while isinstance(error, HandlerFailed) and isinstance(error.__cause__, RuntimeFault):
        error = error.__cause__
    return error
