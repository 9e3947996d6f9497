"""What stands between trio-websocket and our sockets: its protocol on our terms, with one task where it has two.

trio-websocket's reader passes every message over a channel to another task. Here it hands them straight on, so that
a connection costs the reader alone. What the library writes (pongs, close frames) and what we write go through one
stream and under one lock, so that no frame is ever within another. The handshake is over before (`handshake.py`).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from actors.write_pace import ReaderTooSlow, send_paced
from protocol.commands import COMMANDS

__all__ = ["BufferedStream", "ServedWebSocket", "text_frame"]

Answer = TypeVar("Answer")

RECEIVE_BYTES = 65_536
FIRST_MESSAGE_BYTES = COMMANDS["hello"].maximum_bytes
"""A message may have no more until it is known who sends."""
SMALL_BYTES = 64
SMALL_PIECES = 256
"""Fragments that may be smaller than that: a limit on a message's size alone lets it have empty ones for ever.

Of a connection, not of a message, of which there is always another. Every `SMALL_BYTES` of payload allow one again. The
first and the last frame of a message may be of any size and are not counted; nor is what the network makes of a frame.
"""

_TEXT = 0x81
"""One whole message of text (RFC 6455, 5.2)."""


def text_frame(payload: bytes) -> bytes:
    """A server's text message as one frame, which is not masked: the same bytes for every peer."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_TEXT, size, payload)
    if size < 65_536:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


class _ReadEnough(Exception):
    """Nothing more is to be read. Ends trio-websocket's reader at once, which would wait for the peer's end."""


class BufferedStream(trio.abc.Stream):
    """The socket for trio-websocket, which would close it while our last words are still on their way.

    What the socket did not take at once goes before whatever is sent next, by whomever.
    """

    __slots__ = ("_rest", "_stream", "has_read_enough", "heard")

    def __init__(self, stream: trio.abc.Stream, heard: Callable[[], None] = lambda: None) -> None:
        """``heard`` is called whenever anything comes: a ping of RFC 6455 or a part of a long message is a sign of life."""
        self._stream = stream
        self._rest = b""
        self.has_read_enough = False
        self.heard = heard

    def send_now(self, data: bytes) -> bool:
        """Have the socket take what it can without waiting; False where a rest is left. Nobody may be sending."""
        if not self._rest and isinstance(self._stream, trio.SocketStream):
            try:
                # Trio's sockets do not block, and are to be had without a wait only by their number.
                taken = os.write(self._stream.socket.fileno(), data)
            except OSError:
                taken = 0  # full or gone; which of them, `send_all` says
            if taken == len(data):
                return True
            data = data[taken:]
        self._rest += data
        return False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        if isinstance(self._stream, trio.SocketStream):
            await send_paced(self._stream, data)
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What comes. Raises `_ReadEnough` once the library would be reading on for nothing."""
        if self.has_read_enough:
            raise _ReadEnough
        data = await self._stream.receive_some(max_bytes)
        self.heard()
        return data

    async def aclose(self) -> None:
        """Only the reading ends: its connection closes it."""
        self.has_read_enough = True
        await trio.lowlevel.checkpoint()


async def _own_errors_apart(ours: Awaitable[Answer]) -> Answer:
    """Errors of ours must not look like those that trio-websocket's reader takes for its own, and swallows."""
    try:
        return await ours
    except (KeyError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
        raise RuntimeError("what came could not be taken") from error


class _MessageSink:
    """Stands for the channel between trio-websocket's reader and a task of ours: each message is taken at once."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[str | bytes], Awaitable[None]]) -> None:
        self._take = take

    async def send(self, message: str | bytes) -> None:
        await _own_errors_apart(self._take(message))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> _MessageSink:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _NoMoreHandshake:
    """Stands for wsproto's handshake, which would keep its HTTP parser and headers for good."""

    def events(self) -> tuple[()]:
        return ()


_NO_MORE_HANDSHAKE: Any = _NoMoreHandshake()


class ServedWebSocket(WebSocketConnection):
    """A server's end of one WebSocket, whose handshake is over. Its reader is the caller of `read`."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        take: Callable[[str | bytes], Awaitable[None]],
        received: bytes = b"",
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """``take`` gets each message; ``received`` is what came behind the handshake; ``heard`` as in `BufferedStream`."""
        self._kept = BufferedStream(stream, heard)
        protocol = WSConnection(ConnectionType.SERVER)
        protocol.handshake = _NO_MORE_HANDSHAKE
        protocol.connection = Connection(ConnectionType.SERVER, [], received)
        super().__init__(
            self._kept,
            protocol,
            max_message_size=FIRST_MESSAGE_BYTES,
            receive_buffer_size=RECEIVE_BYTES,
        )
        channel: Any = _MessageSink(take)
        self._send_channel = self._recv_channel = channel
        self._connection_proposal = None
        self._frame_length = 0
        self._is_within_message = False
        self._small_pieces_left: float = SMALL_PIECES

    async def read(self) -> None:
        """Take messages, until either end has closed or the peer is gone.

        Raises `ConnectionClosed` where an answer cannot be sent, and what ``take`` raises. Cancelled, whatever was
        being written is cut off: close the stream then.
        """
        with suppress(_ReadEnough):
            await self._reader_task()

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        # Of text in characters, of which no fragment has more than bytes.
        self._frame_length += len(event.data)
        if event.frame_finished:
            self._small_pieces_left = min(SMALL_PIECES, self._small_pieces_left + self._frame_length / SMALL_BYTES)
            if self._frame_length < SMALL_BYTES and self._is_within_message and not event.message_finished:
                self._small_pieces_left -= 1
            self._frame_length = 0
            self._is_within_message = not event.message_finished
            if self._small_pieces_left < 0:
                self._message_parts = []
                self._close_reason = CloseReason(1009, "too many fragments")
                await self._send(CloseConnection(code=1009, reason="too many fragments"))
                # What came with it is not looked at: tens of thousands of frames, perhaps.
                raise _ReadEnough
        await super()._handle_message_event(event)
        if not self._reader_running:  # the message was too large
            self._kept.has_read_enough = True

    def take_messages_of(self, size: int) -> None:
        """From now on."""
        self._max_message_size = size

    def read_no_more(self) -> None:
        """What has come is not looked at."""
        self._kept.has_read_enough = True

    @property
    def is_being_written(self) -> bool:
        """Whether somebody waits for the socket to take something."""
        return self._stream_lock.locked()

    def write_now(self, frame: bytes) -> bool:
        """Give the socket a whole frame. False where `write` must be awaited for the rest of it to go out.

        To be called only while nothing is being written and nothing is left of an earlier frame.
        """
        return self._kept.send_now(frame)

    async def write(self, frame: bytes) -> None:
        """Send what was left and a whole frame. Raises `ConnectionClosed`, `ReaderTooSlow`.

        A cancelled write leaves half a frame on the wire: abort the stream then.
        """
        async with self._stream_lock:
            if self._close_reason is not None:
                raise ConnectionClosed(self._close_reason)
            try:
                await self._kept.send_all(frame)
            except ReaderTooSlow:
                raise
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._abort_web_socket()
                assert self._close_reason is not None
                raise ConnectionClosed(self._close_reason) from None

    async def report_parse_failure(self) -> None:
        """Say why, where the peer's bytes were no WebSocket frames or no UTF-8: trio-websocket says nothing."""
        if self._wsproto.state is ConnectionState.OPEN and self._close_reason is not None:
            await self._send(CloseConnection(code=self._close_reason.code, reason=self._close_reason.reason))
