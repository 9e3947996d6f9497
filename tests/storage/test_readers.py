"""Database connections of readers and writer when they end, in order or not."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from sqlalchemy import Connection, text

from actors.storage.database import FILE_NAME, database_url
from actors.storage.log import OPEN_LOG
from actors.storage.messages import Operation, Outcome, Query
from runtime import ActorDead, ActorSystem
from runtime.child_record import State
from runtime.testing import crash
from tests.database_fixture import fresh_database
from tests.server_fixture import eventually
from tests.storage_service import storage_service


def open_files(database: Path) -> int:
    """Return the number of this process's descriptors that refer to the database."""
    wanted, found = database.stat(), 0
    for descriptor in Path("/dev/fd").iterdir():
        try:
            found += os.path.samestat(os.fstat(int(descriptor.name)), wanted)
        except OSError:
            # The descriptor that listed them.
            continue
    return found


async def test_a_query_that_runs_when_the_service_stops_leaves_no_connection_open(tmp_path: Path) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(connection: Connection, _: None) -> None:
        connection.execute(text("SELECT 1")).all()
        has_begun.set()
        may_end.wait()

    slow = Query("slow", wait)
    fresh_database(tmp_path)
    database = tmp_path / FILE_NAME
    async with trio.open_nursery() as nursery:
        async with storage_service(database_url(None, tmp_path), queries=[slow]) as service:

            async def ask() -> None:
                # The error of an ask whose service has stopped meanwhile.
                with suppress(Exception):
                    await service.storage.read(slow, None)

            nursery.start_soon(ask)
            await eventually(has_begun.is_set)
            assert open_files(database) >= 1

            async def let_it_end() -> None:
                # The service has told its reader to stop by now, or is about to.
                await trio.testing.wait_all_tasks_blocked(0.05)
                may_end.set()

            nursery.start_soon(let_it_end)
        assert open_files(database) == 0


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the garbage collector, so that leaked connections stay open and are noticed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def cancel(system: ActorSystem, path: str, error: Exception) -> None:
    life = system.record(path).life
    assert life is not None
    life.scope.cancel(reason=str(error))


SELECT: Query[None, Any] = Query("select", lambda connection, _: connection.execute(text("SELECT 1")).scalar())


@pytest.mark.parametrize("end", [crash, cancel])
@pytest.mark.parametrize("path", ["readers", "writer"])
@pytest.mark.usefixtures("no_collector")
async def test_an_actor_that_says_no_good_bye_leaves_no_connection_open(
    tmp_path: Path, path: str, end: Callable[[ActorSystem, str, Exception], None]
) -> None:
    database = Path(str(fresh_database(tmp_path).database))
    async with storage_service(database_url(None, tmp_path), queries=[SELECT]) as service:
        if path == "readers":
            assert await service.storage.read(SELECT, None) == 1
        else:
            await service.storage.transact(OPEN_LOG, "me", client_id="me")
        assert open_files(database) == 1
        end(service.system, path, RuntimeError("on purpose"))
        await eventually(lambda: service.system.record(path).incarnation == 2)
        assert open_files(database) == 0


@pytest.mark.parametrize("path", ["readers", "writer"])
@pytest.mark.usefixtures("no_collector")
async def test_a_crash_waits_for_the_thread_that_has_a_connection_and_closes_it(tmp_path: Path, path: str) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def wait(connection: Connection, _: str) -> Outcome[str]:
        connection.execute(text("SELECT 1")).all()
        has_begun.set()
        may_end.wait()
        return Outcome(value="")

    query: Query[str, Any] = Query("slow", wait)
    operation: Operation[str, str] = Operation("slow", wait, str)
    database = Path(str(fresh_database(tmp_path).database))
    async with storage_service(database_url(None, tmp_path), operations=[operation], queries=[query]) as service:

        async def ask() -> None:
            storage = service.storage
            asked = storage.read(query, "") if path == "readers" else storage.transact(operation, "", client_id="me")
            with pytest.raises(ActorDead):
                await asked

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await eventually(has_begun.is_set)
            crash(service.system, path, RuntimeError("on purpose"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert service.system.record(path).incarnation == 1
            assert open_files(database) == 1
            may_end.set()
            await eventually(lambda: service.system.record(path).incarnation == 2)
        assert open_files(database) == 0


async def test_a_query_and_a_write_that_run_when_the_service_is_told_to_stop_are_answered(tmp_path: Path) -> None:
    begun, may_end = [threading.Event(), threading.Event()], threading.Event()

    def read(connection: Connection, _: None) -> str:
        begun[0].set()
        may_end.wait()
        return "read"

    def write(connection: Connection, _: None) -> Outcome[str]:
        begun[1].set()
        may_end.wait()
        return Outcome(value="written")

    query: Query[None, str] = Query("slow", read)
    operation: Operation[None, str] = Operation("slow", write, str)
    fresh_database(tmp_path)
    answers: list[str] = []
    async with (
        trio.open_nursery() as nursery,
        storage_service(database_url(None, tmp_path), operations=[operation], queries=[query]) as service,
    ):

        async def ask_to_read() -> None:
            answers.append(await service.storage.read(query, None))

        async def ask_to_write() -> None:
            answers.append((await service.storage.transact(operation, None, client_id="me")).value)

        nursery.start_soon(ask_to_read)
        nursery.start_soon(ask_to_write)
        await eventually(lambda: all(one.is_set() for one in begun))

        async def let_them_end() -> None:
            await eventually(lambda: service.system.record("readers").state is State.STOPPING)
            may_end.set()

        nursery.start_soon(let_them_end)
    assert sorted(answers) == ["read", "written"]
