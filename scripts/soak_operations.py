"""An operator's bad days: a real server under load meets a full disk, a read-only disk, a folder that is moved, no free
descriptor, a log that nobody reads, a clock that jumps, and workers and servers that are stopped and killed.

Clients make tasks, post notifications, have answers made and follow their events over all of it. At the end each write
that was accepted is kept once and reached each device once and in order, each answer is the one that the same
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
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio
from rich.console import Console
from rich.table import Table
from soak_progress import seconds_progress

from protocol.client import connect
from tests.system.operated_server import (
    TROUBLES,
    OperatedServer,
    Trouble,
    UnexpectedEnd,
    faketime_library,
    operated_server,
)
from tests.system.operations_ledger import Told, wrong_answers, wrong_cuts, wrong_writes
from tests.system.operations_storm import CLIENTS, PROMPTS, Storm, rows, under_load, until_ready

__all__ = ["main", "soak_operations"]

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
                storm = Storm(server, random.Random(seed))
                troubles, left_out = _possible(server)
                try:
                    await until_ready(storm)
                    async with connect(server.websocket_url, client_id="twin") as client:
                        for prompt in PROMPTS:
                            storm.twins[prompt] = (await storm.answered(client, prompt)).text
                    with seconds_progress("troubles", seconds):
                        await under_load(storm, troubles, seconds, walking)
                    if status := await server.end(signal.SIGTERM):
                        storm.faults.append(f"the server ended with status {status}")
                except* UnexpectedEnd as group:
                    storm.faults += [str(one) for one in group.exceptions]
                ended_by = ended[0] if ended else None
                report = _judged(storm, left_out, ended_by, ties_allowed=0.0 if engine == "mock" else TIES_ALLOWED)
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
    """Copy the server's log aside and return its path."""
    number, path = tempfile.mkstemp(prefix="leanvibe-soak-", suffix=".log")
    os.close(number)
    shutil.copyfile(log, path)
    return path


def _possible(server: OperatedServer) -> tuple[tuple[Trouble, ...], dict[str, str]]:
    """Return the troubles that can be caused on this machine, and the reason for each that cannot."""
    left_out = {}
    for trouble in TROUBLES:
        if trouble.needs_own_disk and not server.has_own_disk:
            left_out[trouble.name] = "a disk of its own needs root on Linux"
        if trouble.needs_faketime and faketime_library() is None:
            left_out[trouble.name] = "a clock of its own needs libfaketime (apt-get install faketime)"
    return tuple(one for one in TROUBLES if one.name not in left_out), left_out


def _judged(storm: Storm, left_out: dict[str, str], ended_by: str | None, *, ties_allowed: float) -> dict[str, Any]:
    reasons = list(dict.fromkeys(storm.faults))
    refused_and_kept: dict[str, str] = {}
    for client_id in CLIENTS:
        tasks = [one for (one,) in rows(storm.server, "SELECT title FROM tasks WHERE client_id = ?", client_id)]
        told = "SELECT title FROM notifications WHERE client_id = ? AND kind = 'message'"
        notifications = [one for (one,) in rows(storm.server, told, client_id)]
        refused_and_kept |= {one: storm.words[one] for one in (*tasks, *notifications) if one in storm.words}
        reasons += wrong_writes(f"tasks of {client_id}", storm.tasks[client_id], tasks)
        reasons += wrong_writes(f"notifications of {client_id}", storm.notifications[client_id], notifications)
        for device, (owner, got) in storm.devices.items():
            if owner == client_id:
                to_be_told = [*tasks, *notifications]
                reasons += got.wrong(device, first_seq=1, head=storm.heads.get(client_id, 0), to_be_told=to_be_told)
    reasons += wrong_answers(storm.answers, storm.twins, ties_allowed=ties_allowed)
    reasons += wrong_cuts(storm.cuts)
    endings = Counter(one.ending for one in storm.answers)
    if ended_by is None:
        reasons += [
            f"{one.name} never came" for one in TROUBLES if not storm.troubles[one.name] and one.name not in left_out
        ]
    if not storm.troubles or not endings["done"] or not all(storm.tasks.values()):
        reasons.append("nothing was put to the test")
    return {
        "reasons": reasons,
        "refused_and_kept": refused_and_kept,
        "ended_by": ended_by,
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
