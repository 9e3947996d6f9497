"""A storm over connections: a real server is killed with SIGKILL in the middle of a stream of events, again and again.

Two clients of one client id make tasks, two others follow the events across every cut: the Python client, and one
that knows only the protocol's rule and looks at the frames. At the end both must have every acknowledged event once
and in order, no frame may have begun elsewhere than behind the last one, and nothing may have come as a snapshot.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio
from soak_progress import progress, seconds_progress

from protocol.client import connect
from protocol.tasks import TaskCreate
from tests.system.restarting_server import (
    CLIENT_ID,
    QUICK,
    PlainWitness,
    RestartingServer,
    Witness,
    make_tasks,
    restarting_server,
)

__all__ = ["main", "soak_connections"]

KILLS = 20
MAKERS = ("first", "second")
PAUSE_SECONDS = 0.01
EVENTS_BETWEEN_KILLS = 10
UP_SECONDS = 0.2
"""A server lives at most so much longer than it takes both followers to get their events."""
STEP_SECONDS = 60.0
"""For a start, and for all followers to come back and hear something; after that it is stuck, which is a failure."""
LAST = "the last one"


def main(arguments: list[str]) -> int:
    """`scripts/soak connections [--kills N] [--minutes N]`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS, help=f"how many, unless --minutes says; by default {KILLS}")
    parser.add_argument("--minutes", type=float, help="kill for so long, however often that is")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    seconds = None if options.minutes is None else 60 * options.minutes
    report = trio.run(soak_connections, options.kills, seconds)
    seconds_taken = round(time.monotonic() - began, 1)
    is_good = not report["reasons"]
    print(json.dumps({"soak": "connections", "is_good": is_good, "seconds": seconds_taken, **report}, indent=2))
    return 0 if is_good else 1


async def soak_connections(kills: int, seconds: float | None = None, *, seed: int = 1) -> dict[str, Any]:
    """Kill so often, or for so long, and judge. Leaves no process behind."""
    draw = random.Random(seed)
    witness = Witness()
    acknowledged: dict[str, list[str]] = {name: [] for name in MAKERS}
    done = 0
    stuck: str | None = None
    with tempfile.TemporaryDirectory(prefix="leanvibe-soak-") as folder:
        async with restarting_server(Path(folder), LEANVIBE_LOG_LEVEL="error") as server:
            plain = PlainWitness(server.websocket_url)
            url = server.websocket_url
            async with (
                connect(
                    url, client_id=CLIENT_ID, device_id="follower", reconnect=True, events=True, backoff=QUICK
                ) as subscriber,
                connect(url, client_id=CLIENT_ID, device_id="maker", reconnect=True, backoff=QUICK) as maker,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(witness.follow, subscriber)
                nursery.start_soon(plain.follow)
                await plain.follows.wait()
                making: list[trio.CancelScope] = []

                async def make(name: str) -> None:
                    with trio.CancelScope() as scope:
                        making.append(scope)
                        await make_tasks(maker, name, acknowledged[name], pause_seconds=PAUSE_SECONDS)

                for name in MAKERS:
                    nursery.start_soon(make, name)
                deadline = None if seconds is None else trio.current_time() + seconds
                shown = (
                    progress("kills", kills, lambda: done) if seconds is None else seconds_progress("kills", seconds)
                )
                try:
                    with shown:
                        while done < kills if deadline is None else trio.current_time() < deadline:
                            with trio.fail_after(STEP_SECONDS):
                                await _one_life(server, witness, plain, draw)
                            done += 1
                    with trio.fail_after(STEP_SECONDS):
                        for scope in making:
                            scope.cancel()
                        await maker.ask(TaskCreate(title=LAST))
                        for seen in (witness.seen, plain.seen):
                            await seen.until_seen(title=LAST)
                except trio.TooSlowError:
                    stuck = f"after {done} kills something did not come back within {STEP_SECONDS:g} s"
                nursery.cancel_scope.cancel()
    return _judged(witness, plain, acknowledged, done, stuck)


async def _one_life(server: RestartingServer, witness: Witness, plain: PlainWitness, draw: random.Random) -> None:
    """Wait until events flow to both, kill the server at some moment in between, and start the next one."""
    for seen in (witness.seen, plain.seen):
        await seen.until_seen(events=len(seen.seqs) + EVENTS_BETWEEN_KILLS)
    await trio.sleep(draw.uniform(0, UP_SECONDS))
    await server.kill()
    await server.start()


def _judged(
    witness: Witness, plain: PlainWitness, acknowledged: dict[str, list[str]], kills: int, stuck: str | None
) -> dict[str, Any]:
    reasons = [] if stuck is None else [stuck]
    reasons += [f"the Python client: {one}" for one in witness.seen.reasons(acknowledged)]
    reasons += [f"the plain client: {one}" for one in plain.seen.reasons(acknowledged)]
    reasons += [f"the plain client: {one}" for one in plain.faults]
    both = min(len(witness.seen.seqs), len(plain.seen.seqs))
    if witness.seen.event_ids[:both] != plain.seen.event_ids[:both]:
        reasons.append("the two followers were told different events")
    if not kills or not both or not all(acknowledged.values()):
        reasons.append("nothing was put to the test")
    return {
        "reasons": reasons,
        "kills": kills,
        "acknowledged_tasks": sum(len(titles) for titles in acknowledged.values()),
        "events": {"python_client": len(witness.seen.seqs), "plain_client": len(plain.seen.seqs)},
        "connections_of_the_plain_client": plain.connections,
    }
