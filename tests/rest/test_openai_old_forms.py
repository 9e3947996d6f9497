"""Forms of OpenAI's API that few clients send: token ids, `ignore_eos`, `allowed_tools`, and the older `functions`."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
import trio

from actors.inference.messages import GenerateFromIds, GenerateWithTools, ToolCallFormat
from actors.rest.openai.requests import generate_from_chat, generates_from_prompts, read_chat, read_completion
from protocol.errors import InvalidField
from tests.server_fixture import RunningServer

pytestmark = pytest.mark.integration

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTIONS: list[Any] = [{"name": "look", "parameters": CITY}, {"name": "book", "parameters": CITY}]
TOOLS: list[Any] = [{"type": "function", "function": one} for one in FUNCTIONS]
CALL = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def read(**fields: Any) -> Any:
    """The engine's request for a chat with these fields."""
    request, _ = read_chat({"model": "m", "messages": said("x"), **fields})
    return generate_from_chat(request, ToolCallFormat.TAGGED)


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def ask(server: RunningServer, kind: str = "chat", **fields: Any) -> Any:
    def run() -> Any:
        url = f"{server.about.rest_url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=60) as client:
            endpoint: Any = client.chat.completions if kind == "chat" else client.completions
            made = endpoint.create(**{"model": "mock", **fields})
            return list(made) if fields.get("stream") else made

    return await trio.to_thread.run_sync(run)


# --- token ids --------------------------------------------------------------------------------------


async def test_token_ids_are_a_prompt_as_they_stand(server: RunningServer) -> None:
    ids = list(b"count to 3")
    one = await ask(server, "completions", prompt=ids)
    assert (one.choices[0].text, one.usage.prompt_tokens) == ("1 2 3", len(ids))
    several = await ask(server, "completions", prompt=[ids, list(b"count to 2")], n=2)
    assert [choice.text for choice in several.choices] == ["1 2 3", "1 2 3", "1 2", "1 2"]
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(server, "completions", prompt=[1, 257])
    assert refused.value.param == "prompt"
    assert "the vocabulary has 257" in refused.value.message


def test_token_ids_and_texts_may_be_mixed() -> None:
    request, _ = read_completion({"model": "m", "prompt": ["a", [1, 2], "b"]})
    first, second, _ = generates_from_prompts(request)
    assert first.prompt == "a"
    assert isinstance(second, GenerateFromIds)
    assert second.prompt_ids == [1, 2]


# --- ignore_eos -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_ignores_its_end_has_its_length(server: RunningServer, stream: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if stream else {}
    for fields in (
        {"kind": "completions", "prompt": "count to 3"},
        {"messages": said("count to 3")},
        {"messages": said("count to 3"), "tools": TOOLS},
    ):
        made = await ask(server, **fields, max_tokens=40, extra_body={"ignore_eos": True}, stream=stream, **options)
        last = made[-2] if stream else made
        assert last.choices[0].finish_reason == "length"
        assert (made[-1] if stream else made).usage.completion_tokens == 40


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "parallel_tool_calls": False},
        {"functions": FUNCTIONS},
    ],
    ids=["schema", "forced", "one call", "old form"],
)
def test_a_form_cannot_go_on_past_its_end(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as refused:
        read(ignore_eos=True, **fields)
    assert refused.value.field == "body.ignore_eos"


# --- allowed_tools ----------------------------------------------------------------------------------


async def test_of_the_tools_only_those_that_are_allowed_are_called(server: RunningServer) -> None:
    forced = await ask(server, messages=said("x"), tools=TOOLS, tool_choice=allowed("required", "book"))
    assert {call.function.name for call in forced.choices[0].message.tool_calls} == {"book"}
    assert forced.choices[0].finish_reason == "tool_calls"
    free = await ask(server, messages=said(CALL), tools=TOOLS, tool_choice=allowed("auto", "look", "book"))
    assert free.choices[0].message.tool_calls[0].function.name == "look"
    other = await ask(server, messages=said(CALL), tools=TOOLS, tool_choice=allowed("auto", "book"))
    assert other.choices[0].message.content == f"You said: {CALL}"


def test_the_model_is_told_all_tools_whichever_are_allowed() -> None:
    request, _ = read_chat(
        {"model": "m", "messages": said("x"), "tools": TOOLS, "tool_choice": allowed("required", "book")}
    )
    generate = generate_from_chat(request, ToolCallFormat.TAGGED)
    assert isinstance(generate, GenerateWithTools)
    assert generate.tools is not None
    assert generate.call_rule is not None
    assert [one["function"]["name"] for one in generate.tools] == ["look", "book"]
    assert [one.name for one in generate.call_rule.functions] == ["book"]


@pytest.mark.parametrize(
    ("choice", "path"),
    [
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
        ({"type": "allowed_tools", "allowed_tools": {"tools": []}}, "tool_choice.allowed_tools.mode"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "tool_choice.allowed_tools.tools"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]}},
            "tool_choice.allowed_tools.tools[0]",
        ),
        (allowed("auto", "look", "other"), "tool_choice.allowed_tools.tools[1].function.name"),
        ({**allowed("auto", "look"), "more": 1}, "tool_choice.more"),
        ({"type": "custom"}, "tool_choice.type"),
    ],
    ids=str,
)
def test_a_choice_of_allowed_tools_that_is_none_is_refused_by_name(choice: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(tools=TOOLS, tool_choice=choice)
    assert refused.value.field == f"body.{path}"


# --- functions, the older form of tools -------------------------------------------------------------


async def test_functions_are_answered_in_the_old_form_whole_and_streamed(server: RunningServer) -> None:
    options = {"messages": said(CALL), "functions": FUNCTIONS}
    choice = (await ask(server, **options)).choices[0]
    assert (choice.message.function_call.name, choice.message.tool_calls) == ("look", None)
    assert json.loads(choice.message.function_call.arguments) == {"city": "Bonn"}
    assert choice.finish_reason == "function_call"
    chunks = [one.choices[0] for one in await ask(server, **options, stream=True)]
    pieces = [one.delta.function_call for one in chunks if one.delta.function_call is not None]
    assert (pieces[0].name, pieces[0].arguments) == ("look", "")
    assert all(one.name is None for one in pieces[1:])
    assert "".join(one.arguments for one in pieces) == choice.message.function_call.arguments
    assert not any(one.delta.tool_calls for one in chunks)
    assert chunks[-1].finish_reason == "function_call"
    named = (await ask(server, messages=said("x"), functions=FUNCTIONS, function_call={"name": "book"})).choices[0]
    assert (named.message.function_call.name, named.finish_reason) == ("book", "stop")
    none = (await ask(server, **options, function_call="none")).choices[0]
    assert (none.message.content, none.finish_reason) == (f"You said: {CALL}", "stop")


async def test_a_function_call_and_its_result_are_the_next_turn(server: RunningServer) -> None:
    message = (await ask(server, messages=said(CALL), functions=FUNCTIONS)).choices[0].message
    result = {"role": "function", "name": "look", "content": "Rain."}
    history = [*said(CALL), message, result]
    assert (await ask(server, messages=history, functions=FUNCTIONS)).choices[0].message.content == "You said: Rain."
    assert (await ask(server, messages=history)).choices[0].message.content == "You said: Rain."
    request, _ = read_chat({"model": "m", "messages": [*said("x"), message.model_dump(), result]})
    generate = generate_from_chat(request, ToolCallFormat.TAGGED)
    assert isinstance(generate, GenerateWithTools)
    called, told = generate.turns[1:]
    assert called["tool_calls"][0]["function"] == {"name": "look", "arguments": {"city": "Bonn"}}
    assert (told["role"], told["name"]) == ("tool", "look")
    assert told["tool_call_id"] == called["tool_calls"][0]["id"]


CALLED = {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"functions": FUNCTIONS, "tools": TOOLS}, "functions"),
        ({"functions": FUNCTIONS, "tool_choice": "auto"}, "functions"),
        ({"functions": FUNCTIONS, "function_call": {"name": "other"}}, "function_call.name"),
        ({"function_call": {"name": "look"}}, "function_call.name"),
        ({"functions": FUNCTIONS, "function_call": "required"}, "function_call"),
        ({"functions": FUNCTIONS, "function_call": {"name": "look", "more": 1}}, "function_call.more"),
        ({"functions": [FUNCTIONS[0]] * 2}, "functions[1].name"),
        ({"functions": [{"name": "no name"}]}, "functions[0].name"),
        ({"messages": [*said("x"), {"role": "function", "content": "x"}]}, "messages[1].name"),
        ({"messages": [*said("x"), {"role": "function", "name": "look", "content": "x"}]}, "messages[1].name"),
        ({"messages": [*said("x"), {**CALLED, "role": "user"}]}, "messages[1].function_call"),
        ({"messages": [*said("x"), {**CALLED, "function_call": {"arguments": "{}"}}]}, "messages[1].function_call"),
    ],
    ids=str,
)
def test_old_forms_that_cannot_be_read_are_refused_by_name(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read(**fields)
    assert str(refused.value.field).startswith(f"body.{path}")
