"""A real server that is fuzzed, the honest client beside it, and the judgement over both."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import trio
from attrs import define, field

from actors.command_line.inspection_socket import quiet_answer
from actors.inference.process_family import family_bytes
from actors.inspection.server_file import read_server_file
from protocol.client import connect
from protocol.client.errors import CommandFailed, Disconnected
from protocol.commands import Generate
from tests.system.serving_process import ServingProcess, start_server, wait_for

__all__ = ["DIRECT", "Fuzzed", "Report", "fuzzed_server", "kept_folder", "no_proxy_get", "run_fuzzer"]

HONEST_SECONDS = 90.0
"""For a ping, a small answer or a look at health: a server that others hold takes longer, a busy machine does not."""
SETTLE_SECONDS = 60.0
"""For everything that was begun to be over once nothing more is sent."""
STOP_SECONDS = 25.0
READY_SECONDS = 300.0
"""Of the real engine where its code is compiled first."""
SERVER_MEBIBYTES = 300.0
"""More than at the start the server may hold, its children apart."""
CHILDREN_MEBIBYTES = 1500.0
"""More than at the start they may hold together: worker, sandbox, watchdog. Where the worker has a bound of its own, that counts."""
MOST_MORE = 60
"""Files and threads that a server which rests may have beside those of its start: kept connections, look-ups of names."""
MOST_FINDINGS = 25
_ERROR = re.compile(r"\b(error|critical)\b|Traceback|panicked|Exception")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Offending(Protocol):
    """What an input of any kind is to a report."""

    @property
    def number(self) -> int: ...

    @property
    def kind(self) -> str: ...

    def save(self, folder: Path, seed: int, reason: str) -> Path: ...


@define
class Report:
    """What happened."""

    fuzzer: str
    seed: int
    folder: Path
    """Where offending inputs are written."""
    inputs: int = 0
    kinds: Counter[str] = field(factory=Counter)
    outcomes: Counter[str] = field(factory=Counter)
    findings: list[str] = field(factory=list)
    figures: dict[str, Any] = field(factory=dict)

    def took(self, one: Offending, outcome: str) -> None:
        """An input was sent, and this became of it."""
        self.inputs += 1
        self.kinds[one.kind.split()[0]] += 1
        self.outcomes[outcome] += 1

    def found(self, reason: str, one: Offending | None = None) -> None:
        """Something is wrong, and perhaps this input made it so."""
        if len(self.findings) >= MOST_FINDINGS:
            return
        if one is not None:
            path = one.save(self.folder, self.seed, reason)
            reason = f"input {one.number} of seed {self.seed} ({one.kind}): {reason}; saved as {path}"
        self.findings.append(reason)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "fuzzer": self.fuzzer,
            "is_good": not self.findings,
            "seed": self.seed,
            "inputs": self.inputs,
            "findings": self.findings,
            "outcomes": dict(self.outcomes.most_common()),
            "kinds": dict(self.kinds.most_common()),
            **self.figures,
        }


@define
class Fuzzed:
    """The server, where it is and what it was at the start."""

    process: ServingProcess
    host: str
    rest_port: int
    websocket_port: int
    settings: dict[str, str] = field(factory=dict)
    before: dict[str, tuple[int, int]] = field(factory=dict)
    """Incarnation and restarts of every actor but the connections."""
    memory_before: tuple[float, float] = (0.0, 0.0)
    children_mebibytes: float = CHILDREN_MEBIBYTES
    descriptors_before: int = 0
    threads_before: int = 0
    worker_pid: int | None = None
    slow_steps: int = 0
    """Steps of the event loop so far that took longer than 50 ms, by the clock on the wall."""
    may_change_models: bool = False

    @property
    def rest_url(self) -> str:
        return str(self.process.about["rest_url"])

    @property
    def websocket_url(self) -> str:
        return str(self.process.about["websocket_url"])

    def tree(self) -> dict[str, Any] | None:
        """As `scripts/tree --json` has it; None where the server does not answer."""
        server = read_server_file(self.process.data_folder)
        return None if server is None else quiet_answer(server, {"command": "tree"}, seconds=HONEST_SECONDS)


def no_proxy_get(url: str, *, seconds: float = HONEST_SECONDS) -> tuple[int, bytes]:
    """Status and body of a GET, whatever the status. Raises `OSError`."""
    try:
        with DIRECT.open(url, timeout=seconds) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextmanager
def fuzzed_server(folder: Path, *arguments: str, database: str | None = None, **settings: str) -> Iterator[Fuzzed]:
    """A server of its own with a clean environment, ready; killed at the end if it has not stopped before."""
    unlimited = {
        "LEANVIBE_COMMANDS_PER_SECOND": "100000",
        "LEANVIBE_COMMAND_BURST": "100000",
        "LEANVIBE_LOG_LEVEL": "error",
    }
    if database is not None:
        unlimited["LEANVIBE_DATABASE"] = database
    with start_server(folder, *arguments, **{**unlimited, **settings}) as process:
        health = f"{about_url(process)}/health/mlx"
        wait_for(
            lambda: json.loads(no_proxy_get(health)[1]).get("inference_ready"), seconds=READY_SECONDS, what="ready"
        )
        about = process.about
        host, rest = about["rest_url"].removeprefix("http://").split(":")
        port = about["websocket_url"].rpartition(":")[2].partition("/")[0]
        yield Fuzzed(process, host, int(rest), int(port), settings)


def about_url(process: ServingProcess) -> str:
    """Where its REST interface is."""
    return str(process.about["rest_url"])


def run_fuzzer(
    report: Report,
    server: Fuzzed,
    fuzz: Callable[[Report, Fuzzed], Awaitable[None]],
    *,
    seconds: float,
    says: str | None = "count to 5",
) -> int | None:
    """Fuzz for so long beside the honest client, let it settle, and judge. The number of the signal that ended it early, or None.

    ``says`` is what the honest client asks the model, None where only pings are to be trusted.
    """
    return trio.run(_run, report, server, fuzz, seconds, says)


async def _run(report: Report, server: Fuzzed, fuzz: Any, seconds: float, says: str | None) -> int | None:
    began = time.monotonic()
    ended_by: int | None = None
    _remember(server)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            fuzzing = trio.CancelScope(deadline=trio.current_time() + seconds)  # inf for a number of inputs

            async def until_told() -> None:
                nonlocal ended_by
                async for number in signals:
                    ended_by = number
                    fuzzing.cancel()

            async def until_dead() -> None:
                await trio.to_thread.run_sync(server.process.process.wait, abandon_on_cancel=True)
                fuzzing.cancel()

            nursery.start_soon(until_told)
            nursery.start_soon(until_dead)
            nursery.start_soon(_serve_honestly, report, server, says)
            nursery.start_soon(_watch_memory, report, server)
            with fuzzing:
                await fuzz(report, server)
            report.figures["seconds"] = round(time.monotonic() - began, 1)
            await _settle(report, server)
            nursery.cancel_scope.cancel()
    if not report.inputs and ended_by is None:
        report.found("nothing was put to the test")
    await trio.to_thread.run_sync(_stop, report, server)
    return ended_by


def _remember(server: Fuzzed) -> None:
    server.before = _actors(server.tree() or {})
    server.memory_before = _memory(server.process.process.pid)
    bound = json.loads(no_proxy_get(f"{server.rest_url}/health/mlx")[1]).get("memory_bound_bytes")
    # Keys and values of what was asked before stay up to that bound.
    server.children_mebibytes = CHILDREN_MEBIBYTES if bound is None else bound / 2**20 - server.memory_before[1]
    server.worker_pid = server.process.about["worker_pid"]
    server.descriptors_before, server.threads_before = _descriptors(server.process.process.pid)


async def _serve_honestly(report: Report, server: Fuzzed, says: str | None) -> None:
    """Pings and small answers the whole time; each must come, and on the same connection."""
    draw = random.Random(1)
    worst = answers = 0.0
    try:
        async with connect(server.websocket_url, client_id="honest", device_id="honest") as client:
            while True:
                began = trio.current_time()
                with trio.fail_after(HONEST_SECONDS):
                    await client.ping({"number": draw.random()})
                worst = max(worst, trio.current_time() - began)
                report.figures["honest_worst_ping_seconds"] = round(worst, 3)
                if says is not None:
                    with trio.fail_after(HONEST_SECONDS):
                        async with client.generate(Generate(prompt=says, max_tokens=10)) as answer:
                            text = await answer.text()
                    if says == "count to 5" and text != "1 2 3 4 5":
                        report.found(f"the honest client was answered {text!r}")
                    answers += 1
                    report.figures["honest_answers"] = int(answers)
                with trio.fail_after(HONEST_SECONDS):
                    status, _ = await trio.to_thread.run_sync(no_proxy_get, f"{server.rest_url}/health/live")
                if status != 200:
                    report.found(f"GET /health/live was answered {status}")
                await trio.sleep(0.1)
    except (trio.TooSlowError, OSError, CommandFailed, Disconnected) as error:
        report.found(f"the honest client was not served: {error!r}")


async def _watch_memory(report: Report, server: Fuzzed) -> None:
    worst = (0.0, 0.0)
    while True:
        now = await trio.to_thread.run_sync(_memory, server.process.process.pid)
        worst = (max(worst[0], now[0]), max(worst[1], now[1]))
        report.figures["memory_mebibytes"] = {
            "server": [round(server.memory_before[0]), round(worst[0])],
            "children": [round(server.memory_before[1]), round(worst[1])],
        }
        await trio.sleep(0.5)


async def _settle(report: Report, server: Fuzzed) -> None:
    """Wait until all is as it was, and say what is not."""
    deadline = trio.current_time() + SETTLE_SECONDS
    while True:
        reasons = await trio.to_thread.run_sync(_not_as_before, server)
        if not reasons or trio.current_time() > deadline or server.process.process.poll() is not None:
            break
        await trio.sleep(0.25)
    for reason in reasons:
        report.found(reason)
    report.figures["slow_steps"] = server.slow_steps
    memory = report.figures.get("memory_mebibytes")
    if memory is not None:
        for name, bound in (("server", SERVER_MEBIBYTES), ("children", server.children_mebibytes)):
            before, worst = memory[name]
            if worst > before + bound:
                report.found(f"the memory of {name} grew from {before} to {worst} MiB, more than {bound:g}")


def _not_as_before(server: Fuzzed) -> list[str]:
    process = server.process.process
    if process.poll() is not None:
        return [f"the server ended with status {process.poll()}"]
    about = server.process.about
    reasons = []
    if about["pid"] != process.pid:
        reasons.append("another process serves")
    if not server.may_change_models and about["worker_pid"] != server.worker_pid:
        reasons.append("the worker is another process")
    answer = server.tree()
    if answer is None or "tree" not in answer:
        return [*reasons, "the inspection socket does not answer"]
    server.slow_steps = answer["slow_steps"]
    after = _actors(answer)
    for path in sorted(server.before.keys() | after.keys()):
        if server.may_change_models and path.startswith(("inference/engines/", "inference/standby")):
            continue
        if server.before.get(path) != after.get(path):
            reasons.append(
                f"actor {path} was {server.before.get(path)} (incarnation, restarts) and is {after.get(path)}"
            )
    sockets = [one for one in _paths(answer["tree"]) if one.startswith("connections/sockets/")]
    if len(sockets) > 1:
        reasons.append(f"{len(sockets)} connections are left where one client is connected")
    if not answer["is_ready"] or answer["degraded"]:
        reasons.append(f"the server is not well: {answer['reasons']} {answer['degraded']}")
    status, body = no_proxy_get(f"{server.rest_url}/health")
    engine = json.loads(body).get("engine", {})
    if status != 200 or engine.get("queue_depth") or (engine.get("running") or 0) > 1:
        reasons.append(
            f"health is {status} with {engine.get('running')} running and {engine.get('queue_depth')} waiting"
        )
    descriptors, threads = _descriptors(process.pid)
    # Kept connections of the pools and idle threads of the cache come and go.
    if descriptors > server.descriptors_before + MOST_MORE:
        reasons.append(f"{descriptors} open files where {server.descriptors_before} were")
    if threads > server.threads_before + MOST_MORE:
        reasons.append(f"{threads} threads where {server.threads_before} were")
    return reasons


def _stop(report: Report, server: Fuzzed) -> None:
    """SIGTERM ends it in order, and its log has no error."""
    process = server.process.process
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS)
            if status not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
                report.found(f"told to stop, the server ended with status {status}")
        except subprocess.TimeoutExpired:
            report.found("told to stop, the server did not")
    log = server.process.log.read_text(encoding="utf-8", errors="replace")
    wrong = [one for one in log.splitlines() if _ERROR.search(one)]
    if wrong:
        kept = report.folder / f"{report.fuzzer}-{report.seed}-server.log"
        kept.write_text(log, encoding="utf-8")
        report.found(f"the server logged {len(wrong)} errors: {wrong[0][:300]}; all of it is in {kept}")


def _paths(child: dict[str, Any]) -> Iterator[str]:
    yield child["path"]
    for one in child["children"]:
        yield from _paths(one)


def _actors(answer: dict[str, Any]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}

    def walk(child: dict[str, Any]) -> None:
        if not child["path"].startswith("connections/sockets/"):
            found[child["path"]] = (child["incarnation"], child["restarts"])
            for one in child["children"]:
                walk(one)

    if "tree" in answer:
        walk(answer["tree"])
    return found


def _memory(pid: int) -> tuple[float, float]:
    """MiB that a process holds, and that all its descendants hold together; pages that these share count once."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
    rows = {int(one): (int(parent), int(rss) / 1024) for one, parent, rss in map(str.split, listed.splitlines())}
    own = rows[pid][1] if pid in rows else 0.0
    together = family_bytes(pid)
    if together is not None:
        return own, max(0.0, together / 2**20 - own)
    below, grew = {pid}, True
    while grew:
        more = {one for one, (parent, _) in rows.items() if parent in below} - below
        grew, below = bool(more), below | more
    return own, sum(rows[one][1] for one in below - {pid})


def _descriptors(pid: int) -> tuple[int, int]:
    """Open files and threads; zeros where the system has no such folder."""
    folder = Path(f"/proc/{pid}")
    try:
        return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))
    except OSError:
        return 0, 0


def kept_folder() -> Path:
    """A new folder for what is found, which stays."""
    return Path(tempfile.mkdtemp(prefix="leanvibe-fuzz-"))
