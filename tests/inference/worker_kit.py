"""A worker process on a pipe of its own, spoken to with plain blocking sockets."""

import json
import socket
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from actors.inference.frames import TypedFrameReader
from actors.inference.sampling import Sampling
from actors.inference.text.text_model import MockText
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import (
    PROTOCOL,
    Admit,
    FromWorker,
    Hello,
    Idle,
    Load,
    Loading,
    ModelFiles,
    Ready,
    Step,
    ToWorker,
    pack_frame,
    read_from_worker,
)

PATIENCE_SECONDS = 120.0
"""Far more than anything here takes; only a failure waits for it."""


FrameType = TypeVar("FrameType")


def admission(row: int, prompt: str, *, max_tokens: int = 100_000, emitted: bytes = b"", **changes: Any) -> Admit:
    return Admit(
        **{
            "row": row,
            "prompt_ids": list(prompt.encode()),
            "emitted_ids": list(emitted),
            "max_tokens": max_tokens,
            "stop_ids": [MockText.END],
            "sampling": Sampling(),
            **changes,
        }
    )


class WorkerProcess:
    """A worker, and the frames that it has sent."""

    def __init__(
        self,
        *,
        step_seconds: float = 0.0,
        faults: Any = None,
        code: str | None = None,
        config: WorkerConfig | None = None,
        model: ModelFiles | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """``code`` is run in place of the program, which it may start after changing something of it.

        ``config`` and ``model`` are for the real engine; ``before`` are words of a command that becomes the program.
        """
        config = config or WorkerConfig(
            engine="mock",
            cache_dir=Path(),
            mock_step_seconds=step_seconds,
            worker_faults="" if faults is None else json.dumps(faults),
        )
        self.pipe, theirs = socket.socketpair()
        with theirs:
            command = config.command(theirs.fileno())
            if code is not None:
                command = [command[0], "-c", code, *command[3:]]
            self.process = subprocess.Popen(
                [*before, *command],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.pipe.settimeout(PATIENCE_SECONDS)
        self._reader = TypedFrameReader(read_from_worker)
        self._frames: deque[FromWorker] = deque()
        self.send(Load(PROTOCOL, config, model or ModelFiles("")))

    def __enter__(self) -> Self:
        assert self.frame(Hello) == Hello(PROTOCOL, self.process.pid)
        self.report = self.frame(Ready).report
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def send(self, *frames: ToWorker) -> None:
        self.pipe.sendall(b"".join(pack_frame(frame) for frame in frames))

    def next(self) -> FromWorker | None:
        """The next frame, or None at the end of the pipe."""
        while not self._frames:
            data = self.pipe.recv(65536)
            if not data:
                return None
            self._frames.extend(self._reader.feed(data))
        return self._frames.popleft()

    def frame(self, kind: type[FrameType]) -> FrameType:
        """The next frame of that kind; `Idle` and `Loading` ones before it are passed over."""
        while (frame := self.next()) is not None:
            if isinstance(frame, kind):
                return frame
            assert isinstance(frame, Idle | Loading), f"waited for {kind.__name__}, got {frame}"
        raise AssertionError(f"the pipe ended before {kind.__name__}")

    def step(self) -> Step:
        return self.frame(Step)

    def answer(self, row: int) -> tuple[bytes, str]:
        """The bytes of a row's answer and how it finished, whatever else the steps do."""
        tokens: list[int] = []
        while True:
            for one in self.step().output.emitted:
                if one.row == row:
                    if one.token_id != MockText.END:
                        tokens.append(one.token_id)
                    if one.finish is not None:
                        return bytes(tokens), one.finish

    def ended(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def worker(**arguments: Any) -> Iterator[WorkerProcess]:
    with WorkerProcess(**arguments) as one:
        yield one
