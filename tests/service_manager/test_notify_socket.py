"""What systemd is told: by a socket that stands in for it, with everything else real."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from actors.inference.messages import EngineHealth
from actors.service_manager.notify_socket import STATUS_CHARACTERS, NotifySocket, take_notify_socket
from actors.service_manager.sign_of_life import LONGEST_SECONDS, SILENT_SECONDS, beat_seconds, problem_of_engine
from tests.server_fixture import RunningServer, eventually, running_server
from tests.system.serving_process import start_server, wait_for

WATCHDOG_SECONDS = 0.4


class Manager:
    """Collects datagrams in a thread, each with the time at which it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[tuple[float, list[str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(4096):
            self.heard.append((time.monotonic(), data.decode().split("\n")))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()

    def count(self, line: str) -> int:
        return sum(line in lines for _, lines in list(self.heard))

    def lines(self) -> list[str]:
        return [one for _, lines in list(self.heard) for one in lines]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


@pytest.fixture
async def served(tmp_path: Path, manager: Manager) -> AsyncIterator[RunningServer]:
    told = NotifySocket(str(manager.path), WATCHDOG_SECONDS)
    async with running_server(tmp_path, service_manager=told) as server:
        await eventually(lambda: manager.count("WATCHDOG=1") > 2, what="signs of life")
        yield server


@pytest.mark.integration
async def test_sv1_readiness_is_told_first_and_signs_of_life_follow(served: RunningServer, manager: Manager) -> None:
    assert manager.heard[0][1][0] == "READY=1"
    assert manager.count("READY=1") == 1
    await eventually(lambda: any("mock is ready" in one for one in manager.lines()), what="a status of the engine")


@pytest.mark.integration
async def test_sv2_a_stopped_worker_withholds_the_sign_of_life(served: RunningServer, manager: Manager) -> None:
    """It has nothing to do, so the engine's own supervision, which judges steps, sees no fault."""
    pid = (await served.engine()).worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: any("has been silent" in one for one in manager.lines()), what="a silent engine")
        before = manager.count("WATCHDOG=1")
        told = len(manager.heard)
        # By the number of datagrams, not by time: each would have had the sign.
        await eventually(lambda: len(manager.heard) > told + 4, what="more datagrams")
        assert manager.count("WATCHDOG=1") == before
        assert (await served.snapshot("service_manager"))["withheld"] != 0
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: manager.count("WATCHDOG=1") > before, what="signs of life again")


@pytest.mark.integration
async def test_sv3_a_held_event_loop_gives_no_sign_of_life(served: RunningServer, manager: Manager) -> None:
    await trio.lowlevel.checkpoint()
    began = time.monotonic()
    # What was sent before may still be read.
    settled = began + WATCHDOG_SECONDS
    while time.monotonic() < settled + 4 * WATCHDOG_SECONDS:
        time.sleep(0.01)  # what holds the loop
    ended = time.monotonic()
    assert [lines for at, lines in manager.heard if settled < at < ended] == []
    after = manager.count("WATCHDOG=1")
    await eventually(lambda: manager.count("WATCHDOG=1") > after, what="signs of life again")


@pytest.mark.integration
def test_sv4_the_program_tells_its_start_and_its_stop_and_passes_nothing_on(tmp_path: Path, manager: Manager) -> None:
    settings = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "2000000"}
    with start_server(tmp_path / "data", **settings) as server:
        wait_for(lambda: manager.count("WATCHDOG=1"), what="a sign of life")
        status = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        children = status.read_text(encoding="ascii").split()
        assert children
        for child in children:
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{child}/environ").read_bytes()
        os.kill(server.process.pid, signal.SIGTERM)
        wait_for(lambda: manager.count("STOPPING=1"), what="the stop")


def test_sv5_a_manager_that_does_not_read_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "full"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(path))
        told = NotifySocket(str(path), None)
        # More than the queue of a socket holds.
        assert not all(told.send("WATCHDOG=1", status="x" * 10_000) for _ in range(100_000))
    assert not NotifySocket(str(tmp_path / "gone"), None).send("READY=1")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="abstract sockets are Linux's")
def test_sv5_abstract_addresses_and_long_words_are_sent() -> None:
    name = f"leanvibe-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        assert NotifySocket(f"@{name}", None).send("READY=1", status="two\nlines " + "x" * 1000)
        said = manager.recv(4096).decode().split("\n")
    assert said[0] == "READY=1"
    assert said[1].startswith("STATUS=two lines x")
    assert len(said) == 2
    assert len(said[1]) == len("STATUS=") + STATUS_CHARACTERS


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"NOTIFY_SOCKET": ""}, None),
        ({"NOTIFY_SOCKET": "@"}, None),
        ({"NOTIFY_SOCKET": "relative"}, None),
        ({"NOTIFY_SOCKET": "/run/n"}, NotifySocket("/run/n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "2500000"}, NotifySocket("@n", 2.5)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "0"}, NotifySocket("@n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "-1"}, NotifySocket("@n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "5s"}, NotifySocket("@n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}, NotifySocket("@n", 1)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, NotifySocket("@n", None)),
    ],
)
def test_sv6_what_the_environment_says_is_read_once(environment: dict[str, str], expected: NotifySocket | None) -> None:
    given = {**environment, "HOME": "/"}
    assert take_notify_socket(given) == expected
    assert given == {"HOME": "/"}


def engine(state: str, silent_seconds: float | None) -> EngineHealth:
    return EngineHealth(
        engine="mock",
        state=state,
        model="mock",
        worker_pid=1,
        restarts=0,
        report={},
        problem=None,
        queue_depth=0,
        running=0,
        tokens_per_second=None,
        last_inference_ms=None,
        silent_seconds=silent_seconds,
    )


def test_sv2_only_a_ready_and_silent_engine_is_a_problem() -> None:
    long = SILENT_SECONDS + 1
    assert problem_of_engine(engine("ready", long)) is not None
    assert problem_of_engine(engine("ready", SILENT_SECONDS)) is None
    assert problem_of_engine(engine("ready", None)) is None
    # Under the supervisor's own deadlines.
    assert [problem_of_engine(engine(one, long)) for one in ("loading", "down", "unloaded")] == [None] * 3


def test_sv1_four_signs_are_due_in_the_time_that_the_manager_waits() -> None:
    assert beat_seconds(2.0) == 0.5
    assert beat_seconds(120.0) == LONGEST_SECONDS
    assert beat_seconds(None) == beat_seconds(3600.0) == LONGEST_SECONDS
