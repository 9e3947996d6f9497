"""Two nodes that write to one database: nothing is lost, done twice or undone, and nobody waits for somebody who waits for them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sqlalchemy
import trio
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from actors.errors import CommandError
from actors.storage.client_locks import lock_everything
from actors.storage.database import open_engine
from actors.storage.log import LOG_PAGE, LogPageQuery
from actors.storage.messages import Committed, IdempotencyKey, LogEvent, Operation, Outcome
from tests.storage_service import StorageService, storage_service

pytestmark = pytest.mark.integration


def note(_: Any, what: str) -> Outcome[str]:
    return Outcome(value=what, events=(LogEvent(type="noted", channel="tasks", data={"what": what}),))


NOTE: Operation[str, str] = Operation("note", note, str)


def rooms(url: URL) -> tuple[Any, Any]:
    return tuple(storage_service(url, operations=(NOTE,), holder=f"node {one}", node=one) for one in ("ada", "bob"))  # type: ignore[return-value]


async def test_cn1_one_command_at_two_nodes_at_once_is_carried_out_once_and_answered_twice(
    postgresql_database: URL,
) -> None:
    first, second = rooms(postgresql_database)
    async with first as ada, second as bob:
        for number in range(15):
            key = IdempotencyKey(client_id="me", device_id="phone", command_id=f"c{number}", digest="d")
            answers: list[Committed[str]] = []

            async def send(room: StorageService, what: str, key: IdempotencyKey = key, to: Any = answers) -> None:
                to.append(await room.storage.transact(NOTE, what, client_id="me", key=key, timeout=30))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, ada, "by ada")
                nursery.start_soon(send, bob, "by bob")
            assert sorted(one.is_repeat for one in answers) == [False, True]
            assert answers[0].value == answers[1].value
            assert answers[0].head == answers[1].head == number + 1


async def test_cn2_batches_that_name_clients_in_opposite_order_never_deadlock(postgresql_database: URL) -> None:
    """Each node's writer joins what waits into one transaction; each event has its number, and none is missing."""
    first, second = rooms(postgresql_database)
    count = itertools.count()
    async with first as ada, second as bob:

        async def write(room: StorageService, client_id: str) -> None:
            await room.storage.transact(NOTE, str(next(count)), client_id=client_id, timeout=60)

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for client in ("one", "two", "three"):
                    nursery.start_soon(write, ada, client)
                for client in ("three", "two", "one"):
                    nursery.start_soon(write, bob, client)
        for client in ("one", "two", "three"):
            page = await bob.storage.read(LOG_PAGE, LogPageQuery(client_id=client, after_seq=0))
            assert [one.seq for one in page.events] == list(range(1, 21))
    engine = sqlalchemy.create_engine(postgresql_database)
    with engine.connect() as connection:
        assert (
            connection.execute(
                text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            ).scalar()
            == 0
        )
    engine.dispose()


async def test_cn3_a_node_that_stands_still_within_a_transaction_keeps_nobody_from_writing(
    postgresql_database: URL,
) -> None:
    still = open_engine(postgresql_database, writes=True, node="still", holder="still")
    first, _ = rooms(postgresql_database)

    async def is_written(room: StorageService) -> bool:
        try:
            await room.storage.transact(NOTE, "x", client_id="me", timeout=30)
        except CommandError:
            return False
        return True

    connection = still.connect()
    transaction = connection.begin()
    lock_everything(connection)
    async with first as ada:
        with trio.fail_after(60):
            while not await is_written(ada):
                pass
    with pytest.raises(DBAPIError, match="idle-in-transaction timeout"):
        connection.execute(text("SELECT 1"))
    transaction.close()
    connection.close()
    still.dispose()
