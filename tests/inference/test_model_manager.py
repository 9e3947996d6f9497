"""Changing the model of a running service: nothing is lost at any moment of a change."""

import os
import threading
from typing import Any

import pytest
import trio

from actors.inference import health, model_files
from actors.inference.messages import (
    GenerationDone,
    GenerationRefused,
    ListModels,
    LoadModel,
    ModelChanged,
    ModelRefused,
    ModelState,
    UnloadModel,
)
from actors.inference.text.text_model import MockText
from protocol.errors import ErrorCode

from .service_kit import PATIENCE_SECONDS, FakeRegistry, InferenceService, inference_service
from .test_recovery import counted, lose_inference

pytestmark = pytest.mark.integration

WEIGHTS_BYTES = 1000
ROOM_FOR_ONE = 1500
ROOM_FOR_TWO = 2500


async def load(service: InferenceService, name: str) -> ModelChanged:
    changed: ModelChanged = await service.inference.ask(LoadModel(name), timeout=PATIENCE_SECONDS)
    return changed


async def unload(service: InferenceService, name: str) -> ModelChanged:
    changed: ModelChanged = await service.inference.ask(UnloadModel(name), timeout=PATIENCE_SECONDS)
    return changed


async def refusal(service: InferenceService, name: str) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        await load(service, name)
    return caught.value


async def states(service: InferenceService) -> dict[str, ModelState]:
    listed: tuple[ModelState, ...] = await service.inference.ask(ListModels(), timeout=PATIENCE_SECONDS)
    return {one.name: one for one in listed}


async def until_state(service: InferenceService, name: str, state: str) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while (await states(service))[name].state != state:  # noqa: ASYNC110  it is asked for, never told
            await trio.sleep(0.01)


async def who(service: InferenceService) -> str:
    return (await service.complete("which model")).text


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def slow_load(name: str, seconds: float = 0.6) -> dict[str, Any]:
    return {"fault": "slow", "load": name, "seconds": seconds}


# --- both fit ---------------------------------------------------------------------------------------


async def test_md1_a_change_loads_beside_switches_and_ends_the_first() -> None:
    async with inference_service(step_seconds=0.005) as service:
        assert await who(service) == "mock"
        first = await service.worker_pid()
        changed = await load(service, "other")
        assert (changed.model, changed.state) == ("other", "loaded")
        assert await who(service) == "other"
        health = await service.health()
        assert (health.model, health.state, health.worker_pid) == ("other", "ready", changed.worker_pid)
        await until_state(service, "mock", "available")
        assert not is_alive(first)
        assert (await states(service))["other"].is_in_use


async def test_md1_an_answer_that_runs_is_finished_by_the_model_that_began_it() -> None:
    async with inference_service(step_seconds=0.01) as service:
        running = await service.start("count to 60")
        await service.tokens(running, 3)
        first = await service.worker_pid()
        await load(service, "other")
        assert is_alive(first), "it drains"
        assert (await states(service))["mock"].state == "draining"
        assert await who(service) == "other"
        assert await service.answer(running) == counted(60)
        await until_state(service, "mock", "available")
        assert not is_alive(first)


async def test_md1_who_waits_for_a_row_is_answered_by_the_model_that_took_the_request() -> None:
    from actors.inference.admission import AdmissionLimits

    async with inference_service(step_seconds=0.01, limits=AdmissionLimits(rows=1)) as service:
        running = await service.start("count to 40")
        waiting = await service.start("which model")
        await load(service, "other")
        late = await service.start("which model")
        assert await service.answer(late) == "other"
        assert await service.answer(waiting) == "mock"
        assert await service.answer(running) == counted(40)


async def test_md2_while_the_second_loads_the_first_serves_and_progress_is_told() -> None:
    async with inference_service(faults=[slow_load("other")]) as service, trio.open_nursery() as nursery:
        nursery.start_soon(load, service, "other")
        health = await service.until_health(lambda one: one.changing_to == "other" and one.change_stage is not None)
        assert (health.state, health.model) == ("ready", "mock")
        assert await who(service) == "mock"
        listed = await states(service)
        assert (listed["other"].state, listed["other"].is_in_use) == ("loading", False)
        assert (listed["mock"].state, listed["mock"].is_in_use) == ("loaded", True)
        await service.until_health(lambda one: one.model == "other")
        assert (await service.health()).changing_to is None


async def test_md3_a_failed_load_leaves_the_first_serving_and_says_why() -> None:
    async with inference_service(step_seconds=0.005, faults=[{"fault": "raise", "load": "other"}]) as service:
        running = await service.start("count to 40")
        first = await service.worker_pid()
        refused = await refusal(service, "other")
        assert refused.code is ErrorCode.MODEL_UNAVAILABLE
        assert "other cannot be loaded" in refused.message
        assert "InjectedFault" in refused.message
        assert "mock stays active" in refused.message
        assert await who(service) == "mock"
        assert await service.answer(running) == counted(40)
        assert await service.worker_pid() == first
        listed = await states(service)
        assert listed["other"].state == "failed"
        assert listed["other"].stage is not None
        assert "InjectedFault" in listed["other"].stage
        assert service.system.dynamic("inference/engines").child_count == 1, "what failed is not tried for ever"


async def test_md3_a_tokenizer_that_cannot_be_read_fails_before_anything_starts() -> None:
    async with inference_service(model_registry=FakeRegistry(unreadable=("other",))) as service:
        refused = await refusal(service, "other")
        assert "tokenizer.json is damaged" in refused.message
        assert await who(service) == "mock"
        assert service.system.dynamic("inference/engines").child_count == 1


async def test_md3_a_second_worker_that_is_killed_while_it_loads_is_a_failed_load() -> None:
    async with inference_service(faults=[{"fault": "exit", "load": "other"}]) as service:
        refused = await refusal(service, "other")
        assert "its worker was lost" in refused.message
        assert await who(service) == "mock"


async def test_md4_names_come_from_the_inventory_alone() -> None:
    async with inference_service() as service:
        for name in ("nobody", "/etc", "../mock", ""):
            assert (await refusal(service, name)).code is ErrorCode.NOT_FOUND
        assert await who(service) == "mock"


async def test_md5_one_change_at_a_time() -> None:
    async with inference_service(faults=[slow_load("other")]) as service, trio.open_nursery() as nursery:
        nursery.start_soon(load, service, "other")
        await service.until_health(lambda one: one.changing_to == "other")
        refused = await refusal(service, "third")
        assert (refused.code, refused.retry_after_ms is not None) == (ErrorCode.CONFLICT, True)
        assert "other" in refused.message
        await service.until_health(lambda one: one.model == "other")
        await load(service, "third")
        assert await who(service) == "third"


async def test_loading_what_is_loaded_changes_nothing() -> None:
    async with inference_service() as service:
        first = await service.worker_pid()
        assert (await load(service, "mock")).worker_pid == first
        assert service.system.dynamic("inference/engines").child_count == 1


async def test_an_asker_that_leaves_does_not_end_the_change() -> None:
    async with inference_service(faults=[slow_load("other")]) as service:
        with trio.move_on_after(0.2):
            await load(service, "other")
        await service.until_health(lambda one: one.model == "other")
        assert await who(service) == "other"


# --- they do not both fit -----------------------------------------------------------------------------


def tight() -> dict[str, Any]:
    return {"model_registry": FakeRegistry(weights_bytes=WEIGHTS_BYTES), "model_memory_bytes": ROOM_FOR_ONE}


async def test_md6_where_both_do_not_fit_the_first_is_drained_before_and_requests_wait() -> None:
    async with inference_service(step_seconds=0.01, **tight()) as service, trio.open_nursery() as nursery:
        running = await service.start("count to 60")
        await service.tokens(running, 3)
        first = await service.worker_pid()
        nursery.start_soon(load, service, "other")
        await until_state(service, "mock", "draining")
        waiting = await service.start("which model")
        assert service.system.dynamic("inference/engines").child_count == 1, "the second has not been started"
        assert await service.answer(running) == counted(60)
        assert await service.answer(waiting) == "other"
        assert not is_alive(first)


async def test_md6_with_room_for_two_the_second_is_loaded_beside() -> None:
    model_registry = FakeRegistry(weights_bytes=WEIGHTS_BYTES)
    async with inference_service(
        step_seconds=0.01, model_registry=model_registry, model_memory_bytes=ROOM_FOR_TWO
    ) as service:
        running = await service.start("count to 100")
        await service.tokens(running, 3)
        await load(service, "other")
        assert await who(service) == "other"
        assert await service.answer(running) == counted(100)


async def test_md6_what_would_not_even_fit_alone_is_refused_with_both_figures() -> None:
    model_registry = FakeRegistry(weights_bytes=2_000_000_000)
    async with inference_service(model_registry=model_registry, model_memory_bytes=1_000_000_000) as service:
        refused = await refusal(service, "other")
        assert "2,000 MB" in refused.message
        assert "1,000 MB" in refused.message
        assert await who(service) == "mock"


@pytest.mark.parametrize("fault", ["raise", "abort"])
async def test_md7_a_load_that_fails_after_the_drain_brings_the_first_back_to_answer_who_waited(fault: str) -> None:
    plan = [slow_load("other", 0.3), {"fault": fault, "load": "other"}]
    async with inference_service(step_seconds=0.01, faults=plan, **tight()) as service, trio.open_nursery() as nursery:
        running = await service.start("count to 30")
        await service.tokens(running, 3)
        refusals: list[ModelRefused] = []

        async def try_it() -> None:
            refusals.append(await refusal(service, "other"))

        nursery.start_soon(try_it)
        await until_state(service, "mock", "draining")
        waiting = [await service.start("which model", client=f"c{number}") for number in range(3)]
        assert await service.answer(running) == counted(30)
        for stream in waiting:
            assert await service.answer(stream) == "mock"
        await service.until_health(lambda one: one.state == "ready" and one.model == "mock")
        assert await who(service) == "mock"
        assert "mock stays active" in refusals[0].message


async def test_md7_who_waited_and_is_moved_may_still_be_cancelled() -> None:
    plan = [slow_load("other", 0.3), {"fault": "raise", "load": "other"}]
    async with inference_service(step_seconds=0.01, faults=plan, **tight()) as service, trio.open_nursery() as nursery:
        running = await service.start("count to 30")
        nursery.start_soon(refusal, service, "other")
        await until_state(service, "mock", "draining")
        waiting = await service.start("which model")
        assert await service.cancel(waiting)
        assert await service.answer(running) == counted(30)
        await service.until_health(lambda one: one.state == "ready" and one.model == "mock")
        assert not service.text(waiting)


# --- unloading ----------------------------------------------------------------------------------------


async def test_md8_after_unload_the_process_is_gone_and_the_next_request_loads_it_again() -> None:
    async with inference_service(step_seconds=0.005) as service:
        running = await service.start("count to 30")
        await service.tokens(running, 3)
        first = await service.worker_pid()
        assert (await unload(service, "mock")).state == "unloaded"
        assert not is_alive(first)
        assert await service.answer(running) == counted(30), "it was drained, not cancelled"
        health = await service.health()
        assert (health.state, health.model, health.worker_pid) == ("unloaded", "mock", None)
        listed = (await states(service))["mock"]
        assert (listed.state, listed.is_in_use) == ("unloaded", True)
        assert await who(service) == "mock"
        assert (await service.health()).state == "ready"


async def test_md8_only_what_is_in_use_can_be_unloaded() -> None:
    async with inference_service() as service:
        with pytest.raises(ModelRefused) as caught:
            await unload(service, "other")
        assert caught.value.code is ErrorCode.CONFLICT
        with pytest.raises(ModelRefused) as caught:
            await unload(service, "nobody")
        assert caught.value.code is ErrorCode.NOT_FOUND


async def test_md8_a_request_that_comes_while_it_is_unloaded_waits_for_the_next_worker() -> None:
    async with inference_service(step_seconds=0.01) as service, trio.open_nursery() as nursery:
        running = await service.start("count to 40")
        await service.tokens(running, 3)
        nursery.start_soon(unload, service, "mock")
        await until_state(service, "mock", "unloading")
        late = await service.start("which model")
        assert await service.answer(late) == "mock"
        assert await service.answer(running) == counted(40)


async def test_md9_a_model_that_nobody_uses_is_unloaded_by_the_setting() -> None:
    # Not seen ready before: who looks late finds it unloaded already.
    async with inference_service(step_seconds=0.005, idle_unload_seconds=0.4, is_ready=False) as service:
        running = await service.start("count to 250")
        await service.tokens(running)
        pid = (await service.health()).worker_pid
        await service.until_health(lambda one: one.state == "unloaded")
        assert isinstance(service.events[running][-1], GenerationDone), "it was in use until then"
        assert pid is not None
        with trio.fail_after(60):
            while is_alive(pid):  # noqa: ASYNC110  a process tells nobody but its parent
                await trio.sleep(0.01)
        assert await who(service) == "mock"


async def test_a_change_while_nothing_is_loaded_loads_the_new_one() -> None:
    async with inference_service() as service:
        await unload(service, "mock")
        await load(service, "other")
        assert await who(service) == "other"


# --- deaths during a change -----------------------------------------------------------------------------


async def test_md10_the_first_worker_killed_while_the_second_loads_comes_back_and_goes_on() -> None:
    faults = [slow_load("other", 1.0)]
    async with inference_service(step_seconds=0.01, faults=faults) as service, trio.open_nursery() as nursery:
        running = await service.start("count to 60")
        await service.tokens(running, 5)
        first = await service.worker_pid()
        nursery.start_soon(load, service, "other")
        await service.until_health(lambda one: one.changing_to == "other")
        os.kill(first, 9)
        assert await service.answer(running) == counted(60)
        await service.until_health(lambda one: one.model == "other")
        assert await who(service) == "other"


async def test_md10_the_first_worker_killed_while_it_drains_finishes_its_answers() -> None:
    async with inference_service(step_seconds=0.01) as service:
        running = await service.start("count to 250")
        await service.tokens(running, 5)
        first = await service.worker_pid()
        await load(service, "other")
        os.kill(first, 9)
        assert await service.answer(running) == counted(250)
        assert (await service.done(running)).engine_restarts == 1
        await until_state(service, "mock", "available")
        assert await who(service) == "other"


async def test_md10_the_second_worker_killed_after_the_switch_recovers_as_any() -> None:
    async with inference_service(step_seconds=0.01) as service:
        await load(service, "other")
        running = await service.start("count to 40")
        await service.tokens(running, 5)
        await service.kill_worker()
        assert await service.answer(running) == counted(40)
        assert (await service.health()).model == "other"


async def test_md11_a_lost_inference_actor_finds_the_model_that_was_changed_to() -> None:
    async with inference_service(step_seconds=0.01) as service:
        await load(service, "other")
        pid = await service.worker_pid()
        running = await service.start("count to 40")
        await service.tokens(running, 5)
        await lose_inference(service)
        heard = len(service.events[running])
        point = service.point(running, heard)
        await service.start("count to 40", stream=running, resume=point)
        assert await service.answer(running) == counted(40)
        health = await service.until_health(lambda one: one.state == "ready")
        assert (health.model, health.worker_pid) == ("other", pid)


async def test_md11_a_lost_inference_actor_leaves_an_unloaded_model_unloaded() -> None:
    async with inference_service() as service:
        await load(service, "other")
        await unload(service, "other")
        await lose_inference(service)
        health = await service.health()
        assert (health.model, health.state) == ("other", "unloaded")
        assert await who(service) == "other"


async def test_md11_an_answer_of_the_draining_model_survives_the_inference_actor() -> None:
    import attrs

    async with inference_service(step_seconds=0.01) as service:
        running = await service.start("count to 250")
        await service.tokens(running, 5)
        await load(service, "other")
        await lose_inference(service)
        point = attrs.evolve(service.point(running, len(service.events[running])), model="mock")
        await service.start("count to 250", stream=running, resume=point)
        assert await service.answer(running) == counted(250)
        assert await who(service) == "other"
        await until_state(service, "mock", "available")
        with pytest.raises(GenerationRefused) as caught:
            await service.start("count to 250", stream="again", resume=point)
        assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE
        assert "mock" in caught.value.message


async def test_md11_an_inference_actor_lost_during_a_change_keeps_the_first_model() -> None:
    async with inference_service(faults=[slow_load("other", 1.0)]) as service:
        async with trio.open_nursery() as nursery:

            async def try_it() -> None:
                with pytest.raises(Exception, match="inference/inference"):
                    await load(service, "other")

            nursery.start_soon(try_it)
            await service.until_health(lambda one: one.changing_to == "other")
            await lose_inference(service)
        assert await who(service) == "mock"
        with trio.fail_after(PATIENCE_SECONDS):
            while service.system.dynamic("inference/engines").child_count > 1:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert (await service.health()).model == "mock"


async def test_md11_an_inference_actor_lost_while_the_first_has_ended_brings_it_back_on_demand() -> None:
    async with inference_service(faults=[slow_load("other", 1.0)], **tight()) as service:
        async with trio.open_nursery() as nursery:

            async def try_it() -> None:
                with pytest.raises(Exception, match="inference/inference"):
                    await load(service, "other")

            nursery.start_soon(try_it)
            await until_state(service, "mock", "available")
            await lose_inference(service)
        assert await who(service) == "mock"
        assert service.system.dynamic("inference/engines").child_count == 1


# --- text ---------------------------------------------------------------------------------------------


class ShortText(MockText):
    def __init__(self) -> None:
        super().__init__(context_tokens=16)


async def test_md12_the_text_side_changes_with_the_worker() -> None:
    class ModelRegistry(FakeRegistry):
        def text(self, model: Any) -> Any:
            return ShortText() if model.name == "other" else MockText()

    async with inference_service(model_registry=ModelRegistry()) as service:
        await service.complete("x" * 40)
        await load(service, "other")
        with pytest.raises(GenerationRefused) as caught:
            await service.start("x" * 40)
        assert caught.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
        assert "16" in caught.value.message


# --- a disk that hangs -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["find", "need_bytes", "text"])
async def test_md14_a_disk_that_hangs_ends_a_change_with_a_refusal_and_what_serves_goes_on(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(model_files, "CHANGE_SECONDS", 0.2)
    released = threading.Event()
    reads = getattr(FakeRegistry, call)

    def hang(registry: FakeRegistry, *given: Any) -> Any:
        if "other" in given or any(getattr(one, "name", None) == "other" for one in given):
            released.wait(PATIENCE_SECONDS)
        return reads(registry, *given)

    monkeypatch.setattr(FakeRegistry, call, hang)
    try:
        async with inference_service() as service:
            assert await who(service) == "mock"
            refused = await refusal(service, "other")
            assert refused.code is ErrorCode.UNAVAILABLE
            assert "did not answer within 0.2 seconds" in refused.message
            assert await who(service) == "mock"
            # The change is over: another one begins.
            assert (await load(service, "third")).model == "third"
            assert await who(service) == "third"
    finally:
        released.set()


async def test_md14_a_disk_that_hangs_ends_lists_and_lends_them_no_more_threads_than_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "LIST_SECONDS", 0.1)
    released = threading.Event()
    hanging = 0

    def hang(_: FakeRegistry) -> Any:
        nonlocal hanging
        hanging += 1
        released.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(FakeRegistry, "entries", hang)
    try:
        async with inference_service() as service:
            for _ in range(model_files.THREADS + 2):
                with pytest.raises(ModelRefused, match="did not answer"):
                    await service.inference.ask(ListModels(), timeout=PATIENCE_SECONDS)
            assert hanging == model_files.THREADS
            assert await who(service) == "mock"
    finally:
        released.set()
