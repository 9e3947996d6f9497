"""Work started with a token ends with it: answers over REST, streams over the WebSocket, and detached work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve

from actors import token_changes
from actors.access.actor import Access, AccessSettings
from actors.access.messages import CreateToken, FindEnded, ForgetTokens, MadeToken, RevokeToken
from actors.inference.messages import Complete
from actors.storage.messages import Storage
from protocol.commands import Generate
from runtime.testing import RecordingRef, crash, run_handler
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration

LONG = {"content": "count to 5000", "max_tokens": 1000}
"""At the step duration below it takes minutes; no test waits for its end."""
STEP_SECONDS = 0.05


async def make_token(server: RunningServer, **changes: Any) -> MadeToken:
    made: MadeToken = await server.system.reference("access").ask(
        CreateToken(**{"client_ids": ("me",), **changes}), timeout=60
    )
    return made


async def begin_detached(server: RunningServer, token: MadeToken | None) -> None:
    """Start an answer for a client that then disconnects."""
    async with server.peer(hello=False) as peer:
        await peer.hello("me", **({} if token is None else {"token": token.token}))
        question = {"prompt": LONG["content"], "max_tokens": LONG["max_tokens"], "on_disconnect": "detach"}
        assert (await peer.ask("generate", f"g{await running(server)}", question))["type"] == "accepted"


async def running(server: RunningServer) -> int:
    inference = await server.snapshot("inference/inference")
    return int(inference["running"] + inference["waiting"])


async def read_events(server: RunningServer, token: MadeToken, lines: list[str]) -> None:
    question = {
        "model": "mock",
        "stream": True,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "count to 5000"}],
    }
    async with (
        server.http(headers={"Authorization": f"Bearer {token.token}"}) as http,
        http.stream("POST", "/v1/chat/completions", json=question) as response,
    ):
        assert response.status_code == 200
        lines += [line async for line in response.aiter_lines()]


async def read_whole(server: RunningServer, token: MadeToken, answers: list[tuple[int, str]]) -> None:
    async with server.http(headers={"Authorization": f"Bearer {token.token}"}) as http:
        answer = await http.post("/ai/process", json={"type": "message", **LONG})
        answers.append((answer.status_code, answer.json()["code"]))


async def test_a_revoked_token_ends_what_it_began_over_every_transport(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=STEP_SECONDS) as server:
        mine, other = await make_token(server), await make_token(server)
        lines: list[str] = []
        answers: list[tuple[int, str]] = []
        async with trio.open_nursery() as nursery:
            await begin_detached(server, mine)
            await begin_detached(server, other)
            nursery.start_soon(read_events, server, mine, lines)
            nursery.start_soon(read_whole, server, mine, answers)

            async def all_run() -> bool:
                return await running(server) == 4

            await eventually(all_run)
            await server.system.reference("access").ask(RevokeToken(mine.description.token_id), timeout=60)

            async def only_the_others_runs() -> bool:
                return await running(server) == 1

            await eventually(only_the_others_runs)
        assert answers == [(401, "unauthorized")]
        assert any("the token was revoked" in line for line in lines), lines[-4:]
        assert "data: [DONE]" not in lines


@pytest.mark.parametrize("way", ["expired", "forgotten", "needed now"])
async def test_a_detached_answer_ends_however_its_token_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async with running_server(tmp_path, mock_step_seconds=STEP_SECONDS) as server:
        token = None
        if way != "needed now":
            token = await make_token(server, expires_ms=int(time.time() * 1000) + 3_600_000)
        await begin_detached(server, token)
        assert await running(server) == 1
        match way:
            case "expired":
                real = time.time
                monkeypatch.setattr(time, "time", lambda: real() + 3_601)
            case "forgotten":
                await server.system.reference("access").ask(ForgetTokens(), timeout=60)
            case _:
                await make_token(server)

        async def nothing_runs() -> bool:
            return await running(server) == 0

        await eventually(nothing_runs)


async def test_it_ends_also_where_the_access_actor_or_the_inference_actor_was_lost(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=STEP_SECONDS) as server:
        token = await make_token(server)
        await begin_detached(server, token)
        for path in ("access", "inference/inference"):
            crash(server.system, path, RuntimeError("x"))
            reference = server.system.reference(path)
            await eventually(lambda reference=reference: reference.is_running and reference.incarnation == 2)

        async def runs_again() -> bool:
            return await running(server) == 1

        await eventually(runs_again)
        await server.system.reference("access").ask(RevokeToken(token.description.token_id), timeout=60)

        async def nothing_runs() -> bool:
            return await running(server) == 0

        await eventually(nothing_runs)


async def test_what_the_server_asks_of_itself_shows_no_token_and_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.01) as server:
        await make_token(server)
        answer = await server.system.reference("inference/inference").ask(
            Complete(client_id="me", generate=Generate(prompt="count to 100", max_tokens=400)), timeout=30
        )
        assert answer.text.endswith(" 100")


async def test_without_tokens_no_domain_has_ended(tmp_path: Path) -> None:
    nobody: RecordingRef = RecordingRef("storage")
    access = Access(AccessSettings(data_folder=tmp_path), Storage(nobody, nobody))
    asked = await run_handler(access, FindEnded(frozenset({"", "0123456789ab"})))
    assert asked.reply == {"0123456789ab": "the token was revoked"}


CHAT = {"model": "mock", "max_tokens": 1000, "messages": [{"role": "user", "content": "count to 5000"}]}
OLLAMA = {"model": "mock", "options": {"num_predict": 1000}}
APIS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "chat, whole": ("/v1/chat/completions", CHAT),
    "completions": (
        "/v1/completions",
        {"model": "mock", "prompt": "count to 5000", "max_tokens": 1000, "stream": True},
    ),
    "responses": (
        "/v1/responses",
        {"model": "mock", "input": "count to 5000", "max_output_tokens": 1000, "stream": True},
    ),
    "responses, whole": ("/v1/responses", {"model": "mock", "input": "count to 5000", "max_output_tokens": 1000}),
    "messages": ("/v1/messages", {**CHAT, "stream": True}),
    "messages, whole": ("/v1/messages", CHAT),
    "ollama chat": ("/api/chat", {**OLLAMA, "messages": CHAT["messages"]}),
    "ollama generate": ("/api/generate", {**OLLAMA, "prompt": "count to 5000"}),
    "ollama, whole": ("/api/generate", {**OLLAMA, "prompt": "count to 5000", "stream": False}),
    "process": ("/ai/process", {"type": "message", **LONG}),
}


@pytest.fixture
async def told_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """Run a server in which nothing polls for ended tokens."""
    monkeypatch.setattr(token_changes, "LOOK_SECONDS", 3600.0)
    async with running_server(tmp_path, mock_step_seconds=STEP_SECONDS) as server:
        yield server


async def revoke(server: RunningServer, token: MadeToken) -> None:
    await server.system.reference("access").ask(RevokeToken(token.description.token_id), timeout=60)


@pytest.mark.parametrize("api", APIS)
async def test_hs7_a_revocation_is_told_to_what_it_ends_over_each_api(told_server: RunningServer, api: str) -> None:
    token = await make_token(told_server)
    path, body = APIS[api]
    told: list[tuple[int, str]] = []

    async def ask() -> None:
        async with (
            told_server.http(headers={"Authorization": f"Bearer {token.token}"}) as http,
            http.stream("POST", path, json=body) as response,
        ):
            text = ""
            async for part in response.aiter_text():
                text += part
            told.append((response.status_code, text))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)

        async def runs() -> bool:
            return await running(told_server) == 1

        await eventually(runs)
        await revoke(told_server, token)
    ((status, text),) = told
    assert status in ((401,) if "whole" in api or api == "process" else (200, 401)), text
    assert "the token was revoked" in text
    await told_server.until_no_row_is_taken()


async def test_hs7_a_revocation_ends_a_connection_and_what_nobody_follows(told_server: RunningServer) -> None:
    token, other = await make_token(told_server), await make_token(told_server)
    await begin_detached(told_server, token)
    await begin_detached(told_server, other)
    async with told_server.peer(hello=False) as peer:
        await peer.hello("me", token=token.token)
        assert (await peer.ask("generate", "g", {"prompt": LONG["content"], "max_tokens": 1000}))["type"] == "accepted"
        await revoke(told_server, token)
        assert await peer.close_code() == 4401

    async def only_the_others_runs() -> bool:
        return await running(told_server) == 1

    await eventually(only_the_others_runs)


async def test_hs7_a_response_in_the_background_ends_with_its_token(told_server: RunningServer) -> None:
    token = await make_token(told_server)
    body = {**APIS["responses, whole"][1], "background": True}
    async with told_server.http(headers={"Authorization": f"Bearer {token.token}"}) as http:
        begun = (await http.post("/v1/responses", json=body)).json()
    assert begun["status"] in ("queued", "in_progress"), begun

    async def runs() -> bool:
        return await running(told_server) == 1

    await eventually(runs)
    await revoke(told_server, token)
    await told_server.until_no_row_is_taken()
    # And not because it had come to its end.
    assert not {"stop", "length"} & (await told_server.snapshot("inference/inference"))["finished"].keys()


MCP = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
EVERY_DOOR: dict[str, tuple[str, dict[str, Any]]] = {
    **APIS,
    "MCP": ("/mcp", {**MCP, "params": {"name": "ask", "arguments": {"prompt": "count to 5000"}}}),
}
SOCKETS = ("WebSocket", "WebSocket at REST's port")
NOBODYS = ("response in the background", "detached")
"""Answers without a waiting client."""
HOUR_SECONDS = 3600


@pytest.mark.parametrize("way", ["expired", "forgotten"])
async def test_hs3_an_expired_or_forgotten_token_ends_what_it_began_over_every_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Revoked tokens are tested above. Each API has a client of its own, not delayed by the requests of others."""
    told: dict[str, tuple[int, str]] = {}
    names = [*EVERY_DOOR, *SOCKETS, *NOBODYS]
    reason = "the token has expired" if way == "expired" else "the token was revoked"
    async with running_server(tmp_path, mock_step_seconds=4 * STEP_SECONDS) as server:
        clients = tuple(f"c{number}" for number in range(len(names)))
        expires_ms = int((time.time() + HOUR_SECONDS) * 1000) if way == "expired" else None
        token = (await make_token(server, client_ids=clients, expires_ms=expires_ms)).token
        at_rest = evolve(
            server, about=evolve(server.about, websocket_url=server.about.rest_url.replace("http", "ws") + "/ws")
        )

        def http(client_id: str) -> httpx.AsyncClient:
            return server.http(
                headers={
                    "Authorization": f"Bearer {token}",
                    "X-Client-Id": client_id,
                    "Accept": "application/json, text/event-stream",
                }
            )

        async def ask(name: str, client_id: str) -> None:
            path, body = EVERY_DOOR[name]
            async with http(client_id) as client, client.stream("POST", path, json=body) as response:
                text = "".join([part async for part in response.aiter_text()])
                told[name] = response.status_code, text

        async def follow(name: str, client_id: str) -> None:
            entered = at_rest if "REST" in name else server
            async with entered.peer(hello=False) as peer:
                await peer.hello(client_id, token=token)
                question = {"prompt": LONG["content"], "max_tokens": 1000}
                assert (await peer.ask("generate", "g", question))["type"] == "accepted"
                code = await peer.close_code()
                told[name] = code, str(peer.websocket.close_reason)

        async with trio.open_nursery() as nursery:
            for name, client_id in zip(names, clients, strict=True):
                if name in EVERY_DOOR:
                    nursery.start_soon(ask, name, client_id)
                elif name in SOCKETS:
                    nursery.start_soon(follow, name, client_id)
            async with http(clients[-2]) as client:
                body = {**APIS["responses, whole"][1], "background": True}
                assert (await client.post("/v1/responses", json=body)).status_code == 200
            async with server.peer(hello=False) as peer:
                await peer.hello(clients[-1], token=token)
                question = {"prompt": LONG["content"], "max_tokens": 1000, "on_disconnect": "detach"}
                assert (await peer.ask("generate", "g", question))["type"] == "accepted"

            async def all_run() -> bool:
                assert told == {}, "ended before its token"
                return await running(server) == len(names)

            await eventually(all_run)
            if way == "expired":
                real = time.time
                monkeypatch.setattr(time, "time", lambda: real() + HOUR_SECONDS + 1)
            else:
                await server.system.reference("access").ask(ForgetTokens(), timeout=60)
        await server.until_no_row_is_taken()
        # And not because any of them had come to its end.
        assert not {"stop", "length"} & (await server.snapshot("inference/inference"))["finished"].keys()
    assert set(told) == {*EVERY_DOOR, *SOCKETS}
    for name, (status, text) in told.items():
        assert reason in text, (name, status, text[-200:])
        if name in SOCKETS:
            assert status == 4401, name
        elif "whole" in name or name == "process":
            assert status == 401, (name, text)
