"""Schedules the generations of one engine: queueing, admission, distribution of step output, and retries after a
worker's death."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog
import trio
from msgspec import UNSET

from actors.inference.admission import AdmissionLimits, FairQueue, fits, most_positions
from actors.inference.engine_messages import (
    AdmitRow,
    CancelRow,
    EngineIdle,
    EngineLoading,
    EngineMessage,
    EngineOutput,
    EngineReady,
)
from actors.inference.generation import Generation
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_registry import ServableModel
from actors.inference.request_rules import sampling_of, too_long
from actors.inference.text.text_model import TextModel
from actors.inference.tools import GenerateWithTools
from actors.inference.worker_frames import ModelReport, RowFailure, SampledToken, StepOutput
from protocol.errors import ErrorCode
from runtime import ActorRef, Down, DownReason

__all__ = ["Endings", "Scheduler"]

_log = structlog.get_logger("inference")

STEPS_MEASURED = 64


class Endings(Protocol):
    """Owner of the generations, notified when one ends. It frees the row with `Scheduler.release`."""

    def finish(self, generation: Generation, now: float, *, still_in_worker: bool) -> None:
        """The text of a generation is complete."""

    def fail(self, generation: Generation, code: ErrorCode, message: str) -> None:
        """A generation failed."""

    def occupancy_changed(self) -> None:
        """The numbers of running or waiting requests, or a worker's memory, have changed."""


class Scheduler:
    """Queue and rows of one engine. Synchronous; called by the inference actor alone."""

    def __init__(
        self,
        model: ServableModel,
        text: TextModel,
        engine: ActorRef[EngineMessage],
        limits: AdmissionLimits,
        metrics: InferenceMetrics,
        endings: Endings,
        new_row: Callable[[], int],
    ) -> None:
        """``new_row`` returns a row number that no other admission has had."""
        self.model = model
        self.text = text
        self.engine = engine
        self.name = engine.path.rpartition("/")[2]
        """The engine's child name."""
        self.queue: FairQueue[Generation] = FairQueue(lambda one: len(one.prompt_ids))
        self.rows: dict[int, Generation] = {}
        self.state = "loading"
        """`loading`, `ready`, `down` or `unloaded`."""
        self.stage: str | None = "starting"
        """Current activity while not ready, or the reason it is down."""
        self.worker_pid: int | None = None
        self.report: ModelReport | None = None
        """The worker's report on its model when it became ready."""
        self.memory: dict[str, float] = {}
        """Latest memory figures of the live worker, bytes by owner."""
        self.incarnation = 0
        """Current incarnation of the engine actor."""
        self._spoke_at: float | None = None
        self.was_ready = False
        """True once its model has been loaded."""
        self.load_problem: str | None = None
        """Why the first load failed."""
        self.fails_waiting = True
        """True if waiting requests fail with the load; False while another model may still answer them."""
        self.is_ending = False
        """True once its engine is being stopped: it takes no more requests."""
        self._limits = limits
        self._metrics = metrics
        self._endings = endings
        self._new_row = new_row
        self._steps: deque[tuple[int, float]] = deque(maxlen=STEPS_MEASURED)

    @property
    def is_empty(self) -> bool:
        """True if nothing is running or waiting."""
        return not self.rows and not len(self.queue)

    @property
    def context_tokens(self) -> int:
        """Maximum positions of a request: the smallest limit of the model, its worker and the memory."""
        # The worker may serve a shorter context than the files promise if it does not support the model beyond it.
        served = (self.report.context_tokens if self.report else None) or self.text.context_tokens
        held = most_positions(self._limits, self._kv_bytes_per_token)
        return min(self.text.context_tokens, served, served if held is None else held)

    @property
    def _kv_bytes_per_token(self) -> int:
        return (self.report.kv_bytes_per_token if self.report else None) or 0

    @property
    def tokens_per_second(self) -> float | None:
        """Over the latest steps that emitted tokens, all rows together."""
        seconds = sum(one[1] for one in self._steps)
        return sum(one[0] for one in self._steps) / seconds if seconds > 0 else None

    @property
    def memory_bound_bytes(self) -> int | None:
        """Joint limit of weights, live rows, cached prefixes and MLX's pool; None before the model is loaded."""
        report = self.report
        if report is None or report.pool_bytes is UNSET or report.prefix_bytes is UNSET:
            return None
        return report.parameter_bytes + report.pool_bytes + report.prefix_bytes + self._limits.kv_bytes

    # --- who runs ---------------------------------------------------------------------------------

    def push(self, generation: Generation, *, first: bool) -> None:
        """Queues a generation, behind its client's others or ahead of them, and admits as many as fit."""
        self.queue.push(generation.client_id, generation, first=first)
        self.admit_what_fits()

    def admit_what_fits(self) -> None:
        """Admits waiting generations in turn while they fit."""
        while (generation := self.queue.peek()) is not None and self._may_join(generation):
            self.queue.pop()
            self._admit(generation)
        self._endings.occupancy_changed()

    def release(self, generation: Generation, *, still_in_worker: bool) -> None:
        """Removes an ended generation from the queue, or frees its row."""
        if generation.row is None:
            self.queue.remove(generation.client_id, generation)
        else:
            del self.rows[generation.row]
            if still_in_worker and self.engine.is_running:
                self.engine.tell_nowait(CancelRow(generation.row))

    def _may_join(self, generation: Generation) -> bool:
        if self.state != "ready" or any(one.must_run_alone for one in self.rows.values()):
            return False
        if generation.must_run_alone and self.rows:
            return False
        generation.grant()
        lengths = [one.length_tokens for one in self.rows.values()]
        return fits(self._limits, lengths, generation.length_tokens, self._kv_bytes_per_token)

    def _admit(self, generation: Generation) -> None:
        generation.row = self._new_row()
        generation.steps_since_admission = 0
        if generation.admitted_at is None:
            generation.admitted_at = trio.current_time()
            # Counted once, like its hits: a retry after a lost worker is no second query.
            self._metrics.prefix_query(len(generation.prompt_ids))
        self.rows[generation.row] = generation
        with_tools = generation.generate if isinstance(generation.generate, GenerateWithTools) else None
        self.engine.tell_nowait(
            AdmitRow(
                row=generation.row,
                prompt_ids=generation.prompt_ids,
                emitted_ids=list(generation.emitted_ids),
                max_tokens=generation.max_tokens,
                stop_ids=[] if generation.ignores_end else sorted(self.text.stop_token_ids),
                sampling=sampling_of(generation.generate, generation.seed),
                domain=generation.domain,
                response_schema=generation.generate.response_schema,
                call_rule=None if with_tools is None else with_tools.call_rule,
                free_calls=None if with_tools is None else with_tools.free_calls,
                alternatives=generation.generate.logprobs,
                prompt_alternatives=generation.prompt_alternatives,
            )
        )

    # --- what steps bring -------------------------------------------------------------------------

    def take_step(self, step: EngineOutput) -> None:
        """Passes a step's tokens to their generations and reuses the rows of those that ended."""
        if step.incarnation != self.incarnation:
            return  # late output of a dead worker, whose rows are being computed again
        seconds, output, memory = step.step.seconds, step.step.output, step.step.memory
        now = trio.current_time()
        if memory:
            self.memory = memory
        if output.emitted:
            self._steps.append((len(output.emitted), seconds))
        self._metrics.step(output.prefilled_tokens, seconds)
        self._metrics.drafts(output.drafted_tokens, output.accepted_tokens)
        for row in output.rows:
            generation = self.rows.get(row)
            if generation is not None:
                generation.steps_since_admission += 1
        self._note_reading(output)
        for row, failure in output.failed:
            generation = self.rows.get(row)
            if generation is not None:
                self._endings.fail(generation, failure.code, _why_failed(generation, failure))
        for row, cached_tokens in output.cached:
            generation = self.rows.get(row)
            # A recovery may hit its own earlier keys and values; only the first count says what the request saved.
            if generation is not None and generation.cached_tokens is None:
                generation.cached_tokens = cached_tokens
                self._metrics.prefix_hit(cached_tokens)
        for token in output.emitted:
            generation = self.rows.get(token.row)
            if generation is not None:
                self._take_token(generation, token, now)
        self._extend_grants()
        self.admit_what_fits()

    def _note_reading(self, output: StepOutput) -> None:
        for row, read_tokens in output.reading:
            if row in self.rows:
                self.rows[row].read_tokens = read_tokens
        for one in output.scored:
            if one.row in self.rows:
                self.rows[one.row].take_scores(one.begin, one.log_probabilities, one.alternatives)

    def _extend_grants(self) -> None:
        """Reserves more memory for rows that continue; a row that gets none goes back to the head of its client's
        queue.

        It later continues where it was, with its tokens computed again as after a worker's death. It always fits alone,
        and while it is next in turn nothing else is admitted, so its turn comes eventually.
        """
        for generation in list(self.rows.values()):
            if not generation.has_used_its_grant:
                continue
            others = [one.length_tokens for one in self.rows.values() if one is not generation]
            generation.grant()
            if not fits(self._limits, others, generation.length_tokens, self._kv_bytes_per_token):
                self.release(generation, still_in_worker=True)
                generation.row = None
                self.queue.push(generation.client_id, generation, first=True)
                _log.info("answer paused for lack of memory", stream=generation.stream)

    def _take_token(self, generation: Generation, token: SampledToken, now: float) -> None:
        count, before, had_token = len(generation.emitted_ids), generation.last_token_at, bool(generation.emitted_ids)
        try:
            generation.advance(token.token_id, token.log_probability, token.finish, now, token.alternatives)
        except Exception as error:  # noqa: BLE001  isolation boundary: one row's text must not stop its neighbours
            _log.exception("text of a generation failed", stream=generation.stream)
            self._endings.fail(generation, ErrorCode.INTERNAL, f"the text could not be decoded: {type(error).__name__}")
            return
        # The model's stop token is not part of the answer.
        if len(generation.emitted_ids) > count:
            if not had_token:
                self._metrics.first_token(now - generation.accepted_at)
            elif before is not None:
                # None if the inference actor was lost, and the time of the previous token with it.
                self._metrics.token_gap(now - before)
        if generation.has_finished:
            self._endings.finish(generation, now, still_in_worker=token.finish is None)

    def take_idle(self, idle: EngineIdle) -> None:
        """Stores the memory of a worker that has become idle."""
        if idle.incarnation == self.incarnation:
            self.memory = idle.memory
            self._endings.occupancy_changed()

    # --- the engine's life ------------------------------------------------------------------------

    @property
    def silent_seconds(self) -> float | None:
        """Seconds since the worker's last message; None before its first."""
        return None if self._spoke_at is None else trio.current_time() - self._spoke_at

    def engine_spoke(self, incarnation: int) -> None:
        """Records that the worker sent something. Late messages of a previous incarnation do not count."""
        if incarnation >= self.incarnation:
            self._spoke_at = trio.current_time()

    def engine_loading(self, message: EngineLoading) -> bool:
        """Notes that a worker is starting or loading. Returns True for a new incarnation of the engine, which must be
        monitored."""
        is_new = message.incarnation != self.incarnation
        self.incarnation = message.incarnation
        self.worker_pid = message.worker_pid
        if message.stage.startswith("failed"):
            self.load_failed(message.stage)
        elif self.state != "down":
            # After a failed load every new attempt reports "loading" again, which alone is no improvement.
            self.state, self.stage = "loading", message.stage
        return is_new

    def load_failed(self, problem: str) -> None:
        """Notes that the model cannot be loaded: waiting requests fail and new ones are refused."""
        self.state, self.stage = "down", problem
        if not self.was_ready and self.load_problem is None:
            self.load_problem = problem
        if not self.fails_waiting:
            return
        for generation in [*self.rows.values(), *self.queue]:
            self._endings.fail(generation, ErrorCode.MODEL_UNAVAILABLE, f"the model is not available: {problem}")

    def engine_ready(self, message: EngineReady) -> None:
        """Notes that the worker is ready and holds no rows."""
        self.incarnation = message.incarnation
        self.worker_pid = message.worker_pid
        self.report = message.report
        self.state, self.stage = "ready", None
        self.was_ready = self.was_ready or self.load_problem is None
        self._check_lengths()
        self.admit_what_fits()

    def _check_lengths(self) -> None:
        """Fails requests that were accepted before the worker reported its limits and exceed them, since they can never
        run."""
        for generation in list(self.queue):
            room = self.context_tokens - len(generation.prompt_ids)
            is_bound = generation.generate.max_tokens is not None and not generation.to_context_end
            if not is_bound and room > len(generation.emitted_ids):
                generation.max_tokens = min(generation.max_tokens, room)
            if generation.max_tokens > room:
                self._endings.fail(
                    generation,
                    ErrorCode.CONTEXT_LENGTH_EXCEEDED,
                    too_long(
                        self.context_tokens,
                        len(generation.prompt_ids),
                        generation.max_tokens,
                        is_chat=generation.generate.messages is not None,
                    ),
                )

    def engine_down(self, down: Down) -> None:
        """Puts all rows back at the head of their client's queue, except those that keep killing workers."""
        if self.state != "down":
            cause = down.reason.value if down.error is None else str(down.error)
            self.state, self.stage = "loading", f"restarting after: {cause}"
            if not self.was_ready and self.load_problem is None:
                self.load_problem = f"its worker was lost: {cause}"
        self.worker_pid, self.memory = None, {}
        if down.reason is not DownReason.STOPPED:
            self._metrics.engine_restart()
            _log.warning("engine down", reason=down.reason.value, error=str(down.error), rows=len(self.rows))
        rows = list(self.rows.values())
        self.rows.clear()
        for generation in reversed(rows):
            if generation.worker_died():
                self._endings.fail(
                    generation,
                    ErrorCode.ENGINE_FAILED,
                    f"the engine died {generation.death_record.deaths} times while it worked on this request",
                )
            else:
                self.queue.push(generation.client_id, generation, first=True)
        self._endings.occupancy_changed()


def _why_failed(generation: Generation, failure: RowFailure) -> str:
    if failure.code is not ErrorCode.INVALID_FIELD:
        return f"this request failed in the engine: {failure.reason}"
    generate = generation.generate
    rule = generate.call_rule if isinstance(generate, GenerateWithTools) else None
    return (
        f"data.{'response_schema' if rule is None else rule.source_field} can no longer be enforced: {failure.reason}"
    )
