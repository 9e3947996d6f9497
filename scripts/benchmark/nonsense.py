"""A part of `scripts/bench_connections`: the cost, to all other clients, of two that send nothing but nonsense.

Every run pings over its own crowd of connections. In half of the runs two more clients, each a separate process, send
bodies and frames of 1 MiB that cannot be decoded or are wrong throughout, one after the other, over REST and the
WebSocket, and repeat at once whatever the answer. In the other half these processes sleep. A ping's time runs
from when it was due.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

if __name__ == "__main__":
    # As the hostile client itself.
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from benchmark.beside_libraries import Row, Server, leanvibe_server, p99_row
from benchmark.many_sockets import Socket, many_sockets

__all__ = ["measure_nonsense"]

BOUND = 3.0
"""Promised of the p99, nonsense to idle."""
PINGS_PER_SECOND = 200.0
RUN_SECONDS = 5.0
ANSWER_SECONDS = 60.0
CLIENTS = 2
BODY_BYTES = 2**20
PATHS = ("/tasks/{client}", "/v1/chat/completions", "/ai/process")


def measure_nonsense(rounds: int, count: int) -> list[Row]:
    """Measure the p99 of the others' pings against runs in which the two sleep."""
    idle: list[list[float]] = []
    loaded: list[list[float]] = []
    with leanvibe_server() as server, _hostile_clients(server) as hostile:
        _one_run(server, count)  # unmeasured: what the first run costs
        for _ in range(rounds):
            idle.append(_one_run(server, count))
            with _awake(hostile):
                loaded.append(_one_run(server, count))
    return [p99_row(f"pings of {count} while {CLIENTS} clients send 1 MiB of nonsense, p99", idle, loaded, BOUND)]


def _one_run(server: Server, count: int) -> list[float]:
    """Microseconds of each ping."""
    samples: list[float] = []
    pings = int(PINGS_PER_SECOND * RUN_SECONDS)
    with many_sockets(server.url, count, says_hello=True) as crowd:
        began = time.monotonic_ns()
        due = [began + int(number / PINGS_PER_SECOND * 1e9) for number in range(pings)]
        deadline = time.monotonic() + RUN_SECONDS + ANSWER_SECONDS

        def take(one: Socket, chunk: bytes, now: int) -> None:
            one.received += chunk
            for frame in one.frames():
                message = json.loads(frame)
                if message["type"] == "pong":
                    samples.append((now - message["data"]) / 1000)

        sent = 0
        while len(samples) < pings:
            now = time.monotonic_ns()
            while sent < pings and due[sent] <= now:
                crowd.all[sent % count].say({"type": "ping", "id": "p", "data": due[sent]})
                sent += 1
            if time.monotonic() > deadline:
                raise SystemExit(f"{pings - len(samples)} pings were not answered")
            crowd.receive(take, max(0.0, (due[sent] - time.monotonic_ns()) / 1e9) if sent < pings else 0.01)
    return samples


@contextlib.contextmanager
def _hostile_clients(server: Server) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Started and stopped, so that they cost nothing until they are woken."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(CLIENTS):
            command = [sys.executable, __file__, server.rest_url, server.url, f"nonsense-{number}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            started.append(process)
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextlib.contextmanager
def _awake(hostile: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    for process in hostile:
        process.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        for process in hostile:
            process.send_signal(signal.SIGSTOP)


def _bodies() -> Iterator[bytes]:
    """1 MiB each, a little less than what is taken at all."""
    size = BODY_BYTES - 2048
    wrong = json.dumps({f"field_{number}": number for number in range(size // 24)}).encode()
    yield from itertools.cycle(
        (
            b"[" * size,
            b'{"title": "' + b"x" * size,
            b"\xff" * size,
            wrong,
            json.dumps({"title": ["x" * 100] * (size // 110)}).encode(),
        )
    )


def _send_nonsense(rest_url: str, websocket_url: str, client: str) -> None:
    """Until it is killed."""
    bodies = _bodies()
    paths = itertools.cycle(PATHS)
    print("ready", flush=True)
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            _post(rest_url, next(paths).format(client=client), next(bodies), client)
        with contextlib.suppress(OSError):
            _say(websocket_url, next(bodies))


def _post(rest_url: str, path: str, body: bytes, client: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(rest_url).netloc, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", "X-Client-Id": client})
        connection.getresponse().read()
    finally:
        connection.close()


def _say(websocket_url: str, body: bytes) -> None:
    """Frames until the server has had enough."""
    parts = urlsplit(websocket_url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=10) as plain:
        plain.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if not plain.recv(4096).startswith(b"HTTP/1.1 101"):
            return
        frame = b"\x81\xff" + struct.pack("!Q", len(body)) + bytes(4) + body
        for _ in range(100):
            plain.sendall(frame)


if __name__ == "__main__":
    _send_nonsense(*sys.argv[1:])
