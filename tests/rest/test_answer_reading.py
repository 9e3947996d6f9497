"""Reasoning and calls in the forms of today's models: read the same however the text is cut, and never shown as text."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.answer_forms import ReasoningForm, ReasoningMarks, ToolCallFormat
from actors.rest.answer_reading.reader import AnswerPart, AnswerReader, Reasoning, joined, whole_answer
from actors.rest.openai.tool_call_reader import CallArguments, ToolCall

F, R = ToolCallFormat, ReasoningMarks
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "more": {"type": "object"},
        "is_now": {"type": "boolean"},
    },
}
SCHEMAS = {"look": SCHEMA, "stop": None}
ARGUMENTS = {"city": "Bonn", "days": 3, "more": {"a": [1, None, True]}, "is_now": False}
INNER = json.dumps(ARGUMENTS["more"])
CITY, SHOWN = "Bonn", json.dumps(ARGUMENTS)
CALLS: dict[ToolCallFormat, list[str]] = {
    F.TAGGED: [f'<tool_call>\n{{"name": "look", "arguments": {SHOWN}}}\n</tool_call>'],
    F.BARRED: [f'<|tool_call|>[{{"name": "look", "arguments": {SHOWN}}}]'],
    F.LLAMA: [
        f'<|python_tag|>{{"name": "look", "parameters": {SHOWN}}}',
        f'{{"name": "look", "parameters": {SHOWN}}}',
    ],
    F.MISTRAL: [
        f"[TOOL_CALLS]look[ARGS]{SHOWN}",
        f"[TOOL_CALLS]look[CALL_ID]abc123XYZ[ARGS]{SHOWN}",
        f'[TOOL_CALLS] [{{"name": "look", "arguments": {SHOWN}}}]',
    ],
    F.KIMI_K2: [
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>"
            f"{SHOWN}<|tool_call_end|><|tool_calls_section_end|>"
        )
    ],
    F.HARMONY: [
        f"<|channel|>commentary to=functions.look <|constrain|>json<|message|>{SHOWN}<|call|>",
        f"<|channel|>commentary to=functions.look<|message|>{SHOWN}",
    ],
    F.QWEN_CODER: [
        (
            "<tool_call>\n<function=look>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
            f"<parameter=more>\n{INNER}\n</parameter>\n<parameter=is_now>\nfalse\n</parameter>\n</function>\n</tool_call>"
        )
    ],
    F.GLM: [
        (
            "<tool_call>look\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3"
            f"</arg_value>\n<arg_key>more</arg_key>\n<arg_value>{INNER}</arg_value>\n<arg_key>is_now</arg_key>\n"
            "<arg_value>false</arg_value>\n</tool_call>"
        )
    ],
    F.LONGCAT: [
        (
            "<longcat_tool_call>look\n<longcat_arg_key>city</longcat_arg_key>\n<longcat_arg_value>Bonn</longcat_arg_value>\n"
            "<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>3</longcat_arg_value>\n<longcat_arg_key>more"
            f"</longcat_arg_key>\n<longcat_arg_value>{INNER}</longcat_arg_value>\n<longcat_arg_key>is_now</longcat_arg_key>\n"
            "<longcat_arg_value>false</longcat_arg_value>\n</longcat_tool_call>"
        )
    ],
    F.MINIMAX: [
        (
            '<minimax:tool_call>\n<invoke name="look">\n<parameter name="city">Bonn</parameter>\n<parameter name="days">3'
            f'</parameter>\n<parameter name="more">{INNER}</parameter>\n<parameter name="is_now">false</parameter>\n</invoke>\n'
            "</minimax:tool_call>"
        )
    ],
    F.MUSE: [
        (
            '<atem:function_calls>\n<atem:invoke name="look">\n<atem:parameter name="city">Bonn</atem:parameter>\n'
            '<atem:parameter name="days">3</atem:parameter>\n'
            f'<atem:parameter name="more">{INNER}</atem:parameter>\n<atem:parameter name="is_now">false</atem:parameter>\n'
            "</atem:invoke>\n</atem:function_calls>"
        )
    ],
    F.MINICPM: [
        (
            '<function name="look"><param name="city">Bonn</param><param name="days">3</param>'
            f'<param name="more"><![CDATA[{INNER}]]></param><param name="is_now">false</param></function>'
        )
    ],
    F.KIMI_K3: [
        (
            '<|open|>tools<|sep|><|open|>call tool="look" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Bonn'
            '<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|>'
            f'<|open|>argument key="more" type="object"<|sep|>{INNER}<|close|>argument<|sep|><|open|>argument key="is_now" '
            'type="boolean"<|sep|>false<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>'
        )
    ],
    F.PYTHONIC: [
        "<|tool_call_start|>[look(city='Bonn', days=3, more={'a': [1, None, True]}, is_now=False)]<|tool_call_end|>",
        f'<|tool_call_start|>[look(city="Bonn",days=3,more={INNER},is_now=false)]<|tool_call_end|>',
    ],
    F.GEMMA: ['<|tool_call>call:look{city:<|"|>Bonn<|"|>,days:3,more:{a:[1,null,true]},is_now:false}<tool_call|>'],
    F.FUNCTION_GEMMA: [
        (
            "<start_function_call>call:look{city:<escape>Bonn<escape>,days:3,more:{a:[1,null,true]},is_now:false}"
            "<end_function_call>"
        )
    ],
}
SAMPLES = [(form, text) for form, texts in CALLS.items() for text in texts]
CALL = ToolCall("look", json.dumps(ARGUMENTS))


def reader(form: ToolCallFormat = F.TAGGED, marks: ReasoningMarks | None = None, **options: Any) -> AnswerReader:
    marks = marks or (R.HARMONY if form is F.HARMONY else R.THINK)
    return AnswerReader(ReasoningForm(marks=marks), form, SCHEMAS, **options)


def read(one: AnswerReader, pieces: list[str], **ended: bool) -> tuple[str, list[str | ToolCall]]:
    """What was thought; the rest with each call in one piece, its arguments in one spelling."""
    parts: list[AnswerPart] = [part for piece in pieces for part in one.feed(piece)] + one.finish(**ended)
    assert not any(part in ("", CallArguments(""), Reasoning("")) for part in parts), "nothing empty comes"
    thought, whole = whole_answer(parts)
    return thought, [_spelled(part) for part in whole]


def _spelled(part: str | ToolCall) -> str | ToolCall:
    if isinstance(part, str):
        return part
    try:
        return ToolCall(part.name, json.dumps(json.loads(part.arguments)))
    except ValueError:
        return part


def test_every_form_has_a_sample() -> None:
    assert set(CALLS) == set(ToolCallFormat)


@pytest.mark.parametrize(("form", "text"), SAMPLES, ids=[f"{form.name}-{text[:24]}" for form, text in SAMPLES])
def test_rt1_a_call_of_each_form_is_read_at_every_split_of_its_text(form: ToolCallFormat, text: str) -> None:
    assert read(reader(form), [text]) == ("", [CALL])
    assert read(reader(form), list(text)) == ("", [CALL])
    for at in range(1, len(text)):
        assert read(reader(form), [text[:at], text[at:]]) == ("", [CALL]), (text[:at], text[at:])


@pytest.mark.parametrize(("form", "text"), SAMPLES, ids=[f"{form.name}-{text[:24]}" for form, text in SAMPLES])
def test_rt1_no_piece_of_a_call_and_no_half_of_a_mark_is_shown(form: ToolCallFormat, text: str) -> None:
    is_bare = not text.startswith(form.opening) and form is F.LLAMA
    thought = "<|channel|>analysis<|message|>Look first.<|end|><|start|>assistant" if form is F.HARMONY else ""
    thought = thought or "<think>\nLook first.\n</think>\n\n"
    before = "" if is_bare or form is F.HARMONY else "I look. "
    one = reader(form)
    shown = "".join(part for letter in thought + before + text for part in one.feed(letter) if isinstance(part, str))
    shown += "".join(part for part in one.finish() if isinstance(part, str))
    assert shown == before.strip()


@pytest.mark.parametrize("form", CALLS, ids=lambda form: form.name)
def test_two_calls_and_what_is_no_call(form: ToolCallFormat) -> None:
    text = CALLS[form][0]
    again = f"<|start|>assistant{text}" if form is F.HARMONY else f"; {text}" if form is F.LLAMA else f"\n{text}"
    assert read(reader(form), [text + again])[1] == [CALL, CALL]
    other = text.replace("look", "other")
    said = "".join(str(one) for one in read(reader(form), [other])[1])
    assert "Bonn" in said, "a function that nobody offered is shown as it stands"


@pytest.mark.parametrize(("form", "text"), SAMPLES, ids=[f"{form.name}-{text[:24]}" for form, text in SAMPLES])
def test_an_answer_cut_in_a_call_shows_no_broken_text_of_it(form: ToolCallFormat, text: str) -> None:
    at = text.index("3")
    calls = [one for one in read(reader(form), [text[:at]], is_cut=True)[1] if isinstance(one, ToolCall)]
    for one in calls:
        assert one.name == "look"
        assert json.dumps(ARGUMENTS).startswith(one.arguments.rstrip(" ,}")[:16])


@pytest.mark.parametrize(
    "form", [F.TAGGED, F.BARRED, F.LLAMA, F.MISTRAL, F.KIMI_K2, F.HARMONY], ids=lambda form: form.name
)
def test_a_call_that_a_stop_text_cuts_is_told_to_be_cut(form: ToolCallFormat) -> None:
    text = CALLS[form][0]
    end = text.rindex(SHOWN) + len(SHOWN)
    for length in range(text.index(SHOWN) + 2, end):
        one = reader(form)
        _, (call,) = read(one, [text[:length]])
        assert isinstance(call, ToolCall)
        assert SHOWN.startswith(call.arguments)
        assert one.has_cut_call, text[:length]
    for whole in (text[:end], text):
        one = reader(form)
        assert read(one, [whole]) == ("", [CALL])
        assert not one.has_cut_call


@pytest.mark.parametrize("form", [F.TAGGED, F.LLAMA, F.MISTRAL, F.KIMI_K2, F.HARMONY], ids=lambda form: form.name)
def test_marks_in_the_texts_of_arguments_are_text(form: ToolCallFormat) -> None:
    shown = json.dumps({"city": "".join(MARKS)})
    text = CALLS[form][0].replace(SHOWN, shown)
    for pieces in ([text], list(text)):
        assert read(reader(form), pieces) == ("", [ToolCall("look", shown)])


def test_what_stands_behind_the_arguments_in_a_message_is_passed_over() -> None:
    text = CALLS[F.HARMONY][0]
    for more in (" oops", "}", "\n\n{}"):
        behind = text.replace("<|call|>", f"{more}<|call|>")
        for pieces in ([behind], list(behind)):
            assert read(reader(F.HARMONY), pieces) == ("", [CALL])


def test_an_answer_whose_head_the_prompt_has_begun_may_name_its_recipient_first() -> None:
    text = f" to=functions.look<|channel|>commentary <|constrain|>json<|message|>{SHOWN}<|call|>"
    for pieces in ([text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))):
        assert read(reader(F.HARMONY), pieces) == ("", [CALL])
    for said in ("to", "t", "to=functions!", "to=functions.look is how", "total"):
        assert "".join(str(one) for one in read(reader(F.HARMONY), [said])[1]) == ("" if "look" in said else said)


REASONED = [
    (marks, f"{marks.opening}\nFirst <b>this</b>,\nthen </that>.\n{marks.closing}\n\nThe answer.")
    for marks in R
    if marks is not R.HARMONY
]


@pytest.mark.parametrize(("marks", "text"), REASONED, ids=[marks.name for marks, _ in REASONED])
def test_rt2_reasoning_is_apart_at_every_split(marks: ReasoningMarks, text: str) -> None:
    expected = ("First <b>this</b>,\nthen </that>.", ["The answer."])
    for pieces in ([text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))):
        assert read(reader(F.TAGGED, marks), pieces) == expected
    behind = text.removeprefix(marks.opening)
    for pieces in ([behind], list(behind), [text], list(text)):
        assert read(reader(F.TAGGED, marks, begins_open=True), pieces) == expected, "the prompt has opened it"


def test_rt2_channels_of_harmony_are_told_apart_at_every_split() -> None:
    text = (
        "<|channel|>analysis<|message|>Hm, <|x|> so.<|end|><|start|>assistant<|channel|>commentary<|message|>I look."
        f"<|end|><|start|>assistant{CALLS[F.HARMONY][0]}<|start|>assistant<|channel|>final<|message|>Sunny.<|return|>"
    )
    expected = ("Hm, <|x|> so.", ["I look.", CALL, "Sunny."])
    for pieces in ([text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))):
        assert read(reader(F.HARMONY), pieces) == expected
    assert read(reader(F.HARMONY), ['{"a": 1}']) == ("", ['{"a": 1}']), "behind a prompt that said the channel"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<thin ice>", ("", ["<thin ice>"])),
        (" \n<thi", ("", [" \n<thi"])),
        ("It is <think>no</think>.", ("", ["It is <think>no</think>."])),
        ("<think></think>", ("", [])),
        ("<think>on and on", ("on and on", [])),
        ("<think>a</think>  ", ("a", [])),
        ("<think>a</thi", ("a</thi", [])),
        ("  indented", ("", ["  indented"])),
        ("", ("", [])),
    ],
)
def test_what_only_looks_like_reasoning_stays_text(text: str, expected: tuple[str, list[str]]) -> None:
    assert read(reader(), [text]) == expected
    assert read(reader(), list(text)) == expected


def test_the_time_to_think_is_counted_in_tokens_of_its_own() -> None:
    from actors.inference.messages import GenerationTokens

    one = reader()
    pieces = ["<think>", "a", " b", "</think>", "\n", "Yes", "."]
    tokens = [
        GenerationTokens(stream="s", seq=seq, text=text, index=seq, token_ids=(seq,), log_probability=0.0)
        for seq, text in enumerate(pieces)
    ]
    parts = [part for token in tokens for part in one.take([token])] + one.finish()
    assert joined(parts) == [Reasoning("a b"), "Yes."]
    assert one.reasoning_tokens == 5


MARKS = sorted({mark for form in ToolCallFormat for mark in form.marks} | {mark for marks in R for mark in marks.value})
FRAGMENTS = st.sampled_from(
    [
        *MARKS,
        *(mark[: len(mark) // 2] for mark in MARKS),
        *(text for _, text in SAMPLES),
        *(text[: len(text) // 2] for _, text in SAMPLES),
        "look", "functions.look:0", "<function=look>", "call:look{", "</parameter>", "<|message|>", "[", "]", "{", "}", '"', "\\", " ", "\n", "Hello", "é😀",
    ]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    fragments=st.lists(FRAGMENTS, max_size=6),
    cuts=st.lists(st.integers(0, 900), max_size=8),
    form=st.sampled_from(ToolCallFormat),
    begins_open=st.booleans(),
    is_cut=st.booleans(),
)
def test_rt1_any_cutting_gives_what_the_whole_text_gives(
    fragments: list[str], cuts: list[int], form: ToolCallFormat, begins_open: bool, is_cut: bool
) -> None:
    text = "".join(fragments)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    whole = read(reader(form, begins_open=begins_open), [text], is_cut=is_cut)
    assert read(reader(form, begins_open=begins_open), pieces, is_cut=is_cut) == whole
    assert read(reader(form, begins_open=begins_open), list(text), is_cut=is_cut) == whole


def test_a_hostile_block_takes_no_time() -> None:
    """What a model repeats after a client is read in the server's own loop."""
    for form, head in (
        (F.QWEN_CODER, "<tool_call><function=look>"),
        (F.GLM, "<tool_call>look\n"),
        (F.GEMMA, "<|tool_call>call:look{"),
    ):
        for piece in (
            "<parameter=a>",
            "</parameter>",
            "<parameter=",
            "<arg_key>a</arg_key>",
            "<arg_value>",
            '"',
            "{a:",
            "[",
            form.closing,
        ):
            steps = 0
            one = reader(form)
            text = head + piece * (200_000 // len(piece))
            for at in range(0, len(text), 4096):
                one.feed(text[at : at + 4096])
                steps += 1
            one.finish()
            assert steps > 40
