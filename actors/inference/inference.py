"""The inference actor: accepts requests, decides who runs, turns tokens into text, survives its worker."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio
from attrs import field, frozen

from actors.inference.admission import AdmissionLimits
from actors.inference.engine_messages import Attach, EngineLoading, EngineReady, EngineStep
from actors.inference.generation import Generation
from actors.inference.grammar import BadSchema
from actors.inference.messages import (
    CancelGeneration,
    Complete,
    Completion,
    DescribeEngine,
    EngineHealth,
    GenerationCancelled,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationRefused,
    GenerationStarted,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
)
from actors.inference.metrics import InferenceMetrics
from actors.inference.request_rules import check_request
from actors.inference.scheduler import Scheduler
from actors.inference.text.chat_template import TemplateRefused
from actors.inference.text.text_model import TextModel
from protocol.commands import Generate
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Down, MailboxFull, Timer, block

__all__ = ["DeadlinePassed", "Inference", "InferenceMessage", "InferenceSettings"]

_log = structlog.get_logger("inference")

ENCODING_THREADS = 4
ENCODING_SECONDS = 30.0


@frozen
class DeadlinePassed:
    """A generation's own deadline has come."""

    stream: str


InferenceMessage = (
    StartGeneration
    | CancelGeneration
    | Complete
    | DescribeEngine
    | EngineLoading
    | EngineReady
    | EngineStep
    | DeadlinePassed
)


@frozen(kw_only=True)
class InferenceSettings:
    """What the room was configured with."""

    engine: str
    """`mlx` or `mock`."""
    model_name: str
    limits: AdmissionLimits = field(factory=AdmissionLimits)
    default_max_tokens: int = 1024


class Inference(Actor[InferenceMessage]):
    """Holds every generation that runs or waits. The worker holds rows, followers hold what they received."""

    mailbox = block(4096)

    def __init__(
        self,
        settings: InferenceSettings,
        load_text: Callable[[], TextModel],
        engine: ActorRef[Any],
        metrics: InferenceMetrics,
    ) -> None:
        """``load_text`` reads the tokenizer's files; it is called in a thread at every start."""
        self._settings = settings
        self._load_text = load_text
        self._scheduler: Scheduler | None = None
        self._engine = engine
        self._metrics = metrics
        self._encoding = trio.CapacityLimiter(ENCODING_THREADS)
        self._generations: dict[str, Generation] = {}
        # Row numbers begin anywhere, so that a late frame for a former owner's row matches none of ours.
        self._new_row = itertools.count(secrets.randbits(40)).__next__
        self._deadlines: dict[str, Timer] = {}
        self._is_draining = False
        self._idle = trio.Event()
        self._last_inference_ms: float | None = None
        self._finished: Counter[str] = Counter()

    async def started(self) -> None:
        """Read the tokenizer; take over a worker that is already there."""
        text = await trio.to_thread.run_sync(self._load_text)
        self._scheduler = Scheduler(self._engine, text, self._settings.limits, self._metrics, self, self._new_row)
        if self._engine.is_running:
            self.context.monitor(self._engine)
            self._engine.tell_nowait(Attach())

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
            case DescribeEngine():
                return self._health()
            case EngineStep():
                self._scheduled.take_step(message)
            case EngineLoading():
                if self._scheduled.engine_loading(message):
                    self.context.monitor(self._engine)
            case EngineReady():
                self._scheduled.engine_ready(message)
            case DeadlinePassed(stream):
                generation = self._generations.get(stream)
                if generation is not None:
                    self.fail(generation, ErrorCode.DEADLINE_EXCEEDED, "the request's own deadline has passed")
        return None

    async def down(self, down: Down) -> None:
        """The engine died: its rows wait again. A follower ended: its generations end."""
        if down.path == self._engine.path:
            self._scheduled.engine_down(down)
            return
        for generation in [one for one in self._generations.values() if one.follower_path == down.path]:
            self._end(generation, "abandoned")

    async def draining(self) -> None:
        """Accept no more; done when nothing runs."""
        self._is_draining = True
        if self._generations:
            await self._idle.wait()

    def snapshot(self) -> dict[str, object]:
        """Counts only; prompts are nobody's business."""
        return {
            "state": self._scheduled.state,
            "stage": self._scheduled.stage,
            "running": len(self._scheduled.rows),
            "waiting": len(self._scheduled.queue),
            "waiting_prompt_tokens": self._scheduled.queue.tokens,
            "finished": dict(self._finished),
        }

    # --- accepting --------------------------------------------------------------------------------

    async def _start(self, request: StartGeneration) -> GenerationStarted:
        """A child task: encode, check, accept. Nothing is kept of a request that is refused."""
        prompt_ids = await self._encode(request.generate, is_resumed=request.resume is not None)
        generation = self._accept(request, request.stream, prompt_ids, request.resume, request.follower)
        return GenerationStarted(stream=request.stream, seed=generation.seed, prompt_tokens=len(prompt_ids))

    async def _complete(self, request: Complete) -> Completion:
        """A child task that follows its own generation; cancelled with the ask, it cancels it."""
        prompt_ids = await self._encode(request.generate, is_resumed=False)
        text: list[str] = []
        ended = trio.Event()
        last: GenerationEvent | None = None

        def deliver(event: GenerationEvent) -> None:
            nonlocal last
            if isinstance(event, GenerationTokens):
                text.append(event.text)
            else:
                last = event
                ended.set()

        stream = f"complete-{secrets.token_hex(8)}"
        self._accept(request, stream, prompt_ids, None, deliver)
        try:
            await ended.wait()
        finally:
            generation = self._generations.get(stream)
            if generation is not None:
                self._end(generation, "abandoned")
        if isinstance(last, GenerationDone):
            return Completion(text="".join(text), done=last.done)
        if isinstance(last, GenerationFailed):
            raise GenerationRefused(last.code, last.message)
        raise GenerationRefused(ErrorCode.UNAVAILABLE, "the generation was cancelled")

    async def _encode(self, generate: Generate, *, is_resumed: bool) -> list[int]:
        # Checked again when it is accepted; here so that what is refused anyway costs no encoding and no waiting.
        self._refuse_if_draining()
        if not is_resumed:
            self._check_room(0)
        try:
            with trio.fail_after(ENCODING_SECONDS):
                return await trio.to_thread.run_sync(
                    self._scheduled.text.encode, generate, limiter=self._encoding, abandon_on_cancel=True
                )
        except TemplateRefused as error:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD, f"the model's chat template refuses this: {error}", field="data.messages"
            ) from None
        except BadSchema as error:
            raise GenerationRefused(
                ErrorCode.INVALID_FIELD, f"data.response_schema: {error}", field="data.response_schema"
            ) from None
        except trio.TooSlowError:
            raise self._overloaded("the prompt was not encoded in time") from None

    def _accept(
        self,
        request: StartGeneration | Complete,
        stream: str,
        prompt_ids: list[int],
        resume: ResumeFrom | None,
        follower: ActorRef[Any] | Callable[[GenerationEvent], None],
    ) -> Generation:
        """Check everything, then keep the generation. Synchronous, so it is kept whole or not at all."""
        scheduler, client_id, generate = self._scheduled, request.client_id, request.generate
        self._refuse_if_draining()
        if stream in self._generations:
            raise GenerationRefused(ErrorCode.CONFLICT, f"stream {stream} is already running", field="id")
        if scheduler.state == "down" and resume is None:
            raise GenerationRefused(
                ErrorCode.MODEL_UNAVAILABLE, f"the model is not available: {scheduler.stage}", retry_after_ms=2000
            )
        max_tokens = check_request(
            generate,
            prompt_tokens=len(prompt_ids),
            vocabulary_size=scheduler.text.vocabulary_size,
            context_tokens=scheduler.context_tokens,
            default_max_tokens=self._settings.default_max_tokens,
        )
        if resume is None:
            self._check_room(len(prompt_ids))
        is_actor = isinstance(follower, ActorRef)
        deliver = partial(self._tell_follower, follower) if isinstance(follower, ActorRef) else follower
        seed = resume.seed if resume is not None else generate.seed
        generation = Generation(
            stream=stream,
            client_id=client_id,
            domain=request.domain,
            generate=generate,
            seed=secrets.randbits(53) if seed is None else seed,
            prompt_ids=prompt_ids,
            max_tokens=max_tokens,
            detokenizer=scheduler.text.detokenizer(),
            deliver=deliver,
            accepted_at=trio.current_time(),
            follower_path=follower.path if isinstance(follower, ActorRef) else None,
            token_text=scheduler.text.token_text,
        )
        if resume is not None:
            generation.resume(resume)
        self._generations[stream] = generation
        if is_actor:
            assert isinstance(follower, ActorRef)
            self.context.monitor(follower)
        if generate.deadline_ms is not None:
            self._deadlines[stream] = self.context.after(generate.deadline_ms / 1000, DeadlinePassed(stream))
        if generation.has_finished:
            self.finish(generation, trio.current_time(), still_in_worker=False)
        else:
            scheduler.push(generation, first=resume is not None)
        return generation

    def _refuse_if_draining(self) -> None:
        if self._is_draining:
            raise GenerationRefused(ErrorCode.SHUTTING_DOWN, "the server is shutting down")

    def _check_room(self, prompt_tokens: int) -> None:
        limits, queue = self._settings.limits, self._scheduled.queue
        if (
            len(queue) >= limits.waiting_requests
            or queue.tokens + prompt_tokens > limits.waiting_prompt_tokens
            # Those whose prompts are not encoded yet wait as well.
            or self._encoding.statistics().tasks_waiting >= limits.waiting_requests
        ):
            raise self._overloaded("too many requests are waiting")

    def _overloaded(self, message: str) -> GenerationRefused:
        self._metrics.refused()
        typical = self._last_inference_ms or 1000.0
        wanted = int(typical * (1 + len(self._scheduled.queue)) / self._settings.limits.rows)
        return GenerationRefused(ErrorCode.OVERLOADED, message, retry_after_ms=max(250, min(60_000, wanted)))

    def _tell_follower(self, follower: ActorRef[Any], event: GenerationEvent) -> None:
        try:
            follower.tell_nowait(event)
        except MailboxFull:
            # It does not even take messages from its mailbox; its own monitor will end its streams.
            _log.warning("follower overrun", follower=follower.path, stream=event.stream)

    # --- ending -----------------------------------------------------------------------------------

    def finish(self, generation: Generation, now: float, *, still_in_worker: bool) -> None:
        """Its last text was made: deliver the last event."""
        done = generation.complete(now)
        self._last_inference_ms = done.timings.total_ms
        self._forget(generation, done.finish_reason.value, still_in_worker=still_in_worker)

    def _cancel(self, stream: str, reason: str) -> bool:
        generation = self._generations.get(stream)
        if generation is None:
            return False
        generation.seq += 1
        generation.deliver(GenerationCancelled(stream=stream, seq=generation.seq, reason=reason))
        self._end(generation, "cancelled")
        return True

    def fail(self, generation: Generation, code: ErrorCode, message: str) -> None:
        """It cannot go on: tell its follower why."""
        generation.seq += 1
        generation.deliver(GenerationFailed(stream=generation.stream, seq=generation.seq, code=code, message=message))
        self._end(generation, code.value)

    def _end(self, generation: Generation, outcome: str) -> None:
        self._forget(generation, outcome, still_in_worker=True)
        self._scheduled.admit_what_fits()

    def _forget(self, generation: Generation, outcome: str, *, still_in_worker: bool) -> None:
        """Every generation ends here, exactly once, with one outcome."""
        del self._generations[generation.stream]
        deadline = self._deadlines.pop(generation.stream, None)
        if deadline is not None:
            deadline.cancel()
        self._scheduled.release(generation, still_in_worker=still_in_worker)
        self._finished[outcome] += 1
        self._metrics.finished(outcome, len(generation.prompt_ids), len(generation.emitted_ids))
        if self._is_draining and not self._generations:
            self._idle.set()

    # --- the engine -------------------------------------------------------------------------------

    @property
    def _scheduled(self) -> Scheduler:
        assert self._scheduler is not None, "made in `started`"
        return self._scheduler

    def occupancy_changed(self) -> None:
        """Set the gauges."""
        self._metrics.occupancy(len(self._scheduled.rows), len(self._scheduled.queue))

    def _health(self) -> EngineHealth:
        scheduler = self._scheduled
        return EngineHealth(
            engine=self._settings.engine,
            state=scheduler.state,
            model=self._settings.model_name,
            worker_pid=scheduler.worker_pid,
            restarts=max(0, self._engine.incarnation - 1),
            report=scheduler.report,
            problem=scheduler.stage,
            queue_depth=len(scheduler.queue),
            running=len(scheduler.rows),
            tokens_per_second=scheduler.tokens_per_second,
            last_inference_ms=self._last_inference_ms,
            memory=scheduler.memory,
            memory_bound_bytes=scheduler.memory_bound_bytes,
            totals=dict(self._finished),
        )
