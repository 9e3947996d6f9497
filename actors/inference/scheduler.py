"""The generations of one engine: who waits, who runs, what a step brought each, and who is tried again after a death."""

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
    """Who keeps the generations, and is told when one ends. It gives the row back with `Scheduler.release`."""

    def finish(self, generation: Generation, now: float, *, still_in_worker: bool) -> None:
        """Its last text was made."""

    def fail(self, generation: Generation, code: ErrorCode, message: str) -> None:
        """It cannot go on."""

    def occupancy_changed(self) -> None:
        """Someone has a row or waits for one who did not before, or the other way round; or a worker holds other memory."""


class Scheduler:
    """One engine's waiting room and rows. Plain and synchronous: only the inference actor calls it."""

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
        """``new_row`` gives a row number that no other admission has had."""
        self.model = model
        self.text = text
        self.engine = engine
        self.name = engine.path.rpartition("/")[2]
        """Of the engine among its siblings."""
        self.queue: FairQueue[Generation] = FairQueue(lambda one: len(one.prompt_ids))
        self.rows: dict[int, Generation] = {}
        self.state = "loading"
        """`loading`, `ready`, `down` or `unloaded`."""
        self.stage: str | None = "starting"
        """What it is doing while it is not ready, or why it is down."""
        self.worker_pid: int | None = None
        self.report: ModelReport | None = None
        """What the worker said of its model when it was ready."""
        self.memory: dict[str, float] = {}
        """The newest figures of the worker that lives, bytes by what holds them."""
        self.incarnation = 0
        """Of the engine actor that speaks now."""
        self._spoke_at: float | None = None
        self.was_ready = False
        """Whether its model was loaded once."""
        self.load_problem: str | None = None
        """Why the first load came to nothing."""
        self.fails_waiting = True
        """Whether those who wait are told when the load fails; not while another model may yet answer them."""
        self.is_ending = False
        """True once its engine is told to stop: nothing may come here any more."""
        self._limits = limits
        self._metrics = metrics
        self._endings = endings
        self._new_row = new_row
        self._steps: deque[tuple[int, float]] = deque(maxlen=STEPS_MEASURED)

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs and nobody waits."""
        return not self.rows and not len(self.queue)

    @property
    def context_tokens(self) -> int:
        """Positions that a request may have: those of the model, of its worker, and of the memory for them."""
        # The worker may serve less than the files promise, where it cannot follow the model further.
        served = (self.report.context_tokens if self.report else None) or self.text.context_tokens
        held = most_positions(self._limits, self._kv_bytes_per_token)
        return min(self.text.context_tokens, served, served if held is None else held)

    @property
    def _kv_bytes_per_token(self) -> int:
        return (self.report.kv_bytes_per_token if self.report else None) or 0

    @property
    def tokens_per_second(self) -> float | None:
        """Over the last steps that emitted any, all rows together."""
        seconds = sum(one[1] for one in self._steps)
        return sum(one[0] for one in self._steps) / seconds if seconds > 0 else None

    @property
    def memory_bound_bytes(self) -> int | None:
        """What weights, live rows, kept prefixes and MLX's pool may hold together; None before it is loaded."""
        report = self.report
        if report is None or report.pool_bytes is UNSET or report.prefix_bytes is UNSET:
            return None
        return report.parameter_bytes + report.pool_bytes + report.prefix_bytes + self._limits.kv_bytes

    # --- who runs ---------------------------------------------------------------------------------

    def push(self, generation: Generation, *, first: bool) -> None:
        """Let it wait for a row, behind its client's others or before them, and admit what fits."""
        self.queue.push(generation.client_id, generation, first=first)
        self.admit_what_fits()

    def admit_what_fits(self) -> None:
        """Give the worker what it has room for, in turn."""
        while (generation := self.queue.peek()) is not None and self._may_join(generation):
            self.queue.pop()
            self._admit(generation)
        self._endings.occupancy_changed()

    def release(self, generation: Generation, *, still_in_worker: bool) -> None:
        """It has ended: take it out of the queue, or free its row."""
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
            # Once, as what is found of it: a worker that was lost makes no second question of it.
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
        """Hand a step's tokens to their generations, and their rows to the next where they ended."""
        if step.incarnation != self.incarnation:
            return  # a dead worker's last words; its rows are being computed again
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
            # A recovery may find its own earlier keys and values; what the request saved is what counted at first.
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
        """Reserve more for rows that go on; one for which there is none waits, first of its client, until others have ended.

        It goes on where it was: what it emitted is computed again, as after a worker's death. Alone it always fits, and
        while it waits as the next nobody else is admitted, so that it is its turn some day.
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
                _log.info("an answer waits for memory in its middle", stream=generation.stream)

    def _take_token(self, generation: Generation, token: SampledToken, now: float) -> None:
        count, before, had_token = len(generation.emitted_ids), generation.last_token_at, bool(generation.emitted_ids)
        try:
            generation.advance(token.token_id, token.log_probability, token.finish, now, token.alternatives)
        except Exception as error:  # noqa: BLE001  isolation border: one row's text must not stop its neighbours
            _log.exception("text of a generation failed", stream=generation.stream)
            self._endings.fail(generation, ErrorCode.INTERNAL, f"the text could not be made: {type(error).__name__}")
            return
        # The model's stop token is none of the answer's.
        if len(generation.emitted_ids) > count:
            if not had_token:
                self._metrics.first_token(now - generation.accepted_at)
            elif before is not None:
                # None where an inference actor was lost, and with it when it had told the token before.
                self._metrics.token_gap(now - before)
        if generation.has_finished:
            self._endings.finish(generation, now, still_in_worker=token.finish is None)

    def take_idle(self, idle: EngineIdle) -> None:
        """The worker has no row any more, and holds what is told."""
        if idle.incarnation == self.incarnation:
            self.memory = idle.memory
            self._endings.occupancy_changed()

    # --- the engine's life ------------------------------------------------------------------------

    @property
    def silent_seconds(self) -> float | None:
        """Since the worker last said something; None before its first word."""
        return None if self._spoke_at is None else trio.current_time() - self._spoke_at

    def engine_spoke(self, incarnation: int) -> None:
        """The worker said something, whatever it was. Last words of one that is gone do not count."""
        if incarnation >= self.incarnation:
            self._spoke_at = trio.current_time()

    def engine_loading(self, message: EngineLoading) -> bool:
        """A worker starts and loads; True when this is a new incarnation of the engine, to be monitored."""
        is_new = message.incarnation != self.incarnation
        self.incarnation = message.incarnation
        self.worker_pid = message.worker_pid
        if message.stage.startswith("failed"):
            self.load_failed(message.stage)
        elif self.state != "down":
            # After a failed load each new attempt says "loading" again; that alone makes nothing better.
            self.state, self.stage = "loading", message.stage
        return is_new

    def load_failed(self, problem: str) -> None:
        """The model cannot be loaded: whoever waits for it is told, and new requests are refused."""
        self.state, self.stage = "down", problem
        if not self.was_ready and self.load_problem is None:
            self.load_problem = problem
        if not self.fails_waiting:
            return
        for generation in [*self.rows.values(), *self.queue]:
            self._endings.fail(generation, ErrorCode.MODEL_UNAVAILABLE, f"the model is not available: {problem}")

    def engine_ready(self, message: EngineReady) -> None:
        """The worker holds no rows and may be given some."""
        self.incarnation = message.incarnation
        self.worker_pid = message.worker_pid
        self.report = message.report
        self.state, self.stage = "ready", None
        self.was_ready = self.was_ready or self.load_problem is None
        self._check_lengths()
        self.admit_what_fits()

    def _check_lengths(self) -> None:
        """What was accepted before the worker told its limits, and is over them, can never run."""
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
        """All rows wait again, first in their client's queue, except those that keep killing workers."""
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
                    f"the engine died {generation.deaths} times while it worked on this request",
                )
            else:
                self.queue.push(generation.client_id, generation, first=True)
        self._endings.occupancy_changed()


def _why_failed(generation: Generation, failure: RowFailure) -> str:
    if failure.code is not ErrorCode.INVALID_FIELD:
        return f"this request failed in the engine: {failure.reason}"
    generate = generation.generate
    rule = generate.call_rule if isinstance(generate, GenerateWithTools) else None
    return f"data.{'response_schema' if rule is None else rule.source_field} cannot be followed any further: {failure.reason}"
