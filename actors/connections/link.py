"""The socket of one connection: handshake, reader, its one writer, and how it is closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
import trio_websocket
from trio_websocket import ConnectionClosed, HandshakeError
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection

from actors.connections.outbox import Outbox, OutboxFull
from actors.connections.websocket_library import HandshakeTasks, KeptStream
from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.errors import CloseCode

__all__ = ["Link"]

_log = structlog.get_logger("connection")

HANDSHAKE_SECONDS = 10.0
WRITE_SECONDS = 10.0
CLOSE_SECONDS = 3.0
LINGER_SECONDS = 1.0


class Link:
    """Owns the stream. Everybody else puts into its outbox; what the peer does ends `serve`, not the actor."""

    def __init__(self, name: str, stream: Any) -> None:
        self.name = name
        self.outbox = Outbox()
        self.last_heard = trio.current_time()
        """Trio clock: when the peer's last frame came."""
        self.pinged_at: float | None = None
        """When it was asked for a sign of life and has not given one yet."""
        self.is_open = False
        """True from the end of the handshake."""
        self.closed = trio.Event()
        """Set when the socket is gone."""
        self._stream = stream
        self._close: tuple[CloseCode, str] | None = None
        self._has_output = trio.Event()
        self._replay_taken = trio.Event()
        self._written = trio.Event()

    # --- what is sent -----------------------------------------------------------------------------

    def put(self, put: Callable[..., None], *arguments: Any) -> None:
        """Queue something with a method of the outbox. What does not fit closes the connection; never waits."""
        if self._close is not None:
            return
        try:
            put(*arguments)
        except OutboxFull as error:
            _log.info("outbox full", connection=self.name, detail=str(error))
            # The stream has a gap from here on, so what waits is of no use; a slow reader is told at once.
            self.outbox.clear()
            self.close_soon(CloseCode.TOO_SLOW, "too slow")
        self._has_output.set()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message as it is."""
        self.put(self.outbox.put, message)

    async def replay_taken(self) -> None:
        """Wait until the writer has taken what was put to be replayed, so that the next page is no lag."""
        while self.outbox.replayed and self._close is None:
            self._replay_taken = trio.Event()
            await self._replay_taken.wait()

    @property
    def is_closing(self) -> bool:
        """Whether nothing more will be sent than what waits."""
        return self._close is not None

    def close_soon(self, code: CloseCode, reason: str) -> None:
        """Close after what is queued."""
        if self._close is None:
            self._close = (code, reason)
            self._has_output.set()
            self._replay_taken.set()

    def drop_all(self) -> None:
        """Forget what waits."""
        self.outbox.clear()
        self._replay_taken.set()

    async def close_in_order(self) -> None:
        """Wait for the close frame to be written, and for the peer's."""
        if not self.is_open:
            return  # a peer that has not even shaken hands is owed no good-bye
        with trio.move_on_after(CLOSE_SECONDS + LINGER_SECONDS):
            await self.closed.wait()

    # --- the socket's life ------------------------------------------------------------------------

    async def serve(
        self,
        accept: Callable[[Any], Awaitable[Any]],
        opened: Callable[[], None],
        take: Callable[[str | bytes], Awaitable[None]],
    ) -> None:
        """The whole life of the socket: ``accept`` answers the HTTP request, ``take`` each frame."""
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(HANDSHAKE_SECONDS):
                    websocket = await self._handshake(nursery, accept)
                if websocket is not None:
                    self.is_open = True
                    nursery.start_soon(self._write, websocket)
                    opened()
                    await self._read(websocket, take)
                    if self._close is not None:
                        await self._written.wait()
                    else:
                        await self._tell_parse_failure(websocket)
                nursery.cancel_scope.cancel(reason="the connection is over")
            await self._linger()
        except* (
            HandshakeError,
            ConnectionClosed,
            trio.TooSlowError,
            OSError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ) as group:
            _log.debug("connection ended", connection=self.name, errors=[repr(one) for one in group.exceptions])
        finally:
            self.closed.set()
            await trio.aclose_forcefully(self._stream)

    async def _handshake(self, nursery: trio.Nursery, accept: Callable[[Any], Awaitable[Any]]) -> Any:
        """HTTP upgrade; None when there was none."""
        request: Any = None
        with trio.CancelScope() as waiting:
            tasks: Any = HandshakeTasks(nursery, waiting)
            request = await trio_websocket.wrap_server_stream(
                tasks, KeptStream(self._stream), max_message_size=MAXIMUM_FRAME_BYTES, receive_buffer_size=65_536
            )
        return None if request is None else await accept(request)

    async def _read(self, websocket: Any, take: Callable[[str | bytes], Awaitable[None]]) -> None:
        """Read until the peer is gone or we have closed."""
        while True:
            try:
                frame = await websocket.get_message()
            except ConnectionClosed:
                return
            self.last_heard = trio.current_time()
            self.pinged_at = None
            if self._close is None:
                await take(frame)

    async def _write(self, websocket: Any) -> None:
        """The one writer. A write is never cancelled while the connection lives on: too slow means gone."""
        try:
            while True:
                frame = self.outbox.take()
                if frame is not None:
                    if not self.outbox.replayed:
                        self._replay_taken.set()
                    with trio.fail_after(WRITE_SECONDS):
                        await websocket.send_message(frame.decode())
                    continue
                if self._close is not None:
                    code, reason = self._close
                    with trio.move_on_after(CLOSE_SECONDS):
                        await websocket.aclose(int(code), reason)
                    return
                self._has_output = trio.Event()
                await self._has_output.wait()
        except trio.TooSlowError:
            _log.info("reader too slow", connection=self.name, close=int(CloseCode.TOO_SLOW))
            # A half-written frame must not be followed by another, not even by a close frame.
            await trio.aclose_forcefully(self._stream)
        except ConnectionClosed:
            pass
        finally:
            self._written.set()

    async def _tell_parse_failure(self, websocket: Any) -> None:
        """Say why, where the peer's bytes were no WebSocket frames or no UTF-8: trio-websocket says nothing."""
        if websocket._wsproto.state is ConnectionState.OPEN and websocket.closed is not None:
            with trio.move_on_after(CLOSE_SECONDS):
                await websocket._send(CloseConnection(code=websocket.closed.code, reason=websocket.closed.reason))

    async def _linger(self) -> None:
        """Let the peer read our last words: closing over its unread bytes would reset the connection (RFC 6455, 7.1.1)."""
        with trio.move_on_after(LINGER_SECONDS):
            await self._stream.send_eof()
            while await self._stream.receive_some(65_536):
                pass
