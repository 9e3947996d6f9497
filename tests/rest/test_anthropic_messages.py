"""Anthropic's Messages API over the wire: events in their order, usage, tools, signs of life, recovery and refusals."""

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
from actors.rest.anthropic import routes
from actors.rest.anthropic.errors import anthropic_error
from actors.rest.problems import problem_of
from protocol.errors import ErrorCode
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

VERSION = {"anthropic-version": "2023-06-01"}
LOOK = {
    "name": "look",
    "description": "Look out of the window",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'


def body(text: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "mock", "max_tokens": 8000, "messages": [{"role": "user", "content": text}], **fields}


async def ask(server: RunningServer, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    async with server.http() as http:
        return await http.post(path, json=body(**fields), headers=VERSION)


def events_of(text: str) -> list[dict[str, Any]]:
    """The data of each event, whose name is its type's."""
    events = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    deltas = [one["delta"] for one in events if one["type"] == "content_block_delta"]
    return "".join(one.get("text", "") for one in deltas)


async def test_a_whole_answer_has_anthropics_shape(server: RunningServer) -> None:
    response = await ask(server, text="count to 5", metadata={"user_id": "u"}, cache_control={"type": "ephemeral"})
    assert response.status_code == 200
    assert "leanvibe-ignored" not in response.headers
    assert response.headers["request-id"] == response.headers["x-request-id"]
    answer = response.json()
    assert answer.pop("id").startswith("msg_")
    usage = answer.pop("usage")
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len("count to 5")
    assert usage["output_tokens"] == len(count_to(5))
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "mock",
        "content": [{"type": "text", "text": count_to(5)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }


async def test_an1_a_stream_has_the_events_of_anthropics_reference_in_their_order(server: RunningServer) -> None:
    response = await ask(server, text="count to 5", stream=True)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = events_of(response.text)
    kinds = [one["type"] for one in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert text_of(events) == count_to(5)
    assert events[0]["message"]["usage"]["input_tokens"] == len("count to 5")
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == len(count_to(5))


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("fields", "text", "reason", "stop"),
    [
        ({"stop_sequences": ["9", "4"]}, "1 2 3 ", "stop_sequence", "4"),
        ({"max_tokens": 3}, "1 2", "max_tokens", None),
    ],
    ids=["stop sequence", "length"],
)
async def test_the_end_says_why(
    server: RunningServer, is_streamed: bool, fields: dict[str, Any], text: str, reason: str, stop: str | None
) -> None:
    response = await ask(server, text="count to 12", stream=is_streamed, **fields)
    if is_streamed:
        events = events_of(response.text)
        assert text_of(events) == text
        assert events[-2]["delta"] == {"stop_reason": reason, "stop_sequence": stop}
    else:
        answer = response.json()
        assert answer["content"] == [{"type": "text", "text": text}]
        assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, stop)


@pytest.mark.parametrize("choice", [None, {"type": "any"}, {"type": "tool", "name": "look"}])
async def test_an2_a_streamed_call_is_the_one_of_the_whole_answer(server: RunningServer, choice: Any) -> None:
    fields = {"text": CALL, "tools": [LOOK], **({} if choice is None else {"tool_choice": choice})}
    answer = (await ask(server, **fields)).json()
    (call,) = [one for one in answer["content"] if one["type"] == "tool_use"]
    assert call["name"] == "look"
    assert call["id"].startswith("toolu_")
    assert isinstance(call["input"]["city"], str)
    assert answer["stop_reason"] == "tool_use"
    assert not any("<tool_call>" in one.get("text", "") for one in answer["content"])

    events = events_of((await ask(server, stream=True, **fields)).text)
    (start,) = [
        one for one in events if one["type"] == "content_block_start" and one["content_block"]["type"] == "tool_use"
    ]
    assert start["content_block"]["input"] == {}
    deltas = [one["delta"] for one in events if one.get("index") == start["index"] and "delta" in one]
    assert {one["type"] for one in deltas} == {"input_json_delta"}
    assert json.loads("".join(one["partial_json"] for one in deltas)) == call["input"]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    blocks = [
        (one["type"], one["index"]) for one in events if one["type"] in ("content_block_start", "content_block_stop")
    ]
    assert blocks == [
        (kind, index) for index in range(len(blocks) // 2) for kind in ("content_block_start", "content_block_stop")
    ]


async def test_a_call_and_its_result_go_back_as_the_next_turn(server: RunningServer) -> None:
    content = (await ask(server, text=CALL, tools=[LOOK])).json()["content"]
    (call,) = [one for one in content if one["type"] == "tool_use"]
    thought = {"type": "thinking", "thinking": "I look.", "signature": "x"}
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "Rain."}]}
    history = [*body(CALL)["messages"], {"role": "assistant", "content": [thought, *content]}]
    history += [{"role": "user", "content": [result]}]
    for tools in ([LOOK], []):
        response = await ask(server, messages=history, tools=tools)
        assert response.json()["content"] == [{"type": "text", "text": "You said: Rain."}], response.text


async def test_with_tool_choice_none_nothing_is_called(server: RunningServer) -> None:
    answer = (await ask(server, text=CALL, tools=[LOOK], tool_choice={"type": "none"})).json()
    assert answer["content"] == [{"type": "text", "text": f"You said: {CALL}"}]
    assert answer["stop_reason"] == "end_turn"


async def test_a_schema_is_followed(server: RunningServer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = (await ask(server, output_config={"format": {"type": "json_schema", "schema": schema}})).json()
    assert isinstance(json.loads(answer["content"][0]["text"])["a"], int)


async def test_an3_the_count_of_tokens_is_that_of_the_answered_prompt(server: RunningServer) -> None:
    fields = {"text": "grüße", "system": "Be brief.", "tools": [LOOK]}
    counted = (await ask(server, "/v1/messages/count_tokens", **fields)).json()
    usage = (await ask(server, **fields)).json()["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}
    async with server.http() as http:
        without_length = {name: value for name, value in body(**fields).items() if name != "max_tokens"}
        response = await http.post("/v1/messages/count_tokens", json=without_length)
    assert response.json() == counted


async def test_an4_a_stream_pings_while_its_prompt_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "SIGN_OF_LIFE_SECONDS", 0.05)
    async with running_server(tmp_path, mock_step_seconds=0.005, max_rows=1) as server, server.peer() as peer:
        await peer.send("generate", "first", {"prompt": "count to 100"})
        assert (await peer.receive())["type"] in ("accepted", "token")
        events = events_of((await ask(server, text="hi", stream=True)).text)
    assert [one["type"] for one in events[:3]] == ["message_start", "ping", "ping"]
    assert events[-1]["type"] == "message_stop"


async def test_an5_a_stream_goes_on_after_its_worker_was_killed(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        request = body("count to 100", stream=True)
        async with http.stream("POST", "/v1/messages", json=request, headers=VERSION) as response:
            received, pid = "", (await server.engine()).worker_pid
            async for piece in response.aiter_text():
                received += piece
                if "text_delta" in received and pid is not None:
                    os.kill(pid, signal.SIGKILL)
                    pid = None
        assert pid is None
        assert text_of(events_of(received)) == count_to(100)
        assert events_of(received)[-1]["type"] == "message_stop"
        assert (await server.engine()).restarts == 1


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
async def test_an6_a_client_that_leaves_frees_its_row(tmp_path: Path, is_streamed: bool) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:

        async def leave_once_it_runs(scope: trio.CancelScope) -> None:
            async def runs() -> bool:
                return bool((await server.snapshot("inference/inference"))["running"])

            await eventually(runs)
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_once_it_runs, nursery.cancel_scope)
            await http.post("/v1/messages", json=body("count to 900", stream=is_streamed))
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 1}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_x", "content": "x"}


@pytest.mark.parametrize(
    ("fields", "status", "kind", "words"),
    [
        ({"model": "other"}, 404, "not_found_error", "the model 'other' is not loaded; 'mock' is"),
        ({"tools": [{"name": "look"}]}, 400, "invalid_request_error", "tools[0].input_schema must be a JSON Schema"),
        ({"tools": [LOOK, LOOK]}, 400, "invalid_request_error", "tools[1].name is a duplicate"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, 400, "invalid_request_error", "tools[0].type must be custom"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "invalid_request_error", "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, 400, "invalid_request_error", "messages[0].content[0].tool_use_id"),
        ({"messages": []}, 400, "invalid_request_error", "messages must be an array"),
        ({"messages": [{"role": "user", "content": ""}]}, 400, "invalid_request_error", "messages[0].content must not be empty"),
        ({"text": "x" * 9000}, 400, "invalid_request_error", "prompt is too long: 9000 tokens > 8192 maximum"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens is required"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens must be at least 1"),
        ({"temperature": 1.5}, 400, "invalid_request_error", "temperature must be at most 1"),
        ({"stop": ["a"]}, 400, "invalid_request_error", "stop is a field of another API: send stop_sequences"),
        ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "tool_choice may only be given with tools"),
        ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "x"}}, 400, "invalid_request_error", "tool_choice.name"),
        (
            {"tools": [{**LOOK, "input_schema": {"type": "object", "properties": {"a": {"type": "x"}}}}], "tool_choice": {"type": "any"}},
            400,
            "invalid_request_error",
            "tools[0].input_schema",
        ),
    ],
)  # fmt: skip
async def test_an7_what_is_wrong_is_named_in_anthropics_shape(
    server: RunningServer, fields: dict[str, Any], status: int, kind: str, words: str
) -> None:
    for stream in (False, True):
        response = await ask(server, stream=stream, **fields)
        assert response.status_code == status, response.text
        answer = response.json()
        assert answer == {"type": "error", "error": {"type": kind, "message": answer["error"]["message"]}}
        assert answer["error"]["message"].startswith(words)
        assert response.headers["request-id"]


async def test_every_layer_refuses_in_anthropics_shape(server: RunningServer) -> None:
    async with server.http() as http:
        seen = {}
        for name, method, path, options in [
            ("version", "POST", "/v1/messages", {"json": body(), "headers": {"anthropic-version": "2031-01-01"}}),
            ("route", "POST", "/v1/messages/batches", {"json": {}}),
            ("method", "GET", "/v1/messages", {}),
            ("body", "POST", "/v1/messages", {"content": b"{", "headers": VERSION}),
            ("size", "POST", "/v1/messages", {"content": b" " * (2**20 + 1)}),
            ("type", "POST", "/v1/messages", {"content": b"{}", "headers": {"content-type": "text/html"}}),
            ("method of none", "get", "/v1/messages", {}),
            ("model", "GET", "/v1/models/other", {"headers": VERSION}),
        ]:
            request = http.build_request(method, path, **options)
            request.method = method
            response = await http.send(request)
            assert response.headers["content-type"] == "application/json", (name, response.text)
            answer = response.json()
            assert set(answer) == {"type", "error"}, name
            assert set(answer["error"]) == {"type", "message"}
            seen[name] = (response.status_code, answer["error"]["type"])
    assert seen == {
        "version": (400, "invalid_request_error"),
        "route": (404, "not_found_error"),
        "method": (405, "invalid_request_error"),
        "body": (400, "invalid_request_error"),
        "size": (413, "request_too_large"),
        "type": (415, "invalid_request_error"),
        "method of none": (405, "invalid_request_error"),
        "model": (404, "not_found_error"),
    }


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (ErrorCode.RATE_LIMITED, 429, "rate_limit_error"),
        (ErrorCode.SHUTTING_DOWN, 503, "overloaded_error"),
        (ErrorCode.DEADLINE_EXCEEDED, 504, "timeout_error"),
        (ErrorCode.INTERNAL, 500, "api_error"),
    ],
)
def test_faults_of_the_server_have_anthropics_types(code: ErrorCode, status: int, kind: str) -> None:
    body, told = anthropic_error(problem_of(code, "words"))
    assert (told, body["error"]) == (status, {"type": kind, "message": "words"})


async def test_an8_a_token_may_come_as_anthropics_clients_send_it(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.02) as server:
        access = server.system.reference("access")
        made = await access.ask(CreateToken(client_ids=("me",)), timeout=60)
        async with server.http(headers=VERSION) as http:
            for headers in ({}, {"x-api-key": "lv_wrong"}):
                refused = await http.post("/v1/messages", json=body(), headers=headers)
                assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
            assert (await http.post("/v1/messages", json=body(), headers={"x-api-key": made.token})).status_code == 200
            forbidden = await http.get("/v1/models", headers={"x-api-key": made.token, "X-Client-Id": "other"})
            assert (forbidden.status_code, forbidden.json()["error"]["type"]) == (403, "permission_error")
            lines: list[str] = []
            request = body("count to 900", stream=True)
            async with http.stream("POST", "/v1/messages", json=request, headers={"x-api-key": made.token}) as response:
                async for line in response.aiter_lines():
                    lines.append(line)
                    if len(lines) == 9:
                        await access.ask(RevokeToken(made.description.token_id), timeout=60)
        events = events_of("\n".join(lines) + "\n")
        assert events[-1]["error"] == {"type": "authentication_error", "message": "the token was revoked"}


async def test_what_is_passed_over_is_named(server: RunningServer) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi", "odd": 1}], "strange": 1}
    response = await ask(
        server, messages=[message], thinking={"type": "enabled", "budget_tokens": 1024}, unheard_of=1,
        output_config={"effort": "low"}, service_tier="auto", tools=[{**LOOK, "cache_control": None, "other": 1}],
    )  # fmt: skip
    assert response.status_code == 200, response.text
    assert set(response.headers["leanvibe-ignored"].split(", ")) == {
        "unheard_of", "output_config.effort", "messages[].strange", "messages[].content[].odd", "tools[].other",
    }  # fmt: skip
