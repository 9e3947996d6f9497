"""Steps that bring one row several tokens: what its answer takes of them, and what it does not (promises 2 and 16)."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
from attrs import define, field
from prometheus_client import CollectorRegistry

from actors.inference.admission import AdmissionLimits
from actors.inference.engine_messages import AdmitRow, CancelRow, EngineIdle, EngineOutput, EngineReady
from actors.inference.generation import Generation
from actors.inference.messages import GenerationDone, GenerationEvent, GenerationTokens, ResumeFrom
from actors.inference.metrics import InferenceMetrics
from actors.inference.model_registry import MOCK_MODEL
from actors.inference.scheduler import Scheduler
from actors.inference.text.text_model import MockText
from actors.inference.worker_frames import ModelReport, RowFailure, SampledToken, Step, StepOutput
from protocol.commands import Generate
from protocol.errors import ErrorCode
from protocol.events import FinishReason
from runtime import ActorRef, Down, DownReason

ENGINE = "inference/engines/1"
REPORT = ModelReport(
    model="mock", backend="cpu", blas="none", dtype="none", has_pretrained_weights=False, canary_nll=None,
    parameter_bytes=0, warnings=[], warm_steps=[],
)  # fmt: skip


def step_of(**output: Any) -> EngineOutput:
    return EngineOutput(engine=ENGINE, incarnation=1, step=Step(1, 0.08, StepOutput(**output), {}))


@define
class Engine:
    """Records its messages."""

    path: str = ENGINE
    is_running: bool = True
    told: list[Any] = field(factory=list)

    def tell_nowait(self, message: Any) -> None:
        self.told.append(message)


@define
class Harness:
    """A scheduler, with the inference actor's reactions to the end of an answer."""

    engine: Engine = field(factory=Engine)
    registry: CollectorRegistry = field(factory=CollectorRegistry)
    events: list[GenerationEvent] = field(factory=list)
    failed: list[ErrorCode] = field(factory=list)
    messages: list[str] = field(factory=list)
    """Of these."""
    scheduler: Scheduler = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.scheduler = Scheduler(
            MOCK_MODEL,
            MockText(),
            cast("ActorRef[Any]", self.engine),
            AdmissionLimits(),
            InferenceMetrics(self.registry),
            self,
            iter(range(1, 100)).__next__,
        )
        self.scheduler.engine_ready(EngineReady(engine=ENGINE, incarnation=1, worker_pid=1, report=REPORT))

    def finish(self, generation: Generation, now: float, *, still_in_worker: bool) -> None:
        generation.complete(now)
        self.scheduler.release(generation, still_in_worker=still_in_worker)

    def fail(self, generation: Generation, code: ErrorCode, message: str) -> None:
        self.failed.append(code)
        self.messages.append(message)
        self.scheduler.release(generation, still_in_worker=True)

    def occupancy_changed(self) -> None:
        pass

    def start(self, *stops: str) -> Generation:
        generation = Generation(
            stream="s",
            client_id="c",
            generate=Generate(prompt="x", stop=list(stops)),
            seed=1,
            prompt_ids=[1, 2, 3],
            max_tokens=100,
            detokenizer=MockText().detokenizer(),
            deliver=self.events.append,
            accepted_at=0.0,
        )
        self.scheduler.push(generation, first=False)
        return generation

    def step(self, row: int, text: str, finish: str | None = None) -> None:
        """A step that emits these bytes for one row; the last of them ends it where ``finish`` says so."""
        ids = list(text.encode())
        emitted = [SampledToken(row, one, -0.5, finish if at == len(ids) - 1 else None) for at, one in enumerate(ids)]
        self.scheduler.take_step(step_of(emitted=emitted, rows=[row], drafted_tokens=7, accepted_tokens=len(ids) - 1))

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.events if isinstance(one, GenerationTokens))

    @property
    def done(self) -> Any:
        last = self.events[-1]
        assert isinstance(last, GenerationDone)
        return last.done

    def figure(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"leanvibe_{name}")


async def test_p16_what_a_step_brings_behind_a_stop_text_is_neither_told_nor_counted() -> None:
    harness = Harness()
    generation = harness.start("END")
    row = cast("int", generation.row)
    harness.step(row, "a")
    harness.step(row, "bcEND of it")
    assert harness.text == "abc"
    assert harness.done.finish_reason is FinishReason.STOP
    assert harness.done.usage.completion_tokens == len("abcEND")
    assert generation.emitted_ids == list(b"abcEND")
    assert [one for one in harness.engine.told if isinstance(one, CancelRow)] == [CancelRow(row)], (
        "it still computes it"
    )
    assert harness.scheduler.is_empty
    assert harness.failed == []
    harness.step(row, "late words")
    assert isinstance(harness.events[-1], GenerationDone)


async def test_p16_a_stop_text_before_the_workers_own_end_in_one_step_is_what_ends_the_answer() -> None:
    harness = Harness()
    row = cast("int", harness.start("cd").row)
    harness.step(row, "abcdefg", finish="length")
    assert (harness.text, harness.done.finish_reason) == ("ab", FinishReason.STOP)
    assert harness.done.usage.completion_tokens == 4
    assert harness.done.confidence == pytest.approx(math.exp(-0.5))


async def test_all_tokens_of_a_step_are_the_answers_and_the_step_counts_as_one() -> None:
    harness = Harness()
    generation = harness.start()
    row = cast("int", generation.row)
    harness.step(row, "a")
    harness.step(row, "bcdefgh")
    assert generation.steps_since_admission == 2
    assert generation.emitted_ids == list(b"abcdefgh")
    harness.step(row, "ij", finish="length")
    assert (harness.text, harness.done.finish_reason) == ("abcdefghij", FinishReason.LENGTH)
    assert not [one for one in harness.engine.told if isinstance(one, CancelRow)], "the worker has dropped it"
    gaps = harness.figure("inter_token_latency_seconds_count")
    assert (harness.figure("time_to_first_token_seconds_count"), gaps) == (1, 9)
    assert harness.figure("spec_decode_num_draft_tokens_total") == 21
    assert harness.figure("spec_decode_num_accepted_tokens_total") == 0 + 6 + 1


async def test_p02_a_death_after_one_step_of_many_tokens_is_charged_and_nothing_of_it_is_lost() -> None:
    harness = Harness()
    generation = harness.start()
    harness.step(cast("int", generation.row), "abcdefgh")
    harness.scheduler.engine_down(Down(path=ENGINE, incarnation=1, reason=DownReason.CRASHED))
    assert (generation.death_record.strikes, generation.death_record.deaths) == (1, 1)
    harness.scheduler.engine_ready(EngineReady(engine=ENGINE, incarnation=2, worker_pid=2, report=REPORT))
    again = harness.engine.told[-1]
    assert isinstance(again, AdmitRow)
    assert again.emitted_ids == list(b"abcdefgh")


async def test_p13_a_prompt_is_looked_up_once_however_many_workers_it_outlives() -> None:
    harness = Harness()
    harness.start()
    for incarnation in (2, 3):
        harness.scheduler.engine_down(Down(path=ENGINE, incarnation=incarnation - 1, reason=DownReason.CRASHED))
        harness.scheduler.engine_ready(EngineReady(engine=ENGINE, incarnation=incarnation, worker_pid=2, report=REPORT))
    assert harness.figure("prefix_cache_queries_total") == 3, "its prompt has three tokens"


async def test_the_first_token_of_an_answer_that_goes_on_is_not_measured_again() -> None:
    harness = Harness()
    generation = harness.start()
    generation.resume(ResumeFrom(seq=2, token_ids=(97, 98), log_probability=-1.0, seed=1))
    harness.step(cast("int", generation.row), "cd")
    assert harness.figure("time_to_first_token_seconds_count") == 0
    assert harness.figure("inter_token_latency_seconds_count") == 1, "when the token before came is not known any more"


async def test_what_an_idle_worker_holds_is_that_of_the_worker_that_lives() -> None:
    harness = Harness()
    harness.scheduler.take_idle(EngineIdle(engine=ENGINE, incarnation=1, memory={"kv": 5.0}))
    harness.scheduler.take_idle(EngineIdle(engine=ENGINE, incarnation=0, memory={"kv": 7.0}))
    assert harness.scheduler.memory == {"kv": 5.0}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("engine_failed", "this request failed in the engine: why"),
        ("invalid_field", "data.response_schema can no longer be enforced: why"),
    ],
)
async def test_p14_a_schema_that_cannot_be_followed_further_is_its_askers(code: str, message: str) -> None:
    harness = Harness()
    row = cast("int", harness.start().row)
    harness.scheduler.take_step(step_of(failed=[(row, RowFailure("why", ErrorCode(code)))], rows=[row]))
    assert (harness.failed, harness.messages) == ([ErrorCode(code)], [message])
