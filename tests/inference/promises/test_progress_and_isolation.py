"""Promises 1, 4, 5 and 22: a worker that stops is noticed and replaced, its memory is bounded, and a failure is reported by name."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from actors.inference import engine
from actors.inference.admission import AdmissionLimits
from actors.inference.engine import Engine
from actors.inference.engine_messages import AdmitRow, EngineOutput, EngineReady
from actors.inference.messages import GenerationRefused
from actors.inference.model_registry import MOCK_MODEL
from actors.inference.sampling import Sampling
from actors.inference.watchdog import FIRST_STEP_SECONDS, MINIMUM_SECONDS
from actors.inference.worker_config import WorkerConfig
from protocol.errors import ErrorCode
from runtime import Actor, ActorSystem, ChildSpec, SupervisorSpec, block
from runtime.inspection import actor_snapshot
from runtime.testing import Probe, running
from tests.inference.promises.served_phi3 import served_phi3
from tests.inference.service_kit import inference_service
from tests.server_fixture import count_to, eventually, running_server

pytestmark = pytest.mark.integration


async def test_p01_a_workers_first_step_is_held_to_what_its_warm_up_took() -> None:
    plan = [{"fault": "hang", "step": 1}]
    async with inference_service(step_seconds=0.005, faults=plan, faulty_lives=1) as service:
        assert (await actor_snapshot(service.system, "inference/engines/1", timeout=60))[
            "step_deadline_seconds"
        ] < FIRST_STEP_SECONDS
        with structlog.testing.capture_logs() as logged:
            assert await service.answer(await service.start("count to 12")) == count_to(12)
        (reason,) = (one["error"] for one in logged if one["event"] == "engine down")
        waited = float(reason.split("made no step for ")[1].split(" s")[0])
        assert MINIMUM_SECONDS <= waited < FIRST_STEP_SECONDS


async def test_p01_a_worker_that_still_reads_a_cancelled_prompt_is_not_taken_for_hanging() -> None:
    # As an editor does that asks anew while it is typed: the short prompt alone would be owed in a second or two.
    plan = [{"fault": "slow", "prompt": "long", "seconds": 3.0}]
    async with inference_service(step_seconds=0.05, faults=plan) as service:
        given_up = await service.start("long " * 120)

        async def owed_seconds() -> Any:
            engine_now = await actor_snapshot(service.system, "inference/engines/1", timeout=60)
            return engine_now["unread_rows"] and engine_now["step_deadline_seconds"]

        assert await eventually(owed_seconds) > 3.0, "the whole prompt"
        await service.cancel(given_up)
        assert (await service.done(await service.start("count to 3"))).engine_restarts == 0
        assert (await service.health()).restarts == 0


async def test_p01_while_the_server_itself_stands_still_no_worker_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async with inference_service(step_seconds=0.02, drain_seconds=0.1) as service:
        stream = await service.start("count to 5000", max_tokens=2000)
        # Trio tosses a coin for the order of tasks that are ready together.
        for coin in (0.0, 1.0) * 2:
            monkeypatch.setattr(trio._core._run._r, "random", lambda coin=coin: coin)
            await service.tokens(stream, len(service.events[stream]) + 1)
            # Suspended, swapped out, starved: the worker goes on, and what it says is not read.
            time.sleep(MINIMUM_SECONDS + 1.4)
        await service.tokens(stream, len(service.events[stream]) + 5)
        assert (await service.health()).restarts == 0


class Deaf(Actor[Any]):
    """An inference actor that takes one message at a time, and for one step of the worker far too long."""

    mailbox = block(1)

    def __init__(self) -> None:
        self.is_ready = trio.Event()
        self.steps = 0

    async def handle(self, message: Any) -> None:
        match message:
            case EngineReady():
                self.is_ready.set()
            case EngineOutput():
                self.steps += 1
                if self.steps == 2:
                    await trio.sleep(MINIMUM_SECONDS + 1.5)


async def test_p01_a_worker_whose_words_find_no_room_is_not_taken_for_hanging(tmp_path: Path) -> None:
    deaf = Deaf()
    settings = WorkerConfig(engine="mock", cache_dir=tmp_path, mock_step_seconds=0.01)

    def tree(system: ActorSystem) -> SupervisorSpec:
        inference, inspection = system.reference("inference"), system.reference("inspection")
        return SupervisorSpec(
            children=(
                ChildSpec(id="inspection", start=Probe().start),
                ChildSpec(id="inference", start=lambda: deaf),
                ChildSpec(id="engine", start=lambda: Engine(settings, MOCK_MODEL, inference, inspection)),
            )
        )

    prompt_ids = list(b"count to 999")
    row = AdmitRow(row=1, prompt_ids=prompt_ids, emitted_ids=[], max_tokens=900, stop_ids=[], sampling=Sampling())
    async with running(tree) as system:
        engine_actor = system.reference("engine")
        await deaf.is_ready.wait()
        engine_actor.tell_nowait(row)
        await eventually(lambda: deaf.steps > 20, seconds=30)
        assert engine_actor.incarnation == 1


async def test_in2_an_engine_does_not_work_with_a_worker_of_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    of_old = (
        "import socket, sys, time; from actors.inference.worker_frames import Hello, pack_frame;"
        "socket.socket(fileno=int(sys.argv[1])).sendall(pack_frame(Hello(1, 1))); time.sleep(60)"
    )
    monkeypatch.setattr(WorkerConfig, "command", lambda _self, pipe: [sys.executable, "-c", of_old, str(pipe)])
    with structlog.testing.capture_logs() as logged:
        async with inference_service(is_ready=False):
            await eventually(lambda: any("speaks protocol 1," in str(one.get("error")) for one in logged), seconds=30)


@pytest.mark.parametrize("bound", ["LOAD_SECONDS", "WARM_UP_SECONDS"])
async def test_p01_load_and_warm_up_have_deadlines_of_their_own(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    # The mock engine warms up and loads nothing, so its worker hangs in the warm-up for either bound.
    monkeypatch.setattr(engine, bound, 0.3)
    if bound == "LOAD_SECONDS":
        monkeypatch.setattr(engine, "WARM_UP_STAGE", "none of its stages")
    plan = [{"fault": "hang", "stage": "warming up"}]
    with structlog.testing.capture_logs() as logged:

        async def relent() -> None:
            # On a busy machine a sound worker may need longer than this too.
            await eventually(lambda: any("did not load its model in time" in one.get("error", "") for one in logged))
            monkeypatch.undo()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(relent)
            async with inference_service(faults=plan, faulty_lives=1) as service:
                assert await service.answer(await service.start("count to 9")) == count_to(9)


@pytest.mark.parametrize("fault", ["raise", "hang", "abort", "exit"])
async def test_p01_whatever_stops_the_worker_readiness_says_so_and_the_answer_goes_on(
    tmp_path: Path, fault: str
) -> None:
    plan = json.dumps([{"fault": fault, "step": 20}])
    async with (
        running_server(tmp_path, mock_step_seconds=0.002, worker_faults=plan) as server,
        server.peer() as peer,
        server.http() as http,
    ):
        # In each of its lives the worker comes 19 steps further; two deaths are what this answer needs.
        await peer.send("generate", "g", {"prompt": "count to 20"})

        async def is_unready() -> list[str] | None:
            response = await http.get("/health/ready")
            return list(response.json()["reasons"]) if response.status_code == 503 else None

        reasons = await eventually(is_unready, what="readiness false")
        assert any("engine is loading" in one for one in reasons)
        accepted = await peer.receive()
        assert accepted["type"] == "accepted"
        text, done = "", None
        while done is None:
            message = await eventually(peer.receive, seconds=30)
            if message["type"] == "token":
                text += message["data"]["text"]
            elif message["type"] == "done":
                done = message["data"]
        assert text == count_to(20)
        assert done["engine_restarts"] == 2
        assert server.connections(), "the listener and the connection never noticed"


async def test_p04_what_is_over_the_memory_budget_is_refused_before_its_prefill(tmp_path: Path) -> None:
    # One position of the synthetic model takes 512 bytes, and its cache grows by 256 of them.
    limits = AdmissionLimits(kv_bytes=(256 + 256) * 512)
    async with served_phi3(tmp_path, limits=limits) as service:
        assert (await service.health()).report["kv_bytes_per_token"] == 512
        with pytest.raises(GenerationRefused) as refused:
            await service.start("x" * 200, max_tokens=57)
        assert refused.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
        for number in ("200", "57", "256"):
            assert number in refused.value.message
        assert service.figure("prefilled_tokens_total") == 0
        assert (await service.done(await service.start("x" * 200, max_tokens=56))).usage.prompt_tokens == 200


async def test_p04_what_was_accepted_before_the_worker_told_its_price_is_refused_then(tmp_path: Path) -> None:
    async with served_phi3(tmp_path, limits=AdmissionLimits(kv_bytes=(256 + 256) * 512), is_ready=False) as service:
        long = await service.start("x" * 300, max_tokens=5)
        open_end = await service.start("y" * 200)
        assert (await service.failure(long)).code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
        assert (await service.done(open_end)).usage.completion_tokens <= 56


async def test_p05_rows_prefixes_and_pool_stay_within_their_bounds_through_mixed_lengths(tmp_path: Path) -> None:
    kv_bytes, prefix_bytes = 512 * (500 + 256) * 4, 400_000
    async with served_phi3(tmp_path, limits=AdmissionLimits(kv_bytes=kv_bytes), prefix_bytes=prefix_bytes) as service:
        streams = [
            await service.start(f"{number} " + "mixed " * (number * 7 % 60), max_tokens=1 + number * 5 % 40)
            for number in range(60)
        ]
        worst: dict[str, float] = {}
        while len(service.outcomes()) == 0 or sum(service.outcomes().values()) < len(streams):
            health = await service.health()
            for kind, held in health.memory.items():
                worst[kind] = max(worst.get(kind, 0.0), held)
            await eventually(lambda: True)
        for stream in streams:
            await service.done(stream)
        assert 0 < worst["kv"] <= kv_bytes
        assert 0 < worst["prefixes"] <= prefix_bytes
        report = (await service.health()).report
        assert worst["mlx_pool"] <= report["pool_bytes"]
        told = {
            one.labels["kind"]
            for metric in service.registry.collect()
            for one in metric.samples
            if "kind" in one.labels
        }
        assert {"resident", "weights", "mlx_active", "mlx_pool", "kv", "prefixes"} <= told


async def test_p05_what_a_worker_holds_is_told_also_when_its_last_row_was_cancelled(tmp_path: Path) -> None:
    async with served_phi3(tmp_path) as service:
        stream = await service.start("x" * 100, max_tokens=1800)
        await service.tokens(stream)
        await service.until_health(lambda one: one.memory.get("kv", 0) > 0)
        await service.cancel(stream)
        await service.until_health(lambda one: one.memory.get("kv") == 0)
        assert service.registry.get_sample_value("leanvibe_engine_memory_bytes", {"kind": "kv"}) == 0


async def test_p22_a_request_that_kills_its_worker_ends_with_a_typed_event_and_its_connection_lives(
    tmp_path: Path,
) -> None:
    plan = json.dumps([{"fault": "abort", "prompt": "poison"}])
    async with running_server(tmp_path, worker_faults=plan) as server, server.peer() as peer, server.http() as http:
        await peer.send("generate", "g", {"prompt": "poison"})
        assert (await peer.receive())["type"] == "accepted"
        last = await eventually(peer.receive, seconds=30)
        assert (last["type"], last["re"], last["seq"]) == ("failed", "g", 1)
        assert last["data"]["code"] == "engine_failed"
        assert (await peer.ask("ping", "p", 1))["type"] == "pong"
        answer = await http.post("/ai/process", json={"type": "message", "content": "poison"}, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (502, "engine_failed")
