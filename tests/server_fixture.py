"""The real tree with the mock engine on free ports, inside the test's own event loop, and a plain peer for it.

Import `server` and `engineless_server` into a folder's `conftest.py` to have them as fixtures; `running_server` is for tests that need
other settings. Everything is real but the model: sockets, the worker process, hypercorn, the inspection socket.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import define
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection
from websockets.trio.client import connect as websocket_connect
from websockets.typing import Subprotocol

import protocol
from actors.application import Listening, make_tree
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.inference.worker_config import WorkerConfig
from actors.inspection.server_file import ServerFile, inspection_socket_path
from actors.service_manager.notify_socket import NotifySocket
from actors.settings import Settings
from actors.storage.database import FILE_NAME
from actors.tls import first_certificate, server_context
from runtime import ActorSystem
from runtime.inspection import actor_snapshot
from tests.database_fixture import fresh_database

__all__ = [
    "PATIENCE_SECONDS",
    "Peer",
    "RunningServer",
    "count_to",
    "engineless_server",
    "eventually",
    "free_socket",
    "running_server",
    "server",
]

POLL_SECONDS = 0.005
PATIENCE_SECONDS = 120.0
"""Of a busy machine; no test passes or fails by it on one that works."""


def count_to(number: int) -> str:
    """What the mock engine answers to `count to NUMBER`."""
    return " ".join(str(one) for one in range(1, number + 1))


async def eventually(condition: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS, what: str = "") -> Any:
    """Wait until ``condition`` (plain or async) is truthy and return its value; real seconds, also under a mock clock."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        await trio.to_thread.run_sync(time.sleep, POLL_SECONDS)


def _read_on(websocket: ClientConnection) -> None:
    """Let a client that reads slowly see the answer to its close, which it waits for without end while it has paused."""
    messages = websocket.recv_messages
    messages.high = None
    if messages.paused:
        messages.paused = False
        messages.resume()


def free_socket(*, send_buffer_bytes: int | None = None) -> socket.socket:
    """A listening socket on a free port; accepted sockets inherit the buffer size."""
    bound = socket.socket()
    if send_buffer_bytes is not None:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    bound.bind(("127.0.0.1", 0))
    bound.listen(64)
    bound.setblocking(False)
    return bound


class Peer:
    """A client that knows nothing of ours: the `websockets` library and JSON."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.states: list[dict[str, Any]] = []
        """Messages of the stream `state`, which `receive` leaves out."""

    async def send(self, kind: str, command_id: str | None = None, data: Any = None) -> None:
        """Send one command."""
        message: dict[str, Any] = {"type": kind}
        if command_id is not None:
            message["id"] = command_id
        if data is not None:
            message["data"] = data
        await self.websocket.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        """The next message that is not of the stream `state`, within `PATIENCE_SECONDS`."""
        with trio.fail_after(PATIENCE_SECONDS):
            while True:
                message: dict[str, Any] = json.loads(await self.websocket.recv())
                if message.get("stream") != "state":
                    return message
                self.states.append(message)

    async def ask(self, kind: str, command_id: str, data: Any = None) -> dict[str, Any]:
        """Send a command and return the message that comes next."""
        await self.send(kind, command_id, data)
        return await self.receive()

    async def hello(self, client_id: str = "tester", **data: Any) -> dict[str, Any]:
        """Open the session and return the data of `welcome`."""
        answer = await self.ask("hello", "hello", {"client_id": client_id, **data})
        assert answer["type"] == "welcome", answer
        welcome: dict[str, Any] = answer["data"]
        return welcome

    async def stream(self, command_id: str) -> list[dict[str, Any]]:
        """Events of a command to its last one; other messages are left out."""
        events: list[dict[str, Any]] = []
        while True:
            message = await self.receive()
            if message.get("re") == command_id and "stream" in message:
                events.append(message)
                if message["type"] in ("done", "cancelled", "failed"):
                    return events

    async def generate(self, command_id: str, prompt: str, **data: Any) -> list[dict[str, Any]]:
        """Generate and return all events of the stream."""
        accepted = await self.ask("generate", command_id, {"prompt": prompt, **data})
        assert accepted["type"] == "accepted", accepted
        return await self.stream(command_id)

    async def close_code(self) -> int:
        """Read to the end and return the code of the close frame (1006 where there was none)."""
        with trio.fail_after(PATIENCE_SECONDS), suppress(ConnectionClosed):
            while True:
                await self.websocket.recv()
        code = self.websocket.close_code
        assert code is not None
        return code


@define
class RunningServer:
    """A started tree and how to reach it."""

    system: ActorSystem
    settings: Settings
    about: ServerFile

    @asynccontextmanager
    async def peer(
        self, *, hello: bool = True, path: str = protocol.PATH, client_id: str = "tester", **arguments: Any
    ) -> AsyncIterator[Peer]:
        """An independent client, greeted unless told otherwise."""
        url = self.about.websocket_url.removesuffix(protocol.PATH) + path
        arguments = {
            "subprotocols": [Subprotocol(protocol.SUBPROTOCOL)],
            "ping_interval": None,
            "proxy": None,
            "close_timeout": 1,
            # websockets 17.4 on trio hangs in its close when it has paused reading.
            "max_queue": None,
            **arguments,
        }
        async with websocket_connect(url, **arguments) as websocket:
            peer = Peer(websocket)
            if hello:
                await peer.hello(client_id)
            try:
                yield peer
            finally:
                _read_on(websocket)

    def http(self, **arguments: Any) -> httpx.AsyncClient:
        """An HTTP client for the REST address."""
        return httpx.AsyncClient(
            base_url=self.about.rest_url, trust_env=False, verify=False, timeout=PATIENCE_SECONDS, **arguments
        )

    async def engine(self) -> EngineHealth:
        """The engine as the inference actor sees it."""
        return await self.system.reference("inference/inference").ask(DescribeEngine(), timeout=60)

    async def until_engine_is(self, state: str) -> EngineHealth:
        """Wait for `loading`, `ready` or `down`."""

        async def matches() -> EngineHealth | None:
            health = await self.engine()
            return health if health.state == state else None

        found: EngineHealth = await eventually(matches, what=f"engine {state}")
        return found

    async def snapshot(self, path: str) -> dict[str, Any]:
        """An actor's own snapshot."""
        return dict(await actor_snapshot(self.system, path, timeout=60))

    async def until_no_row_is_taken(self) -> None:
        """Wait until nothing runs or waits, in the inference actor and in the engine."""

        async def is_free() -> bool:
            inference = await self.snapshot("inference/inference")
            engine = await self.snapshot("inference/engines/1")
            return (inference["running"], inference["waiting"], engine["rows"]) == (0, 0, 0)

        await eventually(is_free, what="rows freed")

    def connections(self) -> list[str]:
        """Paths of the connection actors."""
        return [one.path for one in self.system.records() if one.path.startswith("connections/sockets/")]

    def incarnations(self) -> dict[str, int]:
        """Incarnation of every place but the connections."""
        return {
            one.path: one.incarnation
            for one in self.system.records()
            if not one.path.startswith("connections/sockets/")
        }

    async def inspect(self, request: object) -> list[dict[str, Any]]:
        """All lines that the inspection socket answers with; a request that is bytes is sent as it is."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        with trio.fail_after(PATIENCE_SECONDS):
            async with await trio.open_unix_socket(self.about.inspection_socket) as stream:
                await stream.send_all(data)
                received = b""
                async for chunk in stream:
                    received += chunk
        return [json.loads(line) for line in received.splitlines()]


@asynccontextmanager
async def running_server(
    data_folder: Path,
    *,
    send_buffer_bytes: int | None = None,
    wait: bool = True,
    is_ephemeral: bool = False,
    service_manager: NotifySocket | None = None,
    **overrides: Any,
) -> AsyncIterator[RunningServer]:
    """Run the whole tree for a block; ``wait`` for the engine to be ready. The block's end stops it in order."""
    settings = Settings(
        **{
            "engine": "mock",
            "data_dir": data_folder,
            "cache_dir": data_folder,
            "port": 0,
            "ws_port": 0,
            "drain_seconds": 0.2,
            **overrides,
        }
    )
    if settings.database is None and not (settings.data_dir / FILE_NAME).exists():
        fresh_database(settings.data_dir)
    tls = None if settings.tls_certificate is None else server_context(settings.tls_certificate, settings.tls_key)
    system = ActorSystem(watch_loop=False, drain_seconds=settings.drain_seconds, total_stop_seconds=30)
    with (
        free_socket(send_buffer_bytes=send_buffer_bytes) as websocket,
        free_socket(send_buffer_bytes=send_buffer_bytes) as rest,
    ):
        about = ServerFile(
            pid=os.getpid(),
            started_at="2026-01-01T00:00:00.000Z",
            rest_url=f"{'http' if tls is None else 'https'}://127.0.0.1:{rest.getsockname()[1]}",
            websocket_url=f"{'ws' if tls is None else 'wss'}://127.0.0.1:{websocket.getsockname()[1]}{protocol.PATH}",
            inspection_socket=str(inspection_socket_path(data_folder)),
            engine="mock",
            model="mock",
            certificate=None if settings.tls_certificate is None else first_certificate(settings.tls_certificate),
        )
        started = RunningServer(system, settings, about)
        async with trio.open_nursery() as nursery:
            listening = Listening(websocket, rest, tls, is_ephemeral)
            tree = make_tree(system, settings, None, listening, about, manager=service_manager)
            await nursery.start(system.run, tree)
            try:
                if wait:
                    await started.until_engine_is("ready")
                yield started
            finally:
                system.request_stop("the test is over")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with default settings; its engine is perhaps still loading, and then requests wait for it."""
    async with running_server(tmp_path, wait=False) as started:
        yield started


@pytest.fixture
async def engineless_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """A server whose worker never speaks: for tests that want no tokens, each of them a Python process quicker."""
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    async with running_server(tmp_path, wait=False) as started:
        yield started
