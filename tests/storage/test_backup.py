"""Backup and restore: one consistent state, whole or not at all, between both kinds of database, and from older schemas."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.engine import URL

from actors.storage import backup as backup_module
from actors.storage.backup import has_content, restore_backup, write_backup
from actors.storage.backup_file import BackupFile, BackupHeader, BackupUnusable, BackupWriter
from actors.storage.columns import COLUMNS
from actors.storage.database import database_url, open_engine
from actors.storage.errors import DatabaseUnusable
from actors.storage.schema import NEWEST_REVISION, migrate
from tests.database_fixture import fresh_database
from tests.postgresql_fixture import empty_postgresql_database, fresh_postgresql_database

KEY = b"-----BEGIN PRIVATE KEY-----\nnot one\n"


def a_database(kind: str, folder: Path) -> URL:
    """Create a database at the newest revision."""
    folder.mkdir()
    return fresh_database(folder) if kind == "sqlite" else fresh_postgresql_database()


def value_for(column: Any, number: int) -> Any:
    kind = column.type.python_type
    if kind is bool:
        return number % 2 == 0
    if kind is float:
        return number + 0.1
    if kind is int:
        return number
    words = f"é{number}'\"\\\n\u2028"
    return words[: column.type.length] if getattr(column.type, "length", None) else words


def fill(url: URL, rows: int = 3) -> None:
    """Fill every table with rows, using every type of column and texts that are easily corrupted."""
    engine = open_engine(url, writes=True)
    metadata = MetaData()
    with engine.begin() as connection:
        metadata.reflect(connection, only=sorted(COLUMNS))
        for table in metadata.sorted_tables:
            for number in range(1, rows + 1):
                row = {one.name: value_for(one, number) for one in table.columns}
                # Its two columns refer to tasks.
                if table.name.startswith("task_"):
                    row |= {name: f"é{number}'\"\\\n\u2028" for name in ("task_id", "depends_on") if name in row}
                connection.execute(insert(table), row)
    engine.dispose()


def content(url: URL) -> dict[str, list[dict[str, Any]]]:
    """Return all rows by table."""
    engine = open_engine(url, writes=False)
    metadata = MetaData()
    with engine.connect() as connection:
        metadata.reflect(connection, only=sorted(COLUMNS))
        found = {
            table.name: sorted(
                ({**row} for row in connection.execute(select(table)).mappings()), key=lambda row: repr([*row.values()])
            )
            for table in metadata.sorted_tables
        }
    engine.dispose()
    return found


def without_epochs(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    rows = {
        name: [{**row, **({"epoch": ""} if "epoch" in row else {})} for row in table] for name, table in found.items()
    }
    return {name: sorted(table, key=lambda row: repr([*row.values()])) for name, table in rows.items()}


def save(url: URL, folder: Path, target: Path) -> BackupHeader:
    return write_backup(url, folder, target, version="0.1.0", created_at="2026-11-30T12:00:00Z")


def put_back(url: URL, file: Path) -> Any:
    backup = BackupFile(file)
    header = backup.check()
    engine = open_engine(url, writes=True)
    try:
        with engine.begin() as connection:
            return restore_backup(connection, backup, header)
    finally:
        engine.dispose()


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
def test_bk1_a_backup_holds_everything_and_goes_into_either_kind_of_database(
    tmp_path: Path, source: str, target: str
) -> None:
    here = a_database(source, tmp_path / "here")
    there = a_database(target, tmp_path / "there")
    fill(here, rows=backup_module.INSERTED_ROWS + 2 if source == target == "sqlite" else 3)
    fill(there, rows=1)  # existing rows are replaced
    (tmp_path / "here" / "vapid.pem").write_bytes(KEY)
    header = save(here, tmp_path / "here", tmp_path / "backup")
    assert header.revision == NEWEST_REVISION
    assert header.rows.keys() == COLUMNS.keys()
    files = put_back(there, tmp_path / "backup")
    assert [(one.name, one.content) for one in files] == [("vapid.pem", KEY)]
    before, after = content(here), content(there)
    assert without_epochs(after) == without_epochs(before)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600


def test_bk2_logs_begin_new_epochs_and_positions_go_with_them(tmp_path: Path) -> None:
    """Their heads go back: a client that has seen more would take new events for old ones."""
    url = a_database("sqlite", tmp_path / "here")
    fill(url)
    save(url, tmp_path / "here", tmp_path / "backup")
    before = content(url)
    put_back(url, tmp_path / "backup")
    after = content(url)
    old = {row["client_id"]: row["epoch"] for row in before["client_logs"]}
    new = {row["client_id"]: row["epoch"] for row in after["client_logs"]}
    assert old.keys() == new.keys()
    assert not set(old.values()) & set(new.values())
    assert {row["client_id"]: row["epoch"] for row in after["acknowledgements"]} == {
        row["client_id"]: new[row["client_id"]] for row in before["acknowledgements"]
    }


def test_bk2_new_rows_are_numbered_after_those_that_were_restored(tmp_path: Path) -> None:
    there = a_database("postgresql", tmp_path / "there")
    fill(there)
    save(there, tmp_path / "there", tmp_path / "backup")
    put_back(there, tmp_path / "backup")
    engine = open_engine(there, writes=True)
    with engine.begin() as connection:
        history = Table("task_history", MetaData(), autoload_with=connection)
        row = {**connection.execute(select(history).limit(1)).mappings().one()}
        del row["number"]
        connection.execute(insert(history), row)
        assert connection.execute(select(func.max(history.c.number))).scalar() == 4
    engine.dispose()


def test_bk3_a_damaged_or_cut_file_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    url = a_database("sqlite", tmp_path / "here")
    fill(url)
    save(url, tmp_path / "here", tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    damaged = {
        **{f"cut at {size}": whole[:size] for size in (0, 1, 9, 20, len(whole) // 2, len(whole) - 9, len(whole) - 1)},
        **{
            f"byte {place} flipped": whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
            for place in (0, 3, len(whole) // 3, len(whole) - 5)
        },
        "no end": gzip.compress(b"".join(lines[:-1])),
        "a row less": gzip.compress(b"".join(lines[:5] + lines[6:])),
        "a letter changed": gzip.compress(b"".join(lines).replace("é2".encode(), "è2".encode())),
        "something behind the end": gzip.compress(b"".join(lines) + b"[]\n"),
        "another program's": gzip.compress(b'{"hello": 1}\n'),
        "not JSON": gzip.compress(b"hello\n"),
        "nested": gzip.compress(b"[" * 200_000 + b"\n"),
        "a later format": gzip.compress(lines[0].replace(b'_backup":1', b'_backup":2') + b"".join(lines[1:])),
        "no line": gzip.compress(b"x" * 100_000),
        "plain text": b"hello",
    }
    before = content(url)
    for what, data in damaged.items():
        (tmp_path / "damaged").write_bytes(data)
        with pytest.raises(BackupUnusable) as refused:
            put_back(url, tmp_path / "damaged")
        assert str(tmp_path / "damaged") in str(refused.value), what
    assert content(url) == before


def rewritten(tmp_path: Path, lines: list[Any], header: BackupHeader) -> Path:
    """Return a complete backup as another program could write it."""
    path = tmp_path / "rewritten"
    with path.open("wb") as raw:
        writer = BackupWriter(raw, header)
        for one in lines:
            writer._write(one)
        writer.end()
    return path


@pytest.mark.parametrize(
    ("lines", "rows", "revision"),
    [
        ([{"table": "tasks", "columns": ["id"]}, ["a"]], {"tasks": 1}, NEWEST_REVISION),
        ([{"table": "other", "columns": ["id"]}], {**dict.fromkeys(COLUMNS, 0), "other": 0}, NEWEST_REVISION),
        ([{"table": "tasks", "columns": ["id"]}, ["a", "b"]], {"tasks": 1}, NEWEST_REVISION),
        ([["a"]], {}, NEWEST_REVISION),
        ([{"table": "tasks", "columns": ["id"]}, [["a"]]], {"tasks": 1}, NEWEST_REVISION),
        ([{"table": "tasks"}], {"tasks": 0}, NEWEST_REVISION),
        ([{"file": "vapid.pem", "base64": "="}], {}, NEWEST_REVISION),
        ([], {}, "9999"),
        ([], {}, "../../etc"),
    ],
)
def test_bk3_a_file_with_other_content_changes_nothing(
    tmp_path: Path, lines: list[Any], rows: dict[str, int], revision: str
) -> None:
    url = a_database("sqlite", tmp_path / "here")
    fill(url, rows=1)
    before = content(url)
    header = BackupHeader(revision=revision, version="9.9", created_at="now", rows=rows)
    with pytest.raises(BackupUnusable):
        put_back(url, rewritten(tmp_path, lines, header))
    assert content(url) == before


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_bk4_a_backup_of_an_older_schema_is_brought_up_to_date(tmp_path: Path, kind: str) -> None:
    (tmp_path / "old").mkdir()
    old = database_url(None, tmp_path / "old") if kind == "sqlite" else empty_postgresql_database()
    engine = open_engine(old, writes=True)
    with engine.connect() as connection:
        migrate(connection, "0001")
        connection.execute(text("INSERT INTO client_logs VALUES ('me', 'e', 7)"))
        connection.commit()
    engine.dispose()
    assert save(old, tmp_path / "old", tmp_path / "backup").revision == "0001"
    there = a_database(kind, tmp_path / "there")
    put_back(there, tmp_path / "backup")
    engine = open_engine(there, writes=False)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT head FROM client_logs WHERE client_id = 'me'")).scalar() == 7
        assert set(inspect(connection).get_table_names()) == {*COLUMNS, "alembic_version"}
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == NEWEST_REVISION
    engine.dispose()


def test_bk5_a_backup_is_one_state_while_the_server_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_module, "FETCHED_ROWS", 1)
    url = a_database("sqlite", tmp_path / "here")
    fill(url, rows=20)
    engine = open_engine(url, writes=True)
    is_over = threading.Event()
    written = threading.Event()

    def write() -> None:
        logs = Table("client_logs", MetaData(), autoload_with=engine)
        conversations = Table("conversations", MetaData(), autoload_with=engine)
        for number in range(100, 10_000):
            if is_over.is_set():
                return
            with engine.begin() as connection:
                row = {"client_id": f"c{number}", "epoch": "e", "head": 0}
                connection.execute(insert(logs), row)
                talk = {one.name: value_for(one, number) for one in conversations.columns}
                connection.execute(insert(conversations), {**talk, "client_id": f"c{number}"})
            written.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert written.wait(30)
        for number in range(5):
            rows = save(url, tmp_path, tmp_path / f"backup{number}").rows
            assert rows["client_logs"] == rows["conversations"]
            assert BackupFile(tmp_path / f"backup{number}").check().rows == rows
    finally:
        is_over.set()
        thread.join()
        engine.dispose()


def test_bk6_a_backup_replaces_no_file_and_leaves_no_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = a_database("sqlite", tmp_path / "here")
    fill(url)
    target = tmp_path / "backup"
    target.write_text("precious")
    with pytest.raises(FileExistsError):
        save(url, tmp_path / "here", target)
    assert target.read_text() == "precious"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BackupWriter, "add_row", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space"):
        save(url, tmp_path / "here", tmp_path / "other")
    assert sorted(tmp_path.iterdir()) == before


def test_bk6_a_database_that_was_never_used_or_is_broken_is_said_to_be(tmp_path: Path) -> None:
    url = database_url(None, tmp_path)
    Path(str(url.database)).touch()
    with pytest.raises(DatabaseUnusable, match="empty"):
        save(url, tmp_path, tmp_path / "backup")
    Path(str(url.database)).write_bytes(b"no database at all" * 100)
    with pytest.raises(DatabaseUnusable, match="cannot be read"):
        save(url, tmp_path, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_bk7_a_restore_that_fails_in_the_middle_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("sqlite", "postgresql"):
        folder = tmp_path / kind
        url = a_database(kind, folder)
        fill(url)
        save(url, folder, folder / "backup")
        before = content(url)

        def torn(*_: Any) -> None:
            raise RuntimeError("pulled the plug")

        with monkeypatch.context() as patch:
            patch.setattr(backup_module, "_begin_epochs", torn)
            with pytest.raises(RuntimeError):
                put_back(url, folder / "backup")
        assert content(url) == before
        engine = open_engine(url, writes=False)
        with engine.connect() as connection:
            assert has_content(connection)
        engine.dispose()


def test_bk1_the_format_is_lines_of_json(tmp_path: Path) -> None:
    url = a_database("sqlite", tmp_path / "here")
    save(url, tmp_path / "here", tmp_path / "backup")
    lines = [json.loads(line) for line in gzip.decompress((tmp_path / "backup").read_bytes()).splitlines()]
    assert lines[0]["leanvibe_backup"] == 1
    assert [*lines[-1]] == ["end"]
    assert {one["table"] for one in lines[1:-1]} == COLUMNS.keys()
