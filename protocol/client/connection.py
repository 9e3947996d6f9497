"""A WebSocket connection to a server: a reader that hands over messages in order, and a single writer."""

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
from protocol.tls_faults import TlsFault, TlsProblem, speaks_tls, tls_problem

__all__ = ["Connection", "open_connection"]

CONNECT_SECONDS = 10.0
WRITE_SECONDS = 10.0
CLOSE_SECONDS = 2.0
PLAIN_PORT = 80
BAD_REQUEST = 400
"""What proxies that speak TLS say to who does not."""
SAID_BYTES = 4096
SAID_CHARACTERS = 300
"""Limits on the answer to a rejected handshake."""
SILENCE_SECONDS = 45.0
"""The server sends something at least every 25 seconds; after this long without a message it is considered gone."""

Received = Callable[["Connection", dict[str, Any]], Awaitable[None]]


class Connection:
    """Created by `open_connection`."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection, received: Received) -> None:
        self._websocket = websocket
        self._received = received
        self._send, self._outgoing = trio.open_memory_channel[bytes](64)
        self._closing = trio.Lock()
        self.has_ended = trio.Event()
        self.cause: Disconnected | None = None
        """The reason for its end."""
        self.heard_at = trio.current_time()
        """Time of the last message."""

    async def send(self, message: dict[str, Any]) -> None:
        """Queues a message for the writer. Raises `Disconnected`; on cancellation nothing is sent."""
        try:
            await self._send.send(encode(message))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self.cause or Disconnected(None, None) from None

    async def close(self) -> None:
        """Closes the connection, and waits a moment for the server's close frame."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            # trio-websocket: a second aclose() returns at once, and its caller would end the reader that the first waits for.
            async with self._closing:
                await self._websocket.aclose()

    async def give_up(self, reason: str) -> None:
        """Ends the connection without a close frame, for a server that no longer answers."""
        self._end(None, reason)
        await trio.aclose_forcefully(self._websocket._stream)

    async def read(self) -> None:
        """Hands over messages until the connection ends."""
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
                    self._end(None, "the server sent something that is not a message of this protocol")
                    return
                try:
                    await self._received(self, message)
                except Exception as error:  # noqa: BLE001  boundary: a foreign message may lack anything
                    self._end(None, f"the server sent a {message['type'][:40]} that is invalid: {error!r}")
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
            # wsproto reports 1006 if there was no close frame, like browsers.
            self.cause = Disconnected(code, reason)

    async def write(self) -> None:
        """The only writer of the socket. Writes are never cancelled while the connection lives: too slow means gone."""
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
    """Connects and performs the handshake; leaving the block closes the connection.

    Raises `OSError` if nothing listens or no LeanVibe server answers.
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
                # trio-websocket: a connection that ends within the handshake is waited for.
                if await _is_for_tls(url):
                    raise TlsFault(url, TlsProblem.SECURED) from None
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
        # A caller sees its own exception, not the nursery that it did not ask for.
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        if isinstance(error, trio_websocket.HandshakeError):
            is_understood = isinstance(error, trio_websocket.ConnectionRejected) and error.status_code != BAD_REQUEST
            if not is_understood and await _is_for_tls(url):
                raise TlsFault(url, TlsProblem.SECURED) from error
            # Raised in the library's reader task, so it surfaces from the nursery and not of the call above.
            status = error.status_code if isinstance(error, trio_websocket.ConnectionRejected) else None
            raise HandshakeRefused(f"{url} is not a LeanVibe server: {_why_refused(error)}", status) from error
        raise error from None
    finally:
        # trio-websocket leaves the socket open when the handshake fails.
        await trio.aclose_forcefully(stream)


def _why_refused(error: trio_websocket.HandshakeError) -> str:
    """Describes the answer to a rejected handshake."""
    if not isinstance(error, trio_websocket.ConnectionRejected):
        return "it does not speak WebSocket"
    refused = f"it refused the WebSocket with status {error.status_code}"
    said = (error.body or b"")[:SAID_BYTES].decode("utf-8", "replace").strip()
    try:
        said = str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        # A page for people is useless to programs.
        said = "" if said.startswith("<") else said
    words = " ".join("".join(one if one.isprintable() else " " for one in said).split())
    return f"{refused}: {words[:SAID_CHARACTERS]}" if words else refused


async def _open_stream(
    url: str, ssl_context: SSLContext | None
) -> tuple[trio.SocketStream | trio.SSLStream[trio.SocketStream], str, str]:
    """A stream to the address, its Host header and its path. Raises `OSError`."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else PLAIN_PORT)
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
    """Performs the TLS handshake. Raises `OSError` with the reason if the server is not trusted."""
    try:
        await secured.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(secured)
        if isinstance(error, trio.BrokenResourceError):
            raise TlsFault(url, *tls_problem(error.__cause__ or error)) from error
        raise


async def _is_for_tls(url: str) -> bool:
    """True if a server that rejected a plain handshake would accept a TLS one."""
    parts = urlsplit(url)
    if parts.scheme != "ws" or parts.hostname is None:
        return False
    return await trio.to_thread.run_sync(speaks_tls, parts.hostname, parts.port or PLAIN_PORT, abandon_on_cancel=True)
