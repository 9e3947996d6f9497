"""The listener: accepts sockets and hands each to an actor of its own. Closing it closes no connection."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import structlog
import trio
from attrs import frozen

from actors.accepting import accept_for_ever
from actors.connections.handshake_backlog import HandshakeBacklog
from actors.connections.tls_stream import TLSStream
from runtime import Actor, CapacityExceeded, DynamicRef, RuntimeFault, reject

__all__ = ["Listener"]

_log = structlog.get_logger("listener")

_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

_numbers = itertools.count(1)
"""Connection numbers go on over restarts of the listener, because its connections do."""


@frozen
class _NoMessages:
    """The listener takes none; a type is needed to say so."""


class Listener(Actor[_NoMessages]):
    """Accepts; nothing else."""

    mailbox = reject(1)

    def __init__(
        self,
        bound: socket.socket,
        sockets: DynamicRef,
        connection: Callable[[str, trio.SocketStream | TLSStream, Callable[[], None]], Actor[Any]],
        *,
        maximum_entering: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``bound`` stays open in the application; each incarnation listens on a duplicate of it.

        ``connection`` makes the actor of a socket; its third argument is called when that has entered or ended.
        """
        self._tls = tls
        self._backlog = HandshakeBacklog(maximum_entering)
        self._bound = bound
        self._sockets = sockets
        self._connection = connection
        self._accepting: trio.CancelScope | None = None
        self._count = 0

    async def started(self) -> None:
        self._accepting = self.context.spawn(accept_for_ever, self._bound, self._take, self.context.note_problem)

    async def handle(self, message: _NoMessages) -> NoReturn:
        raise AssertionError("unreachable: nothing sends this")

    async def draining(self) -> None:
        """Take no new connections while the server goes down."""
        if self._accepting is not None:
            self._accepting.cancel(reason="draining")

    def snapshot(self) -> dict[str, object]:
        """How many came through this incarnation."""
        return {"accepted": self._count, "connected": self._sockets.child_count, "entering": len(self._backlog)}

    async def _take(self, stream: trio.SocketStream) -> None:
        self._count += 1
        name = f"c-{next(_numbers)}"
        # The handshake of TLS belongs to the connection, as that of the WebSocket does: here nothing waits for a peer.
        secured = stream if self._tls is None else TLSStream(stream, self._tls)
        # Its connection notices that its socket is gone.
        evicted = self._backlog.add(name, stream.socket.close)
        if evicted is not None:
            _log.info("turned away", connection=evicted, reason="too many have not said hello yet")
        passed = partial(self._backlog.remove, name)
        try:
            await self._sockets.start_child(name, lambda: self._connection(name, secured, passed))
        except CapacityExceeded:
            passed()
            _log.warning("connection refused", reason="max_children")
            if self._tls is None:
                with trio.move_on_after(1):
                    await stream.send_all(_REFUSAL)
            await trio.aclose_forcefully(stream)
        except RuntimeFault as error:
            passed()
            _log.warning("connection refused", reason=str(error))
            await trio.aclose_forcefully(stream)
