"""The protocol's scripts, started as a person starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )


def test_what_is_generated_is_up_to_date() -> None:
    done = run("scripts/generate_schemas", "--check")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.alone
def test_the_benchmark_measures_what_it_is_asked_for() -> None:
    done = run(
        "scripts/bench_connections", "--only", "codec", "--only", "ping", "--rounds", "1", "--count", "40", "--json"
    )
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)
    assert {"all of these", "ping of 200 bytes, 4 connections"} <= {row["what"] for row in rows}
    assert all(row["bare"] > 0 and row["ours"] > 0 and row["ratio"] > 0 for row in rows)
    assert done.returncode == (0 if all(row["is_met"] is not False for row in rows) else 1)
