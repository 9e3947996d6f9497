"""The inference actor: accepts requests, schedules them, turns tokens into text and survives the loss of its worker."""

from __future__ import annotations

import itertools
import math
import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from actors.inference.acceptance import Acceptance
from actors.inference.answer_spans import record_answer
from actors.inference.engine_messages import (
    EngineAlive,
    EngineIdle,
    EngineLoading,
    EngineMessage,
    EngineOutput,
    EngineReady,
)
from actors.inference.engine_registry import EngineRegistryMessage
from actors.inference.generation import NO_PROGRESS, Generation, progress_of
from actors.inference.health import SelfReport
from actors.inference.internal_messages import InferenceMessage, StreamMessage
from actors.inference.kernel_compiler import CompileKernels, KernelsSettled
from actors.inference.messages import (
    UNFINISHED,
    CancelGeneration,
    Complete,
    Completion,
    DescribeEngine,
    DescribeGeneration,
    DescribeModels,
    DetachStreams,
    GenerationCancelled,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    IsGenerating,
    KillEngine,
    ListModels,
    LoadModel,
    MeasurePrompt,
    ReportProgress,
    StartGeneration,
    Subscribed,
    SubscribeStream,
    UnloadModel,
    UnsubscribeStream,
)
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_manager import ModelManager
from actors.inference.model_registry import ModelRegistry, ServableModel
from actors.inference.model_requests import ModelRequests
from actors.inference.prompts import DEADLINE_PASSED, PromptEncoder
from actors.inference.request_rules import deadline_of
from actors.inference.response_collector import ResponseCollector
from actors.inference.sandbox_messages import SandboxMessage
from actors.inference.scheduler import Scheduler
from actors.inference.settings import DeadlinePassed, IdleCheck, InferenceSettings
from actors.inference.stream_broker import DetachExpired, StreamBroker
from actors.inference.text.text_model import TextModel
from actors.inference.token_watch import TokenWatch
from actors.request_log import RequestLog
from actors.tracing.trace_context import current_trace
from actors.tracing.tracer import Tracer
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Down, DynamicRef, Timer, block

__all__ = ["DeadlinePassed", "Inference", "InferenceMessage", "InferenceSettings"]

_log = structlog.get_logger("inference")

IDLE_CHECK_SECONDS = 5.0
GRACE_SECONDS = 2.0
"""Time for subscribers of a lost inference actor to resume their streams before any stream starts over."""


class Inference(Actor[InferenceMessage]):
    """Holds every generation that runs or waits, and its stream.

    The worker holds the rows; subscribers hold what they have received.
    """

    mailbox = block(4096)

    def __init__(
        self,
        settings: InferenceSettings,
        model_registry: ModelRegistry,
        engines: DynamicRef,
        engine_for: Callable[[ServableModel], Callable[[], Actor[Any]]],
        engine_registry: ActorRef[EngineRegistryMessage],
        metrics: InferenceMetrics,
        sandbox: ActorRef[SandboxMessage] | None = None,
        kernels: ActorRef[CompileKernels] | None = None,
        tracer: Tracer | None = None,
        requests: RequestLog | None = None,
    ) -> None:
        """``engine_for`` returns the factory of a model's engine actor; a new one is made for each incarnation under
        ``engines``.

        ``requests`` records the start and end of every request. Without ``sandbox``, templates and tokenizers run in
        threads of this process; only tests should do that. ``kernels`` compiles code for workers that start without it.
        """
        self._settings = settings
        self._metrics = metrics
        self._tracer = tracer or Tracer()
        self._requests = requests or RequestLog()
        self._models = ModelManager(
            model_registry=model_registry,
            engines=engines,
            engine_for=engine_for,
            engine_registry=engine_registry,
            new_scheduler=self._new_scheduler,
            move=self._move_waiting,
            context=self.context,
            memory_bound_bytes=settings.model_memory_bytes,
            sandbox=sandbox,
            kernels=kernels,
        )
        self._prompts = PromptEncoder(sandbox)
        self._report = SelfReport(settings.engine, self._models, self._prompts, model_registry, metrics)
        self._generations: dict[str, Generation] = {}
        # Row numbers start at a random value, so that a late frame for a previous owner's row never matches one of this
        # actor's rows.
        self._new_row = itertools.count(secrets.randbits(40)).__next__
        self._deadlines: dict[str, Timer] = {}
        self._idle = trio.Event()
        self._last_active_at = trio.current_time()
        self._finished: Counter[str] = Counter()
        self._streams = StreamBroker(
            self.context, settings.streams, lambda stream, reason: self._cancel(stream, reason, "abandoned")
        )
        self._acceptance = Acceptance(settings, self._models, self._prompts, self._streams, self._generations, metrics)
        self._model_requests = ModelRequests(self._models, self.context, self._acceptance.refuse_if_draining)

    async def started(self) -> None:
        """Starts the first model's engine, or takes over the engines that are already running."""
        self._requests.lose(trio.current_time())
        await self._models.started()
        if idle_seconds := self._settings.idle_unload_seconds:
            self.context.every(min(IDLE_CHECK_SECONDS, idle_seconds / 4), IdleCheck())
        grace_seconds = GRACE_SECONDS if self.context.incarnation > 1 else 0.0
        self.context.spawn(partial(self._streams.start_stored, self._start_stored, grace_seconds=grace_seconds))
        if (access := self._settings.streams.access) is not None:
            self.context.spawn(TokenWatch(access, self._generations, self._streams.is_running, self.fail).run)

    async def handle(self, message: InferenceMessage) -> object:
        match message:
            case StartGeneration():
                self.context.answer_later(self._start, message)
                return None
            case Complete():
                self.context.answer_later(self._complete, message)
                return None
            case CancelGeneration(stream, reason):
                return self._cancel(stream, reason)
            case MeasurePrompt():
                self.context.answer_later(self._acceptance.measure, message)
                return None
            case _ if isinstance(message, StreamMessage):
                return self._handle_stream(message)
            case DescribeEngine():
                can_queue = self._acceptance.can_queue(self._models.current)
                return self._report.answer(
                    message, self.context, self._acceptance.last_inference_ms, self._finished, can_queue
                )
            case EngineOutput() | EngineAlive() | EngineIdle() | EngineLoading() | EngineReady():
                self._on_engine_message(message)
            case ListModels() | DescribeModels():
                self._report.answer_models(message, self.context)
            case LoadModel() | UnloadModel() | KernelsSettled() | KillEngine():
                return self._model_requests.handle(message)
            case IdleCheck():
                self._check_idle()
            case DeadlinePassed(stream):
                generation = self._generations.get(stream)
                if generation is not None:
                    self.fail(generation, ErrorCode.DEADLINE_EXCEEDED, DEADLINE_PASSED)
        return None

    def _handle_stream(self, message: StreamMessage) -> object:
        match message:
            case DescribeGeneration(stream):
                return NO_PROGRESS if (one := self._generations.get(stream)) is None else one.progress
            case ReportProgress(client_id=client_id, data=data):
                one = self._generations.get(data.stream)
                return progress_of(None if one is None or one.client_id != client_id else one)
            case DetachStreams(subscriber=subscriber):
                return self._streams.left(subscriber.path, by_our_doing=True)
            case IsGenerating(stream):
                return self._streams.is_running(stream)
            case SubscribeStream() if self._streams.must_settle(message.stream):
                self.context.answer_later(self._subscribe_when_settled, message)
                return None
            case SubscribeStream():
                return self._streams.subscribe(message)
            case UnsubscribeStream():
                return self._streams.unsubscribe(message)
            case DetachExpired(stream):
                self._streams.detach_expired(stream)
                return None

    async def _subscribe_when_settled(self, message: SubscribeStream) -> Subscribed:
        await self._streams.settle(message.stream)
        return self._streams.subscribe(message)

    async def down(self, down: Down) -> None:
        """Handles the end of an engine or a subscriber.

        The rows of a dead engine go back to the queue. Streams without a remaining subscriber end or are detached.
        """
        if (scheduler := self._models.by_engine(down.path)) is not None:
            scheduler.engine_down(down)
            self._models.wake_waiters()
            return
        # A retired engine may have ended; until now it still counted in the gauges.
        self.occupancy_changed()
        self._streams.subscriber_down(down)

    async def draining(self) -> None:
        """Accepts no more requests; returns once none is running."""
        self._acceptance.is_draining = True
        if not self._generations:
            return
        try:
            await self._idle.wait()
        finally:
            # On timeout, fail the remaining generations whose callers cannot resume them after a restart.
            for generation in list(self._generations.values()):
                if self._streams.ends_with_server(generation.stream):
                    self.fail(generation, ErrorCode.SHUTTING_DOWN, UNFINISHED)

    def snapshot(self) -> dict[str, object]:
        """Counts only; prompts never appear in snapshots."""
        return {
            "model": self._models.current.model.name,
            "state": self._models.current.state,
            "stage": self._models.current.stage,
            "running": sum(len(one.rows) for one in self._models.all),
            "waiting": sum(len(one.queue) for one in self._models.all),
            "waiting_prompt_tokens": sum(one.queue.tokens for one in self._models.all),
            "finished": dict(self._finished),
        }

    # --- accepting --------------------------------------------------------------------------------

    async def _start(self, request: StartGeneration) -> GenerationStarted:
        """Child task: encodes, checks, records the command and starts the generation. Nothing is stored for a rejected
        request."""
        if (again := self._streams.rejoin(request)) is not None:
            return again
        if request.asked_at is None:
            request = attrs.evolve(request, asked_at=trio.current_time(), trace=current_trace())
        calibration = await self._models.calibration_for(request)
        scheduler, prompt_ids = await self._acceptance.encode(request, request.resume, request.asked_at)
        # Another subscriber of the lost stream may have restarted it in the meantime.
        if (again := self._streams.rejoin(request)) is not None:
            return again
        generation = self._acceptance.prepare(scheduler, request, request.stream, prompt_ids, request.resume)
        generation.calibration = calibration.get(scheduler.model)
        if request.resume is not None:
            self._subscribe_and_begin(request, generation)
            return self._streams.started(request.stream, len(prompt_ids))
        started = await self._streams.record_and_begin(
            request, generation.seed, len(prompt_ids), partial(self._subscribe_and_begin, request, generation)
        )
        return attrs.evolve(started, left_out=prompt_ids.left_out)

    async def _start_stored(self, request: StartGeneration) -> None:
        """Restarts a detached generation of an earlier server or inference actor, from its beginning and with its seed."""
        scheduler, prompt_ids = await self._acceptance.encode(request, None, request.asked_at, was_accepted=True)
        if not self._streams.is_running(request.stream):
            generation = self._acceptance.prepare(
                scheduler, request, request.stream, prompt_ids, None, was_accepted=True
            )
            self._subscribe_and_begin(request, generation)

    def _subscribe_and_begin(self, request: StartGeneration, generation: Generation) -> None:
        """Opens the stream and starts the generation. Synchronous, so that both exist or neither does."""
        told = [] if request.resume is None else generation.resume(request.resume)
        stream = self._streams.open(request, generation, told)
        generation.deliver = stream.deliver
        if request.completion_fields is not None:
            fields = request.completion_fields
            generation.completion_fields = lambda done: fields(stream.text, done)
        self._begin(generation, first=request.resume is not None)

    async def _complete(self, request: Complete) -> Completion:
        """Child task that collects its own generation. Cancelling the ask cancels the generation."""
        asked_at = trio.current_time()
        scheduler, prompt_ids = await self._acceptance.encode(request, None, asked_at)
        stream = f"complete-{secrets.token_hex(8)}"
        generation = self._acceptance.prepare(scheduler, request, stream, prompt_ids, None)
        generation.asked_at = asked_at
        answer = ResponseCollector()
        generation.deliver = answer.deliver
        self._begin(generation, first=False)
        try:
            return await answer.completion()
        finally:
            if stream in self._generations:
                self._end(generation, "abandoned")

    def _begin(self, generation: Generation, *, first: bool) -> None:
        """Registers the generation and queues it, behind its client's other requests or (``first``) ahead of them."""
        stream, now = generation.stream, trio.current_time()
        deadline_at = deadline_of(generation.generate, generation.asked_at, now)
        scheduler = generation.scheduler
        assert scheduler is not None
        self._generations[stream] = generation
        self._requests.begin(stream, generation.times)
        self._last_active_at = now
        if deadline_at < math.inf:
            self._deadlines[stream] = self.context.after(max(0.0, deadline_at - now), DeadlinePassed(stream))
        if generation.has_finished:
            self.finish(generation, now, still_in_worker=False)
            return
        current = self._models.current
        if not generation.emitted_ids and scheduler is not current and scheduler.is_ending:
            # Another model took over while the command was being stored.
            generation.scheduler = current
            if scheduler.model != current.model:
                generation.calibration = None
            current.push(generation, first=first)
            self._models.need(current)
            return
        scheduler.push(generation, first=first)
        self._models.need(scheduler)

    async def _move_waiting(self, old: Scheduler, new: Scheduler) -> None:
        """Moves requests that waited for a model that cannot be loaded to another model, and encodes their prompts
        again."""
        for generation in list(old.queue):
            if self._generations.get(generation.stream) is not generation:
                continue
            old.queue.remove(generation.client_id, generation)
            generation.scheduler = new
            try:
                prompt_ids, max_tokens = await self._acceptance.encode_for(new, generation)
            except GenerationRefused as refusal:
                if self._generations.get(generation.stream) is generation:
                    self.fail(generation, refusal.code, refusal.message)
                continue
            if self._generations.get(generation.stream) is generation:
                generation.move(new, prompt_ids, max_tokens)
                new.push(generation, first=False)

    # --- ending -----------------------------------------------------------------------------------

    def finish(self, generation: Generation, now: float, *, still_in_worker: bool) -> None:
        """Delivers the last event of a generation whose text is complete."""
        try:
            done = generation.complete(now, generation.completion_fields)
        except Exception as error:  # noqa: BLE001  isolation boundary: another service's function makes these fields
            _log.exception("completion fields failed", stream=generation.stream)
            self.fail(generation, ErrorCode.INTERNAL, f"the answer could not be completed: {type(error).__name__}")
            return
        self._acceptance.last_inference_ms = done.timings.total_ms
        self._forget(generation, done.finish_reason.value, still_in_worker=still_in_worker)

    def _cancel(self, stream: str, reason: str, outcome: str = "cancelled") -> bool:
        """Ends a generation early. Returns True if it was still running."""
        generation = self._generations.get(stream)
        if generation is None:
            return False
        generation.seq += 1
        generation.deliver(GenerationCancelled(stream=stream, seq=generation.seq, reason=reason))
        self._end(generation, outcome)
        return True

    def fail(self, generation: Generation, code: ErrorCode, message: str) -> None:
        """Ends a generation with an error that its subscribers receive."""
        generation.seq += 1
        generation.deliver(GenerationFailed(stream=generation.stream, seq=generation.seq, code=code, message=message))
        self._end(generation, code.value)

    def _end(self, generation: Generation, outcome: str) -> None:
        self._forget(generation, outcome, still_in_worker=True)
        if generation.scheduler is not None:
            generation.scheduler.admit_what_fits()

    def _forget(self, generation: Generation, outcome: str, *, still_in_worker: bool) -> None:
        """Every generation ends here, exactly once, with one outcome."""
        del self._generations[generation.stream]
        self._streams.ended(generation.stream)
        deadline = self._deadlines.pop(generation.stream, None)
        if deadline is not None:
            deadline.cancel()
        self._last_active_at = trio.current_time()
        scheduler = generation.scheduler
        assert scheduler is not None
        scheduler.release(generation, still_in_worker=still_in_worker)
        if scheduler.is_empty:
            self._models.wake_waiters()
        self._requests.end(generation.stream, outcome, self._last_active_at)
        self._finished[outcome] += 1
        self._metrics.finished(outcome, len(generation.prompt_ids), len(generation.emitted_ids))
        record_answer(self._tracer, generation, outcome, self._last_active_at)
        if self._acceptance.is_draining and not self._generations:
            self._idle.set()

    # --- models and their engines -------------------------------------------------------------------

    def _new_scheduler(self, model: ServableModel, text: TextModel, engine: ActorRef[EngineMessage]) -> Scheduler:
        return Scheduler(model, text, engine, self._settings.limits, self._metrics, self, self._new_row)

    def _on_engine_message(
        self, message: EngineOutput | EngineAlive | EngineIdle | EngineLoading | EngineReady
    ) -> None:
        scheduler = self._models.by_engine(message.engine)
        if scheduler is None:
            return  # the engine has been retired; this is a late message
        scheduler.engine_spoke(message.incarnation)
        match message:
            case EngineAlive():
                return
            case EngineOutput():
                scheduler.take_step(message)
                return
            case EngineIdle():
                scheduler.take_idle(message)
                return
            case EngineReady():
                scheduler.engine_ready(message)
                self._models.kernels.request(scheduler)
            case EngineLoading():
                if scheduler.engine_loading(message):
                    self.context.monitor(scheduler.engine)
        self._models.wake_waiters()

    def _check_idle(self) -> None:
        idle_seconds = trio.current_time() - self._last_active_at
        if not self._generations and idle_seconds >= self._settings.idle_unload_seconds:
            self._models.unload_idle()

    def occupancy_changed(self) -> None:
        """Updates the gauges for running and waiting requests and worker memory."""
        self._report.set_gauges()
