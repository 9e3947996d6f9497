"""Sockets that systemd hands over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from actors.service_manager.listening_sockets import SocketsUnusable, take_listening_sockets
from tests.system.serving_process import COMMAND, REPOSITORY, environment

# As systemd does it: the sockets are descriptors 3 and 4, and LISTEN_PID is the process that is started.
START = """\
import fcntl, os, sys
given = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 100) for one in sys.argv[1].split(",")]
for at, number in enumerate(given):
    os.dup2(number, 3 + at)
    os.close(number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def listening(
    address: str = "127.0.0.1", *, kind: int = socket.SOCK_STREAM, listens: bool = True
) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as bound:
        bound.bind((address, 0))
        if listens:
            bound.listen(8)
        yield bound


def given(*sockets: socket.socket, count: str | None = None) -> tuple[int, dict[str, str]]:
    """Descriptors that follow one another, and the variables that go with them."""
    first = 200
    for place, one in enumerate(sockets):
        os.dup2(one.fileno(), first + place)
    return first, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count or str(len(sockets)), "LISTEN_FDNAMES": "a:b"}


def test_sv7_both_sockets_are_taken_in_order() -> None:
    with listening() as rest, listening() as websocket:
        first, variables = given(rest, websocket)
        taken = take_listening_sockets(variables, first)
        assert taken is not None
        assert [one.getsockname() for one in taken] == [rest.getsockname(), websocket.getsockname()]
        assert variables == {}
        for one in taken:
            assert not one.get_inheritable()
            assert not one.getblocking()
            one.close()


@pytest.mark.parametrize("variables", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_FDS": "2"}])
def test_sv7_sockets_for_another_process_are_left_alone(variables: dict[str, str]) -> None:
    assert take_listening_sockets(variables) is None
    assert variables == {}


@pytest.mark.parametrize("count", ["0", "x", "-2"])
def test_sv7_no_number_of_sockets_is_none(count: str) -> None:
    assert take_listening_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}) is None


def test_sv8_other_sockets_are_refused_in_a_sentence() -> None:
    with listening() as good, listening(listens=False) as silent, listening("127.0.0.2") as elsewhere:
        first, variables = given(good)
        with pytest.raises(SocketsUnusable, match="passed 1 sockets; two are needed"):
            take_listening_sockets(variables, first)
        first, variables = given(good, silent)
        with pytest.raises(SocketsUnusable, match="201 of the service manager is not a listening TCP socket"):
            take_listening_sockets(variables, first)
        first, variables = given(good, elsewhere)
        with pytest.raises(SocketsUnusable, match="same address"):
            take_listening_sockets(variables, first)
    with pytest.raises(SocketsUnusable, match="is not a socket"):
        take_listening_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}, 900)


def start_with(folder: Path, *sockets: socket.socket, log: Path) -> subprocess.Popen[bytes]:
    numbers = [one.fileno() for one in sockets]
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", START, ",".join(map(str, numbers)), *COMMAND, "serve"],
            env={**environment(folder), "LISTEN_FDS": str(len(sockets))},
            cwd=REPOSITORY,
            stderr=output,
            stdin=subprocess.DEVNULL,
            pass_fds=numbers,
        )


@pytest.mark.integration
def test_sv9_the_server_answers_on_sockets_that_were_handed_over(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with listening() as rest, listening() as websocket:
        url = f"http://127.0.0.1:{rest.getsockname()[1]}"
        started = start_with(tmp_path / "data", rest, websocket, log=log)
        try:
            # Asked before it is up: the connection waits in the socket, as with systemd.
            answer = httpx.get(f"{url}/health/live", trust_env=False, timeout=90.0)
            assert answer.status_code == 200
            asked = httpx.get(f"http://127.0.0.1:{websocket.getsockname()[1]}/ws", trust_env=False, timeout=90.0)
            assert asked.status_code == 426
        finally:
            started.terminate()
            assert started.wait(60) == 0, log.read_text(encoding="utf-8")


@pytest.mark.integration
def test_sv10_a_socket_of_the_world_needs_tokens_as_a_host_does(tmp_path: Path) -> None:
    """The setting says loopback; what counts is where the sockets listen."""
    log = tmp_path / "log"
    with listening("0.0.0.0") as rest, listening("0.0.0.0") as websocket:
        started = start_with(tmp_path / "data", rest, websocket, log=log)
        deadline = time.monotonic() + 90
        while started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        started.kill()
    assert started.wait() == 2
    assert "0.0.0.0 is not a loopback address, and without tokens" in log.read_text(encoding="utf-8")
