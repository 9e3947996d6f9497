"""Programs that say no name share a client, and are told apart by their connections where they wait for each other."""

from __future__ import annotations

from typing import Any

import pytest
from quart_trio import QuartTrio

from actors.inference.prompts import PromptEncoder
from actors.rest.services import caller
from tests.server_fixture import RunningServer

NAMED = {"X-Client-Id": "me"}


async def test_jd10_who_says_no_name_waits_by_its_connection_and_who_does_by_its_name() -> None:
    app = QuartTrio(__name__)

    async def caller_of(address: tuple[str, int] | None, headers: dict[str, str]) -> str:
        base = {} if address is None else {"client": address}
        async with app.test_request_context("/", headers=headers, scope_base=base):
            return caller()

    first, second = ("127.0.0.1", 40001), ("127.0.0.1", 40002)
    assert await caller_of(first, {}) == await caller_of(first, {}) != await caller_of(second, {})
    assert await caller_of(first, NAMED) == await caller_of(second, NAMED) == ""
    assert await caller_of(None, {}) == ""


async def test_jd10_every_route_that_asks_the_model_says_who_calls(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, str]] = []
    encode = PromptEncoder.encode

    async def listening(self: PromptEncoder, *arguments: Any, client_id: str = "", caller: str = "") -> list[int]:
        heard.append((client_id, caller))
        return await encode(self, *arguments, client_id=client_id, caller=caller)

    monkeypatch.setattr(PromptEncoder, "encode", listening)
    chat = {"model": "mock", "messages": [{"role": "user", "content": "count to 2"}]}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", {**chat, "stream": True}),
        ("/v1/completions", {"model": "mock", "prompt": "count to 2", "max_tokens": 5}),
        ("/v1/messages", {**chat, "max_tokens": 5}),
        ("/v1/messages/count_tokens", chat),
        ("/ai/process", {"type": "message", "content": "count to 2"}),
        ("/ai/complete", {"content": "x = "}),
    ]
    for path, body in asked:
        found = []
        for _ in range(2):
            heard.clear()
            async with server.http() as http:
                assert (await http.post(path, json=body)).status_code == 200, path
            assert len(set(heard)) == 1, path
            found.append(heard[0])
        assert [client for client, _ in found] == ["local", "local"]
        assert len({name for _, name in found} - {""}) == 2, path
        heard.clear()
        async with server.http() as http:
            assert (await http.post(path, json=body, headers=NAMED)).status_code == 200, path
        assert set(heard) == {("me", "")}, path
