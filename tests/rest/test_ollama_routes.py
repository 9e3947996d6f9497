"""Ollama's API over the wire: lines, tools, forms, models, signs of life, recovery and refusals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from actors.access.messages import CreateToken, RevokeToken
from actors.rest.ollama import routes
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "mock", "messages": [{"role": "user", "content": text}], **fields}


async def ask(server: RunningServer, path: str, body: dict[str, Any]) -> httpx.Response:
    async with server.http() as http:
        return await http.post(path, json=body)


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_ol1_an_answer_comes_in_lines_and_ends_with_what_was_measured(server: RunningServer, path: str) -> None:
    def text_of(line: dict[str, Any]) -> str:
        return str(line["message"]["content"] if path == "/api/chat" else line["response"])

    body = chat("count to 5") if path == "/api/chat" else {"model": "mock", "prompt": "count to 5"}
    lines = lines_of(await ask(server, path, {**body, "model": "mock:latest"}))
    assert "".join(text_of(one) for one in lines) == count_to(5)
    assert {one["model"] for one in lines} == {"mock:latest"}
    assert [one["done"] for one in lines] == [False] * (len(lines) - 1) + [True]
    last = lines[-1]
    assert last["done_reason"] == "stop"
    assert (last["prompt_eval_count"], last["eval_count"]) == (len("count to 5"), len(count_to(5)))
    parts = [last[name] for name in ("load_duration", "prompt_eval_duration", "eval_duration")]
    assert all(isinstance(one, int) and one >= 0 for one in parts)
    assert abs(sum(parts) - last["total_duration"]) <= 3
    whole = await ask(server, path, {**body, "stream": False})
    assert whole.headers["content-type"] == "application/json"
    assert text_of(whole.json()) == count_to(5)
    assert whole.json()["done"] is True


async def test_ol2_a_call_comes_in_one_piece_and_its_result_goes_back(server: RunningServer) -> None:
    whole = (await ask(server, "/api/chat", chat(CALL, tools=[LOOK], stream=False))).json()["message"]
    assert whole["content"].strip() == "You said:"
    assert [one["function"]["name"] for one in whole["tool_calls"]] == ["look"]
    assert whole["tool_calls"][0]["function"]["arguments"] == {"city": "Bonn"}
    lines = lines_of(await ask(server, "/api/chat", chat(CALL, tools=[LOOK])))
    assert [call for one in lines for call in one["message"].get("tool_calls", ())] == whole["tool_calls"]
    assert "<tool_call>" not in "".join(one["message"]["content"] for one in lines)
    history = [*chat(CALL)["messages"], whole, {"role": "tool", "tool_name": "look", "content": "Rain."}]
    after = await ask(server, "/api/chat", {"model": "mock", "messages": history, "tools": [LOOK], "stream": False})
    assert after.json()["message"]["content"] == "You said: Rain."


async def test_a_form_is_followed_and_a_raw_prompt_is_not_templated(server: RunningServer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for form in ("json", schema):
        answer = (await ask(server, "/api/chat", chat("hi", format=form, stream=False))).json()
        assert isinstance(json.loads(answer["message"]["content"]), dict)
    body = {"model": "mock", "prompt": "count to 3", "raw": True, "stream": False, "options": {"num_predict": 3}}
    answer = (await ask(server, "/api/generate", body)).json()
    assert (answer["response"], answer["done_reason"]) == ("1 2", "length")


async def test_models_are_told_with_their_context(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        assert (await http.get("/api/version")).json() == {"version": routes.API_VERSION}
        (mine,) = [one for one in (await http.get("/api/tags")).json()["models"] if one["name"] == "mock:latest"]
        assert mine["state"] == "loaded"
        (running,) = (await http.get("/api/ps")).json()["models"]
        assert (running["name"], running["context_length"]) == ("mock:latest", 8192)
        for body in ({"model": "mock"}, {"name": "mock:latest"}):
            shown = (await http.post("/api/show", json=body)).json()
            architecture = shown["model_info"]["general.architecture"]
            assert shown["model_info"][f"{architecture}.context_length"] == 8192
            assert shown["capabilities"] == ["completion", "tools"]


async def test_an_empty_request_loads_the_model_and_unloads_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.http() as http:
        for keep_alive, reason in (("5m", "load"), (0, "unload"), (None, "load")):
            body = {"model": "mock", "messages": [], "keep_alive": keep_alive, "stream": False}
            answer = (await http.post("/api/chat", json=body)).json()
            assert (answer["done"], answer["done_reason"]) == (True, reason)
            assert (await server.engine()).state == ("unloaded" if reason == "unload" else "ready")


async def test_ol3_a_stream_says_something_while_its_prompt_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "SIGN_OF_LIFE_SECONDS", 0.05)
    async with running_server(tmp_path, mock_step_seconds=0.005, max_rows=1) as server, server.peer() as peer:
        await peer.send("generate", "first", {"prompt": "count to 100"})
        assert (await peer.receive())["type"] in ("accepted", "token")
        lines = lines_of(await ask(server, "/api/chat", chat("hi")))
    assert [one["message"]["content"] for one in lines[:2]] == ["", ""]
    assert "".join(one["message"]["content"] for one in lines) == "You said: hi"


async def test_ol4_a_stream_goes_on_after_its_worker_was_killed(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        lines: list[dict[str, Any]] = []
        pid = (await server.engine()).worker_pid
        async with http.stream("POST", "/api/chat", json=chat("count to 100")) as response:
            async for line in response.aiter_lines():
                lines.append(json.loads(line))
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    pid = None
        assert "".join(one["message"]["content"] for one in lines) == count_to(100)
        assert lines[-1]["done_reason"] == "stop"
        assert (await server.engine()).restarts == 1


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
async def test_ol5_a_client_that_leaves_frees_its_row(tmp_path: Path, is_streamed: bool) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:

        async def leave_once_it_runs(scope: trio.CancelScope) -> None:
            async def runs() -> bool:
                return bool((await server.snapshot("inference/inference"))["running"])

            await eventually(runs)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_once_it_runs, nursery.cancel_scope)
            await http.post("/api/chat", json=chat("count to 900", stream=is_streamed))
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 1}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/chat", chat("x", model="other"), 404, "the model 'other' is not loaded; 'mock' is"),
        ("/api/chat", chat("x", tools=[{"type": "function", "function": {"name": "f"}}]), 400, "tools[0].function.parameters"),
        ("/api/chat", chat("x", tools=[LOOK, LOOK]), 400, "tools[1].function.name is a duplicate"),
        ("/api/chat", {"model": "mock", "messages": [{"role": "user", "content": "x", "images": ["AA=="]}]}, 400, "messages[0].images"),
        ("/api/chat", chat("x" * 9000), 400, "This model's maximum context length is 8192 tokens"),
        ("/api/chat", chat("x", format="xml"), 400, "format must be json or a JSON Schema"),
        ("/api/chat", chat("x", format={"type": "nonsense"}), 400, "format"),
        ("/api/chat", chat("x", options={"temperature": 3}), 400, "options.temperature must be at most 2"),
        ("/api/chat", chat("x", options={"top_k": 5000}), 400, "options.top_k must be at most the vocabulary's"),
        ("/api/generate", {"model": "mock", "prompt": "x", "suffix": "y"}, 400, "suffix is not supported"),
        ("/api/generate", {"model": "mock", "prompt": "x", "context": [1]}, 400, "context must be left out"),
        ("/api/generate", {"model": "mock", "prompt": "x", "raw": True, "system": "y"}, 400, "system may not be given with raw"),
        ("/api/embed", {"model": "mock", "input": "x"}, 400, "model 'mock' generates text and makes no embeddings"),
        ("/api/embed", {"model": "other", "input": "x"}, 404, "the model 'other' does not exist"),
        ("/api/embed", {"model": "all-minilm", "input": ["x", 3]}, 400, "input[1] must be a string"),
        ("/api/embed", {"model": "all-minilm", "input": 3}, 400, "input must be a string or an array of strings"),
        ("/api/embed", {"model": "all-minilm", "input": "x", "dimensions": 385}, 400, "dimensions must be at most 384"),
        ("/api/embed", {"model": "all-minilm", "input": ["x"] * 2049}, 400, "input may have at most 2048 elements"),
        ("/api/chat", {"model": "all-minilm", "messages": []}, 400, "model all-minilm-l6-v2 makes embeddings"),
        ("/api/show", {"model": "other"}, 404, "model 'other' not found"),
        ("/api/show", {}, 400, "model"),
        ("/api/copy", {}, 404, "POST /api/copy does not exist"),
    ],
)  # fmt: skip
async def test_ol6_what_is_wrong_is_named_in_ollamas_shape(
    server: RunningServer, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    response = await ask(server, path, body)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    assert response.json()["error"].startswith(words)


async def test_every_layer_refuses_in_ollamas_shape(server: RunningServer) -> None:
    async with server.http() as http:
        for status, options in [
            (400, {"content": b"{"}),
            (413, {"content": b" " * (2**20 + 1)}),
            (415, {"content": b"{}", "headers": {"content-type": "text/html"}}),
        ]:
            response = await http.post("/api/chat", **options)
            assert response.status_code == status
            assert set(response.json()) == {"error"}
        response = await http.delete("/api/chat")
        assert (response.status_code, set(response.json())) == (405, {"error"})


async def test_tokens_and_roles_hold_here_too(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.02) as server:
        access = server.system.reference("access")
        made = await access.ask(CreateToken(client_ids=("me",)), timeout=60)
        async with server.http() as http:
            refused = await http.post("/api/chat", json=chat("x"))
            assert (refused.status_code, set(refused.json())) == (401, {"error"})
        async with server.http(headers={"Authorization": f"Bearer {made.token}"}) as http:
            assert [one["name"] for one in (await http.get("/api/tags")).json()["models"]] == [
                "mock:latest",
                "all-minilm-l6-v2:latest",
            ]
            assert (await http.post("/api/show", json={"model": "mock-other"})).status_code == 404
            refused = await http.post("/api/chat", json={"model": "mock", "keep_alive": 0})
            assert (refused.status_code, set(refused.json())) == (403, {"error"})
            lines: list[dict[str, Any]] = []
            async with http.stream("POST", "/api/chat", json=chat("count to 900")) as response:
                async for line in response.aiter_lines():
                    lines.append(json.loads(line))
                    if len(lines) == 3:
                        await access.ask(RevokeToken(made.description.token_id), timeout=60)
            assert lines[-1] == {"error": "the token was revoked"}


async def test_what_is_passed_over_is_named(server: RunningServer) -> None:
    body = chat(
        "x", think=True, keep_alive="5m", odd=1, options={"num_ctx": 4096, "num_gpu": 1, "what": 2}, stream=False
    )
    body["messages"][0]["strange"] = 1
    response = await ask(server, "/api/chat", body)
    assert response.status_code == 200
    assert set(response.headers["leanvibe-ignored"].split(", ")) == {
        "keep_alive", "odd", "options.num_ctx", "options.num_gpu", "options.what", "messages[].strange",
    }  # fmt: skip
