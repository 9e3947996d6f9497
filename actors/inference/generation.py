"""State of one answer in progress. No I/O; turns tokens into events."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define, field

from actors.inference.calibration import Calibration
from actors.inference.messages import (
    FirstTimes,
    GenerationDone,
    GenerationEvent,
    GenerationProgress,
    GenerationTokens,
    PromptToken,
    ResumeFrom,
)
from actors.inference.poison_requests import DeathRecord
from actors.inference.repetition import RepetitionDetector
from actors.inference.text.stop_matcher import StopMatcher
from actors.inference.text.text_model import Detokenizer
from actors.inference.text.token_bytes import OneToken
from actors.inference.token_log import TokenLog
from actors.request_log import RequestTimes
from actors.tracing.trace_context import TraceContext
from protocol.commands import Generate
from protocol.events import Done, FinishReason, ProgressData, ProgressState, Timings, Usage

if TYPE_CHECKING:
    from actors.inference.scheduler import Scheduler

__all__ = ["NO_PROGRESS", "Generation", "progress_of"]

NO_PROGRESS = GenerationProgress(is_running=False, prompt_tokens=0, read_tokens=0)
"""Progress of a generation that is over."""
GRANT_TOKENS = 1024
"""Memory is reserved for this many tokens at a time when the request sets no length."""


def _unknown_token(token_id: int) -> OneToken:
    return OneToken(str(token_id), None)


@define(kw_only=True, eq=False)
class Generation:
    """A request, the tokens emitted for it, and its history. Its text is a function of its token ids alone."""

    stream: str
    client_id: str
    domain: str = ""
    """Security domain of the cached prompt."""
    generate: Generate
    seed: int
    prompt_ids: list[int] = field(repr=False)
    max_tokens: int
    to_context_end: bool = False
    """True if the answer may run to the end of the context because no length, or a longer one, was requested; most end
    long before."""
    ignores_end: bool = False
    """True if neither the model's end token nor repetition ends the answer."""
    granted_tokens: int | None = None
    """Answer tokens for which memory is reserved; None means all."""
    detokenizer: Detokenizer = field(repr=False)
    deliver: Callable[[GenerationEvent], None] = field(default=lambda _: None, repr=False)
    """Passes an event to its stream; never blocks."""
    completion_fields: Callable[[Done], Mapping[str, Any]] | None = field(default=None, repr=False)
    """Makes additional fields of the last event."""
    calibration: Calibration | None = field(default=None, repr=False)
    """Calibration of the answering model, if `done` is to report the calibrated confidence."""
    accepted_at: float
    """Trio's clock, seconds."""
    trace: TraceContext | None = None
    """Parent span of the answer's spans; None if it is not traced."""
    asked_at: float | None = None
    """Start of its deadline, if earlier than acceptance."""
    token_text: Callable[[int], OneToken] = field(default=_unknown_token, repr=False)
    """Text of a single token, for log-probabilities."""
    tell_prompt: Callable[[Sequence[PromptToken]], None] | None = field(default=None, repr=False)
    """Receives the prompt's tokens with their log-probabilities as they are read, all before the first answer token."""
    cached_tokens: int | None = None
    """Prompt tokens found in the prefix cache; None until known."""
    scheduler: Scheduler | None = field(default=None, repr=False)
    """Scheduler that it waits and runs in, set once it is accepted: that of the answering model."""
    row: int | None = None
    """Row number in the worker while admitted."""
    read_tokens: int = 0
    """Prompt tokens read, as last reported by the worker."""
    emitted_ids: list[int] = field(factory=list, repr=False)
    log_probability: float = 0.0
    seq: int = 0
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    steps_since_admission: int = 0
    death_record: DeathRecord = field(factory=DeathRecord)
    matcher: StopMatcher = field(init=False, repr=False)
    _unsent_ids: list[int] = field(factory=list, repr=False)
    _unsent_log_probability: float = 0.0
    _token_log: TokenLog = field(init=False, factory=TokenLog, repr=False)
    _first_times: FirstTimes | None = field(default=None, repr=False)
    _finish: FinishReason | None = None
    _repetition: RepetitionDetector = field(init=False, factory=RepetitionDetector, repr=False)
    _repeats_itself: bool = False
    _told_of_prompt: int = 0
    """Number of prompt tokens passed to `tell_prompt`."""

    def __attrs_post_init__(self) -> None:
        self.matcher = StopMatcher(self.generate.stop)

    def resume(self, point: ResumeFrom) -> list[GenerationTokens]:
        """Restores the state at a subscriber's position: the same ids give the same text and the same held-back suffix.

        Returns the events that the subscriber received, for other subscribers. Individual log-probabilities are lost,
        so each token gets an equal share of the sum.
        """
        told: list[GenerationTokens] = []
        unsent: list[int] = []
        each = point.log_probability / len(point.token_ids) if point.token_ids else 0.0

        def tell(text: str, index: int) -> None:
            told.append(
                GenerationTokens(
                    stream=self.stream,
                    seq=len(told) + 1,
                    text=text,
                    index=index,
                    token_ids=tuple(unsent),
                    log_probability=each * len(unsent),
                    first_times=point.first_times,
                )
            )
            unsent.clear()

        for index, token_id in enumerate(point.token_ids):
            unsent.append(token_id)
            self._repeats_itself = self._repetition.feed(token_id) and not self.ignores_end
            piece = self.detokenizer.feed(token_id)
            self._token_log.skip(piece)
            text = self.matcher.feed(piece)
            if text:
                self._token_log.skip_told(text)
                tell(text, index)
        events = len(told)
        self.emitted_ids = list(point.token_ids)
        self.log_probability = point.log_probability
        self.seq = point.seq
        if point.first_times is not None:
            self._first_times = times = point.first_times
            self.accepted_at, self.admitted_at = times.accepted_at, times.admitted_at
            self.first_token_at, self.cached_tokens = times.first_token_at, times.cached_tokens
        # The subscriber may have received everything but the last event. One event more than its tokens made carries
        # the text that was held back until the model stopped.
        if self.matcher.has_stopped:
            self._finish = FinishReason.STOP
            if self.seq > events:
                # For the last token it received the text left by the stop text.
                tell("", len(point.token_ids) - 1)
        elif len(self.emitted_ids) >= self.max_tokens or self._repeats_itself:
            self._finish = FinishReason.LENGTH
        elif self.seq > events:
            self._finish = FinishReason.STOP
        if self._finish is not None and not self.matcher.has_stopped:
            rest = self.matcher.feed(self.detokenizer.finish()) + self.matcher.flush()
            if self.seq > events:
                tell(rest, len(point.token_ids) - 1)
            elif rest:
                told[-1] = attrs.evolve(told[-1], text=told[-1].text + rest)
        return told

    def move(self, scheduler: Scheduler, prompt_ids: list[int], max_tokens: int) -> None:
        """Moves a generation without tokens yet to another model."""
        assert not self.emitted_ids
        self.scheduler, self.calibration = scheduler, None
        self.prompt_ids, self.max_tokens = prompt_ids, max_tokens
        self._told_of_prompt = 0
        self.detokenizer, self.token_text = scheduler.text.detokenizer(), scheduler.text.token_text

    @property
    def has_finished(self) -> bool:
        """True once the text is complete."""
        return self._finish is not None

    @property
    def length_tokens(self) -> int:
        """Positions reserved for the row: its full length, or up to its grant."""
        answer = self.max_tokens if self.granted_tokens is None else min(self.max_tokens, self.granted_tokens)
        return len(self.prompt_ids) + answer

    @property
    def progress(self) -> GenerationProgress:
        """Current progress."""
        count = len(self.prompt_ids)
        read = count if self.emitted_ids else min(count, self.read_tokens)
        return GenerationProgress(is_running=self.row is not None, prompt_tokens=count, read_tokens=read)

    def times(self) -> RequestTimes:
        """Timing and token counts for operators, without any text."""
        return RequestTimes(
            client_id=self.client_id,
            model="" if self.scheduler is None else self.scheduler.model.name,
            accepted_at=self.accepted_at,
            admitted_at=self.admitted_at,
            first_token_at=self.first_token_at,
            prompt_tokens=len(self.prompt_ids),
            cached_tokens=self.cached_tokens or 0,
            answer_tokens=len(self.emitted_ids),
            engine_restarts=self.death_record.deaths,
        )

    def grant(self) -> None:
        """Reserves memory for the next part of an answer of open length."""
        wanted = self.generate.max_tokens
        if self.to_context_end and (wanted is None or wanted > self.max_tokens):
            self.granted_tokens = max(self.granted_tokens or 0, len(self.emitted_ids) + GRANT_TOKENS)

    @property
    def has_used_its_grant(self) -> bool:
        """True if it needs more memory before its next token."""
        granted = self.granted_tokens
        return granted is not None and granted <= len(self.emitted_ids) < self.max_tokens

    @property
    def prompt_alternatives(self) -> int | None:
        """Number of alternatives to report per prompt token; None if prompt tokens are not wanted or have all been
        reported."""
        is_wanted = self.tell_prompt is not None and self._told_of_prompt < len(self.prompt_ids)
        return (self.generate.logprobs or 0) if is_wanted else None

    def take_scores(
        self,
        begin: int,
        log_probabilities: Sequence[float],
        alternatives: Sequence[Sequence[tuple[int, float]]],
    ) -> None:
        """Passes on scores of the prompt's tokens from ``begin`` on, skipping those that an earlier, lost worker
        reported."""
        if self.tell_prompt is None:
            return
        texts: dict[int, OneToken] = {}

        def text_of(token_id: int) -> OneToken:
            if token_id not in texts:
                texts[token_id] = self.token_text(token_id)
            return texts[token_id]

        told: list[PromptToken] = []
        if not self._told_of_prompt:
            # Nothing precedes the first token, so it has no likelihood.
            told.append(PromptToken(index=0, token_id=self.prompt_ids[0], token=text_of(self.prompt_ids[0])))
        for index, own, likeliest in zip(itertools.count(begin), log_probabilities, alternatives, strict=False):
            if index >= self._told_of_prompt + len(told):
                token_id = self.prompt_ids[index]
                top = [(one, text_of(one), value) for one, value in likeliest]
                told.append(
                    PromptToken(index=index, token_id=token_id, token=text_of(token_id), log_probability=own, top=top)
                )
        self._told_of_prompt += len(told)
        self.tell_prompt(told)

    def advance(
        self,
        token_id: int,
        log_probability: float,
        finish: str | None,
        now: float,
        alternatives: Sequence[tuple[int, float]] | None = None,
    ) -> None:
        """Takes one token from the worker and delivers the text it completes, if any."""
        text = ""
        if self.tell_prompt is not None and not self._told_of_prompt:
            self.take_scores(1, (), ())
        if finish != FinishReason.STOP.value:
            if self.first_token_at is None:
                self.first_token_at = now
            self.last_token_at = now
            self.emitted_ids.append(token_id)
            self.log_probability += log_probability
            self._unsent_ids.append(token_id)
            self._unsent_log_probability += log_probability
            self._repeats_itself = self._repetition.feed(token_id) and not self.ignores_end
            if self._repeats_itself and finish is None:
                finish = FinishReason.LENGTH.value
            piece = self.detokenizer.feed(token_id)
            if alternatives is not None:
                self._token_log.take(token_id, log_probability, alternatives, piece, self.token_text)
            text = self.matcher.feed(piece)
        if self.matcher.has_stopped:
            self._finish = FinishReason.STOP
        elif finish is not None:
            self._finish = FinishReason(finish)
            # Text still held by the detokenizer may complete a stop text.
            text += self.matcher.feed(self.detokenizer.finish())
            text += self.matcher.flush()
        if text or (self.matcher.has_stopped and self._token_log.has_untold_text):
            self._deliver_text(text)

    def complete(self, now: float, completion_fields: Callable[[Done], Mapping[str, Any]] | None = None) -> Done:
        """Delivers the last event. ``completion_fields`` makes its additional fields; if it raises, nothing is
        delivered."""
        assert self._finish is not None
        count = len(self.emitted_ids)
        rate: float | None = None
        if count > 1 and self.first_token_at is not None and self.last_token_at is not None:
            elapsed = self.last_token_at - self.first_token_at
            rate = (count - 1) / elapsed if elapsed > 0 else None
        # A model is most confident when it repeats itself, so that confidence means nothing.
        repeats_itself = self._finish is FinishReason.LENGTH and (
            self._repeats_itself or (self._repetition.is_repeating and not self.ignores_end)
        )
        confidence = math.exp(self.log_probability / count) if count and not repeats_itself else None
        done = Done(
            finish_reason=self._finish,
            usage=Usage(
                prompt_tokens=len(self.prompt_ids), completion_tokens=count, cached_tokens=self.cached_tokens or 0
            ),
            timings=Timings(
                queued_ms=1000 * ((self.admitted_at or now) - self.accepted_at),
                first_token_ms=None if self.first_token_at is None else 1000 * (self.first_token_at - self.accepted_at),
                total_ms=1000 * (now - self.accepted_at),
                tokens_per_second=rate,
            ),
            confidence=confidence,
            seed=self.seed,
            engine_restarts=self.death_record.deaths,
            repetition=True if repeats_itself else None,
            calibrated=None if self.calibration is None or confidence is None else self.calibration.rate(confidence),
        )
        fields = {} if completion_fields is None else completion_fields(done)
        self.seq += 1
        stop_text = self.matcher.stop_text
        self.deliver(GenerationDone(stream=self.stream, seq=self.seq, done=done, fields=fields, stop_text=stop_text))
        return done

    def worker_died(self) -> bool:
        """Records that its worker died. Returns True if it must not be tried again."""
        self.row = None
        return self.death_record.note_death(self.steps_since_admission)

    @property
    def must_run_alone(self) -> bool:
        """True while a suspected request must run without neighbours, until it has proven harmless."""
        return self.death_record.must_run_alone(self.steps_since_admission)

    def _deliver_text(self, text: str) -> None:
        self.seq += 1
        logprobs: list[dict[str, Any]] | None = None
        if self.generate.logprobs is not None:
            was_cut = self.matcher.has_stopped
            logprobs = self._token_log.tell(text, is_last=self._finish is not None, was_cut=was_cut)
        if self._first_times is None:
            self._first_times = FirstTimes(
                accepted_at=self.accepted_at,
                admitted_at=self.admitted_at,
                first_token_at=self.first_token_at,
                cached_tokens=self.cached_tokens,
            )
        self.deliver(
            GenerationTokens(
                stream=self.stream,
                seq=self.seq,
                text=text,
                index=len(self.emitted_ids) - 1,
                token_ids=tuple(self._unsent_ids),
                log_probability=self._unsent_log_probability,
                logprobs=logprobs,
                first_times=self._first_times,
            )
        )
        self._unsent_ids.clear()
        self._unsent_log_probability = 0.0


def progress_of(generation: Generation | None) -> ProgressData:
    """Progress for the client that owns it; pass None for a generation that is over or belongs to another client."""
    if generation is None:
        return ProgressData(state=ProgressState.OVER, waiting=0, prompt_tokens=0, read_tokens=0)
    progress = generation.progress
    if not progress.is_running:
        state = ProgressState.WAITING
    elif progress.read_tokens < progress.prompt_tokens or not generation.emitted_ids:
        state = ProgressState.READING
    else:
        state = ProgressState.ANSWERING
    return ProgressData(
        state=state,
        waiting=0 if generation.scheduler is None else len(generation.scheduler.queue),
        prompt_tokens=progress.prompt_tokens,
        read_tokens=progress.read_tokens,
    )
