"""The copy before a migration: it holds everything committed, replaces no other copy, and without it nothing is changed."""

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from actors.storage import database_copy
from actors.storage.database import database_url, open_engine
from actors.storage.database_copy import copy_database
from actors.storage.errors import DatabaseUnusable
from actors.storage.schema import NEWEST_REVISION, migrate, prepare_database


def old_database(folder: Path, revision: str = "0005") -> URL:
    """Create a database as an older version of the program left it."""
    url = database_url(None, folder)
    engine = open_engine(url, writes=True)
    with engine.connect() as connection:
        migrate(connection, revision)
    engine.dispose()
    return url


def heads(path: Path) -> list[int]:
    """Return a table's rows, read from that file alone."""
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        return [row[0] for row in connection.execute("SELECT head FROM client_logs ORDER BY head")]
    finally:
        connection.close()


def test_what_was_committed_beside_an_older_reader_is_in_the_copy(tmp_path: Path) -> None:
    """A checkpoint cannot pass the reader, so the newest commit is only in the log."""
    url = old_database(tmp_path)
    file = Path(str(url.database))
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA wal_autocheckpoint=0")
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    writer.execute("INSERT INTO client_logs (client_id, epoch, head) VALUES ('me', 'e', 7)")
    assert prepare_database(url) == "0005"
    copy = tmp_path / "leanvibe.sqlite3.before-0005"
    assert heads(copy) == [7]
    assert copy.stat().st_mode & 0o777 == 0o600
    for one in (reader, writer):
        one.close()
    left = sorted(path.name for path in tmp_path.iterdir() if "-wal" not in path.name and "-shm" not in path.name)
    assert left == ["leanvibe.sqlite3", "leanvibe.sqlite3.before-0005"]


def test_nobody_commits_between_the_copy_and_the_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = old_database(tmp_path)
    outcomes: list[str] = []

    def copy_while_another_writes(path: Path, name: str) -> Path:
        target = copy_database(path, name)
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            other.execute("INSERT INTO client_logs (client_id, epoch, head) VALUES ('late', 'e', 9)")
            outcomes.append("committed")
        except sqlite3.OperationalError as error:
            outcomes.append(str(error))
        other.close()
        return target

    monkeypatch.setattr("actors.storage.schema.copy_database", copy_while_another_writes)
    prepare_database(url)
    assert outcomes == ["database is locked"]


def test_an_earlier_copy_is_never_written_over(tmp_path: Path) -> None:
    url = old_database(tmp_path)
    earlier = tmp_path / "leanvibe.sqlite3.before-0005"
    earlier.write_bytes(b"of another day")
    prepare_database(url)
    assert earlier.read_bytes() == b"of another day"
    assert heads(tmp_path / "leanvibe.sqlite3.before-0005.2") == []


def test_a_migration_that_is_tried_again_and_again_leaves_one_copy(tmp_path: Path) -> None:
    file = Path(str(old_database(tmp_path).database))
    assert {copy_database(file, "before-0005") for _ in range(3)} == {tmp_path / "leanvibe.sqlite3.before-0005"}
    assert len(list(tmp_path.glob("*before*"))) == 1


@pytest.mark.parametrize("fault", ["disk full", "read-only folder", "no sync"])
def test_without_a_copy_nothing_is_migrated_and_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    url = old_database(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    match fault:
        case "disk full":
            monkeypatch.setattr(database_copy, "_back_up", full)
        case "read-only folder":
            monkeypatch.setattr(database_copy.tempfile, "mkstemp", refuse)
        case _:
            monkeypatch.setattr(database_copy.os, "fsync", refuse)
    with pytest.raises(DatabaseUnusable, match=r"could not be copied before .* nothing was changed.*Make room for"):
        prepare_database(url)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*before*"))
    assert not list(tmp_path.glob(".*"))
    assert prepare_database(url) == "0005"


def test_a_copy_that_is_damaged_stops_the_migration(tmp_path: Path) -> None:
    url = old_database(tmp_path)
    file = Path(str(url.database))
    connection = sqlite3.connect(file)
    connection.executemany("INSERT INTO client_logs VALUES (?, 'e', 7)", [(f"c{one}",) for one in range(500)])
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    page = 4096
    with file.open("r+b") as opened:
        # The last pages hold rows and index entries that no migration to the newest revision reads.
        opened.seek(file.stat().st_size - page)
        opened.write(os.urandom(page))
    with pytest.raises(DatabaseUnusable, match=r"damaged|malformed"):
        prepare_database(url)
    assert not list(tmp_path.glob("*before*"))


# --- tables that are not what the revision says -------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP TABLE events", "table events is missing"),
        ("DROP TABLE turns", "table turns is missing"),
        ("ALTER TABLE tasks DROP COLUMN description", "table tasks lacks column description"),
        ("ALTER TABLE tasks ADD COLUMN colour TEXT", "table tasks has an unknown column colour"),
        ("ALTER TABLE tasks RENAME COLUMN title TO name", "table tasks has an unknown column name"),
        ("DELETE FROM alembic_version", "but no revision"),
        ("DROP TABLE alembic_version", "but no revision"),
        ("UPDATE alembic_version SET version_num = '0000'", "revision '0000', which this program does not know"),
        ("UPDATE alembic_version SET version_num = '0001'", "already exists"),
    ],
)
def test_a_database_whose_tables_are_not_of_its_revision_is_refused_with_the_way_out(
    database: URL, change: str, problem: str
) -> None:
    engine = open_engine(database, writes=True)
    with engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
    before = Path(str(database.database)).read_bytes()
    with pytest.raises(DatabaseUnusable, match=problem) as caught:
        prepare_database(database)
    assert "restore a copy" in str(caught.value)
    assert Path(str(database.database)).read_bytes() == before


def test_tables_of_others_in_the_same_database_are_nobodys_business(database: URL) -> None:
    engine = open_engine(database, writes=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mine (a TEXT)"))
    engine.dispose()
    assert prepare_database(database) == NEWEST_REVISION
