"""Two whole trees on one PostgreSQL and one Redis: what is done at one is seen at the other."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy.engine import URL

from actors.access.messages import AuthenticationError, CheckIdentity, CreateToken, RevokeToken
from actors.cluster.messages import DescribeCarrier, DescribeCluster
from actors.inference.worker_config import WorkerConfig
from tests.redis_fixture import RedisProcess
from tests.server_fixture import Peer, RunningServer, eventually, running_server

pytestmark = [pytest.mark.integration, pytest.mark.websocket]


@asynccontextmanager
async def two_nodes(
    folder: Path, database: URL, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "600"])
    (folder / "key").write_bytes(os.urandom(32))
    given: dict[str, Any] = {
        "wait": False,
        "database": database.set(drivername="postgresql").render_as_string(hide_password=False),
        "broker": redis.url,
        "cluster_key": folder / "key",
    }
    for name in ("ada", "bob"):
        (folder / name).mkdir()
    async with (
        running_server(folder / "ada", node="ada", **given) as ada,
        running_server(folder / "bob", node="bob", **given) as bob,
    ):
        for one in (ada, bob):
            await eventually(lambda one=one: is_member(one), what="a lease")
            await eventually(lambda one=one: hears(one), what="hearing itself")
        yield ada, bob


async def is_member(server: RunningServer) -> bool:
    return bool((await server.system.reference("cluster/membership").ask(DescribeCluster(), timeout=60)).is_member)


async def hears(server: RunningServer) -> bool:
    return (await server.system.reference("cluster/hearer").ask(DescribeCarrier(), timeout=60)).problem is None


async def readiness(server: RunningServer) -> dict[str, Any]:
    async with server.http() as http:
        return dict((await http.get("/health/ready")).json())


async def is_degraded(server: RunningServer) -> bool:
    """Whether it says that it does not hear, and names no other reason than the engine, which these tests do without."""
    found = await readiness(server)
    return any("cluster/hearer" in one for one in found.get("degraded", ())) and all(
        "engine" in one for one in found["reasons"]
    )


async def is_sound(server: RunningServer) -> bool:
    return not any("cluster" in one for one in (await readiness(server)).get("degraded", ()))


async def create(server: RunningServer, *titles: str) -> None:
    async with server.http() as http:
        for title in titles:
            answer = await http.post("/tasks/tester", json={"title": title}, headers={"X-Client-Id": "tester"})
            assert answer.status_code == 201, answer.text


async def seen(peer: Peer, count: int) -> list[tuple[int, str]]:
    """Number and title of the next events."""
    events = []
    while len(events) < count:
        message = await peer.receive()
        if message["type"] == "task_created":
            events.append((message["seq"], message["data"]["task"]["title"]))
    return events


async def test_cn8_what_is_done_at_one_node_reaches_the_other_in_order_and_once_with_and_without_a_broker(
    tmp_path: Path, postgresql_database: URL, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, postgresql_database, redis, monkeypatch) as (ada, bob), bob.peer() as peer:
        await create(ada, "one", "two", "three")
        first = await seen(peer, 3)
        redis.kill()
        await eventually(lambda: is_degraded(bob), what="degraded")
        await create(ada, "four", "five")
        await create(bob, "six")
        second = await seen(peer, 3)
        redis.start()
        await eventually(lambda: hears(bob), what="hearing again")
        await create(ada, "seven")
        await eventually(lambda: is_sound(bob), what="sound again")
        third = await seen(peer, 1)
        everything = [*first, *second, *third]
        assert [title for _, title in everything] == ["one", "two", "three", "four", "five", "six", "seven"]
        numbers = [number for number, _ in everything]
        assert numbers == sorted(set(numbers))


async def test_cn9_a_token_that_is_revoked_at_one_node_is_refused_at_the_other_within_five_seconds(
    tmp_path: Path, postgresql_database: URL, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes(tmp_path, postgresql_database, redis, monkeypatch) as (ada, bob):
        made = await ada.system.reference("access").ask(CreateToken(client_ids=("zoe",)), timeout=60)

        async def is_known(server: RunningServer, token: str | None) -> bool:
            try:
                await server.system.reference("access").ask(CheckIdentity(client_id=None, token=token), timeout=60)
            except AuthenticationError:
                return False
            return True

        async def is_refused(server: RunningServer, token: str) -> bool:
            return not await is_known(server, token)

        await eventually(lambda: is_known(bob, made.token))
        await ada.system.reference("access").ask(RevokeToken(made.description.token_id), timeout=60)
        began = time.monotonic()
        await eventually(lambda: is_refused(bob, made.token))
        assert time.monotonic() - began < 5
        # Each node's command line has a token of its own, and neither takes the other's away.
        await eventually((tmp_path / "bob" / "cli-token").exists)
        texts = [(tmp_path / name / "cli-token").read_text().strip() for name in ("ada", "bob")]
        assert texts[0] != texts[1]
        await trio.sleep(2.5)
        for server in (ada, bob):
            for text in texts:
                assert await is_known(server, text)
