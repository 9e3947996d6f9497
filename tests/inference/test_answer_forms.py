"""Formats of tool calls and reasoning in checkpoints, the input of their templates, and grammars for calls of every format."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ReasoningForm, ReasoningMarks, ToolCallFormat
from actors.inference.structured_output import Grammars
from actors.inference.text.chat_template import ChatTemplate
from actors.inference.text.text_model import CheckpointText
from actors.inference.tools import CallableFunction, GenerateWithTools, ToolCallConstraint
from actors.rest.answer_reading.reader import AnswerReader, whole_answer
from actors.rest.openai.tool_call_reader import ToolCall
from protocol.commands import ChatMessage, Role

from .tiny_text import make_tokenizer, write_text_folder

F, R = ToolCallFormat, ReasoningMarks
ASKED = "{% for one in messages %}<{{ one.role }}>{{ one.content }}{% endfor %}"
TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"
QWEN3 = ASKED + (
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
QWEN35 = QWEN3.replace("{% endif %}{% endif %}", "{% else %}{{ '<think>\\n' }}{% endif %}{% endif %}")
R1 = ASKED + "{% if add_generation_prompt and not x %}{{ '<assistant>' + '<think>\\n' }}{% endif %}"
GLM = (
    ASKED
    + "{% if add_generation_prompt %}<assistant>{{ '\\n<think></think>' if enable_thinking is false else '' }}{% endif %}"
)
ASKED_FOR = ASKED + "{% if add_generation_prompt %}{% if thinking %}<think>{% else %}</think>{% endif %}{% endif %}"
HARMONY = "{{ reasoning_effort or 'medium' }}" + ASKED + "<|start|>assistant{# <|channel|> <|message|> #}"


def messages(*said: str) -> list[ChatMessage]:
    return [ChatMessage(Role.USER if at % 2 == 0 else Role.ASSISTANT, one) for at, one in enumerate(said)]


def asked(thinks: bool | None = None, **fields: Any) -> GenerateWithTools:
    return GenerateWithTools(
        messages=messages("x"),
        turns=[{"role": "user", "content": "x"}],
        tool_call_format=F.TAGGED,
        thinks=thinks,
        **fields,
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (QWEN3, ReasoningForm(is_known=True, has_switch=True)),
        (QWEN35, ReasoningForm(is_known=True, is_opened=True, has_switch=True)),
        (R1, ReasoningForm(is_known=True, is_opened=True)),
        (GLM, ReasoningForm(is_known=True, has_switch=True)),
        (ASKED_FOR, ReasoningForm(is_known=True, is_opened=True, has_switch=True, is_asked_for=True)),
        (HARMONY, ReasoningForm(marks=R.HARMONY, is_known=True)),
        (ASKED, ReasoningForm()),
        (ASKED + "{# [THINK] [/THINK] #}", ReasoningForm(marks=R.MISTRAL, is_known=True)),
    ],
    ids=["Qwen3", "Qwen3.5", "R1", "GLM", "asked for", "harmony", "plain", "Mistral"],
)
def test_how_a_model_thinks_is_read_from_its_template(source: str, expected: ReasoningForm) -> None:
    form = ChatTemplate(source, {}).reasoning
    assert form == expected
    assert ReasoningForm.from_json(json.loads(json.dumps(form.as_json()))) == form


@pytest.mark.parametrize("form", ToolCallFormat, ids=lambda form: form.name)
def test_the_form_of_calls_is_read_from_the_template(form: ToolCallFormat) -> None:
    sample = {
        F.QWEN_CODER: "<tool_call>\n<function=", F.GLM: "<tool_call><arg_key>", F.KIMI_K2: "<|tool_calls_section_begin|>",
        F.HARMONY: "<|channel|><|message|>", F.MINICPM: '<function name="a"><param name="b">',
    }.get(form, form.opening + form.closing)  # fmt: skip
    tokens = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>") if form is F.KIMI_K3 else ()
    template = ChatTemplate(f"{TOOLS}{{# {sample.replace('#}', '')} #}}", {}, tokens)
    assert (template.has_tools, template.tool_call_format) == (True, form)
    assert not ChatTemplate(f"{{# {sample} #}}", {}, tokens).has_tools, "one that is given no tools has none"


def test_rt3_thinking_is_left_out_where_it_is_asked_and_where_the_answer_is_held() -> None:
    generic = ChatTemplate(QWEN3, {})
    assert generic.render(messages("x")).endswith("<assistant>")
    closed = "<assistant><think>\n\n</think>\n\n"
    assert generic.render_with_tools(asked(False)).endswith(closed)
    assert generic.render_with_tools(asked(True)).endswith("<assistant>")
    assert generic.render(messages("x"), answer_is_held=True).endswith(closed)
    assert ChatTemplate(QWEN35, {}).render_with_tools(asked(False)).endswith(closed)
    assert ChatTemplate(R1, {}).render_with_tools(asked(False)).endswith("<assistant><think>\n\n</think>\n\n"), (
        "no switch"
    )
    assert ChatTemplate(R1, {}).render_with_tools(asked(None)).endswith("<assistant><think>\n")
    held = asked(None, response_schema={"type": "object"})
    assert ChatTemplate(R1, {}).render_with_tools(held).endswith("</think>\n\n")
    assert ChatTemplate(ASKED_FOR, {}).render_with_tools(asked(True)).endswith("<think>")


def test_rt3_gpt_oss_is_told_how_much_and_held_to_its_channel_of_answers() -> None:
    template = ChatTemplate(HARMONY, {})
    assert template.render(messages("x")).startswith("medium")
    assert template.render_with_tools(asked(reasoning_effort="high")).startswith("high")
    assert template.render_with_tools(asked(False, reasoning_effort="none")).startswith("low")
    assert template.render(messages("x"), answer_is_held=True).endswith("<|start|>assistant<|channel|>final<|message|>")


def test_rt4_what_was_thought_is_not_fed_back() -> None:
    said = messages("x", "<think>secret</think>\n\nYes.", "y")
    assert ChatTemplate(ASKED, {}).render(said) == "<user>x<assistant>Yes.<user>y"
    harmony = messages(
        "x", "<|channel|>analysis<|message|>secret<|end|><|start|>assistant<|channel|>final<|message|>Yes.", "y"
    )
    assert ChatTemplate(HARMONY, {}).render(harmony).startswith("medium<user>x<assistant>Yes.<user>y")


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "is_now": {"type": "boolean"}},
    "required": ["city", "days"],
}
FUNCTIONS = (
    CallableFunction(name="look", parameters=SCHEMA, path="tools[0].function.parameters"),
    CallableFunction(name="stop", parameters=None, path="tools[1].function.parameters"),
)
HELD: dict[ToolCallFormat, tuple[str, str]] = {
    F.LLAMA: ('<|python_tag|>{"name": "look", "parameters": {"city": "Bonn", "days": 3}}', '"days": "3"'),
    F.MISTRAL: ('[TOOL_CALLS]look[ARGS]{"city": "Bonn", "days": 3}', '"days": "3"'),
    F.KIMI_K2: (
        ("<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>"
        '{"city": "Bonn", "days": 3}<|tool_call_end|><|tool_calls_section_end|>'),
        '"days": "3"',
    ),
    F.HARMONY: (
        '<|channel|>commentary to=functions.look <|constrain|>json<|message|>{"city": "Bonn", "days": 3}', '"days": "3"'
    ),
    F.QWEN_CODER: (
        ("<tool_call>\n<function=look>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
        "</function>\n</tool_call>"),
        "<parameter=days>\nmany",
    ),
    F.GLM: (
        ("<tool_call>look\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3"
        "</arg_value>\n</tool_call>"),
        "<arg_value>many",
    ),
    F.LONGCAT: (
        ("<longcat_tool_call>look\n<longcat_arg_key>city</longcat_arg_key>\n<longcat_arg_value>Bonn</longcat_arg_value>\n"
        "<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>3</longcat_arg_value>\n</longcat_tool_call>"),
        "<longcat_arg_value>many",
    ),
    F.MINIMAX: (
        ('<minimax:tool_call>\n<invoke name="look">\n<parameter name="city">Bonn</parameter>\n<parameter name="days">3'
        "</parameter>\n</invoke>\n</minimax:tool_call>"),
        '<parameter name="days">many',
    ),
    F.MUSE: (
        ('<atem:function_calls>\n<atem:invoke name="look">\n<atem:parameter name="city">Bonn</atem:parameter>\n'
        '<atem:parameter name="days">3</atem:parameter>\n</atem:invoke>\n</atem:function_calls>'),
        '<atem:parameter name="days">many',
    ),
    F.MINICPM: (
        '<function name="look"><param name="city">Bonn</param><param name="days">3</param></function>', '"days">many'
    ),
    F.KIMI_K3: (
        ('<|open|>tools<|sep|><|open|>call tool="look" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Bonn'
        '<|close|>argument<|sep|><|open|>argument key="days" type="object"<|sep|>3<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|>"),
        '"days" type="object"<|sep|>many',
    ),
    F.PYTHONIC: ('<|tool_call_start|>[look(city="Bonn", days=3)]<|tool_call_end|>', 'days="3"'),
    F.GEMMA: ('<|tool_call>call:look{city:<|"|>Bonn<|"|>,days:3}<tool_call|>', "days:many"),
    F.FUNCTION_GEMMA: (
        "<start_function_call>call:look{city:<escape>Bonn<escape>,days:3}<end_function_call>", "days:many"
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["marks are text", "marks are tokens"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Grammars]:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_text_folder(folder)
    tokenizer = make_tokenizer()
    if request.param:
        tokenizer.add_special_tokens(
            [mark for form in ToolCallFormat for mark in form.marks if mark.endswith((">", "]"))]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer, Grammars(folder / "tokenizer.json", tokenizer.get_vocab_size(), [2])


def allows(peer: tuple[Any, Grammars], rule: ToolCallConstraint, text: str) -> bool:
    """True if the grammar allows this text as a complete answer."""
    tokenizer, grammars = peer
    matcher = grammars.matcher(rule, [])
    for token_id in [*tokenizer.encode(text, add_special_tokens=False).ids, 2]:
        if not matcher.mask()[token_id // 32] >> (token_id % 32) & 1:
            return False
        matcher.take(token_id)
    return True


@pytest.mark.parametrize("form", HELD, ids=lambda form: form.name)
def test_rt5_a_forced_call_of_each_form_is_held_to_it_and_read_again(
    peer: tuple[Any, Grammars], form: ToolCallFormat
) -> None:
    rule = ToolCallConstraint(
        tool_call_format=form, functions=FUNCTIONS, is_required=True, most_calls=2, source_field="tool_choice"
    )
    assert peer[1].check_calls(rule) == []
    text, wrong = HELD[form]
    right = wrong.replace("many", "3").replace('"3"', "3")
    assert right in text
    assert allows(peer, rule, text)
    for other in (
        "",
        "No.",
        f"Well. {text}",
        text.replace("look", "other"),
        text.replace(right, wrong),
        text[: len(text) // 2],
    ):
        assert not allows(peer, rule, other), other
    marks = R.HARMONY if form is F.HARMONY else R.THINK
    reader = AnswerReader(ReasoningForm(marks=marks), form, {"look": SCHEMA, "stop": None})
    _, (call,) = whole_answer([*reader.feed(text), *reader.finish()])
    assert isinstance(call, ToolCall)
    assert (call.name, json.loads(call.arguments)) == ("look", {"city": "Bonn", "days": 3})


@pytest.mark.parametrize("form", HELD, ids=lambda form: form.name)
def test_an_answer_that_may_call_may_be_text_and_holds_its_calls(
    peer: tuple[Any, Grammars], form: ToolCallFormat
) -> None:
    rule = ToolCallConstraint(
        tool_call_format=form, functions=FUNCTIONS, is_required=False, most_calls=1, source_field="parallel_tool_calls"
    )
    peer[1].check_calls(rule)
    text, wrong = HELD[form]
    right = wrong.replace("many", "3").replace('"3"', "3")
    said = "<|channel|>final<|message|>Sunny" if form is F.HARMONY else "Sunny"
    assert allows(peer, rule, said)
    assert allows(peer, rule, text if form is F.HARMONY else f"I look. {text}")
    assert not allows(peer, rule, text.replace(right, wrong))


@pytest.mark.parametrize("form", [one for one in HELD if one not in ARGUMENT_SYNTAXES], ids=lambda form: form.name)
def test_oa28_free_arguments_are_json_whatever_is_drawn(peer: tuple[Any, Grammars], form: ToolCallFormat) -> None:
    tokenizer, grammars = peer
    head = HELD[form][0].partition('"city"')[0]
    marks = R.HARMONY if form is F.HARMONY else R.THINK
    for seed in range(5):
        draw, drawn, told = random.Random(seed), list[int](), head
        matcher = grammars.free_calls(form, tokenizer.encode(head, add_special_tokens=False).ids)
        mask = matcher.mask()
        assert mask is not None
        while mask is not None:
            drawn.append(draw.choice([one for one in range(32 * len(mask)) if mask[one // 32] >> (one % 32) & 1]))
            matcher.take(drawn[-1])
            told = head + tokenizer.decode(drawn, skip_special_tokens=False)
            mask = matcher.mask() if len(drawn) < 3000 else None
        reader = AnswerReader(ReasoningForm(marks=marks), form, {"look": SCHEMA, "stop": None})
        _, whole = whole_answer([*reader.feed(told), *reader.finish()])
        assert isinstance(whole[0], ToolCall), told
        assert isinstance(json.loads(whole[0].arguments), dict)


def test_marks_that_are_special_tokens_are_seen_in_answers_and_written_by_nobody(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens(["<think>", "</think>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": tokenizer.get_vocab_size()}))
    text = CheckpointText(folder)
    assert text.reasoning.is_known
    detokenizer = text.detokenizer()
    ids = tokenizer.encode("<think>a</think>b", add_special_tokens=False).ids
    assert "".join(map(detokenizer.feed, ids)) + detokenizer.finish() == "<think>a</think>b"
    mark = tokenizer.token_to_id("<think>")
    prompt = text.encode(GenerateWithTools(
        messages=messages("<think>"), turns=[{"role": "user", "content": "<think>"}], tool_call_format=F.TAGGED
    ))  # fmt: skip
    assert mark not in prompt
