"""Databases of every released schema, with what people had stored, come up to today's, and there is a way back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.access.local_token import read_local_token
from actors.storage.database import FILE_NAME, database_url
from actors.storage.schema import NEWEST_REVISION, prepare_database
from tests.system.serving_process import ServingProcess, leanvibe, start_server

DUMPS = sorted((Path(__file__).parent / "dumps").glob("*.sql"))
"""Written by `scripts/make_database_dump`, one for each schema that was released."""
MOVED = ("response_conversations", "conversation_items")
"""Tables whose rows 0011 moved to `conversations` and `turns`."""
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
    """A conversation of OpenAI's API that 0010 had in tables of its own is one of all conversations, item by item."""
    listed = json.loads(server.run("conversations", "list", "--client", "zoe", "--json").stdout)
    (name,) = [one["conversation"] for one in listed if one["conversation"] != "tour" and one["turns"]]
    shown = json.loads(server.run("conversations", "show", name, "--client", "zoe", "--json").stdout)
    assert [(one["role"], one["content"]) for one in shown] == [
        ("user", "Grüß dich"),
        ("user", "count to 2"),
        ("assistant", "1 2"),
    ]
    assert shown[0]["steps"] == ['called look({"at": "🌱"})', "result: green"]
    # The dump has a token, so everybody needs one.
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
    assert "Traceback" not in refused.stderr
