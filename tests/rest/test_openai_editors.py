"""What editors send to `/v1` beyond the question: which of it is taken, and what a refusal tells their people to set."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from actors.rest.openai.requests import ChatCompletionRequest
from protocol.codec import structure
from tests.server_fixture import RunningServer, count_to

pytestmark = pytest.mark.integration

QUESTION: dict[str, Any] = {"role": "user", "content": "count to 3"}


async def post(server: RunningServer, path: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.about.rest_url, timeout=10) as client:
        return await client.post(path, json={"model": "mock", **body})


async def chat(server: RunningServer, **fields: Any) -> httpx.Response:
    return await post(server, "/v1/chat/completions", {"messages": [QUESTION], **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "auto", "modalities": ["text"], "verbosity": "medium", "reasoning_effort": "none"},
        {"service_tier": "default", "metadata": {}, "store": False, "n": 1},
        {"safety_identifier": "someone", "prompt_cache_key": "window-1", "user": "someone"},
        dict.fromkeys(
            [
                "audio",
                "metadata",
                "modalities",
                "moderation",
                "prediction",
                "prompt_cache_key",
                "prompt_cache_retention",
                "reasoning_effort",
                "safety_identifier",
                "service_tier",
                "verbosity",
                "stop",
                "tools",
                "tool_choice",
                "response_format",
                "stream_options",
            ]
        ),
        {"messages": [{"role": "system", "content": ""}, QUESTION]},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": ""}]}, QUESTION]},
        {"messages": [QUESTION, {"role": "assistant", "content": ""}, QUESTION]},
        {
            "messages": [
                QUESTION,
                {
                    "role": "assistant",
                    "content": "1 2 3",
                    "refusal": None,
                    "audio": None,
                    "function_call": None,
                    "tool_calls": None,
                },
                QUESTION,
            ]
        },
    ],
    ids=lambda fields: " ".join(fields)[:40],
)
async def test_what_asks_for_nothing_more_is_taken(server: RunningServer, fields: dict[str, Any]) -> None:
    answer = await chat(server, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == count_to(3)


@pytest.mark.parametrize(
    ("fields", "parameter", "words"),
    [
        ({"modalities": ["text", "audio"]}, "modalities", "text"),
        ({"audio": {"voice": "ash", "format": "mp3"}}, "audio", "null"),
        ({"moderation": {"model": "x"}}, "moderation", "null"),
        ({"safety_identifier": "x" * 513}, "safety_identifier", "512"),
        ({"prompt_cache_key": 7}, "prompt_cache_key", "string"),
        ({"web_search_options": {}}, "web_search_options", "left out"),
        ({"guided_json": {}}, "guided_json", "response_format"),
        ({"response_format": {"type": "text", "x": 1}}, "response_format.x", "leave it out"),
        ({"messages": [{**QUESTION, "images": ["x"]}]}, "messages[0].images", "text"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_refusal_says_what_to_set(
    engineless_server: RunningServer, fields: dict[str, Any], parameter: str, words: str
) -> None:
    answer = await chat(engineless_server, **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == parameter
    assert error["message"].startswith(parameter)
    assert words in error["message"]


@pytest.mark.parametrize(
    "content",
    ["", [{"type": "text", "text": ""}], [{"type": "text", "text": ""}, {"type": "text", "text": ""}]],
    ids=["text", "part", "parts"],
)
@pytest.mark.parametrize("turn", [0, 2])
async def test_a_question_without_content_is_refused_by_name(
    engineless_server: RunningServer, content: Any, turn: int
) -> None:
    messages = [QUESTION, {"role": "assistant", "content": "1 2 3"}, QUESTION]
    messages[turn] = {"role": "user", "content": content}
    answer = await chat(engineless_server, messages=messages)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == f"messages[{turn}].content"
    assert "must not be empty" in answer.json()["error"]["message"]


def test_a_call_and_its_result_may_be_without_content() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    messages = [QUESTION, asked, {"role": "tool", "tool_call_id": "c", "content": ""}]
    request = structure({"model": "m", "messages": messages}, ChatCompletionRequest)
    assert [one.text for one in request.messages] == ["count to 3", "", ""]


@pytest.mark.parametrize("stream", [False, True])
async def test_fields_that_are_passed_over_are_named_in_a_header(server: RunningServer, stream: bool) -> None:
    odd = {"colour": 1, "a b,\r\nc": 2, "service_tier": "priority", "store": True, "typical_p": 0.5, "ä" * 100: 3}
    answer = await chat(server, **odd, stream=stream, messages=[{**QUESTION, "opts": 1, "id": 7}])
    assert answer.status_code == 200, answer.text
    named = answer.headers["LeanVibe-Ignored"].split(", ")
    assert named[:5] == ["colour", "a%20b%2C%0D%0Ac", "service_tier", "store", "typical_p"]
    assert "messages[].opts" in named
    assert len(named) == 7
    quiet = await chat(server, service_tier="auto", user="x", metadata={"a": "b"})
    assert "LeanVibe-Ignored" not in quiet.headers
    old = await post(server, "/v1/completions", {"prompt": "count to 3", "colour": 1, "top_k": 5})
    assert (old.headers["LeanVibe-Ignored"], old.json()["choices"][0]["text"]) == ("colour", count_to(3))


async def test_the_log_tells_of_a_passed_over_field_once_for_each_client(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        await chat(server, colour=1)
    seen = [line for line in capsys.readouterr().out.splitlines() if "fields ignored" in line]
    assert len(seen) == 1
    assert "colour" in seen[0]


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/fim/completions", "/v1/", "/v1/v1/models"])
async def test_a_route_that_is_not_there_tells_those_that_are(engineless_server: RunningServer, path: str) -> None:
    answer = await post(engineless_server, path, {})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "unknown_url")
    assert error["message"].startswith(f"POST {path} does not exist")
    for route in ("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        assert route in error["message"]
