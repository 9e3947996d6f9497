"""Anthropic's requests to turns, tools and rules: pure, with the table of fields held against its reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.rest.anthropic.fields import FIELDS, RULES
from actors.rest.anthropic.reference import reference
from actors.rest.anthropic.requests import check_version, generate_from, read_messages_request
from actors.rest.openai.fields import Treatment, sort_by_rules
from protocol.commands import Role
from protocol.errors import InvalidField

QUESTION: dict[str, Any] = {"role": "user", "content": "q"}
TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
USE: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}


def turns(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return read_messages_request({"model": "m", "max_tokens": 1, "messages": list(messages), **fields}).chat.turns


def generate(**fields: Any) -> Any:
    request = read_messages_request({"model": "m", "max_tokens": 1, "messages": [QUESTION], **fields})
    return generate_from(request, ToolCallFormat.TAGGED)


def refused(**fields: Any) -> str:
    with pytest.raises(InvalidField) as refusal:
        generate(**fields)
    assert refusal.value.field is not None
    assert refusal.value.message.startswith(refusal.value.field)
    return refusal.value.field.removeprefix("body.")


def test_the_reference_page_is_made_of_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "anthropic-fields.md"
    assert page.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("rule", FIELDS, ids=lambda rule: rule.name)
def test_each_field_is_treated_as_the_table_says(rule: Any) -> None:
    if rule.treatment is Treatment.REFUSED:
        assert refused(**{rule.name: "something else"}) == rule.name
        for quiet in (None, *rule.quiet):
            assert generate(**{rule.name: quiet}) is not None
    elif rule.treatment is Treatment.IGNORED:
        assert sort_by_rules({rule.name: "x"}, RULES) == ({}, [rule.name])
        assert all(sort_by_rules({rule.name: one}, RULES) == ({}, []) for one in (None, *rule.quiet))


def test_the_billing_line_of_claude_code_is_left_out() -> None:
    line = "x-anthropic-billing-header: cc_version=2.1.15; cch=0a1b;"
    blocks = [{"type": "text", "text": line}, {"type": "text", "text": "Be brief."}]
    assert turns(QUESTION, system=blocks)[0] == {"role": "system", "content": "Be brief."}
    assert turns(QUESTION, system=f"{line}\n\nBe brief.")[0] == {"role": "system", "content": "Be brief."}
    assert turns(QUESTION, system=line) == [QUESTION]
    later = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": line}]
    assert line in turns(QUESTION, system=later)[0]["content"]


def test_thinking_is_taken_back_and_not_shown() -> None:
    thinking = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    answer = {"role": "assistant", "content": [*thinking, {"type": "text", "text": "a"}]}
    assert turns(QUESTION, answer, QUESTION) == [QUESTION, {"role": "assistant", "content": "a"}, QUESTION]


def test_blocks_are_paragraphs_and_turns_of_one_speaker_are_one() -> None:
    two = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]}  # fmt: skip
    assert turns(two, QUESTION) == [{"role": "user", "content": "a\n\nb\n\nq"}]


def test_a_message_of_the_system_in_the_middle_is_part_of_the_users_turn() -> None:
    first, later = {"role": "system", "content": "s"}, {"role": "system", "content": "reminder"}
    assert turns(first, QUESTION, later) == [first, {"role": "user", "content": "q\n\nreminder"}]
    assert turns(first, QUESTION, system="a")[0] == {"role": "system", "content": "a\n\ns"}


def test_results_of_tools_are_turns_of_their_own_before_what_the_user_says() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": "Rain."},
        {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": [{"type": "text", "text": "No."}]},
        {"type": "tool_result", "tool_use_id": "t1"},
        {"type": "text", "text": "And now?"},
    ]
    calls = {"role": "assistant", "content": [{"type": "text", "text": "I look."}, USE]}
    assert turns(QUESTION, calls, {"role": "user", "content": results}) == [
        QUESTION,
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "Rain.", "tool_call_id": "t1", "name": "look"},
        {"role": "tool", "content": "Error: No.", "tool_call_id": "t1", "name": "look"},
        {"role": "tool", "content": "", "tool_call_id": "t1", "name": "look"},
        {"role": "user", "content": "And now?"},
    ]


def test_a_chat_without_tools_is_a_plain_one() -> None:
    made = generate(system="s", temperature=0, top_p=0, top_k=3, stop_sequences=["x"], seed=4)
    assert type(made).__name__ == "Generate"
    assert [one.role for one in made.messages] == [Role.SYSTEM, Role.USER]
    assert (made.temperature, made.top_k, made.stop, made.seed, made.max_tokens) == (0, 3, ["x"], 4, 1)
    assert 0 < made.top_p < 0.001
    assert generate().temperature == 1.0


@pytest.mark.parametrize(
    ("fields", "source_field", "is_required", "most"),
    [
        ({}, None, None, None),
        ({"tool_choice": {"type": "auto"}}, None, None, None),
        ({"tool_choice": {"type": "any"}}, "tool_choice", True, 16),
        ({"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}, "tool_choice", True, 1),
        ({"tool_choice": {"type": "tool", "name": "look"}}, "tool_choice", True, 1),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, "tool_choice.disable_parallel_tool_use", False, 1),
        ({"tools": [{**TOOL, "strict": True}]}, "tools[0].strict", False, 16),
        ({"output_format": {"type": "json_schema", "schema": {}}}, "output_config.format", False, 16),
        ({"tool_choice": {"type": "none"}}, None, None, None),
    ],
)  # fmt: skip
def test_the_choice_says_what_calls_are_held_to(fields: Any, source_field: Any, is_required: Any, most: Any) -> None:
    made = generate(**{"tools": [TOOL], **fields})
    assert isinstance(made, GenerateWithTools)
    rule = made.call_rule
    if source_field is None:
        assert rule is None
    else:
        assert rule is not None
        assert (rule.source_field, rule.is_required, rule.most_calls) == (source_field, is_required, most)
        assert rule.functions[0].path == "tools[0].input_schema"
    assert (made.tools is None) == (fields.get("tool_choice") == {"type": "none"})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": 1}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [USE]}]}, "messages[0].content[0].type"),
        ({"messages": [QUESTION, {"role": "assistant", "content": "Once"}]}, "messages"),
        ({"messages": [QUESTION, {"role": "assistant", "content": [{**USE, "input": "x"}]}]}, "messages[1].content[0].input"),
        ({"messages": [QUESTION, {"role": "assistant", "content": [{**USE, "name": "a b"}]}]}, "messages[1].content[0].name"),
        ({"messages": [QUESTION, {"role": "assistant", "content": [{**USE, "id": ""}]}]}, "messages[1].content[0].id"),
        ({"messages": [QUESTION] + [{"role": "assistant", "content": "a"}, QUESTION] * 600}, "messages"),
        ({"system": 1}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "input_schema": {"type": "array"}}]}, "tools[0].input_schema.type"),
        ({"tools": [{**TOOL, "description": 1}]}, "tools[0].description"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": "x"}}, "tool_choice.disable_parallel_tool_use"),
        ({"output_config": 1}, "output_config"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id"),
        ({"metadata": 1}, "metadata"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_where_it_stands(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields) == field


def test_a_version_that_is_not_known_is_refused() -> None:
    check_version(None)
    check_version("2023-06-01")
    with pytest.raises(InvalidField, match="anthropic-version must be one of"):
        check_version("2031-01-01")
