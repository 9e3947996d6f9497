"""Descriptors: the limit is raised, connections fit it, and a server survives having none."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from actors.accepting import MISUSE, accept_for_ever
from actors.descriptor_limit import ConnectionBudget, budget_for
from runtime.inspection import readiness
from tests.failpoints import ERRNO_NAMES
from tests.server_fixture import eventually, free_socket, running_server
from tests.system.serving_process import COMMAND, REPOSITORY, environment, wait_for


@pytest.mark.parametrize("limit", [16, 64, 256, 1024, 1500, 4096, 1_048_576])
def test_op_connections_fit_what_the_limit_of_descriptors_leaves(limit: int) -> None:
    wanted = ConnectionBudget(websocket=1024, http=512)
    budget = budget_for(limit, wanted)
    assert 1 <= budget.websocket <= 1024
    assert 1 <= budget.http <= 512
    # 256 descriptors are reserved for the server; of a small limit, half.
    assert budget.websocket + budget.http <= limit - min(256, limit // 2)
    assert (budget == wanted) == (limit >= 1792)


@pytest.mark.parametrize("name", [*ERRNO_NAMES, "ENOBUFS", "ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN"])
async def test_op_an_accept_that_fails_is_tried_again_and_does_not_spin(
    name: str, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, name)
    assert number not in MISUSE
    problems: list[str | None] = []
    attempts: list[float] = []
    taken = trio.Event()

    async def accept(_: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        attempts.append(trio.current_time())
        if len(attempts) <= 20:
            raise OSError(number, os.strerror(number))
        if taken.is_set():
            await trio.sleep_forever()
        return None  # type: ignore[return-value]

    async def take(_: trio.SocketStream) -> None:
        taken.set()

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    with free_socket() as bound:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_for_ever, bound, take, problems.append)
            await taken.wait()
            nursery.cancel_scope.cancel()
    if name in ("ECONNABORTED", "EPROTO"):
        assert problems == [], "that was one connection's own trouble"
        return
    assert attempts[20] - attempts[0] == pytest.approx(2.0)
    assert problems == [f"cannot accept connections: {os.strerror(number)}", None]


@pytest.mark.integration
async def test_op_a_server_without_a_descriptor_goes_on_and_takes_up_what_waited(tmp_path: Path) -> None:
    """The process's real limit, lowered to what is open already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with running_server(tmp_path) as server, server.peer() as peer, server.http() as http:
        assert (await http.get("/health/live")).status_code == 200
        before = server.incarnations()
        with socket.socket() as waiting:
            # The next file would have a number beyond the limit.
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                waiting.connect(("127.0.0.1", int(server.about.rest_url.rpartition(":")[2])))
                waiting.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                await eventually(lambda: readiness(server.system).degraded, what="the shortage")
                # Another connection waits meanwhile; open ones are served.
                assert (await http.get("/health/live")).status_code == 200
                assert (await peer.generate("g", "count to 2"))[-1]["type"] == "done"
                degraded = (await http.get("/health/ready")).json()["degraded"]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            answer = await trio.to_thread.run_sync(waiting.recv, 4096)
        assert degraded == ["rest: cannot accept connections: Too many open files"]
        assert answer.startswith(b"HTTP/1.1 200")
        assert server.incarnations() == before


@pytest.mark.integration
def test_op_the_soft_limit_is_raised_and_fewer_connections_are_told_of(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [
        "/bin/sh",
        "-c",
        'ulimit -Sn 64 && ulimit -Hn 256 && exec "$@"',
        "sh",
        *COMMAND,
        "serve",
        "--engine",
        "mock",
        "--port",
        "0",
        "--ws-port",
        "0",
        "--data-dir",
        str(tmp_path),
    ]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env=environment(tmp_path),
            cwd=REPOSITORY,
            stderr=output,
        )
    try:
        wait_for(lambda: (tmp_path / "server.json").exists() or process.poll() is not None, what="server.json")
        limits = subprocess.run(
            [sys.executable, "-c", f"import resource as r; print(list(r.prlimit({process.pid}, r.RLIMIT_NOFILE)))"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(limits.stdout) == [256, 256]
        warning = "this process may open 256 files (ulimit -n), so it takes 85 WebSocket and 43 HTTP connections"
        assert warning in log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait(10)
