"""Fifty clients at once on each API: every one gets its own complete answer. Timings are measured by `scripts/bench_api`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.server_fixture import RunningServer, count_to

pytestmark = [pytest.mark.integration, pytest.mark.alone]

CLIENTS = 50
Ask = Callable[[RunningServer, int], Awaitable[str]]


async def over_v1(server: RunningServer, number: int) -> str:
    body = {"model": "mock", "messages": [{"role": "user", "content": f"count to {number}"}]}
    async with server.http() as http:
        return str((await http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"])


async def over_v1_streamed(server: RunningServer, number: int) -> str:
    body = {"model": "mock", "prompt": f"count to {number}", "stream": True}
    async with server.http() as http:
        lines = (await http.post("/v1/completions", json=body)).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(one.removeprefix("data: ")) for one in lines[:-2]]
    return "".join(one["choices"][0]["text"] for one in chunks)


async def over_process(server: RunningServer, number: int) -> str:
    body = {"type": "message", "content": f"count to {number}", "conversation": f"c{number}"}
    async with server.http() as http:
        return str((await http.post("/ai/process", json=body)).json()["content"])


async def over_websocket(server: RunningServer, number: int) -> str:
    async with server.peer(client_id=f"client-{number}") as peer:
        events = await peer.generate("g", f"count to {number}")
    assert events[-1]["type"] == "done"
    return "".join(one["data"]["text"] for one in events[:-1])


APIS: list[Ask] = [over_v1, over_v1_streamed, over_process, over_websocket]


async def test_fifty_clients_at_once_get_whole_answers_over_every_api(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    answers: dict[tuple[int, int], str] = {}

    async def one(api: int, number: int) -> None:
        answers[api, number] = await APIS[api](server, number)

    # More than the engine can run at once, on all APIs together.
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for number in range(1, CLIENTS + 1):
                nursery.start_soon(one, number % len(APIS), number)
    assert answers == {(number % len(APIS), number): count_to(number) for number in range(1, CLIENTS + 1)}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.__name__)
async def test_fifty_clients_at_once_get_whole_answers_from_one_api(server: RunningServer, api: Ask) -> None:
    await server.until_engine_is("ready")
    answers: dict[int, str] = {}

    async def one(number: int) -> None:
        answers[number] = await api(server, number)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for number in range(1, CLIENTS + 1):
                nursery.start_soon(one, number)
    assert answers == {number: count_to(number) for number in range(1, CLIENTS + 1)}
    await server.until_no_row_is_taken()
