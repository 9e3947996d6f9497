"""The first start: interrupted steps are resumed, clients are told to wait, and its end leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.own_command import line_here
from actors.settings import Settings
from tests.system.serving_process import COMMAND, REPOSITORY, environment, is_alive, start_server, wait_for

pytestmark = pytest.mark.integration

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "leanvibe"
version = "0"
"""
BACKEND = """
import zipfile
NAME = "leanvibe-0-py3-none-any.whl"
FILES = {
    "leanvibe_of_a_test.py": "def main(): print('it runs')",
    "leanvibe-0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: leanvibe\\nVersion: 0\\n",
    "leanvibe-0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "leanvibe-0.dist-info/entry_points.txt": "[console_scripts]\\nleanvibe = leanvibe_of_a_test:main\\n",
    "leanvibe-0.dist-info/RECORD": "",
}
def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/{NAME}", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
    return NAME
build_wheel = build_editable
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Create an empty package, and the scripts that set it up."""
    top = tmp_path / "checkout"
    (top / "scripts").mkdir(parents=True)
    for name in ("environment.sh", "install_packages.py"):
        (top / "scripts" / name).write_bytes((REPOSITORY / "scripts" / name).read_bytes())
    (top / "pyproject.toml").write_text(PYPROJECT)
    (top / "backend.py").write_text(BACKEND)
    (top / "constraints.txt").touch()
    return top


def prepare(top: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", '. scripts/environment.sh; prepare ""'],
        cwd=top,
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_environment_that_was_interrupted_is_finished_or_made_anew(checkout: Path) -> None:
    # The state of `python -m venv` before it installs pip.
    programs = checkout / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(os.path.realpath(sys.executable))
    done = prepare(checkout)
    assert done.returncode == 0, done.stderr
    assert "anew" in done.stderr
    assert "packages: all installed" in done.stderr
    assert subprocess.run([programs / "leanvibe"], capture_output=True, check=True).stdout == b"it runs\n"
    assert prepare(checkout).stderr == ""

    # The state of pip's installation before it records the package.
    (record,) = checkout.glob(".venv/lib/*/site-packages/leanvibe-0.dist-info/RECORD")
    record.unlink()
    (programs / "leanvibe").unlink()
    done = prepare(checkout)
    assert (done.returncode, "anew" in done.stderr) == (0, False), done.stderr
    assert subprocess.run([programs / "leanvibe"], capture_output=True, check=True).stdout == b"it runs\n"


def test_a_python_that_is_refused_leaves_nothing_behind(checkout: Path) -> None:
    old = checkout / "python-of-another-time"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = prepare(checkout, str(old))
    assert (done.returncode, "is not Python 3.11" in done.stderr) == (1, True)
    assert not (checkout / ".venv").exists()


@contextmanager
def preparing_server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run a server that waits for its model, which another process never finishes. Yields the process and its ports."""
    models = tmp_path / "cache/models"
    models.mkdir(parents=True)
    with socket.socket() as one, socket.socket() as other, (models / ".embedded.lock").open("wb") as lock:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
        fcntl.flock(lock, fcntl.LOCK_EX)
        one.close()
        other.close()
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [*COMMAND, "serve", "--engine", "mlx", "--port", str(ports[0]), "--ws-port", str(ports[1])],
                env=environment(tmp_path, LEANVIBE_BLAS="system"),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process, *ports
        finally:
            process.kill()
            process.wait(10)


def refusal(port: int, path: str, **headers: str) -> tuple[int, dict[str, Any]] | None:
    """Return status and body of the response, or None while nothing listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except urllib.error.URLError:
        return None
    raise AssertionError("a server that prepares its model answered a request")


def children(pid: int) -> list[int]:
    return [int(one) for tasks in Path(f"/proc/{pid}/task").glob("*/children") for one in tasks.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_prepares_its_model_says_so_on_both_ports_and_leaves_no_child(
    tmp_path: Path, number: signal.Signals
) -> None:
    with preparing_server(tmp_path) as (process, port, ws_port):
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}

        def is_waiting() -> bool:
            told = refusal(port, "/health/live")
            return told is not None and "waiting" in told[1]["stage"]

        wait_for(is_waiting, what="the child")
        for told in (refusal(port, "/ai/process"), refusal(ws_port, "/ws", **upgrade)):
            assert told is not None
            status, problem = told
            assert (status, problem["code"], problem["fraction"]) == (503, "preparing", 0.0)
        assert "waiting" in (tmp_path / "log").read_text()
        (child,) = children(process.pid)
        process.send_signal(number)
        assert process.wait(20) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: not is_alive(child), what="the end of the child")


SCRIPT = """
import sys
from actors.command_line.preparing import PreparationEnded, prepare_in_a_process
child = '''
import json, subprocess
other = subprocess.Popen(["sleep", "600"])
print(json.dumps({"stage": str(other.pid), "fraction": 0.5}), flush=True)
other.wait()
'''
try:
    prepare_in_a_process([sys.executable, "-c", child], None, lambda stage, _: print(stage, flush=True))
except PreparationEnded as ended:
    sys.exit(ended.status)
"""


def test_what_the_preparation_started_itself_ends_with_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout is not None
    with process.stdout as output:
        grandchild = int(output.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert not is_alive(grandchild)


def test_the_greeting_tells_lines_that_work_as_they_stand(tmp_path: Path) -> None:
    with start_server(tmp_path / "a folder") as server:
        server.until_ready()
        wait_for(lambda: "  Try " in server.log.read_text(), what="the greeting")
        greeting = server.log.read_text()
        (question,) = [line.removeprefix("  Try") for line in greeting.splitlines() if line.startswith("  Try")]
        (status,) = [line for line in greeting.splitlines() if line.startswith("     ") and " status" in line]
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LEANVIBE_")}
        for line in (question, status):
            done = subprocess.run(["sh", "-c", line], cwd="/", env=plain, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "No server is running" not in done.stderr
        assert f"{server.about['rest_url']}/docs" in greeting


def test_the_greeting_names_the_command_as_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANVIBE_COMMAND", "scripts/leanvibe")
    monkeypatch.chdir(REPOSITORY)
    assert line_here(Settings(), "status") == f"{REPOSITORY}/scripts/leanvibe status"
    here = line_here(Settings(data_dir=Path("other")), "ask", "a b")
    assert here == f"{REPOSITORY}/scripts/leanvibe ask 'a b' --data-dir {REPOSITORY}/other"
