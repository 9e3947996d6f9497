"""Databases of every released schema, with data in them, are upgraded to the newest, and can be taken back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, inspect, select
from sqlalchemy.engine import URL

from actors.access.local_token import read_local_token
from actors.storage import backup as backup_module
from actors.storage import schema
from actors.storage.backup import restore_backup, write_backup
from actors.storage.backup_before import keeping_backup
from actors.storage.backup_file import BackupFile
from actors.storage.columns import COLUMNS, TABLES
from actors.storage.database import FILE_NAME, database_url, open_engine
from actors.storage.errors import DatabaseUnusable
from actors.storage.schema import NEWEST_REVISION, known_revisions, migrate_within, prepare_database
from tests.postgresql_fixture import empty_postgresql_database
from tests.system.serving_process import ServingProcess, leanvibe, start_server

DUMPS = sorted((Path(__file__).parent / "dumps").glob("*.sql"))
"""Written by `scripts/make_database_dump`, one for each released schema."""
MOVED = ("response_conversations", "conversation_items")
"""Tables whose rows 0011 moved to `conversations` and `turns`."""
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Create a database as an older program left it, in a server's data folder."""
    place = tmp_path / FILE_NAME
    with sqlite3.connect(place) as connection:
        connection.executescript(request.param.read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode=WAL")
    place.chmod(0o600)
    return place


def rows(place: Path) -> Rows:
    """Return all tables, each row by column name."""
    with sqlite3.connect(place) as connection:
        connection.row_factory = sqlite3.Row
        names = [one["name"] for one in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [dict(one) for one in connection.execute(f'SELECT * FROM "{name}" ORDER BY rowid')] for name in names
        }


def revision(place: Path) -> str:
    return str(rows(place)["alembic_version"][0]["version_num"])


def test_every_schema_but_the_newest_has_a_dump() -> None:
    """0001 to 0005 were never released."""
    wanted = [f"{number:04}" for number in range(6, int(NEWEST_REVISION))]
    assert [one.stem for one in DUMPS] == wanted


def test_an_upgrade_keeps_every_row_and_leaves_a_copy(old: Path) -> None:
    before, name = rows(old), revision(old)
    assert prepare_database(database_url(None, old.parent)) == name
    after = rows(old)
    assert revision(old) == NEWEST_REVISION
    moved = {one["id"] for one in before.get("response_conversations", ())}
    after["conversations"] = [one for one in after["conversations"] if one["name"] not in moved]
    items = [one for one in after["turns"] if one["name"] in moved]
    after["turns"] = [one for one in after["turns"] if one["name"] not in moved]
    for table in before.keys() - {"alembic_version", "sqlite_sequence", *MOVED}:
        kept = [{column: now[column] for column in was} for was, now in zip(before[table], after[table], strict=True)]
        assert kept == before[table], table
    # Every item is among the turns, whole and in its place.
    assert [(one["name"], one["number"], one["item_id"], one["item"]) for one in items] == [
        (one["conversation_id"], one["position"], one["id"], one["item"])
        for one in before.get("conversation_items", ())
    ]
    # The way back: the copy is the old database, for the old program.
    assert rows(old.with_name(f"{FILE_NAME}.before-{name}")) == before


def content(url: URL) -> Rows:
    """Return all of our tables in either kind of database at any revision, except those that a restore recreates."""
    engine = open_engine(url, writes=False)
    with engine.connect() as connection:
        found = {
            table.name: sorted(
                (
                    {**row, **({"epoch": ""} if "epoch" in row else {})}
                    for row in connection.execute(select(table)).mappings()
                ),
                key=repr,
            )
            for table in backup_module._tables(connection)
        }
    engine.dispose()
    return found


def in_postgresql(old: Path) -> URL:
    """Create the same database in PostgreSQL, at the same revision."""
    url = empty_postgresql_database()
    source, target = open_engine(database_url(None, old.parent), writes=False), open_engine(url, writes=True)
    with source.connect() as reading, target.begin() as writing:
        migrate_within(writing, "", revision(old))
        for table in backup_module._tables(writing):
            # With the column types there: SQLite has no booleans.
            if found := [dict(one) for one in reading.execute(select(table)).mappings()]:
                writing.execute(insert(table), found)
    source.dispose()
    target.dispose()
    return url


def put_back(url: URL, file: Path) -> None:
    backup = BackupFile(file)
    header = backup.check()
    engine = open_engine(url, writes=True)
    with engine.begin() as connection:
        restore_backup(connection, backup, header)
    engine.dispose()


@pytest.mark.integration
def test_db17_an_upgrade_of_postgresql_leaves_a_backup_to_go_back_with(old: Path, tmp_path: Path) -> None:
    name, url = revision(old), in_postgresql(old)
    before = content(url)
    assert any(before.values())
    assert prepare_database(url, keep=keeping_backup(url, tmp_path)) == name
    kept = tmp_path / f"postgresql.before-{name}.backup"
    assert kept.stat().st_mode & 0o777 == 0o600
    # The older program's restore reads every table of its revision, with every row.
    header = BackupFile(kept).check()
    assert header.revision == name
    assert header.rows == {table: len(found) for table, found in before.items()}
    # A current database is left alone.
    assert prepare_database(url, keep=keeping_backup(url, tmp_path)) == NEWEST_REVISION
    assert list(tmp_path.glob("*.backup")) == [kept]
    # And it leads to the same content as the upgrade did, in another database too.
    upgraded, again = content(url), empty_postgresql_database()
    prepare_database(again)
    put_back(again, kept)
    assert content(again) == upgraded
    (tmp_path / "file").mkdir()
    prepare_database(database_url(None, tmp_path / "file"))
    put_back(database_url(None, tmp_path / "file"), kept)
    assert content(database_url(None, tmp_path / "file")) == upgraded


@pytest.mark.integration
def test_db17_an_upgrade_of_postgresql_that_fails_changes_nothing_and_leaves_no_backup(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = in_postgresql(old)
    before = content(url)

    def fails(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(schema, "migrate_within", fails)
    with pytest.raises(OSError, match="no"):
        prepare_database(url, keep=keeping_backup(url, tmp_path))
    assert content(url) == before
    assert list(tmp_path.glob("*.backup")) == []


@pytest.mark.integration
def test_db17_without_room_for_a_backup_postgresql_is_left_as_it_is(old: Path, tmp_path: Path) -> None:
    url = in_postgresql(old)
    before = content(url)
    with pytest.raises(DatabaseUnusable, match=r"postgresql\.before-.*nothing was changed"):
        prepare_database(url, keep=keeping_backup(url, tmp_path / "gone"))
    assert content(url) == before


def test_bk12_a_backup_of_an_older_schema_has_the_tables_that_are_gone_since(old: Path, tmp_path: Path) -> None:
    before = rows(old)
    url = database_url(None, old.parent)
    header = write_backup(url, old.parent, tmp_path / "kept.backup", version="0.1.0", created_at="2026-11-30T12:00:00Z")
    assert header.rows == {name: len(before[name]) for name in before.keys() - {"alembic_version", "sqlite_sequence"}}
    prepare_database(url)
    upgraded = content(url)
    (tmp_path / "other").mkdir()
    other = database_url(None, tmp_path / "other")
    prepare_database(other)
    put_back(other, tmp_path / "kept.backup")
    assert content(other) == upgraded


def test_bk12_the_tables_of_every_revision_are_known(tmp_path: Path) -> None:
    engine = open_engine(database_url(None, tmp_path), writes=True)
    seen: set[str] = set()
    with engine.begin() as connection:
        now = ""
        for one in sorted(known_revisions()):
            migrate_within(connection, now, one)
            now = one
            seen |= set(inspect(connection).get_table_names())
    engine.dispose()
    assert seen - {"alembic_version"} == TABLES
    assert COLUMNS.keys() < TABLES


@pytest.mark.integration
def test_the_server_serves_what_an_older_one_stored(old: Path) -> None:
    name = revision(old)
    with start_server(old.parent) as server:
        listed = json.loads(server.run("task", "list", "--client", "zoe", "--json").stdout)
        tasks = {one["title"]: one for one in listed["tasks"]}
        moved = tasks["Grüße an Ömer 🌱"]
        assert (moved["status"], moved["version"], sorted(moved["tags"])) == ("in_progress", 2, ["home", "n1"])
        assert set(tasks) == {"Water the plants", "Grüße an Ömer 🌱", "Review `a<b>`"}
        shown = server.run("conversations", "show", "tour", "--client", "zoe", "--json")
        assert shown.returncode == 0, shown.stderr
        assert [one["content"] for one in json.loads(shown.stdout)][1::2] == ["1 2 3", "1 2 3 4 5"]
        if name == "0010":
            assert_items_are_read(server)
        tokens = json.loads(server.run("token", "list", "--json").stdout)["tokens"]
        assert [one["client_ids"] for one in tokens if one["name"] == "phone"] == [["zoe"]]
    assert old.with_name(f"{FILE_NAME}.before-{name}").exists()


def assert_items_are_read(server: ServingProcess) -> None:
    """A conversation of OpenAI's API that 0010 had in tables of its own is among all conversations, item by item."""
    listed = json.loads(server.run("conversations", "list", "--client", "zoe", "--json").stdout)
    (name,) = [one["conversation"] for one in listed if one["conversation"] != "tour" and one["turns"]]
    shown = json.loads(server.run("conversations", "show", name, "--client", "zoe", "--json").stdout)
    assert [(one["role"], one["content"]) for one in shown] == [
        ("user", "Grüß dich"),
        ("user", "count to 2"),
        ("assistant", "1 2"),
    ]
    assert shown[0]["steps"] == ['called look({"at": "🌱"})', "result: green"]
    # The dump has a token, so every client needs one.
    headers = {"X-Client-Id": "zoe", "Authorization": f"Bearer {read_local_token(server.data_folder)}"}
    with httpx.Client(base_url=server.about["rest_url"], headers=headers, trust_env=False) as http:
        about = http.get(f"/v1/conversations/{name}").json()
        items = http.get(f"/v1/conversations/{name}/items", params={"order": "asc"}).json()["data"]
    assert about["metadata"] == {"topic": "Bäume"}
    kinds = ["message", "message", "function_call", "function_call_output", "message", "message"]
    assert [one["type"] for one in items] == kinds
    assert items[0]["role"] == "developer"


def test_a_database_of_a_newer_program_is_refused_with_what_helps(old: Path) -> None:
    prepare_database(database_url(None, old.parent))
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = leanvibe(old.parent, "serve")
    assert refused.returncode != 0
    assert "9999" in refused.stderr
    assert "start the newer program" in refused.stderr
    assert "`leanvibe restore FILE`" in refused.stderr
    assert "Traceback" not in refused.stderr
