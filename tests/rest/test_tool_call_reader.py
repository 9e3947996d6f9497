"""Serving promise 17: tool calls are read the same however the text is cut, piece by piece, and what is no call is text."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.inference.messages import ToolCallFormat
from actors.rest.openai.tool_call_reader import CallArguments, CallStart, Part, ToolCall, ToolCallReader, whole_calls

NAMES = ("look", "add")


def read(pieces: list[str], form: ToolCallFormat = ToolCallFormat.TAGGED) -> tuple[str, list[ToolCall]]:
    """Content and calls of an answer that comes in these pieces."""
    reader = ToolCallReader(form, NAMES)
    pieces_out = [part for piece in pieces for part in reader.feed(piece)] + reader.finish()
    assert all(part not in ("", CallArguments("")) for part in pieces_out), "nothing empty comes"
    parts = whole_calls(pieces_out)
    return "".join(one for one in parts if isinstance(one, str)), [one for one in parts if isinstance(one, ToolCall)]


def tagged(name: str = "look", **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


FORMS = (ToolCallFormat.TAGGED, ToolCallFormat.BARRED)
MARKS = [mark for form in FORMS for mark in form.marks]
FRAGMENTS = st.sampled_from(
    [
        *MARKS,
        *(mark[:5] for mark in MARKS),
        tagged(place="Bonn"),
        tagged("add", text="</tool_call> and <tool_call>", more='"\\'),
        '<|tool_call|>[{"name": "add", "arguments": {"a": "<|/tool_call|>"}}]<|/tool_call|>',
        '{"name": "look", "arguments": {}}',
        '[{"name": "look"}, {"name": "add"}]',
        '{"name": "unknown"}',
        '<tool_call>{"name": "unknown", "arguments": {"a": 1}}</tool_call>',
        '{"name": "look", "arguments": {"a": {"b": [1, "}"]}}, "id": "x"}',
        '<tool_call>{"arguments": {"a": "<"}, "name": "add"}',
        '{"name": "add", "arguments": "{}"}',
        '<tool_call>{"name": "add", "arguments": {"a": 1 </tool_call>',
        ", ",
        "}",
        "]",
        "{",
        "[",
        '"',
        "\\",
        " ",
        "\n",
        "Hello",
        "<",
        "é😀",
    ]
)


@settings(max_examples=600)
@given(
    fragments=st.lists(FRAGMENTS, max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    form=st.sampled_from(FORMS),
)
@example(
    fragments=['<tool_call>{"name": "add", "arguments": {"a": 1 </tool_call>', "Hello"],
    cuts=[],
    form=ToolCallFormat.TAGGED,
)
@example(
    fragments=["<tool_call>", " ", "<tool_call>", '{"name": "look"}', "</tool_call>"],
    cuts=[],
    form=ToolCallFormat.TAGGED,
)
def test_any_cutting_gives_the_content_and_the_calls_of_the_whole_text_promise_17(
    fragments: list[str], cuts: list[int], form: ToolCallFormat
) -> None:
    text = "".join(fragments)
    whole = read([text], form)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert read(pieces, form) == whole
    assert read(list(text), form) == whole
    if not whole[1]:
        assert whole[0] == text, "without a call nothing of the text is lost"


def test_a_call_leaves_the_text_and_takes_the_white_space_round_it() -> None:
    text = f"I look.\n{tagged(place='Bonn')}\n{tagged('add', a=1)}\n"
    calls = [ToolCall("look", '{"place": "Bonn"}'), ToolCall("add", '{"a": 1}')]
    assert read([text]) == ("I look.", calls)


def streamed(text: str, form: ToolCallFormat = ToolCallFormat.TAGGED) -> list[list[Part]]:
    """What comes of each character, and at the end."""
    reader = ToolCallReader(form, NAMES)
    return [reader.feed(one) for one in text] + [reader.finish()]


@pytest.mark.parametrize("form", FORMS)
def test_arguments_come_as_they_are_written_and_their_call_first(form: ToolCallFormat) -> None:
    arguments = '{"place": "Bonn </tool_call> \\"<|/tool_call|>\\" {", "more": [{"a": 1}]}'
    inside = '{"name": "look", "arguments": ' + arguments + "}"
    body = f"[{inside}]" if form is ToolCallFormat.BARRED else f"\n{inside}\n"
    text = form.opening + body + form.closing
    made = streamed(text, form)
    opened = text.index(arguments)
    assert not any(made[:opened])
    assert [one for one in made if CallStart("look") in one] == [[CallStart("look"), CallArguments('{"')]]
    for index, character in enumerate(arguments[2:], start=opened + 2):
        assert made[index] == [CallArguments(character)], "each as soon as it is there"
    assert not any(made[opened + len(arguments) :]), "and neither the rest nor a mark"


def test_what_stands_behind_the_arguments_is_no_argument() -> None:
    text = '<tool_call>{"name": "look", "arguments": {"a": 1}, "id": "x}</tool_call>"}</tool_call> done'
    assert read([text]) == ("done", [ToolCall("look", '{"a": 1}')])


def test_several_calls_between_two_marks_are_calls_and_another_object_is_text() -> None:
    first, second = '{"name": "look", "arguments": {}}', '{"name": "add"}'
    calls = [ToolCall("look", "{}"), ToolCall("add", "{}")]
    assert read([f"<tool_call>{first} {second}</tool_call>"]) == ("", calls)
    other = '{"name": "other", "arguments": {}}'
    assert read([f"<|tool_call|>[{first}, {other}]"], ToolCallFormat.BARRED) == (f"{other}]", calls[:1])


def test_arguments_that_are_no_json_are_told_as_the_model_wrote_them() -> None:
    for arguments in ('{"a": NaN}', '{"a": "\\ud800"}', '{"a": ' + "9" * 5000 + "}", '{"a": ', '{"a": "half'):
        text = '<tool_call>{"name": "look", "arguments": ' + arguments
        assert read([text]) == ("", [ToolCall("look", arguments)])
    text = '<tool_call>{"name": "look", "arguments": {"a": 1 </tool_call> and more'
    assert read([text]) == ("and more", [ToolCall("look", '{"a": 1 ')])


@pytest.mark.parametrize("unit", ["<tool_call>", "<tool_call>{", '<tool_call>{"', '<tool_call>{"\\"', '<tool_call>{""'])
def test_thousands_of_marks_that_begin_nothing_are_text(unit: str) -> None:
    text = unit * 4000
    assert read([text]) == (text, [])


def test_text_is_passed_on_as_it_comes() -> None:
    reader = ToolCallReader(ToolCallFormat.TAGGED, NAMES)
    assert reader.feed("Hello wor") == ["Hello wor"]
    assert reader.feed("ld <tool") == ["ld"]
    assert reader.feed("box>") == [" <toolbox>"]
    assert reader.feed("<tool_call>") == []
    assert reader.feed(" is a mark") == ["<tool_call> is a mark"], "no JSON begins so"


def test_an_array_of_calls_needs_no_closing_mark() -> None:
    text = '<|tool_call|>[{"name": "look", "arguments": {"a": 1}}, {"name": "add", "parameters": {}}]'
    expected = ("", [ToolCall("look", '{"a": 1}'), ToolCall("add", "{}")])
    assert read([text], ToolCallFormat.BARRED) == expected
    assert read([text + "<|/tool_call|>"], ToolCallFormat.BARRED) == expected


def test_a_mark_inside_an_argument_is_an_argument() -> None:
    content, calls = read([tagged("add", text='say "</tool_call>" <tool_call>')])
    assert content == ""
    assert json.loads(calls[0].arguments) == {"text": 'say "</tool_call>" <tool_call>'}


def test_arguments_written_as_text_are_read() -> None:
    assert read(['<tool_call>{"name": "look", "arguments": "{\\"a\\": 1}"}</tool_call>'])[1] == [
        ToolCall("look", '{"a": 1}')
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "{",
        "[]",
        "null",
        '{"name": "unknown", "arguments": {}}',
        '{"name": ["look"], "arguments": {}}',
        '{"name": "look", "arguments": [1]}',
        '{"name": "look", "arguments": "x"}',
        '{"name": "look", "arguments": {1: 2}}',
        """{'name': 'look', 'arguments': {}}""",
        '{"arguments": {"a": NaN}, "name": "look"}',
        '{"arguments": {"a": "\\ud800"}, "name": "look"}',
        '{"name": "look", "arguments": "half',
        '{"name": "other", "arguments": {"a": 1}}',
        '{"a": ' + "[" * 100_000,
        '{"arguments": {"a": ' + "9" * 5000 + '}, "name": "look"}',
    ],
    ids=lambda body: body[:40],
)
@pytest.mark.parametrize("closing", ["</tool_call>", ""])
def test_what_is_no_call_stays_text_promise_17(body: str, closing: str) -> None:
    text = f"So: <tool_call>{body}{closing} more"
    assert read([text]) == (text, [])
    content, calls = read([text + tagged()])
    if closing:
        assert (content, calls) == (text, [ToolCall("look", "{}")]), "and the next call is one"


def cut(
    text: str, *, is_forced: bool = False, form: ToolCallFormat = ToolCallFormat.TAGGED
) -> tuple[str, list[ToolCall]]:
    """Content and calls of an answer that was cut for its length."""
    reader = ToolCallReader(form, NAMES)
    parts = whole_calls(reader.feed(text) + reader.finish(is_cut=True, is_forced=is_forced))
    return "".join(one for one in parts if isinstance(one, str)), [one for one in parts if isinstance(one, ToolCall)]


@pytest.mark.parametrize("form", FORMS)
def test_a_call_that_is_cut_is_told_as_far_as_it_came_and_never_as_text(form: ToolCallFormat) -> None:
    inside = '{"name": "look", "arguments": {"place": "Bonn, \\"north\\""}}'
    whole = "[" + inside + "]" if form is ToolCallFormat.BARRED else "\n" + inside + "\n"
    text = f"Wait. {form.opening}{whole}{form.closing}"
    arguments = '{"place": "Bonn, \\"north\\""}'
    named_at = text.index('look"') + 5
    for length in range(text.index(form.opening) + len(form.opening), len(text) + 1):
        content, calls = cut(text[:length], form=form)
        assert content == "Wait."
        assert len(calls) == (length >= named_at)
        if calls:
            assert calls[0].name == "look"
            assert arguments.startswith(calls[0].arguments.removesuffix("}")) or json.loads(calls[0].arguments)


@pytest.mark.parametrize("form", FORMS)
def test_a_forced_call_that_is_cut_anywhere_is_no_text(form: ToolCallFormat) -> None:
    inside = '{"name": "add", "arguments": {"a": 1}}'
    whole = (
        f"[{inside}, {inside}]" if form is ToolCallFormat.BARRED else f"{inside}{form.closing}\n{form.opening}{inside}"
    )
    text = f"{form.opening}{whole}{form.closing}"
    counts = [len(cut(text[:length], is_forced=True, form=form)[1]) for length in range(len(text) + 1)]
    assert all(cut(text[:length], is_forced=True, form=form)[0] == "" for length in range(len(text) + 1))
    assert counts == sorted(counts)
    assert counts[-1] == 2


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call> is a mark",
        '<tool_call>{"name": "other", "arg',
        '<tool_call>{"other": 1',
        "<tool_call>{broken",
        "no <tool_",
    ],
)
def test_what_is_cut_and_was_no_call_stays_text(text: str) -> None:
    assert cut(text) == (text, [])
