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
from tests.inference.test_scheduler import ENGINE, REPORT, Room, step_of

CONTEXT = 8192
PROMPT = [1, 2, 3]


def room_for(grants: int) -> Room:
    """A room whose memory holds so many rows up to their first grant."""
    room = Room()
    room.scheduler._limits = AdmissionLimits(kv_bytes=grants * (len(PROMPT) + GRANT_TOKENS + KV_STEP_TOKENS))
    ready = EngineReady(engine=ENGINE, incarnation=1, worker_pid=1, report=replace(REPORT, kv_bytes_per_token=1))
    room.scheduler.engine_ready(ready)
    return room


def start(room: Room, client_id: str, max_tokens: int | None = None) -> Generation:
    generation = Generation(
        stream=client_id, client_id=client_id, generate=Generate(prompt="x", max_tokens=max_tokens), seed=1,
        prompt_ids=PROMPT, max_tokens=min(max_tokens or 32_000, room.scheduler.context_tokens - len(PROMPT)), accepted_at=0.0,
        to_context_end=True, detokenizer=MockText().detokenizer(),
    )  # fmt: skip
    room.scheduler.push(generation, first=False)
    return generation


def token(position: int) -> int:
    """A letter; an answer that repeats itself would be ended."""
    return ord("a") + random.Random(position).randrange(26)


def emit(room: Room, generation: Generation, count: int, finish: str | None = None) -> None:
    for at in range(count):
        end = finish if at == count - 1 else None
        emitted = SampledToken(generation.row, token(len(generation.emitted_ids)), -0.5, end)
        room.scheduler.take_step(step_of(emitted=[emitted], rows=[generation.row]))


def admissions(room: Room) -> list[AdmitRow]:
    return [one for one in room.engine.told if isinstance(one, AdmitRow)]


async def test_answers_without_a_length_run_side_by_side_where_all_of_them_would_not_fit() -> None:
    room = room_for(4)
    running = [start(room, name) for name in "abcd"]
    assert all(one.row is not None for one in running)
    assert all(one.max_tokens == room.scheduler.context_tokens - len(PROMPT) for one in running)
    assert all(one.max_tokens > 3 * GRANT_TOKENS for one in running)
    waiting = start(room, "e")
    assert waiting.row is None
    assert start(room_for(1), "a", max_tokens=32_000).row is not None
    # Whoever names a length that there is has all of it reserved.
    alone = room_for(4)
    start(alone, "a", max_tokens=alone.scheduler.context_tokens - len(PROMPT))
    assert start(alone, "b").row is None


async def test_an_answer_that_finds_no_memory_waits_in_its_middle_and_goes_on_where_it_was() -> None:
    room = room_for(2)
    long, other = start(room, "a"), start(room, "b")
    first_row = cast("int", long.row)
    emit(room, long, GRANT_TOKENS)
    assert long.row is None
    assert [one for one in room.engine.told if isinstance(one, CancelRow)] == [CancelRow(first_row)]
    later = start(room, "c")
    emit(room, other, 5)
    assert (long.row, later.row) == (None, None), "nobody passes it"
    emit(room, other, 1, "stop")
    again = admissions(room)[-1]
    assert again.row == long.row
    assert again.emitted_ids == [token(position) for position in range(GRANT_TOKENS)]
    emit(room, long, 1, "stop")
    assert room.failed == []
    assert later.row is not None
    assert len(long.emitted_ids) == GRANT_TOKENS


async def test_an_answer_that_is_alone_goes_on_to_the_contexts_end() -> None:
    room = room_for(2)
    long = start(room, "a")
    emit(room, long, long.max_tokens, "length")
    assert len(long.emitted_ids) == room.scheduler.context_tokens - len(PROMPT)
    assert [one for one in room.engine.told if isinstance(one, CancelRow)] == []
    assert room.scheduler.is_empty


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
