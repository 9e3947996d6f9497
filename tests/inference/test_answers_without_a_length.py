"""Answers whose length nobody named go on to the context's end, and memory that is reserved for them holds up no others."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
from msgspec.structs import replace

from actors.inference.admission import KV_STEP_TOKENS, AdmissionLimits
from actors.inference.engine_messages import AdmitRow, CancelRow, EngineReady
from actors.inference.generation import GRANT_TOKENS, Generation
from actors.inference.request_rules import DEFAULT_MAX_TOKENS, check_request
from actors.inference.text.text_model import MockText
from actors.inference.worker_frames import SampledToken
from protocol.commands import Generate
from tests.inference.test_scheduler import ENGINE, REPORT, Harness, step_of

CONTEXT = 8192
PROMPT = [1, 2, 3]


def harness_for(grants: int) -> Harness:
    """A harness whose memory holds this many rows up to their first grant."""
    harness = Harness()
    harness.scheduler._limits = AdmissionLimits(kv_bytes=grants * (len(PROMPT) + GRANT_TOKENS + KV_STEP_TOKENS))
    ready = EngineReady(engine=ENGINE, incarnation=1, worker_pid=1, report=replace(REPORT, kv_bytes_per_token=1))
    harness.scheduler.engine_ready(ready)
    return harness


def start(harness: Harness, client_id: str, max_tokens: int | None = None) -> Generation:
    generation = Generation(
        stream=client_id, client_id=client_id, generate=Generate(prompt="x", max_tokens=max_tokens), seed=1,
        prompt_ids=PROMPT, max_tokens=min(max_tokens or 32_000, harness.scheduler.context_tokens - len(PROMPT)), accepted_at=0.0,
        to_context_end=True, detokenizer=MockText().detokenizer(),
    )  # fmt: skip
    harness.scheduler.push(generation, first=False)
    return generation


def token(position: int) -> int:
    """A letter; an answer that repeats itself would be ended."""
    return ord("a") + random.Random(position).randrange(26)


def emit(harness: Harness, generation: Generation, count: int, finish: str | None = None) -> None:
    for at in range(count):
        end = finish if at == count - 1 else None
        emitted = SampledToken(generation.row, token(len(generation.emitted_ids)), -0.5, end)
        harness.scheduler.take_step(step_of(emitted=[emitted], rows=[generation.row]))


def admissions(harness: Harness) -> list[AdmitRow]:
    return [one for one in harness.engine.told if isinstance(one, AdmitRow)]


async def test_answers_without_a_length_run_side_by_side_where_all_of_them_would_not_fit() -> None:
    harness = harness_for(4)
    running = [start(harness, name) for name in "abcd"]
    assert all(one.row is not None for one in running)
    assert all(one.max_tokens == harness.scheduler.context_tokens - len(PROMPT) for one in running)
    assert all(one.max_tokens > 3 * GRANT_TOKENS for one in running)
    waiting = start(harness, "e")
    assert waiting.row is None
    assert start(harness_for(1), "a", max_tokens=32_000).row is not None
    # Whoever names a length that there is has all of it reserved.
    alone = harness_for(4)
    start(alone, "a", max_tokens=alone.scheduler.context_tokens - len(PROMPT))
    assert start(alone, "b").row is None


async def test_an_answer_that_finds_no_memory_waits_in_its_middle_and_goes_on_where_it_was() -> None:
    harness = harness_for(2)
    long, other = start(harness, "a"), start(harness, "b")
    first_row = cast("int", long.row)
    emit(harness, long, GRANT_TOKENS)
    assert long.row is None
    assert [one for one in harness.engine.told if isinstance(one, CancelRow)] == [CancelRow(first_row)]
    later = start(harness, "c")
    emit(harness, other, 5)
    assert (long.row, later.row) == (None, None), "nobody passes it"
    emit(harness, other, 1, "stop")
    again = admissions(harness)[-1]
    assert again.row == long.row
    assert again.emitted_ids == [token(position) for position in range(GRANT_TOKENS)]
    emit(harness, long, 1, "stop")
    assert harness.failed == []
    assert later.row is not None
    assert len(long.emitted_ids) == GRANT_TOKENS


async def test_an_answer_that_is_alone_goes_on_to_the_contexts_end() -> None:
    harness = harness_for(2)
    long = start(harness, "a")
    emit(harness, long, long.max_tokens, "length")
    assert len(long.emitted_ids) == harness.scheduler.context_tokens - len(PROMPT)
    assert [one for one in harness.engine.told if isinstance(one, CancelRow)] == []
    assert harness.scheduler.is_empty


@pytest.mark.parametrize(
    ("setting", "to_context_end", "length"),
    [
        (None, False, DEFAULT_MAX_TOKENS),
        (None, True, CONTEXT - 10),
        (50, True, 50),
        (50, False, 50),
        (9999, True, CONTEXT - 10),
    ],
)
def test_how_long_an_answer_is_whose_length_nobody_named(
    setting: int | None, to_context_end: bool, length: int
) -> None:
    def check(**fields: Any) -> int:
        return check_request(
            Generate(prompt="x", **fields), prompt_tokens=10, vocabulary_size=300, context_tokens=CONTEXT,
            default_max_tokens=setting, to_context_end=to_context_end,
        )  # fmt: skip

    assert check() == length
    assert check(max_tokens=7) == 7
    if to_context_end:
        assert check(max_tokens=32_000) == CONTEXT - 10
