"""A Redis of one's own for tests: a process on a free port of loopback and in a temporary folder, without persistence."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.cluster.configuration import BrokerAddress

__all__ = ["RedisProcess", "redis", "redis_process"]

START_SECONDS = 30.0


class RedisProcess:
    """A server that can be killed, stopped and started again on its port."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.port: int = bound.getsockname()[1]
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.address = BrokerAddress(host="127.0.0.1", port=self.port)
        self.url = f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder,
                    *self._options,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.command("PING")
                return
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own; returns the first bytes of the answer."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(one)}\r\n{one}\r\n" for one in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
            peer.sendall(request.encode())
            return peer.recv(65536)

    def kill(self) -> None:
        """End it without a chance to say anything; what it held is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> None:
        """It neither answers nor closes anything until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stop`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(20)


@contextmanager
def redis_process(*options: str) -> Iterator[RedisProcess]:
    """A running server for a block; ``options`` as on its command line."""
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not installed (Debian: redis-server)")
    folder = Path(tempfile.mkdtemp(prefix="leanvibe-redis-", dir="/tmp"))
    process = RedisProcess(folder, *options)
    try:
        process.start()
        yield process
    finally:
        process.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    """A running server."""
    with redis_process() as process:
        yield process
