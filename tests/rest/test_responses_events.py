"""Events of a response as a function of its text alone, and items of its input."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.messages import PromptSize, ReasoningMarks
from actors.responses.messages import ResponseEnd
from actors.rest.responses.events import ResponseEvents, ResponseHead, TextCutter
from actors.rest.responses.fitting import drop_oldest
from actors.rest.responses.items import chat_of, readable_items
from actors.rest.responses.requests import read_responses_request
from protocol.errors import InvalidField

RESPONSE = f"resp_{'a' * 48}"
END = ResponseEnd(status="completed", ended_ms=1000)
CALL = '<tool_call>{"name": "look", "arguments": {"city": "Bonn"}}</tool_call>'


def head(*names: str, background: bool = False, **fields: Any) -> ResponseHead:
    return ResponseHead(
        id=RESPONSE, created=1, echo={"background": background}, callable_schemas=dict.fromkeys(names), **fields
    )


def all_events(of: ResponseHead, pieces: list[str], end: ResponseEnd = END) -> list[dict[str, Any]]:
    events = ResponseEvents(of)
    made = list(events.begin())
    for one in pieces:
        made += events.take(one)
    return [*made, *events.end(end)]


def cut(text: str, places: list[int]) -> list[str]:
    bounds = [0, *sorted(one % (len(text) + 1) for one in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


TEXTS = st.lists(
    st.sampled_from(
        [CALL, " ", "\n", "  \t ", "word", "a-very-long-word-without-white-space", "é", "\u3000", "<tool", "{}"]
    )
    | st.text(max_size=8),
    max_size=8,
).map("".join)


@settings(deadline=None)
@given(text=TEXTS, places=st.lists(st.integers(0, 200), max_size=12), has_tools=st.booleans(), background=st.booleans())
def test_rs11_events_do_not_depend_on_how_the_text_came(
    text: str, places: list[int], has_tools: bool, background: bool
) -> None:
    of = head(*(["look"] if has_tools else []), background=background)
    whole = all_events(of, [text])
    assert all_events(of, cut(text, places)) == whole
    assert [one["sequence_number"] for one in whole] == list(range(len(whole)))
    output = whole[-1]["response"]["output"]
    for index, item in enumerate(output):
        deltas = "".join(one["delta"] for one in whole if one.get("output_index") == index and "delta" in one)
        assert deltas == (item["content"][0]["text"] if item["type"] == "message" else item["arguments"])
    if not has_tools and text.strip():
        assert output[0]["content"][0]["text"] == text


@settings(deadline=None)
@given(text=st.text(), places=st.lists(st.integers(0, 200), max_size=12))
def test_a_cutter_loses_nothing(text: str, places: list[int]) -> None:
    cutter = TextCutter()
    pieces = [piece for one in cut(text, places) for piece in cutter.feed(one)] + list(cutter.finish())
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(len(one) <= 32 for one in pieces)


def test_white_space_between_calls_is_no_message() -> None:
    events = all_events(head("look"), [CALL, "\n", CALL])
    assert [one["type"] for one in events[-1]["response"]["output"]] == ["function_call", "function_call"]
    first, second = events[-1]["response"]["output"]
    assert first["call_id"] != second["call_id"]


def test_an_answer_without_a_token_is_an_empty_message() -> None:
    (item,) = all_events(head(), [])[-1]["response"]["output"]
    assert item["content"][0]["text"] == ""


@pytest.mark.parametrize(
    ("status", "kind"),
    [("completed", "completed"), ("incomplete", "incomplete"), ("failed", "failed"), ("cancelled", "incomplete")],
)
def test_the_last_event_says_how_it_ended(status: str, kind: str) -> None:
    last = all_events(head(), ["a"], ResponseEnd(status=status, ended_ms=1000, message="why"))[-1]
    assert (last["type"], last["response"]["status"]) == (f"response.{kind}", status)
    assert (last["response"]["error"] is None) == (status != "failed")


def items(given: Any) -> list[dict[str, Any]]:
    return readable_items(given, lambda kind, index: f"{kind}{index}")[0]


def test_calls_that_were_made_together_stand_in_one_turn() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "x"}]}
    chat = chat_of("be brief", [], items([{"role": "user", "content": "q"}, call, {**call, "call_id": "b"}, result]))
    assert [one["role"] for one in chat.messages] == ["system", "user", "assistant", "tool"]
    assert [one["id"] for one in chat.messages[2]["tool_calls"]] == ["a", "b"]
    assert chat.messages[3] == {"role": "tool", "tool_call_id": "a", "content": "x"}
    assert chat.places == ["instructions", "input[0]", "input[1]", "input[3]"]


def test_the_oldest_turn_goes_with_its_calls_and_the_last_question_stays() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "a", "output": "x"}
    given = [{"role": "user", "content": "1"}, call, result, {"role": "user", "content": "2"}]
    chat = chat_of(None, [], items(given))
    assert chat.without_oldest(0) == 3
    assert [one["content"] for one in chat.messages] == ["2"]
    assert chat.without_oldest(0) == 0


def test_custom_calls_of_other_models_are_read_as_functions() -> None:
    call = {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": "*** Begin"}
    chat = chat_of(None, [], items([{"role": "user", "content": "q"}, call]))
    assert chat.messages[1]["tool_calls"][0]["function"] == {
        "name": "apply_patch",
        "arguments": '{"input": "*** Begin"}',
    }


def test_every_item_has_an_id_that_names_its_response() -> None:
    request = read_responses_request({"model": "m", "input": "hi"}, RESPONSE)
    assert request.items[0]["id"] == f"msg_{'a' * 48}_i0"


@pytest.mark.parametrize(
    "body", [{"input": [1]}, {"input": [{"type": 1}]}, {"input": [{}]}, {"input": [{"role": "user"}]}]
)
def test_what_is_no_item_is_named(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        read_responses_request({"model": "m", **body}, RESPONSE)
    assert (caught.value.field or "").startswith("body.input[0]")


@pytest.mark.parametrize("kept", [1, 2, 5])
async def test_rs9_truncation_leaves_out_as_few_of_the_oldest_turns_as_will_do(kept: int) -> None:
    turns = [{"role": role, "content": "x" * 100} for _ in range(9) for role in ("user", "assistant")]
    chat = chat_of("be brief", [], items([*turns, {"role": "user", "content": "y" * 100}]))
    context = 4 * (len("be brief") + 200 * kept + 100 - 200) // 3 + 3

    async def measure() -> PromptSize:
        return PromptSize(prompt_tokens=chat.characters, context_tokens=context)

    dropped = await drop_oldest(chat, measure, answer_tokens=None, keeps=1)
    assert dropped == 2 * (10 - kept)
    assert len(chat.messages) == 1 + 19 - dropped
    assert (chat.messages[0]["role"], chat.messages[-1]["content"]) == ("system", "y" * 100)
    assert chat.messages[1]["role"] == "user"


async def test_the_last_turn_stays_however_long_it_is() -> None:
    chat = chat_of(None, [], items([{"role": "user", "content": "1"}, {"role": "user", "content": "2"}]))

    async def measure() -> PromptSize:
        return PromptSize(prompt_tokens=1000, context_tokens=10)

    assert await drop_oldest(chat, measure, answer_tokens=1, keeps=0) == 1
    assert [one["content"] for one in chat.messages] == ["2"]


def test_what_the_model_thinks_is_an_item_of_its_own_and_never_read_again() -> None:
    of = head(reasoning_marks=ReasoningMarks.THINK.name)
    events = all_events(of, ["<think>one ", "two</think>\n\nthree"])
    thought, said = events[-1]["response"]["output"]
    assert (thought["type"], thought["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "one two"}])
    assert said["content"][0]["text"].strip() == "three"
    kinds = [one["type"] for one in events]
    assert "response.reasoning_text.delta" in kinds
    assert "response.reasoning_text.done" in kinds
    assert [one["content"] for one in chat_of(None, [thought, said], items("q")).messages][1:] == ["q"]
