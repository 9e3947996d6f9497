"""Reasoning over the wire in the shape of each API, streamed and whole: apart from the answer, counted, and left out on demand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server_fixture import RunningServer

pytestmark = pytest.mark.integration

THOUGHT = "<think>\nHm, <b>so</b>.\n</think>\n\n"
SAID = "Sunny."
CALL = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'
LOOK = {"name": "look", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


async def ask(server: RunningServer, path: str, text: str = THOUGHT + SAID, **fields: Any) -> Any:
    """The mock engine answers with the question."""
    asked = {} if "input" in fields else {"messages": [{"role": "user", "content": text}]}
    body = {"model": "mock", **asked, **fields}
    async with server.http() as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    assert "leanvibe-ignored" not in response.headers
    if not fields.get("stream"):
        return response.json()
    lines = [line.removeprefix("data: ") for line in response.text.splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_rt2_chat_completions_have_reasoning_content_and_count_it(server: RunningServer) -> None:
    whole = await ask(server, "/v1/chat/completions")
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm, <b>so</b>.", SAID)
    counted = whole["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert counted == len(THOUGHT), "the mock's tokens are bytes"
    assert whole["usage"]["completion_tokens"] == len(THOUGHT + SAID)
    chunks = await ask(server, "/v1/chat/completions", stream=True, stream_options={"include_usage": True})
    deltas = [one["choices"][0]["delta"] for one in chunks if one["choices"]]
    assert "".join(one.get("reasoning_content", "") for one in deltas) == "Hm, <b>so</b>."
    assert "".join(one.get("content") or "" for one in deltas) == SAID
    assert chunks[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == counted


async def test_log_probabilities_are_those_of_the_answer(server: RunningServer) -> None:
    whole = await ask(server, "/v1/chat/completions", logprobs=True)
    scored = whole["choices"][0]["logprobs"]["content"]
    assert "".join(one["token"] for one in scored).strip() == SAID
    chunks = await ask(server, "/v1/chat/completions", logprobs=True, stream=True)
    streamed = [entry for one in chunks for entry in (one["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert streamed == scored


async def test_rt2_messages_have_a_thinking_block_with_a_signature(server: RunningServer) -> None:
    whole = await ask(server, "/v1/messages", max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 1024})
    thinking, text = whole["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "Hm, <b>so</b>.")
    assert text == {"type": "text", "text": SAID}
    events = await ask(server, "/v1/messages", max_tokens=4000, stream=True)
    kinds = [one["content_block"]["type"] for one in events if one["type"] == "content_block_start"]
    assert kinds == ["thinking", "text"]
    deltas = [one["delta"] for one in events if one["type"] == "content_block_delta"]
    assert "".join(one.get("thinking", "") for one in deltas) == "Hm, <b>so</b>."
    assert [one["signature"] for one in deltas if one["type"] == "signature_delta"] == [thinking["signature"]]
    again = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [thinking, text]},
        {"role": "user", "content": "y"},
    ]
    assert (await ask(server, "/v1/messages", max_tokens=99, messages=again))["content"] == [
        {"type": "text", "text": "You said: y"}
    ]


async def test_rt2_ollamas_lines_have_thinking(server: RunningServer) -> None:
    whole = await ask(server, "/api/chat", stream=False, think=True)
    assert whole["message"] == {"role": "assistant", "content": SAID, "thinking": "Hm, <b>so</b>."}
    lines = await ask(server, "/api/chat", stream=True)
    assert "".join(one["message"].get("thinking", "") for one in lines) == "Hm, <b>so</b>."
    assert "".join(one["message"]["content"] for one in lines) == SAID
    async with server.http() as http:
        one = (
            await http.post("/api/generate", json={"model": "mock", "prompt": THOUGHT + SAID, "stream": False})
        ).json()
        raw = {"model": "mock", "prompt": THOUGHT + SAID, "stream": False, "raw": True}
        assert (await http.post("/api/generate", json=raw)).json()["response"] == THOUGHT + SAID, "as it stands"
    assert (one["thinking"], one["response"]) == ("Hm, <b>so</b>.", SAID)


async def test_a_call_behind_reasoning_is_a_call(server: RunningServer) -> None:
    tools = [{"type": "function", "function": LOOK}]
    whole = await ask(server, "/v1/chat/completions", THOUGHT + CALL, tools=tools)
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm, <b>so</b>.", None)
    assert message["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"city": "Bonn"}'}


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/v1/chat/completions", "reasoning_effort", "enormous"),
        ("/v1/chat/completions", "chat_template_kwargs", {"enable_thinking": "no"}),
        ("/v1/chat/completions", "enable_thinking", 1),
        ("/v1/messages", "thinking", {"type": "sometimes"}),
        ("/v1/messages", "thinking", {"type": "enabled", "budget_tokens": "many"}),
        ("/api/chat", "think", "much"),
    ],
)
async def test_another_word_for_thinking_is_refused_by_name(
    server: RunningServer, path: str, field: str, value: Any
) -> None:
    body = {"model": "mock", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], field: value}
    if path == "/api/chat":
        del body["max_tokens"]
    async with server.http() as http:
        response = await http.post(path, json=body)
    assert response.status_code == 400
    assert field in response.text


async def test_rt3_thinking_may_be_turned_off_in_the_words_of_each_api(server: RunningServer) -> None:
    for path, fields in (
        ("/v1/chat/completions", {"reasoning_effort": "none"}),
        ("/v1/chat/completions", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("/v1/messages", {"thinking": {"type": "disabled"}, "max_tokens": 99}),
        ("/api/chat", {"think": False, "stream": False}),
    ):
        assert SAID in json.dumps(await ask(server, path, SAID, **fields))


@pytest.mark.parametrize("is_stored", [True, False])
async def test_rs17_reasoning_tokens_are_counted_over_every_api(server: RunningServer, is_stored: bool) -> None:
    whole = await ask(server, "/v1/responses", input=THOUGHT + SAID, store=is_stored)
    events = await ask(server, "/v1/responses", input=THOUGHT + SAID, store=is_stored, stream=True)
    for usage in (whole["usage"], events[-1]["response"]["usage"]):
        assert usage["output_tokens"] == len(THOUGHT + SAID)
        assert usage["output_tokens_details"] == {"reasoning_tokens": len(THOUGHT)}
    plain = await ask(server, "/v1/responses", input=SAID, store=is_stored)
    assert plain["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}
