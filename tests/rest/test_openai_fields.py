"""The table of fields, and what clients of all servers put into messages: pure rules, held against the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from actors.inference.request_rules import too_long
from actors.rest.openai.fields import FIELDS, Endpoint, FieldRule, Treatment, ignored_header, sort_fields
from actors.rest.openai.reference import reference
from actors.rest.openai.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    generates_from_prompts,
    read_chat,
    read_completion,
)
from protocol.errors import InvalidField

QUESTION: dict[str, Any] = {"role": "user", "content": "a"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "b"}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(*messages: dict[str, Any], **fields: Any) -> tuple[ChatCompletionRequest, list[str]]:
    return read_chat({"model": "m", "messages": list(messages), **fields})


def refused(*messages: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(InvalidField) as refusal:
        read(*messages, **fields)
    assert refusal.value.field is not None
    assert refusal.value.message.startswith(refusal.value.field)
    return refusal.value.field.removeprefix("body.")


def test_the_reference_page_is_made_of_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "openai-fields.md"
    assert page.read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize(
    ("endpoint", "request_class"), [(Endpoint.CHAT, ChatCompletionRequest), (Endpoint.COMPLETIONS, CompletionRequest)]
)
def test_what_the_table_says_is_taken_is_what_requests_have(endpoint: Endpoint, request_class: type) -> None:
    rules = [rule for rule in FIELDS if endpoint in rule.endpoints]
    assert len({rule.name for rule in rules}) == len(rules)
    taken = {rule.name for rule in rules if rule.treatment is Treatment.TAKEN}
    assert taken == {one.name for one in attrs.fields(request_class)}


@pytest.mark.parametrize("rule", FIELDS, ids=lambda rule: rule.name)
def test_each_field_is_treated_as_the_table_says(rule: FieldRule) -> None:
    for endpoint in rule.endpoints:
        for value in (None, *rule.quiet):
            taken, ignored = sort_fields({rule.name: value}, endpoint)
            assert ignored == []
            assert (rule.name in taken) == (rule.treatment is Treatment.TAKEN)
        loud = {rule.name: {"asks": "for something"}}
        if rule.treatment is Treatment.REFUSED:
            with pytest.raises(InvalidField) as refusal:
                sort_fields(loud, endpoint)
            assert refusal.value.field == f"body.{rule.name}"
        elif rule.treatment is Treatment.IGNORED:
            assert sort_fields(loud, endpoint) == ({}, [rule.name])


def test_a_field_that_nobody_knows_is_passed_over_and_named() -> None:
    assert sort_fields({"colour": 1, "n": 1}, Endpoint.CHAT) == ({"n": 1}, ["colour"])
    assert ignored_header(["a" * 200, "b\r\nc", "\ud800"]) == f"{'a' * 128}, b%0D%0Ac, %3F"
    assert len(ignored_header([str(one) for one in range(100)]).split(", ")) == 32


@pytest.mark.parametrize(
    "extra",
    [
        {"reasoning_content": "c"}, {"reasoning": "c"}, {"reasoning_details": [{"type": "x"}]}, {"refusal": None},
        {"audio": {"id": "a"}}, {"annotations": [{"type": "url_citation"}]}, {"function_call": None}, {"parsed": {"a": 1}},
        {"id": "x", "created_at": 1}, {"provider_specific_fields": {}}, {"thinking_blocks": []}, {"tool_calls": None},
        {"tool_calls": []}, {"name": "helper"}, {"name": None}, {"images": []}, {"prefix": False},
    ],
    ids=str,
)  # fmt: skip
def test_what_servers_put_into_answers_is_taken_back_and_passed_over(extra: dict[str, Any]) -> None:
    request, ignored = read(QUESTION, {**ANSWER, **extra}, QUESTION)
    assert [one.text for one in request.messages] == ["a", "b", "a"]
    assert ignored == []


def test_a_field_of_a_message_that_nobody_knows_is_named() -> None:
    assert read({**QUESTION, "opts": {"visible": False}}, {**ANSWER, "opts": 1})[1] == ["messages[].opts"]


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_every_role_may_have_a_name(role: str) -> None:
    request, _ = read({"role": role, "name": "Ann-1.b", "content": "x"}, QUESTION)
    assert request.messages[0].name == "Ann-1.b"


def test_a_result_may_have_a_name_and_a_call_may_be_without_content() -> None:
    asked = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**CALL, "index": 0, "extra_content": {"google": {}}}],
    }
    request, ignored = read(QUESTION, asked, {"role": "tool", "tool_call_id": "c", "name": "f", "content": "Rain."})
    assert [one.text for one in request.messages] == ["a", "", "Rain."]
    assert ignored == []


@pytest.mark.parametrize("name", ["", "Ann Smith", "a<b", "a|b", "a/b", "a\\b", "x" * 65, 7])
def test_a_name_that_openai_would_refuse_is_refused(name: Any) -> None:
    assert refused({**QUESTION, "name": name}) == "messages[0].name"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}], "ab"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "b"}], "b"),
    ],
)
def test_parts_that_are_text_are_read(content: list[Any], text: str) -> None:
    assert read(QUESTION, {"role": "assistant", "content": content}, QUESTION)[0].messages[1].text == text


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({**QUESTION, "images": ["aGk="]}, "messages[0].images"),
        ({**ANSWER, "function_call": "f"}, "messages[0].function_call"),
        ({**ANSWER, "prefix": True}, "messages[0].prefix"),
        ({**ANSWER, "partial": True}, "messages[0].partial"),
        ({"role": "assistant", "content": None}, "messages[0].content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content[0].type",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "file"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": ["text"]}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "thinking"}]}, "messages[0].content"),
        ({"role": "function", "content": "x"}, "messages[0].name"),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}, "messages[0].tool_calls[0].type"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[1]"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_the_model_would_have_to_read_and_cannot_is_refused_by_name(message: dict[str, Any], path: str) -> None:
    assert refused(message) == path


@pytest.mark.parametrize("arguments", ["", '{"city": "Bo', "{}"])
def test_arguments_that_ended_too_early_go_back_as_they_were(arguments: str) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    (message,) = read({"role": "assistant", "tool_calls": [call]})[0].messages
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.value == ({} if arguments in ("", "{}") else arguments)


def test_sampling_options_of_other_servers_reach_the_engine() -> None:
    def generate(**fields: Any) -> Any:
        return generates_from_prompts(read_completion({"model": "m", "prompt": "x", **fields})[0])[0]

    made = generate(top_k=5, min_p=0.1, repeat_penalty=1.2, presence_penalty=0.5, frequency_penalty=-0.5, seed=-1)
    assert (made.top_k, made.min_p, made.repetition_penalty) == (5, 0.1, 1.2)
    assert (made.presence_penalty, made.frequency_penalty, made.seed) == (0.5, -0.5, 2**53 - 1)
    off = generate(top_k=-1, repetition_penalty=1, seed=2**63 - 1)
    assert (off.top_k, off.repetition_penalty, off.seed) == (None, 1.0, (2**63 - 1) % 2**53)
    assert generate(top_k=0, seed=2**53).seed == 2**53
    with pytest.raises(InvalidField) as refusal:
        generate(repetition_penalty=1.1, repeat_penalty=1.2)
    assert refusal.value.field == "body.repeat_penalty"


def test_a_prompt_beyond_the_context_is_told_in_the_words_that_clients_look_for() -> None:
    # LiteLLM, LangChain and others match these words to shorten the chat and ask again.
    for text in (too_long(8192, 9000, None, is_chat=True), too_long(8192, 9, 8200, is_chat=False)):
        assert text.startswith("This model's maximum context length is 8192 tokens. However, ")
    assert "you requested 8209 tokens (9 in the prompt, 8200 in the completion)" in text
