"""One server at a time on one database: a second one is told who has it, and a lost lock means no more writes."""

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import trio
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL

from actors.errors import CommandError
from actors.storage.database import database_url, open_engine
from actors.storage.errors import DatabaseHeld
from actors.storage.holding import holder_name, holding_file
from actors.storage.messages import DescribeStorage, Operation, Outcome
from actors.storage.schema import prepare_database
from tests.server_fixture import eventually
from tests.storage_service import StorageService, storage_service

FIRST, SECOND = holder_name("http://127.0.0.1:8000"), holder_name("http://127.0.0.1:9000")


def note(connection: Any, name: str) -> Outcome[str]:
    connection.execute(text("INSERT INTO client_logs (client_id, epoch, head) VALUES (:name, 'e', 0)"), {"name": name})
    return Outcome(value=name)


NOTE: Operation[str, str] = Operation("note", note, str)


async def write(service: StorageService, name: str) -> str:
    """Write a note. Returns `stored`, or the code of the rejection."""
    try:
        await service.storage.transact(NOTE, name, client_id="me", timeout=15)
    except CommandError as refusal:
        return refusal.code.value
    return "stored"


async def problem(service: StorageService) -> str | None:
    health = await service.storage.writer.ask(DescribeStorage(), timeout=60)
    assert health.is_writable == (health.problem is None)
    return str(health.problem) if health.problem else None


def test_a_servers_name_says_where_it_is_and_fits() -> None:
    name = holder_name("http://" + "a" * 100 + ":8000")
    assert len(name) <= 63
    assert ", process " in name
    assert name.isascii()


@pytest.mark.integration
def test_a_second_server_is_refused_at_start_with_the_address_of_the_first(postgresql_database: URL) -> None:
    engine = open_engine(postgresql_database, writes=True, holder=FIRST)
    sentence = r"the server at http://127\.0\.0\.1:8000 on .*, process \d+ uses this"
    with engine.connect(), pytest.raises(DatabaseHeld, match=sentence):
        prepare_database(postgresql_database, SECOND)
    engine.dispose()
    assert prepare_database(postgresql_database, SECOND)


@pytest.mark.integration
def test_the_refusal_tells_no_password(postgresql_database: URL) -> None:
    engine = open_engine(postgresql_database, writes=True, holder=FIRST)
    with engine.connect(), pytest.raises(DatabaseHeld) as caught:
        prepare_database(postgresql_database.set(password="hush-hush"), SECOND)
    engine.dispose()
    assert "hush" not in str(caught.value)


@pytest.fixture
def operator(postgresql_database: URL) -> Iterator[Engine]:
    """Stands in for whatever ends sessions: a failover, an administrator, a network cut."""
    engine = sqlalchemy.create_engine(postgresql_database, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def end_session(operator: Engine, holder: str) -> None:
    with operator.connect() as connection:
        wanted = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
        assert connection.execute(wanted, {"name": holder}).scalars().all() == [True]


@pytest.mark.integration
async def test_of_two_running_servers_one_writes_and_the_other_says_who(postgresql_database: URL) -> None:
    async with (
        storage_service(postgresql_database, operations=(NOTE,), holder=FIRST) as first,
        storage_service(postgresql_database, operations=(NOTE,), holder=SECOND) as second,
    ):
        assert await write(first, "one") == "stored"
        assert await write(second, "two") == "unavailable"
        assert FIRST in str(await problem(second))
        assert await write(first, "three") == "stored"
        assert await problem(first) is None


@pytest.mark.integration
async def test_a_lock_that_was_lost_to_another_means_no_more_writes_until_it_is_held_again(
    postgresql_database: URL, operator: Engine
) -> None:
    async with storage_service(postgresql_database, operations=(NOTE,), holder=FIRST) as first:
        assert await write(first, "before") == "stored"
        other = open_engine(postgresql_database, writes=True, holder=SECOND)
        end_session(operator, FIRST)

        def took() -> Any:
            try:
                return other.connect()
            except sqlalchemy.exc.OperationalError:
                # The first has its next session already.
                end_session(operator, FIRST)
                return None

        connection = await eventually(took)
        for number in range(3):
            assert await write(first, f"lost {number}") == "unavailable"
        assert SECOND in str(await problem(first))
        connection.close()
        other.dispose()
        await eventually(lambda: _writes(first))
        assert await problem(first) is None
        with operator.connect() as reading:
            names = reading.execute(text("SELECT client_id FROM client_logs ORDER BY client_id")).scalars().all()
        assert not [name for name in names if name.startswith("lost")]


async def _writes(service: StorageService) -> bool:
    return await write(service, "again") == "stored"


@pytest.mark.integration
async def test_a_session_that_was_cut_is_noticed_and_made_anew_without_any_write(
    postgresql_database: URL, operator: Engine
) -> None:
    async with storage_service(postgresql_database, operations=(NOTE,), holder=FIRST) as first:
        assert await write(first, "before") == "stored"
        end_session(operator, FIRST)
        with operator.connect() as connection:
            sessions = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
            await eventually(lambda: connection.execute(sessions, {"name": FIRST}).scalar() == 1)
        await eventually(lambda: _is_sound(first))
        assert await write(first, "after") == "stored"


async def _is_sound(service: StorageService) -> bool:
    return await problem(service) is None


@pytest.mark.integration
async def test_db18_sessions_that_end_under_load_cost_no_confirmed_write_and_none_is_made_without_the_lock(
    postgresql_database: URL, operator: Engine
) -> None:
    outcomes: dict[str, str] = {}
    is_over = trio.Event()

    def stored() -> set[str]:
        with operator.connect() as reading:
            return set(reading.execute(text("SELECT client_id FROM client_logs")).scalars())

    async with (
        storage_service(postgresql_database, operations=(NOTE,), holder=FIRST) as first,
        trio.open_nursery() as nursery,
    ):

        async def write_on(writer: int) -> None:
            for number in count():
                if is_over.is_set():
                    return
                name = f"{writer}-{number}"
                outcomes[name] = await write(first, name)

        for writer in range(4):
            nursery.start_soon(write_on, writer)
        for ended in range(5):
            # Each session has written before it is ended.
            before = len(stored())
            await eventually(lambda before=before: len(stored()) > before + 5, what=f"writes of session {ended}")
            end_session(operator, FIRST)
        # Once more, and another has the lock before the next session of the first.
        other = open_engine(postgresql_database, writes=True, holder=SECOND)
        connection = await eventually(lambda: _taken(other, operator))
        held_from = stored()
        refused = sum(one == "unavailable" for one in outcomes.values())
        await eventually(lambda: sum(one == "unavailable" for one in outcomes.values()) > refused + 8)
        assert stored() == held_from, "written without the lock"
        connection.close()
        other.dispose()
        await eventually(lambda: len(stored()) > len(held_from), what="writes once the lock is held again")
        is_over.set()
    confirmed = {name for name, one in outcomes.items() if one == "stored"}
    assert confirmed
    assert confirmed <= stored(), "a confirmed write is gone"
    assert {*outcomes.values()} == {"stored", "unavailable"}


def _taken(other: Engine, operator: Engine) -> Any:
    """A session of the second server, in which it has the lock; None as long as the first is quicker."""
    try:
        return other.connect()
    except sqlalchemy.exc.OperationalError:
        with operator.connect() as connection:
            wanted = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
            connection.execute(wanted, {"name": FIRST})
        return None


def test_a_file_that_the_settings_name_is_held_by_one_server(tmp_path: Path) -> None:
    url = database_url(f"sqlite:///{tmp_path}/shared.sqlite3", tmp_path)
    with holding_file(url, FIRST, is_guarded=False):
        with (
            pytest.raises(DatabaseHeld, match=r"the server at http://127\.0\.0\.1:8000 .*shared\.sqlite3"),
            holding_file(url, SECOND, is_guarded=False),
        ):
            pass
        with holding_file(url, SECOND, is_guarded=True):
            pass
    with holding_file(url, SECOND, is_guarded=False):
        pass


@pytest.mark.parametrize(("call", "fault"), [("open", errno.EROFS), ("open", errno.ENOSPC), ("pwrite", errno.ENOSPC)])
def test_a_disk_that_takes_nothing_keeps_no_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, call, refuse)
    with holding_file(database_url(f"sqlite:///{tmp_path}/shared.sqlite3", tmp_path), FIRST, is_guarded=False):
        pass


def test_a_folder_that_may_not_be_written_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    url = database_url(f"sqlite:///{tmp_path}/shared.sqlite3", tmp_path)
    with pytest.raises(PermissionError), holding_file(url, FIRST, is_guarded=False):
        pass
