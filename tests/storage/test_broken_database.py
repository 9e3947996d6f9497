"""A database that breaks while the server runs: noticed at once, and nothing is acknowledged that cannot be found again."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import text
from sqlalchemy.engine import URL

from actors.errors import CommandError
from actors.storage import guard as guarding
from actors.storage.guard import DatabaseGuard
from actors.storage.messages import DescribeStorage, Operation, Outcome, Query, StorageHealth
from tests.database_fixture import fresh_database
from tests.server_fixture import eventually
from tests.storage_service import StorageService, storage_service

PAGE = 4096
INDEX_BYTES = 32_768


def note(connection: Any, name: str) -> Outcome[str]:
    connection.execute(text("INSERT INTO client_logs (client_id, epoch, head) VALUES (:name, 'e', 0)"), {"name": name})
    return Outcome(value=name)


NOTE: Operation[str, str] = Operation("note", note, str)
COUNT: Query[None, int] = Query(
    "count", lambda connection, _: int(connection.execute(text("SELECT count(epoch) FROM client_logs")).scalar_one())
)


async def write(service: StorageService, name: str) -> str:
    """Write a note. Returns `stored`, or the code of the rejection."""
    try:
        await service.storage.transact(NOTE, name, client_id="me", timeout=15)
    except CommandError as refusal:
        return refusal.code.value
    return "stored"


async def health(service: StorageService) -> StorageHealth:
    found: StorageHealth = await service.storage.writer.ask(DescribeStorage(), timeout=60)
    return found


async def is_unsound(service: StorageService) -> bool:
    return not (await health(service)).is_writable


def unlink(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    other = file.with_name("other")
    shutil.copyfile(file, other)
    other.replace(file)


def move_away(file: Path) -> None:
    file.rename(file.with_name("moved"))


def checkpointed(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def empty(file: Path) -> None:
    checkpointed(file)
    os.truncate(file, 0)


def cut(file: Path) -> None:
    checkpointed(file)
    os.truncate(file, file.stat().st_size // 2 // PAGE * PAGE)


def garble_the_beginning(file: Path) -> None:
    checkpointed(file)
    with file.open("r+b") as opened:
        opened.write(os.urandom(2 * PAGE))


def garble_all_but_the_beginning(file: Path) -> None:
    checkpointed(file)
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(PAGE)
        opened.write(os.urandom(size - PAGE))


def drop_a_table(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE turns")
    connection.close()


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def unlink_the_log(file: Path) -> None:
    unlink(beside(file, "-wal"))


def move_the_log_away(file: Path) -> None:
    move_away(beside(file, "-wal"))


def replace_the_log(file: Path) -> None:
    replace(beside(file, "-wal"))


def unlink_the_index(file: Path) -> None:
    unlink(beside(file, "-shm"))


def cut_the_log(file: Path) -> None:
    log = beside(file, "-wal")
    os.truncate(log, log.stat().st_size // 2)


def empty_the_log(file: Path) -> None:
    os.truncate(beside(file, "-wal"), 0)


def garble_the_log(file: Path) -> None:
    log = beside(file, "-wal")
    log.write_bytes(os.urandom(log.stat().st_size))


def garble_the_head_of_the_log(file: Path) -> None:
    with beside(file, "-wal").open("r+b") as opened:
        opened.write(os.urandom(32))


def empty_the_index(file: Path) -> None:
    os.truncate(beside(file, "-shm"), 0)


def cut_the_index(file: Path) -> None:
    # Its head stays.
    os.truncate(beside(file, "-shm"), 4096)


def garble_the_index(file: Path) -> None:
    # In another process: closing it in this one would release SQLite's locks on it.
    script = "import os, sys; f = open(sys.argv[1], 'r+b'); f.write(os.urandom(os.path.getsize(sys.argv[1])))"
    subprocess.run([sys.executable, "-c", script, str(beside(file, "-shm"))], check=True, timeout=60)


GONE = [unlink, replace, move_away]
GONE_BESIDE = [unlink_the_log, move_the_log_away, replace_the_log, unlink_the_index]
DAMAGED = [empty, cut, garble_the_beginning, garble_all_but_the_beginning, drop_a_table]
DAMAGED_BESIDE = [cut_the_log, empty_the_log, garble_the_log, garble_the_head_of_the_log]
DAMAGED_INDEX = [empty_the_index, cut_the_index, garble_the_index]


@pytest.mark.parametrize("harm", GONE)
async def test_nothing_is_told_as_stored_in_a_file_that_is_gone_or_another(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    url = fresh_database(tmp_path)
    async with storage_service(url, operations=(NOTE,), queries=(COUNT,)) as service:
        assert await write(service, "before") == "stored"
        harm(Path(str(url.database)))
        # With the very next write, not with the next check.
        assert await write(service, "lost") == "unavailable"
        found = await health(service)
        assert not found.is_writable
        assert "restore a copy" in str(found.problem)
        if harm is not replace:
            # Nor is an empty file created in place of the database.
            with pytest.raises(CommandError, match="cannot be read now"):
                await service.storage.read(COUNT, None)
            assert not os.path.exists(str(url.database))  # noqa: ASYNC240, PTH110  a look


@pytest.mark.parametrize("was_read", [True, False])
@pytest.mark.parametrize("harm", GONE_BESIDE)
async def test_db14_a_log_that_is_gone_is_noticed_at_the_next_write_and_an_orderly_stop_loses_nothing(
    tmp_path: Path, harm: Callable[[Path], None], was_read: bool
) -> None:
    """SQLite would go on writing into a log that cannot be found again after a power cut."""
    url = fresh_database(tmp_path)
    file = Path(str(url.database))
    async with storage_service(url, operations=(NOTE,), queries=(COUNT,)) as service:
        assert await write(service, "before") == "stored"
        if was_read:
            assert await service.storage.read(COUNT, None) == 1
        harm(file)
        assert await write(service, "lost") == "unavailable"
        found = await health(service)
        assert not found.is_writable
        assert f"{file.name}-" in str(found.problem)
        assert "stop the server in order" in str(found.problem)
        if was_read:
            # A process that has it open still reads its contents.
            assert await service.storage.read(COUNT, None) == 1
        elif harm in (unlink_the_log, move_the_log_away):
            # A new connection is told so, and changes nothing.
            with pytest.raises(CommandError, match="cannot be read now"):
                await service.storage.read(COUNT, None)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT client_id FROM client_logs").fetchall() == [("before",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("harm", [cut_the_log, empty_the_log])
async def test_db15_nothing_is_told_as_stored_behind_a_log_that_was_cut(
    tmp_path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 3600.0)
    url = fresh_database(tmp_path)
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "before") == "stored"
        harm(Path(str(url.database)))
        assert await write(service, "lost") == "unavailable"
        assert "restore a copy" in str((await health(service)).problem)
        assert await write(service, "later") == "unavailable"


async def test_db15_a_log_that_another_program_has_emptied_into_the_database_was_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 0.02)
    url = fresh_database(tmp_path)
    file = Path(str(url.database))
    async with storage_service(url, operations=(NOTE,), queries=(COUNT,)) as service:
        for number in range(3):
            assert await write(service, str(number)) == "stored"
            checkpointed(file)
            assert beside(file, "-wal").stat().st_size == 0
        assert await service.storage.read(COUNT, None) == 3
        assert not await is_unsound(service)


async def test_db15_a_log_with_a_damaged_head_loses_nothing_by_an_orderly_stop(tmp_path: Path) -> None:
    url = fresh_database(tmp_path)
    file = Path(str(url.database))
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "before") == "stored"
        garble_the_head_of_the_log(file)
        await eventually(lambda: is_unsound(service))
        assert "stop the server in order" in str((await health(service)).problem)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT client_id FROM client_logs").fetchall() == [("before",)]


@pytest.mark.parametrize("first", ["write", "read", "look", "stop"])
@pytest.mark.parametrize("harm", DAMAGED_INDEX)
async def test_db16_an_index_of_the_log_that_is_cut_or_garbled_costs_nothing(
    tmp_path: Path, harm: Callable[[Path], None], first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is memory-mapped: where it had been cut, the next access would end the process."""
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 0.02 if first == "look" else 3600.0)
    url = fresh_database(tmp_path)
    file = Path(str(url.database))
    async with storage_service(url, operations=(NOTE,), queries=(COUNT,)) as service:
        for number in range(3):
            assert await write(service, f"before {number}") == "stored"
            # Pages cached by a reader are invalid after the next write.
            assert await service.storage.read(COUNT, None) == number + 1
        assert await write(service, "before 3") == "stored"
        harm(file)
        match first:
            case "write":
                assert await write(service, "after") == "stored"
            case "read":
                assert await service.storage.read(COUNT, None) == 4
            case "look":
                await eventually(lambda: beside(file, "-shm").stat().st_size >= INDEX_BYTES)
                assert not await is_unsound(service)
        if first != "stop":
            assert await write(service, "last") == "stored"
            assert await service.storage.read(COUNT, None) == (6 if first == "write" else 5)
    with closing(sqlite3.connect(file)) as connection:
        kept = connection.execute("SELECT count(*) FROM client_logs").fetchone()[0]
        assert kept == {"write": 6, "read": 5, "look": 5, "stop": 4}[first]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_db14_a_log_that_goes_within_a_transaction_leaves_open_whether_that_was_kept(tmp_path: Path) -> None:
    url = fresh_database(tmp_path)
    file = Path(str(url.database))

    def note_and_unlink(connection: Any, name: str) -> Outcome[str]:
        outcome = note(connection, name)
        unlink_the_log(file)
        return outcome

    async with storage_service(url, operations=(Operation("note", note_and_unlink, str),)) as service:
        assert await write(service, "open") == "deadline_exceeded"


async def test_db14_a_log_that_is_put_back_is_written_to_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("actors.storage.writer.WHOLE_LOOK_SECONDS", 0.02)
    url = fresh_database(tmp_path)
    log = beside(Path(str(url.database)), "-wal")
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "before") == "stored"
        move_away(log)
        await eventually(lambda: is_unsound(service))
        log.with_name("moved").rename(log)
        await eventually(lambda: _is_sound(service))
        assert await write(service, "after") == "stored"


async def test_db14_a_log_that_sqlite_removes_behind_the_last_connection_is_not_missed(tmp_path: Path) -> None:
    url = fresh_database(tmp_path)
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "before") == "stored"
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "after") == "stored"


@pytest.mark.parametrize("together", [1, 3])
async def test_op_a_write_whose_file_is_moved_before_its_answer_is_not_said_to_be_undone(
    tmp_path: Path, together: int
) -> None:
    """It is in a file that may come back, so a client told that nothing was done would do it twice."""
    url = fresh_database(tmp_path)
    file = Path(str(url.database))

    def note_and_move(connection: Any, name: str) -> Outcome[str]:
        outcome = note(connection, name)
        if name == "0":
            move_away(file)
        return outcome

    answers: list[str] = []
    moving: Operation[str, str] = Operation("note", note_and_move, str)
    async with storage_service(url, operations=(moving,), queries=(COUNT,)) as service, trio.open_nursery() as nursery:

        async def ask(number: int) -> None:
            answers.append(await write(service, str(number)))

        for number in range(together):
            nursery.start_soon(ask, number)
    assert len(answers) == together
    # Those of the same transaction; what comes after it is not even tried.
    assert answers.count("deadline_exceeded") >= 1
    assert set(answers) <= {"deadline_exceeded", "unavailable"}
    file.with_name("moved").rename(file)
    with closing(sqlite3.connect(file)) as connection:
        kept = connection.execute("SELECT count(*) FROM client_logs").fetchone()[0]
    assert kept == answers.count("deadline_exceeded")


@pytest.mark.parametrize("harm", [*GONE, *GONE_BESIDE, *DAMAGED, *DAMAGED_BESIDE])
async def test_a_database_that_breaks_is_noticed_without_any_write(
    tmp_path: Path, harm: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 0.02)
    url = fresh_database(tmp_path)
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "before") == "stored"
        harm(Path(str(url.database)))
        await eventually(lambda: is_unsound(service))
        assert await write(service, "lost") == "unavailable"


async def test_damage_that_a_write_meets_is_unavailable_and_not_our_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 3600.0)
    url = fresh_database(tmp_path)
    async with storage_service(url, operations=(NOTE,), queries=(COUNT,)) as service:
        garble_all_but_the_beginning(Path(str(url.database)))
        assert await write(service, "lost") == "unavailable"
        assert not (await health(service)).is_writable
        with pytest.raises(CommandError, match="cannot be read now"):
            await service.storage.read(COUNT, None)


async def test_a_file_that_is_put_back_is_written_to_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.storage.writer.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("actors.storage.writer.WHOLE_LOOK_SECONDS", 0.02)
    url = fresh_database(tmp_path)
    file = Path(str(url.database))
    async with storage_service(url, operations=(NOTE,)) as service:
        assert await write(service, "before") == "stored"
        move_away(file)
        await eventually(lambda: is_unsound(service))
        file.with_name("moved").rename(file)
        await eventually(lambda: _is_sound(service))
        assert await write(service, "after") == "stored"


async def _is_sound(service: StorageService) -> bool:
    return (await health(service)).is_writable


def test_a_look_at_a_large_table_ends_in_time_and_the_next_is_at_another(
    database: URL, database_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_engine.begin() as connection:
        rows = [{"name": f"c{one}", "epoch": "e" * 32} for one in range(2000)]
        connection.execute(text("INSERT INTO client_logs (client_id, epoch, head) VALUES (:name, :epoch, 0)"), rows)
    monkeypatch.setattr(guarding, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(guarding, "PROGRESS_STEPS", 1)
    guard = DatabaseGuard(database)
    assert [guard.look(database_engine) for _ in range(110)] == [None] * 110


async def test_a_database_that_another_program_has_locked_is_not_broken(database: URL, database_engine: Any) -> None:
    other = sqlite3.connect(str(database.database), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert DatabaseGuard(database).look(database_engine, wholly=True) is None
    other.close()
