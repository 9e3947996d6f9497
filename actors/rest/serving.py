"""hypercorn's connection handling under our own rules: a write has a deadline, and a stop stops.

hypercorn shields `send_all` without a deadline, so one client that stops reading makes its `serve()` deaf to
shutdown and cancellation. Here such a client's socket is aborted, and what is to be closed is closed. Lifespan
events are left out: our tree owns start and stop.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

__all__ = ["AT_END", "serve_http"]

_log = structlog.get_logger("rest")

AT_END = "leanvibe.at_end"
"""Key in a request's ASGI scope: an `ExitStack` that is unwound when the exchange ends, however it ends."""
WRITE_SECONDS = 10.0
UNREAD_BODY_SECONDS = 5.0
"""A client may go on sending a body that nobody wants for this long; then its connection is cut."""


class DeadlineTCPServer(TCPServer):
    """One HTTP connection whose writes end, one way or the other, within `WRITE_SECONDS`."""

    async def run(self) -> None:
        """Serve until either side closes."""
        with trio.CancelScope() as self._scope:
            await super().run()

    async def protocol_send(self, event: Any) -> None:
        """Write, or abort the socket of a reader that takes nothing."""
        if isinstance(event, Closed):
            # hypercorn comes here in the task of the application, whose end it has just brought about: without
            # the shield a client that asked for `Connection: close` would wait for that in vain.
            with trio.move_on_after(1, shield=True):
                await super().protocol_send(event)
            self._scope.cancel(reason="the connection is closed")
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                # Shielded as in hypercorn, because half a response must not be followed by another.
                with trio.move_on_after(WRITE_SECONDS, shield=True) as scope:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
                return
            if scope.cancelled_caught:
                _log.info("reader too slow, connection aborted")
                await trio.aclose_forcefully(self.stream)
                await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        await super()._read_data()
        # hypercorn would keep what the client has closed for the whole keep-alive time.
        await self.idle_task.stop()


class Exchange:
    """One request and its response: nothing is answered before the request's body has come to its end.

    After an early answer hypercorn neither reads on nor closes, and a close over unread bytes would reset the
    connection before the client has read the answer. quart reads on and forgets what is over its limit.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = trio.Event()

    async def receive(self) -> Any:
        """The next message, for the application."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._body_ended.set()
        return message

    async def send(self, message: Any) -> None:
        """Pass on a part of the response."""
        with trio.move_on_after(UNREAD_BODY_SECONDS):
            await self._body_ended.wait()
        await self._send(message)


def http_config() -> Config:
    """hypercorn's settings where its defaults wait for ever or tell too much."""
    config = Config()
    config.read_timeout = 30
    config.keep_alive_timeout = 15
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = 16 * 1024
    return config


async def serve_http(
    app: Any, bound: socket.socket, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve an ASGI application on a duplicate of ``bound`` until cancelled; then connections are aborted."""
    config = http_config()
    wrapped = ASGIWrapper(app)
    context = WorkerContext(None)
    streams: set[trio.SocketStream] = set()

    async def answer(scope: Any, receive: Any, send: Any, *others: Any) -> None:
        exchange = Exchange(receive, send)
        # What a response has begun must be given back also when the client leaves before its first byte, where no
        # code of the response ever runs again.
        with ExitStack() as at_end:
            scope[AT_END] = at_end
            await wrapped(scope, exchange.receive, exchange.send, *others)

    async def serve_connection(stream: trio.SocketStream) -> None:
        streams.add(stream)
        try:
            # hypercorn's annotation asks for TLS; its code takes a plain stream as well.
            server: Any = DeadlineTCPServer(answer, config, context, {}, stream)  # type: ignore[arg-type]
            await server
        except Exception as error:  # noqa: BLE001  isolation border: hypercorn would let one end all others
            _log.error("HTTP connection failed", exc_info=error)
        finally:
            streams.discard(stream)
            await trio.aclose_forcefully(stream)

    async def abort_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            # A shielded write to a reader that stopped would hold up the shutdown; its socket ends it.
            for stream in list(streams):
                stream.socket.close()

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound.dup()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(abort_when_cancelled)
        nursery.start_soon(partial(trio.serve_listeners, serve_connection, [listener], handler_nursery=nursery))
        task_status.started()
