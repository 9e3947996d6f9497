"""A worker process and the server's end of its pipe, passed from owner to owner."""

from __future__ import annotations

import socket
import subprocess
from collections import deque
from collections.abc import Callable
from typing import Any, Self, TypeVar

import structlog
import trio
from attrs import define, field

from actors.child_environment import child_environment
from actors.inference.frames import FrameReader, TypedFrameReader
from actors.inference.worker_frames import FromWorker, ToWorker, pack_frame, read_from_worker

__all__ = ["InferenceWorker", "WorkerProcess"]

_log = structlog.get_logger("engine")

END_SECONDS = 2.0
OUTPUT_LINES_KEPT = 20
RECEIVE_BYTES = 262_144

Frame = TypeVar("Frame")


@define(kw_only=True, eq=False)
class WorkerProcess:
    """One process. Its owner reads its output and frames and calls `end`; nothing else touches it."""

    process: trio.Process
    stream: trio.SocketStream
    """Closing it ends the process."""
    output: deque[str] = field(factory=lambda: deque(maxlen=OUTPUT_LINES_KEPT))
    """Its latest lines of output."""
    _reader: FrameReader = field(factory=FrameReader)

    @classmethod
    async def start(cls, command: Callable[[int], list[str]]) -> Self:
        """Starts a process; ``command`` is called with the file descriptor of its end of the pipe. Raises `OSError`.

        On cancellation nothing is left behind.
        """
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                # In its own session, so that a terminal's Ctrl-C does not reach the worker before the drain.
                process = await trio.lowlevel.open_process(
                    command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    env=child_environment(),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process=process, stream=trio.SocketStream(trio.socket.from_stdlib_socket(ours)))

    @property
    def pid(self) -> int:
        """Process id."""
        pid: int = self.process.pid
        return pid

    async def drain_output(self) -> None:
        """Logs everything the process prints, until end of file."""
        assert self.process.stdout is not None
        left = b""
        async for chunk in self.process.stdout:
            *lines, left = (left + chunk).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")[:500]
                self.output.append(text)
                _log.info("worker output", line=text, worker_pid=self.pid)
            left = left[-500:]

    async def receive(self) -> list[tuple[str, dict[str, Any]]]:
        """Returns the next frames; empty at the end of the pipe. Raises `FrameFault`."""
        return await self._receive(self._reader)

    async def _receive(self, reader: TypedFrameReader[Frame]) -> list[Frame]:
        while True:
            try:
                data = await self.stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return []
            frames = list(reader.feed(data))
            if frames or not data:
                return frames

    async def end(self) -> None:
        """Ends the process and waits for that, `END_SECONDS` at most, even in a cancelled task."""
        if self.process.returncode is None:
            self.process.kill()
            with trio.move_on_after(END_SECONDS, shield=True):
                await self.process.wait()
        # Without a checkpoint, which in a cancelled task would leave the other one open.
        self.stream.socket.close()
        if self.process.stdout is not None:
            await trio.aclose_forcefully(self.process.stdout)


@define(kw_only=True, eq=False)
class InferenceWorker(WorkerProcess):
    """A worker that computes answers, with the frames of `worker_frames.py`."""

    _frames: TypedFrameReader[FromWorker] = field(factory=lambda: TypedFrameReader(read_from_worker))

    async def receive_frames(self) -> list[FromWorker]:
        """Returns the next frames; empty at the end of the pipe. Raises `FrameFault`."""
        return await self._receive(self._frames)

    async def write(self, frame: ToWorker) -> None:
        """Writes one frame. Raises `trio.BrokenResourceError` if the worker is ending; after cancellation the pipe is
        unusable."""
        await self.stream.send_all(pack_frame(frame))
