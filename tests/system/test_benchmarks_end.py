"""Interrupted benchmarks: they print no stack trace, leave no server running, and show what they measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.system.serving_process import REPOSITORY, is_alive, wait_for

pytestmark = pytest.mark.integration


IGNORING_SIGINT = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""Starts a program as background jobs of shells, `nohup` and some test runners do."""


@contextmanager
def started(script: str, *arguments: str, folder: Path, by: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run a benchmark; neither it nor its servers remain afterwards."""
    # With this Python, as the script itself would use that of `.venv`.
    process = subprocess.Popen(
        [*by, sys.executable, str(REPOSITORY / "scripts" / script), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        # A benchmark that ended by itself has none left.
        servers = servers_of(process, folder)
        process.kill()
        process.communicate()
        for pid in servers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def servers_of(process: subprocess.Popen[str], folder: Path) -> set[int]:
    """Return the process ids of a benchmark's servers, as known to the system and as they report themselves."""
    pids = {json.loads(file.read_text(encoding="utf-8"))["pid"] for file in folder.rglob("server.json")}
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
        pids.update(int(pid) for pid in children.split())
    return pids


def server_of(folder: Path) -> dict[str, Any]:
    """Return the `server.json` of a benchmark's server once it runs."""
    (file,) = wait_for(lambda: list(folder.rglob("server.json")), what="server.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def has_answered(about: dict[str, Any], count: int) -> bool:
    with urllib.request.urlopen(f"{about['rest_url']}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    ended = [line for line in lines if line.startswith("leanvibe_request_success_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in ended) >= count


@pytest.mark.parametrize("by", [(), IGNORING_SIGINT], ids=["at-a-terminal", "SIGINT-ignored"])
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_benchmark_that_is_told_to_end_amid_answers_shows_what_came(
    tmp_path: Path, told: signal.Signals, by: tuple[str, ...]
) -> None:
    arguments = ("--clients", "4", "--rate", "8", "--seconds", "100", "--json")
    with started("bench_api", *arguments, folder=tmp_path, by=by) as process:
        about = server_of(tmp_path)
        wait_for(lambda: has_answered(about, 20), what="answers")
        process.send_signal(told)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 128 + told, said
    assert said.startswith(f"told to end by {told.name}: ")
    assert said.count("\n") == 1
    report = json.loads(printed)
    assert report["is_whole"] is False
    assert list(report["doors"]) == ["/v1"]
    assert report["doors"]["/v1"]["answered"] >= 10
    assert report["doors"]["/v1"]["failed"] == 0
    assert not is_alive(about["pid"])
    assert list(tmp_path.iterdir()) == []


TOLD_AMID_A_LINE = """
import signal, sys
import trio
from benchmark.told_to_end import run_until_told, until_told_to_end

async def work(told):
    try:
        signal.raise_signal(told)
        print("not interrupted", flush=True)
        await trio.sleep_forever()
    except trio.Cancelled:
        print("cancelled", flush=True)
        raise OSError("what was cut") from None

with until_told_to_end() as ending:
    run_until_told(work, signal.Signals[sys.argv[1]])
    print("ran on", flush=True)
ending.say("nothing")
"""


@pytest.mark.parametrize("by", [(), IGNORING_SIGINT], ids=["at-a-terminal", "SIGINT-ignored"])
@pytest.mark.parametrize("told", ["SIGTERM", "SIGINT"])
def test_a_signal_interrupts_no_line_under_trio_but_cancels_it(told: str, by: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [*by, sys.executable, "-c", TOLD_AMID_A_LINE, told],
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "scripts")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("not interrupted\ncancelled\n", f"told to end by {told}: nothing\n")


def test_parts_that_were_measured_are_shown_and_the_others_named(tmp_path: Path) -> None:
    arguments = ("--only", "codec", "--only", "ping", "--rounds", "1", "--count", "20000")
    with started("bench_connections", *arguments, folder=tmp_path) as process:
        about = server_of(tmp_path)
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.SIGTERM, "told to end by SIGTERM: not measured: ping\n")
    assert "all of these" in printed
    assert not is_alive(about["pid"])
