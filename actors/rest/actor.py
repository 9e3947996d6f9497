"""The REST actor. It owns the HTTP server, which can restart without touching a WebSocket."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import trio
from attrs import frozen

from actors.access.messages import AccessRequest
from actors.connections.messages import TakeSocket
from actors.rest.exchanges import Exchanges, end_with_tokens
from actors.rest.open_connections import OpenConnections
from actors.tracing.tracer import Tracer
from runtime import Actor, ActorRef, reject

__all__ = ["Rest"]

LAST_ANSWERS_SECONDS = 1.0
"""Grace period after the drain, in which unfinished answers end with an error message instead of being cut off."""


@frozen
class _NoMessages:
    """Message type of an actor that receives no messages."""


class Rest(Actor[_NoMessages]):
    """Serves HTTP in a child task. If that task fails, the actor crashes and is restarted."""

    mailbox = reject(1)

    def __init__(
        self,
        bound: socket.socket,
        make: Callable[[], Any],
        access: ActorRef[AccessRequest],
        listener: ActorRef[TakeSocket],
        tls: ssl.SSLContext | None = None,
        tracer: Tracer | None = None,
        *,
        connections: int | None = None,
        on_demand: bool = False,
    ) -> None:
        """``bound`` stays open in the application; ``make`` builds the ASGI application; ``listener`` receives
        sockets whose peers request a WebSocket; ``connections`` limits concurrent connections. With ``on_demand`` the
        application is built when the first client connects.
        """
        self._on_demand = on_demand
        self._connections = OpenConnections(connections)
        self._tls = tls
        self._tracer = tracer or Tracer()
        self._bound = bound
        self._make = make
        self._access = access
        self._listener = listener
        self._exchanges = Exchanges()

    async def started(self) -> None:
        is_serving = trio.Event()

        async def serve() -> None:
            async with trio.open_nursery() as nursery:
                if self._on_demand:
                    is_serving.set()
                    await trio.lowlevel.wait_readable(self._bound)
                # Importing the application and compiling some ninety routes would delay the tokens of running
                # answers.
                application, serve_http, hand_over = await trio.to_thread.run_sync(self._made)
                serve_here = partial(
                    serve_http,
                    connections=self._connections,
                    note=self.context.note_problem,
                    hand_over=partial(hand_over, self._listener),
                    tracer=self._tracer,
                )
                await nursery.start(serve_here, application, self._bound, self._tls, self._exchanges)
                is_serving.set()

        self.context.spawn(serve)
        self.context.spawn(end_with_tokens, self._exchanges, self._access)
        await is_serving.wait()

    def _made(self) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
        """Returns the application, the function that serves it and the one that hands over its WebSockets. Blocking."""
        from actors.rest.serving import serve_http
        from actors.rest.upgrades import hand_over

        return self._make(), serve_http, hand_over

    async def stopping(self) -> None:
        """Let running requests write their final error."""
        with trio.move_on_after(LAST_ANSWERS_SECONDS):
            await self._exchanges.until_none()

    async def handle(self, message: _NoMessages) -> NoReturn:
        raise AssertionError("unreachable: nothing sends this")

    def snapshot(self) -> dict[str, object]:
        """Numbers of running requests and open connections."""
        return {"answering": len(self._exchanges), "connections": len(self._connections)}
