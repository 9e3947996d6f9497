"""Decodes incoming frames and enforces per-connection limits. Rejected frames never reach a service."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import field, frozen

from actors.connections.rate_limit import SlidingWindowCounter, TokenBucket
from actors.connections.replies import Replies
from actors.connections.transport import WebSocketTransport
from actors.long_texts import LongTexts, is_long
from actors.nonsense import NonsenseLedger, Sender
from protocol.codec import ReceivedCommand, command_in_steps
from protocol.commands import MAXIMUM_FRAME_BYTES, Ack, Assist, Generate, Hello, Ping, Pong, Resume
from protocol.errors import BadMessage, CloseCode, ErrorCode, NotAnObject, ProtocolFault, TooLarge
from protocol.events import Limits

__all__ = ["CommandReader", "ConnectionLoad", "SharedReading"]

PROTOCOL_ERRORS = 10
REFUSALS = 60
WINDOW_SECONDS = 60.0
TOO_MUCH = "too many messages that do not follow this protocol"


@frozen
class SharedReading:
    """State shared by the readers of all connections."""

    ledger: NonsenseLedger = field(factory=NonsenseLedger)
    long_texts: LongTexts = field(factory=LongTexts)


class _NotRead(Exception):
    """The sender lost its right to long frames while this one was being read."""


@frozen(kw_only=True)
class ConnectionLoad:
    """A connection's load when a command arrives; the limits depend on it."""

    is_greeted: bool
    in_flight: int
    streams: int


class CommandReader:
    """Decodes, counts and rejects the frames of one connection."""

    def __init__(
        self,
        transport: WebSocketTransport,
        replies: Replies,
        limits: Limits,
        shared: SharedReading,
        sender: Callable[[], Sender],
    ) -> None:
        """``sender`` returns the sender of the frames, so far as known by then."""
        now = trio.current_time()
        self._shared = shared
        self._sender = sender
        self._transport = transport
        self._replies = replies
        self._limits = limits
        self._bucket = TokenBucket(limits.commands_per_second, limits.command_burst, now)
        self._errors = SlidingWindowCounter(PROTOCOL_ERRORS, WINDOW_SECONDS)
        self._refusals = SlidingWindowCounter(REFUSALS, WINDOW_SECONDS)

    async def read(self, frame: str | bytes, load: Callable[[], ConnectionLoad]) -> ReceivedCommand | None:
        """Return the command in a frame, or None if the frame was answered here.

        Decoding a long frame takes several steps, so ``load`` is called after it. Nothing is answered if cancelled.
        """
        if isinstance(frame, bytes):
            self._transport.close_soon(CloseCode.NOT_THIS_PROTOCOL, "binary frames are not part of this protocol")
            return None
        # trio-websocket's own limit counts characters.
        if len(frame) * 4 > MAXIMUM_FRAME_BYTES and len(frame.encode()) > MAXIMUM_FRAME_BYTES:
            self._transport.close_soon(CloseCode.FRAME_TOO_LARGE, f"more than {MAXIMUM_FRAME_BYTES} bytes")
            return None
        try:
            command = await self._command(frame)
        except _NotRead:
            self._transport.close_soon(CloseCode.TOO_MANY, TOO_MUCH)
            return None
        except ProtocolFault as fault:
            self._answer(fault, len(frame))
            return None
        return self._judge(command, load(), trio.current_time())

    async def _command(self, frame: str) -> ReceivedCommand:
        """Decode a frame. Raises `ProtocolFault`, and `_NotRead` for a long frame from a sender of nonsense."""
        if is_long(frame):
            self._check_turn()
        command = await self._shared.long_texts.read(frame, command_in_steps(frame), self._check_turn)
        self._shared.ledger.took(self._sender())
        return command

    def _check_turn(self) -> None:
        if self._shared.ledger.wait_seconds(self._sender(), trio.current_time()) is not None:
            raise _NotRead

    def _answer(self, fault: ProtocolFault, size: int) -> None:
        now, sender = trio.current_time(), self._sender()
        self._replies.error(fault.command_id, fault.code, fault.message, field=fault.field)
        is_readable = not isinstance(fault, BadMessage | TooLarge) or isinstance(fault, NotAnObject)
        self._shared.ledger.charge(sender, size, now, is_readable=is_readable)
        if self._errors.add(now):
            self._transport.close_soon(CloseCode.NOT_THIS_PROTOCOL, TOO_MUCH)
        elif self._shared.ledger.wait_seconds(sender, now) is not None:
            self._transport.close_soon(CloseCode.TOO_MANY, TOO_MUCH)

    def _judge(self, command: ReceivedCommand, load: ConnectionLoad, now: float) -> ReceivedCommand | None:
        if isinstance(command.data, Pong):
            return None
        if not load.is_greeted and not isinstance(command.data, Hello):
            self._replies.error(command.id, ErrorCode.UNAUTHORIZED, "the first command must be hello")
            self._transport.close_soon(CloseCode.UNAUTHORIZED, "a command before hello")
            return None
        if isinstance(command.data, Ack):
            return command
        assert command.id is not None
        return command if self._is_within_limits(command, command.id, load, now) else None

    def _is_within_limits(self, command: ReceivedCommand, command_id: str, load: ConnectionLoad, now: float) -> bool:
        limits = self._limits
        wait_seconds = self._bucket.take(now)
        if wait_seconds is not None:
            self._refuse(command_id, f"more than {limits.commands_per_second} commands a second", wait_seconds, now)
            return False
        match command.data:
            case Ping(payload):
                self._replies.reply(command_id, "pong", payload)
                return False
            case Hello() if load.is_greeted:
                self._replies.error(command_id, ErrorCode.CONFLICT, "hello was already sent")
                self._transport.close_soon(CloseCode.TOO_MANY, "a second hello")
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
        self._replies.error(command_id, ErrorCode.RATE_LIMITED, message, retry_after_ms=retry_after_ms)
        if self._refusals.add(now):
            self._transport.close_soon(CloseCode.TOO_MANY, "too many refusals")
