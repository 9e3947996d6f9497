"""Command errors: raised by a service to reject a command, and reported by every transport."""

from __future__ import annotations

from typing import Any

from actors import process_memory
from actors.process_memory import is_shortage, note_shortage
from protocol.errors import ErrorCode
from runtime import ActorDead, AskDeadline, HandlerFailed, MailboxFull, Refused, RuntimeFault

__all__ = ["CommandError", "error_from_fault", "root_fault"]

RETRY_MS = 1000


class CommandError(Refused):
    """A command was understood and rejected. Carries the fields of an `error` message or a problem document."""

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
        """Path of the invalid field, such as `data.title`."""
        self.retry_after_ms = retry_after_ms
        self.current = current
        """Current state as plain JSON values, if a stale write was refused with `conflict`."""


def root_fault(error: Exception) -> Exception:
    """Return the upstream fault behind a failed handler: a dead, late or overloaded service that it called.

    The caller does not know which services a service calls in turn, and a restart upstream is not that service's bug.
    """
    while isinstance(error, HandlerFailed) and isinstance(error.__cause__, RuntimeFault):
        error = error.__cause__
    return error


def error_from_fault(fault: Exception, *, writes: bool) -> CommandError | None:
    """Translate a runtime fault for the client, equally over every transport. Returns None for a bug of our own.

    A command that ``writes`` is `unavailable` or `overloaded` only if nothing was done. If the actor had begun, or did not
    answer in time, the outcome is unknown, which is `deadline_exceeded`.
    """
    unknown = ", so it is not known whether the change was stored" if writes else ""
    match root_fault(fault):
        case ActorDead(path=path, has_begun=True) if writes:
            message = f"{path} ended while it carried this out{unknown}"
            return CommandError(ErrorCode.DEADLINE_EXCEEDED, message, retry_after_ms=RETRY_MS)
        case ActorDead(path=path):
            return CommandError(ErrorCode.UNAVAILABLE, f"{path} is restarting", retry_after_ms=RETRY_MS)
        case AskDeadline(path=path):
            return CommandError(ErrorCode.DEADLINE_EXCEEDED, f"{path} did not answer in time{unknown}")
        case MailboxFull(path=path):
            message = f"{path} has too much to do"
            return CommandError(ErrorCode.OVERLOADED, message, retry_after_ms=RETRY_MS)
        case HandlerFailed() as failed if is_shortage(failed.__cause__):
            note_shortage()
            if writes:
                message = f"the server ran out of memory while it carried this out{unknown}"
                return CommandError(ErrorCode.DEADLINE_EXCEEDED, message, retry_after_ms=process_memory.RETRY_MS)
            return CommandError(ErrorCode.UNAVAILABLE, process_memory.NO_MEMORY, retry_after_ms=process_memory.RETRY_MS)
    return None
