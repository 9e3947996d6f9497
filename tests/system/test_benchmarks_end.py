"""Benchmarks that are told to end: no stack, no server left behind, and what was measured is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.system.serving_process import REPOSITORY, is_alive, wait_for

pytestmark = pytest.mark.integration


def started(script: str, *arguments: str, folder: Path) -> subprocess.Popen[str]:
    # By this Python, as the script itself would have it by that of `.venv`.
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "scripts" / script), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def server_of(folder: Path) -> dict[str, Any]:
    """Where the server of a benchmark is, once it runs."""
    (file,) = wait_for(lambda: list(folder.rglob("server.json")), what="server.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def has_answered(about: dict[str, Any], count: int) -> bool:
    with urllib.request.urlopen(f"{about['rest_url']}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    ended = [line for line in lines if line.startswith("leanvibe_request_success_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in ended) >= count


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_benchmark_that_is_told_to_end_amid_answers_shows_what_came(tmp_path: Path, told: signal.Signals) -> None:
    process = started("bench_api", "--clients", "4", "--rate", "40", "--seconds", "100", "--json", folder=tmp_path)
    try:
        about = server_of(tmp_path)
        wait_for(lambda: has_answered(about, 20), what="answers")
        process.send_signal(told)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
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


def test_parts_that_were_measured_are_shown_and_the_others_named(tmp_path: Path) -> None:
    process = started(
        "bench_connections", "--only", "codec", "--only", "ping", "--rounds", "1", "--count", "20000", folder=tmp_path
    )
    try:
        about = server_of(tmp_path)
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (128 + signal.SIGTERM, "told to end by SIGTERM: not measured: ping\n")
    assert "all of these" in printed
    assert not is_alive(about["pid"])
