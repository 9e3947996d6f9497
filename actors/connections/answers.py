"""Answers to commands: exactly one each, and errors that say what to do."""

from __future__ import annotations

from typing import Any

import structlog

from actors.connections.link import Link
from actors.refusals import CommandRefused
from protocol.codec import unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.events import ErrorData
from runtime import ActorDead, AskDeadline, MailboxFull, RuntimeFault

__all__ = ["Answers"]

_log = structlog.get_logger("connection")


class Answers:
    """What a connection says in answer to a command."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def answer(self, command_id: str, kind: str, data: Any) -> None:
        """The one answer of a command that is carried out."""
        self._link.send({"type": kind, "re": command_id, "time": wire_time(), "data": data})

    def error(
        self,
        command_id: str | None,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
        current: dict[str, Any] | None = None,
    ) -> None:
        """The one answer of a command that is not."""
        data = ErrorData(code=code, message=message, field=field, retry_after_ms=retry_after_ms, current=current)
        envelope = {"type": "error", "time": wire_time(), "data": unstructure(data)}
        if command_id is not None:
            envelope["re"] = command_id
        self._link.send(envelope)

    def failure(self, command_id: str, kind: str, error: CommandRefused | RuntimeFault) -> None:
        """What a room answered instead of a value, or that it did not."""
        match error:
            case CommandRefused():
                self.error(
                    command_id,
                    error.code,
                    error.message,
                    field=error.field,
                    retry_after_ms=error.retry_after_ms,
                    current=error.current,
                )
            case AskDeadline():
                self.error(command_id, ErrorCode.DEADLINE_EXCEEDED, "no answer in time")
            case MailboxFull():
                self.error(command_id, ErrorCode.OVERLOADED, "too much is waiting", retry_after_ms=1000)
            case ActorDead():
                self.error(command_id, ErrorCode.UNAVAILABLE, f"{error.path} is restarting", retry_after_ms=500)
            case _:
                _log.error("command failed", connection=self._link.name, type=kind, exc_info=error)
                self.error(command_id, ErrorCode.INTERNAL, "the server failed to carry this out")
