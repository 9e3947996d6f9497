"""`leanvibe service`: the files are real and judged by systemd's own checker; `systemctl` and `launchctl` are recorded."""

from __future__ import annotations

import json
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors.command_line.main import leanvibe
from actors.command_line.service_units import MARK, ServicePlan, launchd_agent, systemd_service, systemd_socket

SECONDS = 120.0
RECORDER = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"$RECORD"
case "$*" in
*"$FAILING"*) echo "Failed to connect to bus" >&2; exit 1;;
*show*) printf 'ActiveState=active\\nStatusText=mock is ready\\n';;
esac
"""


class Place:
    """A home with programs that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.record = folder / "record"
        self.unit = self.home / ".config" / "systemd" / "user" / "leanvibe.service"
        self.socket = self.unit.with_suffix(".socket")

    def calls(self) -> list[str]:
        found = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(tmp_path)
    found.home.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "launchctl", "journalctl"):
        (programs / name).write_text(RECORDER, encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(found.home))
    monkeypatch.setenv("RECORD", str(found.record))
    monkeypatch.setenv("FAILING", "nothing fails")
    monkeypatch.setenv("COLUMNS", "300")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(leanvibe, ["service", *arguments])


def test_sv11_install_writes_the_unit_makes_the_folders_and_starts_it(place: Place) -> None:
    done = run("install", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"files": [str(place.unit)], "started": True}
    assert place.calls() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable leanvibe.service",
        "systemctl --user restart leanvibe.service",
    ]
    unit = place.unit.read_text(encoding="utf-8")
    # The unit lets the server write there and nowhere else, so they have to be there.
    data, cache = re.findall(r"^ReadWritePaths=-(\S+) -(\S+)$", unit, re.MULTILINE)[0]
    assert Path(data).is_relative_to(place.home)
    assert Path(data).stat().st_mode & 0o777 == 0o700
    assert Path(cache).is_dir()


def test_sv11_installed_twice_nothing_changes_and_what_differs_is_refused(place: Place) -> None:
    assert run("install").exit_code == 0
    before = place.unit.read_bytes()
    again = run("install")
    assert again.exit_code == 0
    assert "already installed" in again.stdout
    place.calls()
    differs = run("install", "--memory-max", "4G")
    assert differs.exit_code == 1
    assert "--replace overwrites it" in differs.stderr
    assert place.unit.read_bytes() == before
    assert place.calls() == []
    assert run("install", "--memory-max", "4G", "--replace", "--socket-activation").exit_code == 0
    assert "MemoryMax=4G" in place.unit.read_text(encoding="utf-8")
    assert place.calls()[-1] == "systemctl --user restart leanvibe.socket"
    assert run("install", "--replace").exit_code == 0
    assert not place.socket.exists(), "of the service before"


def test_sv12_files_of_others_are_left_alone(place: Place) -> None:
    place.unit.parent.mkdir(parents=True)
    place.unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    for command in (("install", "--replace"), ("uninstall",)):
        done = run(*command)
        assert done.exit_code == 1, command
        assert "was not written by `leanvibe service install`" in done.stderr
    assert "/bin/true" in place.unit.read_text(encoding="utf-8")
    # Ours in content, but a link: what it leads to is not ours to overwrite or remove.
    elsewhere = place.home / "elsewhere"
    place.unit.rename(elsewhere)
    elsewhere.write_text(f"{MARK}\n", encoding="utf-8")
    place.unit.symlink_to(elsewhere)
    assert run("uninstall").exit_code == 1
    assert place.unit.is_symlink()
    assert elsewhere.exists()
    assert place.calls() == []


def test_sv12_uninstall_stops_and_removes_and_is_done_twice(place: Place) -> None:
    assert run("install", "--socket-activation").exit_code == 0
    place.calls()
    done = run("uninstall")
    assert done.exit_code == 0, done.output
    assert place.calls() == [
        "systemctl --user disable --now leanvibe.service leanvibe.socket",
        "systemctl --user daemon-reload",
    ]
    assert not place.unit.exists()
    assert not place.socket.exists()
    again = run("uninstall", "--json")
    assert (again.exit_code, json.loads(again.stdout)) == (0, {"removed": []})
    assert place.calls() == []


def test_sv12_the_other_commands(place: Place) -> None:
    for name in ("start", "stop", "status", "logs"):
        done = run(name)
        assert done.exit_code == 3, name
        assert "no service is installed; install it with `leanvibe service install`" in done.stderr
    assert run("install", "--no-start").exit_code == 0
    assert place.calls() == []
    for name in ("start", "stop"):
        assert run(name).exit_code == 0
        assert place.calls() == [f"systemctl --user {name} leanvibe.service"]
    done = run("status", "--json")
    assert json.loads(done.stdout) == {"ActiveState": "active", "StatusText": "mock is ready"}
    place.calls()
    assert run("logs", "-n", "5", "--follow").exit_code == 0
    assert place.calls() == ["journalctl --user-unit leanvibe.service --no-pager --lines=5 --follow"]


def test_sv12_what_systemd_refuses_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILING", "daemon-reload")
    done = run("install")
    assert done.exit_code == 1
    assert "`systemctl --user daemon-reload` failed: Failed to connect to bus" in done.stderr
    monkeypatch.setenv("PATH", str(place.home))
    assert "systemd is not installed" in run("install").stderr


def test_sv13_a_wrong_setting_or_an_unreadable_program_is_said_before_anything_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANVIBE_PORT", "70000")
    done = run("install")
    assert done.exit_code == 2
    assert "port must be between 0 and 65535" in done.stderr
    monkeypatch.delenv("LEANVIBE_PORT")
    monkeypatch.setattr(sys, "argv", [str(place.home / "leanvibe")])
    (place.home / "leanvibe").touch()
    done = run("install", "--system", "--print")
    assert done.exit_code == 1
    assert "lies in a home folder" in done.stderr
    assert not place.unit.exists()
    assert place.calls() == []


PLANS = {
    "user": ServicePlan(
        program=("/bin/true",), is_system=False, data_dir=Path('/srv/of "me" 100%/$HOME'), cache_dir=Path("/srv/a cache"),
        config=Path("/srv/it's.toml"), environment={"LEANVIBE_PUSH_CONTACT": "https://a.example/%20?b=$c"},
    ),
    "system": ServicePlan(program=("/bin/true",), is_system=True, has_socket=True, host="::1"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_sv14_systemd_itself_takes_the_units(name: str, tmp_path: Path) -> None:
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd is not installed; apt-get install systemd")
    plan = PLANS[name]
    unit = tmp_path / "leanvibe.service"
    unit.write_text(systemd_service(plan), encoding="utf-8")
    (tmp_path / "leanvibe.socket").write_text(systemd_socket(plan), encoding="utf-8")
    files = [unit, unit.with_suffix(".socket")] if plan.has_socket else [unit]
    done = subprocess.run(
        [checker, "verify", "--man=no", "--recursive-errors=no", *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    judged = subprocess.run(
        [checker, "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    if plan.is_system:
        # 2.0 of 10; systemd calls that OK. A unit of a user is judged as if it could have the rights of root.
        assert judged.returncode == 0, judged.stdout[-2000:]


def test_sv14_words_with_spaces_and_signs_arrive_as_they_are() -> None:
    text = systemd_service(PLANS["user"])
    assert 'ExecStart=/bin/true serve --config "/srv/it\'s.toml"\n' in text
    assert 'Environment="LEANVIBE_DATA_DIR=/srv/of \\"me\\" 100%%/$HOME"\n' in text
    assert 'ReadWritePaths="-/srv/of \\"me\\" 100%%/$HOME" "-/srv/a cache"\n' in text


def test_sv15_the_unit_is_hardened_and_lets_kernels_be_compiled() -> None:
    for plan in PLANS.values():
        lines = systemd_service(plan).splitlines()
        for wanted in (
            "Type=notify",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "PrivateTmp=yes",
            "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
            "OOMPolicy=continue",
            "RestartPreventExitStatus=2",
        ):
            assert wanted in lines
        assert any(one.startswith("WatchdogSec=") for one in lines)
        assert any(one.startswith("MemoryMax=") for one in lines)
        assert not any(one.startswith("MemoryDenyWriteExecute=") for one in lines)


def test_sv16_macos_gets_an_agent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it can be seen without macOS: the property list, and the order of the commands."""
    monkeypatch.setattr(sys, "platform", "darwin")
    done = run("install")
    assert done.exit_code == 0, done.output
    path = place.home / "Library" / "LaunchAgents" / "leanvibe.plist"
    agent = plistlib.loads(path.read_bytes())
    assert agent["Label"] == "leanvibe"
    assert agent["ProgramArguments"][-1] == "serve"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert [one.split()[:2] for one in place.calls()] == [["launchctl", "bootout"], ["launchctl", "bootstrap"]]
    assert "for systemd" in run("install", "--system").stderr
    assert run("uninstall").exit_code == 0
    assert not path.exists()
    assert launchd_agent(PLANS["user"], Path("/log"))
