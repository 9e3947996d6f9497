"""The engine actor: owns the worker process, its pipe and the judgement whether it makes progress.

A worker that dies or hangs crashes this actor; its supervisor starts a new one with back-off. Everything that
outlives a worker is the inference actor's business.
"""

from __future__ import annotations

import json
import sys
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
    EngineIdle,
    EngineLoading,
    EngineMessage,
    EngineOutput,
    EngineReady,
)
from actors.inference.model_registry import MOCK_MODEL, ServableModel
from actors.inference.run_queue_delay import RunQueueDelay
from actors.inference.standby_messages import PrepareStandby, StandbyTaken, TakeStandby
from actors.inference.watchdog import PREFILL_TOKENS_PER_STEP, InFlightWork, LatencyModel, may_prepare_standby
from actors.inference.worker_process import WorkerProcess
from actors.inspection.messages import NoteWorker
from runtime import Actor, ActorRef, RuntimeFault, SendFault, reject

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
WATCH_SECONDS = 0.25
"""How often progress is judged."""
SPARE_SECONDS = 1.0
"""Handing a process over takes no time; a spare actor that is late is done without."""


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
    drafts: bool = False
    """Whether the worker may guess what comes next from what a row has, and judge several tokens in one step."""
    long_context: bool = False
    """Whether a longrope model takes its long factors at every length, and is served to its full length."""
    compiled: bool = True
    """Whether a Phi-3 on a CPU is computed by compiled code."""
    memory_bounded: bool = False
    """Whether a setting bounds the weights, so that the worker does not ask what the system has free."""
    mock_step_seconds: float = 0.0
    faults: str = ""
    """A fault plan for tests, as JSON."""

    def serving(self, model: ServableModel) -> EngineSettings:
        """The same for a certain model."""
        return attrs.evolve(self, model=model)

    def load_frame(self) -> dict[str, Any]:
        """What a worker that stands by is told to load."""
        return {
            "model": None if self.model.folder is None else str(self.model.folder),
            "model_name": self.model.name,
            "adapter": None if self.model.adapter is None else str(self.model.adapter),
            "prefix_bytes": self.prefix_bytes,
            "drafts": self.drafts,
            "long_context": self.long_context,
            "memory_bounded": self.memory_bounded,
            "compiled": self.compiled,
            "faults": self.faults,
        }

    def standby_command(self, pipe: int) -> list[str]:
        """The command line of a worker that imports everything and waits for a model."""
        words = [sys.executable, "-m", "actors.inference.worker", "--pipe", str(pipe), "--engine", self.engine]
        words += ["--blas", self.blas, "--cache-folder", str(self.cache_folder), "--standby"]
        words += ["--compiled"] if self.compiled else []
        return [*words, "--mock-step-seconds", str(self.mock_step_seconds)]

    def command(self, pipe: int) -> list[str]:
        """The worker's command line."""
        words = [sys.executable, "-m", "actors.inference.worker", "--pipe", str(pipe), "--engine", self.engine]
        words += ["--model-name", self.model.name, "--blas", self.blas, "--cache-folder", str(self.cache_folder)]
        if self.model.folder is not None:
            words += ["--model", str(self.model.folder)]
        if self.model.adapter is not None:
            words += ["--adapter", str(self.model.adapter)]
        words += ["--prefix-bytes", str(self.prefix_bytes)]
        if self.drafts:
            words.append("--drafts")
        if self.long_context:
            words.append("--long-context")
        if self.memory_bounded:
            words.append("--memory-bounded")
        if self.compiled:
            words.append("--compiled")
        if self.mock_step_seconds:
            words += ["--mock-step-seconds", str(self.mock_step_seconds)]
        if self.faults:
            words += ["--faults", self.faults]
        return words


class Engine(Actor[EngineMessage]):
    """One incarnation is one worker process."""

    mailbox = reject(8192)

    def __init__(
        self,
        settings: EngineSettings,
        inference: ActorRef[Any],
        inspection: ActorRef[Any],
        standby: ActorRef[Any] | None = None,
    ) -> None:
        """``spare`` has a process ready that has imported everything; without it each start does so itself."""
        self._settings = settings
        self._inference = inference
        self._inspection = inspection
        self._standby = standby
        self._has_requested_standby = standby is None
        self._worker: WorkerProcess | None = None
        self._pid = 0
        self._ready_at = 0.0
        self._ready: EngineReady | None = None
        self._ahead = InFlightWork()
        self._awaiting_clear = False
        self._is_telling = False
        """True while the inference actor has no room for what the worker said, so that no more of it is read."""
        self._idle_memory: dict[str, float] = {}
        """What the worker held when it last said that it has nothing to do."""
        self._has_read_all = trio.Event()
        self._last_frame_at = 0.0
        self._load_deadline = 0.0
        self._clock = LatencyModel()
        self._held_bytes = 0.0
        """Of keys and values, after the newest step."""
        self._draft_tokens = 0
        """Most that the worker guesses in a step of one row."""

    async def started(self) -> None:
        """Start the process. Its load goes on in the background and is told to the inference actor."""
        worker = await self._take_standby()
        is_spare = worker is not None
        if worker is None:
            worker = await WorkerProcess.start(self._settings.command)
        self._worker, self._pid = worker, worker.pid
        self.context.spawn(self._own_process, worker)
        now = trio.current_time()
        # One that stands by has said hello already.
        self._last_frame_at, self._load_deadline = now, now + (LOAD_SECONDS if is_spare else HELLO_SECONDS)
        self.context.spawn(self._read_frames)
        self.context.spawn(self._watch_progress)
        if is_spare:
            await self._write("load", self._settings.load_frame())
        await self._tell_loading("starting")
        try:
            self._inspection.tell_nowait(NoteWorker(worker.pid))
        except SendFault as error:
            # It only tells operators of the worker, and is no reason to have none.
            _log.warning("worker not noted", worker_pid=worker.pid, error=str(error))

    async def _take_standby(self) -> WorkerProcess | None:
        if self._standby is None:
            return None
        try:
            worker: WorkerProcess | None = await self._standby.ask(TakeStandby(), timeout=SPARE_SECONDS)
            if worker is not None:
                self._standby.tell_nowait(StandbyTaken(worker.pid))
        except RuntimeFault:
            return None
        return worker

    async def handle(self, message: EngineMessage) -> None:
        """Pass admissions and cancellations on to the worker."""
        match message:
            case AdmitRow():
                if not self._ahead.rows:
                    # Progress is owed from now on; while idle there was nothing to be late with.
                    self._last_frame_at = trio.current_time()
                schema = message.response_schema
                self._ahead.admitted(message.row, len(message.prompt_ids) + len(message.emitted_ids))
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
                        # As text: integers of a schema may be larger than frames can hold.
                        "response_schema": schema if schema is None else json.dumps(schema),
                        "call_rule": None if message.call_rule is None else message.call_rule.as_text(),
                        "alternatives": message.alternatives,
                    },
                )
            case CancelRow(row):
                self._ahead.dropped(row)
                await self._write("cancel", {"row": row})
            case Attach():
                self._ahead.cleared()
                if self._ready is None:
                    await self._tell_loading("loading")
                else:
                    # Only when the worker says that it is clear may the new owner count on its rows.
                    self._awaiting_clear = True
                    self._last_frame_at = trio.current_time()
                    await self._write("clear", {})

    async def stopping(self) -> None:
        """Closing the pipe ends the worker; `_own_process` makes sure of it."""
        assert self._worker is not None
        await self._worker.stream.aclose()

    def snapshot(self) -> dict[str, object]:
        """Process and rows."""
        return {
            "worker_pid": self._pid,
            "is_ready": self._ready is not None,
            "rows": len(self._ahead.rows),
            "unread_rows": self._ahead.unread_rows,
            "step_deadline_seconds": self._step_deadline_seconds(),
        }

    # --- the process ------------------------------------------------------------------------------

    async def _own_process(self, worker: WorkerProcess) -> None:
        """Drain its output, notice its end, and never leave it behind."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.drain_output)
                status = await worker.process.wait()
                # Its last frames and words say why it ended, and which rows had come how far.
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_SECONDS
                await self._has_read_all.wait()
            words = "; ".join(list(worker.output)[-3:])
            raise WorkerDied(f"worker {worker.pid} ended with status {status}" + (f": {words}" if words else ""))
        finally:
            await worker.end()

    async def _write(self, name: str, data: dict[str, Any]) -> None:
        """Write one frame; this handler is the pipe's one writer. A worker that does not read is lost."""
        assert self._worker is not None
        try:
            with trio.fail_after(WRITE_SECONDS):
                await self._worker.write(name, data)
        except trio.BrokenResourceError:
            return  # it is ending; `_own_process` reads its last frames and says how it ended
        except trio.TooSlowError as error:
            raise WorkerDied(f"worker {self._pid} does not take frames") from error

    async def _read_frames(self) -> None:
        assert self._worker is not None
        while frames := await self._worker.receive():
            for name, content in frames:
                self._is_telling = True
                await self._take_frame(name, content)
                self._is_telling = False
                self._last_frame_at = trio.current_time()
        self._has_read_all.set()  # `_own_process` says how it ended

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
                self._clock.allocation_bytes_per_second = content.get("allocation_bytes_per_second")
                self._draft_tokens = content.get("draft_tokens", 0)
                self._ready = EngineReady(
                    engine=self.context.path,
                    incarnation=self.context.incarnation,
                    worker_pid=self._pid,
                    report=content,
                )
                self._ready_at = now
                _log.info("engine ready", worker_pid=self._pid, model=content.get("model"), blas=content.get("blas"))
                await self._inference.tell(self._ready)
            case "cleared":
                self._awaiting_clear = False
                assert self._ready is not None
                await self._inference.tell(self._ready)
            case "step":
                self._ahead.frame_came()
                await self._take_step(content)
            case "idle":
                self._ahead.frame_came()
                await self._take_idle(content["memory"])

    async def _take_step(self, content: dict[str, Any]) -> None:
        self._idle_memory = {}
        self._held_bytes = content["memory"].get("kv", self._held_bytes)
        for row, _, _, finish, *_ in content["emitted"]:
            self._ahead.emitted(row, is_last=finish is not None)
        for row, *_ in content["failed"]:
            self._ahead.failed(row)
        self._clock.measured(
            content["seconds"], len(content["emitted"]), content["prefilled_tokens"], content["drafted_tokens"]
        )
        if not self._awaiting_clear:
            await self._inference.tell(
                EngineOutput(engine=self.context.path, incarnation=self.context.incarnation, frame=content)
            )

    async def _take_idle(self, memory: dict[str, float]) -> None:
        """Once a second, and what it holds is news after its last row has gone."""
        if memory != self._idle_memory:
            self._idle_memory = memory
            idle = EngineIdle(engine=self.context.path, incarnation=self.context.incarnation, memory=memory)
            await self._inference.tell(idle)

    async def _watch_progress(self) -> None:
        """Judge progress, not life: with rows to compute, a step must come in time.

        While other programs keep the processors, what the worker waited for one is not held against its step. Nor is the
        time in which this process stood still itself, or could not hand on what the worker had said.
        """
        wait, counted_from = RunQueueDelay(self._pid), -1.0
        while True:
            due = trio.current_time() + WATCH_SECONDS
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - due > WATCH_SECONDS:
                # Stopped, swapped out or starved: frames may have come, and are read before this is asked again.
                self._last_frame_at += now - due
                self._load_deadline += now - due
                continue
            if self._is_telling:
                continue
            if self._ready is None:
                if now > self._load_deadline:
                    raise WorkerDied(f"worker {self._pid} did not load its model in time")
                continue
            self._request_standby(now)
            if not self._ahead.rows and not self._awaiting_clear:
                continue
            if counted_from != self._last_frame_at:
                counted_from = self._last_frame_at
                wait.begin()
            deadline = self._step_deadline_seconds()
            if now - self._last_frame_at > deadline and now - self._last_frame_at > deadline + wait.seconds():
                raise WorkerDied(f"worker {self._pid} made no step for {now - self._last_frame_at:.1f} s")

    def _step_deadline_seconds(self) -> float:
        """How long the step that is under way may take.

        Rows whose prompts are read already owe a decode step, which is a much shorter promise. A worker that shall
        clear itself may be in the middle of any step.
        """
        unread = PREFILL_TOKENS_PER_STEP if self._awaiting_clear else self._ahead.unread_tokens
        # Only a row that is alone and has been read gets drafts.
        drafted = self._draft_tokens if len(self._ahead.rows) == 1 and not unread else 0
        return self._clock.deadline_seconds(unread, drafted, self._held_bytes)

    def _request_standby(self, now: float) -> None:
        """Once, and only when it no longer slows what the first requests wait for."""
        if (
            self._standby is not None
            and not self._has_requested_standby
            and may_prepare_standby(now - self._ready_at, is_idle=not self._ahead.rows)
        ):
            self._has_requested_standby = True
            try:
                self._standby.tell_nowait(PrepareStandby())
            except SendFault as error:
                _log.warning("no spare worker asked for", error=str(error))

    async def _tell_loading(self, stage: str) -> None:
        await self._inference.tell(
            EngineLoading(
                engine=self.context.path, incarnation=self.context.incarnation, worker_pid=self._pid, stage=stage
            )
        )
