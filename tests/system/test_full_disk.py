"""A real disk of a few MiB that is full or read-only: the server reads, reports the problem, and recovers by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.serving_process import COMMAND, REPOSITORY, environment, wait_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/proc/mounts").exists(), reason="mounting needs root on Linux"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


class Server:
    """A server with its data on that disk, queried only over REST: nothing else works reliably."""

    def __init__(self, disk: Path, log: Path) -> None:
        self.log = log
        with log.open("w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--engine", "mock", "--port", "0", "--ws-port", "0"],
                env=environment(disk / "data"),
                cwd=REPOSITORY,
                stderr=output,
            )
        wait_for(self.is_up, what=f"the server: {log.read_text(encoding='utf-8')}")

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        return any("REST  " in line for line in self.lines()[-6:])

    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        url = next(line.split()[1] for line in reversed(self.lines()) if "REST  " in line)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            url + path, data, {"Content-Type": "application/json", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def is_ready(self) -> bool:
        status, body = self.ask("GET", "/health/ready")
        return status == 200 and "degraded" not in body

    def create(self, title: str, **fields: Any) -> tuple[int, Any]:
        return self.ask("POST", "/tasks/a", {"title": title, **fields})

    def titles(self) -> list[str]:
        status, body = self.ask("GET", "/tasks/a?limit=100")
        assert status == 200
        return [one["title"] for one in body["tasks"]]

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(25)


@contextlib.contextmanager
def serving(disk: Path, log: Path) -> Iterator[Server]:
    server = Server(disk, log)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)


def test_op_a_disk_that_fills_up_ends_nobody_and_a_server_started_on_it_reads(disk: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(disk, log) as server:
        wait_for(server.is_ready, what="ready")
        assert server.create("before")[0] == 201
        worker = json.loads((disk / "data/server.json").read_text(encoding="utf-8"))["worker_pid"]
        fill(disk)
        # The log next to the file may have some space left.
        kept = ["before"]
        for number in range(95):
            status, body = server.create(f"meanwhile {number}", description="x" * 9000)
            if status != 201:
                break
            kept.append(f"meanwhile {number}")
        assert (status, body["code"]) == (503, "unavailable")
        os.kill(worker, signal.SIGKILL)
        wait_for(
            lambda: any(
                "inspection: server.json is not there" in one
                for one in server.ask("GET", "/health/ready")[1].get("degraded", ())
            ),
            what="the missing file to be told of",
        )
        status, body = server.ask("GET", "/health/ready")
        assert status == 503
        assert any("storage is not writable" in one for one in body["reasons"])
        assert sorted(server.titles()) == sorted(kept)
        (disk / "filler").unlink()
        # Nothing writes, and it is noticed all the same.
        wait_for(server.is_ready, what="ready again")
        assert server.create("after")[0] == 201
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0
    fill(disk)
    with serving(disk, log) as server:
        assert sorted(server.titles()) == sorted([*kept, "after"])
        status, body = server.create("refused")
        assert (status, body["code"]) == (503, "unavailable")
        status, body = server.ask("GET", "/health/ready")
        assert status == 503
        assert any("storage is not writable" in one for one in body["reasons"])
        (disk / "filler").unlink()
        wait_for(server.is_ready, what="ready again")
        assert server.create("at last")[0] == 201
        assert sorted(server.titles()) == sorted([*kept, "after", "at last"])
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_op_a_server_on_a_read_only_disk_reads_and_writes_once_it_may(
    number: signal.Signals, disk: Path, tmp_path: Path
) -> None:
    """Data that a killed server left in SQLite's log counts too."""
    log, key = tmp_path / "log", {"Idempotency-Key": "once"}
    with serving(disk, log) as server:
        status, made = server.ask("POST", "/tasks/a", {"title": "before"}, **key)
        assert status == 201
        server.end(number)
    remount(disk, "ro")
    with serving(disk, log) as server:
        assert server.titles() == ["before"]
        # A repeated command that had been stored is not reported as rejected; a new one under a new key is.
        status, again = server.ask("POST", "/tasks/a", {"title": "before"}, **key)
        assert (status, again["id"]) == (201, made["id"])
        status, body = server.ask("POST", "/tasks/a", {"title": "refused"}, **{"Idempotency-Key": "another"})
        assert (status, body["code"]) == (503, "unavailable")
        status, body = server.create("refused")
        assert (status, body["code"]) == (503, "unavailable")
        assert server.ask("GET", "/health/ready")[0] == 503
        # No server.json can be written, and that of the previous server may still exist.
        for words in (["status"], ["task", "list", "--client", "a"], ["inspect", "tree"]):
            done = subprocess.run(
                [*COMMAND, *words],
                check=False,
                env=environment(disk / "data"),
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
            )
            assert ("before" in done.stdout) == (words[0] == "task"), (words, done.stdout, done.stderr)
            assert "no server runs" not in done.stderr
        remount(disk, "rw")
        wait_for(server.is_ready, what="ready again")
        assert server.create("after")[0] == 201
        assert sorted(server.titles()) == ["after", "before"]
        server.end(signal.SIGTERM)
        assert server.process.returncode == 0
