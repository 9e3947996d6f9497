"""Shared by the parts of `scripts/bench_connections`: result rows, and servers in separate processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

__all__ = ["Row", "Server", "child", "leanvibe_server", "p99_row", "rate_row"]

ROOT = Path(__file__).resolve().parents[2]
STARTUP_SECONDS = 60.0
UNLIMITED = dict.fromkeys(
    (
        "LEANVIBE_COMMANDS_PER_SECOND",
        "LEANVIBE_COMMAND_BURST",
        "LEANVIBE_CONNECTIONS_PER_CLIENT",
        "LEANVIBE_MAX_CONNECTIONS",
        "LEANVIBE_MAX_ENTERING",
    ),
    "1000000",
)


@frozen(kw_only=True)
class Row:
    """A measurement as the medians of all rounds."""

    what: str
    unit: str
    bare: float
    """The library alone."""
    ours: float
    ratio: float | None
    """None where the library's cost is nothing."""
    bound: str = ""
    is_met: bool | None = None
    """None where nothing is promised."""


def rate_row(what: str, rounds: list[tuple[float, float]], at_least: float | None) -> Row:
    """Make a row of (bare, ours) rates, one pair per round."""
    ratio = statistics.median(ours / bare for bare, ours in rounds)
    return Row(
        what=what,
        unit="/s",
        bare=statistics.median(bare for bare, _ in rounds),
        ours=statistics.median(ours for _, ours in rounds),
        ratio=ratio,
        bound="" if at_least is None else f"≥ {at_least:g} × rate",
        is_met=None if at_least is None else ratio >= at_least,
    )


def p99_row(what: str, idle: list[list[float]], loaded: list[list[float]], at_most: float) -> Row:
    """Make a row of latencies in microseconds, one list per run: the median p99 of the loaded runs, judged as a multiple of the idle one."""
    alone, beside = (statistics.median(sorted(run)[int(0.99 * len(run))] for run in runs) for runs in (idle, loaded))
    ratio = beside / alone
    return Row(
        what=what,
        unit="µs",
        bare=alone,
        ours=beside,
        ratio=ratio,
        bound=f"≤ {at_most:g} × time",
        is_met=ratio <= at_most,
    )


@frozen
class Server:
    """A running server process."""

    url: str
    """Of its WebSocket."""
    pid: int
    rest_url: str = ""


@contextmanager
def child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended with the block."""
    # A session of its own: Ctrl-C in a terminal ends the measurement, and that ends its servers.
    process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def leanvibe_server(*program: str, **settings: str) -> Iterator[Server]:
    """A real server with the mock engine and limits that no measurement reaches, perhaps within another program."""
    with tempfile.TemporaryDirectory(prefix="leanvibe-bench-") as folder:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LEANVIBE_")}
        environment = {
            **plain,
            "LEANVIBE_DATA_DIR": folder,
            "LEANVIBE_CACHE_DIR": folder,
            "LEANVIBE_ENGINE": "mock",
            "LEANVIBE_PORT": "0",
            "LEANVIBE_WS_PORT": "0",
            **UNLIMITED,
            **settings,
        }
        command = [sys.executable, *(program or ("-m", "actors.command_line.main")), "serve"]
        with child(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + STARTUP_SECONDS
            about = Path(folder) / "server.json"
            while not about.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the server did not start")
                time.sleep(0.02)
            said = json.loads(about.read_text(encoding="utf-8"))
            yield Server(said["websocket_url"], process.pid, said["rest_url"])
