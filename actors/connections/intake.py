"""Frames to commands under the limits of one connection: what is refused here never reaches a room."""

from __future__ import annotations

import trio
from attrs import frozen

from actors.connections.answers import Answers
from actors.connections.link import Link
from actors.connections.rates import SlidingCount, TokenBucket
from protocol.codec import ReceivedCommand, decode_command
from protocol.commands import MAXIMUM_FRAME_BYTES, Ack, Assist, Generate, Hello, Ping, Pong, Resume
from protocol.errors import CloseCode, ErrorCode, ProtocolFault
from protocol.events import Limits

__all__ = ["Intake", "Load"]

PROTOCOL_ERRORS = 10
REFUSALS = 60
WINDOW_SECONDS = 60.0


@frozen(kw_only=True)
class Load:
    """What a connection has to do at the moment."""

    is_greeted: bool
    in_flight: int
    streams: int


class Intake:
    """Reads, counts and refuses. Synchronous."""

    def __init__(self, link: Link, answers: Answers, limits: Limits) -> None:
        now = trio.current_time()
        self._link = link
        self._answers = answers
        self._limits = limits
        self._bucket = TokenBucket(limits.commands_per_second, limits.command_burst, now)
        self._errors = SlidingCount(PROTOCOL_ERRORS, WINDOW_SECONDS)
        self._refusals = SlidingCount(REFUSALS, WINDOW_SECONDS)

    def read(self, frame: str | bytes, load: Load) -> ReceivedCommand | None:
        """The command in a frame, if it is to be carried out; everything else was answered."""
        now = trio.current_time()
        if isinstance(frame, bytes):
            self._link.close_soon(CloseCode.NOT_THIS_PROTOCOL, "binary frames are not part of this protocol")
            return None
        # trio-websocket's own limit counts characters.
        if len(frame) * 4 > MAXIMUM_FRAME_BYTES and len(frame.encode()) > MAXIMUM_FRAME_BYTES:
            self._link.close_soon(CloseCode.FRAME_TOO_LARGE, f"more than {MAXIMUM_FRAME_BYTES} bytes")
            return None
        try:
            command = decode_command(frame)
        except ProtocolFault as fault:
            self._answers.error(fault.command_id, fault.code, fault.message, field=fault.field)
            if self._errors.add(now):
                self._link.close_soon(CloseCode.NOT_THIS_PROTOCOL, "too many messages that are not of this protocol")
            return None
        if isinstance(command.data, Pong):
            return None
        if not load.is_greeted and not isinstance(command.data, Hello):
            self._answers.error(command.id, ErrorCode.UNAUTHORIZED, "the first command must be hello")
            self._link.close_soon(CloseCode.UNAUTHORIZED, "a command before hello")
            return None
        if isinstance(command.data, Ack):
            return command
        assert command.id is not None
        return command if self._is_within_limits(command, command.id, load, now) else None

    def _is_within_limits(self, command: ReceivedCommand, command_id: str, load: Load, now: float) -> bool:
        limits = self._limits
        wait_seconds = self._bucket.take(now)
        if wait_seconds is not None:
            self._refuse(command_id, f"more than {limits.commands_per_second} commands a second", wait_seconds, now)
            return False
        match command.data:
            case Ping(payload):
                self._answers.answer(command_id, "pong", payload)
                return False
            case Hello() if load.is_greeted:
                self._answers.error(command_id, ErrorCode.CONFLICT, "hello was already said")
                self._link.close_soon(CloseCode.TOO_MANY, "a second hello")
                return False
        if load.in_flight >= limits.commands_in_flight:
            self._refuse(command_id, f"more than {limits.commands_in_flight} commands in flight", 0.1, now)
            return False
        if isinstance(command.data, Generate | Assist | Resume) and load.streams >= limits.streams:
            self._refuse(command_id, f"more than {limits.streams} streams", 1.0, now)
            return False
        return True

    def _refuse(self, command_id: str, message: str, wait_seconds: float, now: float) -> None:
        retry_after_ms = max(1, round(1000 * wait_seconds))
        self._answers.error(command_id, ErrorCode.RATE_LIMITED, message, retry_after_ms=retry_after_ms)
        if self._refusals.add(now):
            self._link.close_soon(CloseCode.TOO_MANY, "too many refusals")
