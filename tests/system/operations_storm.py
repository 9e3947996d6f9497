"""A storm over a server whose operator has bad days: the activity of its clients, and the troubles.

Everything that the clients observe is recorded in a `Storm`, in the terms of `operations_ledger`, which judges it.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import trio
from attrs import define, field

from actors.storage.database import FILE_NAME
from protocol.client import Change, Client, ClientEvent, CommandFailed, Disconnected, connect
from protocol.commands import Generate
from protocol.tasks import TaskCreate
from tests.system.operated_server import OperatedServer, Trouble, UnexpectedEnd
from tests.system.operations_ledger import NOT_DONE, AnswerTold, Cut, DeviceTold, Told
from tests.system.restarting_server import QUICK, PlainWitness, Seen

__all__ = ["CLIENTS", "PROMPTS", "Storm", "rows", "under_load", "until_ready"]

CLIENTS = ("first", "second")
PROMPTS = ("count to 5", "count to 40", "count to 120", "count to 300")
READY_SECONDS = 45.0
"""Deadline for the server to become ready by itself after a trouble."""
START_SECONDS = 120.0
READ_SECONDS = 10.0
"""Deadline of a read, even while the disk is in trouble."""
ANSWER_SECONDS = 120.0
"""An answer without progress for longer is stuck; on a busy machine a whole one may take as long as it needs."""
SETTLE_SECONDS = 60.0
"""Deadline for pending work at the end, and for all devices to hear of it."""
PAUSE_SECONDS = 0.05
TROUBLE_BEFORE_FIRST = "nothing yet"


@define
class _Named(Seen):
    """Events that a subscriber of raw frames received, in the judge's terms."""

    told: DeviceTold = field(factory=DeviceTold)

    def note(self, kind: str, seq: int, data: dict[str, Any]) -> None:
        self.told.note(seq, data["event_id"], _name_of(kind, data))


def _name_of(kind: str, data: dict[str, Any]) -> str | None:
    """Return the name of the write behind an event."""
    match kind:
        case "task_created":
            return str(data["task"]["title"])
        case "notification" if data["notification"]["kind"] == "message":
            return str(data["notification"]["title"])
    return None


@define
class Storm:
    """The troubles of a server, and the observations of its clients."""

    server: OperatedServer
    draw: random.Random
    tasks: dict[str, dict[str, Told]] = field(factory=lambda: {one: {} for one in CLIENTS})
    notifications: dict[str, dict[str, Told]] = field(factory=lambda: {one: {} for one in CLIENTS})
    answers: list[AnswerTold] = field(factory=list)
    words: dict[str, str] = field(factory=dict)
    """Rejected write → text of the rejection."""
    twins: dict[str, str] = field(factory=dict)
    devices: dict[str, tuple[str, DeviceTold]] = field(factory=dict)
    """Name → owner and received events."""
    heads: dict[str, int] = field(factory=dict)
    """Client → last number of its log when all devices were last checked. What the server adds later, such as its
    notice of a restarted engine some seconds after that, is not read any more.
    """
    cuts: list[Cut] = field(factory=list)
    trouble: str = TROUBLE_BEFORE_FIRST
    troubles: Counter[str] = field(factory=Counter)
    reads: Counter[str] = field(factory=Counter)
    recovery_seconds: dict[str, float] = field(factory=dict)
    """Trouble → longest time to readiness after one."""
    noticed: Counter[str] = field(factory=Counter)
    """Troubles during which the server reported itself not ready, or degraded."""
    faults: list[str] = field(factory=list)
    """Problems noticed at once."""
    ends: bool = False
    """Nothing new may be started."""

    def note_cut(self, device: str, code: int | None) -> None:
        """Record the end of an open connection."""
        self.cuts.append(Cut(device, code, self.trouble, self.server.is_away))

    def note_change(self, device: str, change: Change) -> None:
        """Record a change from the Python client, which also reports failed attempts."""
        ended = change.state == "ended" and not self.ends
        if ended or (change.state == "disconnected" and isinstance(change.cause, Disconnected)):
            self.note_cut(device, getattr(change.cause, "code", None))

    # --- what clients do ------------------------------------------------------------------------------

    async def make_tasks(self, client: Client, client_id: str, maker: str) -> None:
        """Create tasks one after the other, each under an id that the client repeats until it is answered."""
        number = 0
        while not self.ends:
            title = f"{client_id} {maker} task {number}"
            self.tasks[client_id][title] = await self._told(partial(client.ask, TaskCreate(title=title)), title)
            number += 1
            await trio.sleep(PAUSE_SECONDS)

    async def _told(self, ask: Callable[[], Awaitable[Any]], what: str) -> Told:
        try:
            await ask()
        except CommandFailed as error:
            if error.code in NOT_DONE:
                self.words[what] = f"{error}, during {self.trouble}"
                return Told.REFUSED
            if error.code != "deadline_exceeded":
                self.faults.append(f"{what} was answered with {error.code}: {error}")
            return Told.UNKNOWN
        except Disconnected:
            return Told.UNKNOWN
        return Told.ACCEPTED

    async def post_notifications(self, client_id: str) -> None:
        """Post over REST; without an answer the outcome is unknown, and nothing is repeated."""
        async with httpx.AsyncClient(base_url=self.server.rest_url, trust_env=False, timeout=READ_SECONDS) as http:
            number = 0
            while not self.ends:
                title = f"{client_id} notification {number}"
                body = {"template": "message", "fields": {"title": title, "body": "b"}}
                self.notifications[client_id][title] = await self._posted(http, f"/notifications/{client_id}", body)
                number += 1
                await trio.sleep(PAUSE_SECONDS * 4)

    async def _posted(self, http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Told:
        try:
            answer = await http.post(path, json=body)
        except httpx.HTTPError:
            return Told.UNKNOWN
        if answer.is_success:
            return Told.ACCEPTED
        code = answer.json().get("code")
        if code in NOT_DONE:
            self.words[body["fields"]["title"]] = f"{answer.text}, during {self.trouble}"
            return Told.REFUSED
        if code != "deadline_exceeded":
            self.faults.append(f"a notification was answered with {answer.status_code} {code}")
        return Told.UNKNOWN

    async def ask_questions(self, client: Client, number: int) -> None:
        """Request answers, and record their endings."""
        draw = random.Random(number)
        while not self.ends:
            self.answers.append(await self.answered(client, draw.choice(PROMPTS)))
            await trio.sleep(PAUSE_SECONDS)

    async def answered(self, client: Client, prompt: str) -> AnswerTold:
        """Return one answer of the model, with its ending."""
        text, ending = "", "never ended"
        with trio.move_on_after(ANSWER_SECONDS) as in_time:
            try:
                async with client.generate(_request(prompt)) as answer:
                    async for piece in answer:
                        text += piece
                        in_time.deadline = trio.current_time() + ANSWER_SECONDS
                ending = "cancelled" if answer.was_cancelled else "done"
            except CommandFailed as error:
                ending = error.code
            except Disconnected as error:
                ending = f"disconnected: {error}"
        return AnswerTold(prompt, text, ending)

    async def follow(self, client: Client, told: DeviceTold) -> None:
        """Receive every durable event, acknowledged as the client does it."""
        is_first = True
        async with client.events() as events:
            async for item in events:
                if isinstance(item, ClientEvent):
                    told.note(item.seq, item.event_id or "", _name_of(item.type, item.data))
                elif is_first:
                    is_first = False
                else:
                    told.snapshots += 1

    # --- what is done to the server -------------------------------------------------------------------

    async def walk(self, troubles: tuple[Trouble, ...], seconds: float) -> None:
        """Walk through all troubles repeatedly, in a new order each time; the first round is completed."""
        deadline = trio.current_time() + seconds
        is_first = True
        while is_first or trio.current_time() < deadline:
            for trouble in self.draw.sample(troubles, len(troubles)):
                if not is_first and trio.current_time() >= deadline:
                    return
                await trio.sleep(self.draw.uniform(0.2, 1.0))
                await self._meet(trouble)
            is_first = False

    async def _meet(self, trouble: Trouble) -> None:
        self.trouble = trouble.name
        self.troubles[trouble.name] += 1
        try:
            async with trouble.does(self.server, self.draw):
                seconds = self.draw.uniform(*trouble.seconds)
                with trio.move_on_after(seconds):
                    if trouble.reads_go_on:
                        await self._read_on(trouble.name)
                    await trio.sleep_forever()
        except UnexpectedEnd as error:
            self.faults.append(f"{trouble.name}: {error}")
        began = trio.current_time()
        with trio.move_on_after(READY_SECONDS) as in_time:
            await self.until_ready()
        if in_time.cancelled_caught:
            self.faults.append(f"not ready within {READY_SECONDS:g} s after {trouble.name}: {await self.health()}")
        took = round(trio.current_time() - began, 2)
        self.recovery_seconds[trouble.name] = max(took, self.recovery_seconds.get(trouble.name, 0.0))
        assert self.server.process is not None
        if (status := self.server.process.poll()) is not None:
            self.faults.append(f"the server ended by itself with status {status} after {trouble.name}")
            await self.server.start()

    async def _read_on(self, trouble: str) -> None:
        was_noticed = False
        async with httpx.AsyncClient(base_url=self.server.rest_url, trust_env=False, timeout=READ_SECONDS) as http:
            while True:
                for path in (f"/tasks/{CLIENTS[0]}?limit=5", f"/notifications/{CLIENTS[0]}?limit=5"):
                    try:
                        answer = await http.get(path)
                    except httpx.HTTPError as error:
                        self.faults.append(f"{path} was not answered during {trouble}: {error!r}")
                        continue
                    self.reads[trouble] += 1
                    if answer.status_code != 200:
                        self.faults.append(
                            f"{path} was answered during {trouble} with {answer.status_code}: {answer.text}"
                        )
                if not was_noticed and not await self.is_ready():
                    was_noticed = True
                    self.noticed[trouble] += 1
                await trio.sleep(PAUSE_SECONDS * 2)

    async def health(self) -> Any:
        """Return the server's health."""
        try:
            async with httpx.AsyncClient(base_url=self.server.rest_url, trust_env=False, timeout=READ_SECONDS) as http:
                return (await http.get("/health/ready")).json()
        except (httpx.HTTPError, ValueError) as error:
            return {"status": repr(error)}

    async def until_ready(self) -> None:
        """Wait until it reports no problem."""
        while True:
            if await self.is_ready():
                return
            await trio.sleep(PAUSE_SECONDS)

    async def is_ready(self) -> bool:
        """True if it reports no problem."""
        found = await self.health()
        return found["status"] == "ready" and "degraded" not in found


def _request(prompt: str) -> Generate:
    return Generate(prompt=prompt, max_tokens=1000 if prompt.startswith("count to") else 48, seed=1)


async def until_ready(storm: Storm) -> None:
    """Wait for the server's first readiness. Raises `UnexpectedEnd` if it ends instead."""
    with trio.move_on_after(START_SECONDS):
        await storm.until_ready()
        return
    raise UnexpectedEnd(f"the server was not ready within {START_SECONDS:g} s: {await storm.health()}")


async def under_load(storm: Storm, troubles: tuple[Trouble, ...], seconds: float, walking: trio.CancelScope) -> None:
    """Walk through the troubles while clients write, ask and subscribe, then wait until everything is settled."""
    url = storm.server.websocket_url
    async with trio.open_nursery() as following:
        async with trio.open_nursery() as writing:
            for client_id in CLIENTS:
                plain = _Named()
                witness = PlainWitness(
                    url,
                    seen=plain,
                    client_id=client_id,
                    acknowledged_every=32,
                    on_end=partial(storm.note_cut, f"{client_id}'s plain client"),
                )
                storm.devices[f"{client_id}'s plain client"] = (client_id, plain.told)
                following.start_soon(witness.follow)
                await witness.follows.wait()
                await following.start(_followed, storm, client_id)
                writing.start_soon(_written, storm, client_id)
                writing.start_soon(storm.post_notifications, client_id)
            with walking:
                await storm.walk(troubles, seconds)
            storm.ends = True
            writing.cancel_scope.deadline = trio.current_time() + SETTLE_SECONDS + ANSWER_SECONDS
        if writing.cancel_scope.cancelled_caught:
            storm.faults.append("what was under way did not end")
        await _until_all_are_told(storm)
        following.cancel_scope.cancel()


async def _followed(storm: Storm, client_id: str, task_status: trio.TaskStatus[None]) -> None:
    device, told = f"{client_id}'s Python client", DeviceTold()
    storm.devices[device] = (client_id, told)
    async with connect(
        storm.server.websocket_url,
        client_id=client_id,
        device_id="follower",
        reconnect=True,
        events=True,
        backoff=QUICK,
        on_change=partial(storm.note_change, device),
    ) as client:
        task_status.started()
        await storm.follow(client, told)


async def _written(storm: Storm, client_id: str) -> None:
    async with (
        connect(
            storm.server.websocket_url,
            client_id=client_id,
            device_id="writer",
            reconnect=True,
            detach=True,
            backoff=QUICK,
            on_change=partial(storm.note_change, f"{client_id}'s writer"),
        ) as client,
        trio.open_nursery() as nursery,
    ):
        for maker in ("a", "b"):
            nursery.start_soon(storm.make_tasks, client, client_id, maker)
        for number in range(2):
            nursery.start_soon(storm.ask_questions, client, number)


async def _until_all_are_told(storm: Storm) -> None:
    with trio.move_on_after(SETTLE_SECONDS):
        while True:
            waiting = rows(
                storm.server,
                "SELECT count(*) FROM notification_deliveries WHERE channel = 'in_app' AND state IN ('pending', 'held')",
            )
            storm.heads = dict(rows(storm.server, "SELECT client_id, head FROM client_logs"))
            behind = [told for owner, told in storm.devices.values() if (told.seqs or [0])[-1] < storm.heads[owner]]
            if waiting == [(0,)] and not behind:
                return
            await trio.sleep(PAUSE_SECONDS * 4)


def rows(server: OperatedServer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Read from the server's database, from outside."""
    connection = sqlite3.connect(f"file:{server.data / FILE_NAME}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()
