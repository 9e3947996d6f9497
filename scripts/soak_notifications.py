"""A storm over notifications: a real server and its worker are killed at random while its push service comes and goes.

At the end every notification whose post was answered must have arrived at each device at least once, or be discarded
with a reason, and none may have come under two ids.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio
from soak_progress import progress, seconds_progress
from sqlalchemy import create_engine, text

from actors.inspection.server_file import ServerFile, read_server_file
from actors.storage.database import database_url
from tests.notifications.push_services import CUT, Later, PushServices, push_services

__all__ = ["main", "soak_notifications"]

CLIENT = "soak"
START_SECONDS = 60.0
SETTLE_SECONDS = 240.0
TROUBLE = (500, 503, CUT, Later("1"))
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(arguments: list[str]) -> int:
    """`scripts/soak notifications [--minutes N]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    seconds = 60 * parser.parse_args(arguments).minutes
    report = trio.run(soak_notifications, seconds)
    print(json.dumps({"soak": "notifications", "is_good": not report["reasons"], **report}, indent=2))
    return 1 if report["reasons"] else 0


def _call(server: ServerFile, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{server.rest_url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    with DIRECT.open(request, timeout=10) as response:
        return json.load(response)


class _Server:
    """A server process that is started again after each kill."""

    def __init__(self, folder: Path, services: PushServices) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "LEANVIBE_PUSH_CA_FILE": str(services.ca_file),
            "LEANVIBE_PUSH_ALLOW_PRIVATE": "true",
            "LEANVIBE_PUSH_HOLD_SECONDS": "0",
            # Else the waits between tries outgrow the storm, and little is put to the test.
            "LEANVIBE_PUSH_LONGEST_RETRY_SECONDS": "4",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.at: ServerFile | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "actors.command_line.main", "serve", "--engine", "mock"]
        options = ["--port", "0", "--ws-port", "0", "--data-dir", str(self._folder), "--log-level", "error"]
        log = (self._folder / "server.log").open("ab")
        self.process = subprocess.Popen(  # noqa: ASYNC220  it starts at once
            [*command, *options], env=self._environment, stdout=log, stderr=log, start_new_session=True
        )
        with trio.fail_after(START_SECONDS):
            while True:
                found = read_server_file(self._folder)
                if found is not None and found.pid == self.process.pid:
                    self.at = found
                    return
                if self.process.poll() is not None:
                    raise RuntimeError((self._folder / "server.log").read_text()[-2000:])
                await trio.sleep(0.05)

    async def kill(self) -> None:
        """Kill the server as `kill -9` does."""
        assert self.process is not None
        self.at = None
        self.process.kill()
        await trio.to_thread.run_sync(self.process.wait)


async def soak_notifications(seconds: float, *, seed: int = 1) -> dict[str, Any]:
    """Run the storm for a time, let it settle, and judge. Leaves no process behind."""
    draw = random.Random(seed)
    posted: list[str] = []
    kills = {"server": 0, "worker": 0}
    with tempfile.TemporaryDirectory(prefix="leanvibe-soak-") as name:
        folder = Path(name)
        (folder / "services").mkdir()
        async with push_services(folder / "services") as services:
            server = _Server(folder, services)
            await server.start()
            try:
                await _register(server, services)
                with trio.move_on_after(seconds), seconds_progress("faults", seconds):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_post_on, server, posted)
                        nursery.start_soon(_flap, services, draw)
                        nursery.start_soon(_kill_on, server, draw, kills)
                services.is_down = False
                for plan in services.plans.values():
                    plan.clear()
                if server.process is None or server.process.poll() is not None or server.at is None:
                    if server.process is not None and server.process.poll() is None:
                        await server.kill()
                    await server.start()
                left = await _settle(folder)
            finally:
                with trio.CancelScope(shield=True):
                    await server.kill()
            return _judged(folder, services, posted, kills, left)


async def _register(server: _Server, services: PushServices) -> None:
    browser = {"device_id": "browser", "platform": "web", "subscription": services.subscription("browser")}
    hook = {"device_id": "hook", "platform": "webhook", "url": f"{services.url}/hook/soak", "secret": "s" * 16}
    for device in (browser, hook):
        assert server.at is not None
        await trio.to_thread.run_sync(_call, server.at, "POST", f"/notifications/{CLIENT}/devices", device)


async def _post_on(server: _Server, posted: list[str]) -> None:
    number = 0
    while True:
        if server.at is not None:
            body = {"template": "message", "fields": {"title": f"n{number}"}}
            try:
                answer = await trio.to_thread.run_sync(
                    _call, server.at, "POST", f"/notifications/{CLIENT}", body, abandon_on_cancel=True
                )
                posted.append(answer["notification_id"])
            except (OSError, ValueError, http.client.HTTPException):
                # Whether that one was written is unknown; the database will tell.
                pass
            number += 1
        await trio.sleep(0.05)


async def _flap(services: PushServices, draw: random.Random) -> None:
    while True:
        await trio.sleep(draw.uniform(0.5, 3.0))
        services.is_down = not services.is_down
        for path in ("/push/browser", "/hook/soak"):
            # What nobody ran into is over with its trouble: piled up, it would outlast every number of tries.
            services.plans[path].clear()
            services.plans[path].extend(draw.choices(TROUBLE, k=draw.randrange(3)))


async def _kill_on(server: _Server, draw: random.Random, kills: dict[str, int]) -> None:
    while True:
        await trio.sleep(draw.uniform(1.0, 5.0))
        if draw.random() < 0.5 and server.at is not None:
            try:
                health = await trio.to_thread.run_sync(_call, server.at, "GET", "/health", abandon_on_cancel=True)
                os.kill(health["engine"]["worker_pid"], signal.SIGKILL)
                kills["worker"] += 1
            except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
                # It is being started just now.
                continue
        else:
            await server.kill()
            kills["server"] += 1
            await server.start()


async def _settle(folder: Path) -> int:
    """Wait until nothing waits to be sent; how many still do at the end of the patience."""
    waiting = "SELECT count(*) FROM notification_deliveries WHERE state IN ('pending', 'held')"
    most = left = int(_rows(folder, waiting)[0][0])
    with trio.move_on_after(SETTLE_SECONDS), progress("deliveries", most, lambda: most - left):
        while left != 0:
            await trio.sleep(0.2)
            left = int(_rows(folder, waiting)[0][0])
    return left


def _rows(folder: Path, statement: str) -> list[Any]:
    engine = create_engine(database_url(None, folder))
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(statement))]
    engine.dispose()
    return found


def _judged(
    folder: Path, services: PushServices, posted: list[str], kills: dict[str, int], left: int
) -> dict[str, Any]:
    written = dict(_rows(folder, "SELECT notification_id, title FROM notifications"))
    reasons = [f"{left} deliveries still wait"] if left else []
    lost_posts = [one for one in posted if one not in written]
    if lost_posts:
        reasons.append(f"{len(lost_posts)} posts were answered and not kept")
    discarded = set(
        _rows(
            folder,
            "SELECT notification_id, device_id FROM notification_deliveries "
            "WHERE state IN ('discarded', 'dead') AND reason IS NOT NULL",
        )
    )
    arrived: dict[str, int] = {}
    for device_id, path in (("browser", "/push/browser"), ("hook", "/hook/soak")):
        came = [one for one in services.received if one.path == path]
        ids = [str(one.payload["notification_id"]) for one in came]
        arrived[device_id] = len(ids)
        lost = [one for one in written if one not in ids and (one, device_id) not in discarded]
        if lost:
            reasons.append(f"{len(lost)} never came to {device_id} and have no reason")
        by_title: dict[str, set[str]] = {}
        for one in came:
            by_title.setdefault(one.payload["title"], set()).add(str(one.payload["notification_id"]))
        doubled = [title for title, names in by_title.items() if title.startswith("n") and len(names) > 1]
        if doubled:
            reasons.append(f"{len(doubled)} came to {device_id} under two ids")
    if services.problems:
        reasons.append(f"the push service found {len(services.problems)} requests wrong: {services.problems[0]}")
    if not posted or not kills["server"]:
        reasons.append("nothing was put to the test")
    return {
        "posted": len(posted),
        "written": len(written),
        "kills": kills,
        "arrived_with_repeats": arrived,
        "discarded_with_a_reason": len(discarded),
        "reasons": reasons,
    }
