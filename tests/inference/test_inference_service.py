"""The two actors of the inference service with a real worker process and the mock engine: serving, limits, cancellation, draining."""

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

from .service_kit import PATIENCE_SECONDS, InferenceService, inference_service
from .tiny_text import write_text_folder

pytestmark = pytest.mark.integration

ONE_TO_NINE = "1 2 3 4 5 6 7 8 9"


async def refusal(service: InferenceService, prompt: str, **fields: object) -> GenerationRefused:
    with pytest.raises(GenerationRefused) as caught:
        await service.start(prompt, **fields)  # type: ignore[arg-type]
    return caught.value


# --- serving ----------------------------------------------------------------------------------------


async def test_two_answers_are_streamed_at_once() -> None:
    async with inference_service(step_seconds=0.005) as service:
        first = await service.start("count to 20", client="a")
        second = await service.start("hello", client="b")
        await service.tokens(first, 2)
        await service.tokens(second, 2)
        assert (await service.health()).running == 2
        assert await service.answer(first) == " ".join(str(number) for number in range(1, 21))
        assert await service.answer(second) == "You said: hello"
        done = await service.done(second)
        assert done.finish_reason is FinishReason.STOP
        assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (5, 15)
        assert done.confidence == 1.0
        assert done.engine_restarts == 0
        assert service.outcomes() == {"stop": 2}


async def test_max_tokens_and_stop_texts_end_answers() -> None:
    async with inference_service() as service:
        short = await service.start("count to 9", max_tokens=3)
        stopped = await service.start("count to 9", stop=["4 5"])
        assert await service.answer(short) == "1 2"
        assert (await service.done(short)).finish_reason is FinishReason.LENGTH
        assert await service.answer(stopped) == "1 2 3 "
        assert (await service.done(stopped)).finish_reason is FinishReason.STOP
        assert service.outcomes() == {"length": 1, "stop": 1}


async def test_p16_a_stop_text_frees_the_row() -> None:
    async with inference_service(step_seconds=0.01) as service:
        # Left to itself the row would go on for longer than anybody waits here.
        stopped = await service.start("count to 5000", stop=["3"], max_tokens=8000)
        assert await service.answer(stopped) == "1 2 "

        async def is_free() -> bool:
            return (await actor_snapshot(service.system, "inference/engines/1", timeout=60))["rows"] == 0

        await eventually(is_free, what="the worker's own row freed")
        neighbour = await service.start("hello")
        assert await service.answer(neighbour) == "You said: hello"
        assert service.events[stopped][-1].seq == len(service.events[stopped]), "nothing came after the last event"


async def test_a_whole_answer_is_the_streamed_one() -> None:
    async with inference_service() as service:
        whole = await service.complete("count to 9")
        assert whole.text == await service.answer(await service.start("count to 9")) == ONE_TO_NINE
        assert whole.done.usage.completion_tokens == len(ONE_TO_NINE)


async def test_without_a_seed_one_is_drawn_and_told() -> None:
    async with inference_service() as service:
        seeds = {(await service.complete("x")).done.seed for _ in range(3)}
        assert len(seeds) == 3
        assert all(0 <= seed < 2**53 for seed in seeds)
        assert (await service.complete("x", seed=5)).done.seed == 5


async def test_requests_wait_while_the_model_loads_and_are_then_served() -> None:
    async with inference_service(is_ready=False) as service:
        assert (await service.health()).state == "loading"
        stream = await service.start("hello")
        assert (await service.health()).queue_depth + (await service.health()).running == 1
        assert await service.answer(stream) == "You said: hello"


async def test_health_says_what_was_measured() -> None:
    async with inference_service(step_seconds=0.001) as service:
        fresh = await service.health()
        assert (fresh.tokens_per_second, fresh.last_inference_ms, fresh.problem) == (None, None, None)
        await service.complete("count to 9")
        used = await service.health()
        assert used.tokens_per_second is not None
        assert 0 < used.tokens_per_second < 1000
        assert used.last_inference_ms is not None
        assert used.last_inference_ms >= 17
        assert used.memory["resident"] > 1e6
        assert used.worker_pid == await service.worker_pid()
        assert (used.restarts, used.engine, used.report["model"]) == (0, "mock", "mock")
        assert used.totals == {"stop": 1}


async def test_the_gauges_follow_rows_and_queue() -> None:
    async with inference_service(step_seconds=0.01, limits=AdmissionLimits(rows=2)) as service:
        streams = [await service.start("count to 9", client=f"c{number}") for number in range(5)]
        assert (service.figure("num_requests_running"), service.figure("num_requests_waiting")) == (2, 3)
        for stream in streams:
            await service.answer(stream)
        assert (service.figure("num_requests_running"), service.figure("num_requests_waiting")) == (0, 0)
        assert service.figure("time_to_first_token_seconds_count") == 5
        assert service.figure("inter_token_latency_seconds_count") == 5 * (len(ONE_TO_NINE) - 1)
        assert service.figure("generation_tokens_total") == 5 * len(ONE_TO_NINE)
        assert service.figure("prompt_tokens_total") == 5 * len("count to 9")


# --- refusals ---------------------------------------------------------------------------------------


async def test_a_stream_that_runs_already_is_a_conflict() -> None:
    async with inference_service(step_seconds=0.01) as service:
        await service.start("count to 100", stream="same")
        assert (await refusal(service, "hello", stream="same")).code is ErrorCode.CONFLICT
        assert await service.cancel("same")


async def test_a_prompt_beyond_the_context_is_refused_with_both_numbers() -> None:
    async with inference_service() as service:
        refused = await refusal(service, "x" * 9000)
        assert refused.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
        assert "9000" in refused.message
        assert "8192" in refused.message
        assert await service.answer(await service.start("hello")) == "You said: hello"
        assert service.outcomes() == {"stop": 1}, "what was refused never was a request"


async def test_a_chat_that_the_template_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "text")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no systems here') }}")
    async with inference_service(load_text=partial(CheckpointText, folder)) as service:
        chat = Generate(messages=[ChatMessage(Role.SYSTEM, "x")])
        with pytest.raises(GenerationRefused, match="no systems here") as caught:
            await service.inference.ask(Complete(client_id="c", generate=chat), timeout=60)
        assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_FIELD, "data.messages")


async def test_p07_the_one_too_many_is_refused_at_once_and_the_accepted_ones_finish() -> None:
    limits = AdmissionLimits(rows=2, waiting_requests=3)
    async with inference_service(step_seconds=0.01, limits=limits) as service:
        accepted = [await service.start("count to 9", client=f"c{number}") for number in range(5)]
        began = trio.current_time()
        refused = await refusal(service, "count to 9", client="late")
        assert trio.current_time() - began < 0.25
        assert refused.code is ErrorCode.OVERLOADED
        assert refused.retry_after_ms is not None
        assert 250 <= refused.retry_after_ms <= 60_000
        assert [await service.answer(stream) for stream in accepted] == [ONE_TO_NINE] * 5
        assert service.figure("requests_refused_total") == 1
        assert service.outcomes() == {"stop": 5}
        assert await service.answer(await service.start("count to 9", client="late")) == ONE_TO_NINE


async def test_p07_waiting_prompts_are_bounded_by_their_tokens_too() -> None:
    limits = AdmissionLimits(rows=1, waiting_prompt_tokens=100)
    async with inference_service(step_seconds=0.005, limits=limits) as service:
        running = await service.start("count to 9")
        waiting = await service.start("x" * 60)
        assert (await refusal(service, "x" * 41)).code is ErrorCode.OVERLOADED
        other = await service.start("x" * 40)
        for stream in (running, waiting, other):
            await service.answer(stream)


async def test_p07_overload_is_told_at_once_while_the_engine_is_away() -> None:
    async with inference_service(is_ready=False, limits=AdmissionLimits(waiting_requests=1)) as service:
        waiting = await service.start("hello")
        assert (await refusal(service, "hello")).code is ErrorCode.OVERLOADED
        assert await service.answer(waiting) == "You said: hello"


async def test_p09_a_client_with_many_requests_delays_another_by_one_round() -> None:
    async with inference_service(step_seconds=0.002, limits=AdmissionLimits(rows=1)) as service:
        greedy = [await service.start("a", client="greedy", max_tokens=4) for _ in range(30)]
        modest = await service.start("a", client="modest", max_tokens=4)
        greedy_started = sum(bool(service.events[stream]) for stream in greedy)
        await service.answer(modest)
        started = sum(bool(service.events[stream]) for stream in greedy)
        assert started <= greedy_started + 2, "the one that ran, one round, and the one after"


# --- ends from outside ------------------------------------------------------------------------------


async def test_a_running_answer_is_cancelled_and_its_row_freed() -> None:
    async with inference_service(step_seconds=0.01) as service:
        stream = await service.start("count to 5000")
        neighbour = await service.start("count to 9")
        await service.tokens(stream, 2)
        assert await service.cancel(stream)
        last = await service.last(stream)
        assert isinstance(last, GenerationCancelled)
        assert last.seq == len(service.events[stream])
        assert await service.answer(neighbour) == ONE_TO_NINE
        assert (await service.health()).running == 0
        assert not await service.cancel(stream), "it is over"
        assert service.outcomes() == {"cancelled": 1, "stop": 1}


async def test_a_waiting_request_is_cancelled_and_never_starts() -> None:
    async with inference_service(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as service:
        running = await service.start("count to 20")
        waiting = await service.start("count to 9")
        assert await service.cancel(waiting)
        assert (await service.health()).queue_depth == 0
        await service.answer(running)
        assert [type(one) for one in service.events[waiting]] == [GenerationCancelled]


async def test_a_deadline_is_kept_while_it_waits_and_while_it_runs() -> None:
    async with inference_service(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as service:
        running = await service.start("count to 5000", deadline_ms=2000)
        waiting = await service.start("hello", deadline_ms=1000)
        assert (await service.failure(waiting)).code is ErrorCode.DEADLINE_EXCEEDED
        assert (await service.failure(running)).code is ErrorCode.DEADLINE_EXCEEDED
        assert service.text(running).startswith("1 2 3")
        assert len(service.events[waiting]) == 1
        assert await service.answer(await service.start("hello")) == "You said: hello", "the row is free"
        assert service.outcomes() == {"deadline_exceeded": 2, "stop": 1}


async def test_p03_a_deadline_counts_from_the_question_and_ends_the_reading_of_a_prompt() -> None:
    may_go_on = threading.Event()

    class SlowText(MockText):
        def encode(self, request: Generate) -> list[int]:
            may_go_on.wait(PATIENCE_SECONDS)
            return super().encode(request)

    async with inference_service(load_text=SlowText) as service:
        try:
            for ask in (service.start, service.complete):
                with pytest.raises(GenerationRefused) as refused:
                    await ask("hello", deadline_ms=50)
                assert refused.value.code is ErrorCode.DEADLINE_EXCEEDED
        finally:
            may_go_on.set()
        assert service.outcomes() == {}


async def test_p03_a_deadline_does_not_begin_again_when_its_inference_actor_is_lost() -> None:
    async with inference_service(step_seconds=0.01) as service:
        asked_at = trio.current_time() - 100
        resume = ResumeFrom(seq=1, token_ids=(49,), log_probability=0.0, seed=1)
        lost = await service.start("count to 5000", resume=resume, asked_at=asked_at, deadline_ms=101_000)
        assert (await service.failure(lost)).code is ErrorCode.DEADLINE_EXCEEDED
        with pytest.raises(GenerationRefused) as refused:
            await service.start("count to 5000", resume=resume, asked_at=asked_at, deadline_ms=99_000)
        assert refused.value.code is ErrorCode.DEADLINE_EXCEEDED
        request = StartGeneration(
            client_id="c", stream="s", generate=Generate(prompt="hi", deadline_ms=90_000), subscriber=service.subscriber
        )
        started = await service.inference.ask(request, timeout=PATIENCE_SECONDS)
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
    async with inference_service() as service:
        stream = await service.start("hello", deadline_ms=60_000)
        await service.answer(stream)
        await service.until_health(lambda one: one.running == 0)
        life = service.system.record("inference/inference").life
        assert isinstance(life, ActorIncarnation)
        assert not life._timers, "its timer went with it"
        assert service.outcomes() == {"stop": 1}


async def test_when_a_follower_ends_its_rows_are_freed() -> None:
    async with inference_service(step_seconds=0.01, limits=AdmissionLimits(rows=2)) as service:
        leaving = await service.new_follower("leaving")
        running = await service.start("count to 5000", subscriber=leaving)
        stays = await service.start("count to 12")
        waiting = await service.start("hello", subscriber=leaving)
        await service.tokens(running, 2)
        await service.subscribers.stop_child("leaving")
        health = await service.until_health(lambda one: one.running == 1)
        assert health.queue_depth == 0
        assert service.events[waiting] == []
        await service.answer(stays)
        assert service.outcomes() == {"abandoned": 2, "stop": 1}


async def test_a_follower_that_is_gone_already_costs_nothing() -> None:
    async with inference_service(step_seconds=0.01) as service:
        gone = await service.new_follower("gone")
        await service.subscribers.stop_child("gone")
        await service.start("count to 5000", subscriber=gone)
        await service.until_health(lambda one: one.running == 0 and one.queue_depth == 0)
        assert service.outcomes() == {"abandoned": 1}


async def test_cancelling_the_ask_for_a_whole_answer_cancels_the_generation() -> None:
    async with inference_service(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as service:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(service.complete, "count to 5000"))
            await service.until_health(lambda one: one.running == 1)
            nursery.start_soon(partial(service.complete, "count to 5000"))
            await service.until_health(lambda one: one.queue_depth == 1)
            nursery.cancel_scope.cancel()
        health = await service.until_health(lambda one: one.running == 0)
        assert health.queue_depth == 0
        assert service.outcomes() == {"abandoned": 2}


async def test_p24_draining_waits_for_what_runs_and_refuses_what_comes() -> None:
    async with inference_service(step_seconds=0.02) as service:
        running = await service.start("count to 9")
        await service.tokens(running, 1)
        service.system.request_stop("test")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises((GenerationRefused, ActorDead)) as caught:
            await service.start("hello")
        assert isinstance(caught.value, GenerationRefused)
        assert caught.value.code is ErrorCode.SHUTTING_DOWN
        assert await service.answer(running) == ONE_TO_NINE
    assert service.outcomes() == {"stop": 1}
    assert service.system.stuck == []


async def test_a_request_whose_prompt_is_read_when_the_draining_begins_is_refused() -> None:
    is_reading, may_go_on = threading.Event(), threading.Event()

    class SlowText(MockText):
        def encode(self, request: Generate) -> list[int]:
            if request.prompt == "slow":
                is_reading.set()
                may_go_on.wait(PATIENCE_SECONDS)
            return super().encode(request)

    refused: list[Exception] = []

    async with inference_service(step_seconds=0.02, load_text=SlowText) as service:

        async def ask() -> None:
            try:
                await service.start("slow")
            except GenerationRefused as refusal:
                refused.append(refusal)

        running = await service.start("count to 9")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.to_thread.run_sync(is_reading.wait, PATIENCE_SECONDS)
            service.system.request_stop("test")
            await trio.testing.wait_all_tasks_blocked()
            may_go_on.set()
        assert await service.answer(running) == ONE_TO_NINE
    assert [one.code for one in refused if isinstance(one, GenerationRefused)] == [ErrorCode.SHUTTING_DOWN]


async def test_token_events_carry_every_id_once() -> None:
    async with inference_service() as service:
        stream = await service.start("né 😀")
        text = await service.answer(stream)
        told = [one for one in service.events[stream] if isinstance(one, GenerationTokens)]
        assert bytes(token_id for one in told for token_id in one.token_ids).decode() == text == "You said: né 😀"
        assert math.isclose(sum(one.log_probability for one in told), 0.0)
