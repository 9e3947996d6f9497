"""The engine actor: owns the worker process and its pipe, and judges its progress.

A worker that dies or hangs crashes this actor; its supervisor starts a new one with back-off. Everything that outlives
a worker belongs to the inference actor.
"""

from __future__ import annotations

import json

import structlog
import trio

from actors.inference.engine_messages import (
    AdmitRow,
    Attach,
    CancelRow,
    EngineAlive,
    EngineIdle,
    EngineLoading,
    EngineMessage,
    EngineNews,
    EngineOutput,
    EngineReady,
    KillWorker,
    PrepareStandby,
    StandbyMessage,
    StandbyTaken,
    TakeStandby,
)
from actors.inference.model_registry import ServableModel
from actors.inference.watchdog import (
    PREFILL_TOKENS_PER_STEP,
    InFlightWork,
    LatencyModel,
    RunQueueDelay,
    may_prepare_standby,
)
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_frames import (
    PROTOCOL,
    Admit,
    Cancel,
    Clear,
    Cleared,
    FromWorker,
    Hello,
    Idle,
    Load,
    LoadFailed,
    Loading,
    ModelFiles,
    Preparing,
    Ready,
    StandingBy,
    Step,
    ToWorker,
    check_protocol,
)
from actors.inference.worker_process import InferenceWorker
from actors.inspection.messages import NoteWorker
from runtime import Actor, ActorRef, RuntimeFault, SendFault, reject

__all__ = ["Engine", "WorkerDied"]

_log = structlog.get_logger("engine")

HELLO_SECONDS = 30.0
"""A Python process that has not said hello by then never will."""
LOAD_SECONDS = 300.0
"""Enough to load several gigabytes from a slow disk."""
WARM_UP_STAGE = "warming up"
WARM_UP_SECONDS = 120.0
"""Enough for a few steps, in which a GPU compiles its kernels."""
WRITE_SECONDS = 5.0
"""The worker's pipe thread reads at once, independently of the step loop."""
LAST_WORDS_SECONDS = 1.0
"""A dead worker's last output is already in its pipes; a process it started may still hold them open."""
WATCH_SECONDS = 0.25
"""Interval between progress checks."""
STANDBY_SECONDS = 1.0
"""Handing a process over takes no time; if the standby actor is late, the engine starts without it."""


class WorkerDied(Exception):
    """The worker process ended or stopped making progress."""


class Engine(Actor[EngineMessage]):
    """The engine of one model. One incarnation is one worker process."""

    mailbox = reject(8192)

    def __init__(
        self,
        config: WorkerConfig,
        model: ServableModel,
        inference: ActorRef[EngineNews],
        inspection: ActorRef[NoteWorker],
        standby: ActorRef[StandbyMessage] | None = None,
    ) -> None:
        """``standby`` provides a process that has already imported everything; without it, every start imports afresh."""
        self._config = config
        self._model = model
        self._inference = inference
        self._inspection = inspection
        self._standby = standby
        self._has_requested_standby = standby is None
        self._worker: InferenceWorker | None = None
        self._pid = 0
        self._ready_at = 0.0
        self._ready: EngineReady | None = None
        self._ahead = InFlightWork()
        self._awaiting_clear = False
        self._is_telling = False
        """True while the inference actor's mailbox is full; reading from the worker pauses until then."""
        self._idle_memory: dict[str, float] = {}
        """Worker memory at its last idle report."""
        self._has_read_all = trio.Event()
        self._last_frame_at = 0.0
        self._load_deadline = 0.0
        self._clock = LatencyModel()
        self._held_bytes = 0.0
        """Bytes of keys and values after the newest step."""
        self._draft_tokens = 0
        """Maximum number of tokens drafted in a step with a single row."""

    async def started(self) -> None:
        """Starts the process. Loading continues in the background and is reported to the inference actor."""
        worker = await self._take_standby()
        is_spare = worker is not None
        if worker is None:
            worker = await InferenceWorker.start(self._config.command)
        self._worker, self._pid = worker, worker.pid
        self.context.spawn(self._own_process, worker)
        now = trio.current_time()
        # A standby process has already said hello.
        self._last_frame_at, self._load_deadline = now, now + (LOAD_SECONDS if is_spare else HELLO_SECONDS)
        self.context.spawn(self._read_frames)
        self.context.spawn(self._watch_progress)
        model = ModelFiles(self._model.name, self._model.folder, self._model.adapter)
        await self._write(Load(PROTOCOL, self._config, model))
        await self._tell_loading("starting")
        try:
            self._inspection.tell_nowait(NoteWorker(worker.pid))
        except SendFault as error:
            # This only informs operators about the worker; failing to is no reason to stop.
            _log.warning("worker not noted", worker_pid=worker.pid, error=str(error))

    async def _take_standby(self) -> InferenceWorker | None:
        if self._standby is None:
            return None
        try:
            worker = await self._standby.ask(TakeStandby(), timeout=STANDBY_SECONDS)
            if worker is not None:
                self._standby.tell_nowait(StandbyTaken(worker.pid))
        except RuntimeFault:
            return None
        return worker

    async def handle(self, message: EngineMessage) -> None:
        """Passes admissions and cancellations on to the worker."""
        match message:
            case AdmitRow():
                if not self._ahead.rows:
                    # Progress is due from now on; an idle worker owed none.
                    self._last_frame_at = trio.current_time()
                schema = message.response_schema
                self._ahead.admitted(message.row, len(message.prompt_ids) + len(message.emitted_ids))
                await self._write(
                    Admit(
                        row=message.row,
                        prompt_ids=message.prompt_ids,
                        emitted_ids=message.emitted_ids,
                        max_tokens=message.max_tokens,
                        stop_ids=message.stop_ids,
                        sampling=message.sampling,
                        domain=message.domain,
                        response_schema=None if schema is None else json.dumps(schema),
                        call_rule=None if message.call_rule is None else message.call_rule.as_text(),
                        free_calls=None if message.free_calls is None else message.free_calls.name,
                        alternatives=message.alternatives,
                        prompt_alternatives=message.prompt_alternatives,
                    )
                )
            case KillWorker():
                assert self._worker is not None
                self._worker.process.kill()
            case CancelRow(row):
                self._ahead.dropped(row)
                await self._write(Cancel(row))
            case Attach():
                self._ahead.cleared()
                if self._ready is None:
                    await self._tell_loading("loading")
                else:
                    # The new owner may use the worker's rows only once the worker reports that it is clear.
                    self._awaiting_clear = True
                    self._last_frame_at = trio.current_time()
                    await self._write(Clear())

    async def stopping(self) -> None:
        """Closes the pipe, which ends the worker; `_own_process` makes sure of it."""
        assert self._worker is not None
        await self._worker.stream.aclose()

    def snapshot(self) -> dict[str, object]:
        """Process and row counts."""
        return {
            "worker_pid": self._pid,
            "is_ready": self._ready is not None,
            "rows": len(self._ahead.rows),
            "unread_rows": self._ahead.unread_rows,
            "step_deadline_seconds": self._step_deadline_seconds(),
        }

    # --- the process ------------------------------------------------------------------------------

    async def _own_process(self, worker: InferenceWorker) -> None:
        """Drains the worker's output, notices its end and never leaves the process behind."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.drain_output)
                status = await worker.process.wait()
                # Its last frames and output tell why it ended and how far its rows had come.
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_SECONDS
                await self._has_read_all.wait()
            words = "; ".join(list(worker.output)[-3:])
            raise WorkerDied(f"worker {worker.pid} ended with status {status}" + (f": {words}" if words else ""))
        finally:
            await worker.end()

    async def _write(self, frame: ToWorker) -> None:
        """Writes one frame; this handler is the pipe's only writer. A worker that does not read counts as lost."""
        assert self._worker is not None
        try:
            with trio.fail_after(WRITE_SECONDS):
                await self._worker.write(frame)
        except trio.BrokenResourceError:
            return  # the worker is ending; `_own_process` reads its last frames and reports how it ended
        except trio.TooSlowError as error:
            raise WorkerDied(f"worker {self._pid} does not take frames") from error

    async def _read_frames(self) -> None:
        assert self._worker is not None
        while frames := await self._worker.receive_frames():
            for frame in frames:
                self._is_telling = True
                await self._take_frame(frame)
                self._is_telling = False
                self._last_frame_at = trio.current_time()
        self._has_read_all.set()  # `_own_process` reports how it ended

    async def _take_frame(self, frame: FromWorker) -> None:
        now = self._last_frame_at = trio.current_time()
        match frame:
            case Hello(protocol):
                check_protocol(protocol)
                self._load_deadline = now + LOAD_SECONDS
            case Loading(stage):
                if stage == WARM_UP_STAGE:
                    self._load_deadline = now + WARM_UP_SECONDS
                await self._tell_loading(stage)
            case LoadFailed(error):
                await self._tell_loading(f"failed: {error}")
            case Ready(report):
                # Warm-up times set the deadline for the first step of a request.
                for seconds, decoded, prefilled in report.warm_steps:
                    self._clock.measured(seconds, decoded, prefilled)
                self._clock.allocation_bytes_per_second = report.allocation_bytes_per_second or None
                self._draft_tokens = report.draft_tokens or 0
                self._ready = EngineReady(
                    engine=self.context.path,
                    incarnation=self.context.incarnation,
                    worker_pid=self._pid,
                    report=report,
                )
                self._ready_at = now
                _log.info("engine ready", worker_pid=self._pid, model=report.model, blas=report.blas)
                await self._inference.tell(self._ready)
            case Cleared():
                self._awaiting_clear = False
                assert self._ready is not None
                await self._inference.tell(self._ready)
            case Step():
                self._ahead.frame_came()
                await self._take_step(frame)
            case Idle(memory):
                self._ahead.frame_came()
                await self._take_idle(memory)
            case Preparing():
                await self._tell_alive()
            case StandingBy():
                pass

    async def _take_step(self, step: Step) -> None:
        self._idle_memory = {}
        self._held_bytes = step.memory.get("kv", self._held_bytes)
        output = step.output
        for one in output.emitted:
            self._ahead.emitted(one.row, is_last=one.finish is not None)
        for row, _ in output.failed:
            self._ahead.failed(row)
        self._clock.measured(step.seconds, len(output.emitted), output.prefilled_tokens, output.drafted_tokens)
        if not self._awaiting_clear:
            await self._inference.tell(
                EngineOutput(engine=self.context.path, incarnation=self.context.incarnation, step=step)
            )

    async def _take_idle(self, memory: dict[str, float]) -> None:
        """Handles the once-a-second idle report; its memory is worth passing on after the last row has gone."""
        if memory != self._idle_memory:
            self._idle_memory = memory
            idle = EngineIdle(engine=self.context.path, incarnation=self.context.incarnation, memory=memory)
            await self._inference.tell(idle)
        else:
            await self._tell_alive()

    async def _tell_alive(self) -> None:
        await self._inference.tell(EngineAlive(engine=self.context.path, incarnation=self.context.incarnation))

    async def _watch_progress(self) -> None:
        """Checks progress rather than liveness: while there are rows to compute, every step has a deadline.

        Time that the worker spent waiting for a processor does not count against its step, nor does time in which this
        process was itself stopped or could not pass on the worker's output.
        """
        wait, counted_from = RunQueueDelay(self._pid), -1.0
        while True:
            due = trio.current_time() + WATCH_SECONDS
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - due > WATCH_SECONDS:
                # This process was stopped, swapped out or starved: frames may have arrived, and are read before the
                # next check.
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
        """Deadline of the current step.

        Rows whose prompts have been read owe a decode step, which has a much shorter deadline. A worker that was asked
        to clear itself may be in the middle of any step.
        """
        unread = PREFILL_TOKENS_PER_STEP if self._awaiting_clear else self._ahead.unread_tokens
        # Only a single row that has been prefilled gets drafts.
        drafted = self._draft_tokens if len(self._ahead.rows) == 1 and not unread else 0
        return self._clock.deadline_seconds(unread, drafted, self._held_bytes)

    def _request_standby(self, now: float) -> None:
        """Requests a standby, once, and only when preparing it no longer slows the first requests down."""
        if (
            self._standby is not None
            and not self._has_requested_standby
            and may_prepare_standby(now - self._ready_at, is_idle=not self._ahead.rows)
        ):
            self._has_requested_standby = True
            try:
                self._standby.tell_nowait(PrepareStandby())
            except SendFault as error:
                _log.warning("standby worker not requested", error=str(error))

    async def _tell_loading(self, stage: str) -> None:
        await self._inference.tell(
            EngineLoading(
                engine=self.context.path, incarnation=self.context.incarnation, worker_pid=self._pid, stage=stage
            )
        )
