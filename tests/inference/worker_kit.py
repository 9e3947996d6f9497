"""A worker process on a pipe of its own, spoken to with plain blocking sockets."""

import json
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import attrs

from actors.inference.frames import FrameReader, pack
from actors.inference.sampling import Sampling
from actors.inference.text.text_model import MockText

PATIENCE_SECONDS = 30.0
"""Far more than anything here takes; only a failure waits for it."""


def worker_command(
    pipe: int, *, engine: str = "mock", step_seconds: float = 0.0, faults: Any = None, code: str | None = None
) -> list[str]:
    """``code`` is run in place of the program, which it may start after changing something of it."""
    program = ["-m", "actors.inference.worker"] if code is None else ["-c", code]
    words = [sys.executable, *program, "--pipe", str(pipe), "--engine", engine]
    words += ["--mock-step-seconds", str(step_seconds)]
    return words if faults is None else [*words, "--faults", json.dumps(faults)]


def admission(
    row: int, prompt: str, *, max_tokens: int = 100_000, emitted: bytes = b"", **changes: Any
) -> dict[str, Any]:
    return {
        "row": row,
        "prompt_ids": list(prompt.encode()),
        "emitted_ids": list(emitted),
        "max_tokens": max_tokens,
        "stop_ids": [MockText.END],
        "sampling": attrs.asdict(Sampling()),
        **changes,
    }


class WorkerProcess:
    """One worker, and the frames that it has sent."""

    def __init__(self, **arguments: Any) -> None:
        self.pipe, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                worker_command(theirs.fileno(), **arguments),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.pipe.settimeout(PATIENCE_SECONDS)
        self._reader = FrameReader()
        self._frames: deque[tuple[str, dict[str, Any]]] = deque()

    def __enter__(self) -> Self:
        assert self.frame("hello")["pid"] == self.process.pid
        self.report = self.frame("ready")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def send(self, name: str, data: dict[str, Any]) -> None:
        self.pipe.sendall(pack(name, data))

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """The next frame, or None at the end of the pipe."""
        while not self._frames:
            data = self.pipe.recv(65536)
            if not data:
                return None
            self._frames.extend(self._reader.feed(data))
        return self._frames.popleft()

    def frame(self, name: str) -> dict[str, Any]:
        """The next frame of that name; `idle` and `loading` ones before it are passed over."""
        while (frame := self.next()) is not None:
            if frame[0] == name:
                return frame[1]
            assert frame[0] in ("idle", "loading"), f"waited for {name}, got {frame}"
        raise AssertionError(f"the pipe ended before {name}")

    def steps(self) -> Iterator[dict[str, Any]]:
        while True:
            yield self.frame("step")

    def answer(self, row: int) -> tuple[bytes, str]:
        """The bytes of a row's answer and how it finished, whatever else the steps do."""
        tokens: list[int] = []
        for step in self.steps():
            for number, token, _, finish, *_ in step["emitted"]:
                if number == row:
                    if token != MockText.END:
                        tokens.append(token)
                    if finish is not None:
                        return bytes(tokens), finish
        raise AssertionError

    def ended(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def worker(**arguments: Any) -> Iterator[WorkerProcess]:
    with WorkerProcess(**arguments) as one:
        yield one
