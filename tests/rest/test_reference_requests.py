"""Requests of the kinds that the references of OpenAI, Anthropic and Ollama show, written by us, answered as those references say.

Embeddings are in `test_embeddings.py` and `test_ollama_embeddings.py`: they need the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.server_fixture import RunningServer

pytestmark = pytest.mark.integration

WEATHER = {
    "type": "object",
    "properties": {"location": {"type": "string", "description": "A city"}, "unit": {"enum": ["c", "f"]}},
    "required": ["location", "unit"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SEEN = '<tool_call>{"name": "weather", "arguments": {"location": "Bonn", "unit": "c"}}</tool_call>'
Judge = Callable[[httpx.Response], None]


# --- OpenAI's responses ------------------------------------------------------------------------------


def a_message(text: str) -> Judge:
    def judge(answer: httpx.Response) -> None:
        body = answer.json()
        assert (body["object"], body["status"]) == ("response", "completed")
        assert {"id", "created_at", "error", "incomplete_details", "instructions", "model", "output", "usage"} <= set(
            body
        )
        (message,) = body["output"]
        assert (message["type"], message["role"]) == ("message", "assistant")
        assert [(one["type"], one["text"]) for one in message["content"]] == [("output_text", text)]
        assert set(body["usage"]) == {
            "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens",
        }  # fmt: skip

    return judge


def a_function_call(answer: httpx.Response) -> None:
    call = answer.json()["output"][-1]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert set(json.loads(call["arguments"])) == {"location", "unit"}
    assert call["call_id"].startswith("call_")


def a_person(answer: httpx.Response) -> None:
    said = json.loads(answer.json()["output"][0]["content"][0]["text"])
    assert set(said) == {"name", "age"}


def ignoring(judge: Judge, *names: str) -> Judge:
    def both(answer: httpx.Response) -> None:
        judge(answer)
        assert answer.headers["leanvibe-ignored"].split(", ") == list(names)

    return both


def response_events(answer: httpx.Response) -> None:
    kinds = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"


FUNCTION = {"type": "function", "name": "weather", "description": "Tell it", "parameters": WEATHER, "strict": True}
SAID = "You said: tell a story"
RESPONSES: list[tuple[dict[str, Any], Judge]] = [
    ({"input": "tell a story"}, a_message(SAID)),
    ({"instructions": "Speak plainly.", "input": [{"role": "user", "content": "tell a story"}]}, a_message(SAID)),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "tell a story"}]}]}, a_message(SAID)),
    ({"input": "tell a story", "stream": True}, response_events),
    ({"input": "tell a story", "reasoning": {"effort": "high"}}, a_message(SAID)),
    (
        {"input": "tell a story", "tools": [{"type": "web_search_preview"}]},
        ignoring(a_message(SAID), "tools[].web_search_preview"),
    ),
    (
        {
            "input": "tell a story",
            "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 2}],
        },
        ignoring(a_message(SAID), "tools[].file_search"),
    ),
    ({"input": SEEN, "tools": [FUNCTION], "tool_choice": "auto"}, a_function_call),
    ({"input": "which?", "tools": [FUNCTION], "tool_choice": "required"}, a_function_call),
    (
        {"input": "who?", "text": {"format": {"type": "json_schema", "name": "p", "schema": PERSON, "strict": True}}},
        a_person,
    ),
]


# --- Anthropic's messages ----------------------------------------------------------------------------


def blocks(*kinds: str, reason: str = "end_turn") -> Judge:
    def judge(answer: httpx.Response) -> None:
        body = answer.json()
        assert set(body) >= {"id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage"}
        assert (body["type"], body["role"], body["stop_reason"]) == ("message", "assistant", reason)
        assert [one["type"] for one in body["content"]] == list(kinds)
        assert {"input_tokens", "output_tokens"} <= set(body["usage"])

    return judge


def message_events(answer: httpx.Response) -> None:
    kinds = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds[0] == "message_start"
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


STOCK = {"name": "weather", "description": "Tell it", "input_schema": WEATHER}
HELLO = {"role": "user", "content": "tell a story"}
TOLD = [
    {"role": "user", "content": SEEN},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"location": "Bonn", "unit": "c"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
]
MESSAGES: list[tuple[dict[str, Any], Judge]] = [
    ({"messages": [HELLO]}, blocks("text")),
    ({"messages": [HELLO, {"role": "assistant", "content": "Hm."}, HELLO]}, blocks("text")),
    ({"system": "Speak plainly.", "messages": [HELLO], "temperature": 0.5}, blocks("text")),
    (
        {
            "system": [{"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "tell a story"}]}],
            "metadata": {"user_id": "u"},
        },
        blocks("text"),
    ),
    ({"messages": [HELLO], "stop_sequences": ["said"]}, blocks("text", reason="stop_sequence")),
    ({"messages": [HELLO], "max_tokens": 3}, blocks("text", reason="max_tokens")),
    ({"messages": [HELLO], "stream": True}, message_events),
    ({"messages": [HELLO], "tools": [STOCK], "tool_choice": {"type": "any"}}, blocks("tool_use", reason="tool_use")),
    (
        {"messages": [HELLO], "tools": [STOCK], "tool_choice": {"type": "tool", "name": "weather"}},
        blocks("tool_use", reason="tool_use"),
    ),
    ({"messages": TOLD, "tools": [STOCK]}, blocks("text")),
]


# --- Ollama ------------------------------------------------------------------------------------------

MEASURED = {
    "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
}  # fmt: skip


def last_line(reason: str = "stop") -> Judge:
    def judge(answer: httpx.Response) -> None:
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert all({"model", "created_at", "done"} <= set(one) for one in lines)
        assert [one["done"] for one in lines] == [False] * (len(lines) - 1) + [True]
        assert lines[-1]["done_reason"] == reason
        assert set(lines[-1]) >= MEASURED or reason in ("load", "unload")

    return judge


def ollamas_person(answer: httpx.Response) -> None:
    body = answer.json()
    said = json.loads(body["response"] if "response" in body else body["message"]["content"])
    assert set(said) == {"name", "age"}


def ollamas_call(answer: httpx.Response) -> None:
    (call,) = answer.json()["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert call["function"]["arguments"] == {"location": "Bonn", "unit": "c"}


def scored(answer: httpx.Response) -> None:
    body = answer.json()
    said = body["response"] if "response" in body else body["message"]["content"]
    assert "".join(one["token"] for one in body["logprobs"]) == said
    for one in body["logprobs"]:
        assert set(one) == {"token", "logprob", "bytes", "top_logprobs"}
        # The mock engine knows of no other token.
        assert one["top_logprobs"] == [{name: one[name] for name in ("token", "logprob", "bytes")}]


OLLAMA: list[tuple[str, dict[str, Any], Judge]] = [
    ("generate", {"prompt": "tell a story"}, last_line()),
    ("generate", {"prompt": "tell a story", "stream": False}, last_line()),
    ("generate", {"prompt": "who?", "stream": False, "format": PERSON}, ollamas_person),
    ("generate", {"prompt": "tell a story", "raw": True, "stream": False}, last_line()),
    (
        "generate",
        {"prompt": "tell a story", "stream": False, "options": {"seed": 42, "temperature": 0, "num_predict": 3}},
        last_line("length"),
    ),
    ("generate", {}, last_line("load")),
    ("generate", {"prompt": "tell a story", "stream": False, "logprobs": True, "top_logprobs": 2}, scored),
    ("chat", {"messages": [HELLO]}, last_line()),
    ("chat", {"messages": [HELLO, {"role": "assistant", "content": "Hm."}, HELLO], "stream": False}, last_line()),
    ("chat", {"messages": [HELLO], "stream": False, "format": PERSON}, ollamas_person),
    (
        "chat",
        {"messages": [{"role": "user", "content": SEEN}], "stream": False, "tools": [
            {"type": "function", "function": {"name": "weather", "description": "Tell it", "parameters": WEATHER}},
        ]},
        ollamas_call,
    ),
    ("chat", {"messages": []}, last_line("load")),
    ("chat", {"messages": [HELLO], "stream": False, "logprobs": True, "top_logprobs": 3}, scored),
]  # fmt: skip


async def test_rq1_openais_requests_are_answered_as_its_reference_says(server: RunningServer) -> None:
    async with server.http() as http:
        for body, judge in RESPONSES:
            answer = await http.post("/v1/responses", json={"model": "mock", **body})
            assert answer.status_code == 200, answer.text
            judge(answer)


async def test_rq2_anthropics_requests_are_answered_as_its_reference_says(server: RunningServer) -> None:
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "unused"}
    async with server.http() as http:
        for body, judge in MESSAGES:
            answer = await http.post(
                "/v1/messages", json={"model": "mock", "max_tokens": 1024, **body}, headers=headers
            )
            assert answer.status_code == 200, answer.text
            judge(answer)


async def test_rq3_ollamas_requests_are_answered_as_its_reference_says(server: RunningServer) -> None:
    async with server.http() as http:
        for route, body, judge in OLLAMA:
            answer = await http.post(f"/api/{route}", json={"model": "mock", **body})
            assert answer.status_code == 200, answer.text
            judge(answer)


async def test_ol12_streamed_lines_have_the_log_probabilities_of_their_text(server: RunningServer) -> None:
    thought = "<think>\nHm.\n</think>\n\n"
    async with server.http() as http:
        for route, asked in (
            ("chat", {"messages": [{"role": "user", "content": thought + "Sunny."}]}),
            ("generate", {"prompt": "Sunny.", "raw": True}),
        ):
            answer = await http.post(f"/api/{route}", json={"model": "mock", **asked, "logprobs": True})
            lines = [json.loads(line) for line in answer.text.splitlines()]
            said = "".join(one["response"] if route == "generate" else one["message"]["content"] for one in lines)
            tokens = [entry["token"] for one in lines for entry in one.get("logprobs", ())]
            assert "".join(tokens).strip() == said.strip()
            assert "Sunny." in said
        for fields, param in (
            ({"top_logprobs": 2}, "top_logprobs"),
            ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
            ({"logprobs": 3}, "logprobs"),
        ):
            answer = await http.post("/api/generate", json={"model": "mock", "prompt": "x", **fields})
            assert answer.status_code == 400
            assert answer.json()["error"].startswith(param)
