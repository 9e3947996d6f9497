"""Serves an ASGI application over hypercorn's connections, with limits and a shutdown that ends.

hypercorn's own `serve()` waits forever for a client that stops reading. Here we own each connection and close it.
Lifespan events are omitted: our supervision tree handles start and stop.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from actors.accepting import accept_for_ever
from actors.networks import address_of
from actors.rest import http_connection
from actors.rest.exchanges import IN_FLIGHT, Exchanges, InFlight
from actors.rest.http_connection import DeadlineTCPServer
from actors.rest.open_connections import OpenConnections
from actors.rest.request_heads import HEAD_BYTES
from actors.rest.request_spans import request_span
from actors.rest.upgrades import HandOver, close_socket
from actors.tracing.tracer import Tracer
from actors.write_pace import PacedStream
from protocol.commands import MAXIMUM_FRAME_BYTES

__all__ = ["AT_END", "serve_http"]

_log = structlog.get_logger("rest")

AT_END = "leanvibe.at_end"
"""Key in a request's ASGI scope: an `ExitStack` that is unwound when the exchange ends, however it ends."""

UNREAD_BODY_SECONDS = 5.0
"""Time for which a client may go on sending an unwanted body; then its connection is cut."""


class Exchange:
    """A request and its response. The answer waits briefly for the body's end, so that the connection can be
    reused.

    It does not wait for a body over the limit, nor if the connection is to be closed.
    """

    def __init__(
        self,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        body_bytes: int = MAXIMUM_FRAME_BYTES,
    ) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = trio.Event()
        self._body_bytes = body_bytes
        self.received_bytes = 0
        """Body bytes delivered so far."""
        self._is_last = False

    async def receive(self) -> Any:
        """Return the next message for the application, which buffers the body.

        quart 0.23 checks the length of a body only once it is complete. So the part that exceeds the limit is
        delivered as the last one, and the application rejects the body.
        """
        is_over = self.received_bytes > self._body_bytes
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                self._body_ended.set()
                return message
            if not message.get("more_body"):
                self._body_ended.set()
            if not is_over:
                break
        self.received_bytes += len(message.get("body", b""))
        if self.received_bytes > self._body_bytes:
            return {**message, "more_body": False}
        return message

    async def send(self, message: Any) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self._is_last = any(
                name.lower() == b"connection" and b"close" in value for name, value in message["headers"]
            )
        if self.received_bytes <= self._body_bytes and not self._is_last:
            with trio.move_on_after(UNREAD_BODY_SECONDS):
                await self._body_ended.wait()
        # Later parts of the response do not wait again for a body that does not end.
        self._body_ended.set()
        await self._send(message)


class _Parts:
    """Writes the parts of one answer to the socket. Each is written whole, even if the caller is cancelled.

    A half-written part would leave the state of the connection unknown. Writes have their own deadlines, and end with
    their socket.
    """

    def __init__(self, send: Callable[[Any], Awaitable[None]], in_flight: InFlight) -> None:
        self._send = send
        self._in_flight = in_flight
        self._start: Any = None
        """The head of an answer that has a length; written together with its body."""

    async def __call__(self, message: Any) -> None:
        is_start = message["type"] == "http.response.start"
        if is_start:
            self._in_flight.status = message["status"]
        if is_start and any(name.lower() == b"content-length" for name, _ in message["headers"]):
            self._start = message
            return
        parts = [message] if self._start is None or is_start else [self._start, message]
        self._start = None
        self._in_flight.has_begun = True
        self._in_flight.is_whole = not is_start and not message.get("more_body")
        with trio.CancelScope(shield=True):
            for part in parts:
                await self._send(part)


def _http_server(
    stream: trio.SocketStream, tls: ssl.SSLContext | None, answer: Any, config: Config, context: WorkerContext
) -> DeadlineTCPServer:
    """Build the HTTP connection. TLS closes without a close_notify, which could wait for a peer that does not read."""
    served: Any = PacedStream(stream)
    if tls is not None:
        served = trio.SSLStream(served, tls, server_side=True, https_compatible=True)
    # hypercorn's annotation requires TLS; its code accepts a plain stream as well.
    return DeadlineTCPServer(answer, config, context, {}, served)


def http_config() -> Config:
    """hypercorn's settings, where its defaults wait forever or log too much."""
    config = Config()
    # The connection has its own deadlines for heads and bodies, and answers may take as long as they need.
    config.read_timeout = None
    config.ssl_handshake_timeout = http_connection.HEAD_SECONDS
    config.keep_alive_timeout = 15
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = HEAD_BYTES
    return config


async def serve_http(
    app: Any,
    bound: socket.socket,
    tls: ssl.SSLContext | None = None,
    exchanges: Exchanges | None = None,
    *,
    connections: OpenConnections | None = None,
    note: Callable[[str | None], None] = lambda _: None,
    hand_over: HandOver = close_socket,
    tracer: Tracer | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application on a duplicate of ``bound`` until cancelled; then abort all connections.

    ``exchanges`` counts running requests, ``connections`` limits and counts open connections, and ``note`` is called with the problem while none can be accepted. ``hand_over`` receives sockets whose peers request a WebSocket; by default they are closed.
    """
    in_flight = Exchanges() if exchanges is None else exchanges
    config = http_config()
    wrapped = ASGIWrapper(app)
    context = WorkerContext(None)
    traced = Tracer() if tracer is None else tracer
    connections = OpenConnections() if connections is None else connections

    async def answer(stream: trio.SocketStream, scope: Any, receive: Any, send: Any, *others: Any) -> None:
        # Resources of a response must be released even if the client leaves before the first byte, when none of the
        # response's code runs again.
        with in_flight.enter(stream) as entered, request_span(traced, scope, entered), ExitStack() as at_end:
            exchange = Exchange(receive, _Parts(send, entered))
            scope[AT_END] = at_end
            scope[IN_FLIGHT] = entered
            entered.received_bytes = lambda: exchange.received_bytes
            try:
                await wrapped(scope, exchange.receive, exchange.send, *others)
            except Exception as error:
                # hypercorn answers 500 without logging; every expected failure has been answered by now.
                _log.error("request failed", path=scope.get("path"), exc_info=error)
                raise

    async def serve_connection(stream: trio.SocketStream) -> None:
        address = address_of(stream)
        if not connections.make_room(address):
            _log.warning("connection refused", reason="all connections are being answered")
            await trio.aclose_forcefully(stream)
            return
        is_ours = True
        try:
            server = _http_server(stream, tls, partial(answer, stream), config, context)
            connections.add(stream, server, address)
            await server
            if server.upgraded is not None:
                connections.remove(stream)
                is_ours = False
                await hand_over(stream, server.secured, server.upgraded.received)
        except Exception as error:  # noqa: BLE001  isolation border: hypercorn would let one end all others
            _log.error("HTTP connection failed", exc_info=error)
        finally:
            connections.remove(stream)
            if is_ours:
                await trio.aclose_forcefully(stream)

    async def abort_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            # A shielded write to a stalled reader would delay shutdown; closing the socket ends it.
            connections.abort()

    async with trio.open_nursery() as nursery:

        async def take(stream: trio.SocketStream) -> None:
            nursery.start_soon(serve_connection, stream)

        nursery.start_soon(abort_when_cancelled)
        await accept_for_ever(bound, take, note, when_listening=task_status.started)
