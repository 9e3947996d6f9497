"""The two actors of the room with a real worker process and the mock engine: serving, limits, cancellation, draining."""

import math
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import trio

from actors.inference.admission import AdmissionLimits
from actors.inference.messages import (
    Complete,
    GenerationCancelled,
    GenerationRefused,
    GenerationTokens,
    ResumeFrom,
    StartGeneration,
)
from actors.inference.store import RecordedGeneration, StoredGeneration
from actors.inference.stream_broker import request_of
from actors.inference.text.text_model import CheckpointText, MockText
from protocol.commands import ChatMessage, Generate, Role
from protocol.errors import ErrorCode
from protocol.events import FinishReason
from runtime import ActorDead
from runtime.incarnation import ActorIncarnation
from runtime.inspection import actor_snapshot
from tests.server_fixture import eventually

from .room_kit import PATIENCE_SECONDS, Room, inference_room
from .tiny_text import write_text_folder

pytestmark = pytest.mark.integration

ONE_TO_NINE = "1 2 3 4 5 6 7 8 9"


async def refusal(room: Room, prompt: str, **fields: object) -> GenerationRefused:
    with pytest.raises(GenerationRefused) as caught:
        await room.start(prompt, **fields)  # type: ignore[arg-type]
    return caught.value


# --- serving ----------------------------------------------------------------------------------------


async def test_two_answers_are_streamed_at_once() -> None:
    async with inference_room(step_seconds=0.005) as room:
        first = await room.start("count to 20", client="a")
        second = await room.start("hello", client="b")
        await room.tokens(first, 2)
        await room.tokens(second, 2)
        assert (await room.health()).running == 2
        assert await room.answer(first) == " ".join(str(number) for number in range(1, 21))
        assert await room.answer(second) == "You said: hello"
        done = await room.done(second)
        assert done.finish_reason is FinishReason.STOP
        assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (5, 15)
        assert done.confidence == 1.0
        assert done.engine_restarts == 0
        assert room.outcomes() == {"stop": 2}


async def test_max_tokens_and_stop_texts_end_answers() -> None:
    async with inference_room() as room:
        short = await room.start("count to 9", max_tokens=3)
        stopped = await room.start("count to 9", stop=["4 5"])
        assert await room.answer(short) == "1 2"
        assert (await room.done(short)).finish_reason is FinishReason.LENGTH
        assert await room.answer(stopped) == "1 2 3 "
        assert (await room.done(stopped)).finish_reason is FinishReason.STOP
        assert room.outcomes() == {"length": 1, "stop": 1}


async def test_p16_a_stop_text_frees_the_row() -> None:
    async with inference_room(step_seconds=0.01) as room:
        # Left to itself the row would go on for longer than anybody waits here.
        stopped = await room.start("count to 5000", stop=["3"], max_tokens=8000)
        assert await room.answer(stopped) == "1 2 "

        async def is_free() -> bool:
            return (await actor_snapshot(room.system, "inference/engines/1", timeout=60))["rows"] == 0

        await eventually(is_free, what="the worker's own row freed")
        neighbour = await room.start("hello")
        assert await room.answer(neighbour) == "You said: hello"
        assert room.events[stopped][-1].seq == len(room.events[stopped]), "nothing came after the last event"


async def test_a_whole_answer_is_the_streamed_one() -> None:
    async with inference_room() as room:
        whole = await room.complete("count to 9")
        assert whole.text == await room.answer(await room.start("count to 9")) == ONE_TO_NINE
        assert whole.done.usage.completion_tokens == len(ONE_TO_NINE)


async def test_without_a_seed_one_is_drawn_and_told() -> None:
    async with inference_room() as room:
        seeds = {(await room.complete("x")).done.seed for _ in range(3)}
        assert len(seeds) == 3
        assert all(0 <= seed < 2**53 for seed in seeds)
        assert (await room.complete("x", seed=5)).done.seed == 5


async def test_requests_wait_while_the_model_loads_and_are_then_served() -> None:
    async with inference_room(is_ready=False) as room:
        assert (await room.health()).state == "loading"
        stream = await room.start("hello")
        assert (await room.health()).queue_depth + (await room.health()).running == 1
        assert await room.answer(stream) == "You said: hello"


async def test_health_says_what_was_measured() -> None:
    async with inference_room(step_seconds=0.001) as room:
        fresh = await room.health()
        assert (fresh.tokens_per_second, fresh.last_inference_ms, fresh.problem) == (None, None, None)
        await room.complete("count to 9")
        used = await room.health()
        assert used.tokens_per_second is not None
        assert 0 < used.tokens_per_second < 1000
        assert used.last_inference_ms is not None
        assert used.last_inference_ms >= 17
        assert used.memory["resident"] > 1e6
        assert used.worker_pid == await room.worker_pid()
        assert (used.restarts, used.engine, used.report["model"]) == (0, "mock", "mock")
        assert used.totals == {"stop": 1}


async def test_the_gauges_follow_rows_and_queue() -> None:
    async with inference_room(step_seconds=0.01, limits=AdmissionLimits(rows=2)) as room:
        streams = [await room.start("count to 9", client=f"c{number}") for number in range(5)]
        assert (room.figure("num_requests_running"), room.figure("num_requests_waiting")) == (2, 3)
        for stream in streams:
            await room.answer(stream)
        assert (room.figure("num_requests_running"), room.figure("num_requests_waiting")) == (0, 0)
        assert room.figure("time_to_first_token_seconds_count") == 5
        assert room.figure("inter_token_latency_seconds_count") == 5 * (len(ONE_TO_NINE) - 1)
        assert room.figure("generation_tokens_total") == 5 * len(ONE_TO_NINE)
        assert room.figure("prompt_tokens_total") == 5 * len("count to 9")


# --- refusals ---------------------------------------------------------------------------------------


async def test_a_stream_that_runs_already_is_a_conflict() -> None:
    async with inference_room(step_seconds=0.01) as room:
        await room.start("count to 100", stream="same")
        assert (await refusal(room, "hello", stream="same")).code is ErrorCode.CONFLICT
        assert await room.cancel("same")


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers() -> None:
    async with inference_room() as room:
        refused = await refusal(room, "x" * 9000)
        assert refused.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
        assert "9000" in refused.message
        assert "8192" in refused.message
        assert await room.answer(await room.start("hello")) == "You said: hello"
        assert room.outcomes() == {"stop": 1}, "what was refused never was a request"


async def test_a_chat_that_the_template_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "text")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no systems here') }}")
    async with inference_room(load_text=partial(CheckpointText, folder)) as room:
        chat = Generate(messages=[ChatMessage(Role.SYSTEM, "x")])
        with pytest.raises(GenerationRefused, match="no systems here") as caught:
            await room.inference.ask(Complete(client_id="c", generate=chat), timeout=60)
        assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_FIELD, "data.messages")


async def test_p07_the_one_too_many_is_refused_at_once_and_the_accepted_ones_finish() -> None:
    limits = AdmissionLimits(rows=2, waiting_requests=3)
    async with inference_room(step_seconds=0.01, limits=limits) as room:
        accepted = [await room.start("count to 9", client=f"c{number}") for number in range(5)]
        began = trio.current_time()
        refused = await refusal(room, "count to 9", client="late")
        assert trio.current_time() - began < 0.25
        assert refused.code is ErrorCode.OVERLOADED
        assert refused.retry_after_ms is not None
        assert 250 <= refused.retry_after_ms <= 60_000
        assert [await room.answer(stream) for stream in accepted] == [ONE_TO_NINE] * 5
        assert room.figure("requests_refused_total") == 1
        assert room.outcomes() == {"stop": 5}
        assert await room.answer(await room.start("count to 9", client="late")) == ONE_TO_NINE


async def test_p07_waiting_prompts_are_bounded_by_their_tokens_too() -> None:
    limits = AdmissionLimits(rows=1, waiting_prompt_tokens=100)
    async with inference_room(step_seconds=0.005, limits=limits) as room:
        running = await room.start("count to 9")
        waiting = await room.start("x" * 60)
        assert (await refusal(room, "x" * 41)).code is ErrorCode.OVERLOADED
        other = await room.start("x" * 40)
        for stream in (running, waiting, other):
            await room.answer(stream)


async def test_p07_overload_is_told_at_once_while_the_engine_is_away() -> None:
    async with inference_room(is_ready=False, limits=AdmissionLimits(waiting_requests=1)) as room:
        waiting = await room.start("hello")
        assert (await refusal(room, "hello")).code is ErrorCode.OVERLOADED
        assert await room.answer(waiting) == "You said: hello"


async def test_p09_a_client_with_many_requests_delays_another_by_one_round() -> None:
    async with inference_room(step_seconds=0.002, limits=AdmissionLimits(rows=1)) as room:
        greedy = [await room.start("a", client="greedy", max_tokens=4) for _ in range(30)]
        modest = await room.start("a", client="modest", max_tokens=4)
        greedy_started = sum(bool(room.events[stream]) for stream in greedy)
        await room.answer(modest)
        started = sum(bool(room.events[stream]) for stream in greedy)
        assert started <= greedy_started + 2, "the one that ran, one round, and the one after"


# --- ends from outside ------------------------------------------------------------------------------


async def test_a_running_answer_is_cancelled_and_its_row_freed() -> None:
    async with inference_room(step_seconds=0.01) as room:
        stream = await room.start("count to 5000")
        neighbour = await room.start("count to 9")
        await room.tokens(stream, 2)
        assert await room.cancel(stream)
        last = await room.last(stream)
        assert isinstance(last, GenerationCancelled)
        assert last.seq == len(room.events[stream])
        assert await room.answer(neighbour) == ONE_TO_NINE
        assert (await room.health()).running == 0
        assert not await room.cancel(stream), "it is over"
        assert room.outcomes() == {"cancelled": 1, "stop": 1}


async def test_a_waiting_request_is_cancelled_and_never_starts() -> None:
    async with inference_room(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as room:
        running = await room.start("count to 20")
        waiting = await room.start("count to 9")
        assert await room.cancel(waiting)
        assert (await room.health()).queue_depth == 0
        await room.answer(running)
        assert [type(one) for one in room.events[waiting]] == [GenerationCancelled]


async def test_a_deadline_is_kept_while_it_waits_and_while_it_runs() -> None:
    async with inference_room(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as room:
        running = await room.start("count to 5000", deadline_ms=2000)
        waiting = await room.start("hello", deadline_ms=1000)
        assert (await room.failure(waiting)).code is ErrorCode.DEADLINE_EXCEEDED
        assert (await room.failure(running)).code is ErrorCode.DEADLINE_EXCEEDED
        assert room.text(running).startswith("1 2 3")
        assert len(room.events[waiting]) == 1
        assert await room.answer(await room.start("hello")) == "You said: hello", "the row is free"
        assert room.outcomes() == {"deadline_exceeded": 2, "stop": 1}


async def test_p03_a_deadline_counts_from_the_question_and_ends_the_reading_of_a_prompt() -> None:
    may_go_on = threading.Event()

    class SlowText(MockText):
        def encode(self, request: Generate) -> list[int]:
            may_go_on.wait(PATIENCE_SECONDS)
            return super().encode(request)

    async with inference_room(load_text=SlowText) as room:
        try:
            for ask in (room.start, room.complete):
                with pytest.raises(GenerationRefused) as refused:
                    await ask("hello", deadline_ms=50)
                assert refused.value.code is ErrorCode.DEADLINE_EXCEEDED
        finally:
            may_go_on.set()
        assert room.outcomes() == {}


async def test_p03_a_deadline_does_not_begin_again_when_its_inference_actor_is_lost() -> None:
    async with inference_room(step_seconds=0.01) as room:
        asked_at = trio.current_time() - 100
        resume = ResumeFrom(seq=1, token_ids=(49,), log_probability=0.0, seed=1)
        lost = await room.start("count to 5000", resume=resume, asked_at=asked_at, deadline_ms=101_000)
        assert (await room.failure(lost)).code is ErrorCode.DEADLINE_EXCEEDED
        with pytest.raises(GenerationRefused) as refused:
            await room.start("count to 5000", resume=resume, asked_at=asked_at, deadline_ms=99_000)
        assert refused.value.code is ErrorCode.DEADLINE_EXCEEDED
        request = StartGeneration(
            client_id="c", stream="s", generate=Generate(prompt="hi", deadline_ms=90_000), subscriber=room.subscriber
        )
        started = await room.inference.ask(request, timeout=PATIENCE_SECONDS)
        assert asked_at + 100 <= started.recovery.asked_at <= trio.current_time(), "what is asked of the next one"


def test_p03_the_deadline_of_a_stored_answer_counts_from_when_it_was_stored() -> None:
    async def age() -> float:
        stored = StoredGeneration(
            recorded=RecordedGeneration(stream="s", seed=1, prompt_tokens=1),
            client_id="c",
            domain="",
            key=None,
            generate=Generate(prompt="x"),
            started_ms=int(time.time() * 1000) - 90_000,
            text=None,
            last=None,
        )
        asked_at = request_of(stored).asked_at
        assert asked_at is not None
        return trio.current_time() - asked_at

    assert 90 <= trio.run(age) < 150


async def test_a_deadline_that_is_kept_leaves_no_trace() -> None:
    async with inference_room() as room:
        stream = await room.start("hello", deadline_ms=60_000)
        await room.answer(stream)
        await room.until_health(lambda one: one.running == 0)
        life = room.system.record("inference/inference").life
        assert isinstance(life, ActorIncarnation)
        assert not life._timers, "its timer went with it"
        assert room.outcomes() == {"stop": 1}


async def test_when_a_follower_ends_its_rows_are_freed() -> None:
    async with inference_room(step_seconds=0.01, limits=AdmissionLimits(rows=2)) as room:
        leaving = await room.new_follower("leaving")
        running = await room.start("count to 5000", subscriber=leaving)
        stays = await room.start("count to 12")
        waiting = await room.start("hello", subscriber=leaving)
        await room.tokens(running, 2)
        await room.subscribers.stop_child("leaving")
        health = await room.until_health(lambda one: one.running == 1)
        assert health.queue_depth == 0
        assert room.events[waiting] == []
        await room.answer(stays)
        assert room.outcomes() == {"abandoned": 2, "stop": 1}


async def test_a_follower_that_is_gone_already_costs_nothing() -> None:
    async with inference_room(step_seconds=0.01) as room:
        gone = await room.new_follower("gone")
        await room.subscribers.stop_child("gone")
        await room.start("count to 5000", subscriber=gone)
        await room.until_health(lambda one: one.running == 0 and one.queue_depth == 0)
        assert room.outcomes() == {"abandoned": 1}


async def test_cancelling_the_ask_for_a_whole_answer_cancels_the_generation() -> None:
    async with inference_room(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as room:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(room.complete, "count to 5000"))
            await room.until_health(lambda one: one.running == 1)
            nursery.start_soon(partial(room.complete, "count to 5000"))
            await room.until_health(lambda one: one.queue_depth == 1)
            nursery.cancel_scope.cancel()
        health = await room.until_health(lambda one: one.running == 0)
        assert health.queue_depth == 0
        assert room.outcomes() == {"abandoned": 2}


async def test_p24_draining_waits_for_what_runs_and_refuses_what_comes() -> None:
    async with inference_room(step_seconds=0.02) as room:
        running = await room.start("count to 9")
        await room.tokens(running, 1)
        room.system.request_stop("test")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises((GenerationRefused, ActorDead)) as caught:
            await room.start("hello")
        assert isinstance(caught.value, GenerationRefused)
        assert caught.value.code is ErrorCode.SHUTTING_DOWN
        assert await room.answer(running) == ONE_TO_NINE
    assert room.outcomes() == {"stop": 1}
    assert room.system.stuck == []


async def test_a_request_whose_prompt_is_read_when_the_draining_begins_is_refused() -> None:
    is_reading, may_go_on = threading.Event(), threading.Event()

    class SlowText(MockText):
        def encode(self, request: Generate) -> list[int]:
            if request.prompt == "slow":
                is_reading.set()
                may_go_on.wait(PATIENCE_SECONDS)
            return super().encode(request)

    refused: list[Exception] = []

    async with inference_room(step_seconds=0.02, load_text=SlowText) as room:

        async def ask() -> None:
            try:
                await room.start("slow")
            except GenerationRefused as refusal:
                refused.append(refusal)

        running = await room.start("count to 9")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.to_thread.run_sync(is_reading.wait, PATIENCE_SECONDS)
            room.system.request_stop("test")
            await trio.testing.wait_all_tasks_blocked()
            may_go_on.set()
        assert await room.answer(running) == ONE_TO_NINE
    assert [one.code for one in refused if isinstance(one, GenerationRefused)] == [ErrorCode.SHUTTING_DOWN]


async def test_token_events_carry_every_id_once() -> None:
    async with inference_room() as room:
        stream = await room.start("né 😀")
        text = await room.answer(stream)
        told = [one for one in room.events[stream] if isinstance(one, GenerationTokens)]
        assert bytes(token_id for one in told for token_id in one.token_ids).decode() == text == "You said: né 😀"
        assert math.isclose(sum(one.log_probability for one in told), 0.0)
