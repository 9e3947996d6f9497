"""A real server that dies and returns at the same address, as seen by its clients.

One client creates tasks and notes which were acknowledged. Others receive the events of the same client id across every
cut: one is the Python client, the other knows only the protocol's rule and checks the frames themselves.
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
"""Back-off of a client whose server is killed all the time."""
NOBODY_THERE = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError, trio.BrokenResourceError)
FIRST_PORT, PORTS_EACH = 20_000, 3_000
"""Below the ports that Linux gives to outgoing connections: a client must not occupy the port of a server that is down.
Parallel test processes have separate ranges, because a server has to start between finding a port and listening on it.
"""
STOP_SECONDS = 25.0


def _numbers() -> Iterator[int]:
    """Yield this process's ports, each once per round, from a random start in case of two runs on one machine."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    start = secrets.randbelow(PORTS_EACH)
    for number in itertools.count(start):
        yield FIRST_PORT + process * PORTS_EACH + number % PORTS_EACH


_ports = _numbers()


def free_port() -> int:
    """Return a port that stays free while its server is down."""
    while True:
        port = next(_ports)
        with socket.socket() as bound, suppress(OSError):
            bound.bind(("127.0.0.1", port))
            return port


@define
class RestartingServer:
    """A server process and its successors with the same folder and address."""

    folder: Path
    settings: dict[str, str]
    options: tuple[str, ...] = ()
    """Further command-line options."""
    ports: tuple[int, int] = field(factory=lambda: (free_port(), free_port()))
    running: ServingProcess | None = None
    _stack: ExitStack = field(factory=ExitStack)

    @property
    def websocket_url(self) -> str:
        """Its WebSocket URL, now or later."""
        return f"ws://127.0.0.1:{self.ports[1]}{protocol.PATH}"

    @property
    def rest_url(self) -> str:
        """Its REST URL, now or later."""
        return f"http://127.0.0.1:{self.ports[0]}"

    async def start(self) -> None:
        """Start it and wait until it listens."""
        rest, websocket = (str(port) for port in self.ports)
        starting = start_server(self.folder, "--port", rest, "--ws-port", websocket, *self.options, **self.settings)
        self.running = await trio.to_thread.run_sync(self._stack.enter_context, starting)

    async def kill(self) -> None:
        """Kill it like `kill -9`. Returns once the process is gone."""
        await self._signal(signal.SIGKILL)

    async def stop_in_order(self) -> int:
        """Send SIGTERM and wait. Returns the exit status."""
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
    """Run a server without rate limits; ended at the end."""
    unlimited = {"LEANVIBE_COMMANDS_PER_SECOND": "100000", "LEANVIBE_COMMAND_BURST": "100000"}
    server = RestartingServer(folder, {**unlimited, **settings}, options)
    await server.start()
    try:
        yield server
    finally:
        server._stack.close()


# --- what clients do ----------------------------------------------------------------------------------


async def make_tasks(client: Client, name: str, acknowledged: list[str], *, pause_seconds: float = 0.0) -> None:
    """Create tasks one after another until cancelled, and record each acknowledged title.

    A command in flight when the server died is repeated by the client, under its id. A draining server rejects
    commands, and then the same task is requested again.
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
    """Events received from a stream that must have neither gaps nor repeats."""

    seqs: list[int] = field(factory=list)
    event_ids: list[str] = field(factory=list)
    titles: list[str] = field(factory=list)
    """Titles of created tasks, in the order of their events."""
    snapshots: int = 0
    """Number of snapshots: the server could not tell what was missing. The first one is the start."""
    seen: trio.Event = field(factory=trio.Event)

    def note(self, kind: str, seq: int, data: dict[str, Any]) -> None:
        """Record one event."""
        self.seqs.append(seq)
        self.event_ids.append(data["event_id"])
        if kind == "task_created":
            self.titles.append(data["task"]["title"])
        self.seen.set()
        self.seen = trio.Event()

    async def until_seen(self, *, events: int = 0, title: str | None = None) -> None:
        """Wait for this many events, or for the one of this task."""
        while len(self.seqs) < events or (title is not None and title not in self.titles):
            await self.seen.wait()

    def reasons(self, acknowledged: dict[str, list[str]]) -> list[str]:
        """Return what was lost, repeated or out of order; ``acknowledged`` holds the titles of each task creator."""
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
            # A command in flight at the end may have been carried out without an acknowledgement.
            if told[: len(titles)] != titles or len(told) > len(titles) + 1:
                lost = set(titles) - set(told)
                found.append(f"of {name} {len(lost)} acknowledged tasks never came" if lost else f"{name} out of order")
        return found


@define
class Witness:
    """Receives the durable events with the Python client."""

    seen: Seen = field(factory=Seen)
    changes: list[Change] = field(factory=list)

    async def follow(self, client: Client) -> None:
        """Receive until cancelled."""
        async with client.events() as events:
            async for item in events:
                if isinstance(item, ClientEvent):
                    self.seen.note(item.type, item.seq, item.data)
                else:
                    self.seen.snapshots += 1


@define
class PlainWitness:
    """Receives the durable events with the `websockets` library; every frame must begin after the one before."""

    url: str
    seen: Seen = field(factory=Seen)
    connections: int = 0
    faults: list[str] = field(factory=list)
    """Frames that did not begin where the previous one ended."""
    follows: trio.Event = field(factory=trio.Event)
    """Set by the first welcome: later events must arrive here."""
    client_id: str = CLIENT_ID
    acknowledged_every: int | None = None
    """Acknowledge after this many events; by default never."""
    on_end: Callable[[int | None], None] = lambda _: None
    """Called with the close code of each open connection that ended."""
    _epoch: str = ""
    _seq: int = 0

    async def follow(self) -> None:
        """Receive until cancelled, over as many connections as needed."""
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
