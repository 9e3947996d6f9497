"""A real server that dies and comes back at the same address, and what two of its clients see of that.

One client makes tasks and notes which were acknowledged. Others follow the events of the same client id across every
cut: one is the Python client, the other knows nothing but PROTOCOL's rule and checks the frames themselves.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.trio.client import ClientConnection
from websockets.trio.client import connect as websocket_connect
from websockets.typing import Subprotocol

import protocol
from protocol.client import Backoff, Change, Client, ClientEvent, CommandFailed
from protocol.tasks import TaskCreate
from tests.system.serving_process import ServingProcess, start_server

__all__ = [
    "CLIENT_ID",
    "QUICK",
    "PlainWitness",
    "RestartingServer",
    "Seen",
    "Witness",
    "free_port",
    "make_tasks",
    "restarting_server",
]

CLIENT_ID = "storm"
QUICK = Backoff(base_seconds=0.05, cap_seconds=0.2)
"""Between attempts of a client whose server is killed all the time."""
NOBODY_THERE = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError, trio.BrokenResourceError)
FIRST_PORT, PORTS_EACH = 20_000, 3_000
"""Below those that Linux gives to outgoing connections: a client must not sit on the port of a server that is away. Each of the
processes that test at the same time has ports of its own: between looking for one and listening on it a server has to start."""
STOP_SECONDS = 25.0


def _numbers() -> Iterator[int]:
    """Ports of this process, none twice before all were there; begun anywhere, for the case of two runs on one machine."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    start = secrets.randbelow(PORTS_EACH)
    for number in itertools.count(start):
        yield FIRST_PORT + process * PORTS_EACH + number % PORTS_EACH


_ports = _numbers()


def free_port() -> int:
    """One that stays free while its server is away."""
    while True:
        port = next(_ports)
        with socket.socket() as bound, suppress(OSError):
            bound.bind(("127.0.0.1", port))
            return port


@define
class RestartingServer:
    """A server process, and after it another one with the same folder and address."""

    folder: Path
    settings: dict[str, str]
    options: tuple[str, ...] = ()
    """More of the command line."""
    ports: tuple[int, int] = field(factory=lambda: (free_port(), free_port()))
    running: ServingProcess | None = None
    _stack: ExitStack = field(factory=ExitStack)

    @property
    def websocket_url(self) -> str:
        """Where it is reached, now or later."""
        return f"ws://127.0.0.1:{self.ports[1]}{protocol.PATH}"

    @property
    def rest_url(self) -> str:
        """Where REST is reached, now or later."""
        return f"http://127.0.0.1:{self.ports[0]}"

    async def start(self) -> None:
        """Start it and wait until it listens."""
        rest, websocket = (str(port) for port in self.ports)
        starting = start_server(self.folder, "--port", rest, "--ws-port", websocket, *self.options, **self.settings)
        self.running = await trio.to_thread.run_sync(self._stack.enter_context, starting)

    async def kill(self) -> None:
        """As `kill -9` does; returns once the process is gone."""
        await self._signal(signal.SIGKILL)

    async def stop_in_order(self) -> int:
        """As SIGTERM does; waits for its end and returns the exit status."""
        return await self._signal(signal.SIGTERM)

    async def _signal(self, number: signal.Signals) -> int:
        assert self.running is not None
        process = self.running.process
        process.send_signal(number)
        status = await trio.to_thread.run_sync(process.wait, STOP_SECONDS)
        self.running = None
        self._stack.close()
        return status


@asynccontextmanager
async def restarting_server(folder: Path, *options: str, **settings: str) -> AsyncIterator[RestartingServer]:
    """A server that runs, without limits on how fast a client asks; gone at the end."""
    unlimited = {"LEANVIBE_COMMANDS_PER_SECOND": "100000", "LEANVIBE_COMMAND_BURST": "100000"}
    server = RestartingServer(folder, {**unlimited, **settings}, options)
    await server.start()
    try:
        yield server
    finally:
        server._stack.close()


# --- what clients do ----------------------------------------------------------------------------------


async def make_tasks(client: Client, name: str, acknowledged: list[str], *, pause_seconds: float = 0.0) -> None:
    """Make one task after another, for ever, and note each title that was acknowledged.

    A command that was sent when the server died is sent again by the client, under its id. A server that drains
    refuses, which it says, and then the same task is asked for again.
    """
    number = 0
    while True:
        title = f"{name} {number}"
        try:
            await client.ask(TaskCreate(title=title))
        except CommandFailed as error:
            if error.code != "shutting_down":
                raise
            await trio.sleep(QUICK.base_seconds)
            continue
        acknowledged.append(title)
        number += 1
        await trio.sleep(pause_seconds)


@define
class Seen:
    """What was seen of a stream that is to have no hole and nothing twice."""

    seqs: list[int] = field(factory=list)
    event_ids: list[str] = field(factory=list)
    titles: list[str] = field(factory=list)
    """Of tasks made, in the order of their events."""
    snapshots: int = 0
    """How often the server could not tell what was missing; the first one is where it begins."""
    seen: trio.Event = field(factory=trio.Event)

    def note(self, kind: str, seq: int, data: dict[str, Any]) -> None:
        """One event."""
        self.seqs.append(seq)
        self.event_ids.append(data["event_id"])
        if kind == "task_created":
            self.titles.append(data["task"]["title"])
        self.seen.set()
        self.seen = trio.Event()

    async def until_seen(self, *, events: int = 0, title: str | None = None) -> None:
        """Wait until there are so many events, or the one of this task."""
        while len(self.seqs) < events or (title is not None and title not in self.titles):
            await self.seen.wait()

    def reasons(self, acknowledged: dict[str, list[str]]) -> list[str]:
        """What was lost, repeated or out of order; ``acknowledged`` holds the titles of each that makes tasks."""
        found = []
        if self.snapshots > 1:
            found.append(f"{self.snapshots - 1} times the server had lost what was missing")
        if self.seqs != list(range(1, len(self.seqs) + 1)):
            at = next(index for index, seq in enumerate(self.seqs) if seq != index + 1)
            found.append(f"event {at + 1} has the number {self.seqs[at]}")
        for what, values in (("events", self.event_ids), ("tasks", self.titles)):
            if twice := len(values) - len(set(values)):
                found.append(f"{twice} {what} came twice")
        for name, titles in acknowledged.items():
            told = [title for title in self.titles if title.rpartition(" ")[0] == name]
            # What was under way at the end may have been made without anybody being told.
            if told[: len(titles)] != titles or len(told) > len(titles) + 1:
                lost = set(titles) - set(told)
                found.append(f"of {name} {len(lost)} acknowledged tasks never came" if lost else f"{name} out of order")
        return found


@define
class Witness:
    """Follows the durable events with the Python client."""

    seen: Seen = field(factory=Seen)
    changes: list[Change] = field(factory=list)

    async def follow(self, client: Client) -> None:
        """For ever."""
        async with client.events() as events:
            async for item in events:
                if isinstance(item, ClientEvent):
                    self.seen.note(item.type, item.seq, item.data)
                else:
                    self.seen.snapshots += 1


@define
class PlainWitness:
    """Follows the durable events with the `websockets` library; every frame must begin behind the one before."""

    url: str
    seen: Seen = field(factory=Seen)
    connections: int = 0
    faults: list[str] = field(factory=list)
    """Frames that did not begin where the last one had ended."""
    follows: trio.Event = field(factory=trio.Event)
    """Set with the first welcome: what happens from now on is to come here."""
    client_id: str = CLIENT_ID
    acknowledged_every: int | None = None
    """Acknowledge after so many events; by default never."""
    on_end: Callable[[int | None], None] = lambda _: None
    """Hears the close code of each connection that stood and ended."""
    _epoch: str = ""
    _seq: int = 0

    async def follow(self) -> None:
        """For ever, over as many connections as it takes."""
        options: dict[str, Any] = {"proxy": None, "compression": None, "ping_interval": None, "close_timeout": 1}
        while True:
            with suppress(*NOBODY_THERE):
                async with websocket_connect(
                    self.url, subprotocols=[Subprotocol(protocol.SUBPROTOCOL)], max_queue=None, **options
                ) as websocket:
                    await self._follow_until_its_end(websocket)
            await trio.sleep(QUICK.base_seconds)

    async def _follow_until_its_end(self, websocket: ClientConnection) -> None:
        stood = self.connections
        try:
            await self._follow_one(websocket)
        except ConnectionClosed as error:
            if self.connections > stood:
                self.on_end(None if error.rcvd is None else error.rcvd.code)
            raise

    async def _follow_one(self, websocket: ClientConnection) -> None:
        points = [{"stream": "client", "epoch": self._epoch, "seq": self._seq}] if self._epoch else []
        hello = {"client_id": self.client_id, "device_id": "plain", "resume": points}
        await websocket.send(json.dumps({"type": "hello", "id": "h", "data": hello}))
        while True:
            message = json.loads(await websocket.recv())
            if message["type"] == "welcome":
                self.connections += 1
                if any(not one["resumed"] for one in message["data"]["resumed"]):
                    self.seen.snapshots += 1
                    self.faults.append(f"not resumed behind {self._seq}")
                self._epoch = message["data"]["epoch"]
                self.follows.set()
            elif message["type"] == "ping":
                await websocket.send(json.dumps({"type": "pong", "data": message.get("data")}))
            elif message.get("stream") == "client":
                first_seq = message.get("first_seq", message["seq"])
                if first_seq != self._seq + 1:
                    self.faults.append(f"{first_seq} came behind {self._seq}")
                self._seq = message["seq"]
                self.seen.note(message["type"], message["seq"], message["data"])
                if self.acknowledged_every is not None and message["seq"] % self.acknowledged_every == 0:
                    acknowledged = {"stream": "client", "seq": message["seq"]}
                    await websocket.send(json.dumps({"type": "ack", "data": acknowledged}))
