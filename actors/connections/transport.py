"""The WebSocket transport of one connection: handshake, reader, single writer and closing handshake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from trio_websocket import ConnectionClosed

from actors.connections.handshake import HandshakeReader, Offer, Refusal, switching
from actors.connections.send_queue import SendQueue
from actors.connections.tls_stream import TLSStream
from actors.connections.websocket import ServedWebSocket, text_frame
from actors.networks import address_of
from actors.write_pace import ReaderTooSlow, untaken_bytes
from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.errors import CloseCode

__all__ = ["Spawn", "WebSocketTransport", "peer_network"]

_log = structlog.get_logger("connection")

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 3.0
LINGER_SECONDS = 1.0
LINGER_PIECE_BYTES = 65_536
LINGER_BYTES = 4 * MAXIMUM_FRAME_BYTES
LINGER_PAUSE_SECONDS = 0.02
"""Pause between pieces once much has been drained: a peer that sends as fast as it can is not read as fast."""
IGNORED_CHARACTERS = MAXIMUM_FRAME_BYTES
"""Limit on messages that arrive while closing; after that no more are read."""
HEAD_PIECE_BYTES = 4096
FRAMES_BETWEEN_CHECKPOINTS = 16
"""A peer that sends many small frames at once yields to other tasks this often."""

_LOST = (ConnectionClosed, OSError, trio.BrokenResourceError, trio.ClosedResourceError)

Spawn = Callable[..., trio.CancelScope]
"""Starts a child task of the connection's actor."""


def peer_network(stream: Any) -> str:
    """Return the network of the peer's address; empty if it has no address."""
    plain = stream.plain if isinstance(stream, TLSStream) else stream
    return address_of(plain) if isinstance(plain, trio.SocketStream) else ""


class WebSocketTransport:
    """Owns the stream; everything else puts frames into its send queue. If the peer leaves, `serve` returns.

    Frames go to the socket at once while it accepts them. Otherwise, or if something is being written already, a writer
    task is spawned that ends once the queue is empty; at rest there is none.
    """

    def __init__(
        self,
        name: str,
        stream: Any,
        spawn: Spawn,
        leave: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        received: bytes = b"",
    ) -> None:
        """``received`` holds bytes already read from the stream.

        ``leave`` is awaited before the server cuts the connection of its own accord, without a close frame.
        """
        self.name = name
        self._leave = leave
        self.send_queue = SendQueue()
        self.last_heard = trio.current_time()
        """Trio clock: time of the last byte from the peer."""
        self.pinged_at: float | None = None
        """Time of the unanswered ping, or None."""
        self.sent_since_heard = 0
        """Bytes that the peer may still be reading."""
        self._stream = stream
        self._received = received
        self._spawn = spawn
        self._is_open = False
        self._websocket: ServedWebSocket | None = None
        """Set from the end of the handshake until nothing more may be written."""
        self._life: trio.CancelScope | None = None
        self._close: tuple[CloseCode, str] | None = None
        self._writer: trio.CancelScope | None = None
        self._frames_taken = 0
        self._ignored = 0
        # Created by the waiting task: most connections are idle.
        self._replay_drained: trio.Event | None = None
        self._replies_drained: trio.Event | None = None
        self._written: trio.Event | None = None
        self._closed: trio.Event | None = None

    # --- what is sent -----------------------------------------------------------------------------

    def put(self, put: Callable[..., None], *arguments: Any) -> None:
        """Queue something with a method of the send queue; never waits. Ask the queue first whether an event fits."""
        if self._close is not None:
            return
        put(*arguments)
        self._flush()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message as it is."""
        self.put(self.send_queue.put, message)

    async def replies_drained(self, more_bytes: int = 0) -> None:
        """Wait until few replies are queued, or until ``more_bytes`` fit behind those that are."""
        while not self.send_queue.has_room_for_reply(more_bytes) and self._close is None:
            if self._replies_drained is None:
                self._replies_drained = trio.Event()
            await self._replies_drained.wait()

    async def replay_drained(self) -> None:
        """Wait until the writer has taken all replayed frames, so that the next page is no lag."""
        while self.send_queue.replayed and self._close is None:
            self._replay_drained = trio.Event()
            await self._replay_drained.wait()

    @property
    def is_writing(self) -> bool:
        """True while a writer waits for the peer."""
        return self._writer is not None

    @property
    def untaken_bytes(self) -> int:
        """Bytes written but not yet received by the peer, according to the operating system."""
        stream = self._stream.plain if isinstance(self._stream, TLSStream) else self._stream
        return untaken_bytes(stream) if isinstance(stream, trio.SocketStream) else 0

    @property
    def is_closing(self) -> bool:
        """True once nothing more will be queued."""
        return self._close is not None

    def take_large_messages(self) -> None:
        """Allow messages of `MAXIMUM_FRAME_BYTES` from now on."""
        if self._websocket is not None:
            self._websocket.take_messages_of(MAXIMUM_FRAME_BYTES)

    def close_soon(self, code: CloseCode, reason: str) -> None:
        """Close after what is queued."""
        if self._close is None:
            self._close = (code, reason)
            self._notify_drained()
            if self._websocket is not None:
                self._start_writer()

    def drop_all(self) -> None:
        """Drop all queued frames."""
        self.send_queue.clear()
        self._notify_drained()

    async def close_in_order(self) -> None:
        """Wait until the close frame has been written and the peer has answered it."""
        if not self._is_open:
            return  # a peer without a completed handshake gets no close frame
        self._closed = trio.Event()
        with trio.move_on_after(CLOSE_SECONDS + LINGER_SECONDS):
            await self._closed.wait()

    # --- the socket's life ------------------------------------------------------------------------

    async def serve(
        self,
        accept: Callable[[Offer], Awaitable[Refusal | str | None]],
        opened: Callable[[], None],
        take: Callable[[str | bytes], Awaitable[None]],
    ) -> None:
        """Serve the socket from handshake to close.

        ``accept`` refuses a handshake or returns the agreed subprotocol, if one was offered; ``take`` gets each frame.
        """
        try:
            received = await self._handshake(accept)
            if received is not None:
                websocket = ServedWebSocket(
                    self._stream, lambda frame: self._take(frame, take), received, self._on_received
                )
                self._websocket, self._is_open = websocket, True
                opened()
                with trio.CancelScope() as self._life:
                    await websocket.read()
                await self._end_writing(websocket)
                await self._linger()
        except _LOST as error:
            _log.debug("connection ended", connection=self.name, error=repr(error))
        finally:
            self._websocket, self._is_open = None, False
            if self._closed is not None:
                self._closed.set()
            await trio.aclose_forcefully(self._stream)

    async def _handshake(self, accept: Callable[[Offer], Awaitable[Refusal | str | None]]) -> bytes | None:
        """Read the request head and answer it. Returns the bytes after it, or None if there is no WebSocket."""
        reader = HandshakeReader()
        with trio.move_on_after(HANDSHAKE_SECONDS) as scope:
            verdict: Offer | Refusal | None = None
            while verdict is None:
                data, self._received = self._received, b""
                data = data or await self._stream.receive_some(HEAD_PIECE_BYTES)
                if not data:
                    return None
                verdict = reader.receive(bytes(data))
            answer = verdict if isinstance(verdict, Refusal) else await accept(verdict)
            if isinstance(verdict, Offer) and not isinstance(answer, Refusal):
                await self._stream.send_all(switching(verdict, answer))
                return verdict.rest
            assert isinstance(answer, Refusal)
            await self._refuse(answer)
        if scope.cancelled_caught and reader.has_begun:
            await self._refuse(Refusal(408, f"the handshake must complete within {HANDSHAKE_SECONDS:g} seconds"))
        return None

    async def _refuse(self, refusal: Refusal) -> None:
        _log.debug("handshake refused", connection=self.name, status=refusal.status, reason=refusal.reason)
        with trio.move_on_after(CLOSE_SECONDS):
            await self._stream.send_all(refusal.encode())
            await self._linger()

    async def _take(self, frame: str | bytes, take: Callable[[str | bytes], Awaitable[None]]) -> None:
        if self._close is None:
            # A client that asks faster than it reads is itself read more slowly, instead of being cut.
            await self.replies_drained()
            await take(frame)
        else:
            self._ignored += len(frame)
            if self._ignored > IGNORED_CHARACTERS and self._websocket is not None:
                self._websocket.read_no_more()
        self._frames_taken += 1
        if self._frames_taken % FRAMES_BETWEEN_CHECKPOINTS == 0:
            await trio.lowlevel.checkpoint()

    def _on_received(self) -> None:
        self.last_heard = trio.current_time()
        self.pinged_at = None
        self.sent_since_heard = 0

    async def _end_writing(self, websocket: ServedWebSocket) -> None:
        """Stop writing once reading has ended, after the writer's final frames."""
        self._websocket = None
        if self._writer is not None:
            if self._close is None:
                self._writer.cancel(reason="the connection is over")
            self._written = trio.Event()
            await self._written.wait()
        if self._is_open and self._close is None:
            with trio.move_on_after(CLOSE_SECONDS):
                await websocket.report_parse_failure()

    def _flush(self) -> None:
        """Write what the socket accepts at once; spawn a writer for the rest."""
        websocket = self._websocket
        if websocket is None or self._writer is not None or websocket.closed is not None:
            return
        if websocket.is_being_written:
            self._start_writer()
            return
        while (frame := self.send_queue.take()) is not None:
            self.sent_since_heard += len(frame)
            if not websocket.write_now(text_frame(frame)):
                self._start_writer()
                return
        self._notify_drained()

    def _start_writer(self) -> None:
        if self._writer is None:
            assert self._websocket is not None
            self._writer = self._spawn(self._write, self._websocket)

    async def _write(self, websocket: ServedWebSocket) -> None:
        """Write as the only writer. Never cancelled while the connection lives: a peer that is too slow is cut."""
        frame: bytes | None = b""  # sends what the socket did not accept before
        try:
            while frame is not None:
                await websocket.write(frame and text_frame(frame))
                frame = self.send_queue.take()
                self.sent_since_heard += len(frame or b"")
                self._notify_drained()
            if self._close is not None:
                code, reason = self._close
                with trio.move_on_after(CLOSE_SECONDS):
                    await websocket.aclose(int(code), reason)
                if self._life is not None:
                    self._life.cancel(reason="the connection is closed")
        except ReaderTooSlow as error:
            _log.info("reader too slow", connection=self.name, detail=str(error))
            await self._leave()
            # A partial frame must not be followed by another, not even by a close frame.
            await trio.aclose_forcefully(self._stream)
        except _LOST as error:
            _log.debug("writing stopped", connection=self.name, error=repr(error))
        finally:
            self._writer = None
            if self._written is not None:
                self._written.set()

    def _notify_drained(self) -> None:
        """Wake the tasks that wait for space in the queue: something was written, or nothing will be any more."""
        if self._replay_drained is not None and (not self.send_queue.replayed or self._close is not None):
            self._replay_drained.set()
            self._replay_drained = None
        if self._replies_drained is not None:
            self._replies_drained.set()
            self._replies_drained = None

    async def _linger(self) -> None:
        """Drain the socket before it is closed.

        Closing it with unread bytes would reset it before the peer has read our final frames (RFC 6455, 7.1.1).
        """
        with trio.move_on_after(LINGER_SECONDS):
            await self._stream.send_eof()
            count = 0
            while drained := await self._stream.receive_some(LINGER_PIECE_BYTES):
                count += len(drained)
                if count > LINGER_BYTES:
                    await trio.sleep(LINGER_PAUSE_SECONDS)
