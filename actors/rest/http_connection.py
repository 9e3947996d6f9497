"""An HTTP connection with deadlines for writes, request heads, bodies and idle time.

hypercorn times each read separately, so a client that sends a byte now and then could keep its connection forever
(slow loris). Here the whole head is timed, and a body must keep a minimum pace. hypercorn also shields `send_all`
without a deadline, so that one client that stops reading would block shutdown. Connections are closed as RFC 9112,
9.6 prescribes: our half first, then the client's remaining bytes are read and discarded for a short time. Closing
over unread bytes would reset the connection before the client has read the answer.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import Any

import h11
import structlog
import trio
from hypercorn.events import Closed, RawData
from hypercorn.trio.tcp_server import TCPServer

from actors.rest.http_protocol import RequestProtocol
from actors.rest.upgrades import Upgraded
from actors.write_pace import WINDOW_SECONDS, Pace, ReaderTooSlow

__all__ = ["DeadlineTCPServer"]

_log = structlog.get_logger("rest")

HEAD_SECONDS = 10.0
"""From a request's first byte, or from the connection, to the end of its head. With TLS, the handshake has the same
limit.
"""
LINGER_SECONDS = 5.0
"""Time for which a client may go on sending after our end; the bytes are discarded."""
LINGER_BYTES = 16 * 1024 * 1024
PROBE_SECONDS = 1.0
"""Delay after a client closes its half until the first check that it still reads; it doubles each time."""
LONGEST_PROBE_SECONDS = 8.0
PROBE_ANSWER_SECONDS = 0.1
"""Time for a reset to arrive."""
READ_BYTES = 65_536


class DeadlineTCPServer(TCPServer):
    """An HTTP connection whose reads and writes all have deadlines."""

    upgraded: Upgraded | None = None
    """Set if the peer requested a WebSocket; the socket is then left open for its new owner."""
    _is_closing = False
    _is_reset = False

    async def run(self) -> None:
        """Serve until either side closes."""
        with trio.CancelScope() as self._scope:
            await super().run()

    @property
    def missing(self) -> str | None:
        """The part of a request that is still missing, `head` or `body`; None if the client waits for its answer."""
        if self._is_closing or self.upgraded is not None:
            return "head"
        protocol: Any = getattr(self, "protocol", None)
        state = h11.IDLE if protocol is None else protocol.protocol.connection.their_state
        return {h11.IDLE: "head", h11.SEND_BODY: "body"}.get(state)

    @property
    def secured(self) -> trio.SSLStream[Any] | None:
        """The TLS layer over the socket, or None."""
        return self.stream if isinstance(self.stream, trio.SSLStream) else None

    async def protocol_send(self, event: Any) -> None:
        """Write, or abort the socket if the reader stalls."""
        if isinstance(event, Closed):
            # hypercorn calls this in the task of the application that it has just cancelled. Without the shield, a
            # client that sent `Connection: close` would never see the close.
            with trio.move_on_after(1, shield=True):
                await self._end_our_half()
                await self.protocol.handle(Closed())
            self._scope.cancel(reason="the connection is closed")
            return
        if not isinstance(event, RawData):
            # Between two requests hypercorn starts the idle timer in the application's task, which quart-trio has
            # cancelled by then.
            with trio.CancelScope(shield=True):
                await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                # Shielded as in hypercorn, because half a response must not be followed by another.
                with trio.CancelScope(shield=True):
                    await self.stream.send_all(event.data)
            except ReaderTooSlow as error:
                _log.info("reader too slow, connection aborted", detail=str(error))
                await self._client_is_gone()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._client_is_gone()

    async def _client_is_gone(self) -> None:
        """Cancel the answer and close the connection, because the peer no longer reads.

        The reading side may be waiting for a pipelined request whose turn would never come.
        """
        self._is_reset = True
        await self.protocol.handle(Closed())
        self._scope.cancel(reason="the client is gone")

    async def _read_data(self) -> None:
        # Installed inside the wrapper, which would negotiate HTTP/2 and WebSocket.
        http = RequestProtocol(self.protocol)
        self.protocol.protocol = http
        head_began: float | None = trio.current_time()
        body_pace: Pace | None = None
        body_bytes = 0
        while True:
            state = http.connection.their_state
            deadline = math.inf
            if state is h11.IDLE and head_began is not None:
                deadline = head_began + HEAD_SECONDS
            elif state is h11.SEND_BODY:
                if body_pace is None:
                    body_pace, body_bytes = Pace(trio.current_time()), 0
                deadline = body_pace.began + WINDOW_SECONDS
            with trio.CancelScope(deadline=deadline) as scope:
                try:
                    data = await self.stream.receive_some(READ_BYTES)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
            is_slow = scope.cancelled_caught
            if not is_slow and body_pace is not None:
                body_bytes += len(data)
                is_slow = not body_pace.goes_on(trio.current_time(), body_bytes)
            if is_slow:
                _log.info("request too slow, connection closed", part="head" if state is h11.IDLE else "body")
                await http._send_error_response(408)
                break
            try:
                await http.handle(RawData(bytes(data)))
            except (h11.RemoteProtocolError, Upgraded) as last:
                await self._end_http(http, last)
                break
            if not data:
                await self._answer_half_closed(http)
                break
            state = http.connection.their_state
            if state is not h11.SEND_BODY:
                body_pace = None
            if state is not h11.IDLE or not http.connection.trailing_data[0]:
                head_began = None
            elif head_began is None:
                head_began = trio.current_time()
                # From here on the head's deadline applies, not the idle timeout.
                await self.idle_task.stop()
        await self.protocol.handle(Closed())
        # hypercorn would keep a connection that the client has closed for the whole keep-alive time.
        await self.idle_task.stop()

    async def _end_http(self, http: RequestProtocol, last: h11.RemoteProtocolError | Upgraded) -> None:
        if isinstance(last, Upgraded):
            self.upgraded = last
        else:
            await http.refuse(last)

    async def _answer_half_closed(self, http: RequestProtocol) -> None:
        """Wait until the answer is sent (which cancels this) or the client is found to have gone.

        A client that closed only its half looks like one that has gone. Sending a no-op tells them apart: a peer that
        has gone answers with a reset.
        """
        stream = _transport(self.stream)
        if not hasattr(self.stream, "socket"):
            # TLS has no half-closed connections.
            return
        seconds = PROBE_SECONDS
        while http.stream is not None:
            await trio.sleep(seconds)
            await http.probe()
            await trio.sleep(PROBE_ANSWER_SECONDS)
            if stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                break
            seconds = min(2 * seconds, LONGEST_PROBE_SECONDS)

    async def _end_our_half(self) -> None:
        """Close our half of the connection. Raises nothing."""
        self._is_closing = True
        try:
            await _transport(self.stream).send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            # The peer is gone, or stuck in a write that is being aborted.
            self._is_reset = True

    async def _close(self) -> None:
        """Lingering close, in place of hypercorn's, which closes over unread bytes."""
        if self.upgraded is not None:
            return
        with trio.move_on_after(LINGER_SECONDS, shield=True):
            if not self._is_closing:
                await self._end_our_half()
            left = 0 if self._is_reset else LINGER_BYTES
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while left > 0 and (forgotten := await _transport(self.stream).receive_some(READ_BYTES)):
                    left -= len(forgotten)
        await trio.aclose_forcefully(self.stream)


def _transport(stream: Any) -> trio.SocketStream:
    """The socket's stream, also under TLS: discarded bytes need no decryption."""
    found: trio.SocketStream = getattr(stream, "transport_stream", stream)
    return found
