"""Promises 7, 15, 18, 20 and 24 at the transports: refusals, health meanwhile, and stops."""

from __future__ import annotations

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.server_fixture import RunningServer, count_to, eventually, running_server
from tests.system.serving_process import is_alive, start_server

pytestmark = [pytest.mark.integration, pytest.mark.websocket]

SLOW: dict[str, Any] = {
    "mock_step_seconds": 0.3,
    "worker_faults": json.dumps([{"fault": "slow", "step": 2, "seconds": 1.9}]),
}
"""One step takes long, and yet less than eight times what steps take here, so it is no hang."""
NAMES = {
    "leanvibe_time_to_first_token_seconds",
    "leanvibe_inter_token_latency_seconds",
    "leanvibe_num_requests_running",
    "leanvibe_num_requests_waiting",
    "leanvibe_prefix_cache_queries",
    "leanvibe_prefix_cache_hits",
    "leanvibe_request_success",
    "leanvibe_prompt_tokens",
    "leanvibe_generation_tokens",
    "leanvibe_requests_refused",
    "leanvibe_engine_restarts",
    "leanvibe_engine_memory_bytes",
}


def message(content: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "content": content, **fields}


def assert_overloaded(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"], answer.json()["temporary"]) == (429, "overloaded", True)
    assert int(answer.headers["Retry-After"]) >= 1


# --- admission --------------------------------------------------------------------------------------


async def fill(
    server: RunningServer, nursery: trio.Nursery, http: httpx.AsyncClient, tokens: int = 200
) -> list[httpx.Response]:
    """Keeps one request running and one waiting, which fills the queue; their answers are added to the list."""
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await http.post("/ai/process", json=message("count to 60", max_tokens=tokens), timeout=60))

    for running, waiting in ((1, 0), (1, 1)):
        nursery.start_soon(ask)
        await eventually(functools.partial(_holds, server, running, waiting), what=f"{running} run, {waiting} wait")
    return answers


async def _holds(server: RunningServer, running: int, waiting: int) -> bool:
    inference = await server.snapshot("inference/inference")
    return (inference["running"], inference["waiting"]) == (running, waiting)


async def test_p07_the_one_too_many_is_refused_with_retry_after_while_the_engine_is_in_a_step(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_rows": 1, "max_waiting": 1, **SLOW}
    async with running_server(tmp_path, **settings) as server, server.http() as http, server.peer() as peer:
        async with trio.open_nursery() as nursery:
            answers = await fill(server, nursery, http, tokens=3)
            assert_overloaded(await http.post("/ai/process", json=message("hello")))
            refused = await peer.ask("generate", "g", {"prompt": "hello"})
            assert (refused["type"], refused["data"]["code"]) == ("error", "overloaded")
            assert refused["data"]["retry_after_ms"] >= 250
            # All of that was told while the step that began before it was still under way.
            assert answers == []
        assert [one.json()["content"] for one in answers] == ["1 2"] * 2, "what was accepted is never shed"


async def test_p07_the_one_too_many_is_refused_with_retry_after_while_the_engine_restarts(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_rows": 1, "max_waiting": 2, "mock_step_seconds": 0.02}
    async with running_server(tmp_path, **settings) as server, server.http() as http, server.peer() as peer:
        async with trio.open_nursery() as nursery:
            answers = await fill(server, nursery, http)
            pid = (await server.engine()).worker_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            # Both wait now, and the queue holds two.
            await eventually(functools.partial(_holds, server, 0, 2), what="the worker's death noticed")
            refusal, told = (
                await http.post("/ai/process", json=message("hello")),
                await peer.ask("generate", "g", {"prompt": "hello"}),
            )
            assert (await server.engine()).state == "loading"
            assert_overloaded(refusal)
            assert told["data"]["code"] == "overloaded"
        assert [one.json()["content"] for one in answers] == [count_to(60)] * 2


# --- what is asked for -------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["kv_bits", "best_of", "max_new_tokens", "Temperature"])
async def test_p15_an_unknown_option_is_an_error_that_names_it(engineless_server: RunningServer, option: str) -> None:
    async with engineless_server.peer() as peer, engineless_server.http() as http:
        told = await peer.ask("generate", "g", {"prompt": "x", option: 4})
        assert (told["type"], told["data"]["code"]) == ("error", "invalid_field")
        assert told["data"]["field"] == f"data.{option}"
        answer = await http.post("/ai/process", json=message("x", **{option: 4}))
        assert (answer.status_code, answer.json()["field"]) == (422, f"body.{option}")


async def test_p18_what_is_too_long_is_refused_with_both_numbers_and_usage_counts_what_was_sent(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path) as server, server.peer() as peer, server.http() as http:
        told = (await peer.ask("generate", "g", {"prompt": "x" * 9000}))["data"]
        answer = await http.post("/ai/process", json=message("x" * 9000))
        assert (answer.status_code, answer.json()["code"]) == (400, "context_length_exceeded")
        assert told["code"] == "context_length_exceeded"
        for text in (told["message"], answer.json()["detail"]):
            assert "8192" in text
            assert "9000" in text
        # One token less than the context: all of it was read, and there was room for one of answer.
        last = (await peer.generate("h", "x" * 8191))[-1]["data"]
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (8191, 1)
        assert last["finish_reason"] == "length"


# --- health -----------------------------------------------------------------------------------------


async def test_p20_health_and_metrics_answer_while_a_step_is_under_way_and_every_request_ends_once(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, **SLOW) as server, server.http() as http, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "hello", "stop": ["u"]})
        assert (await peer.receive())["type"] == "accepted"
        assert (await peer.receive())["type"] == "token"
        for path in ("/health/live", "/health/ready", "/health/mlx", "/health", "/metrics"):
            assert (await http.get(path)).status_code == 200
        with trio.move_on_after(0) as nothing_yet:
            await peer.websocket.recv()
        assert nothing_yet.cancelled_caught, "the step was still under way"
        assert (await peer.stream("g"))[-1]["type"] == "done"

        await peer.generate("short", "hello", max_tokens=2)
        await peer.send("generate", "c", {"prompt": "count to 900"})
        assert (await peer.receive())["type"] == "accepted"
        await peer.send("cancel", "x", {"target": "c"})
        assert (await peer.stream("c"))[-1]["type"] == "cancelled"
        async with server.peer(client_id="other") as other:
            assert (await other.generate("d", "count to 1500", deadline_ms=1500))[-1]["type"] == "failed"
        families = {one.name: one for one in text_string_to_metric_families((await http.get("/metrics")).text)}
    assert set(families) >= NAMES
    ended = {
        one.labels["finished_reason"]: one.value
        for one in families["leanvibe_request_success"].samples
        if one.name.endswith("_total")
    }
    assert ended == {"stop": 1, "length": 1, "cancelled": 1, "deadline_exceeded": 1}


# --- the end ----------------------------------------------------------------------------------------


def test_p24_a_stop_drains_for_its_time_and_then_cancels_and_leaves_in_order(tmp_path: Path) -> None:
    settings = {"LEANVIBE_MOCK_STEP_SECONDS": "0.02", "LEANVIBE_DRAIN_SECONDS": "0.5"}
    with start_server(tmp_path, **settings) as server:
        server.until_ready()
        worker = server.worker_pid()
        with httpx.Client(base_url=server.about["rest_url"], trust_env=False, timeout=30) as http:
            request = http.build_request("POST", "/ai/process", json=message("count to 2000", max_tokens=8000))

            def ask() -> Any:
                return http.send(request)

            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as threads:
                answer = threads.submit(ask)
                _until_running(server.about["rest_url"])
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(20) == 0, server.log.read_text()
                response = answer.result(20)
                assert (response.status_code, response.json()["code"]) == (503, "shutting_down")
        assert not is_alive(worker)
        assert "Traceback" not in server.log.read_text()


def _until_running(url: str) -> None:
    from tests.system.serving_process import wait_for

    wait_for(
        lambda: httpx.get(f"{url}/health/mlx", trust_env=False, timeout=60).json()["running"] == 1, what="a row taken"
    )
