"""`leanvibe uninstall` removes what LeanVibe made, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors.command_line.main import leanvibe
from actors.command_line.service_units import MARK
from actors.inspection.server_file import lock_data_folder

DATA = ("leanvibe.sqlite3", "leanvibe.sqlite3-wal", "server.json", "vapid.pem", "chat-history")
BACKUPS = ("monday.backup", "leanvibe.sqlite3.before-0003")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder and a cache folder with everything in them, something of the user's, and links to elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("LEANVIBE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "data"))
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir(mode=0o700)
    for name in (*DATA, *BACKUPS, "lock"):
        (data / name).write_text("x", encoding="utf-8")
    for name in ("models/phi/weights", "machine-code/kernel", "blas/lib"):
        path = cache / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 3000)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo").write_text("mine", encoding="utf-8")
    return tmp_path


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(leanvibe, ["uninstall", *arguments], input=given)


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()} if folder.exists() else set()


def test_un1_it_lists_and_asks_and_a_no_changes_nothing(place: Path) -> None:
    before = names(place / "data") | names(place / "cache")
    done = run(given="n\n")
    assert done.exit_code == 1
    for name in (*DATA, "models", "blas", "machine-code"):
        assert name in done.output
    assert names(place / "data") | names(place / "cache") == before
    listed = json.loads(run("--json").stdout)
    assert listed["removed"] == []
    assert {Path(one["path"]).name for one in listed["found"]} == {*DATA, "models", "blas", "machine-code"}
    assert {Path(one).name for one in listed["kept"]} == set(BACKUPS)
    assert names(place / "data") | names(place / "cache") == before


def test_un2_backups_are_kept_unless_asked(place: Path) -> None:
    done = run("--yes")
    assert done.exit_code == 0, done.output
    assert names(place / "data") == set(BACKUPS)
    assert not (place / "cache").exists()
    assert run("--yes", "--backups").exit_code == 0
    assert not (place / "data").exists()
    again = run("--yes")
    assert again.exit_code == 0
    assert "nothing of LeanVibe is in" in again.stdout


def test_un3_what_others_made_stays_and_links_are_not_followed(place: Path) -> None:
    (place / "data" / "notes.txt").write_text("mine", encoding="utf-8")
    (place / "data" / "old.backup").mkdir()
    (place / "data" / "old.backup" / "thing").write_text("mine", encoding="utf-8")
    (place / "cache" / "other").mkdir()
    # A link in the place of a folder of ours, one inside of it, and one in the place of a file.
    (place / "cache" / "encoders").symlink_to(place / "precious")
    (place / "cache" / "models" / "inside").symlink_to(place / "precious")
    (place / "data" / "server.json").unlink()
    (place / "data" / "server.json").symlink_to(place / "precious" / "photo")
    done = run("--yes", "--backups", "--json")
    assert done.exit_code == 0, done.output
    assert (place / "precious" / "photo").read_text(encoding="utf-8") == "mine"
    assert names(place / "data") == {"notes.txt", "old.backup"}
    assert names(place / "data" / "old.backup") == {"thing"}
    assert names(place / "cache") == {"other"}


def test_un3_a_folder_that_is_a_link_is_named_and_not_followed(place: Path) -> None:
    (place / "data").rename(place / "elsewhere")
    (place / "data").symlink_to(place / "elsewhere")
    done = run("--yes", "--data-dir", str(place / "data"))
    assert done.exit_code == 1
    assert "is a link to" in done.stderr
    assert names(place / "elsewhere") == {*DATA, *BACKUPS, "lock"}


def test_un4_nothing_is_removed_beneath_a_running_server(place: Path) -> None:
    lock = lock_data_folder(place / "data")
    try:
        before = names(place / "data")
        done = run("--yes")
        assert done.exit_code == 1
        assert "is in use by another LeanVibe server" in done.stderr
        assert names(place / "data") == before
        assert (place / "cache" / "models").is_dir()
    finally:
        os.close(lock)


def test_un5_an_installed_service_is_removed_first(place: Path) -> None:
    unit = place / "home" / ".config" / "systemd" / "user" / "leanvibe.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"{MARK}\n", encoding="utf-8")
    done = run("--yes")
    assert done.exit_code == 1
    assert "remove it first: leanvibe service uninstall" in done.stderr
    assert names(place / "data") == {*DATA, *BACKUPS, "lock"}


def test_un6_a_database_elsewhere_stays_and_its_password_is_not_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANVIBE_DATABASE", "postgresql://me:secret@127.0.0.1/x")
    done = run("--yes")
    assert done.exit_code == 0, done.output
    assert "the PostgreSQL database" in done.stdout
    assert "secret" not in done.output
