"""Every actor of the tree meets every fault of the operating system: the others continue, and so does it afterwards."""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from actors.access.local_token import LOCAL_TOKEN_FILE
from actors.inspection import actor as inspector
from runtime import ActorSystem
from runtime.inspection import readiness, restart
from runtime.testing import crash
from tests.failpoints import ERRNO_NAMES, system_fault
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


async def use_everything(
    server: RunningServer, http: httpx.AsyncClient, round_name: str, *, asks: bool = True
) -> dict[str, int]:
    """Send a request to each service over REST. Returns the statuses. A question waits while there is no engine."""
    question = {"type": "message", "content": "count to 2", "max_tokens": 4}
    device = {"device_id": "w", "platform": "webhook", "url": "https://192.0.2.1/", "secret": "0123456789abcdef"}
    answers = {
        "live": await http.get("/health/live"),
        "ready": await http.get("/health/ready"),
        "health": await http.get("/health"),
        "metrics": await http.get("/metrics"),
        "models": await http.get("/models"),
        "create": await http.post("/tasks/a", json={"title": round_name}),
        "list": await http.get("/tasks/a?limit=1"),
        "ask": await http.post("/ai/process", json=question) if asks else await http.get("/conversations/a"),
        "device": await http.post("/notifications/a/devices", json=device),
        "key": await http.get("/push/key"),
        "notify": await http.post(
            "/notifications/a", json={"template": "message", "fields": {"title": "x", "body": "y"}}
        ),
    }
    with suppress(OSError, ValueError):
        await server.inspect({"command": "tree"})
    return {name: answer.status_code for name, answer in answers.items()}


def places(system: ActorSystem) -> list[str]:
    return [one.path for one in system.records() if not one.is_supervisor]


async def test_op_no_fault_of_the_system_in_one_actor_is_anybody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is restarted under each fault, which no start may mistake for its own."""
    monkeypatch.setattr(inspector, "LOOK_SECONDS", 0.1)
    met: dict[str, set[str]] = {}
    async with running_server(tmp_path, spare_worker="on") as server:
        system = server.system
        for path in places(system):
            place = system.record(path)
            # A worker is a separate process, which takes a second to start.
            names = ["EMFILE"] if path.startswith("inference/engines") else ERRNO_NAMES
            for name in names:
                others = {one: system.record(one).incarnation for one in places(system) if one != path}
                what = f"{path} with {name}"
                place.failures_in_a_row = 0
                # An outdated token of the command line, for `access` to remove.
                (tmp_path / LOCAL_TOKEN_FILE).touch()
                with system_fault(path, getattr(errno, name)) as hit:
                    with suppress(Exception):
                        await restart(system, path)
                    if path != "rest" and name == "EMFILE":
                        async with server.http() as http:
                            statuses = await use_everything(server, http, what, asks=not path.startswith("inference/"))
                        assert statuses["live"] == 200, what
                        assert {one for one in statuses.values() if one >= 500} <= {503, 504}, (what, statuses)
                    met.setdefault(path, set()).update(hit)
                place.failures_in_a_row = 0
                await eventually(lambda place=place: place.life is not None and place.life.is_ready, what=what)
                assert {one: system.record(one).incarnation for one in others} == others, what
                assert system.stopping_reason is None, what
        await server.until_engine_is("ready")

        def is_well() -> bool:
            state = readiness(system)
            return state.is_ready and not state.degraded

        await eventually(is_well, what="ready again, with nothing missing")
        async with server.http() as http:
            statuses = await use_everything(server, http, "afterwards")
        assert max(statuses.values()) < 400, statuses
    # The faults were real: each of these makes system calls when it starts or works.
    assert {path for path, what in met.items() if what} >= {
        "inspection",
        "access",
        "storage/writer",
        "storage/readers",
        "inference/engines/1",
        "connections/listener",
        "rest",
    }


async def test_op_a_helper_that_fails_for_any_reason_takes_nobody_down(tmp_path: Path) -> None:
    """Ten times at once, by a bug: its supervisor does not give up."""
    async with running_server(tmp_path, wait=False) as server:
        for path in ("inspection", "notifications/dispatcher", "inference/standby"):
            place = server.system.record(path)
            for _ in range(10):
                await eventually(lambda place=place: place.life is not None and place.life.is_ready, what=path)
                place.failures_in_a_row = 0
                crash(server.system, path, ValueError("a bug"))
                await trio.testing.wait_all_tasks_blocked()
        assert server.system.stopping_reason is None
        async with server.http() as http:
            assert (await http.get("/health/live")).status_code == 200
            assert (await http.get("/tasks/a")).status_code == 200
        await eventually(lambda: not readiness(server.system).degraded, what="all helpers back")


async def test_op_readiness_says_what_helper_is_missing_and_stays_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "LOOK_SECONDS", 0.05)
    async with running_server(tmp_path) as server, server.http() as http:
        with system_fault("inspection", errno.EROFS):
            await restart(server.system, "inspection")
            answer = await http.get("/health/ready")
            assert answer.status_code == 200
            assert answer.json()["status"] == "ready"
            (reason,) = answer.json()["degraded"]
            assert "server.json is not there: Read-only file system" in reason
        await eventually((tmp_path / "server.json").exists, what="server.json")
        await eventually(lambda: not readiness(server.system).degraded, what="all well")
        assert "degraded" not in (await http.get("/health/ready")).json()


async def test_op_a_data_folder_that_is_moved_and_comes_back_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "LOOK_SECONDS", 0.05)
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    async with running_server(folder) as server, server.http() as http:
        folder.rename(elsewhere)
        crash(server.system, "inference/engines/1", RuntimeError("and the worker dies"))
        await server.until_engine_is("ready")
        assert (await http.get("/tasks/a")).status_code == 200
        await eventually(lambda: readiness(server.system).degraded, what="said so")
        elsewhere.rename(folder)
        await eventually(lambda: not readiness(server.system).degraded, what="all well")
        (answer,) = await server.inspect({"command": "tree"})
        assert answer["is_ready"]
        pid = (await server.engine()).worker_pid
        assert json.loads((folder / "server.json").read_text(encoding="utf-8"))["worker_pid"] == pid
