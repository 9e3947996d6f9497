"""Calls that follow no rule: their arguments are JSON whatever the model would write, and all else is as it writes it."""

from __future__ import annotations

import json

import pytest

from actors.inference.free_calls import FreeCallMatcher
from actors.inference.messages import GenerateWithTools, ToolCallFormat
from actors.inference.sampling import Sampling
from actors.inference.text.mock_grammars import mock_grammars
from actors.inference.text.text_model import MockText
from actors.inference.worker.mock import MockStepper
from actors.inference.worker.stepper import Row
from protocol.commands import ChatMessage, Role

HEAD = '<tool_call>{"name": "look", "arguments": '


def answer(prompt: str, *, emitted: tuple[int, ...] = (), form: ToolCallFormat = ToolCallFormat.TAGGED) -> str:
    """What the mock engine, which repeats what it is told, says in a row whose calls are free."""
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
    """What stands behind each `arguments`, as JSON."""
    begins = text.split('"arguments":')[1:]
    return [json.JSONDecoder().raw_decode(one.lstrip())[0] for one in begins]


@pytest.mark.parametrize(
    "written",
    [
        '{"a": oops}}</tool_call>', "{'a': 1}}</tool_call>", '{"a" 1}}</tool_call>', '{"a": 1,}}</tool_call>', '{"a": NaN}}',
        '{"a": "tab\t"}}', '{"a": 1 </tool_call>', '{"a": 01}}', '{a: 1}}', "{", '{"a', '  {"a": {oops',
        '{"a": ' + "9" * 60 + "}}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [ToolCallFormat.TAGGED, ToolCallFormat.BARRED, ToolCallFormat.LLAMA])
def test_arguments_are_json_whatever_the_model_would_write(written: str, form: ToolCallFormat) -> None:
    mark = form.opening + ("[" if form is ToolCallFormat.BARRED else "")
    said = answer(HEAD.replace("<tool_call>", mark) + written, form=form)
    (arguments,) = arguments_in(said)
    assert isinstance(arguments, dict)
    assert said.startswith(f"You said: {form.opening}")


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

    def new_holder(begin: bytes) -> Holder:
        read.append(begin)
        return Holder()

    matcher = FreeCallMatcher("<tool_call>", None, pieces.__getitem__, new_holder)
    assert matcher.is_idle
    for token_id in range(5):
        matcher.take(token_id)
        assert not matcher.is_idle
    assert read == [b'": {"', b"a", b'": 1}']
    assert matcher.mask() is None


def test_a_mark_that_is_a_token_begins_a_call_too() -> None:
    class Holder:
        is_complete = False

    def new_holder(read: bytes) -> Holder:
        begun.append(read)
        return Holder()

    begun: list[bytes] = []
    contents = mock_grammars().make_tables().contents
    matcher = FreeCallMatcher("<tool_call>", MockText.END, contents.__getitem__, new_holder)
    for token_id in [MockText.END, *HEAD.removeprefix("<tool_call>").encode()[:-3]]:
        matcher.take(token_id)
    assert begun == [b""]


def test_only_what_follows_nothing_else_is_free() -> None:
    def generate(**fields: object) -> GenerateWithTools:
        messages = [ChatMessage(Role.USER, "hi")]
        common = {"messages": messages, "turns": [], "tool_call_format": ToolCallFormat.BARRED}
        return GenerateWithTools(**{**common, **fields})  # type: ignore[arg-type]

    assert generate(tools=[{}]).free_calls is ToolCallFormat.BARRED
    assert generate(tools=None).free_calls is None
    assert generate(tools=[{}], response_schema={"type": "object"}).free_calls is None
