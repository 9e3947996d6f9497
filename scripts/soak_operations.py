"""An operator's bad days: a real server under load meets a full disk, a read-only disk, a folder that is moved, no free
descriptor, a log that nobody reads, a clock that jumps, and workers and servers that are stopped and killed.

Clients make tasks, post notifications, have answers made and follow their events over all of it. At the end each write
that was accepted is kept once and was told to each device once and in order, each answer is the one that the same
request got undisturbed or ended with an error of its own, nobody who was reading was cut, reads were answered while
the disk was in trouble, and after each trouble the server was ready again by itself.

Each trouble comes at least once, in an order drawn by a seed that the report names. A disk of its own needs root, a
clock of its own Debian's faketime; what is left out for the lack of them is named too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
import trio
from attrs import define, field
from rich.console import Console
from rich.table import Table
from soak_progress import seconds_progress

from actors.storage.database import FILE_NAME
from protocol.client import Change, Client, ClientEvent, CommandFailed, Disconnected, connect
from protocol.commands import Generate
from protocol.tasks import TaskCreate
from tests.system.operated_server import (
    TROUBLES,
    OperatedServer,
    Trouble,
    UnexpectedEnd,
    faketime_library,
    operated_server,
)
from tests.system.operations_ledger import (
    NOT_DONE,
    AnswerTold,
    Cut,
    DeviceTold,
    Told,
    wrong_answers,
    wrong_cuts,
    wrong_writes,
)
from tests.system.restarting_server import QUICK, PlainWitness, Seen

__all__ = ["main", "soak_operations"]

CLIENTS = ("first", "second")
PROMPTS = ("count to 5", "count to 40", "count to 120", "count to 300")
READY_SECONDS = 45.0
"""After a trouble is over the server is ready again within it, without anybody's help."""
START_SECONDS = 120.0
READ_SECONDS = 10.0
"""A read is answered within it, also while the disk is in trouble."""
ANSWER_SECONDS = 120.0
"""An answer that takes longer is stuck."""
SETTLE_SECONDS = 60.0
"""For what was under way at the end, and for all devices to hear of it."""
PAUSE_SECONDS = 0.05
TROUBLE_BEFORE_FIRST = "nothing yet"
TIES_ALLOWED = 1 / 200
"""Of a real model: in float32 two best scores may lie so close that another batch decides between them."""


def main(arguments: list[str]) -> int:
    """`scripts/soak operations [--minutes N] [--engine mlx] [--seed N] [--json]`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long, and at least once through all troubles")
    parser.add_argument("--engine", choices=["mock", "mlx"], default="mock")
    parser.add_argument("--seed", type=int, help="draws the troubles' order; by default another each time")
    parser.add_argument("--json", action="store_true", help="print the report as JSON alone")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    began = time.monotonic()
    report = trio.run(partial(soak_operations, 60 * options.minutes, seed=seed, engine=options.engine))
    seconds = round(time.monotonic() - began, 1)
    report = {"soak": "operations", "is_good": not report["reasons"], "seconds": seconds, "seed": seed, **report}
    if options.json or not sys.stdout.isatty():
        print(json.dumps(report, indent=2))
    else:
        _show(report)
    if report["reasons"]:
        return 1
    return 0 if report["ended_by"] is None else 128 + signal.Signals[report["ended_by"]]


@define
class _Named(Seen):
    """What a follower that looks at frames saw, in the judge's terms."""

    told: DeviceTold = field(factory=DeviceTold)

    def note(self, kind: str, seq: int, data: dict[str, Any]) -> None:
        self.told.note(seq, data["event_id"], _name_of(kind, data))


def _name_of(kind: str, data: dict[str, Any]) -> str | None:
    """Of the write that an event tells of."""
    match kind:
        case "task_created":
            return str(data["task"]["title"])
        case "notification" if data["notification"]["kind"] == "message":
            return str(data["notification"]["title"])
    return None


@define
class _Storm:
    """What is told and done meanwhile."""

    server: OperatedServer
    draw: random.Random
    tasks: dict[str, dict[str, Told]] = field(factory=lambda: {one: {} for one in CLIENTS})
    notifications: dict[str, dict[str, Told]] = field(factory=lambda: {one: {} for one in CLIENTS})
    answers: list[AnswerTold] = field(factory=list)
    twins: dict[str, str] = field(factory=dict)
    devices: dict[str, tuple[str, DeviceTold]] = field(factory=dict)
    """Name → whose it is, and what it was told."""
    cuts: list[Cut] = field(factory=list)
    trouble: str = TROUBLE_BEFORE_FIRST
    troubles: Counter[str] = field(factory=Counter)
    reads: Counter[str] = field(factory=Counter)
    recovery_seconds: dict[str, float] = field(factory=dict)
    """Trouble → the longest it took to be ready after one."""
    noticed: Counter[str] = field(factory=Counter)
    """Troubles during which the server said that it was not ready, or degraded."""
    faults: list[str] = field(factory=list)
    """What was seen at once to be wrong."""
    ends: bool = False
    """Nothing new is to be begun."""
    ended_by: str | None = None

    def note_cut(self, device: str, code: int | None) -> None:
        """A connection that stood has ended."""
        self.cuts.append(Cut(device, code, self.trouble, self.server.is_away))

    def note_change(self, device: str, change: Change) -> None:
        """The same from the Python client, which also tells of attempts in vain."""
        ended = change.state == "ended" and not self.ends
        if ended or (change.state == "disconnected" and isinstance(change.cause, Disconnected)):
            self.note_cut(device, getattr(change.cause, "code", None))

    # --- what clients do ------------------------------------------------------------------------------

    async def make_tasks(self, client: Client, client_id: str, maker: str) -> None:
        """One after the other, each under an id that the client repeats until it is answered."""
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
                return Told.REFUSED
            if error.code != "deadline_exceeded":
                self.faults.append(f"{what} was answered with {error.code}: {error}")
            return Told.UNKNOWN
        except Disconnected:
            return Told.UNKNOWN
        return Told.ACCEPTED

    async def post_notifications(self, client_id: str) -> None:
        """Over REST; without an answer nobody knows, and nothing is repeated."""
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
            return Told.REFUSED
        if code != "deadline_exceeded":
            self.faults.append(f"a notification was answered with {answer.status_code} {code}")
        return Told.UNKNOWN

    async def ask_questions(self, client: Client, number: int) -> None:
        """Have answers made, and keep their ends."""
        draw = random.Random(number)
        while not self.ends:
            self.answers.append(await self._answered(client, draw.choice(PROMPTS)))
            await trio.sleep(PAUSE_SECONDS)

    async def _answered(self, client: Client, prompt: str) -> AnswerTold:
        text, ending = "", "never ended"
        with trio.move_on_after(ANSWER_SECONDS):
            try:
                async with client.generate(_request(prompt)) as answer:
                    async for piece in answer:
                        text += piece
                ending = "cancelled" if answer.was_cancelled else "done"
            except CommandFailed as error:
                ending = error.code
            except Disconnected as error:
                ending = f"disconnected: {error}"
        return AnswerTold(prompt, text, ending)

    async def follow(self, client: Client, told: DeviceTold) -> None:
        """Every durable event, acknowledged as the client does it."""
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
        """Through all troubles again and again, in another order each time; the first time to the end."""
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
            while not await self._is_ready():
                await trio.sleep(PAUSE_SECONDS)
        if in_time.cancelled_caught:
            self.faults.append(f"not ready within {READY_SECONDS:g} s after {trouble.name}: {await self._health()}")
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
                if not was_noticed and not await self._is_ready():
                    was_noticed = True
                    self.noticed[trouble] += 1
                await trio.sleep(PAUSE_SECONDS * 2)

    async def _health(self) -> Any:
        try:
            async with httpx.AsyncClient(base_url=self.server.rest_url, trust_env=False, timeout=READ_SECONDS) as http:
                return (await http.get("/health/ready")).json()
        except (httpx.HTTPError, ValueError) as error:
            return {"status": repr(error)}

    async def _is_ready(self) -> bool:
        found = await self._health()
        return found["status"] == "ready" and "degraded" not in found


def _request(prompt: str) -> Generate:
    return Generate(prompt=prompt, max_tokens=1000 if prompt.startswith("count to") else 48, seed=1)


async def soak_operations(seconds: float, *, seed: int, engine: str = "mock") -> dict[str, Any]:
    """Walk through the troubles for a time, let it settle, and judge. Leaves no process and no mount behind.

    SIGINT and SIGTERM end the walk, and what was done until then is judged.
    """
    with tempfile.TemporaryDirectory(prefix="leanvibe-soak-") as name:
        mebibytes = int(64 + 16 * seconds / 60)
        async with trio.open_nursery() as watching:
            walking = trio.CancelScope()
            ended: list[str] = []
            await watching.start(_watch_for_signals, walking, ended)
            async with operated_server(Path(name), engine=engine, disk_mebibytes=mebibytes) as server:
                storm = _Storm(server, random.Random(seed))
                troubles, left_out = _possible(server)
                try:
                    await _until_ready(storm)
                    async with connect(server.websocket_url, client_id="twin") as client:
                        for prompt in PROMPTS:
                            storm.twins[prompt] = (await storm._answered(client, prompt)).text
                    await _under_load(storm, troubles, seconds, walking)
                    if status := await server.end(signal.SIGTERM):
                        storm.faults.append(f"the server ended with status {status}")
                except* UnexpectedEnd as group:
                    storm.faults += [str(one) for one in group.exceptions]
                storm.ended_by = ended[0] if ended else None
                report = _judged(storm, left_out, ties_allowed=0.0 if engine == "mock" else TIES_ALLOWED)
                report["log"] = _kept(server.log) if report["reasons"] else None
            watching.cancel_scope.cancel()
        return report


async def _watch_for_signals(
    walking: trio.CancelScope, ended: list[str], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            ended.append(signal.Signals(number).name)
            walking.cancel()


def _kept(log: Path) -> str:
    """Where the server's log lies from now on."""
    number, path = tempfile.mkstemp(prefix="leanvibe-soak-", suffix=".log")
    os.close(number)
    shutil.copyfile(log, path)
    return path


def _possible(server: OperatedServer) -> tuple[tuple[Trouble, ...], dict[str, str]]:
    """Which troubles can be made here, and why the others cannot."""
    left_out = {}
    for trouble in TROUBLES:
        if trouble.needs_own_disk and not server.has_own_disk:
            left_out[trouble.name] = "a disk of its own needs root on Linux"
        if trouble.needs_faketime and faketime_library() is None:
            left_out[trouble.name] = "a clock of its own needs libfaketime (apt-get install faketime)"
    return tuple(one for one in TROUBLES if one.name not in left_out), left_out


async def _until_ready(storm: _Storm) -> None:
    with trio.move_on_after(START_SECONDS):
        while not await storm._is_ready():
            await trio.sleep(PAUSE_SECONDS)
        return
    raise UnexpectedEnd(f"the server was not ready within {START_SECONDS:g} s: {await storm._health()}")


async def _under_load(storm: _Storm, troubles: tuple[Trouble, ...], seconds: float, walking: trio.CancelScope) -> None:
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
            with walking, seconds_progress("troubles", seconds):
                await storm.walk(troubles, seconds)
            storm.ends = True
            writing.cancel_scope.deadline = trio.current_time() + SETTLE_SECONDS + ANSWER_SECONDS
        if writing.cancel_scope.cancelled_caught:
            storm.faults.append("what was under way did not end")
        await _until_all_are_told(storm)
        following.cancel_scope.cancel()


async def _followed(storm: _Storm, client_id: str, task_status: trio.TaskStatus[None]) -> None:
    device, told = f"{client_id}'s Python client", DeviceTold()
    storm.devices[device] = (client_id, told)
    options = {"device_id": "follower", "reconnect": True, "events": True, "backoff": QUICK}
    changed = partial(storm.note_change, device)
    async with connect(storm.server.websocket_url, client_id=client_id, on_change=changed, **options) as client:
        task_status.started()
        await storm.follow(client, told)


async def _written(storm: _Storm, client_id: str) -> None:
    options = {"reconnect": True, "detach": True, "backoff": QUICK}
    changed = partial(storm.note_change, f"{client_id}'s writer")
    url = storm.server.websocket_url
    async with (
        connect(url, client_id=client_id, device_id="writer", on_change=changed, **options) as client,
        trio.open_nursery() as nursery,
    ):
        for maker in ("a", "b"):
            nursery.start_soon(storm.make_tasks, client, client_id, maker)
        for number in range(2):
            nursery.start_soon(storm.ask_questions, client, number)


async def _until_all_are_told(storm: _Storm) -> None:
    with trio.move_on_after(SETTLE_SECONDS):
        while True:
            waiting = _rows(
                storm.server,
                "SELECT count(*) FROM notification_deliveries WHERE channel = 'in_app' AND state IN ('pending', 'held')",
            )
            heads = dict(_rows(storm.server, "SELECT client_id, head FROM client_logs"))
            behind = [told for client_id, told in storm.devices.values() if (told.seqs or [0])[-1] < heads[client_id]]
            if waiting == [(0,)] and not behind:
                return
            await trio.sleep(PAUSE_SECONDS * 4)


def _rows(server: OperatedServer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{server.data / FILE_NAME}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def _judged(storm: _Storm, left_out: dict[str, str], *, ties_allowed: float) -> dict[str, Any]:
    reasons = list(dict.fromkeys(storm.faults))
    heads = dict(_rows(storm.server, "SELECT client_id, head FROM client_logs"))
    for client_id in CLIENTS:
        tasks = [one for (one,) in _rows(storm.server, "SELECT title FROM tasks WHERE client_id = ?", client_id)]
        told = "SELECT title FROM notifications WHERE client_id = ? AND kind = 'message'"
        notifications = [one for (one,) in _rows(storm.server, told, client_id)]
        reasons += wrong_writes(f"tasks of {client_id}", storm.tasks[client_id], tasks)
        reasons += wrong_writes(f"notifications of {client_id}", storm.notifications[client_id], notifications)
        for device, (owner, got) in storm.devices.items():
            if owner == client_id:
                to_be_told = [*tasks, *notifications]
                reasons += got.wrong(device, first_seq=1, head=heads[client_id], to_be_told=to_be_told)
    reasons += wrong_answers(storm.answers, storm.twins, ties_allowed=ties_allowed)
    reasons += wrong_cuts(storm.cuts)
    endings = Counter(one.ending for one in storm.answers)
    if storm.ended_by is None:
        reasons += [
            f"{one.name} never came" for one in TROUBLES if not storm.troubles[one.name] and one.name not in left_out
        ]
    if not storm.troubles or not endings["done"] or not all(storm.tasks.values()):
        reasons.append("nothing was put to the test")
    return {
        "reasons": reasons,
        "ended_by": storm.ended_by,
        "troubles": dict(storm.troubles),
        "left_out": left_out,
        "longest_recovery_seconds": storm.recovery_seconds,
        "noticed": dict(storm.noticed),
        "reads_during_trouble": dict(storm.reads),
        "tasks": _counts(storm.tasks),
        "notifications": _counts(storm.notifications),
        "answers": dict(endings),
        "events": {device: len(told.seqs) for device, (_, told) in storm.devices.items()},
        "connections_ended": len(storm.cuts),
    }


def _counts(told: dict[str, dict[str, Told]]) -> dict[str, int]:
    return dict(Counter(one.value for by_name in told.values() for one in by_name.values()))


def _show(report: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"operations, seed {report['seed']}, {report['seconds']:g} s")
    for name in ("trouble", "times", "ready again after at most", "reads meanwhile"):
        table.add_column(name, justify="left" if name == "trouble" else "right")
    for name, times in report["troubles"].items():
        longest = report["longest_recovery_seconds"].get(name)
        reads = report["reads_during_trouble"].get(name, "")
        table.add_row(name, str(times), "" if longest is None else f"{longest:g} s", str(reads))
    console.print(table)
    for name in ("tasks", "notifications", "answers", "events"):
        console.print(f"{name}: " + ", ".join(f"{number} {what}" for what, number in report[name].items()))
    for name, why in report["left_out"].items():
        console.print(f"left out: {name}: {why}")
    for reason in report["reasons"]:
        console.print(f"WRONG: {reason}", style="red", markup=False)
    console.print("good" if report["is_good"] else "not good", style="green" if report["is_good"] else "red")
