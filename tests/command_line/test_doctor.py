"""`leanvibe doctor`, `completion` and `serve --check`: what is wrong is found and named, and nothing is changed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from actors.command_line import checkup
from actors.command_line.main import leanvibe
from actors.inspection.server_file import lock_data_folder
from actors.storage.database import database_url, open_engine
from actors.storage.schema import NEWEST_REVISION
from tests.database_fixture import fresh_database


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LEANVIBE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LEANVIBE_PORT", "0")
    monkeypatch.setenv("LEANVIBE_WS_PORT", "0")
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(leanvibe, list(arguments))


def found() -> dict[str, list[dict[str, Any]]]:
    """Findings by check; the exit status fits them."""
    result = run("doctor", "--data-dir", "data", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == (1 if told["problems"] else 0)
    by_check: dict[str, list[dict[str, Any]]] = {}
    for one in told["findings"]:
        assert one["state"] == "ok" or one["advice"] or one["said"], one
        by_check.setdefault(one["check"], []).append(one)
    return by_check


def states(check: str) -> list[str]:
    return [one["state"] for one in found()[check]]


def rows(folder: Path, statement: str, **values: Any) -> None:
    engine = open_engine(database_url(None, folder), writes=True)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def test_dr1_a_sound_machine_is_told_so_and_nothing_is_made(place: Path) -> None:
    fresh_database(place / "data")
    before = sorted(place.rglob("*"))
    result = run("doctor", "--data-dir", "data")
    assert result.exit_code == 0, result.output
    assert "0 problems" in result.output
    after = [one for one in sorted(place.rglob("*")) if not one.name.endswith(("-wal", "-shm"))]
    assert after == before


def test_dr2_a_port_that_is_taken_is_named_with_its_option(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("LEANVIBE_WS_PORT", str(port))
        bad = [one for one in found()["port"] if one["state"] == "problem"]
    assert len(bad) == 1
    assert str(port) in bad[0]["said"]
    assert "--ws-port" in bad[0]["advice"]


def test_dr3_every_state_of_a_database_is_told_apart(place: Path) -> None:
    assert "made at the first start" in found()["database"][0]["said"]
    file = Path(str(fresh_database(place / "data").database))
    assert states("database") == ["ok"]
    rows(place / "data", "UPDATE alembic_version SET version_num = '9999'")
    assert "newer" in found()["database"][0]["advice"]
    rows(place / "data", "UPDATE alembic_version SET version_num = '0003'")
    assert states("database") == ["ok"]
    rows(place / "data", f"UPDATE alembic_version SET version_num = '{NEWEST_REVISION}'")
    rows(place / "data", "ALTER TABLE tasks DROP COLUMN due_told_ms")
    assert "due_told_ms" in found()["database"][0]["said"]
    file.write_bytes(b"nothing that SQLite knows" * 1000)
    damaged = found()["database"][0]
    assert damaged["state"] == "problem"
    assert "restore" in damaged["advice"]


def test_dr3_no_password_of_a_database_is_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANVIBE_DATABASE", "postgresql://me:sesame@127.0.0.1:1/none")
    result = run("doctor", "--data-dir", "data", "--json")
    assert json.loads(result.stdout)["problems"] >= 1
    assert "sesame" not in result.output


def test_dr4_folders_and_disks_that_cannot_be_used_are_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "data").chmod(0o777)
    assert "chmod 700" in found()["data folder"][0]["said"]
    (place / "data").chmod(0o700)
    assert states("data folder") == ["ok"]
    monkeypatch.setattr(checkup, "NO_DISK_BYTES", 2**60)
    assert states("data folder") == ["problem"]
    monkeypatch.setattr(checkup, "NO_DISK_BYTES", 0)
    monkeypatch.setattr(checkup, "LITTLE_DISK_BYTES", 2**60)
    assert states("data folder") == ["warning"]
    monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)
    assert states("data folder") == ["problem"]
    (place / "cache").write_text("a file")
    monkeypatch.undo()
    monkeypatch.setenv("LEANVIBE_CACHE_DIR", str(place / "cache"))
    assert states("cache folder") == ["problem"]


def test_dr5_a_lock_is_told_from_what_a_killed_server_left(place: Path) -> None:
    (place / "data" / "server.json").write_text("{}")
    assert "killed" in found()["server"][0]["said"]
    lock = lock_data_folder(place / "data")
    try:
        assert states("server") == ["warning"]
    finally:
        os.close(lock)


def test_dr6_models_that_are_missing_or_broken_are_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = place / "cache" / "models" / "someone--broken"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("[" * 100_000)
    said = [(one["state"], one["said"]) for one in found()["model"]]
    assert said[0][0] == "ok"
    assert said[1][0] == "warning"
    assert "someone/broken" in said[1][1]
    monkeypatch.setenv("LEANVIBE_MODEL", "phi-3-mini")
    assert "model pull" in found()["model"][0]["advice"]
    monkeypatch.setenv("LEANVIBE_MODEL", "nobody/has-this")
    assert states("model")[0] == "problem"
    monkeypatch.setenv("LEANVIBE_ENGINE", "mock")
    assert states("model") == ["warning"]


def test_dr7_a_clock_that_was_set_back_is_noticed_by_what_is_stored(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh_database(place / "data")
    rows(
        place / "data",
        "INSERT INTO events VALUES ('me', 1, 'ping', 'tasks', 'low', :time_ms, '{}', 2)",
        time_ms=int(time.time() * 1000) + 3_600_000,
    )
    assert any("future" in one["said"] for one in found()["clock"])
    monkeypatch.setattr(checkup, "EPOCH_OF_THIS_PROGRAM", 2**33)
    assert states("clock")[0] == "problem"


def test_dr8_this_machine_is_looked_at_with_its_own_bounds(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "PYTHON", ((3, 99), (3, 99)))
    monkeypatch.setattr(checkup, "LITTLE_MEMORY_KIB", 2**50)
    monkeypatch.setattr(checkup.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(
        checkup, "_file", lambda path: "flags : fpu\n" if "cpuinfo" in path else "MemAvailable: 1000 kB"
    )
    monkeypatch.setattr(checkup.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("LEANVIBE_MAX_CONNECTIONS", "10000000")
    seen = found()
    assert seen["python"][0]["state"] == "problem"
    assert seen["memory"][0]["state"] == "warning"
    assert seen["open files"][0]["state"] == "warning"
    if checkup.sys.platform == "linux":
        assert [one["state"] for one in seen["processor"]] == ["warning"] * 3


def test_dr9_a_check_that_fails_hides_no_other(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Iterator[checkup.Finding]:
        raise RuntimeError("torn")

    monkeypatch.setattr(checkup, "_CHECKS", (broken, checkup._python))
    seen = found()
    assert "torn" in seen["broken"][0]["said"]
    assert seen["python"][0]["state"] == "ok"


def test_dr10_a_wrong_setting_is_a_finding_of_doctor_and_ends_the_check_of_serve(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "valid" in run("serve", "--check", "--data-dir", "data").stdout
    assert not list((place / "data").iterdir())
    for name, value in (("MODEL", "nobody/has-this"), ("DATABASE", "mysql://x"), ("TLS_KEY", "x"), ("PORT", "70000")):
        with monkeypatch.context() as patch:
            patch.setenv(f"LEANVIBE_{name}", value)
            checked = run("serve", "--check", "--data-dir", "data")
            assert checked.exit_code == 2, checked.output
            assert checked.stderr.startswith("leanvibe: ")
            assert "Traceback" not in checked.output
    monkeypatch.setenv("LEANVIBE_PORT", "70000")
    assert "port" in found()["settings"][0]["said"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_dr11_a_shell_completes_commands(shell: str) -> None:
    script = run("completion", shell)
    assert script.exit_code == 0
    assert "_LEANVIBE_COMPLETE" in script.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True)
        environment = {"_LEANVIBE_COMPLETE": "bash_complete", "COMP_WORDS": "leanvibe conv", "COMP_CWORD": "1"}
        told = CliRunner(env=environment).invoke(leanvibe, prog_name="leanvibe")
        assert "conversations" in told.output
