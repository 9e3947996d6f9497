"""The REST actor: owns the HTTP server, which can be restarted without touching a WebSocket."""

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
"""After the drain: answers that could not be finished end with an error that says so, and not with a cut."""


@frozen
class _NoMessages:
    """It takes none; a type is needed to say so."""


class Rest(Actor[_NoMessages]):
    """Serves HTTP in a child task; if that fails, this actor crashes and is started again."""

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
        """``bound`` stays open in the application; ``make`` builds the ASGI application; ``listener`` takes the sockets whose
        peers ask for a WebSocket; ``connections`` bounds how many there are at once. ``on_demand`` makes
        the application no sooner than when somebody connects.
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
                # Importing it and compiling some ninety routes takes long enough to be noticed by who waits for a token.
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
        """The application, what serves it, and what hands its WebSockets over; blocking."""
        from actors.rest.serving import serve_http
        from actors.rest.upgrades import hand_over

        return self._make(), serve_http, hand_over

    async def stopping(self) -> None:
        """Let those who are being answered have their last word."""
        with trio.move_on_after(LAST_ANSWERS_SECONDS):
            await self._exchanges.until_none()

    async def handle(self, message: _NoMessages) -> NoReturn:
        raise AssertionError("unreachable: nothing sends this")

    def snapshot(self) -> dict[str, object]:
        """Counts."""
        return {"answering": len(self._exchanges), "connections": len(self._connections)}
