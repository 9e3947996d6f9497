"""The service managers: systemd and launchd, by their own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from attrs import frozen

from actors.command_line.options import fail
from actors.command_line.printing import end_line
from actors.command_line.service_units import (
    LABEL,
    MARK,
    ServicePlan,
    launchd_agent,
    systemd_service,
    systemd_socket,
)

__all__ = ["Launchd", "Manager", "Systemd", "home", "is_ours", "write_file"]

MANAGER_SECONDS = 120.0
START_SECONDS = 960.0
"""What a start may take: it is waited for until the server is ready, and the first one fetches a model."""


@frozen
class Systemd:
    is_system: bool
    is_systemd: bool = True

    @property
    def folder(self) -> Path:
        if self.is_system:
            return Path("/etc/systemd/system")
        return Path(os.environ.get("XDG_CONFIG_HOME") or home() / ".config") / "systemd" / "user"

    def all_files(self) -> list[Path]:
        return [self.folder / f"{LABEL}.service", self.folder / f"{LABEL}.socket"]

    def files(self, plan: ServicePlan) -> dict[Path, bytes]:
        unit, sockets = self.all_files()
        found = {unit: systemd_service(plan).encode()}
        return found | ({sockets: systemd_socket(plan).encode()} if plan.has_socket else {})

    def _command(self, *words: str) -> list[str]:
        return ["systemctl", *(() if self.is_system else ("--user",)), *words]

    def enable(self, plan: ServicePlan) -> None:
        _run(*self._command("daemon-reload"))
        _run(*self._command("enable", f"{LABEL}.service"))
        if plan.has_socket:
            _run(*self._command("restart", f"{LABEL}.socket"))
        else:
            _run(*self._command("restart", f"{LABEL}.service"), seconds=START_SECONDS)

    def disable(self) -> None:
        names = [path.name for path in self.all_files() if path.exists()]
        _run(*self._command("disable", "--now", *names))

    def reload(self) -> None:
        _run(*self._command("daemon-reload"))

    def act(self, name: str) -> None:
        sockets = [f"{LABEL}.socket"] if self.all_files()[1].exists() else []
        # Whoever connects would start it again.
        units = [*sockets, f"{LABEL}.service"]
        _run(*self._command(name, *units), seconds=START_SECONDS)

    def properties(self) -> dict[str, str]:
        shown = "ActiveState,SubState,StatusText,MainPID,NRestarts,Result,UnitFileState"
        said = _run(*self._command("show", f"{LABEL}.service", f"--property={shown}"))
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def show_status(self) -> int:
        return _pass_through(*self._command("status", "--no-pager", f"{LABEL}.service"))

    def show_logs(self, *, lines: int, follow: bool) -> int:
        which = ["--unit" if self.is_system else "--user-unit", f"{LABEL}.service"]
        return _pass_through("journalctl", *which, "--no-pager", f"--lines={lines}", *(("--follow",) if follow else ()))


@frozen
class Launchd:
    is_system: bool = False
    is_systemd: bool = False

    @property
    def _target(self) -> str:
        return f"gui/{os.getuid()}"

    @property
    def _log(self) -> Path:
        return home() / "Library" / "Logs" / "leanvibe.log"

    def all_files(self) -> list[Path]:
        return [home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"]

    def files(self, plan: ServicePlan) -> dict[Path, bytes]:
        return {self.all_files()[0]: launchd_agent(plan, self._log)}

    def enable(self, plan: ServicePlan) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        _run("launchctl", "bootout", f"{self._target}/{LABEL}", may_fail=True)
        _run("launchctl", "bootstrap", self._target, str(self.all_files()[0]))

    def disable(self) -> None:
        _run("launchctl", "bootout", f"{self._target}/{LABEL}", may_fail=True)

    def reload(self) -> None:
        """launchd forgets by itself."""

    def act(self, name: str) -> None:
        if name == "start":
            _run("launchctl", "kickstart", f"{self._target}/{LABEL}")
        else:
            _run("launchctl", "kill", "SIGTERM", f"{self._target}/{LABEL}")

    def properties(self) -> dict[str, str]:
        said = _run("launchctl", "print", f"{self._target}/{LABEL}")
        state = [line.partition("=")[2].strip() for line in said.splitlines() if line.strip().startswith("state =")]
        return {"ActiveState": "active" if state[:1] == ["running"] else "inactive"}

    def show_status(self) -> int:
        return _pass_through("launchctl", "print", f"{self._target}/{LABEL}")

    def show_logs(self, *, lines: int, follow: bool) -> int:
        return _pass_through("tail", "-n", str(lines), *(("-f",) if follow else ()), str(self._log))


Manager = Systemd | Launchd


def home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        fail("your home folder is not known; set HOME")


def is_ours(path: Path) -> bool:
    """True if the file was written by `install`; never for a link."""
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    return content.startswith(MARK.encode()) or (
        path.suffix == ".plist" and f"<string>{LABEL}</string>".encode() in content
    )


def write_file(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _run(*command: str, seconds: float = MANAGER_SECONDS, may_fail: bool = False) -> str:
    """Run a program of the service manager; what it says of a failure ends the command."""
    try:
        done = subprocess.run(  # noqa: S603  our own words, and paths that were checked
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError:
        fail(f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        fail(f"`{' '.join(command)}` did not end within {seconds:g} seconds; `leanvibe service logs` shows why")
    if done.returncode and not may_fail:
        said = (done.stderr or done.stdout).strip() or f"it ended with {done.returncode}"
        fail(f"`{' '.join(command)}` failed: {said}")
    return done.stdout


def _pass_through(*command: str) -> int:
    """Run a program that prints for people, and return its exit status."""
    sys.stdout.flush()
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603  our own words
    except FileNotFoundError:
        fail(f"{command[0]} is not installed")
    except KeyboardInterrupt:
        end_line()
        return 130
