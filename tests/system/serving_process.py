"""`leanvibe serve` as a process of its own, and other commands against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define
from click.testing import CliRunner

from actors.command_line.main import leanvibe as program

__all__ = ["ServingProcess", "is_alive", "leanvibe", "start_server", "wait_for"]

COMMAND = [sys.executable, "-m", "actors.command_line.main"]
REPOSITORY = Path(__file__).parents[2]


def wait_for(condition: Callable[[], Any], *, seconds: float = 120.0, what: str = "") -> Any:
    """Poll until ``condition`` is truthy and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    """True if the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        if Path("/proc").is_dir():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state != "Z"


def environment(data_folder: Path, **settings: str) -> dict[str, str]:
    """Return the environment without settings of the person who runs the tests, with these added."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LEANVIBE_")}
    return {
        **plain,
        "LEANVIBE_DATA_DIR": str(data_folder),
        "LEANVIBE_CACHE_DIR": str(data_folder / "cache"),
        # No test here may start the real engine by accident: it would fetch a model first.
        "LEANVIBE_ENGINE": "mock",
        # Nor may a test reach a server that this person runs.
        "LEANVIBE_PORT": "0",
        "LEANVIBE_WS_PORT": "0",
        "LEANVIBE_CLIENT_ID": "system-test",
        "COLUMNS": "200",
        **settings,
    }


def leanvibe(
    data_folder: Path, *arguments: str, seconds: float = 90.0, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(data_folder, **settings),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@define
class ServingProcess:
    """A running server."""

    process: subprocess.Popen[str]
    data_folder: Path
    log: Path
    ready_seconds: float

    @property
    def about(self) -> dict[str, Any]:
        """The current `server.json`."""
        content: dict[str, Any] = json.loads((self.data_folder / "server.json").read_text(encoding="utf-8"))
        return content

    def worker_pid(self, other_than: int | None = None) -> int:
        """Return the worker's process id once it is known and differs from this one."""
        found: int = wait_for(
            lambda: (pid := self.about["worker_pid"]) is not None and pid != other_than and pid, what="a worker"
        )
        return found

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command against this server inside this process, to avoid the imports (`leanvibe` starts a new one)."""
        wanted = environment(self.data_folder, **settings)
        # None removes a variable from the environment meanwhile.
        done = CliRunner().invoke(
            program,
            arguments,
            env={**dict.fromkeys(os.environ), **wanted},
            prog_name="leanvibe",
            catch_exceptions=False,
        )
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def inspect_json(self, *arguments: str) -> Any:
        """Return the JSON output of an inspect command."""
        done = self.run("inspect", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until_ready(self) -> None:
        """Wait until questions can be answered."""
        wait_for(lambda: self.run("status").returncode == 0, what="ready")


@contextmanager
def start_server(data_folder: Path, *arguments: str, **settings: str) -> Iterator[ServingProcess]:
    """Run `leanvibe serve` with the mock engine on free ports; killed at the end if it still runs."""
    log = data_folder / "server.log"
    data_folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--engine", "mock", "--port", "0", "--ws-port", "0", *arguments],
            env=environment(data_folder, **settings),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:
        path = data_folder / "server.json"

        def is_up() -> bool:
            # A killed server's file may remain until the next one removes it.
            with suppress(FileNotFoundError):
                return bool(json.loads(path.read_text(encoding="utf-8"))["pid"] == process.pid)
            return False

        wait_for(lambda: is_up() or process.poll() is not None, what="server.json")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield ServingProcess(process, data_folder, log, time.monotonic() - began)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)
