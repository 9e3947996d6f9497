"""Arguments that stand one by one in a call fit their parameters in every form, and are read as they were written."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest

from actors.inference.answer_forms import ARGUMENT_SYNTAXES, ReasoningForm
from actors.inference.schema_errors import BadSchema, NotSupported
from actors.inference.text.mock_grammars import END, mock_grammars
from actors.inference.text_arguments import TextArguments
from actors.inference.tools import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.rest.answer_reading.reader import AnswerReader, whole_answer
from actors.rest.openai.tool_call_reader import ToolCall
from actors.rest.openai.tool_choice import call_rule
from actors.rest.openai.tools import Function, Tool

from .test_spelled_text import Spelling, _byte_level

F = ToolCallFormat
FORMS = list(ARGUMENT_SYNTAXES)
NAME = "copy"


def forced(parameters: dict[str, Any], form: ToolCallFormat, **fields: Any) -> ToolCallConstraint:
    function = CallableFunction(name=NAME, parameters=parameters, path="tools[0].function.parameters")
    return ToolCallConstraint(
        **{
            "tool_call_format": form,
            "functions": (function,),
            "is_required": True,
            "most_calls": 1,
            "source_field": "tool_choice",
            **fields,
        }
    )


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def text(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def read(form: ToolCallFormat, told: str, schema: dict[str, Any]) -> dict[str, Any]:
    reader = AnswerReader(ReasoningForm(), form, {NAME: schema})
    _, parts = whole_answer([*reader.feed(told), *reader.finish()])
    assert len(parts) == 1, (told, parts)
    assert isinstance(parts[0], ToolCall), told
    arguments: dict[str, Any] = json.loads(parts[0].arguments)
    return arguments


def allows(rule: ToolCallConstraint, told: str) -> bool:
    """True if a model with bytes as tokens may give exactly this answer."""
    matcher = mock_grammars().matcher(rule, [])
    for token_id in [*told.encode(), END]:
        if not matcher.mask()[token_id // 32] >> (token_id % 32) & 1:
            return False
        matcher.take(token_id)
    return True


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.name)
def spelling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Spelling:
    return Spelling(tmp_path_factory.mktemp("tokenizer"), _byte_level(), request.param)


RULES = of(
    pattern=text(pattern="^[A-Z]{2,4}-[0-9]+$", maxLength=9),
    found=text(pattern="b/c|^x", minLength=3, maxLength=12),
    short=text(minLength=2, maxLength=5),
    empty=text(maxLength=0),
    day=text(format="date"),
    moment=text(format="date-time"),
    clock=text(format="time"),
    span=text(format="duration"),
    mail=text(format="email"),
    host=text(format="hostname"),
    four=text(format="ipv4"),
    six=text(format="ipv6"),
    unique=text(format="uuid"),
    link=text(format="uri"),
    mixed=text(enum=["a", "bb", " c ", 5, None, "ddd\n"], minLength=2),
    both=text(allOf=[{"minLength": 2}, {"pattern": "^[ab]*$"}], maxLength=6),
    some=text(anyOf=[{"const": "left"}, {"maxLength": 2, "pattern": "^[xy]"}]),
    one=text(oneOf=[{"const": "a"}, {"enum": ["b", "cc", "a b"]}]),
    other=text(**{"not": {"type": "integer"}}, maxLength=3),
    named={"type": "string", "$ref": "#/$defs/code"},
    chosen=text(**{"if": {"maxLength": 2}, "then": {"pattern": "^a"}, "else": {"pattern": "^b"}}, maxLength=4),
    loose={"type": ["string", "null"], "maxLength": 4},
    listed={"type": "array", "items": text(pattern="^[<>/a]{0,3}$"), "maxItems": 2},
    free=text(maxLength=30),
    inner={"type": "object", "properties": {"s": text(maxLength=9), "n": {"type": "integer"}}, "required": ["s", "n"]},
) | {"$defs": {"code": text(pattern="^[0-9]{3}$")}}


def test_gr47_texts_of_arguments_fit_their_parameters_in_every_form(spelling: Spelling) -> None:
    for place, (name, one) in enumerate(RULES["properties"].items()):
        schema = {**RULES, "properties": {name: one, "again": one}, "required": [name]}
        rule = forced(schema, spelling.form, most_calls=1)
        spelling.grammars.check_calls(rule)
        for seed in range(2):
            arguments = read(spelling.form, spelling.answer(rule, seed + 10 * place), schema)
            jsonschema.validate(arguments, schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def written(form: ToolCallFormat, *values: tuple[str, str, bool]) -> str:
    """A call as a model writes it: key, value as it stands, and whether it is a text without quotation marks."""
    syntax = ARGUMENT_SYNTAXES[form]
    arguments = []
    for key, value, is_text in values:
        begins = (syntax.text_value if is_text else None) or syntax.value
        ends = (syntax.text_end if is_text else None) or syntax.end
        arguments.append(f"{syntax.key}{key}{begins}{value}{ends}")
    inside = syntax.between.join(arguments) + syntax.called + syntax.closed
    return f"{form.opening}{syntax.named[0]}{NAME}{syntax.named[1]}{inside}{form.closing}"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_gr48_a_mark_of_the_form_never_ends_an_argument_early(form: ToolCallFormat) -> None:
    syntax = ARGUMENT_SYNTAXES[form]
    is_plain = syntax.has_plain_texts
    schema = of(a=text(), b={"type": ["string", "null"]}, c={"type": "array", "items": text()})
    rule = forced(schema, form)

    def call(a: str, b: str, c: str) -> str:
        return written(form, ("a", a if is_plain else json.dumps(a), is_plain), ("b", b, False), ("c", c, False))

    harmless = "".join(one for one in form.marks if not any(mark in one for mark in syntax.fences(form, is_text=True)))
    assert read(form, call(f"x{harmless}y", '"z"', "[]"), schema)["a"] == f"x{harmless}y"
    assert allows(rule, call(f"x{harmless}y\"'{{", '"z"', "[]"))
    for mark in syntax.fences(form, is_text=True):
        assert not allows(rule, call(f"x{mark}y", '"z"', "[]")), mark
        assert not allows(rule, call(mark, '"z"', "[]")), mark
    for mark in syntax.fences(form, is_text=False):
        assert not allows(rule, call("x", f'"{mark}"', "[]")), mark
        assert not allows(rule, call('"', "null", f'["{mark}"]')), mark
        begun = mark[:-1]
        told = call('"', f'"{begun}"', f'["","{begun}{begun}"]')
        assert allows(rule, told), mark
        assert read(form, told, schema) == {"a": '"', "b": begun, "c": ["", begun + begun]}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_gr48_what_a_reader_takes_from_a_text_is_not_in_it(form: ToolCallFormat) -> None:
    syntax = ARGUMENT_SYNTAXES[form]
    schema = of(a=text(minLength=1))
    is_plain = syntax.has_plain_texts
    for one in (" a", "a\n", "\u00a0", "\x1f", "<![CDATA[a]]>", "a b", '"5"', "5", "null", "\n\na\n"):
        told = written(form, ("a", one if is_plain else json.dumps(one), is_plain))
        if allows(forced(schema, form), told):
            assert read(form, told, schema) == {"a": one}
        else:
            assert one.startswith("<!") or (syntax.strips_texts and one != one.strip()), one


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_gr48_a_quotation_mark_in_a_text_hides_nothing_of_what_follows(form: ToolCallFormat) -> None:
    is_plain = ARGUMENT_SYNTAXES[form].has_plain_texts
    rule = forced(of(a=text(), b={"type": "object"}, c={"type": "integer"}), form)

    def call(b: str, c: str) -> str:
        a = 'x"{[' if is_plain else json.dumps('x"{[')
        return written(form, ("a", a, is_plain), ("b", b, False), ("c", c, False))

    assert allows(rule, call('{"k":1,"l":{"k":2}}', "123456789012345"))
    assert not allows(rule, call('{"k":1,"k":2}', "5"))
    assert not allows(rule, call("{}", "1" * 40))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_gr48_half_of_a_surrogate_pair_is_in_no_argument(form: ToolCallFormat) -> None:
    schema = of(a={"type": ["string", "null"]})
    assert allows(forced(schema, form), written(form, ("a", '"x😀"', False)))
    assert not allows(forced(schema, form), written(form, ("a", r'"x\ud83d"', False)))
    for listed in (["\ud83d"], ["a", "x\ude00"]):
        with pytest.raises(BadSchema) as refused:
            mock_grammars().check_calls(forced(of(a=text(enum=listed)), form))
        assert refused.value.field == "tools[0].function.parameters"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_gr47_what_is_required_is_there_and_what_is_forbidden_is_not(form: ToolCallFormat) -> None:
    rule = forced({"properties": {"a": {"type": "integer"}, "b": False}, "required": ["c"]}, form)
    assert mock_grammars().check_calls(rule) == []
    assert allows(rule, written(form, ("c", "5", False)))
    assert allows(rule, written(form, ("a", "1", False), ("c", "[]", False)))
    assert not allows(rule, written(form, ("a", "1", False)))
    assert not allows(rule, written(form, ("b", "1", False), ("c", "5", False)))


def test_gr49_what_a_refusal_recommends_is_there() -> None:
    parameters = {**of(a=text()), "minProperties": 1}
    tools = [Tool(type="function", function=Function(name=NAME, parameters=parameters))]
    with pytest.raises(BadSchema) as refused:
        mock_grammars().check_calls(forced(parameters, F.GLM))
    assert str(refused.value).endswith(
        'calls are unconstrained with tool_choice "auto", no strict function, no response_format and parallel_tool_calls left out'
    )
    assert call_rule(tools, "auto", None, F.GLM) is None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (of(a=text(pattern="^a$", minLength=3)), "no value satisfies it"),
        (of(a=text(enum=["a"], maxLength=0)), "no value satisfies it"),
        (of(a=text(enum=[5, None])), "no value satisfies it"),
        (of(a=text(pattern="(^a|b$)c")), "too complex"),
        (of(a=text(pattern=r"\bx")), "too complex"),
        (of(a=text(pattern="(?!a)b")), "uses lookahead or lookbehind"),
        ({**of(a=text()), "minProperties": 1}, 'without minProperties.* with tool_choice "auto"'),
        ({**of(a=text()), "anyOf": [{"required": ["a"]}]}, "without anyOf"),
        ({"properties": {"a": False}, "required": ["a"]}, r"\w"),
    ],
    ids=lambda one: json.dumps(one)[:40],
)
def test_gr49_what_a_form_cannot_be_held_to_is_refused_by_name(
    form: ToolCallFormat, parameters: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadSchema, match=says) as refused:
        mock_grammars().check_calls(forced(parameters, form))
    assert refused.value.field == "tools[0].function.parameters"


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (text(pattern="a(^b|c$)"), r"a/pattern has \^, \$ or \\b in the middle"),
        (text(pattern=r"a\Bb"), "in the middle"),
        (text(**{"not": {"format": "date"}}), "a/not/format"),
        (text(oneOf=[{"minLength": one} for one in range(20)]), "too many alternatives to separate"),
        (text(**{"$ref": "#"}), "nested too deep"),
    ],
    ids=lambda one: json.dumps(one)[:40],
)
def test_gr49_what_no_expression_says_of_a_text_is_named(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(NotSupported, match=says):
        TextArguments(schema).terminal(schema, "a", without=(), is_trimmed=False)


def test_gr47_a_pattern_is_found_anywhere_unless_it_is_anchored() -> None:
    form = F.QWEN_CODER
    fits = {"b/c": ["ab/cd", "b/c"], "^a|b$": ["ax", "xb"], "^(a|b)$": ["a"], r"^a\$": ["a$x"], r"^[$^|]\|": ["^|x"]}
    breaks = {"b/c": ["bc"], "^a|b$": ["xax", "bx"], "^(a|b)$": ["ab"], r"^a\$": ["ab"], r"^[$^|]\|": ["a|"]}
    for pattern, texts in fits.items():
        rule = forced(of(a=text(pattern=pattern)), form)
        for one in texts:
            assert allows(rule, written(form, ("a", one, True))), (pattern, one)
        for one in breaks[pattern]:
            assert not allows(rule, written(form, ("a", one, True))), (pattern, one)


@pytest.mark.parametrize("form", [one for one in FORMS if ARGUMENT_SYNTAXES[one].has_plain_texts])
def test_gr49_a_text_that_only_a_mark_would_fit_is_refused(form: ToolCallFormat) -> None:
    for mark in ARGUMENT_SYNTAXES[form].fences(form, is_text=True):
        with pytest.raises(BadSchema, match=r"properties\.a: no value satisfies it") as refused:
            mock_grammars().check_calls(forced(of(a=text(pattern=f"^{re.escape(mark)}$")), form))
        assert refused.value.field == "tools[0].function.parameters"
