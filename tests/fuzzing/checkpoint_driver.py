"""Has a server list, load and ask damaged checkpoints, one after the other, beside a sound one that must stay what it is."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define

from tests.fuzzing.checkpoint_inputs import Checkpoint, CheckpointInputs
from tests.fuzzing.drivers import is_our_fault
from tests.fuzzing.harness import DIRECT, Fuzzed, Report

__all__ = ["SOUND", "fuzz_checkpoints", "sound_cache"]

SOUND = "sound"
DAMAGED = "damaged"
LIST_SECONDS = 30.0
LOAD_SECONDS = 200.0
"""A load and what comes with it: a worker that starts, hashes, and measures; and its deadline where it does not end."""
GGUF_SECONDS = 120.0
WORKER_FAILED = {(502, "engine_failed"), (504, "deadline_exceeded")}
"""What a request to a model may be told whose own files end its worker, or keep it for longer than anybody waits."""
REPOSITORY = Path(__file__).parents[2]


def sound_cache(folder: Path) -> Path:
    """A cache folder whose one model is tiny, and sound."""
    models = folder / "models"
    models.mkdir(parents=True)
    shutil.copytree(REPOSITORY / "tests/inference/golden/tiny_phi3", models / SOUND)
    return folder


async def fuzz_checkpoints(
    report: Report, server: Fuzzed, cache: Path, *, first: int = 0, count: int | None = None
) -> None:
    """Checkpoints until the time is up, or so many."""
    models = cache / "models"
    numbers: Iterator[int] = itertools.count(first) if count is None else iter(range(first, first + count))
    inputs = CheckpointInputs(report.seed, models / SOUND)
    child = _GgufChild()
    try:
        for number in numbers:
            one = inputs.make(number)
            folder = models / (".gguf" if one.is_gguf else DAMAGED)
            await trio.to_thread.run_sync(_remove, folder)
            await trio.to_thread.run_sync(one.write, models / SOUND, folder)
            if one.is_gguf:
                outcome = await _convert(report, one, child, folder / "a.gguf")
            else:
                outcome = await _serve(report, server, one)
            report.took(one, outcome)
    finally:
        child.end()


async def _serve(report: Report, server: Fuzzed, one: Checkpoint) -> str:
    """List, load and ask it; afterwards the sound one loads and answers."""
    status, listed = await _ask(server, "GET", "/models", seconds=LIST_SECONDS)
    if status != 200 or SOUND not in json.dumps(listed):
        report.found(f"GET /models was answered {status}: {listed}", one)
    question = {"prompt": "xxxxxxxxxxxxxxxxxxxxxxxxxx", "max_tokens": 2}
    status, said = await _ask(server, "POST", f"/models/{DAMAGED}/load", seconds=LOAD_SECONDS)
    outcome = f"load {status}"
    _judge(report, one, "load", status, said)
    if status == 200:
        for path, body in (
            ("/v1/completions", {"model": DAMAGED, **question}),
            (
                "/v1/chat/completions",
                {"model": DAMAGED, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
            ),
        ):
            status, said = await _ask(server, "POST", path, body, seconds=LOAD_SECONDS)
            outcome += f", asked {status}"
            _judge(report, one, path, status, said)
    for path, body in ((f"/models/{SOUND}/load", None), ("/v1/completions", {"model": SOUND, **question})):
        status, said = await _ask(server, "POST", path, body, seconds=LOAD_SECONDS)
        if status != 200:
            report.found(f"afterwards {path} was answered {status}: {str(said)[:300]}", one)
    return outcome


def _judge(report: Report, one: Checkpoint, what: str, status: int, said: Any) -> None:
    error = said.get("error") if isinstance(said, dict) else None
    code = error.get("code") if isinstance(error, dict) else said.get("code") if isinstance(said, dict) else None
    if (status, code) not in WORKER_FAILED and (status == 0 or is_our_fault(status, json.dumps(said).encode())):
        report.found(f"{what} was answered {status}: {str(said)[:300]}", one)


async def _ask(server: Fuzzed, method: str, path: str, body: Any = None, *, seconds: float) -> tuple[int, Any]:
    """Status and JSON; status 0 where no answer came in time."""
    return await trio.to_thread.run_sync(_ask_now, server, method, path, body, seconds, abandon_on_cancel=True)


def _ask_now(server: Fuzzed, method: str, path: str, body: Any, seconds: float) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{server.rest_url}{path}", data=data, method=method, headers={"Content-Type": "application/json"}
    )
    try:
        with DIRECT.open(request, timeout=seconds) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            content = error.read()
        with suppress(ValueError):
            return error.code, json.loads(content)
        return error.code, {"text": content[:300].decode(errors="replace")}
    except OSError as error:
        return 0, {"text": repr(error)}


async def _convert(report: Report, one: Checkpoint, child: _GgufChild, path: Path) -> str:
    with trio.move_on_after(GGUF_SECONDS):
        outcome = await trio.to_thread.run_sync(child.convert, path, abandon_on_cancel=True)
        if outcome is None:
            report.found(f"`leanvibe model convert` ended with status {child.ended()}", one)
            return "crash"
        return outcome
    child.end()
    report.found(f"`leanvibe model convert` took longer than {GGUF_SECONDS:g} s", one)
    return "late"


@define
class _GgufChild:
    """One process for many files, and another where it has ended."""

    process: subprocess.Popen[str] | None = None

    def convert(self, path: Path) -> str | None:
        """The outcome; None where the process ended, or said what is no outcome. Blocking."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzzing.gguf_child"],
                cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return str(json.loads(line)) if line else None

    def ended(self) -> int | None:
        """Its exit status."""
        return None if self.process is None else self.process.wait(10)

    def end(self) -> None:
        """It is over."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
