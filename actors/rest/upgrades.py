"""Requests for a WebSocket on the REST port: which they are, and how their socket goes to the connections' listener."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import h11
import structlog
import trio

from actors.connections.messages import TakeSocket
from actors.rest.problems import problem_of
from actors.rest.request_heads import is_of_websocket, offers_websocket
from protocol.errors import ErrorCode
from runtime import ActorRef, RuntimeFault

__all__ = ["HandOver", "Upgraded", "asks_for_websocket", "close_socket", "hand_over"]

_log = structlog.get_logger("rest")

HAND_OVER_SECONDS = 5.0
"""For the listener to answer; it waits for no peer."""
REFUSAL_SECONDS = 1.0

HandOver = Callable[[trio.SocketStream, "trio.SSLStream[trio.abc.Stream] | None", bytes], Awaitable[None]]
"""Takes a socket, the TLS over it and what was read of it. Raises nothing; the socket is not the caller's any more."""


class Upgraded(Exception):
    """The request that was just read asks for a WebSocket: its connection is no longer one of HTTP."""

    def __init__(self, received: bytes) -> None:
        """``received`` is the head of the request as it came, and what came behind it."""
        super().__init__("asks for a WebSocket")
        self.received = received


def asks_for_websocket(request: h11.Request) -> bool:
    """Whether the connections shall judge it, also where it breaks a rule of RFC 6455: they know what to say to that. Pure."""
    return is_of_websocket(request.target) and offers_websocket(request)


async def hand_over(
    listener: ActorRef[TakeSocket],
    stream: trio.SocketStream,
    secured: trio.SSLStream[trio.abc.Stream] | None,
    received: bytes,
) -> None:
    """Give the socket to the connections' listener; where that takes none, say so to the peer and end. Raises nothing.

    Cancelled, the socket is closed.
    """
    is_taken = False
    try:
        await listener.ask(TakeSocket(stream=stream, secured=secured, received=received), timeout=HAND_OVER_SECONDS)
        is_taken = True
    except RuntimeFault as error:
        _log.warning("connection refused", reason=str(error))
        with trio.move_on_after(REFUSAL_SECONDS):
            await _refuse(secured or stream)
    finally:
        if not is_taken:
            await trio.aclose_forcefully(stream)


async def close_socket(stream: trio.SocketStream, *_: object) -> None:
    """What becomes of such a socket where nobody takes it."""
    await trio.aclose_forcefully(stream)


async def _refuse(stream: trio.abc.SendStream) -> None:
    body = json.dumps(problem_of(ErrorCode.UNAVAILABLE, "no WebSocket can be opened now")).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    try:
        await stream.send_all(head.encode() + body)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
