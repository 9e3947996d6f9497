"""Serving promise 17 at `/v1`: tools with the official client.

The mock engine repeats what it is told, so a test writes the model's answer itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import trio

from actors.inference.messages import ToolCallFormat
from actors.inference.text.text_model import CheckpointText
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


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def chat(server: RunningServer, **fields: Any) -> Any:
    def run() -> Any:
        url = f"{server.about.rest_url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120) as client:
            made = client.chat.completions.create(**{"model": "mock", "tools": TOOLS, **fields})
            return list(made) if fields.get("stream") else made

    return await trio.to_thread.run_sync(run)


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
    begun = [one for one in calls if one.id is not None]
    assert [(one.index, one.type, one.function.name, one.function.arguments) for one in begun] == [
        (index, "function", "look", "") for index in range(len(arguments))
    ]
    assert len({one.id for one in begun}) == len(begun)
    pieces = [one for one in calls if one.id is None]
    assert all(one.type is None and one.function.name is None and one.function.arguments for one in pieces)
    told = ["".join(one.function.arguments for one in pieces if one.index == index) for index in range(len(begun))]
    assert told == arguments
    assert deltas[-1].finish_reason == reason


async def test_a_long_call_comes_as_it_is_written_and_is_the_whole_one_in_the_end(server: RunningServer) -> None:
    arguments = json.dumps({"text": 'say "</tool_call>" ' + " ".join(map(str, range(300)))}, ensure_ascii=False)
    text = f'<tool_call>{{"name": "look", "arguments": {arguments}}}</tool_call>'
    whole = (await chat(server, messages=said(text))).choices[0].message
    assert whole.tool_calls[0].function.arguments == arguments

    def helper() -> Any:
        url = f"{server.about.rest_url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120) as client:
            made = client.chat.completions.stream(model="mock", tools=TOOLS, messages=said(text))
            with made as stream:
                kinds = [one.type for one in stream]
                return kinds, stream.get_final_completion().choices[0].message

    kinds, message = await trio.to_thread.run_sync(helper)
    assert kinds.count("tool_calls.function.arguments.delta") > 10
    assert kinds.count("tool_calls.function.arguments.done") == 1
    assert message.tool_calls[0].function.arguments == arguments
    assert (message.content or "") == whole.content == "You said:"
    # Cut in the middle of its arguments.
    cut = len("You said: ") + text.index("0 1 2 3") + 100
    whole = (await chat(server, messages=said(text), max_tokens=cut)).choices[0]
    chunks = [one.choices[0] for one in await chat(server, messages=said(text), max_tokens=cut, stream=True)]
    pieces = [call.function.arguments for one in chunks for call in one.delta.tool_calls or ()]
    assert "".join(pieces) == whole.message.tool_calls[0].function.arguments
    assert arguments.startswith("".join(pieces))
    assert len("".join(pieces)) > 100
    assert (whole.finish_reason, chunks[-1].finish_reason) == ("length", "length")


async def test_a_reply_with_calls_and_their_results_goes_back_as_the_next_turn(server: RunningServer) -> None:
    message = (await chat(server, messages=said(CALL))).choices[0].message
    history = [*said(CALL), message]
    history += [{"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain."}]
    assert (await chat(server, messages=history)).choices[0].message.content == "You said: Rain."
    assert (await chat(server, messages=history, tools=[])).choices[0].message.content == "You said: Rain."


@pytest.mark.parametrize("as_kept", [lambda message: message, lambda message: message.model_dump()])
async def test_a_streamed_call_as_the_client_keeps_it_goes_back_as_the_next_turn(
    server: RunningServer, as_kept: Callable[[Any], Any]
) -> None:
    def two_turns() -> Any:
        url = f"{server.about.rest_url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120) as client:
            with client.chat.completions.stream(model="mock", tools=TOOLS, messages=said(CALL)) as stream:
                stream.until_done()
                message = stream.get_final_completion().choices[0].message
            assert message.tool_calls
            result: Any = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Rain."}
            history: list[Any] = [*said(CALL), as_kept(message), result]
            return client.chat.completions.create(model="mock", tools=TOOLS, messages=history)

    assert (await trio.to_thread.run_sync(two_turns)).choices[0].message.content == "You said: Rain."


async def test_with_tool_choice_none_nothing_is_called(server: RunningServer) -> None:
    answer = await chat(server, messages=said(CALL), tool_choice="none")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (f"You said: {CALL}", "stop")
    assert answer.choices[0].message.tool_calls is None


CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "x"}


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
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
        ({"tools": TOOLS * 2}, "tools[1].function.name"),
        ({"tools": [{**TOOLS[0], "type": "shell"}]}, "tools[0].type"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}],
                "tool_choice": "required",
            },
            "tools[0].function.parameters",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
            "response_format",
        ),
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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "reason"), [("required", "tool_calls"), ({"type": "function", "function": {"name": "look"}}, "stop")]
)
async def test_a_call_is_forced_on_a_model_whose_template_has_no_tools(
    server: RunningServer, choice: Any, reason: str, stream: bool
) -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**63 - 1}}, "required": ["n"]}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters, "strict": True}}]
    made = await chat(server, messages=said("x"), tools=tools, tool_choice=choice, stream=stream)
    choices = [one.choices[0] for one in made] if stream else made.choices
    messages = [one.delta if stream else one.message for one in choices]
    calls = [call for one in messages for call in one.tool_calls or ()]
    assert [one.function.name for one in calls if one.id] == ["look"]
    assert type(json.loads("".join(one.function.arguments for one in calls))["n"]) is int
    assert "".join(one.content or "" for one in messages) == ""
    assert choices[-1].finish_reason == reason


async def test_strict_functions_leave_the_model_free_to_answer(server: RunningServer) -> None:
    strict = [{"type": "function", "function": {**TOOLS[0]["function"], "strict": True}}]
    answer = await chat(server, messages=said("hello"), tools=strict, parallel_tool_calls=False)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You said: hello", "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_forced_call_that_is_cut_is_told_as_far_as_it_came(server: RunningServer, stream: bool) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    for length, arguments in ((3, None), (20, None), (60, '{"city": "You said:')):
        made = await chat(
            server, messages=said("hello"), tools=tools, tool_choice="required", max_tokens=length, stream=stream
        )
        choices = [one.choices[0] for one in made] if stream else made.choices
        messages = [one.delta if stream else one.message for one in choices]
        calls = [call for one in messages for call in one.tool_calls or ()]
        assert "".join(one.content or "" for one in messages) == ""
        assert choices[-1].finish_reason == "length"
        assert len([one for one in calls if one.id]) == (arguments is not None)
        if arguments is not None:
            assert "".join(one.function.arguments for one in calls).startswith(arguments)


async def test_an_answer_with_tools_and_a_schema_follows_it_unless_it_calls(server: RunningServer) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 7}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = (await chat(server, messages=said("x"), response_format=form)).choices[0]
    assert json.loads(answer.message.content) == {"a": 7}
    none = (await chat(server, messages=said("x"), response_format=form, tool_choice="none")).choices[0]
    assert json.loads(none.message.content) == {"a": 7}
    forced = (await chat(server, messages=said("x"), response_format=form, tool_choice="required")).choices[0]
    assert forced.message.tool_calls[0].function.name == "look"
    with pytest.raises(openai.BadRequestError) as refused:
        await chat(
            server,
            messages=said("x"),
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        )
    assert refused.value.param == "response_format"


async def test_models_and_health_say_how_tools_are_told(server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.http() as http:
        listed = (await http.get("/v1/models")).json()["data"][0]
        assert (await http.get("/v1/models/mock")).json() == listed
        assert (await http.get("/health/mlx")).json()["tools"] == "generic"
    assert (listed["tools"], listed["state"], listed["context_length"]) == ("generic", "ready", 8192)
    assert listed["max_model_len"] == listed["max_output_tokens"] == 8192
    capabilities = listed["capabilities"]
    assert (capabilities["tools"], capabilities["json_schema"], capabilities["vision"]) == (True, True, False)


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
