"""Leases of nodes: renewed on the database's clock, one server a name, and nobody is declared dead in haste."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import trio
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from actors.assistant.assist_store import RUNNING_ASSISTS
from actors.cluster.membership import Membership, MembershipSettings, Streak
from actors.cluster.messages import ClusterHealth, DescribeCluster, NodeDescription
from actors.cluster.store import LIST_NODES, OPERATIONS, QUERIES
from actors.command_line.serve_cluster import wait_for_name
from actors.storage.database import open_engine
from actors.storage.log import OPEN_LOG
from runtime import ChildSpec
from tests.server_fixture import eventually
from tests.storage_service import StorageService, storage_service
from tests.system.serving_process import leanvibe


def node(url: URL, name: str, address: str = "http://here") -> AbstractAsyncContextManager[StorageService]:
    about = MembershipSettings(node=name, version="1", model="mock", address=address)
    return storage_service(
        url,
        operations=OPERATIONS,
        queries=QUERIES,
        holder=f"node {address}",
        node=name,
        children=lambda _, storage: [ChildSpec(id="membership", start=lambda: Membership(about, storage))],
    )


async def health(room: StorageService) -> ClusterHealth:
    found: ClusterHealth = await room.system.reference("membership").ask(DescribeCluster(), timeout=60)
    return found


async def joined(room: StorageService) -> None:
    async def is_member() -> bool:
        return (await health(room)).is_member

    await eventually(is_member)


async def listed(room: StorageService) -> dict[str, NodeDescription]:
    return {one.node: one for one in await room.storage.read(LIST_NODES, None, timeout=60)}


@pytest.fixture
def operator(postgresql_database: URL) -> Iterator[Engine]:
    engine = sqlalchemy.create_engine(postgresql_database, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def test_cn4_after_an_outage_everybody_renews_before_anybody_reaps() -> None:
    streak = Streak()
    for now in range(0, 10_000, 2_000):
        streak.renewed(now)
        assert not streak.may_reap
    streak.renewed(10_000)
    assert streak.may_reap
    # The longest outage that does not count: whoever renewed last before it does so again before its lease is over.
    streak.renewed(14_000)
    assert streak.may_reap
    streak.renewed(18_001)
    assert not streak.may_reap
    for now in range(20_000, 28_000, 2_000):
        streak.renewed(now)
        assert not streak.may_reap
    streak.renewed(28_001)
    assert streak.may_reap
    # The database's clock was set back.
    streak.renewed(20_000)
    assert not streak.may_reap
    streak.renewed(22_000)
    streak.broken()
    assert not streak.may_reap


@pytest.mark.integration
async def test_cn5_a_name_is_one_servers_and_free_when_it_leaves(postgresql_database: URL) -> None:
    async with node(postgresql_database, "ada", "http://first") as first:
        await joined(first)
        async with node(postgresql_database, "ada", "http://second") as second:
            await eventually(lambda: _says(second, "another server is the node 'ada': the one at http://first"))
            assert (await health(first)).is_member
        async with node(postgresql_database, "bob") as bob:
            await joined(bob)
            assert {name: one.state for name, one in (await listed(bob)).items()} == {"ada": "alive", "bob": "alive"}
    async with node(postgresql_database, "ada", "http://second") as second:
        await joined(second)
        assert (await listed(second))["bob"].state == "left"


async def _says(room: StorageService, sentence: str) -> bool:
    return sentence in ((await health(room)).problem or "")


@pytest.mark.integration
async def test_cn6_a_silent_node_is_declared_dead_and_one_that_was_comes_back_as_another(
    postgresql_database: URL, operator: Engine
) -> None:
    async with node(postgresql_database, "ada") as ada:
        await joined(ada)
        before = (await listed(ada))["ada"].incarnation
        with operator.connect() as connection:
            connection.execute(
                text(
                    "INSERT INTO nodes (node, incarnation, state, seen_ms, version, model, address) "
                    "SELECT 'ghost', 'x', 'alive', seen_ms - 60000, '1', 'mock', '' FROM nodes WHERE node = 'ada'"
                )
            )
        assert (await listed(ada))["ghost"].state == "silent"

        async def is_dead() -> bool:
            return (await listed(ada))["ghost"].state == "dead"

        await eventually(is_dead)
        assert (await listed(ada))["ada"].incarnation == before
        with operator.connect() as connection:
            connection.execute(text("UPDATE nodes SET state = 'dead' WHERE node = 'ada'"))

        async def is_another() -> bool:
            found = (await listed(ada))["ada"]
            return found.state == "alive" and found.incarnation != before

        await eventually(is_another)


@pytest.mark.integration
async def test_cn7_epochs_of_logs_that_have_not_begun_are_the_same_at_every_node(postgresql_database: URL) -> None:
    async def epoch(room: StorageService) -> str:
        return (await room.storage.transact(OPEN_LOG, "zoe", client_id="zoe", timeout=60)).value

    async with node(postgresql_database, "ada") as ada:
        await joined(ada)
        first = await epoch(ada)
        async with node(postgresql_database, "bob") as bob:
            await joined(bob)
            assert await epoch(bob) == first
        assert await epoch(ada) == first
    # As after every start of a server of its own: what is there may have been restored from a copy.
    async with node(postgresql_database, "ada") as ada:
        await joined(ada)
        assert await epoch(ada) != first


@pytest.mark.integration
async def test_cn10_the_command_lists_nodes_without_a_server_and_a_taken_name_ends_the_start(
    postgresql_database: URL, tmp_path: Path
) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    given = {
        "LEANVIBE_DATABASE": postgresql_database.set(drivername="postgresql").render_as_string(hide_password=False),
        "LEANVIBE_BROKER": "redis://127.0.0.1:1",
        "LEANVIBE_CLUSTER_KEY": str(tmp_path / "key"),
    }

    async def command(*words: str) -> Any:
        return await trio.to_thread.run_sync(lambda: leanvibe(tmp_path, *words, **given))

    assert (await command("cluster", "--json")).returncode == 1
    async with node(postgresql_database, "ada", "http://first") as ada:
        await joined(ada)
        done = await command("cluster", "--json")
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["nodes"]
        assert (found["node"], found["state"], found["address"]) == ("ada", "alive", "http://first")
        assert found["age_ms"] < 10_000
        assert "1 of 1 nodes are alive" in (await command("cluster")).stdout
        engine = sqlalchemy.create_engine(postgresql_database)
        with pytest.raises(SystemExit):
            await trio.to_thread.run_sync(wait_for_name, engine, "ada")
        await trio.to_thread.run_sync(wait_for_name, engine, "bob")
        engine.dispose()


@pytest.mark.integration
async def test_cn11_what_a_node_runs_no_other_takes_up_while_anybody_is_there(postgresql_database: URL) -> None:
    engines = {name: open_engine(postgresql_database, writes=True, node=name) for name in ("ada", "bob")}
    alone = open_engine(postgresql_database, writes=True)
    begun = "INSERT INTO assists (stream, client_id, domain, command_id, started_ms) VALUES (:stream, 'zoe', '', :stream, 1)"

    def found(engine: Engine) -> set[str]:
        with engine.connect() as connection:
            return {one.stream for one in RUNNING_ASSISTS.function(connection, None)}

    try:
        async with node(postgresql_database, "ada") as ada:
            await joined(ada)
            for name, engine in {**engines, "nobody": alone}.items():
                with engine.begin() as connection:
                    connection.execute(text(begun), {"stream": f"of {name}"})
            async with node(postgresql_database, "bob") as bob:
                await joined(bob)
                assert found(engines["ada"]) == {"of ada"}
                assert found(engines["bob"]) == {"of bob"}
        everything = {"of ada", "of bob", "of nobody"}
        assert found(engines["bob"]) == everything
        assert found(alone) == everything
    finally:
        for engine in (*engines.values(), alone):
            engine.dispose()
