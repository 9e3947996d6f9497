"""Replies to commands, exactly one each. Errors say what to do."""

from __future__ import annotations

from typing import Any

import structlog

from actors.connections.transport import WebSocketTransport
from actors.errors import CommandError, error_from_fault
from protocol.codec import encode, unstructure, wire_time
from protocol.commands import COMMANDS, MAXIMUM_FRAME_BYTES
from protocol.errors import ErrorCode
from protocol.events import ErrorData
from runtime import RuntimeFault

__all__ = ["Replies"]

_log = structlog.get_logger("connection")

WAITING_BYTES = 4 * MAXIMUM_FRAME_BYTES
"""Limit on results that wait for the client to read earlier ones, in addition to those in the send queue."""
RETRY_MS = 1000


class Replies:
    """Encodes and sends the replies of one connection."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        self._waiting_bytes = 0

    def reply(self, command_id: str, kind: str, data: Any) -> None:
        """Send the only reply of a command that was carried out."""
        frame = self._frame(command_id, kind, data)
        if frame is not None:
            self._transport.put(self._transport.send_queue.put_reply, frame)

    async def result(self, command_id: str, value: Any) -> None:
        """Send a `result`, which may be large, once the client has read enough earlier ones."""
        frame = self._frame(command_id, "result", value)
        if frame is None:
            return
        if self._waiting_bytes + len(frame) > WAITING_BYTES:
            message = "it was carried out, but too many replies are waiting to be read: read them and ask again"
            self.error(command_id, ErrorCode.OVERLOADED, message, retry_after_ms=RETRY_MS, carried_out=True)
            return
        self._waiting_bytes += len(frame)
        try:
            await self._transport.replies_drained(len(frame))
        finally:
            self._waiting_bytes -= len(frame)
        self._transport.put(self._transport.send_queue.put_reply, frame)

    def _frame(self, command_id: str, kind: str, data: Any) -> bytes | None:
        """Encode a reply. If it exceeds the frame limit, send an error instead and return None."""
        frame = encode({"type": kind, "re": command_id, "time": wire_time(), "data": data})
        if len(frame) <= MAXIMUM_FRAME_BYTES:
            return frame
        _log.warning("answer too large", connection=self._transport.name, type=kind, bytes=len(frame))
        message = (
            f"it was carried out, but its reply of {len(frame)} bytes exceeds the {MAXIMUM_FRAME_BYTES} of a frame: "
            "ask for a smaller part"
        )
        self.error(command_id, ErrorCode.ANSWER_TOO_LARGE, message, carried_out=True)
        return None

    def error(
        self,
        command_id: str | None,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        retry_after_ms: int | None = None,
        current: dict[str, Any] | None = None,
        carried_out: bool | None = None,
    ) -> None:
        """Send an error as the only reply of a command.

        The command was not carried out unless ``carried_out`` says so: then only its result could not be sent.
        """
        data = ErrorData(
            code=code,
            message=message,
            field=field,
            retry_after_ms=retry_after_ms,
            current=current,
            carried_out=carried_out,
        )
        envelope = {"type": "error", "time": wire_time(), "data": unstructure(data)}
        if command_id is not None:
            envelope["re"] = command_id
        frame = encode(envelope)
        if len(frame) > MAXIMUM_FRAME_BYTES and current is not None:
            # The client can fetch the current value with a command.
            envelope["data"] = {**envelope["data"], "current": None}
            frame = encode(envelope)
        self._transport.put(self._transport.send_queue.put_reply, frame)

    def failure(self, command_id: str, kind: str, error: CommandError | RuntimeFault) -> None:
        """Reply with a service's rejection, or with the fault that kept it from answering."""
        rejection = error if isinstance(error, CommandError) else error_from_fault(error, writes=COMMANDS[kind].writes)
        if rejection is None:
            _log.error("command failed", connection=self._transport.name, type=kind, exc_info=error)
            self.error(command_id, ErrorCode.INTERNAL, "the server failed to carry this out")
            return
        self.error(
            command_id,
            rejection.code,
            rejection.message,
            field=rejection.field,
            retry_after_ms=rejection.retry_after_ms,
            current=rejection.current,
        )
