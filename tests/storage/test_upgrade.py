"""Databases of every released schema, with what people had stored, come up to today's, and there is a way back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from actors.storage.database import FILE_NAME, database_url
from actors.storage.schema import NEWEST_REVISION, prepare_database
from tests.system.serving_process import leanvibe, start_server

DUMPS = sorted((Path(__file__).parent / "dumps").glob("*.sql"))
"""Written by `scripts/make_database_dump`, one for each schema that was released."""
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database as an older program left it; its folder is that of the server's data."""
    place = tmp_path / FILE_NAME
    with sqlite3.connect(place) as connection:
        connection.executescript(request.param.read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode=WAL")
    place.chmod(0o600)
    return place


def rows(place: Path) -> Rows:
    """All tables, each row by its columns' names."""
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
    for table in before.keys() - {"alembic_version", "sqlite_sequence"}:
        kept = [{column: now[column] for column in was} for was, now in zip(before[table], after[table], strict=True)]
        assert kept == before[table], table
    # The way back: the copy is the old database, for the old program.
    assert rows(old.with_name(f"{FILE_NAME}.before-{name}")) == before


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
        tokens = json.loads(server.run("token", "list", "--json").stdout)["tokens"]
        assert [one["client_ids"] for one in tokens if one["name"] == "phone"] == [["zoe"]]
    assert old.with_name(f"{FILE_NAME}.before-{name}").exists()


def test_a_database_of_a_newer_program_is_refused_with_what_helps(old: Path) -> None:
    prepare_database(database_url(None, old.parent))
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refused = leanvibe(old.parent, "serve")
    assert refused.returncode != 0
    assert "9999" in refused.stderr
    assert "Traceback" not in refused.stderr
