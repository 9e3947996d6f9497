"""The listener: accepts sockets and gives each to an actor of its own. Closing it closes no connection.

Sockets of the REST port whose peers ask for a WebSocket arrive as messages and are treated alike. `HandshakeBacklog`
caps connections that have not sent `hello`, evicting the oldest, so idle peers cannot lock out real clients.
"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio

from actors.accepting import accept_for_ever
from actors.connections.messages import TakeSocket
from actors.connections.tls_stream import TLSStream
from runtime import Actor, CapacityExceeded, DynamicRef, Refused, RuntimeFault, reject

__all__ = ["HandshakeBacklog", "Listener"]

_log = structlog.get_logger("listener")

_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

_numbers = itertools.count(1)
"""Connection numbers continue across restarts of the listener, because its connections do."""


class NotAccepting(Refused):
    """The server is about to stop and takes no new connections."""


class Listener(Actor[TakeSocket]):
    """Accepts sockets and starts their connections."""

    mailbox = reject(64)

    def __init__(
        self,
        bound: socket.socket,
        sockets: DynamicRef,
        connection: Callable[[str, trio.SocketStream | TLSStream, Callable[[], None], bytes], Actor[Any]],
        *,
        maximum_entering: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``bound`` stays open in the application; each incarnation listens on a duplicate of it.

        ``connection`` creates the actor of a socket. Its third argument is called when the client has joined or the
        connection has ended; its fourth holds bytes already read from the socket.
        """
        self._tls = tls
        self._backlog = HandshakeBacklog(maximum_entering)
        self._bound = bound
        self._sockets = sockets
        self._connection = connection
        self._accepting: trio.CancelScope | None = None
        self._count = 0
        self._is_draining = False

    async def started(self) -> None:
        self._accepting = self.context.spawn(
            accept_for_ever, self._bound, self._take_accepted, self.context.note_problem
        )

    async def handle(self, message: TakeSocket) -> None:
        if self._is_draining:
            raise NotAccepting("the server is about to stop")
        secured = message.secured
        await self._take(
            message.stream,
            message.stream if secured is None else TLSStream(message.stream, secured),
            message.received,
        )

    async def draining(self) -> None:
        """Take no new connections while the server shuts down."""
        self._is_draining = True
        if self._accepting is not None:
            self._accepting.cancel(reason="draining")

    def snapshot(self) -> dict[str, object]:
        """Counts of this incarnation."""
        return {"accepted": self._count, "connected": self._sockets.child_count, "entering": len(self._backlog)}

    async def _take_accepted(self, stream: trio.SocketStream) -> None:
        # Like the WebSocket handshake, the TLS handshake is the connection's job: the listener waits for no peer.
        await self._take(stream, stream if self._tls is None else TLSStream.accepted(stream, self._tls), b"")

    async def _take(self, stream: trio.SocketStream, secured: trio.SocketStream | TLSStream, received: bytes) -> None:
        self._count += 1
        name = f"c-{next(_numbers)}"
        # The evicted connection notices that its socket is closed.
        evicted = self._backlog.add(name, stream.socket.close)
        if evicted is not None:
            _log.info("connection evicted", connection=evicted, reason="too many connections without hello")
        passed = partial(self._backlog.remove, name)
        try:
            await self._sockets.start_child(name, lambda: self._connection(name, secured, passed, received))
        except CapacityExceeded:
            passed()
            _log.warning("connection refused", reason="max_children")
            if secured is stream:
                with trio.move_on_after(1):
                    await stream.send_all(_REFUSAL)
            await trio.aclose_forcefully(stream)
        except RuntimeFault as error:
            passed()
            _log.warning("connection refused", reason=str(error))
            await trio.aclose_forcefully(stream)


class HandshakeBacklog:
    """Names of connections without a `welcome` yet, oldest first. No I/O but calling ``evict``."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._waiting: dict[str, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: str, evict: Callable[[], None]) -> str | None:
        """Add a connection. If there are too many, evict the oldest and return its name.

        An honest client sends `hello` within milliseconds, so the oldest connection is the least likely to.
        """
        evicted = None
        if len(self._waiting) >= self._maximum:
            evicted = next(iter(self._waiting))
            self._waiting.pop(evicted)()
        self._waiting[name] = evict
        return evicted

    def remove(self, name: str) -> None:
        """Remove a connection that has sent `hello` or ended. Idempotent."""
        self._waiting.pop(name, None)
