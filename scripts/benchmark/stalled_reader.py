"""A part of `scripts/bench_connections`: what one connection that does not read costs all the others (promise P7).

Every run opens its own connections: a crowd that pings at fixed times, and one more that asks for large answers. In
half of the runs that one reads them; in the other half it reads nothing, so that its socket fills, then what may wait
for it, until the server says that it is too slow. A ping's time runs from when it was due, so that one that could
not be sent in time counts as slow.
"""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmark.beside_libraries import Row, Server, leanvibe_server
from benchmark.many_sockets import ManySockets, Socket, many_sockets

__all__ = ["measure_stalled_reader"]

STALLED_BOUND = 1.5
"""p99 moves by this much between two runs that are the same, on a machine with others on it."""
PINGS_PER_SECOND = 500.0
RUN_SECONDS = 5.0
"""A write may take ten seconds before the server parts with a reader; a run ends before."""
LARGE_BYTES = 60_000
FILL_BYTES = 8 * 1024 * 1024
"""More than the kernel keeps for a socket of either side."""
LARGE_PER_SECOND = 5.0
"""In a run they are more than the mebibyte that may wait for a reader."""
RECEIVE_BUFFER_BYTES = 4096
ANSWER_SECONDS = 30.0


def measure_stalled_reader(rounds: int, count: int) -> list[Row]:
    """Measure the p50 and p99 of the others' pings against runs without a stalled reader."""
    beside: list[list[float]] = []
    ours: list[list[float]] = []
    with leanvibe_server() as server:
        _one_run(server, count, reads=True)  # unmeasured: what the first run costs
        for _ in range(rounds):
            beside.append(_one_run(server, count, reads=True))
            ours.append(_one_run(server, count, reads=False))
    return [
        _row(f"pings of {count - 1} while one of {count} connections does not read, {name}", share, beside, ours, bound)
        for name, share, bound in (("p50", 0.5, None), ("p99", 0.99, STALLED_BOUND))
    ]


def _row(what: str, share: float, beside: list[list[float]], ours: list[list[float]], bound: float | None) -> Row:
    alone, stalled = ([_at(samples, share) for samples in runs] for runs in (beside, ours))
    ratio = statistics.median(stalled) / statistics.median(alone)
    return Row(
        what=what,
        unit="µs",
        bare=statistics.median(alone),
        ours=statistics.median(stalled),
        ratio=ratio,
        bound="" if bound is None else f"≤ {bound:g} × time",
        is_met=None if bound is None else ratio <= bound,
    )


def _at(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def _one_run(server: Server, count: int, *, reads: bool) -> list[float]:
    """Microseconds of each ping of the crowd."""
    with (
        many_sockets(server.url, count - 1, says_hello=True) as crowd,
        many_sockets(server.url, 1, says_hello=True) as another,
    ):
        one = another.all[0]
        one.plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

        def read() -> None:
            if reads:
                another.receive(_forget, 0.0)

        _fill(server, one, read, reads=reads)
        samples = _ping_in_turn(crowd, one, read)
        if not reads and not _bytes_not_read(server, one):
            raise SystemExit("the reader was not stalled: all that was sent to it has gone")
        return samples


def _fill(server: Server, one: Socket, read: Callable[[], None], *, reads: bool) -> None:
    """Ask for large answers until they do not fit into the socket; as often where they are read."""
    for number in range(FILL_BYTES // LARGE_BYTES):
        _ask_for_much(one)
        read()
        # A little under way is no stall; each is asked for when the last one has been answered.
        before = _bytes_not_read(server, one)
        time.sleep(0.01)
        if not reads and number and before and _bytes_not_read(server, one) > before:
            return


def _ask_for_much(one: Socket) -> None:
    one.say({"type": "ping", "id": "large", "data": "x" * LARGE_BYTES})


def _forget(_one: Socket, _chunk: bytes, _now: int) -> None:
    """Discard what the stalled client asked for."""


def _ping_in_turn(crowd: ManySockets, one: Socket, read: Callable[[], None]) -> list[float]:
    samples: list[float] = []
    began = time.monotonic_ns()
    pings = int(PINGS_PER_SECOND * RUN_SECONDS)
    due = [began + int(number / PINGS_PER_SECOND * 1e9) for number in range(pings)]
    large_due = [began + int(number / LARGE_PER_SECOND * 1e9) for number in range(int(LARGE_PER_SECOND * RUN_SECONDS))]
    deadline = time.monotonic() + RUN_SECONDS + ANSWER_SECONDS

    def take(each: Socket, chunk: bytes, now: int) -> None:
        each.received += chunk
        for frame in each.frames():
            message = json.loads(frame)
            if message["type"] == "pong":
                samples.append((now - message["data"]) / 1000)
            elif message["type"] == "error":
                raise SystemExit(f"refused: {message}")

    sent = large = 0
    while len(samples) < pings:
        now = time.monotonic_ns()
        while sent < pings and due[sent] <= now:
            crowd.all[sent % len(crowd.all)].say({"type": "ping", "id": "p", "data": due[sent]})
            sent += 1
        if large < len(large_due) and large_due[large] <= now:
            _ask_for_much(one)
            large += 1
        read()
        if time.monotonic() > deadline:
            raise SystemExit(f"{pings - len(samples)} pings were not answered")
        crowd.receive(take, max(0.0, (due[sent] - time.monotonic_ns()) / 1e9) if sent < pings else 0.01)
    return samples


def _bytes_not_read(server: Server, one: Socket) -> int:
    """Return the bytes that the kernel buffers for this client (`tx_queue` in proc_net_tcp(5))."""
    ours, theirs = (f"{port:04X}" for port in (one.plain.getpeername()[1], one.plain.getsockname()[1]))
    for line in Path(f"/proc/{server.pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{ours}") and fields[2].endswith(f":{theirs}"):
            return int(fields[4].partition(":")[0], 16)
    return 0
