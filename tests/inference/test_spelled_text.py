"""Fixed text of schemas and calls is text, whatever tokenizer spells it: no special token, and not one character another."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken, Tokenizer, normalizers

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ReasoningForm, ReasoningMarks
from actors.inference.schema_errors import BadSchema
from actors.inference.structured_output import Grammars
from actors.inference.text.mock_grammars import mock_grammars
from actors.inference.text.text_model import CheckpointText
from actors.inference.tools import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.rest.answer_reading.reader import AnswerReader, whole_answer
from actors.rest.openai.tool_call_reader import ToolCall

from .test_byte_fallback import make_tokenizer as make_sentencepiece
from .test_tool_call_grammar import allowed
from .tiny_text import TEMPLATE
from .tiny_text import make_tokenizer as make_byte_level

F = ToolCallFormat
NAMED_BY = {
    F.QWEN_CODER: "<tool_call>\n<function=", F.GLM: "<tool_call><arg_key>", F.KIMI_K2: "<|tool_calls_section_begin|>",
    F.HARMONY: "<|channel|><|message|>", F.MINICPM: '<function name="a"><param name="b">',
}  # fmt: skip
"""What a template has by which its form is known, where the marks do not do."""
END = 2
MARKS = ["<s>", "</s>", "<unk>", "<|end|>", "<|im_end|>", "<|im_start|>", "<tool_call>", "</tool_call>", "<filename>"]


def _byte_level() -> Tokenizer:
    tokenizer = make_byte_level()
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in MARKS if one != "<tool_call>"])
    # As Qwen's: a mark that is seen in the text.
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    return tokenizer


def _normalizing() -> Tokenizer:
    tokenizer = _byte_level()
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _sentencepiece() -> Tokenizer:
    """As Llama's and Phi-3's: marks in the vocabulary, spaces behind them swallowed, bytes for what is lacking."""
    tokenizer = make_sentencepiece()
    tokenizer.add_special_tokens([AddedToken(one, special=True, rstrip=True, normalized=False) for one in MARKS])
    return tokenizer


TOKENIZERS = {"byte level": _byte_level, "normalizing": _normalizing, "SentencePiece": _sentencepiece}


class Spelling:
    """A tokenizer's text and what follows grammars with it."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, form: ToolCallFormat = F.TAGGED) -> None:
        """The marks of the form, which the template names, are tokens of their own, and seen in answers."""
        self.form = form
        own = [one for one in (*form.marks, "<|end_of_msg|>") if one.endswith((">", "]")) and one not in MARKS]
        tokenizer.add_special_tokens([AddedToken(one, special=True) for one in own])
        tokenizer.save(str(folder / "tokenizer.json"))
        size = tokenizer.get_vocab_size()
        config = {"vocab_size": size, "max_position_embeddings": 512, "eos_token_id": END}
        (folder / "config.json").write_text(json.dumps(config))
        sample = NAMED_BY.get(form, form.opening + form.closing)
        tools = "{% if tools %}{{ tools | tojson }}{% endif %}{# " + sample.replace("#}", "") + " #}"
        (folder / "chat_template.jinja").write_text(tools + TEMPLATE)
        self.text = CheckpointText(folder)
        assert self.text.tool_call_format is form
        self.grammars = Grammars(folder / "tokenizer.json", size, [END])

    def answer(self, followed: dict[str, Any] | ToolCallConstraint, seed: int) -> str:
        """The text that a client receives of an answer drawn from allowed tokens only."""
        draw, detokenizer, told = random.Random(seed), self.text.detokenizer(), ""
        matcher = self.grammars.matcher(followed, [])
        for _ in range(3000):
            token_id = draw.choice(allowed(matcher))
            if token_id == END:
                return told + detokenizer.finish()
            matcher.take(token_id)
            told += detokenizer.feed(token_id)
        raise AssertionError(f"no end: {told}")


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def spelling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Spelling:
    return Spelling(tmp_path_factory.mktemp("tokenizer"), TOKENIZERS[request.param]())


TEXTS = [
    *(f"a{mark}b" for mark in MARKS),
    *MARKS,
    "cp <filename> /tmp",
    "</s> </s>  <|end|> x",
    "".join(MARKS),
    "e\u0301 and \u00e9",
    "\u2581a \u2581",
    " lead",
    "\u212b\ufb01\u3000\u00a0",
    "😀👩‍👩‍👧é日本",
    "a\n\t\u0000\u007f\u2028b",
    '"\\',
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_const_is_answered_as_it_stands(spelling: Spelling, text: str) -> None:
    for seed in range(3):
        assert json.loads(spelling.answer({"const": text}, seed)) == text


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": MARKS},
        {
            "type": "object",
            "properties": {one: {"type": "boolean"} for one in TEXTS},
            "required": TEXTS,
            "additionalProperties": False,
        },
        {"type": "string", "pattern": "^git clone <filename>$"},
        {"type": "string", "pattern": r"^<\|im_end\|>(</s>)[<]\|end[|]>$"},
        {"type": "string", "pattern": "^\\u2581\\u0065\\u0301$"},
        {"type": "array", "items": {"const": {"<s>": ["</s>", 1, None]}}, "minItems": 1, "maxItems": 2},
        {"anyOf": [{"const": "<|im_end|>"}, {"const": "<|im_start|>"}, {"const": "<|im_end|>e\u0301"}]},
    ],
    ids=lambda schema: ascii(json.dumps(schema))[:50],
)
def test_names_patterns_and_enumerations_are_answered_as_they_stand(spelling: Spelling, schema: dict[str, Any]) -> None:
    for seed in range(3):
        jsonschema.validate(json.loads(spelling.answer(schema, seed)), schema)


@pytest.fixture(scope="module", params=itertools.product(TOKENIZERS, F), ids=lambda one: f"{one[0]}-{one[1].name}")
def spelling_of_form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Spelling:
    name, form = request.param
    return Spelling(tmp_path_factory.mktemp("tokenizer"), TOKENIZERS[name](), form)


def _forced(parameters: dict[str, Any], form: ToolCallFormat) -> ToolCallConstraint:
    function = CallableFunction(name="copy", parameters=parameters, path="tools[0].function.parameters")
    return ToolCallConstraint(
        tool_call_format=form, functions=(function,), is_required=True, most_calls=1, source_field="x"
    )


def _texts_for(form: ToolCallFormat, *, is_typed: bool) -> tuple[list[str], list[str]]:
    """Texts that may be asked for in calls of this form, and those that may not: they hold a mark that ends them."""
    texts = [*TEXTS, "", *form.marks, *(f"a {mark} b" for mark in form.marks)]
    syntax = ARGUMENT_SYNTAXES.get(form)
    if syntax is None:
        return texts, []
    end = (syntax.text_end if is_typed else None) or syntax.end
    ends = [end.strip(), form.closing if syntax.between else syntax.named[0].strip()]
    refused = [one for one in [*texts, *(f"a{end}b" for end in ends)] if any(end and end in one for end in ends)]
    return [one for one in texts if one not in refused], refused


@pytest.mark.parametrize("is_typed", [False, True], ids=["any", "typed"])
def test_arguments_of_forced_calls_are_answered_as_they_stand(spelling_of_form: Spelling, is_typed: bool) -> None:
    form = spelling_of_form.form
    texts, refused = _texts_for(form, is_typed=is_typed)
    of_text: dict[str, Any] = {"type": "string"} if is_typed else {}
    parameters = {f"text_{at}": {"const": one, **of_text} for at, one in enumerate(texts)}
    parameters["one_of"] = {"enum": ["</s>", "<|im_end|>x"], **of_text}
    if form not in ARGUMENT_SYNTAXES:
        parameters |= {one: {"const": one} for one in texts}
    schema = {"type": "object", "properties": parameters, "required": list(parameters)}
    rule = _forced(schema, form)
    assert spelling_of_form.grammars.check_calls(rule) == []
    told = spelling_of_form.answer(rule, 1)
    marks = ReasoningMarks.HARMONY if form is F.HARMONY else ReasoningMarks.THINK
    reader = AnswerReader(ReasoningForm(marks=marks), form, {"copy": schema})
    _, (call,) = whole_answer([*reader.feed(told), *reader.finish()])
    assert isinstance(call, ToolCall)
    jsonschema.validate(json.loads(call.arguments), schema)
    for text in refused:
        wrong = {"type": "object", "properties": {"a": {**of_text, "enum": [text]}}, "required": ["a"]}
        with pytest.raises(BadSchema, match=re.escape("properties.a cannot require a string containing")) as raised:
            spelling_of_form.grammars.check_calls(_forced(wrong, form))
        assert raised.value.field == "tools[0].function.parameters"


WRONG_NAMES = {
    F.QWEN_CODER: ["a b", "a>", ""], F.GLM: [" a", "a<b"], F.LONGCAT: ["a\n", "<"], F.MINIMAX: ['a"', "a "], F.MUSE: ['"'],
    F.MINICPM: ['a"b'], F.KIMI_K3: ['"', " "], F.PYTHONIC: ["a b", "a="], F.GEMMA: ["a:b", ""], F.FUNCTION_GEMMA: ["a,b"],
}  # fmt: skip


def test_names_that_a_form_cannot_write_are_refused() -> None:
    assert set(WRONG_NAMES) == set(ARGUMENT_SYNTAXES)
    for form, names in WRONG_NAMES.items():
        for name in names:
            with pytest.raises(BadSchema, match="this model has no way to write it") as raised:
                mock_grammars().check_calls(_forced({"type": "object", "properties": {name: {}}}, form))
            assert raised.value.field == "tools[0].function.parameters"
