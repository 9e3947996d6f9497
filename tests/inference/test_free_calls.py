"""Calls that follow no rule: their arguments are JSON whatever the model would write, and all else is as it writes it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ReasoningForm, ReasoningMarks
from actors.inference.free_calls import FreeCallMatcher, seen_marks
from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.inference.sampling import Sampling
from actors.inference.schema_errors import BadSchema
from actors.inference.text.mock_grammars import mock_grammars
from actors.inference.text.text_model import MockText
from actors.inference.worker.mock import MockStepper
from actors.inference.worker.stepper import Row
from actors.rest.answer_reading.reader import AnswerReader, whole_answer
from actors.rest.openai.tool_call_reader import ToolCall
from protocol.commands import ChatMessage, Role

HEAD = '<tool_call>{"name": "look", "arguments": '


def answer(prompt: str, *, emitted: tuple[int, ...] = (), form: ToolCallFormat = ToolCallFormat.TAGGED) -> str:
    """The output of the mock engine, which echoes its prompt, in a row with unconstrained calls."""
    stepper = MockStepper()
    row = Row(
        row=1, prompt_ids=list(prompt.encode()), emitted_ids=list(emitted), max_tokens=400,
        stop_ids=frozenset({MockText.END}), sampling=Sampling(), free_calls=form,
    )  # fmt: skip
    stepper.admit(row, stepper.prepare(row))
    ids = list(emitted)
    while stepper.has_work():
        ids += [one.token_id for one in stepper.step().emitted]
    return bytes(one for one in ids if one != MockText.END).decode()


def arguments_in(text: str) -> list[object]:
    """The values of each `arguments`, as JSON."""
    begins = text.split('"arguments":')[1:]
    return [json.JSONDecoder().raw_decode(one.lstrip())[0] for one in begins]


WRITTEN = [
    '{"a": oops}}</tool_call>', "{'a': 1}}</tool_call>", '{"a" 1}}</tool_call>', '{"a": 1,}}</tool_call>', '{"a": NaN}}',
    '{"a": "tab\t"}}', '{"a": 1 </tool_call>', '{"a": 01}}', '{a: 1}}', "{", '{"a', '  {"a": {oops',
    '{"a": ' + "9" * 60 + "}}",
]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("form", [ToolCallFormat.TAGGED, ToolCallFormat.BARRED, ToolCallFormat.LLAMA])
def test_arguments_are_json_whatever_the_model_would_write(written: str, form: ToolCallFormat) -> None:
    mark = form.opening + ("[" if form is ToolCallFormat.BARRED else "")
    said = answer(HEAD.replace("<tool_call>", mark) + written, form=form)
    (arguments,) = arguments_in(said)
    assert isinstance(arguments, dict)
    assert said.startswith(f"You said: {form.opening}")


HEADS = {
    ToolCallFormat.MISTRAL: [
        "[TOOL_CALLS]look[ARGS]", "[TOOL_CALLS] look [CALL_ID]a1B2c3D4e [ARGS] ", '[TOOL_CALLS] [{"name": "look", "arguments": ',
    ],
    ToolCallFormat.KIMI_K2: [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>",
        "<|tool_call_begin|> look <|tool_call_argument_begin|>\n",
    ],
    ToolCallFormat.HARMONY: [
        "<|channel|>commentary to=functions.look <|constrain|>json<|message|>",
        "<|channel|>analysis<|message|>Look to=it.<|end|><|start|>assistant to=look<|channel|>commentary json<|message|>",
        "to=functions.look<|channel|>commentary <|constrain|>json<|message|>",
    ],
    # Its calls may do without a mark at the beginning of an answer, which may be behind a thought.
    ToolCallFormat.LLAMA: ['<think>Hm.</think>\n{"name": "look", "parameters": '],
}  # fmt: skip
HEADED = [(form, head) for form, heads in HEADS.items() for head in heads]


def read_again(form: ToolCallFormat, said: str) -> list[ToolCall]:
    """The calls that a client receives."""
    marks = ReasoningMarks.HARMONY if form is ToolCallFormat.HARMONY else ReasoningMarks.THINK
    reader = AnswerReader(ReasoningForm(marks=marks), form, {"look": None})
    _, whole = whole_answer([*reader.feed(said), *reader.finish()])
    return [one for one in whole if isinstance(one, ToolCall)]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize(("form", "head"), HEADED)
def test_arguments_are_json_where_a_head_stands_before_them(written: str, form: ToolCallFormat, head: str) -> None:
    said = answer(head + written, form=form)
    assert head in said, "the head is as the model writes it"
    calls = read_again(form, said.removeprefix("You said: "))
    assert [isinstance(json.loads(one.arguments), dict) for one in calls] == [True]


@pytest.mark.parametrize("written", ["oops", "\x0b{oops", "\u00a0{oops", "[1, {", '"{"'])
@pytest.mark.parametrize(("form", "head"), HEADED)
def test_where_no_object_begins_there_is_no_call_or_one_that_is_json(
    written: str, form: ToolCallFormat, head: str
) -> None:
    said = answer(head + written, form=form)
    calls = read_again(form, said.removeprefix("You said: "))
    assert all(isinstance(json.loads(one.arguments), dict) for one in calls)
    if form is ToolCallFormat.HARMONY:
        assert len(calls) == 1, "a message to a function is a call whatever it says"
    else:
        assert said.endswith(head + written), "it is text, as the model writes it"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (ToolCallFormat.MISTRAL, '[TOOL_CALLS]look[ARGS]{"a": [1, "[ARGS]{"]}[TOOL_CALLS]look[ARGS]{} {oops'),
        (ToolCallFormat.MISTRAL, "[TOOL_CALLS] oops, [ARGS]{oops"),
        (ToolCallFormat.MISTRAL, "look[ARGS]{oops"),
        (ToolCallFormat.KIMI_K2, "<|tool_call_begin|>functions.look.it:0<|tool_call_argument_begin|>{oops"),
        (ToolCallFormat.KIMI_K2, '<|tool_call_begin|>{"name": "look", "arguments": {oops'),
        (ToolCallFormat.HARMONY, "<|channel|>analysis<|message|>to=functions.look {oops"),
        (ToolCallFormat.HARMONY, "<|channel|>final<|message|>to=look<|end|><|start|>assistant<|channel|>final<|message|>{oops"),
        (ToolCallFormat.LLAMA, 'Say {"name": "look", "parameters": {oops'),
    ],
)  # fmt: skip
def test_what_is_no_head_holds_nothing(form: ToolCallFormat, text: str) -> None:
    assert answer(text, form=form) == f"You said: {text}"


@pytest.mark.parametrize("form", HEADS)
def test_marks_that_are_tokens_are_seen(form: ToolCallFormat) -> None:
    ids = {mark: 300 + at for at, mark in enumerate(sorted(seen_marks(form)))}
    contents = mock_grammars().make_tables().contents
    begun: list[bytes] = []

    def new_holder(_: str, read: bytes) -> Any:
        begun.append(read)
        raise BadSchema("that will do")

    matcher = FreeCallMatcher(
        form, {one: mark.encode() for mark, one in ids.items()}, lambda one: contents[one] if one < 300 else b"", new_holder
    )  # fmt: skip
    for piece in re.split("(" + "|".join(map(re.escape, ids)) + ")", HEADS[form][0]):
        for token_id in [ids[piece]] if piece in ids else piece.encode():
            matcher.take(token_id)
    assert begun == [b""]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "look", "arguments": {"a": [1, "}"], "b":{"c" : "<tool_call>"}}}</tool_call> and {more',
        '<tool_call>{"name": "look", "arguments": {\n  "a": 1\n}}</tool_call>\n' + HEAD + '{}}</tool_call>',
        '<tool_call>{"name": "look", "parameters":{"a":1e5,"b":2}} oops',
        "<tool_call>{broken</tool_call>",
        '<tool_call>{"name": "look", "other": {oops',
        '<tool_call>{"name": "look", "arguments_of": {oops',
        '{"name": "look", "arguments": {oops',
        '<tool_call>{"name": "look", "arguments": "{\\"a\\": 1}"}</tool_call>',
        '<tool_call>{"name": "look", "arguments": oops, {more',
        '<tool_call>{"name": "look", "arguments": [{oops',
        "no call at all",
    ],
)  # fmt: skip
def test_all_else_is_as_the_model_writes_it(text: str) -> None:
    assert answer(text) == f"You said: {text}"


def test_a_row_that_goes_on_after_its_workers_death_is_held_where_it_was() -> None:
    whole = answer(HEAD + '{"a": oops}}')
    for length in range(len(whole)):
        assert answer(HEAD + '{"a": oops}}', emitted=tuple(whole[:length].encode())) == whole


def test_a_token_that_names_the_arguments_and_opens_them_is_read_to_its_end() -> None:
    pieces = [b'<tool_call>{"name": "look"', b', "arguments": {"', b"a", b'": 1}', b"}"]
    read: list[bytes] = []

    class Holder:
        is_complete = False

        def take(self, token_id: int) -> None:
            read.append(pieces[token_id])
            self.is_complete = b"}" in pieces[token_id]

    def new_holder(_: str, begin: bytes) -> Holder:
        read.append(begin)
        return Holder()

    matcher = FreeCallMatcher(ToolCallFormat.TAGGED, {}, pieces.__getitem__, new_holder)
    assert matcher.is_idle
    for token_id in range(5):
        matcher.take(token_id)
        assert not matcher.is_idle
    assert read == [b'": {"', b"a", b'": 1}']
    assert matcher.mask() is None


def test_a_mark_that_is_a_token_begins_a_call_too() -> None:
    class Holder:
        is_complete = False

    def new_holder(_: str, read: bytes) -> Holder:
        begun.append(read)
        return Holder()

    begun: list[bytes] = []
    contents = mock_grammars().make_tables().contents
    matcher = FreeCallMatcher(ToolCallFormat.TAGGED, {MockText.END: b"<tool_call>"}, contents.__getitem__, new_holder)
    for token_id in [MockText.END, *HEAD.removeprefix("<tool_call>").encode()[:-3]]:
        matcher.take(token_id)
    assert begun == [b""]


def test_a_call_of_llamas_form_without_a_mark_is_held_at_the_very_beginning() -> None:
    head = b'{"name": "look", "parameters": {'
    for form, before, is_held in (
        (ToolCallFormat.LLAMA, b"", True), (ToolCallFormat.LLAMA, b"\n ", True), (ToolCallFormat.LLAMA, b"a", False),
        (ToolCallFormat.TAGGED, b"", False),
    ):  # fmt: skip
        mask = mock_grammars().free_calls(form, before + head).mask()
        assert (mask is not None) == is_held, (form, before)
        assert mask is None or not mask[ord("o") // 32] >> (ord("o") % 32) & 1


def test_only_what_follows_nothing_else_is_free() -> None:
    def generate(**fields: object) -> GenerateWithTools:
        messages = [ChatMessage(Role.USER, "hi")]
        common = {"messages": messages, "turns": [], "tool_call_format": ToolCallFormat.BARRED}
        return GenerateWithTools(**{**common, **fields})  # type: ignore[arg-type]

    assert generate(tools=[{}]).free_calls is ToolCallFormat.BARRED
    for form in ToolCallFormat:
        is_json = form not in ARGUMENT_SYNTAXES
        assert generate(tools=[{}], tool_call_format=form).free_calls is (form if is_json else None)
    assert generate(tools=None).free_calls is None
    assert generate(tools=[{}], response_schema={"type": "object"}).free_calls is None
