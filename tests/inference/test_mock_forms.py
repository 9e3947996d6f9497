"""The mock engine holds its answers to schemas and calls as a model does, so that clients can be tried without one."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from actors.inference.messages import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.inference.sampling import Sampling
from actors.inference.schema_bounds import MAXIMUM_INTEGER, check_bounds, within_64_bits
from actors.inference.text.text_model import MockText
from actors.inference.worker.mock import MockStepper
from actors.inference.worker.stepper import Row

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 18, "maximum": 2**70},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2},
        "address": {
            "anyOf": [{"type": "null"}, {"type": "object", "properties": {"é": {"type": "number"}}, "required": ["é"]}]
        },
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": False,
}


def answer(prompt: str, *, emitted: tuple[int, ...] = (), **fields: Any) -> tuple[str, list[int]]:
    stepper = MockStepper()
    row = Row(
        row=1, prompt_ids=list(prompt.encode()), emitted_ids=list(emitted), max_tokens=400,
        stop_ids=frozenset({MockText.END}), sampling=Sampling(), **fields,
    )  # fmt: skip
    stepper.admit(row, stepper.prepare(row))
    ids = list(emitted)
    while stepper.has_work():
        ids += [one.token_id for one in stepper.step().emitted]
    assert ids[-1] == MockText.END, "it ended by itself"
    return bytes(ids[:-1]).decode(), ids


def rule(**fields: Any) -> ToolCallConstraint:
    functions = tuple(
        CallableFunction(name=name, parameters=parameters, path="tools[0].function.parameters")
        for name, parameters in (("look", PERSON), ("wait", None))
    )
    return ToolCallConstraint(
        **{
            "tool_call_format": ToolCallFormat.TAGGED, "functions": functions, "is_required": True, "most_calls": 4,
            "source_field": "tool_choice", **fields,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"const": "a<end>é"},
        {"type": "boolean"},
        {"type": "array", "items": PERSON, "minItems": 1},
        {"type": "object"},
    ],
    ids=["object", "const", "boolean", "array", "anything"],
)
def test_an_answer_follows_its_schema_and_has_of_the_text_what_fits(schema: dict[str, Any]) -> None:
    text, _ = answer("Hello", response_schema=schema)
    jsonschema.validate(json.loads(text), schema)
    if schema is PERSON:
        assert json.loads(text)["name"] == "You said: Hello"


def test_an_answer_that_goes_on_after_a_workers_death_is_the_same() -> None:
    _, ids = answer("Hello", response_schema=PERSON)
    for cut in range(0, len(ids) - 1, 7):
        assert answer("Hello", emitted=tuple(ids[:cut]), response_schema=PERSON)[1] == ids


def test_a_call_that_must_be_made_is_made() -> None:
    text, _ = answer("Hello", call_rule=rule(functions=rule().functions[:1]))
    assert text.startswith('<tool_call>{"name": "look", "arguments": {"name": "You said: Hello"')
    called = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
    jsonschema.validate(called["arguments"], PERSON)


def test_a_free_answer_with_a_rule_is_its_text() -> None:
    assert answer("Hello", call_rule=rule(is_required=False))[0] == "You said: Hello"


def test_beside_tools_an_answer_may_follow_a_schema() -> None:
    text, _ = answer("Hello", call_rule=rule(is_required=False, answer_schema=PERSON, functions=rule().functions[1:]))
    jsonschema.validate(json.loads(text), PERSON)
    assert answer("Hello", call_rule=rule(answer_schema=PERSON))[0].startswith("<tool_call>")


@pytest.mark.parametrize("bound", [2**63 - 1, 2**63, 2**64 - 1, 10**40, 1e308])
def test_bounds_of_integers_beyond_64_bits_are_narrowed_to_these(bound: float) -> None:
    schema = {"items": {"type": "integer", "maximum": bound, "minimum": -bound}, "type": "array", "enum": [[bound]]}
    check_bounds({**schema, "enum": None})
    narrowed = within_64_bits(schema)
    assert narrowed["items"] == {"type": "integer", "maximum": MAXIMUM_INTEGER, "minimum": -MAXIMUM_INTEGER}
    assert narrowed["enum"] == [[bound]]
    text, _ = answer("Hello", response_schema={**schema["items"], "minimum": 18})  # type: ignore[dict-item]
    assert 18 <= int(text) <= bound
