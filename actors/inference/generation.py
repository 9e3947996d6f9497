"""One answer in the making: a pure record that turns tokens into events."""

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

__all__ = ["MAXIMUM_DEATHS", "MAXIMUM_STRIKES", "NO_PROGRESS", "Generation", "progress_of"]

MAXIMUM_STRIKES = 3
"""A request is charged with a worker's death when it had completed fewer than two steps; the third ends it. One that
makes two steps after a charge, alone, has shown that it does no harm, and begins anew."""
MAXIMUM_DEATHS = 20
"""No request outlives more worker deaths than this, whoever is to blame."""
STEPS_TO_CLEAR = 2
NO_PROGRESS = GenerationProgress(is_running=False, prompt_tokens=0, read_tokens=0)
"""Of one that is over."""
GRANT_TOKENS = 1024
"""Memory for so many tokens is reserved at once where nobody named the answer's length."""


def _unknown_token(token_id: int) -> OneToken:
    return OneToken(str(token_id), None)


@define(kw_only=True, eq=False)
class Generation:
    """A request, what was emitted for it, and how it fared. All its text is a function of its token ids."""

    stream: str
    client_id: str
    domain: str = ""
    """Security domain of what is kept of its prompt."""
    generate: Generate
    seed: int
    prompt_ids: list[int] = field(repr=False)
    max_tokens: int
    to_context_end: bool = False
    """Whether its length is the context's where nobody named one, or a longer one; most end long before."""
    ignores_end: bool = False
    """Whether neither the model's own end nor repetition ends it."""
    granted_tokens: int | None = None
    """Tokens of the answer for which memory is reserved; None is all of them."""
    detokenizer: Detokenizer = field(repr=False)
    deliver: Callable[[GenerationEvent], None] = field(default=lambda _: None, repr=False)
    """Hands an event to its stream; never waits."""
    completion_fields: Callable[[Done], Mapping[str, Any]] | None = field(default=None, repr=False)
    """What its last event has besides."""
    calibration: Calibration | None = field(default=None, repr=False)
    """Of the model that answers it, where `done` shall tell what it says."""
    accepted_at: float
    """Trio clock, seconds."""
    trace: TraceContext | None = None
    """The span that its own are below; None where it is not traced."""
    asked_at: float | None = None
    """When its deadline began to count, where that was before."""
    token_text: Callable[[int], OneToken] = field(default=_unknown_token, repr=False)
    """One token alone, for log-probabilities."""
    tell_prompt: Callable[[Sequence[PromptToken]], None] | None = field(default=None, repr=False)
    """Is told the prompt's tokens with their log-probabilities as they are read, all of them before the first of the answer."""
    cached_tokens: int | None = None
    """Prompt tokens that were not computed again, once known."""
    scheduler: Scheduler | None = field(default=None, repr=False)
    """Where it waits and runs, once it is accepted: that of the model which answers it."""
    row: int | None = None
    """Its number in the worker while it is admitted."""
    read_tokens: int = 0
    """Of its prompt, as the worker last told."""
    emitted_ids: list[int] = field(factory=list, repr=False)
    log_probability: float = 0.0
    seq: int = 0
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    steps_since_admission: int = 0
    strikes: int = 0
    deaths: int = 0
    is_suspected_poison: bool = False
    """True from a charge until the two steps that acquit it."""
    matcher: StopMatcher = field(init=False, repr=False)
    _unsent_ids: list[int] = field(factory=list, repr=False)
    _unsent_log_probability: float = 0.0
    _token_log: TokenLog = field(init=False, factory=TokenLog, repr=False)
    _first_times: FirstTimes | None = field(default=None, repr=False)
    _finish: FinishReason | None = None
    _repetition: RepetitionDetector = field(init=False, factory=RepetitionDetector, repr=False)
    _repeats_itself: bool = False
    _told_of_prompt: int = 0
    """Tokens of the prompt that `tell_prompt` was told."""

    def __attrs_post_init__(self) -> None:
        self.matcher = StopMatcher(self.generate.stop)

    def resume(self, point: ResumeFrom) -> list[GenerationTokens]:
        """Go on where a follower stands: the same ids give the same text and the same held-back end.

        Returns the events that the follower was told, for those who were not. What each token's log-probability
        was is not known any more, so each has the same part of the sum.
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
        # It may have received everything but the last event. One event more than its tokens made is the text that
        # was held back until the model said stop.
        if self.matcher.has_stopped:
            self._finish = FinishReason.STOP
            if self.seq > events:
                # Of the last token it was told how much of it the stop text left.
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
        """Let another model answer it, before any answered a word."""
        assert not self.emitted_ids
        self.scheduler, self.calibration = scheduler, None
        self.prompt_ids, self.max_tokens = prompt_ids, max_tokens
        self._told_of_prompt = 0
        self.detokenizer, self.token_text = scheduler.text.detokenizer(), scheduler.text.token_text

    @property
    def has_finished(self) -> bool:
        """True once the last text was made."""
        return self._finish is not None

    @property
    def length_tokens(self) -> int:
        """Positions that are reserved for the row: those that it has when it is complete, or up to its grant."""
        answer = self.max_tokens if self.granted_tokens is None else min(self.max_tokens, self.granted_tokens)
        return len(self.prompt_ids) + answer

    @property
    def progress(self) -> GenerationProgress:
        """How far it is."""
        count = len(self.prompt_ids)
        read = count if self.emitted_ids else min(count, self.read_tokens)
        return GenerationProgress(is_running=self.row is not None, prompt_tokens=count, read_tokens=read)

    def times(self) -> RequestTimes:
        """How far it is, for operators: none of its text."""
        return RequestTimes(
            client_id=self.client_id,
            model="" if self.scheduler is None else self.scheduler.model.name,
            accepted_at=self.accepted_at,
            admitted_at=self.admitted_at,
            first_token_at=self.first_token_at,
            prompt_tokens=len(self.prompt_ids),
            cached_tokens=self.cached_tokens or 0,
            answer_tokens=len(self.emitted_ids),
            engine_restarts=self.deaths,
        )

    def grant(self) -> None:
        """Reserve memory for the next piece of an answer whose length nobody named."""
        wanted = self.generate.max_tokens
        if self.to_context_end and (wanted is None or wanted > self.max_tokens):
            self.granted_tokens = max(self.granted_tokens or 0, len(self.emitted_ids) + GRANT_TOKENS)

    @property
    def has_used_its_grant(self) -> bool:
        """Whether it needs more memory before its next token."""
        granted = self.granted_tokens
        return granted is not None and granted <= len(self.emitted_ids) < self.max_tokens

    @property
    def prompt_alternatives(self) -> int | None:
        """How many likeliest tokens to report beside each of the prompt's; None where its tokens are not wanted, or known."""
        is_wanted = self.tell_prompt is not None and self._told_of_prompt < len(self.prompt_ids)
        return (self.generate.logprobs or 0) if is_wanted else None

    def take_scores(
        self,
        begin: int,
        log_probabilities: Sequence[float],
        alternatives: Sequence[Sequence[tuple[int, float]]],
    ) -> None:
        """What the worker found of the prompt's tokens from the one at ``begin`` on; a worker that was lost found some before."""
        if self.tell_prompt is None:
            return
        texts: dict[int, OneToken] = {}

        def text_of(token_id: int) -> OneToken:
            if token_id not in texts:
                texts[token_id] = self.token_text(token_id)
            return texts[token_id]

        told: list[PromptToken] = []
        if not self._told_of_prompt:
            # Nothing stands before the first, so nothing makes it likely.
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
        """Take one token from the worker and deliver the text that it completes, if any."""
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
            # What the detokenizer still holds may itself complete a stop text.
            text += self.matcher.feed(self.detokenizer.finish())
            text += self.matcher.flush()
        if text or (self.matcher.has_stopped and self._token_log.has_untold_text):
            self._deliver_text(text)

    def complete(self, now: float, completion_fields: Callable[[Done], Mapping[str, Any]] | None = None) -> Done:
        """Deliver the last event; ``completion_fields`` makes what it has besides, and may raise before that."""
        assert self._finish is not None
        count = len(self.emitted_ids)
        rate: float | None = None
        if count > 1 and self.first_token_at is not None and self.last_token_at is not None:
            elapsed = self.last_token_at - self.first_token_at
            rate = (count - 1) / elapsed if elapsed > 0 else None
        # A model is surest of all where it says the same again, which is no reason to believe it.
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
            engine_restarts=self.deaths,
            repetition=True if repeats_itself else None,
            calibrated=None if self.calibration is None or confidence is None else self.calibration.rate(confidence),
        )
        fields = {} if completion_fields is None else completion_fields(done)
        self.seq += 1
        stop_text = self.matcher.stop_text
        self.deliver(GenerationDone(stream=self.stream, seq=self.seq, done=done, fields=fields, stop_text=stop_text))
        return done

    def worker_died(self) -> bool:
        """Note that its worker died under it; True when it must not be tried again."""
        self.row = None
        self.deaths += 1
        if self.steps_since_admission < STEPS_TO_CLEAR:
            self.is_suspected_poison = True
            self.strikes += 1
        else:
            # Alone it made its two steps, so what it was charged with was somebody else's doing.
            self.is_suspected_poison = False
            self.strikes = 0
        return self.strikes >= MAXIMUM_STRIKES or self.deaths >= MAXIMUM_DEATHS

    @property
    def must_run_alone(self) -> bool:
        """A charged request runs without neighbours until it has shown that it does no harm."""
        return self.is_suspected_poison and self.steps_since_admission < STEPS_TO_CLEAR

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
    """For its client; None for one that is over, or is not that client's."""
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
