"""One connection to a server: commands with their answers, and streams of text.

A reader task hands each message to whoever waits for it; one writer task is the only one that writes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
import trio_websocket

import protocol
from protocol.codec import encode, unstructure
from protocol.commands import Generate, Hello

__all__ = ["Answer", "Client", "CommandFailed", "Disconnected", "connect"]

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 40.0
WRITE_SECONDS = 10.0
EVENTS_WAITING = 4096
"""Events of one stream that may wait for its reader; a slower one makes the server merge tokens."""
FRAME_BYTES = 1024 * 1024


class CommandFailed(Exception):
    """The server answered with `error`, or a stream ended with `failed`; ``data`` is what it said."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(f"{data.get('code')}: {data.get('message')}")
        self.data = data

    @property
    def code(self) -> str:
        """One of the protocol's error codes."""
        return str(self.data.get("code"))


class Disconnected(Exception):
    """The connection ended; ``code`` and ``reason`` are those of its close frame, if there was one."""

    def __init__(self, code: int | None, reason: str | None) -> None:
        super().__init__(f"the connection ended ({code}{': ' + reason if reason else ''})")
        self.code = code
        self.reason = reason


class Answer:
    """A streamed answer: iterate over it for pieces of text; then `done` holds the last event's data."""

    def __init__(
        self,
        command_id: str,
        accepted: dict[str, Any],
        events: trio.MemoryReceiveChannel[dict[str, Any]],
        cause_of_end: Callable[[], Disconnected | None],
    ) -> None:
        self.command_id = command_id
        self.stream: str = accepted["stream"]
        self.done: dict[str, Any] | None = None
        """Data of `done`, once it came."""
        self.was_cancelled = False
        self._events = events
        self._cause_of_end = cause_of_end
        self._last_seq = 0
        self._is_over = False

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> str:
        """The next piece of text. Raises `CommandFailed`, or `Disconnected`; cancel-safe."""
        while not self._is_over:
            try:
                event = await self._events.receive()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                raise self._cause_of_end() or Disconnected(None, "the stream was cut") from None
            first = event.get("first_seq", event["seq"])
            if first != self._last_seq + 1:
                raise Disconnected(None, f"events {self._last_seq + 1} to {first - 1} are missing")
            self._last_seq = event["seq"]
            match event["type"]:
                case "token":
                    text: str = event["data"]["text"]
                    return text
                case "done":
                    self._is_over, self.done = True, event["data"]
                case "cancelled":
                    self._is_over = self.was_cancelled = True
                case "failed":
                    self._is_over = True
                    raise CommandFailed(event["data"])
        raise StopAsyncIteration

    async def text(self) -> str:
        """The whole answer."""
        return "".join([piece async for piece in self])


class Client:
    """Made by `connect`. Its methods may be called from any task of the same nursery tree."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self._websocket = websocket
        self._ids = itertools.count(1)
        self._answers: dict[str, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._streams: dict[str, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._pending_events: dict[
            str, tuple[trio.MemorySendChannel[dict[str, Any]], trio.MemoryReceiveChannel[dict[str, Any]]]
        ] = {}
        self._send, self._outgoing = trio.open_memory_channel[bytes](64)
        self.welcome: dict[str, Any] = {}
        """Data of the server's `welcome`."""
        self.going_away: dict[str, Any] | None = None
        """Data of `going_away`, once the server said so."""
        self._ended: Disconnected | None = None

    async def command(self, kind: str, data: Any) -> dict[str, Any]:
        """Send a command and return its answer's envelope. Raises `CommandFailed` or `Disconnected`.

        Cancelled, the answer is ignored when it comes; the server may have carried the command out.
        """
        return (await self._ask(kind, data, streaming=False))[1]

    async def ping(self, payload: Any = None) -> Any:
        """A round trip; returns the payload as the server sent it back."""
        return (await self.command("ping", payload)).get("data")

    async def cancel(self, command_id: str) -> bool:
        """End a running command; whether it was still running."""
        answer = await self.command("cancel", {"target": command_id})
        return bool(answer["data"]["cancelled"])

    @asynccontextmanager
    async def generate(self, generate: Generate) -> AsyncIterator[Answer]:
        """Start a generation; leaving the block before its end cancels it. Raises `CommandFailed`."""
        command_id, envelope = await self._ask("generate", unstructure(generate), streaming=True)
        channel, events = self._pending_events.pop(command_id)
        answer = Answer(command_id, envelope["data"], events, lambda: self._ended)
        try:
            yield answer
        finally:
            self._streams.pop(command_id, None)
            channel.close()
            if not answer._is_over and self._ended is None:
                # The server frees the row at once instead of talking to nobody.
                with trio.move_on_after(2, shield=True), suppress(CommandFailed, Disconnected):
                    await self.cancel(command_id)

    async def _ask(self, kind: str, data: Any, *, streaming: bool) -> tuple[str, dict[str, Any]]:
        if self._ended is not None:
            raise self._ended
        command_id = str(next(self._ids))
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._answers[command_id] = send
        if streaming:
            # Opened before the command goes out, so that no event can come too early.
            channel, events = trio.open_memory_channel[dict[str, Any]](EVENTS_WAITING)
            self._streams[command_id] = channel
            self._pending_events[command_id] = (channel, events)
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await self._send.send(encode({"type": kind, "id": command_id, "data": data}))
                envelope = await receive.receive()
            if envelope["type"] == "error":
                raise CommandFailed(envelope["data"])
        except BaseException as error:
            self._streams.pop(command_id, None)
            self._pending_events.pop(command_id, None)
            if isinstance(error, trio.EndOfChannel | trio.ClosedResourceError | trio.BrokenResourceError):
                raise self._ended or Disconnected(None, None) from None
            if isinstance(error, trio.TooSlowError):
                raise Disconnected(None, f"no answer to {kind} within {ANSWER_SECONDS:g} seconds") from None
            raise
        finally:
            self._answers.pop(command_id, None)
        return command_id, envelope

    async def _read(self) -> None:
        """Hand out messages until the connection ends; then everyone who waits hears of it."""
        try:
            while True:
                frame = await self._websocket.get_message()
                await self._hand_out(json.loads(frame))
        except trio_websocket.ConnectionClosed as closed:
            reason = closed.reason
            self._ended = Disconnected(
                None if reason is None else reason.code, None if reason is None else reason.reason
            )
        finally:
            if self._ended is None:
                self._ended = Disconnected(None, None)
            for channel in [*self._answers.values(), *self._streams.values()]:
                channel.close()
            self._send.close()

    async def _hand_out(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "ping":
            await self._send.send(encode({"type": "pong", "data": message.get("data")}))
        elif kind == "going_away":
            self.going_away = message["data"]
        elif "stream" in message:
            channel = self._streams.get(message.get("re", ""))
            if channel is not None:
                # Waiting here is what makes the server merge tokens for a reader that is slow.
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await channel.send(message)
        elif (waiting := self._answers.get(message.get("re", ""))) is not None:
            waiting.send_nowait(message)

    async def _write(self) -> None:
        """The one writer of the socket."""
        async for frame in self._outgoing:
            try:
                with trio.fail_after(WRITE_SECONDS):
                    await self._websocket.send_message(frame.decode())
            except (trio_websocket.ConnectionClosed, trio.TooSlowError):
                await trio.aclose_forcefully(self._websocket._stream)
                return


@asynccontextmanager
async def connect(
    url: str, *, client_id: str, device_id: str = "default", agent: str | None = None, token: str | None = None
) -> AsyncIterator[Client]:
    """Connect and say hello; leaving the block closes the connection.

    Raises `OSError` where nobody listens or no LeanVibe server answers, `CommandFailed` where the hello is
    refused, `Disconnected`.
    """
    hello = Hello(client_id=client_id, device_id=device_id, agent=agent, token=token)
    stream, host, resource = await _open_stream(url)
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
                        max_message_size=FRAME_BYTES,
                    )
            except trio.TooSlowError:
                raise OSError(f"{url} did not answer within {CONNECT_SECONDS:g} seconds") from None
            client = Client(websocket)
            nursery.start_soon(client._read)
            nursery.start_soon(client._write)
            client.welcome = (await client.command("hello", attrs.asdict(hello)))["data"]
            try:
                yield client
            finally:
                with trio.move_on_after(2, shield=True):
                    await websocket.aclose()
                nursery.cancel_scope.cancel(reason="the client leaves")
    except BaseExceptionGroup as group:
        # A caller sees its own exception, not the nursery that it never asked for.
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        if isinstance(error, trio_websocket.HandshakeError):
            # Raised in the library's reader task, so it comes out of the nursery and not of the call above.
            raise OSError(f"{url} is no LeanVibe server: {error!r}") from error
        raise error from None
    finally:
        # trio-websocket leaves the socket open when the handshake fails.
        await trio.aclose_forcefully(stream)


async def _open_stream(url: str) -> tuple[trio.SocketStream | trio.SSLStream[trio.SocketStream], str, str]:
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
            secured = await trio.open_ssl_over_tcp_stream(parts.hostname, port, https_compatible=True)
            return secured, host, resource
    except trio.TooSlowError:
        raise OSError(f"{url} did not answer within {CONNECT_SECONDS:g} seconds") from None
