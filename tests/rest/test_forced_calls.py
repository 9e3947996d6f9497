"""Serving promise 17 with the embedded model's weights: calls that must be made, with OpenAI's own clients, whole and streamed.

The embedded model's template has no tools, so it is served under one that has; it never learned to call anything, which is
why every call here was forced.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from tests.rest.embedded_under_template import serving_under
from tests.rest.test_openai_node import FOLDER, node
from tests.system.serving_process import ServingProcess

__all__ = ["node"]

pytestmark = [pytest.mark.mlx_real_inference, pytest.mark.integration]

TEMPLATE = (
    "{% if tools %}<|im_start|>system\nYou may call these functions:\n"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    'To call one, answer <tool_call>{"name": …, "arguments": …}</tool_call><|im_end|>\n{% endif %}'
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Bonn", "Paris", "Rome"]}},
    "required": ["city"],
}
PARAMETERS = {"weather": WEATHER, "book": CITY}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
    for name, parameters in PARAMETERS.items()
]
ASKED: list[Any] = [{"role": "user", "content": "What is the weather in Paris tomorrow?"}]
BOOK = {"type": "function", "function": {"name": "book"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """The real program with the embedded weights under a template with tools."""
    with serving_under(tmp_path_factory.mktemp("tools"), "with-tools", TEMPLATE) as started:
        yield started


def chat(server: ServingProcess, **fields: Any) -> Any:
    with openai.OpenAI(
        base_url=f"{server.about['rest_url']}/v1", api_key="unused", max_retries=0, timeout=120
    ) as client:
        made = client.chat.completions.create(
            **{"model": "with-tools", "messages": ASKED, "tools": TOOLS, "temperature": 0, "max_tokens": 200, **fields}
        )
        return list(made) if fields.get("stream") else made


def valid(call: Any) -> tuple[str, str]:
    """Name and arguments of a call, which were held against its parameters."""
    jsonschema.validate(json.loads(call.function.arguments), PARAMETERS[call.function.name])
    return call.function.name, call.function.arguments


@pytest.mark.parametrize("temperature", [0, 1.5])
@pytest.mark.parametrize(
    ("options", "names", "reason"),
    [
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"weather", "book"}, "tool_calls"),
        # OpenAI says `stop` where the client named the function.
        ({"tool_choice": BOOK}, {"book"}, "stop"),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, {"weather"}, "stop"),
    ],
    ids=["required", "book", "weather"],
)
def test_a_call_that_must_be_made_is_made_and_valid_whole_and_streamed_promise_17(
    server: ServingProcess, options: dict[str, Any], names: set[str], reason: str, temperature: float
) -> None:
    options = {**options, "temperature": temperature, "seed": 7}
    whole = chat(server, **options).choices[0]
    assert (whole.message.content, whole.finish_reason) == (None, reason)
    called = [valid(one) for one in whole.message.tool_calls]
    assert len(called) == 1
    assert called[0][0] in names
    chunks = chat(server, **options, stream=True, stream_options={"include_usage": True})
    choices = [one.choices[0] for one in chunks if one.choices]
    pieces = [call for one in choices for call in one.delta.tool_calls or ()]
    assert [(one.function.name, one.function.arguments) for one in pieces if one.id] == [(called[0][0], "")]
    assert "".join(one.function.arguments for one in pieces) == called[0][1]
    assert len(pieces) > 3, "a piece for each few tokens"
    assert "".join(one.delta.content or "" for one in choices) == ""
    assert choices[-1].finish_reason == reason
    assert chunks[-1].usage.completion_tokens > 0


def test_several_calls_may_be_required_and_each_is_valid(server: ServingProcess) -> None:
    answer = chat(server, tool_choice="required", temperature=1.0, seed=3, max_tokens=120).choices[0]
    if answer.finish_reason == "length":
        assert answer.message.tool_calls is None or all(valid(one) for one in answer.message.tool_calls)
    else:
        assert answer.finish_reason == "tool_calls"
        assert 1 <= len([valid(one) for one in answer.message.tool_calls]) <= 16


def test_a_forced_call_is_made_beside_answers_that_are_free(server: ServingProcess) -> None:
    alone = chat(server, tools=[], max_tokens=24).choices[0].message.content
    with openai.OpenAI(base_url=f"{server.about['rest_url']}/v1", api_key="unused", timeout=120) as client:
        free = client.chat.completions.create(
            model="with-tools", messages=ASKED, temperature=0, max_tokens=24, stream=True
        )
        forced = chat(server, tool_choice=BOOK).choices[0]
        assert "".join(one.choices[0].delta.content or "" for one in free) == alone
    assert valid(forced.message.tool_calls[0])[0] == "book"


def test_a_free_answer_with_strict_functions_is_text_or_valid_calls(server: ServingProcess) -> None:
    strict = [{**one, "function": {**one["function"], "strict": True}} for one in TOOLS]
    for seed in range(2):
        answer = chat(server, tools=strict, temperature=1.0, seed=seed, max_tokens=40, parallel_tool_calls=False)
        message = answer.choices[0].message
        calls = [valid(one) for one in message.tool_calls or ()]
        assert len(calls) <= 1
        assert calls or message.content


def test_what_was_called_and_its_result_are_the_next_turn(server: ServingProcess) -> None:
    message = chat(server, tool_choice=BOOK).choices[0].message
    history = [*ASKED, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "It is booked."}]
    answer = chat(server, messages=history, tool_choice="none", max_tokens=20).choices[0]
    assert answer.message.content
    assert answer.message.tool_calls is None


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"type": "array"}, "object"),
        ({"type": "object", "properties": {"a": {"type": "nonsense"}}}, "must be a type of JSON Schema"),
        ({"type": "object", "properties": {"a": {"enum": ["x" * 70_000]}}}, "over 65536"),
    ],
    ids=["no object", "no schema", "huge"],
)
def test_parameters_that_cannot_be_followed_are_refused_and_named(
    server: ServingProcess, parameters: dict[str, Any], says: str
) -> None:
    tools = [*TOOLS, {"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        chat(server, tools=tools, tool_choice="required")
    assert refused.value.param == "tools[2].function.parameters"


def test_the_node_client_forces_a_call(server: ServingProcess, node: str) -> None:
    command = [node, str(FOLDER / "openai_tools.mjs"), f"{server.about['rest_url']}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("whole", "streamed"):
        assert found[name]["name"] == "book"
        jsonschema.validate(json.loads(found[name]["arguments"]), CITY)
    assert found["whole"]["arguments"] == found["streamed"]["arguments"]
    assert (found["required"]["reason"], found["required"]["calls"] >= 1) == ("tool_calls", True)


HALVES = ["\ud83d", "\ude00\ud83d", "a\udfffb"]


@pytest.mark.parametrize("half", HALVES, ids=ascii)
def test_half_a_surrogate_in_a_past_call_is_answered_at_every_api(server: ServingProcess, half: str) -> None:
    arguments, key = {"place": half, half: 1}, "with-tools"
    text = json.dumps(arguments)
    parameters = {"type": "object"}
    nested = {"type": "function", "function": {"name": "look", "parameters": parameters}}

    def chat_messages(shown: Any) -> list[Any]:
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": shown}}
        return [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "ok"},
        ]

    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": chat_messages(text), "tools": [nested], "max_tokens": 3},
        "/api/chat": {
            "messages": chat_messages(arguments), "tools": [nested], "stream": False, "options": {"num_predict": 3},
        },
        "/v1/responses": {
            "input": [
                {"role": "user", "content": "x"},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": text},
                {"type": "function_call_output", "call_id": "c", "output": "ok"},
            ],
            "tools": [{"type": "function", "name": "look", "parameters": parameters}],
            "max_output_tokens": 16,
        },
        "/v1/messages": {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "look", "input": arguments}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "ok"}]},
            ],
            "tools": [{"name": "look", "input_schema": parameters}],
            "max_tokens": 3,
        },
    }  # fmt: skip
    answers: dict[str, httpx.Response] = {}
    with httpx.Client(base_url=server.about["rest_url"], trust_env=False, timeout=120) as client:
        for path, body in bodies.items():
            # Escaped, as a client's own JSON writer does it: raw halves are no UTF-8.
            content = json.dumps({"model": key, **body})
            answers[path] = client.post(path, content=content, headers={"Content-Type": "application/json"})
    # Arguments that are a text are shown to the model as they stand; as an object they are the body's own.
    statuses = {path: answered.status_code for path, answered in answers.items()}
    assert statuses == {"/v1/chat/completions": 200, "/v1/responses": 200, "/api/chat": 400, "/v1/messages": 400}
    for path, place in (("/api/chat", "tool_calls[0].function.arguments"), ("/v1/messages", "content[0].input")):
        assert place in answers[path].text
        assert "a lone surrogate" in answers[path].text
