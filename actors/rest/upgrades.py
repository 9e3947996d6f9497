"""WebSocket requests on the REST port: recognizing them and handing their sockets to the connections' listener."""

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
"""Time for the listener to answer; it waits for no peer."""
REFUSAL_SECONDS = 1.0

HandOver = Callable[[trio.SocketStream, "trio.SSLStream[trio.abc.Stream] | None", bytes], Awaitable[None]]
"""Takes a socket, its TLS layer and the bytes read so far. Raises nothing; it becomes the owner of the socket."""


class Upgraded(Exception):
    """The request just read is for a WebSocket: its connection leaves HTTP."""

    def __init__(self, received: bytes) -> None:
        """``received`` is the request's head as received, and any bytes after it."""
        super().__init__("asks for a WebSocket")
        self.received = received


def asks_for_websocket(request: h11.Request) -> bool:
    """True if the connections service is to handle the request, including one that breaks RFC 6455, which it knows
    how to answer. No I/O.
    """
    return is_of_websocket(request.target) and offers_websocket(request)


async def hand_over(
    listener: ActorRef[TakeSocket],
    stream: trio.SocketStream,
    secured: trio.SSLStream[trio.abc.Stream] | None,
    received: bytes,
) -> None:
    """Hand the socket to the connections' listener. If it does not accept, report that to the peer and close. Raises
    nothing.

    If cancelled, the socket is closed.
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
    """Close a WebSocket's socket when there is no listener."""
    await trio.aclose_forcefully(stream)


async def _refuse(stream: trio.abc.SendStream) -> None:
    body = json.dumps(problem_of(ErrorCode.UNAVAILABLE, "WebSockets cannot be opened now")).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    try:
        await stream.send_all(head.encode() + body)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
