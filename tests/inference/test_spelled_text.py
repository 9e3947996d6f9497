"""Fixed text of schemas and calls is text, whatever tokenizer spells it: no special token, and not one character another."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken, Tokenizer, normalizers

from actors.inference.structured_output import Grammars
from actors.inference.text.text_model import CheckpointText
from actors.inference.tools import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.rest.openai.tool_call_reader import ToolCall, ToolCallReader, whole_calls

from .test_byte_fallback import make_tokenizer as make_sentencepiece
from .test_tool_call_grammar import allowed
from .tiny_text import TEMPLATE
from .tiny_text import make_tokenizer as make_byte_level

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

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        tokenizer.save(str(folder / "tokenizer.json"))
        size = tokenizer.get_vocab_size()
        config = {"vocab_size": size, "max_position_embeddings": 512, "eos_token_id": END}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        self.text = CheckpointText(folder)
        self.grammars = Grammars(folder / "tokenizer.json", size, [END])

    def answer(self, followed: dict[str, Any] | ToolCallConstraint, seed: int) -> str:
        """What a client is told of an answer whose every token was drawn from those allowed."""
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


@pytest.mark.parametrize("form", [ToolCallFormat.TAGGED, ToolCallFormat.BARRED], ids=lambda form: form.name)
def test_arguments_of_forced_calls_are_answered_as_they_stand(spelling: Spelling, form: ToolCallFormat) -> None:
    parameters = {"type": "object", "properties": {one: {"const": one} for one in TEXTS}, "required": TEXTS}
    function = CallableFunction(name="copy", parameters=parameters, path="tools[0].function.parameters")
    rule = ToolCallConstraint(
        tool_call_format=form, functions=(function,), is_required=True, most_calls=1, source_field="x"
    )
    spelling.grammars.check_calls(rule)
    # A mark that is a token of its own is no text, unless a template's marks are made so (`text_model._tokenizer`).
    told = spelling.answer(rule, 1)
    if form.opening in MARKS:
        told = form.opening + told.removeprefix(form.opening)
        told = told.removesuffix(form.closing) + form.closing
    reader = ToolCallReader(form, ["copy"])
    (call,) = (one for one in whole_calls(reader.feed(told) + reader.finish()) if isinstance(one, ToolCall))
    assert json.loads(call.arguments) == {one: one for one in TEXTS}
