"""Schemas that people send are followed, and no answer that they allow breaks them; the rest is refused in plain words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from actors.inference.structured_output import BadSchema, Grammars, GrammarsAtNeed
from actors.inference.tools import CallableFunction, ToolCallConstraint, ToolCallFormat
from scripts.benchmark.everyday_schemas import FOLLOWED, REFUSED
from scripts.benchmark.random_answers import RandomAnswers, judge

from .test_spelled_text import TOKENIZERS, Spelling
from .test_tool_call_grammar import allowed

ENGINES_OWN = re.compile(
    r"llguidance|lark|%json|coerce|lenient|x-guidance|lexer|<state>|nullable option|Unimplemented|start:", re.IGNORECASE
)


@pytest.fixture(scope="module", params=["byte level", "SentencePiece"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RandomAnswers:
    folder = tmp_path_factory.mktemp("tokenizer")
    Spelling(folder, TOKENIZERS[request.param]())
    return RandomAnswers(folder)


@pytest.mark.parametrize("name", list(FOLLOWED))
def test_what_the_grammar_allows_is_valid_under_the_schema(answers: RandomAnswers, name: str) -> None:
    schema = FOLLOWED[name]
    answers.grammars.check(schema)
    for seed in range(6):
        text, has_ended = answers.answer(schema, seed)
        assert has_ended, text
        assert judge(schema, text) is None, text


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_followed_is_refused_in_plain_words(answers: RandomAnswers, name: str) -> None:
    schema, words = REFUSED[name]
    with pytest.raises(BadSchema) as refused:
        answers.grammars.check(schema)
    assert words in str(refused.value)
    assert not ENGINES_OWN.search(str(refused.value))


@pytest.mark.parametrize(
    "form", ["iri", "idn-email", "password", "binary", "uuid4", "json-pointer", "regex", "color", "x"]
)
def test_an_unknown_format_is_an_annotation(answers: RandomAnswers, form: str) -> None:
    answers.grammars.check({"type": "string", "format": form})


@pytest.mark.parametrize("form", ["time", "date-time"])
def test_gr8_a_time_ends(answers: RandomAnswers, form: str) -> None:
    matcher = answers.grammars.matcher({"type": "string", "format": form}, [])
    day = "2028-02-29T" if form == "date-time" else ""
    for token_id in answers.grammars._tokenizer.tokenize_str(f'"{day}23:59:58.' + "1" * 9):
        matcher.take(token_id)
    followed = [answers.grammars.make_tables().contents[one] for one in allowed(matcher)]
    assert {one[:1] for one in followed} == {b"Z", b"+", b"-"}


ENDLESS = {
    "duration": "P1D" + "T1H" * 40,
    "email": ".".join(["x" * 16] * 40),
    "hostname": ".".join(["x" * 16] * 40),
    "uri": "https://example.com" + "/part" * 400,
}


@pytest.mark.parametrize("form", list(ENDLESS))
def test_gr8_a_text_of_a_known_format_ends(answers: RandomAnswers, form: str) -> None:
    """Emits one token after another; endless repetition is stopped by the grammar rather than the length."""
    matcher = answers.grammars.matcher({"type": "string", "format": form}, [])
    for token_id in answers.grammars._tokenizer.tokenize_str('"' + ENDLESS[form]):
        if not matcher.mask()[token_id // 32] >> (token_id % 32) & 1:
            return
        matcher.take(token_id)
    pytest.fail(f"{form} goes on")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("uri", "urn:isbn:0451450523"),
        ("uri", "mailto:someone@example.com"),
        ("uri", "ftp://files.example.com:2121/a/b%20c;v=1?x=1&y=/z#top"),
        ("uri", "https://example.com/"),
        ("email", "first.middle.last.of-us@mail.example.co.uk"),
        ("duration", "P1DT12H"),
        ("duration", "PT30M"),
        ("hostname", "a-b.example.com"),
    ],
)
def test_gr8_what_people_write_in_a_format_is_allowed(answers: RandomAnswers, form: str, text: str) -> None:
    matcher = answers.grammars.matcher({"type": "string", "format": form}, [])
    for token_id in answers.grammars._tokenizer.tokenize_str(json.dumps(text)):
        assert matcher.mask()[token_id // 32] >> (token_id % 32) & 1, text
        matcher.take(token_id)


WIDE: list[tuple[dict[str, Any], list[int], list[int]]] = [
    ({"type": "integer", "format": "int32"}, [2**31 - 1, -(2**31), 0], [2**31, -(2**31) - 1, 10**15]),
    ({"type": ["integer", "null"], "format": "uint8"}, [0, 255], [256, -1]),
    ({"type": "integer", "format": "int32", "minimum": 5, "maximum": 2**40}, [5, 2**31 - 1], [4, 2**31]),
    ({"type": "integer", "format": "int32", "exclusiveMaximum": 10, "exclusiveMinimum": -(2**50)}, [9, -(2**31)], [10]),
    ({"type": "integer", "format": "uint64"}, [0, 10**15], [-1]),
    # It leaves nothing beside the bound, or other numbers are asked for: an annotation.
    ({"type": "integer", "format": "int8", "minimum": 1000}, [1000, 5000], [999]),
    ({"type": "integer", "format": "int8", "const": 1000}, [1000], [7]),
    ({"type": "integer", "format": "int64"}, [10**15, -(10**14)], []),
]


@pytest.mark.parametrize(("schema", "fitting", "wrong"), WIDE, ids=lambda one: json.dumps(one)[:60])
def test_gr51_an_integer_fits_the_width_that_its_format_names(
    answers: RandomAnswers, schema: dict[str, Any], fitting: list[int], wrong: list[int]
) -> None:
    def is_allowed(number: int) -> bool:
        matcher = answers.grammars.matcher({"type": "array", "items": schema}, [])
        for token_id in answers.grammars._tokenizer.tokenize_str(f"[{number}]"):
            if not matcher.mask()[token_id // 32] >> (token_id % 32) & 1:
                return False
            matcher.take(token_id)
        return True

    assert [one for one in fitting if not is_allowed(one)] == []
    assert [one for one in wrong if is_allowed(one)] == []


def test_a_number_ends(answers: RandomAnswers) -> None:
    for schema in ({"type": "integer"}, {"type": "number"}, {}):
        matcher = answers.grammars.matcher(schema, [])
        digit = next(one for one in range(300) if answers.text.token_text(one).content == b"7")
        count = 0
        while matcher.mask()[digit // 32] >> (digit % 32) & 1:
            matcher.take(digit)
            count += 1
            assert count < 100
        assert 10**count < 2**63, "an integer of 64 bits"
        assert count > 15, "a double's digits fit"


MAP = {"type": "object", "patternProperties": {"^(a|b|[0-9]+)$": {"type": "null"}}, "additionalProperties": False}


def _rule(form: ToolCallFormat, *, is_required: bool) -> ToolCallConstraint:
    function = CallableFunction(name="f", parameters={**MAP, "minProperties": 4}, path="p")
    return ToolCallConstraint(
        tool_call_format=form, functions=(function,), is_required=is_required, most_calls=1, source_field="tool_choice"
    )


BEFORE_ARGUMENTS = {
    ToolCallFormat.TAGGED: '"arguments": ',
    ToolCallFormat.BARRED: '"arguments": ',
    ToolCallFormat.LLAMA: '"parameters": ',
    ToolCallFormat.MISTRAL: "[ARGS]",
    ToolCallFormat.KIMI_K2: "<|tool_call_argument_begin|>",
    ToolCallFormat.HARMONY: "<|message|>",
}
"""Of the forms whose arguments are one JSON object; the others write them one by one (`test_answer_forms.py`)."""


@pytest.mark.parametrize("form", list(BEFORE_ARGUMENTS), ids=lambda form: form.name)
@pytest.mark.parametrize("seed", range(5))
def test_arguments_hold_no_key_twice(answers: RandomAnswers, form: ToolCallFormat, seed: int) -> None:
    text, has_ended = answers.answer(_rule(form, is_required=True), seed)
    assert has_ended
    arguments = text[text.index(BEFORE_ARGUMENTS[form]) + len(BEFORE_ARGUMENTS[form]) :]
    arguments = arguments[: json.JSONDecoder().raw_decode(arguments)[1]]
    assert judge({**MAP, "minProperties": 4}, arguments) is None, text


@pytest.mark.parametrize("form", [ToolCallFormat.TAGGED, ToolCallFormat.BARRED], ids=lambda form: form.name)
def test_a_free_answer_holds_no_key_twice_once_it_calls(answers: RandomAnswers, form: ToolCallFormat) -> None:
    matcher = answers.grammars.matcher(_rule(form, is_required=False), [])
    tokens = {answers.text.token_text(one).content: one for one in range(answers.text.vocabulary_size)}
    # What looks like JSON before the mark is text.
    for content in b'{"a": 1, "a" ':
        matcher.take(tokens[bytes([content])])
    mark_id = answers.grammars._mark_ids.get(form.opening)
    for token_id in [mark_id] if mark_id is not None else [tokens[bytes([one])] for one in form.opening.encode()]:
        matcher.take(token_id)
    opening = "[" if form is ToolCallFormat.BARRED else ""
    for content in f'{opening}{{"name": "f", "arguments": {{"a": null, "'.encode():
        matcher.take(tokens[bytes([content])])
    allowed = {content for content, one in tokens.items() if content and matcher.mask()[one // 32] >> (one % 32) & 1}
    assert b"a" not in allowed
    assert {b"b", b"1"} <= allowed


def test_what_the_engine_says_in_the_middle_of_an_answer_is_told_in_plain_words(answers: RandomAnswers) -> None:
    matcher = answers.grammars.matcher({"type": "object"}, [])
    with pytest.raises(BadSchema) as stuck:
        matcher.take(answers.text._tokenizer.token_to_id("a"))
    assert not ENGINES_OWN.search(str(stuck.value))


def _allows(answers: RandomAnswers, schema: dict[str, Any], text: str) -> bool:
    """True if the grammar allows this text as a complete answer."""
    tokens = {answers.text.token_text(one).content: one for one in range(answers.text.vocabulary_size)}
    matcher = answers.grammars.matcher(schema, [])
    try:
        for byte in text.encode():
            matcher.take(tokens[bytes([byte])])
    except BadSchema:
        return False
    return bool(matcher.mask()[answers.end // 32] >> (answers.end % 32) & 1)


@pytest.mark.parametrize(
    ("alternatives", "fitting", "unfit"),
    [
        ([{"required": ["a"]}, {"required": ["b"]}], '{"a":1}', '{"a":1,"b":2}'),
        ([{"required": ["a", "b"]}, {"required": ["b", "c"]}], '{"b":1,"c":2}', '{"a":0,"b":1,"c":2}'),
        ([{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}], '{"a":1}', '{"a":1,"b":2}'),
    ],
)
def test_an_answer_fits_one_alternative_alone(
    answers: RandomAnswers, alternatives: list[Any], fitting: str, unfit: str
) -> None:
    schema = {"type": "object", "properties": {one: {"type": "integer"} for one in "abc"}, "oneOf": alternatives}
    assert judge(schema, fitting) is None
    assert _allows(answers, schema, fitting)
    assert judge(schema, unfit) is not None
    assert not _allows(answers, schema, unfit)


def test_options_of_the_engine_are_not_taken_from_a_client(answers: RandomAnswers) -> None:
    options = {"whitespace_flexible": True, "key_separator": "=>", "item_separator": ";", "lenient": True}
    inner = {"type": "object", "properties": {"b": {"const": 1}}, "required": ["b"], "x-guidance": options}
    schema = {"const": {"a": [1, 2], "b": None}, "x-guidance": options, "properties": {"a": True, "b": True}}
    assert _allows(answers, schema, '{"a":[1,2],"b":null}')
    for text in ('{"a"=>[1;2];"b"=>null}', '{"a": [1, 2], "b": null}'):
        assert not _allows(answers, schema, text)
        assert not _allows(answers, {"type": "object", "properties": {"x": inner}}, '{"x":{"b"=>1}}')


def test_many_alternatives_are_told_apart(answers: RandomAnswers) -> None:
    names = [f"name {number}" for number in range(300)]
    constants = {"oneOf": [{"const": one, "title": one} for one in names]}
    kinds = [
        {"type": "object", "properties": {"kind": {"const": one}, "n": {"type": "integer"}}, "required": ["kind"]}
        for one in names
    ]
    assert _allows(answers, constants, f'"{names[-1]}"')
    assert _allows(answers, {"oneOf": kinds[:60]}, '{"kind":"name 59","n":3}')
    with pytest.raises(BadSchema, match="/oneOf has too many alternatives to separate"):
        answers.grammars.check({"oneOf": kinds})


def test_te42_grammars_at_need_are_made_once_and_tried_again_after_a_failure(answers: RandomAnswers) -> None:
    made: list[Grammars | None] = [None]

    def make() -> Grammars:
        made.append(answers.grammars)
        if len(made) == 2:
            raise ValueError("the file cannot be read")
        return answers.grammars

    at_need = GrammarsAtNeed(make)
    assert len(made) == 1, "nobody needs them yet"
    with pytest.raises(ValueError, match="cannot be read"):
        at_need.matcher({"type": "integer"}, [])
    for _ in range(2):
        mask = at_need.matcher({"type": "integer"}, []).mask()
        assert (mask == answers.grammars.matcher({"type": "integer"}, []).mask()).all()
    assert len(made) == 3
