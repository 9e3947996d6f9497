"""Promise 21: what an unloaded model held is free again, and a change of models costs nobody an answer.

More of it stands in `test_model_manager.py`, moment by moment and with the mock engine.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from actors.inference.messages import LoadModel, ModelChanged, UnloadModel
from tests.inference.promises.served_phi3 import served_phi3
from tests.inference.service_kit import InferenceService, inference_service

pytestmark = pytest.mark.integration

PROMPT = "It was a dark and stormy night; the rain fell in torrents. " * 4
IDLE_UNLOAD_SECONDS = 2.0


def held_bytes(service: InferenceService) -> dict[str, float]:
    """`/metrics` as it is now: bytes by what holds them."""
    return {
        sample.labels["kind"]: sample.value
        for metric in service.registry.collect()
        for sample in metric.samples
        if sample.name == "leanvibe_engine_memory_bytes"
    }


async def unload(service: InferenceService) -> ModelChanged:
    changed: ModelChanged = await service.inference.ask(UnloadModel("mock"), timeout=service.patience_seconds)
    return changed


@pytest.mark.mlx_real_inference
async def test_p21_after_unload_nothing_is_held_and_the_next_load_holds_what_the_first_did(tmp_path: Path) -> None:
    async with served_phi3(tmp_path) as service:
        text = (await service.complete(PROMPT, max_tokens=20)).text
        before = held_bytes(service)
        assert min(before["mlx_active"], before["prefixes"], before["resident"]) > 0
        pid = await service.worker_pid()
        running = await service.start(PROMPT, max_tokens=200)
        await service.tokens(running, 3)
        assert (await unload(service)).state == "unloaded"
        assert await service.answer(running) != "", "it was drained, not cancelled"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert held_bytes(service) == dict.fromkeys(before, 0.0)
        assert (await service.health()).memory == {}
        assert (await service.complete(PROMPT, max_tokens=20)).text == text
        after = held_bytes(service)
        # What lies in the pool besides depends on how its steps fell.
        for kind in ("mlx_active", "prefixes"):
            assert after[kind] == pytest.approx(before[kind], rel=0.02), kind


async def test_p21_what_a_killed_worker_held_is_not_told_as_held() -> None:
    async with inference_service() as service:
        await service.complete("one two three")
        assert held_bytes(service)["resident"] > 1e6
        await service.restart_worker()
        assert held_bytes(service) == {"resident": 0.0}, "nothing was measured of the next one yet"


async def test_p21_while_two_workers_live_what_both_hold_is_told() -> None:
    async with inference_service(step_seconds=0.01) as service:
        # Long enough to run until it is cancelled, however slowly the second worker starts.
        running = await service.start("count to 8000", max_tokens=8000)
        await service.tokens(running, 3)
        alone = held_bytes(service)["resident"]
        await service.inference.ask(LoadModel("other"), timeout=service.patience_seconds)
        await service.complete("which model")
        assert held_bytes(service)["resident"] > 1.5 * alone
        assert await service.cancel(running)


async def test_p21_the_time_without_use_is_counted_from_the_end_of_the_last_answer() -> None:
    async with inference_service(step_seconds=0.01, idle_unload_seconds=IDLE_UNLOAD_SECONDS) as service:
        # It runs for longer than the setting, so that counted from its beginning the time would be over at its end.
        running = await service.start("count to 1000", max_tokens=250)
        await service.done(running)
        ended_at = trio.current_time()
        await service.until_health(lambda one: one.state == "unloaded")
        # A slow machine can only make it later.
        assert trio.current_time() - ended_at > IDLE_UNLOAD_SECONDS / 2
