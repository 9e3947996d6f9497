"""Serving promise 17 at `/v1`: tools with the official client, where the loaded model's template has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from actors.inference.messages import ToolCallFormat
from actors.inference.text.text_model import CheckpointText, MockText
from actors.rest.openai.requests import ChatCompletionRequest, generate_from_chat
from protocol.codec import structure
from tests.inference.test_text_model import WITH_TOOLS
from tests.inference.tiny_text import write_text_folder
from tests.server_fixture import RunningServer

pytestmark = pytest.mark.integration

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "look", "description": "Look", "parameters": {"type": "object", "properties": {}}},
    }
]
CALL = '<tool_call>{"name": "look", "arguments": {"place": "Bonn"}}</tool_call>'


@pytest.fixture
def _template_with_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mock engine repeats what it is told, so a test writes the model's answer itself."""
    monkeypatch.setattr(MockText, "tool_call_format", ToolCallFormat.TAGGED)


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def chat(server: RunningServer, **fields: Any) -> Any:
    def run() -> Any:
        url = f"{server.about.rest_url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=10) as client:
            made = client.chat.completions.create(**{"model": "mock", "tools": TOOLS, **fields})
            return list(made) if fields.get("stream") else made

    return await trio.to_thread.run_sync(run)


@pytest.mark.usefixtures("_template_with_tools")
@pytest.mark.parametrize(
    ("text", "content", "arguments", "reason"),
    [
        (f"{CALL}\n{CALL}", "You said:", ['{"place": "Bonn"}'] * 2, "tool_calls"),
        ("<tool_call>{broken</tool_call>", "You said: <tool_call>{broken</tool_call>", [], "stop"),
        (CALL.replace("look", "other"), f"You said: {CALL.replace('look', 'other')}", [], "stop"),
        ("nothing to call", "You said: nothing to call", [], "stop"),
    ],
    ids=["two calls", "malformed", "not offered", "text"],
)
async def test_a_streamed_reply_has_the_calls_of_the_whole_one_promise_17(
    server: RunningServer, text: str, content: str, arguments: list[str], reason: str
) -> None:
    whole = (await chat(server, messages=said(text), tool_choice="auto")).choices[0]
    assert whole.message.content == content
    assert [one.function.arguments for one in whole.message.tool_calls or ()] == arguments
    assert whole.finish_reason == reason
    deltas = [one.choices[0] for one in await chat(server, messages=said(text), stream=True)]
    assert "".join(one.delta.content or "" for one in deltas) == content
    calls = [call for one in deltas for call in one.delta.tool_calls or ()]
    assert [(one.index, one.function.name, one.function.arguments) for one in calls] == [
        (index, "look", one) for index, one in enumerate(arguments)
    ]
    assert len({one.id for one in calls}) == len(calls)
    assert deltas[-1].finish_reason == reason


@pytest.mark.usefixtures("_template_with_tools")
async def test_a_reply_with_calls_and_their_results_goes_back_as_the_next_turn(server: RunningServer) -> None:
    message = (await chat(server, messages=said(CALL))).choices[0].message
    history = [*said(CALL), message]
    history += [{"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain."}]
    assert (await chat(server, messages=history)).choices[0].message.content == "You said: Rain."
    assert (await chat(server, messages=history, tools=[])).choices[0].message.content == "You said: Rain."


@pytest.mark.usefixtures("_template_with_tools")
@pytest.mark.parametrize("as_kept", [lambda message: message, lambda message: message.model_dump()])
async def test_a_streamed_call_as_the_client_keeps_it_goes_back_as_the_next_turn(
    server: RunningServer, as_kept: Callable[[Any], Any]
) -> None:
    def two_turns() -> Any:
        url = f"{server.about.rest_url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=10) as client:
            with client.chat.completions.stream(model="mock", tools=TOOLS, messages=said(CALL)) as stream:
                stream.until_done()
                message = stream.get_final_completion().choices[0].message
            assert message.tool_calls
            result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain."}
            history: list[Any] = [*said(CALL), as_kept(message), result]
            return client.chat.completions.create(model="mock", tools=TOOLS, messages=history)

    assert (await trio.to_thread.run_sync(two_turns)).choices[0].message.content == "You said: Rain."


@pytest.mark.usefixtures("_template_with_tools")
async def test_with_tool_choice_none_nothing_is_called(server: RunningServer) -> None:
    answer = await chat(server, messages=said(CALL), tool_choice="none")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (f"You said: {CALL}", "stop")
    assert answer.choices[0].message.tool_calls is None


CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "x"}


@pytest.mark.usefixtures("_template_with_tools")
@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        # The mock engine follows no grammar, and says which field would need one.
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "look"}}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "name": "look"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "function", "function": {"name": 1}}}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "function", "function": {"name": "look"}, "x": 1}}, "tool_choice.x"),
        ({"tool_choice": {"type": "function", "function": {"name": "look", "y": 1}}}, "tool_choice.function.y"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": TOOLS * 2}, "tools[1].function.name"),
        ({"tools": [{**TOOLS[0], "type": "shell"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"messages": [RESULT]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{**CALLED, "role": "user"}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": []}]}, "messages[0].content"),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "[]"}}],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_what_of_tools_is_not_carried_out_is_refused_by_name(
    engineless_server: RunningServer, options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(engineless_server, **{"messages": said("x"), **options})
    assert refused.value.param == parameter


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({}, "tools"),
        ({"tool_choice": "required"}, "tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "messages": [CALLED]}, "messages[0].tool_calls"),
        ({"tools": [], "messages": [RESULT]}, "messages[0].role"),
    ],
    ids=["tools", "forced", "forced without tools", "calls", "results"],
)
async def test_without_tools_in_the_template_they_are_refused_by_name(
    engineless_server: RunningServer, options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="chat template has no tools") as refused:
        await chat(engineless_server, **{"messages": said("x"), **options})
    assert refused.value.param == parameter


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": "\\ud83d"}',
        '{"a": "\\ude00\\ud83d"}',
        '{"\\udfff": 1}',
        '{"a": [{"b": "x\\ud800y"}]}',
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "half of an ans',
        '{"a": "\\ud83d\\ude00", "b": 12345678901234567890, "c": [[1.5e300]]}',
    ],
    ids=lambda text: text[:24],
)
def test_past_arguments_are_shown_to_the_model_whatever_they_are(tmp_path: Path, arguments: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(WITH_TOOLS)
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    messages = [
        *said("x"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
    ]
    request = structure({"model": "m", "messages": messages, "tools": TOOLS}, ChatCompletionRequest)
    assert CheckpointText(folder).encode(generate_from_chat(request, ToolCallFormat.TAGGED))
