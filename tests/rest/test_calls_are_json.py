"""Arguments of calls are JSON at every API, whatever the model writes: clients parse them, some of them while they stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server_fixture import RunningServer

pytestmark = pytest.mark.integration

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
OPENAI_TOOLS = [{"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}]
ANTHROPIC_TOOLS = [{"name": "look", "input_schema": PARAMETERS}]
HEAD = '<tool_call>{"name": "look", "arguments": '


async def ask(server: RunningServer, path: str, text: str, **fields: Any) -> str:
    body = {"model": "mock", "messages": [{"role": "user", "content": text}], **fields}
    async with server.http() as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.text


def data_of(events: str) -> list[Any]:
    lines = [one.removeprefix("data: ") for one in events.split("\n") if one.startswith("data: ")]
    return [json.loads(one) for one in lines if one != "[DONE]"]


async def openai(server: RunningServer, text: str, **fields: Any) -> tuple[str, str, str]:
    """Arguments of the one call, whole and streamed, and why both ended."""
    asked = {"tools": OPENAI_TOOLS, **fields}
    whole = json.loads(await ask(server, "/v1/chat/completions", text, **asked))["choices"][0]
    chunks = data_of(await ask(server, "/v1/chat/completions", text, stream=True, **asked))
    choices = [one["choices"][0] for one in chunks]
    pieces = [call["function"]["arguments"] for one in choices for call in one["delta"].get("tool_calls", ())]
    assert choices[-1]["finish_reason"] == whole["finish_reason"]
    (call,) = whole["message"]["tool_calls"]
    return call["function"]["arguments"], "".join(pieces), whole["finish_reason"]


async def anthropic(server: RunningServer, text: str, **fields: Any) -> tuple[Any, str]:
    asked = {"tools": ANTHROPIC_TOOLS, "max_tokens": 500, **fields}
    whole = json.loads(await ask(server, "/v1/messages", text, **asked))
    events = data_of(await ask(server, "/v1/messages", text, stream=True, **asked))
    pieces = [one["delta"].get("partial_json", "") for one in events if one["type"] == "content_block_delta"]
    (block,) = [one for one in whole["content"] if one["type"] == "tool_use"]
    return block["input"], "".join(pieces)


async def ollama(server: RunningServer, text: str, **fields: Any) -> tuple[list[Any], list[Any]]:
    whole = json.loads(await ask(server, "/api/chat", text, tools=OPENAI_TOOLS, stream=False, **fields))
    lines = [
        json.loads(one) for one in (await ask(server, "/api/chat", text, tools=OPENAI_TOOLS, **fields)).splitlines()
    ]
    streamed = [call for one in lines for call in one["message"].get("tool_calls", ())]
    return whole["message"].get("tool_calls", []), streamed


@pytest.mark.parametrize(
    "written", ['{"city": Bonn}}', '{"city" "Bonn"}}', "{city: 1}}", '{"city": "B\n"}}', '{"city": NaN}}']
)
async def test_oa28_arguments_are_json_at_every_api(server: RunningServer, written: str) -> None:
    text = HEAD + written + "</tool_call>"
    arguments, streamed, reason = await openai(server, text)
    assert isinstance(json.loads(arguments), dict)
    assert (streamed, reason) == (arguments, "tool_calls")
    block, pieces = await anthropic(server, text)
    assert json.loads(pieces) == block == json.loads(arguments)
    calls, lines = await ollama(server, text)
    assert calls == lines
    assert calls[0]["function"]["arguments"] == block


async def test_oa28_a_call_that_a_stop_text_cuts_is_not_to_be_carried_out(server: RunningServer) -> None:
    text = HEAD + '{"city": "Bonn is END far"}}</tool_call>'
    arguments, streamed, reason = await openai(server, text, stop=["END"])
    assert arguments == streamed == '{"city": "Bonn is '
    assert reason == "stop"
    assert await anthropic(server, text, stop_sequences=["END"]) == ({}, streamed)
    assert await ollama(server, text, options={"stop": ["END"]}) == ([], [])
    assert await ollama(server, text, options={"num_predict": len("You said: " + HEAD) + 12}) == ([], [])
