"""One WebSocket to a server: a reader that hands over each message in order, and the one writer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import trio
import trio_websocket

import protocol
from protocol.client.errors import Disconnected, HandshakeRefused
from protocol.codec import encode
from protocol.commands import MAXIMUM_FRAME_BYTES

__all__ = ["Connection", "open_connection"]

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 10.0
CLOSE_SECONDS = 2.0
SAID_BYTES = 4096
SAID_CHARACTERS = 300
"""Of what a refused handshake is answered with."""
SILENCE_SECONDS = 45.0
"""The server speaks at least every 25 seconds; after this long without a word it is not there any more."""

Received = Callable[["Connection", dict[str, Any]], Awaitable[None]]


class Connection:
    """Made by `open_connection`."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, received: Received) -> None:
        self._websocket = websocket
        self._received = received
        self._send, self._outgoing = trio.open_memory_channel[bytes](64)
        self._closing = trio.Lock()
        self.has_ended = trio.Event()
        self.cause: Disconnected | None = None
        """Why it ended."""
        self.heard_at = trio.current_time()
        """When the last message came."""

    async def send(self, message: dict[str, Any]) -> None:
        """Queue one message for the writer. Raises `Disconnected`; cancelled, nothing is sent."""
        try:
            await self._send.send(encode(message))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self.cause or Disconnected(None, None) from None

    async def close(self) -> None:
        """Say good-bye, and wait a moment for the server's."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            # trio-websocket: a second aclose() returns at once, and its caller would end the reader that the first waits for.
            async with self._closing:
                await self._websocket.aclose()

    async def give_up(self, reason: str) -> None:
        """End it without a word to a server that does not answer any more."""
        self._end(None, reason)
        await trio.aclose_forcefully(self._websocket._stream)

    async def read(self) -> None:
        """Hand over messages until the connection ends."""
        try:
            while True:
                with trio.move_on_after(SILENCE_SECONDS) as waiting:
                    frame = await self._websocket.get_message()
                if waiting.cancelled_caught:
                    await self.give_up(f"nothing heard for {SILENCE_SECONDS:g} seconds")
                    return
                self.heard_at = trio.current_time()
                try:
                    message = json.loads(frame)
                except ValueError:
                    message = None
                if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                    self._end(None, "the server sent no message of this protocol")
                    return
                try:
                    await self._received(self, message)
                except Exception as error:  # noqa: BLE001  border: whatever a foreign message lacks
                    self._end(None, f"the server sent a {message['type'][:40]} that is none: {error!r}")
                    return
        except trio_websocket.ConnectionClosed as closed:
            reason = closed.reason
            self._end(None if reason is None else reason.code, None if reason is None else reason.reason)
        finally:
            self._end(None, None)
            self._send.close()
            self.has_ended.set()

    def _end(self, code: int | None, reason: str | None) -> None:
        if self.cause is None:
            # wsproto says 1006 where there was no close frame, as the browsers do.
            self.cause = Disconnected(code, reason)

    async def write(self) -> None:
        """The one writer of the socket. A write is never cancelled while the connection lives: too slow means gone."""
        with self._outgoing:
            async for frame in self._outgoing:
                try:
                    with trio.fail_after(WRITE_SECONDS):
                        await self._websocket.send_message(frame.decode())
                except (trio_websocket.ConnectionClosed, trio.TooSlowError):
                    await trio.aclose_forcefully(self._websocket._stream)
                    return


@asynccontextmanager
async def open_connection(
    url: str, received: Received, ssl_context: SSLContext | None = None
) -> AsyncIterator[Connection]:
    """Connect and shake hands; leaving the block closes the connection.

    Raises `OSError` where nobody listens or no LeanVibe server answers.
    """
    stream, host, resource = await _open_stream(url, ssl_context)
    try:
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    websocket = await trio_websocket.wrap_client_stream(
                        nursery,
                        stream,
                        host,
                        resource,
                        subprotocols=[protocol.SUBPROTOCOL],
                        max_message_size=MAXIMUM_FRAME_BYTES,
                    )
            except trio.TooSlowError:
                raise OSError(f"{url} did not answer within {CONNECT_SECONDS:g} seconds") from None
            connection = Connection(websocket, received)
            nursery.start_soon(connection.read)
            nursery.start_soon(connection.write)
            try:
                yield connection
            finally:
                await connection.close()
                nursery.cancel_scope.cancel(reason="the client leaves")
    except BaseExceptionGroup as group:
        # A caller sees its own exception, not the nursery that it never asked for.
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        if isinstance(error, trio_websocket.HandshakeError):
            # Raised in the library's reader task, so it comes out of the nursery and not of the call above.
            status = error.status_code if isinstance(error, trio_websocket.ConnectionRejected) else None
            raise HandshakeRefused(f"{url} is no LeanVibe server: {_why_refused(error)}", status) from error
        raise error from None
    finally:
        # trio-websocket leaves the socket open when the handshake fails.
        await trio.aclose_forcefully(stream)


def _why_refused(error: trio_websocket.HandshakeError) -> str:
    """What answered the handshake with, in words."""
    if not isinstance(error, trio_websocket.ConnectionRejected):
        return "what answers there speaks no WebSocket"
    refused = f"it refuses a WebSocket with status {error.status_code}"
    said = (error.body or b"")[:SAID_BYTES].decode("utf-8", "replace").strip()
    try:
        said = str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        # A page for people says nothing to programs.
        said = "" if said.startswith("<") else said
    words = " ".join("".join(one if one.isprintable() else " " for one in said).split())
    return f"{refused}: {words[:SAID_CHARACTERS]}" if words else refused


async def _open_stream(
    url: str, ssl_context: SSLContext | None
) -> tuple[trio.SocketStream | trio.SSLStream[trio.SocketStream], str, str]:
    """A connection to the address, its Host header and its path. Raises `OSError`."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
    except ValueError as error:
        raise OSError(f"{url} is not a WebSocket address: {error}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise OSError(f"{url} is not a WebSocket address, which begins with ws:// or wss://")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    try:
        with trio.fail_after(CONNECT_SECONDS):
            if parts.scheme == "ws":
                return await trio.open_tcp_stream(parts.hostname, port), host, resource
            secured = await trio.open_ssl_over_tcp_stream(
                parts.hostname, port, https_compatible=True, ssl_context=ssl_context
            )
            await _shake_hands(secured, url)
            return secured, host, resource
    except trio.TooSlowError:
        raise OSError(f"{url} did not answer within {CONNECT_SECONDS:g} seconds") from None


async def _shake_hands(secured: trio.SSLStream[trio.SocketStream], url: str) -> None:
    """TLS with a server that is believed. Raises `OSError`, saying why it is not."""
    try:
        await secured.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(secured)
        if isinstance(error, trio.BrokenResourceError):
            raise OSError(f"{url} is not believed: {error.__cause__ or 'it speaks no TLS'}") from error
        raise
