"""A worker's death, hang or failure to load costs waiting clients a pause, and nothing else (promises 1 and 4)."""

from typing import Any

import pytest
import trio

from actors.inference.admission import AdmissionLimits
from actors.inference.messages import GenerationCancelled, GenerationDone, GenerationRefused, GenerationTokens
from protocol.errors import ErrorCode
from runtime.testing import crash

from .service_kit import InferenceService, inference_service

pytestmark = pytest.mark.integration


def counted(last: int) -> str:
    return " ".join(str(number) for number in range(1, last + 1))


# --- deaths -----------------------------------------------------------------------------------------


async def test_p04_a_killed_worker_costs_a_pause_and_the_answer_stays_the_same() -> None:
    async with inference_service(step_seconds=0.005) as service:
        first = await service.start("count to 60", client="a")
        second = await service.start("né 😀 " * 6, client="b")
        await service.tokens(first, 10)
        pid = await service.worker_pid()
        await service.kill_worker()
        assert await service.answer(first) == counted(60)
        assert await service.answer(second) == "You said: " + "né 😀 " * 6
        assert (await service.done(first)).engine_restarts == 1
        health = await service.health()
        assert (health.state, health.restarts) == ("ready", 1)
        assert health.worker_pid != pid
        assert service.figure("engine_restarts_total") == 1
        assert service.outcomes() == {"stop": 2}


async def test_an_answer_survives_many_deaths() -> None:
    async with inference_service(step_seconds=0.005) as service:
        stream = await service.start("count to 100")
        for received in (20, 60, 120):
            await service.tokens(stream, received)
            await service.kill_worker()
        assert await service.answer(stream) == counted(100)
        assert (await service.done(stream)).engine_restarts == 3


async def test_while_the_worker_is_away_health_says_so_and_requests_wait() -> None:
    async with inference_service(step_seconds=0.005) as service:
        stream = await service.start("count to 30")
        await service.tokens(stream, 3)
        await service.kill_worker()
        away = await service.until_health(lambda one: one.state != "ready")
        assert away.state == "loading"
        late = await service.start("hello")
        assert await service.answer(stream) == counted(30)
        assert await service.answer(late) == "You said: hello"


async def test_a_request_cancelled_while_the_worker_is_away_ends_at_once() -> None:
    async with inference_service(step_seconds=0.005) as service:
        stream = await service.start("count to 1000")
        await service.tokens(stream, 3)
        await service.kill_worker()
        await service.until_health(lambda one: one.state != "ready")
        assert await service.cancel(stream)
        assert isinstance(await service.last(stream), GenerationCancelled)
        assert (await service.health()).queue_depth == 0
        assert service.outcomes() == {"cancelled": 1}


@pytest.mark.parametrize("fault", ["raise", "abort", "exit"])
async def test_whatever_ends_the_worker_the_answer_goes_on(fault: str) -> None:
    async with inference_service(faults=[{"fault": fault, "step": 12}], faulty_lives=1) as service:
        assert await service.answer(await service.start("count to 30")) == counted(30)
        assert (await service.health()).restarts == 1


async def test_p01_a_hang_is_noticed_within_its_bound_and_a_second_more() -> None:
    # Reading is slow here, so a bound that allowed for a prompt would be over nine seconds; none is being read.
    plan = [{"fault": "hang", "step": 8}]
    async with inference_service(step_seconds=0.05, faults=plan, faulty_lives=1) as service:
        stream = await service.start("count to 12")
        await service.tokens(stream, 7)
        began = trio.current_time()
        assert await service.answer(stream) == counted(12)
        # The bound of a quick step is one second; it is looked for every quarter, and a new worker must start.
        assert 0.9 < trio.current_time() - began < 6
        assert (await service.done(stream)).engine_restarts == 1
        assert (await service.health()).restarts == 1


async def test_a_worker_that_hangs_with_one_request_is_replaced_for_all() -> None:
    plan = [{"fault": "hang", "prompt": "poison"}]
    async with inference_service(step_seconds=0.005, faults=plan, faulty_lives=1) as service:
        stream = await service.start("count to 30")
        await service.tokens(stream, 5)
        late = await service.start("poison")
        assert await service.answer(stream) == counted(30)
        assert await service.answer(late) == "You said: poison"


async def test_a_slow_step_is_no_hang() -> None:
    plan = [{"fault": "slow", "step": 10, "seconds": 0.6}]
    async with inference_service(faults=plan) as service:
        assert await service.answer(await service.start("count to 30")) == counted(30)
        assert (await service.health()).restarts == 0


# --- blame ------------------------------------------------------------------------------------------


async def test_p02_a_request_that_aborts_in_its_own_first_step_is_refused_and_its_seven_neighbours_finish() -> None:
    plan = [{"fault": "abort", "prompt": "poison"}]
    async with inference_service(step_seconds=0.005, faults=plan) as service:
        neighbours = [await service.start(f"count to {20 + number}", client=f"c{number}") for number in range(7)]
        for stream in neighbours:
            await service.tokens(stream, 3)
        poison = await service.start("a poisonous request", client="c7")
        failure = await service.failure(poison)
        assert failure.code is ErrorCode.ENGINE_FAILED
        assert "3 times" in failure.message
        assert service.text(poison) == ""
        for number, stream in enumerate(neighbours):
            assert await service.answer(stream) == counted(20 + number)
        assert await service.answer(await service.start("hello", client="c7")) == "You said: hello"
        assert service.figure("engine_restarts_total") == 3
        assert service.outcomes() == {"engine_failed": 1, "stop": 8}


async def test_p02_requests_that_arrive_with_a_poisonous_one_are_acquitted() -> None:
    plan = [{"fault": "exit", "prompt": "poison"}]
    async with inference_service(step_seconds=0.002, faults=plan, is_ready=False) as service:
        # They wait for the first worker together, so all are admitted before its first step.
        poison = await service.start("poison", client="c0")
        streams = [await service.start("count to 9", client=f"c{number}") for number in range(1, 4)]
        assert (await service.failure(poison)).code is ErrorCode.ENGINE_FAILED
        for stream in streams:
            assert await service.answer(stream) == counted(9)
            assert (await service.done(stream)).engine_restarts == 1, (
                "after the first death it ran with nobody beside it"
            )
        assert service.outcomes() == {"engine_failed": 1, "stop": 3}


async def test_p02_a_row_that_the_worker_cannot_take_fails_alone() -> None:
    async with inference_service(step_seconds=0.005) as service:
        neighbour = await service.start("count to 30")
        await service.tokens(neighbour, 2)
        # No byte and not the token that ends answers, so the mock engine cannot read this prompt.
        life: Any = service.system.record("inference/inference").life
        life.actor._models.current.text.encode = lambda _request: [300]
        failure = await service.failure(await service.start("x"))
        assert failure.code is ErrorCode.ENGINE_FAILED
        assert "ValueError" in failure.message
        assert await service.answer(neighbour) == counted(30)
        assert (await service.health()).restarts == 0
        assert service.outcomes() == {"engine_failed": 1, "stop": 1}


async def test_text_that_cannot_be_made_ends_its_own_answer_only() -> None:
    async with inference_service(step_seconds=0.005) as service:
        broken = await service.start("count to 30")
        neighbour = await service.start("count to 30")
        await service.tokens(broken, 2)
        life: Any = service.system.record("inference/inference").life
        life.actor._generations[broken].detokenizer = None
        assert (await service.failure(broken)).code is ErrorCode.INTERNAL
        assert await service.answer(neighbour) == counted(30)
        assert service.outcomes() == {"internal": 1, "stop": 1}


# --- loading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_waiting", [True, False])
async def test_a_model_that_cannot_be_loaded_is_told_to_whoever_waits_or_comes(is_waiting: bool) -> None:
    # A model without a folder stands for any failure to start.
    async with inference_service(engine="mlx", checkpoint=None, is_ready=False, patience_seconds=60) as service:
        if is_waiting:
            stream = await service.start("hello")
            failure = await service.failure(stream)
            assert failure.code is ErrorCode.MODEL_UNAVAILABLE
            assert "has no folder" in failure.message
        health = await service.until_health(lambda one: one.state == "down")
        assert health.problem is not None
        assert "has no folder" in health.problem
        with pytest.raises(GenerationRefused) as caught:
            await service.start("hello")
        assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
        assert caught.value.retry_after_ms is not None
        assert "has no folder" in caught.value.message
        assert (await service.health()).state == "down", "a new attempt alone makes nothing better"


# --- the inference actor's own death ----------------------------------------------------------------


async def lose_inference(service: InferenceService) -> None:
    incarnation = service.inference.incarnation
    crash(service.system, "inference/inference", RuntimeError("lost on purpose"))
    with trio.fail_after(60):
        while service.inference.incarnation == incarnation or not service.inference.is_running:  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_p24_a_new_inference_actor_takes_the_worker_over_and_answers_go_on_exactly() -> None:
    async with inference_service(step_seconds=0.01) as service:
        undisturbed = await service.start("né 😀 " * 4)
        whole = await service.answer(undisturbed)
        stream = await service.start("né 😀 " * 4)
        lost = await service.start("count to 5000")
        await service.tokens(stream, 12)
        pid = await service.worker_pid()
        await lose_inference(service)
        received = list(service.events[stream])
        resumed = await service.start("né 😀 " * 4, stream=stream, resume=service.point(stream, len(received)))
        assert resumed == stream
        assert await service.answer(stream) == whole
        assert service.events[stream][: len(received)] == received
        as_told = [one for one in service.events[stream] if isinstance(one, GenerationTokens)]
        expected = [one for one in service.events[undisturbed] if isinstance(one, GenerationTokens)]
        assert [(one.seq, one.text, one.token_ids) for one in as_told] == [
            (one.seq, one.text, one.token_ids) for one in expected
        ]
        health = await service.until_health(lambda one: one.running == 0)
        assert health.worker_pid == pid, "the worker lived through it"
        assert not isinstance(service.events[lost][-1], GenerationDone), "its row was cleared"


async def test_a_request_that_comes_before_the_worker_is_taken_over_waits_for_it() -> None:
    async with inference_service(step_seconds=0.1) as service:
        await service.start("count to 5000")
        await lose_inference(service)
        assert await service.answer(await service.start("hi")) == "You said: hi"
        assert (await service.health()).running == 0


async def test_a_worker_that_hangs_while_it_is_taken_over_is_replaced() -> None:
    plan = [{"fault": "hang", "step": 30}]
    async with inference_service(step_seconds=0.005, faults=plan, faulty_lives=1) as service:
        stream = await service.start("count to 5000")
        await service.tokens(stream, 29)
        await lose_inference(service)
        assert await service.answer(await service.start("hi")) == "You said: hi"
        assert service.engine.incarnation == 2


async def test_an_answer_that_lacks_only_its_last_event_gets_it_without_the_worker() -> None:
    async with inference_service() as service:
        undisturbed = await service.start("count to 9", max_tokens=8)
        done = await service.done(undisturbed)
        received = len(service.events[undisturbed]) - 1
        await service.kill_worker()
        await service.until_health(lambda one: one.state != "ready")
        resumed = await service.start(
            "count to 9", max_tokens=8, stream="resumed", resume=service.point(undisturbed, received)
        )
        last = await service.last(resumed)
        assert isinstance(last, GenerationDone)
        assert last.seq == received + 1
        assert (last.done.finish_reason, last.done.usage) == (done.finish_reason, done.usage)


async def test_what_is_resumed_is_taken_even_where_new_requests_are_refused() -> None:
    limits = AdmissionLimits(rows=1, waiting_requests=1)
    async with inference_service(step_seconds=0.005, limits=limits) as service:
        stream = await service.start("count to 9", stream="first")
        await service.answer(stream)
        point = service.point(stream, 5)
        running = await service.start("count to 50")
        waiting = await service.start("count to 50")
        with pytest.raises(GenerationRefused):
            await service.start("hello")
        service.events["resumed"] = service.events["first"][:5]
        await service.start("count to 9", stream="resumed", resume=point)
        assert await service.answer("resumed") == counted(9)
        assert [await service.answer(running), await service.answer(waiting)] == [counted(50)] * 2


async def test_both_actors_may_fail_at_once() -> None:
    async with inference_service(step_seconds=0.005) as service:
        stream = await service.start("count to 50")
        await service.tokens(stream, 10)
        crash(service.system, "inference/engines/1", RuntimeError("lost on purpose"))
        await lose_inference(service)
        await service.start("count to 50", stream=stream, resume=service.point(stream, len(service.events[stream])))
        assert await service.answer(stream) == counted(50)
        assert (await service.health()).running == 0
