"""A server that does what a test writes down, connection by connection, over memory streams: no port and no real time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio_websocket
from trio.testing import memory_stream_pair

from protocol.client import connection as connection_module

__all__ = ["Peer", "Script", "ScriptedServer", "cut_after", "echoes", "goes_on_from", "scripted", "scripted_listener"]

TIME = "2026-01-01T00:00:00.000Z"


class Peer:
    """The server's end of one connection."""

    def __init__(self, websocket: Any, stream: Any) -> None:
        self.websocket = websocket
        self.stream = stream
        self.hello: dict[str, Any] = {}

    async def receive(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, which has to be of this kind."""
        message: dict[str, Any] = json.loads(await self.websocket.get_message())
        assert kind in (None, message["type"]), message
        return message

    async def say(self, **message: Any) -> None:
        """Send one message."""
        await self.websocket.send_message(json.dumps({"time": TIME, **message}))

    async def welcome(self, resumed: list[dict[str, Any]] | None = None, **data: Any) -> dict[str, Any]:
        """Take the hello and answer it, by default that all goes on where it stood; returns the hello's data."""
        hello = await self.receive("hello")
        self.hello = hello["data"]
        if resumed is None:
            resumed = [{"stream": one["stream"], "resumed": True, "head": 9} for one in self.hello["resume"]]
        await self.say(type="welcome", re=hello["id"], data={"epoch": "e-client", "resumed": resumed, **data})
        return self.hello

    async def accept(self, kind: str = "generate", stream: str = "g-1") -> dict[str, Any]:
        """Take a streaming command; returns it whole."""
        command = await self.receive(kind)
        await self.say(type="accepted", re=command["id"], data={"stream": stream, "epoch": "e-1"})
        return command

    async def tokens(self, *pieces: str, after: int = 0, stream: str = "g-1") -> None:
        """Sends a token event for each piece."""
        for number, text in enumerate(pieces, after + 1):
            await self.say(type="token", stream=stream, seq=number, data={"text": text, "index": number})

    async def done(self, seq: int, stream: str = "g-1") -> None:
        """The end of an answer."""
        await self.say(type="done", stream=stream, seq=seq, data={"finish_reason": "stop"})

    async def cut(self) -> None:
        """End the connection without a word."""
        await trio.aclose_forcefully(self.stream)

    async def close(self, code: int) -> None:
        """End the connection with this close code."""
        await self.websocket.aclose(code, "scripted")

    async def linger(self) -> None:
        """Read, and answer nothing, until the client leaves."""
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                await self.websocket.get_message()


Script = Callable[[Peer], Awaitable[None]]


def cut_after(*pieces: str) -> Script:
    """Begins an answer with these pieces and cuts the connection."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens(*pieces)
        await peer.cut()

    return script


def goes_on_from(snapshot: dict[str, Any], *pieces: str) -> Script:
    """Answers with this snapshot, continues with these pieces, ends the answer and keeps the connection."""
    head = snapshot["seq"]

    async def script(peer: Peer) -> None:
        await peer.welcome([{"stream": "g-1", "resumed": False, "head": head, "snapshot": snapshot}])
        await peer.tokens(*pieces, after=head)
        await peer.done(head + len(pieces) + 1)
        await peer.linger()

    return script


class BudgetStream(trio.abc.Stream):
    """Breaks after so many bytes were sent, in the middle of a frame if need be; None: never."""

    def __init__(self, stream: Any, budget_bytes: int | None) -> None:
        self._stream = stream
        self._budget_bytes = budget_bytes

    async def send_all(self, data: Any) -> None:
        if self._budget_bytes is not None and len(data) > self._budget_bytes:
            await self._stream.send_all(data[: self._budget_bytes])
            await self.aclose()
            raise trio.BrokenResourceError
        if self._budget_bytes is not None:
            self._budget_bytes -= len(data)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        received: bytes | bytearray = await self._stream.receive_some(max_bytes)
        return received

    async def aclose(self) -> None:
        await self._stream.aclose()


class ScriptedServer:
    """Runs one script for each connection, the last one for all that follow; None refuses it, a number its handshake."""

    def __init__(self, scripts: list[Script | int | None], budget_bytes: int | None = None) -> None:
        self.scripts = scripts
        self.attempts: list[float] = []
        """When somebody tried to connect, seconds of the Trio clock since the first."""
        self.began = 0.0
        self.budget_bytes = budget_bytes
        self.nursery: trio.Nursery

    async def open_stream(self, url: str, ssl_context: object) -> tuple[Any, str, str]:
        """Stands for the opening of a socket."""
        if not self.attempts:
            self.began = trio.current_time()
        self.attempts.append(trio.current_time() - self.began)
        script = self.scripts[min(len(self.attempts), len(self.scripts)) - 1]
        if script is None:
            raise OSError("nobody listens")
        client, server = memory_stream_pair()
        budget_bytes = self.budget_bytes if len(self.attempts) == 1 else None
        self.nursery.start_soon(self._serve, BudgetStream(server, budget_bytes), script)
        return client, "scripted", "/ws"

    async def accept(self, stream: Any) -> None:
        """Serve one real connection."""
        script = self.scripts[min(len(self.attempts), len(self.scripts) - 1)]
        self.attempts.append(trio.current_time())
        if script is not None:
            await self._serve(stream, script)

    async def _serve(self, stream: Any, script: Script | int) -> None:
        with suppress(trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            async with trio.open_nursery() as nursery:
                try:
                    request = await trio_websocket.wrap_server_stream(nursery, stream)
                    if isinstance(script, int):
                        await request.reject(script)
                        return
                    websocket = await request.accept(subprotocol="leanvibe.v1+json")
                    await script(Peer(websocket, stream))
                except* (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                finally:
                    await trio.aclose_forcefully(stream)
                    nursery.cancel_scope.cancel()


@asynccontextmanager
async def scripted(
    monkeypatch: pytest.MonkeyPatch, *scripts: Script | int | None, budget_bytes: int | None = None
) -> AsyncIterator[ScriptedServer]:
    """Every connection that a client opens inside the block meets the next script."""
    server = ScriptedServer(list(scripts), budget_bytes)
    monkeypatch.setattr(connection_module, "_open_stream", server.open_stream)
    async with trio.open_nursery() as nursery:
        server.nursery = nursery
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def scripted_listener(*scripts: Script | None) -> AsyncIterator[tuple[str, ScriptedServer]]:
    """The same behind a real port, for clients in other processes; yields its address."""
    server = ScriptedServer(list(scripts))
    async with trio.open_nursery() as nursery:
        server.nursery = nursery
        listeners = await nursery.start(partial(trio.serve_tcp, server.accept, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/ws", server
        nursery.cancel_scope.cancel()


async def echoes(peer: Peer) -> None:
    """A server that answers pings indefinitely."""
    await peer.welcome()
    while True:
        message = await peer.receive()
        await peer.say(type="pong", re=message["id"], data=message.get("data"))
