"""Ollama's requests to turns and settings: pure, with the tables of fields held against their reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.rest.ollama.fields import CHAT, GENERATE, OPTIONS
from actors.rest.ollama.reference import reference
from actors.rest.ollama.requests import generate_from, read_chat_request, read_generate_request
from actors.rest.openai.fields import Treatment
from protocol.errors import InvalidField

QUESTION: dict[str, Any] = {"role": "user", "content": "q"}
CALLS: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "thinking": "hm",
    "tool_calls": [
        {"function": {"name": "a", "arguments": {"x": 1}}},
        {"function": {"name": "b", "arguments": {}}},
    ],
}


def generate(**fields: Any) -> Any:
    return generate_from(read_chat_request({"model": "m", "messages": [QUESTION], **fields}), ToolCallFormat.TAGGED)


def refused(read: Any, **fields: Any) -> str:
    with pytest.raises(InvalidField) as refusal:
        read({"model": "m", **fields})
    assert refusal.value.field is not None
    assert refusal.value.message.startswith(refusal.value.field)
    return refusal.value.field.removeprefix("body.")


def test_the_reference_page_is_made_of_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "ollama-fields.md"
    assert page.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("read", [read_chat_request, read_generate_request])
def test_each_field_is_treated_as_the_table_says(read: Any) -> None:
    for rule in CHAT if read is read_chat_request else GENERATE:
        if rule.treatment is Treatment.REFUSED:
            assert refused(read, **{rule.name: "something else"}) == rule.name
        if rule.treatment is not Treatment.TAKEN:
            for quiet in (None, *rule.quiet):
                assert read({"model": "m", rule.name: quiet}).ignored == []
        if rule.treatment is Treatment.IGNORED:
            assert read({"model": "m", rule.name: "x"}).ignored == [rule.name]
    options = {rule.name: 1 for rule in OPTIONS if rule.treatment is Treatment.IGNORED}
    assert read({"model": "m", "options": options}).ignored == [f"options.{name}" for name in options]


def test_settings_have_ollamas_defaults() -> None:
    made = generate()
    assert (made.temperature, made.top_k, made.top_p, made.repetition_penalty, made.max_tokens) == (
        0.8,
        40,
        0.9,
        1.1,
        None,
    )
    given = {"temperature": 0, "top_k": 0, "top_p": 1, "repeat_penalty": 1, "num_predict": 5, "seed": -1, "stop": "x"}
    made = generate(options=given)
    assert (made.temperature, made.top_k, made.top_p, made.repetition_penalty, made.max_tokens) == (0, None, 1, 1, 5)
    assert made.stop == ["x"]
    assert 0 <= made.seed <= 2**53
    assert generate(options={"num_predict": -1}).max_tokens is None


def test_results_are_of_the_call_that_they_name_or_the_first_without_one() -> None:
    results = [{"role": "tool", "tool_name": "b", "content": "B"}, {"role": "tool", "content": "A"}]
    lost = {"role": "tool", "tool_name": "c", "content": "C"}
    made = generate(messages=[QUESTION, CALLS, *results, lost])
    assert isinstance(made, GenerateWithTools)
    assert [(one["id"], one["function"]) for one in made.turns[1]["tool_calls"]] == [
        ("call_1", {"name": "a", "arguments": {"x": 1}}),
        ("call_2", {"name": "b", "arguments": {}}),
    ]
    assert [(one["tool_call_id"], one["name"]) for one in made.turns[2:]] == [
        ("call_2", "b"), ("call_1", "a"), ("call_3", "c"),
    ]  # fmt: skip
    assert "thinking" not in made.turns[1]


def test_a_prompt_has_its_system_before_it_or_nothing_around_it() -> None:
    def made(**fields: Any) -> Any:
        return generate_from(read_generate_request({"model": "m", **fields}), ToolCallFormat.TAGGED)

    assert [one.content for one in made(prompt="p", system="s").messages] == ["s", "p"]
    assert made(prompt="p", raw=True).prompt == "p"
    assert made(prompt="p", format="json").response_schema == {"type": "object"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": 1}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x", "tool_name": 1}]}, "messages[0].tool_name"),
        ({"messages": [{**CALLS, "role": "user", "content": "x"}]}, "messages[0].tool_calls"),
        ({"messages": [{**CALLS, "tool_calls": 1}]}, "messages[0].tool_calls"),
        ({"messages": [{**CALLS, "tool_calls": [1]}]}, "messages[0].tool_calls[0].function"),
        ({"messages": [{**CALLS, "tool_calls": [{"function": {"name": "a b"}}]}]}, "messages[0].tool_calls[0].function.name"),
        (
            {"messages": [{**CALLS, "tool_calls": [{"function": {"name": "a", "arguments": "x"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b", "parameters": {}}}]}, "tools[0].function.name"),
        ({"format": 1}, "format"),
        ({"options": 1}, "options"),
        ({"options": {"stop": [""]}}, "options.stop"),
        ({"options": {"stop": ["x"] * 17}}, "options.stop"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_where_it_stands(fields: dict[str, Any], field: str) -> None:
    assert refused(read_chat_request, **fields) == field
