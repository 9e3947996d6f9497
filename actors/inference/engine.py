"""The engine actor: owns the worker process, its pipe and the judgement whether it makes progress.

A worker that dies or hangs crashes this actor; its supervisor starts a new one with back-off. Everything that
outlives a worker is the inference actor's business.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
from attrs import frozen

from actors.inference.engine_messages import (
    AdmitRow,
    Attach,
    CancelRow,
    EngineLoading,
    EngineMessage,
    EngineReady,
    EngineStep,
)
from actors.inference.frames import FrameReader, pack
from actors.inference.progress import StepClock
from actors.inference.shelf import MOCK_MODEL, ServableModel
from actors.inspection.messages import NoteWorker
from runtime import Actor, ActorRef, reject

__all__ = ["Engine", "EngineSettings", "WorkerDied"]

_log = structlog.get_logger("engine")

HELLO_SECONDS = 30.0
"""A Python process that has not said hello by then never will."""
LOAD_SECONDS = 300.0
"""Loading a model of several gigabytes from a slow disk."""
WARM_UP_STAGE = "warming up"
WARM_UP_SECONDS = 120.0
"""A few steps; on a GPU they compile its kernels."""
WRITE_SECONDS = 5.0
"""The worker's pipe thread reads at once, whatever the step loop does."""
LAST_WORDS_SECONDS = 1.0
"""What an ended worker left in its pipes is there already; a process that it started may hold them open."""
PREFILL_TOKENS_PER_STEP = 512
"""The worker reads no more in one step (`PrefillBudget`)."""
OUTPUT_LINES_KEPT = 20


class WorkerDied(Exception):
    """The worker process ended or stopped making progress."""


@frozen(kw_only=True)
class EngineSettings:
    """How to start a worker."""

    engine: str
    """`mlx` or `mock`."""
    cache_folder: Path
    model: ServableModel = MOCK_MODEL
    blas: str = "auto"
    prefix_bytes: int = 0
    """What the worker may hold of finished rows for prompts that begin like them."""
    mock_step_seconds: float = 0.0
    faults: str = ""
    """A fault plan for tests, as JSON."""

    def serving(self, model: ServableModel) -> EngineSettings:
        """The same for a certain model."""
        return attrs.evolve(self, model=model)

    def command(self, pipe: int) -> list[str]:
        """The worker's command line."""
        words = [sys.executable, "-m", "actors.inference.worker", "--pipe", str(pipe), "--engine", self.engine]
        words += ["--model-name", self.model.name, "--blas", self.blas, "--cache-folder", str(self.cache_folder)]
        if self.model.folder is not None:
            words += ["--model", str(self.model.folder)]
        if self.model.adapter is not None:
            words += ["--adapter", str(self.model.adapter)]
        words += ["--prefix-bytes", str(self.prefix_bytes)]
        if self.mock_step_seconds:
            words += ["--mock-step-seconds", str(self.mock_step_seconds)]
        if self.faults:
            words += ["--faults", self.faults]
        return words


class Engine(Actor[EngineMessage]):
    """One incarnation is one worker process."""

    mailbox = reject(8192)

    def __init__(self, settings: EngineSettings, inference: ActorRef[Any], inspection: ActorRef[Any]) -> None:
        self._settings = settings
        self._inference = inference
        self._inspection = inspection
        self._stream: trio.SocketStream | None = None
        self._pid = 0
        self._ready: EngineReady | None = None
        self._rows: set[int] = set()
        self._unread: dict[int, int] = {}
        """Rows without a token so far, and how many tokens of theirs the next step may have to read."""
        self._awaiting_clear = False
        self._has_read_all = trio.Event()
        self._last_frame_at = 0.0
        self._load_deadline = 0.0
        self._clock = StepClock()
        self._output: deque[str] = deque(maxlen=OUTPUT_LINES_KEPT)

    async def started(self) -> None:
        """Start the process. Its load goes on in the background and is told to the inference actor."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        with theirs:
            # A session of its own: a terminal's Ctrl-C must not reach the worker before the drain.
            process = await trio.lowlevel.open_process(
                self._settings.command(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._pid = process.pid
        now = trio.current_time()
        self._last_frame_at, self._load_deadline = now, now + HELLO_SECONDS
        self.context.spawn(self._own_process, process)
        self.context.spawn(self._read_frames)
        self.context.spawn(self._watch_progress)
        await self._tell_loading("starting")
        await self._inspection.tell(NoteWorker(process.pid))

    async def handle(self, message: EngineMessage) -> None:
        """Pass admissions and cancellations on to the worker."""
        match message:
            case AdmitRow():
                if not self._rows:
                    # Progress is owed from now on; while idle there was nothing to be late with.
                    self._last_frame_at = trio.current_time()
                self._rows.add(message.row)
                self._unread[message.row] = len(message.prompt_ids) + len(message.emitted_ids)
                await self._write(
                    "admit",
                    {
                        "row": message.row,
                        "prompt_ids": message.prompt_ids,
                        "emitted_ids": message.emitted_ids,
                        "max_tokens": message.max_tokens,
                        "stop_ids": message.stop_ids,
                        "sampling": message.sampling.as_data(),
                        "domain": message.domain,
                        "response_schema": message.response_schema,
                        "alternatives": message.alternatives,
                    },
                )
            case CancelRow(row):
                self._forget(row)
                await self._write("cancel", {"row": row})
            case Attach():
                self._rows.clear()
                self._unread.clear()
                if self._ready is None:
                    await self._tell_loading("loading")
                else:
                    # Only when the worker says that it is clear may the new owner count on its rows.
                    self._awaiting_clear = True
                    self._last_frame_at = trio.current_time()
                    await self._write("clear", {})

    async def stopping(self) -> None:
        """Closing the pipe ends the worker; `_own_process` makes sure of it."""
        assert self._stream is not None
        await self._stream.aclose()

    def snapshot(self) -> dict[str, object]:
        """Process and rows."""
        return {
            "worker_pid": self._pid,
            "is_ready": self._ready is not None,
            "rows": len(self._rows),
            "unread_rows": len(self._unread),
            "step_deadline_seconds": self._step_deadline_seconds(),
        }

    # --- the process ------------------------------------------------------------------------------

    async def _own_process(self, process: trio.Process) -> None:
        """Drain its output, notice its end, and never leave it behind."""
        assert self._stream is not None
        assert process.stdout is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._drain_output, process)
                status = await process.wait()
                # Its last frames and words say why it ended, and which rows had come how far.
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_SECONDS
                await self._has_read_all.wait()
            words = "; ".join(list(self._output)[-3:])
            raise WorkerDied(f"worker {process.pid} ended with status {status}" + (f": {words}" if words else ""))
        finally:
            if process.returncode is None:
                process.kill()
                with trio.move_on_after(2, shield=True):
                    await process.wait()
            # Without a checkpoint, which in a cancelled task would leave the other open.
            self._stream.socket.close()
            await trio.aclose_forcefully(process.stdout)

    async def _drain_output(self, process: trio.Process) -> None:
        assert process.stdout is not None
        left = b""
        async for chunk in process.stdout:
            *lines, left = (left + chunk).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")[:500]
                self._output.append(text)
                _log.info("worker output", line=text, worker_pid=process.pid)
            left = left[-500:]

    async def _write(self, name: str, data: dict[str, Any]) -> None:
        """Write one frame; this handler is the pipe's one writer. A worker that does not read is lost."""
        assert self._stream is not None
        try:
            with trio.fail_after(WRITE_SECONDS):
                await self._stream.send_all(pack(name, data))
        except trio.BrokenResourceError:
            return  # it is ending; `_own_process` reads its last frames and says how it ended
        except trio.TooSlowError as error:
            raise WorkerDied(f"worker {self._pid} does not take frames") from error

    async def _read_frames(self) -> None:
        assert self._stream is not None
        reader = FrameReader()
        try:
            while data := await self._stream.receive_some(262_144):
                for name, content in reader.feed(data):
                    await self._take_frame(name, content)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # `_own_process` says how it ended
        self._has_read_all.set()

    async def _take_frame(self, name: str, content: dict[str, Any]) -> None:
        now = self._last_frame_at = trio.current_time()
        match name:
            case "hello":
                self._load_deadline = now + LOAD_SECONDS
            case "loading":
                if content["stage"] == WARM_UP_STAGE:
                    self._load_deadline = now + WARM_UP_SECONDS
                await self._tell_loading(str(content["stage"]))
            case "load_failed":
                await self._tell_loading(f"failed: {content['error']}")
            case "ready":
                # What the warm-up took is what the first step of a request is held to.
                for seconds, decoded, prefilled in content.get("warm_steps", ()):
                    self._clock.measured(seconds, decoded, prefilled)
                self._ready = EngineReady(
                    engine=self.context.path,
                    incarnation=self.context.incarnation,
                    worker_pid=self._pid,
                    report=content,
                )
                _log.info("engine ready", worker_pid=self._pid, model=content.get("model"), blas=content.get("blas"))
                await self._inference.tell(self._ready)
            case "cleared":
                self._awaiting_clear = False
                assert self._ready is not None
                await self._inference.tell(self._ready)
            case "step":
                for row, _, _, finish, *_ in content["emitted"]:
                    self._unread.pop(row, None)
                    if finish is not None:
                        self._forget(row)
                for row, _ in content["failed"]:
                    self._forget(row)
                decoded = len(content["emitted"])
                self._clock.measured(content["seconds"], decoded, content["prefilled_tokens"])
                if not self._awaiting_clear:
                    await self._inference.tell(
                        EngineStep(engine=self.context.path, incarnation=self.context.incarnation, frame=content)
                    )

    async def _watch_progress(self) -> None:
        """Judge progress, not life: with rows to compute, a step must come in time."""
        while True:
            await trio.sleep(0.25)
            now = trio.current_time()
            if self._ready is None:
                if now > self._load_deadline:
                    raise WorkerDied(f"worker {self._pid} did not load its model in time")
                continue
            if not self._rows and not self._awaiting_clear:
                continue
            if now - self._last_frame_at > self._step_deadline_seconds():
                raise WorkerDied(f"worker {self._pid} made no step for {now - self._last_frame_at:.1f} s")

    def _step_deadline_seconds(self) -> float:
        """How long the step that is under way may take.

        Rows whose prompts are read already owe a decode step, which is a much shorter promise. A worker that shall
        clear itself may be in the middle of any step.
        """
        unread = PREFILL_TOKENS_PER_STEP if self._awaiting_clear else sum(self._unread.values())
        return self._clock.deadline_seconds(min(PREFILL_TOKENS_PER_STEP, unread))

    def _forget(self, row: int) -> None:
        self._rows.discard(row)
        self._unread.pop(row, None)

    async def _tell_loading(self, stage: str) -> None:
        await self._inference.tell(
            EngineLoading(
                engine=self.context.path, incarnation=self.context.incarnation, worker_pid=self._pid, stage=stage
            )
        )
