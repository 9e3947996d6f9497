"""Adapts trio-websocket to our sockets: its protocol, with one task per connection instead of two.

trio-websocket's reader passes every message over a channel to another task. Here it passes them on directly, so that
a connection costs one task. Frames of the library (pongs, close frames) and our own go through one stream under one
lock, so that frames are never interleaved. The handshake has been completed by then (`handshake.py`).
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
"""Message size limit until the sender is authenticated."""
SMALL_BYTES = 64
SMALL_PIECES = 256
"""Number of fragments that may be smaller than `SMALL_BYTES`: a size limit alone permits endless empty ones.

Counted per connection, because a peer can always start another message. Every `SMALL_BYTES` of payload allow one more.
The first and last frame of a message are not counted, nor is the way the network splits a frame.
"""

_TEXT = 0x81
"""One whole text message (RFC 6455, 5.2)."""


def text_frame(payload: bytes) -> bytes:
    """Encode a text message as one unmasked frame, the same bytes for every peer."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (_TEXT, size, payload)
    if size < 65_536:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


class _ReadEnough(Exception):
    """Stops trio-websocket's reader at once; otherwise it would wait for the peer to close."""


class BufferedStream(trio.abc.Stream):
    """The socket as seen by trio-websocket, which would close it while our final frames are still being sent.

    Bytes that the socket did not accept at once go ahead of whatever is sent next.
    """

    __slots__ = ("_rest", "_stream", "has_read_enough", "heard")

    def __init__(self, stream: trio.abc.Stream, heard: Callable[[], None] = lambda: None) -> None:
        """``heard`` is called for any received bytes: even an RFC 6455 ping or part of a message shows life."""
        self._stream = stream
        self._rest = b""
        self.has_read_enough = False
        self.heard = heard

    def send_now(self, data: bytes) -> bool:
        """Write what the socket accepts without waiting; False if a rest remains. No other send may be in progress."""
        if not self._rest and isinstance(self._stream, trio.SocketStream):
            try:
                # Trio's sockets are non-blocking, but only their file descriptor can be used without awaiting.
                taken = os.write(self._stream.socket.fileno(), data)
            except OSError:
                taken = 0  # full or closed; `send_all` tells which
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
        """Receive data. Raises `_ReadEnough` when the library should stop reading."""
        if self.has_read_enough:
            raise _ReadEnough
        data = await self._stream.receive_some(max_bytes)
        self.heard()
        return data

    async def aclose(self) -> None:
        """Stop reading; the connection closes the socket."""
        self.has_read_enough = True
        await trio.lowlevel.checkpoint()


async def _own_errors_apart(ours: Awaitable[Answer]) -> Answer:
    """Wrap our own errors that trio-websocket's reader would take for its own and swallow."""
    try:
        return await ours
    except (KeyError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
        raise RuntimeError("what came could not be taken") from error


class _MessageSink:
    """Replaces the channel between trio-websocket's reader and a consumer task: each message is consumed at once."""

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
    """Replaces wsproto's handshake, which would keep its HTTP parser and headers for good."""

    def events(self) -> tuple[()]:
        return ()


_NO_MORE_HANDSHAKE: Any = _NoMoreHandshake()


class ServedWebSocket(WebSocketConnection):
    """The server's end of one WebSocket after the handshake. The caller of `read` is its reader."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        take: Callable[[str | bytes], Awaitable[None]],
        received: bytes = b"",
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """``take`` gets each message; ``received`` are bytes after the handshake; ``heard`` as in `BufferedStream`."""
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
        """Read messages until either end has closed or the peer is gone.

        Raises `ConnectionClosed` if an answer cannot be sent, and whatever ``take`` raises. If cancelled, a write in
        progress is cut off: close the stream then.
        """
        with suppress(_ReadEnough):
            await self._reader_task()

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        # Text is counted in characters; a fragment never has more of them than bytes.
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
                # Ignore what came with it, which may be tens of thousands of frames.
                raise _ReadEnough
        await super()._handle_message_event(event)
        if not self._reader_running:  # the message was too large
            self._kept.has_read_enough = True

    def take_messages_of(self, size: int) -> None:
        """Set the message size limit from now on."""
        self._max_message_size = size

    def read_no_more(self) -> None:
        """Ignore everything received from now on."""
        self._kept.has_read_enough = True

    @property
    def is_being_written(self) -> bool:
        """True while a send waits for the socket."""
        return self._stream_lock.locked()

    def write_now(self, frame: bytes) -> bool:
        """Write a whole frame. False if `write` must be awaited to send the rest.

        Call only while no write is in progress and nothing is left of an earlier frame.
        """
        return self._kept.send_now(frame)

    async def write(self, frame: bytes) -> None:
        """Send the rest of earlier frames and a whole frame. Raises `ConnectionClosed`, `ReaderTooSlow`.

        A cancelled write leaves a partial frame on the wire: abort the stream then.
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
        """Send a close frame if the peer's bytes were no valid WebSocket frames or UTF-8: trio-websocket sends none."""
        if self._wsproto.state is ConnectionState.OPEN and self._close_reason is not None:
            await self._send(CloseConnection(code=self._close_reason.code, reason=self._close_reason.reason))
