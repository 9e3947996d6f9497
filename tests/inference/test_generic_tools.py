"""Tools for models whose chat template does not support them: the prompt, for several kinds of templates."""

from __future__ import annotations

from typing import Any

import pytest

from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.inference.text.chat_template import ChatTemplate, TemplateRefused
from actors.inference.text.generic_tools import plain_turns
from protocol.commands import ChatMessage, Role

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}{% if message.name %} {{ message.name }}{% endif %}{{ '\n' }}"
    "{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant{{ '\n' }}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}"
    "{% endif %}<{{ message.role }}>{{ message.content }}{% endfor %}<model>"
)
SILENT_ABOUT_SYSTEM = (
    "{% for message in messages if message.role != 'system' %}<{{ message.role }}>{{ message.content }}{% endfor %}"
)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "description": "Säe", "parameters": {"type": "object", "properties": {}}},
}


def call(number: int, arguments: Any) -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": arguments}}


TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [call(1, {"place": "Bonn"}), call(2, {})]},
    {"role": "tool", "content": "rain", "tool_call_id": "c1", "name": "look"},
    {"role": "tool", "content": "sun", "tool_call_id": "c2", "name": "look"},
    {"role": "user", "content": "and now?"},
]


def request(
    turns: list[dict[str, Any]], tools: list[dict[str, Any]] | None, messages: list[ChatMessage] | None = None
) -> GenerateWithTools:
    return GenerateWithTools(
        messages=messages or [ChatMessage(Role.USER, "hello")],
        turns=turns,
        tools=tools,
        tool_call_format=ToolCallFormat.TAGGED,
    )


def test_tools_are_described_in_a_message_of_the_system() -> None:
    text = ChatTemplate(CHATML, {}).render_with_tools(request(TURNS, [TOOL]))
    system, question = text.split("<|im_end|>\n")[:2]
    assert system.startswith("<|im_start|>system\n# Tools")
    assert '"name": "look", "description": "Säe"' in system
    assert "<tool_call>" in system
    assert question == "<|im_start|>user\nhello"


def test_calls_and_results_of_earlier_turns_are_text_of_that_form() -> None:
    user, assistant, results = plain_turns(TURNS, None)
    assert user == {"role": "user", "content": "hello"}
    assert assistant == {
        "role": "assistant",
        "content": (
            'Let me see.\n<tool_call>\n{"name": "look", "arguments": {"place": "Bonn"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
        ),
    }
    assert results == {
        "role": "user",
        "content": "<tool_response>\nrain\n</tool_response>\n<tool_response>\nsun\n</tool_response>\nand now?",
    }


def test_arguments_that_ended_too_early_are_shown_as_they_were() -> None:
    turns = [{"role": "assistant", "content": "", "tool_calls": [call(1, '{"place": "Bo')]}]
    assert plain_turns(turns, None)[0]["content"] == (
        '<tool_call>\n{"name": "look", "arguments": {"place": "Bo}\n</tool_call>'
    )


def test_a_message_of_the_system_that_is_there_comes_first() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    messages = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "hello")]
    text = ChatTemplate(CHATML, {}).render_with_tools(request(turns, [TOOL], messages))
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert text.count("<|im_start|>system") == 1


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT_ABOUT_SYSTEM], ids=["refuses", "leaves out"])
def test_without_a_place_for_the_system_tools_are_described_in_the_first_question(template: str) -> None:
    text = ChatTemplate(template, {}).render_with_tools(request(TURNS, [TOOL]))
    assert text.startswith("<user># Tools")
    assert "\n\nhello<assistant>" in text


def test_a_message_of_the_system_that_the_template_leaves_out_is_still_refused() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]
    messages = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "hello")]
    for template in (NO_SYSTEM, SILENT_ABOUT_SYSTEM):
        with pytest.raises(TemplateRefused):
            ChatTemplate(template, {}).render_with_tools(request(turns, [TOOL], messages))


def test_names_of_speakers_reach_a_template_that_prints_them() -> None:
    text = ChatTemplate(CHATML, {}).render_with_tools(request([{**TURNS[0], "name": "Ann"}], None))
    assert text == "<|im_start|>user Ann\nhello<|im_end|>\n<|im_start|>assistant\n"
