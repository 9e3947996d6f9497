"""`leanvibe backup` and `restore` as people run them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from actors.command_line.main import leanvibe
from actors.inspection.server_file import lock_data_folder
from actors.storage.database import database_url, open_engine
from tests.database_fixture import fresh_database


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    fresh_database(tmp_path / "one")
    put(tmp_path / "one", 7)
    (tmp_path / "one" / "vapid.pem").write_bytes(b"a key")
    return tmp_path


def put(folder: Path, head: int) -> None:
    engine = open_engine(database_url(None, folder), writes=True)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO client_logs VALUES (:name, 'e', :head)"), {"name": f"c{head}", "head": head}
        )
    engine.dispose()


def heads(folder: Path) -> list[int]:
    engine = open_engine(database_url(None, folder), writes=False)
    with engine.connect() as connection:
        found = [int(row.head) for row in connection.execute(text("SELECT head FROM client_logs ORDER BY head"))]
    engine.dispose()
    return found


def run(folder: str, *arguments: str) -> Result:
    return CliRunner().invoke(leanvibe, ["--data-dir", folder, *arguments])


def test_bk8_a_backup_is_restored_into_an_empty_folder(place: Path) -> None:
    assert run("one", "backup", "monday").exit_code == 0
    checked = run("two", "restore", "monday", "--check", "--json")
    assert json.loads(checked.stdout)["rows"] == 1
    assert not list((place / "two").iterdir()), "--check changes nothing"
    restored = run("two", "restore", "monday")
    assert restored.exit_code == 0, restored.output
    assert "restored 1 rows" in restored.stdout
    assert heads(place / "two") == [7]
    assert (place / "two" / "vapid.pem").read_bytes() == b"a key"
    assert (place / "two" / "vapid.pem").stat().st_mode & 0o777 == 0o600


def test_bk9_what_is_there_is_replaced_only_when_asked_and_kept_as_a_backup(place: Path) -> None:
    assert run("one", "backup", "monday").exit_code == 0
    put(place / "one", 8)
    refused = run("one", "restore", "monday")
    assert refused.exit_code == 1
    assert "--replace" in refused.stderr
    assert heads(place / "one") == [7, 8]
    done = run("one", "restore", "monday", "--replace", "--json")
    assert done.exit_code == 0, done.output
    assert heads(place / "one") == [7]
    saved = json.loads(done.stdout)["replaced_saved_as"]
    assert run("two", "restore", saved).exit_code == 0
    assert heads(place / "two") == [7, 8]


def test_bk10_nothing_is_restored_beneath_a_running_server(place: Path) -> None:
    assert run("one", "backup", "monday").exit_code == 0
    lock = lock_data_folder(place / "one")
    try:
        refused = run("one", "restore", "monday", "--replace")
        assert refused.exit_code == 1
        assert "in use by another LeanVibe server" in refused.stderr
        # It only reads.
        assert run("one", "backup", "tuesday").exit_code == 0
    finally:
        os.close(lock)
    assert heads(place / "one") == [7]


def test_bk11_what_cannot_be_done_is_said_in_one_line(place: Path) -> None:
    (place / "precious").write_text("mine")
    (place / "garbage").write_bytes(b"\x1f\x8b garbage")
    for arguments, words in (
        (("one", "backup", "precious"), "exists already"),
        (("two", "backup", "monday"), "nothing to back up"),
        (("one", "backup", "nowhere/monday"), "No such file or directory"),
        (("two", "restore", "nowhere"), "No such file or directory"),
        (("two", "restore", "garbage"), "nothing was changed"),
        (("two", "restore", "one"), "is a directory"),
    ):
        result = run(*arguments)
        assert result.exit_code != 0, arguments
        assert words in result.stderr, result.stderr
        assert "Traceback" not in result.output
    assert (place / "precious").read_text() == "mine"
    assert not list((place / "two").iterdir())
