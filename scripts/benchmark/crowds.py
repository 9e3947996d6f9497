"""Parts of `scripts/bench_connections` with many connections: one message to all, doing nothing, and many streams.

The clients are `many_sockets` in this process; each server has a process of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from benchmark import bare_connections, timed_server
from benchmark.beside_libraries import Row, Server, child, leanvibe_server
from benchmark.many_sockets import ManySockets, Socket, many_sockets

__all__ = ["measure_fanout", "measure_idle", "measure_stream"]

FANOUT_BOUND = 3.0
STEP_OF_ONE_ANSWER_SECONDS = "0.6"
"""Much longer than the quarter of a second between checks of the engine, so that each change is reported."""
IDLE_BOUND = 2.0
IDLE_SECONDS = 25.0
"""In this time each idle connection is asked for one sign of life."""
BARE_IDLE_SECONDS = 2.0
STREAMS = 32
STEP_SECONDS = 0.01
ANSWER_SECONDS = 60.0


@contextmanager
def bare_server() -> Iterator[Server]:
    """trio-websocket alone."""
    with child([sys.executable, str(bare_connections.PROGRAM)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(f"ws://127.0.0.1:{int(process.stdout.readline())}/ws", process.pid)


# --- one message to all -------------------------------------------------------------------------------


def measure_fanout(rounds: int, count: int) -> list[Row]:
    """From the making of an `agent_status` (the time that it carries, milliseconds) until the last one has it.

    The real server tells one when an answer begins and one when it ends; each is a fan-out of its own.
    """
    with (
        bare_server() as bare,
        leanvibe_server(LEANVIBE_MOCK_STEP_SECONDS=STEP_OF_ONE_ANSWER_SECONDS) as server,
        many_sockets(bare.url, count, says_hello=False) as beside,
        many_sockets(server.url, count, says_hello=True) as ours,
    ):
        pairs = []
        sizes: set[int] = set()
        # Once unmeasured: what is loaded, and what the first answer costs.
        for number in range(rounds + 1):
            its = _one_fanout_of_ours(ours, number, sizes)
            beside.all[0].say(f"fanout {max(sizes)}")
            pairs.append((_until_all_have_it(beside, lambda chunk: b"agent_status" in chunk), its))
        pairs = pairs[1:]
    ratio = statistics.median(its / alone for alone, its in pairs)
    return [
        Row(
            what=f"agent_status of {max(sizes)} bytes to {count:,} connections, the last one",
            unit="ms",
            bare=statistics.median(alone for alone, _ in pairs),
            ours=statistics.median(its for _, its in pairs),
            ratio=ratio,
            bound=f"≤ {FANOUT_BOUND:g} × time",
            is_met=ratio <= FANOUT_BOUND,
        )
    ]


def _one_fanout_of_ours(sockets: ManySockets, number: int, sizes: set[int]) -> float:
    data = {"prompt": "count to 1", "max_tokens": 1}
    sockets.all[0].say({"type": "generate", "id": f"g-{number}", "data": data})
    milliseconds = _until_all_have_it(sockets, lambda chunk: b'"running":1' in chunk, sizes)
    # The next begins when this one is over and everybody was told so.
    _until_all_have_it(sockets, lambda chunk: b'"running":0' in chunk)
    return milliseconds


def _until_all_have_it(sockets: ManySockets, is_it: Callable[[bytes], bool], sizes: set[int] | None = None) -> float:
    """Milliseconds from when the message was made until the last connection received it."""
    missing = {one.number for one in sockets.all}
    began = last = 0.0
    deadline = time.monotonic() + ANSWER_SECONDS

    def take(one: Socket, chunk: bytes, _: int) -> None:
        nonlocal began, last
        now = time.time()
        one.received += chunk
        for frame in one.frames():
            if one.number in missing and b"agent_status" in frame and is_it(frame):
                missing.discard(one.number)
                last = now
                if not began:
                    began = _made_at(frame)
                    if sizes is not None:
                        sizes.add(len(frame))

    while missing:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(missing)} connections were not told")
        sockets.receive(take, 0.1)
    return (last - began) * 1000


def _made_at(frame: bytes) -> float:
    """POSIX seconds."""
    message = json.loads(frame)
    if "ns" in message:
        return time.time() - (time.monotonic_ns() - message["ns"]) / 1e9
    return datetime.fromisoformat(message["time"]).timestamp()


# --- doing nothing ------------------------------------------------------------------------------------


def measure_idle(rounds: int, count: int) -> list[Row]:
    """Resident memory and processor time of connections that say nothing. Measured once, whatever the rounds."""
    window_seconds = IDLE_SECONDS if rounds > 1 else BARE_IDLE_SECONDS
    with bare_server() as bare:
        bare_bytes, bare_cpu, _ = _idle(bare, count, BARE_IDLE_SECONDS, says_hello=False)
    with leanvibe_server() as server:
        its_bytes, its_cpu, pings = _idle(server, count, window_seconds, says_hello=True)
    ratio = its_bytes / bare_bytes
    return [
        Row(
            what=f"{count:,} idle connections: memory of each",
            unit="KiB",
            bare=bare_bytes / 1024,
            ours=its_bytes / 1024,
            ratio=ratio,
            bound=f"≤ {IDLE_BOUND:g} × memory",
            is_met=ratio <= IDLE_BOUND,
        ),
        Row(
            what=f"{count:,} idle connections: processor time of each, {pings:,} pings in {window_seconds:g} s",
            unit="µs/s",
            bare=bare_cpu * 1e6,
            ours=its_cpu * 1e6,
            ratio=None,
        ),
    ]


def _idle(server: Server, count: int, seconds: float, *, says_hello: bool) -> tuple[float, float, int]:
    """Bytes and seconds a second of one connection, beyond those of a server with one; and pings that came."""
    with many_sockets(server.url, 1, says_hello=says_hello) as sockets:
        # The first one has loaded what any needs.
        sockets.live_for(1.0)
        empty_bytes, cpu = _resident_bytes(server.pid), _cpu_seconds(server.pid)
        sockets.live_for(BARE_IDLE_SECONDS)
        alone = (_cpu_seconds(server.pid) - cpu) / BARE_IDLE_SECONDS
        sockets.open(count)
        sockets.live_for(0.5)
        resident, cpu = _resident_bytes(server.pid), _cpu_seconds(server.pid)
        pings = sockets.live_for(seconds)
        busy = (_cpu_seconds(server.pid) - cpu) / seconds
    return (resident - empty_bytes) / count, max(0.0, busy - alone) / count, pings


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- many streams -------------------------------------------------------------------------------------


def measure_stream(rounds: int, count: int) -> list[Row]:
    """From the worker's frame in the server until the token has come at its client, all streams in step."""
    with bare_server() as bare, many_sockets(bare.url, STREAMS, says_hello=False) as sockets:
        alone: list[float] = []
        for _ in range(rounds):
            alone += _bare_stream(sockets, count)
    ours = _our_streams(rounds, count)
    return [
        _latency_row(f"worker's frame to socket, {STREAMS} streams, {name}", _at(alone, share), _at(ours, share))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]


def _latency_row(what: str, bare: float, ours: float) -> Row:
    return Row(what=what, unit="µs", bare=bare, ours=ours, ratio=ours / bare)


def _at(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def _bare_stream(sockets: ManySockets, count: int) -> list[float]:
    samples: list[float] = []

    def take(one: Socket, chunk: bytes, now: int) -> None:
        one.received += chunk
        samples.extend((now - json.loads(frame)["ns"]) / 1000 for frame in one.frames())

    sockets.all[0].say(f"stream {count} {STEP_SECONDS}")
    deadline = time.monotonic() + ANSWER_SECONDS
    while len(samples) < count * STREAMS:
        if time.monotonic() > deadline:
            raise SystemExit("the bare server did not send its tokens")
        sockets.receive(take, 0.1)
    return samples


def _our_streams(rounds: int, count: int) -> list[float]:
    """Microseconds of each token. Streams are begun one after the other, so that rows and streams have one order."""
    received: list[list[int]] = []
    with tempfile.TemporaryDirectory(prefix="leanvibe-bench-") as folder:
        file = Path(folder) / "frames"
        with (
            leanvibe_server(
                str(timed_server.PROGRAM), str(file), LEANVIBE_MOCK_STEP_SECONDS=str(STEP_SECONDS)
            ) as server,
            many_sockets(server.url, STREAMS, says_hello=True) as sockets,
        ):
            for number in range(rounds):
                received += _one_round_of_ours(sockets, number, count)
        made = [times for _, times in sorted(json.loads(file.read_text()).items(), key=lambda item: int(item[0]))]
    if [len(one) for one in made] != [len(one) for one in received]:
        raise SystemExit("tokens were made that did not come")
    edge = count // 5  # where not all streams run yet, or any more
    return [
        (came - left) / 1000
        for row, stream in zip(made, received, strict=True)
        for left, came in list(zip(row, stream, strict=True))[edge : count - edge]
    ]


def _one_round_of_ours(sockets: ManySockets, number: int, count: int) -> list[list[int]]:
    """Return the arrival time of each token of each stream, in nanoseconds."""
    came: list[list[int]] = [[] for _ in sockets.all]
    accepted: set[int] = set()
    over: set[int] = set()

    def take(one: Socket, chunk: bytes, now: int) -> None:
        one.received += chunk
        for frame in one.frames():
            message = json.loads(frame)
            if message["type"] == "accepted":
                accepted.add(one.number)
            elif message["type"] == "token":
                # A merged one stands for several.
                tokens = message["seq"] - message.get("first_seq", message["seq"]) + 1
                came[one.number] += [now] * tokens
            elif message["type"] == "done":
                over.add(one.number)
            elif message["type"] in ("error", "failed"):
                raise SystemExit(f"refused: {message}")

    deadline = time.monotonic() + ANSWER_SECONDS
    for one in sockets.all:
        data = {"prompt": "count to 999", "max_tokens": count}
        one.say({"type": "generate", "id": f"g-{number}", "data": data})
        while one.number not in accepted:
            sockets.receive(take, 0.1)
    while len(over) < len(sockets.all):
        if time.monotonic() > deadline:
            raise SystemExit("answers did not end")
        sockets.receive(take, 0.1)
    return came
