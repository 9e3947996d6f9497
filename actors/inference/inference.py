"""The inference actor: accepts requests, decides who runs, turns tokens into text, survives its worker."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import trio
from attrs import field, frozen

from actors.inference.admission import AdmissionLimits, FairQueue, fits
from actors.inference.engine_messages import AdmitRow, Attach, CancelRow, EngineLoading, EngineReady, EngineStep
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
from actors.inference.request_rules import check_request, sampling_of
from actors.inference.text.chat_template import TemplateRefused
from actors.inference.text.text_model import TextModel
from protocol.commands import Generate
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Down, DownReason, MailboxFull, Timer, block

__all__ = ["DeadlinePassed", "Inference", "InferenceMessage", "InferenceSettings"]

_log = structlog.get_logger("inference")

ENCODING_THREADS = 4
ENCODING_SECONDS = 30.0
STEPS_MEASURED = 64


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
        self._text: TextModel | None = None
        self._engine = engine
        self._metrics = metrics
        self._encoding = trio.CapacityLimiter(ENCODING_THREADS)
        self._generations: dict[str, Generation] = {}
        self._queue: FairQueue[Generation] = FairQueue(lambda one: len(one.prompt_ids))
        self._rows: dict[int, Generation] = {}
        # Row numbers begin anywhere, so that a late frame for a former owner's row matches none of ours.
        self._next_row = secrets.randbits(40)
        self._state = "loading"
        self._stage: str | None = "starting"
        self._worker_pid: int | None = None
        self._engine_incarnation = 0
        self._report: dict[str, Any] = {}
        self._deadlines: dict[str, Timer] = {}
        self._is_draining = False
        self._idle = trio.Event()
        self._steps: deque[tuple[int, float]] = deque(maxlen=STEPS_MEASURED)
        self._last_inference_ms: float | None = None
        self._memory: dict[str, float] = {}
        self._finished: Counter[str] = Counter()

    async def started(self) -> None:
        """Read the tokenizer; take over a worker that is already there."""
        self._text = await trio.to_thread.run_sync(self._load_text)
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
                self._take_step(message)
            case EngineLoading():
                self._engine_loading(message)
            case EngineReady():
                self._engine_ready(message)
            case DeadlinePassed(stream):
                generation = self._generations.get(stream)
                if generation is not None:
                    self._fail(generation, ErrorCode.DEADLINE_EXCEEDED, "the request's own deadline has passed")
        return None

    async def down(self, down: Down) -> None:
        """The engine died: its rows wait again. A follower ended: its generations end."""
        if down.path == self._engine.path:
            self._engine_down(down)
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
            "state": self._state,
            "stage": self._stage,
            "running": len(self._rows),
            "waiting": len(self._queue),
            "waiting_prompt_tokens": self._queue.tokens,
            "finished": dict(self._finished),
        }

    # --- accepting --------------------------------------------------------------------------------

    async def _start(self, request: StartGeneration) -> GenerationStarted:
        """A child task: encode, check, accept. Nothing is kept of a request that is refused."""
        prompt_ids = await self._encode(request.generate, is_resumed=request.resume is not None)
        generation = self._accept(
            request.client_id, request.stream, request.generate, prompt_ids, request.resume, request.follower
        )
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
        self._accept(request.client_id, stream, request.generate, prompt_ids, None, deliver)
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
        assert self._text is not None
        # Checked again when it is accepted; here so that what is refused anyway costs no encoding and no waiting.
        self._refuse_if_draining()
        if not is_resumed:
            self._check_room(0)
        try:
            with trio.fail_after(ENCODING_SECONDS):
                return await trio.to_thread.run_sync(
                    self._text.encode, generate, limiter=self._encoding, abandon_on_cancel=True
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
            raise GenerationRefused(ErrorCode.OVERLOADED, "the prompt was not encoded in time") from None

    def _accept(
        self,
        client_id: str,
        stream: str,
        generate: Generate,
        prompt_ids: list[int],
        resume: ResumeFrom | None,
        follower: ActorRef[Any] | Callable[[GenerationEvent], None],
    ) -> Generation:
        """Check everything, then keep the generation. Synchronous, so it is kept whole or not at all."""
        assert self._text is not None
        self._refuse_if_draining()
        if stream in self._generations:
            raise GenerationRefused(ErrorCode.CONFLICT, f"stream {stream} is already running", field="id")
        if self._state == "down" and resume is None:
            raise GenerationRefused(
                ErrorCode.MODEL_UNAVAILABLE, f"the model is not available: {self._stage}", retry_after_ms=2000
            )
        max_tokens = check_request(
            generate,
            prompt_tokens=len(prompt_ids),
            vocabulary_size=self._text.vocabulary_size,
            # The worker may serve less than the files promise, where it cannot follow the model further.
            context_tokens=min(
                self._text.context_tokens, self._report.get("context_tokens", self._text.context_tokens)
            ),
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
            generate=generate,
            seed=secrets.randbits(53) if seed is None else seed,
            prompt_ids=prompt_ids,
            max_tokens=max_tokens,
            detokenizer=self._text.detokenizer(),
            deliver=deliver,
            accepted_at=trio.current_time(),
            follower_path=follower.path if isinstance(follower, ActorRef) else None,
            token_text=self._text.token_text,
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
            self._finish(generation, trio.current_time(), still_in_worker=False)
        else:
            self._queue.push(client_id, generation, first=resume is not None)
            self._admit_what_fits()
        return generation

    def _refuse_if_draining(self) -> None:
        if self._is_draining:
            raise GenerationRefused(ErrorCode.SHUTTING_DOWN, "the server is shutting down")

    def _check_room(self, prompt_tokens: int) -> None:
        limits = self._settings.limits
        if (
            len(self._queue) >= limits.waiting_requests
            or self._queue.tokens + prompt_tokens > limits.waiting_prompt_tokens
        ):
            self._metrics.refused()
            typical = self._last_inference_ms or 1000.0
            retry = max(250, min(60_000, int(typical * (1 + len(self._queue)) / limits.rows)))
            raise GenerationRefused(ErrorCode.OVERLOADED, "too many requests are waiting", retry_after_ms=retry)

    def _tell_follower(self, follower: ActorRef[Any], event: GenerationEvent) -> None:
        try:
            follower.tell_nowait(event)
        except MailboxFull:
            # It does not even take messages from its mailbox; its own monitor will end its streams.
            _log.warning("follower overrun", follower=follower.path, stream=event.stream)

    # --- running ----------------------------------------------------------------------------------

    def _admit_what_fits(self) -> None:
        """Give the worker what it has room for, in turn."""
        while (generation := self._queue.peek()) is not None and self._may_join(generation):
            self._queue.pop()
            self._admit(generation)
        self._metrics.occupancy(len(self._rows), len(self._queue))

    def _may_join(self, generation: Generation) -> bool:
        if self._state != "ready" or any(one.must_run_alone for one in self._rows.values()):
            return False
        if generation.must_run_alone and self._rows:
            return False
        lengths = [one.length_tokens for one in self._rows.values()]
        price = int(self._report.get("kv_bytes_per_token", 0))
        return fits(self._settings.limits, lengths, generation.length_tokens, price)

    def _admit(self, generation: Generation) -> None:
        assert self._text is not None
        self._next_row += 1
        generation.row = self._next_row
        generation.steps_since_admission = 0
        if generation.admitted_at is None:
            generation.admitted_at = trio.current_time()
        self._rows[generation.row] = generation
        self._metrics.prefix_query(len(generation.prompt_ids))
        self._engine.tell_nowait(
            AdmitRow(
                row=generation.row,
                prompt_ids=generation.prompt_ids,
                emitted_ids=list(generation.emitted_ids),
                max_tokens=generation.max_tokens,
                stop_ids=sorted(self._text.stop_token_ids),
                sampling=sampling_of(generation.generate, generation.seed),
                response_schema=generation.generate.response_schema,
                alternatives=generation.generate.logprobs,
            )
        )

    def _take_step(self, step: EngineStep) -> None:
        if step.incarnation != self._engine_incarnation:
            return  # a dead worker's last words; its rows are being computed again
        frame = step.frame
        now = trio.current_time()
        if frame["memory"]:
            self._memory = frame["memory"]
            self._metrics.memory(self._memory)
        emitted = frame["emitted"]
        if emitted:
            self._steps.append((len(emitted), frame["seconds"]))
        self._metrics.step(frame["prefilled_tokens"], frame["seconds"])
        for row in frame["rows"]:
            generation = self._rows.get(row)
            if generation is not None:
                generation.steps_since_admission += 1
        for row, reason in frame["failed"]:
            generation = self._rows.get(row)
            if generation is not None:
                self._fail(generation, ErrorCode.ENGINE_FAILED, f"this request failed in the engine: {reason}")
        for row, cached_tokens in frame["cached"]:
            generation = self._rows.get(row)
            # A recovery may find its own earlier keys and values; what the request saved is what counted at first.
            if generation is not None and generation.cached_tokens is None:
                generation.cached_tokens = cached_tokens
                self._metrics.prefix_hit(cached_tokens)
        for row, token_id, log_probability, finish, alternatives in emitted:
            generation = self._rows.get(row)
            if generation is not None:
                self._take_token(generation, token_id, log_probability, finish, now, alternatives)
        self._admit_what_fits()

    def _take_token(
        self,
        generation: Generation,
        token_id: int,
        log_probability: float,
        finish: str | None,
        now: float,
        alternatives: list[tuple[int, float]] | None,
    ) -> None:
        count, before = len(generation.emitted_ids), generation.last_token_at
        try:
            generation.advance(token_id, log_probability, finish, now, alternatives)
        except Exception as error:  # noqa: BLE001  isolation border: one row's text must not stop its neighbours
            _log.exception("text of a generation failed", stream=generation.stream)
            self._fail(generation, ErrorCode.INTERNAL, f"the text could not be made: {type(error).__name__}")
            return
        # The model's stop token is none of the answer's.
        if len(generation.emitted_ids) > count:
            if before is None:
                self._metrics.first_token(now - generation.accepted_at)
            else:
                self._metrics.token_gap(now - before)
        if generation.has_finished:
            self._finish(generation, now, still_in_worker=finish is None)

    # --- ending -----------------------------------------------------------------------------------

    def _finish(self, generation: Generation, now: float, *, still_in_worker: bool) -> None:
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

    def _fail(self, generation: Generation, code: ErrorCode, message: str) -> None:
        generation.seq += 1
        generation.deliver(GenerationFailed(stream=generation.stream, seq=generation.seq, code=code, message=message))
        self._end(generation, code.value)

    def _end(self, generation: Generation, outcome: str) -> None:
        self._forget(generation, outcome, still_in_worker=True)
        self._admit_what_fits()

    def _forget(self, generation: Generation, outcome: str, *, still_in_worker: bool) -> None:
        """Every generation ends here, exactly once, with one outcome."""
        del self._generations[generation.stream]
        deadline = self._deadlines.pop(generation.stream, None)
        if deadline is not None:
            deadline.cancel()
        if generation.row is None:
            self._queue.remove(generation.client_id, generation)
        else:
            del self._rows[generation.row]
            if still_in_worker and self._engine.is_running:
                self._engine.tell_nowait(CancelRow(generation.row))
        self._finished[outcome] += 1
        self._metrics.finished(outcome, len(generation.prompt_ids), len(generation.emitted_ids))
        if self._is_draining and not self._generations:
            self._idle.set()

    # --- the engine -------------------------------------------------------------------------------

    def _engine_loading(self, message: EngineLoading) -> None:
        if message.incarnation != self._engine_incarnation:
            self._engine_incarnation = message.incarnation
            self.context.monitor(self._engine)
        self._worker_pid = message.worker_pid
        if message.stage.startswith("failed"):
            self._load_failed(message.stage)
        elif self._state != "down":
            # After a failed load each new attempt says "loading" again; that alone makes nothing better.
            self._state, self._stage = "loading", message.stage

    def _load_failed(self, problem: str) -> None:
        """The model cannot be loaded: whoever waits for it is told, and new requests are refused."""
        self._state, self._stage = "down", problem
        for generation in list(self._generations.values()):
            self._fail(generation, ErrorCode.MODEL_UNAVAILABLE, f"the model is not available: {problem}")

    def _engine_ready(self, message: EngineReady) -> None:
        self._engine_incarnation = message.incarnation
        self._worker_pid = message.worker_pid
        self._report = message.report
        self._state, self._stage = "ready", None
        self._admit_what_fits()

    def _engine_down(self, down: Down) -> None:
        """All rows wait again, first in their client's queue, except those that keep killing workers."""
        if self._state != "down":
            cause = down.reason.value if down.error is None else str(down.error)
            self._state, self._stage = "loading", f"restarting after: {cause}"
        self._worker_pid = None
        if down.reason is not DownReason.STOPPED:
            self._metrics.engine_restart()
            _log.warning("engine down", reason=down.reason.value, error=str(down.error), rows=len(self._rows))
        rows, self._rows = list(self._rows.values()), {}
        for generation in reversed(rows):
            if generation.worker_died():
                self._fail(
                    generation,
                    ErrorCode.ENGINE_FAILED,
                    f"the engine died {generation.deaths} times while it worked on this request",
                )
            else:
                self._queue.push(generation.client_id, generation, first=True)
        self._metrics.occupancy(len(self._rows), len(self._queue))

    def _memory_bound(self) -> int | None:
        parts = [self._report.get(name) for name in ("parameter_bytes", "pool_bytes", "prefix_bytes")]
        if any(one is None for one in parts):
            return None
        return sum(int(one) for one in parts if one is not None) + self._settings.limits.kv_bytes

    def _health(self) -> EngineHealth:
        seconds = sum(one[1] for one in self._steps)
        return EngineHealth(
            engine=self._settings.engine,
            state=self._state,
            model=self._settings.model_name,
            worker_pid=self._worker_pid,
            restarts=max(0, self._engine.incarnation - 1),
            report=self._report,
            problem=self._stage,
            queue_depth=len(self._queue),
            running=len(self._rows),
            tokens_per_second=sum(one[0] for one in self._steps) / seconds if seconds > 0 else None,
            last_inference_ms=self._last_inference_ms,
            memory=self._memory,
            memory_bound_bytes=self._memory_bound(),
            totals=dict(self._finished),
        )
