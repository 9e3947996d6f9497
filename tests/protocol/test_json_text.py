"""JSON that two readers could understand differently is not a message."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol import json_scan, json_text, json_values
from protocol.errors import BadMessage, InvalidField, TooLarge
from protocol.json_scan import STEP_CHARACTERS, look_through
from protocol.json_text import json_type, object_in_steps, parse_object
from protocol.validation import FieldFault, between

BIG = 2**53


def nested(containers: int, innermost: str = "", *, lists: bool = True) -> str:
    """An object in which containers stand one in another, ``containers`` deep with itself."""
    inside = containers - 1
    if lists:
        return '{"a":' + "[" * inside + innermost + "]" * inside + "}"
    return '{"a":' * inside + "{" + (f'"a":{innermost}' if innermost else "") + "}" + "}" * inside


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "}",
        "nonsense",
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": 01}',
        '{"a": 1} trailing',
        '{"a": 1}{"b": 2}',
        '{"a": "\x01"}',
        '{"a": "\\x41"}',
        "{a: 1}",
        '\ufeff{"a": 1}',
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(BadMessage, match="not JSON"):
        parse_object(text)


@pytest.mark.parametrize("text", ["null", "true", "5", "5.5", '"text"', "[]", '[{"type":"ping"}]'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(BadMessage, match="a message is an object"):
        parse_object(text)


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"b":{"a":1,"a":2}}', '{"b":[{"a":1,"\\u0061":2}]}'])
def test_duplicate_keys_are_refused_at_any_depth(text: str) -> None:
    with pytest.raises(BadMessage, match="same key twice"):
        parse_object(text)


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_not_json_are_refused(name: str) -> None:
    with pytest.raises(BadMessage, match=name):
        parse_object(f'{{"a":[{name}]}}')


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_a_number_that_overflows_a_double_is_refused(number: str) -> None:
    with pytest.raises(BadMessage, match="double"):
        parse_object(f'{{"a":{number}}}')


@pytest.mark.parametrize("digits", [str(BIG + 1), str(-BIG - 1), "1" + "0" * 5000], ids=["above", "below", "endless"])
def test_an_integer_beyond_two_to_the_53_is_refused(digits: str) -> None:
    for text in (f'{{"a":{digits}}}', f'{{"a":[{{"b":{digits}}}]}}'):
        with pytest.raises(BadMessage):
            parse_object(text)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63), 2**64, -(10**40)])
def test_where_any_integer_is_taken_it_is_exact(number: int) -> None:
    text = f'{{"a":{{"b":[1,{number}]}}}}'
    assert parse_object(text, any_integers=True) == {"a": {"b": [1, number]}}
    # The slower reader, which an escaped colon asks for.
    assert parse_object(text.replace("{", '{"\\u003a":0,', 1), any_integers=True)["a"] == {"b": [1, number]}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (str(2**53 + 1), "beyond ±2"),
        ("1e400", "beyond the range of a double"),
        ("NaN", "is NaN"),
        ("-Infinity", "is -Infinity"),
        (r'"\ud800"', "lone surrogate"),
    ],
)
@pytest.mark.parametrize(
    ("text", "path"), [('{"b":%s}', "a.b"), ('{"x":[0,{"y":%s}],"z":1}', "a.x[1].y"), ('{"b":%s,"c":%s}', "a.b")]
)
def test_a_value_that_is_not_taken_is_told_with_its_path(value: str, says: str, text: str, path: str) -> None:
    with pytest.raises(InvalidField if "surrogate" in says else BadMessage, match=says) as refused:
        parse_object(text.replace("%s", value), prefix="a")
    assert refused.value.field == path
    assert refused.value.message.startswith(path)


def test_a_name_that_is_not_taken_is_told_too() -> None:
    with pytest.raises(InvalidField, match="surrogate") as refused:
        parse_object(r'{"a":{"\ud800":1}}')
    assert refused.value.field == "a"


def test_integers_up_to_two_to_the_53_are_taken() -> None:
    assert parse_object(f'{{"a":{BIG},"b":{-BIG}}}') == {"a": BIG, "b": -BIG}


@pytest.mark.parametrize("text", ['{"a":"\\ud800"}', '{"\\udfff":1}', '{"a":["x\\udc00\\ud800"]}', '{"a":"\ud800"}'])
def test_lone_surrogates_are_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="surrogate"):
        parse_object(text)


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_object('{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("innermost", ["", "1", '"text"'])
def test_nesting_of_64_is_taken_and_65_refused(lists: bool, innermost: str) -> None:
    parse_object(nested(64, innermost, lists=lists))
    with pytest.raises(BadMessage, match="nested deeper than 64"):
        parse_object(nested(65, innermost, lists=lists))


@pytest.mark.parametrize("lists", [True, False])
def test_bottomless_nesting_is_refused_and_harms_nobody(lists: bool) -> None:
    for containers in (10_000, 100_000):
        with pytest.raises(BadMessage, match="nested deeper than 64"):
            parse_object(nested(containers, lists=lists))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
def test_bytes_in_another_encoding_than_utf_8_are_refused(encoding: str) -> None:
    with pytest.raises(BadMessage):
        parse_object('{"a":"é"}'.encode(encoding))


def test_surrogates_encoded_as_utf_8_bytes_are_refused() -> None:
    with pytest.raises(BadMessage):
        parse_object(b'{"a":"\xed\xa0\x80"}')


values = st.recursive(
    st.none() | st.booleans() | st.integers(-BIG, BIG) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_everything_else_is_read_as_it_was_written(content: dict[str, object]) -> None:
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False)):
        assert parse_object(text, takes_nul=True) == content
        assert parse_object(text.encode(), takes_nul=True) == content


@settings(deadline=None)
@given(st.text(max_size=40) | st.binary(max_size=40))
def test_arbitrary_input_is_an_object_or_a_bad_message(text: str | bytes) -> None:
    with suppress(BadMessage, InvalidField):
        assert isinstance(parse_object(text), dict)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("x", "a string"),
        ([], "an array"),
        ({}, "an object"),
        (b"", "bytes"),
    ],
)
def test_values_are_named_as_json_names_them(value: object, word: str) -> None:
    assert json_type(value) == word


KEY_TEXTS = st.sampled_from(['"a"', '"b"', '"a:"', '":"', '"\\u003a"', '"\\u003A"', '"\\u0061"', '"a::b"'])
JSON_TEXTS = st.recursive(
    st.one_of(KEY_TEXTS, st.sampled_from(["1", "null", "true", '""', "1.5"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]"),
        st.lists(st.tuples(KEY_TEXTS, inner), max_size=4).map(
            lambda pairs: "{" + " ,".join(f"{key} : {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError
    return dict(pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(KEY_TEXTS, JSON_TEXTS), max_size=4))
@example([('"a"', "1"), ('"a"', '"\\u003a"')])
@example([('"a"', "1"), ('"a"', '"\\u003A"')])
@example([('"a"', '":"'), ('"a"', "1")])
def test_the_fast_reader_loses_no_key_however_colons_are_written(pairs: list[tuple[str, str]]) -> None:
    """P1: a key that comes twice is refused, also where strings hold colons that could hide it."""
    text = "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
    try:
        expected = json.loads(text, object_pairs_hook=unique)
    except ValueError:
        with pytest.raises(BadMessage, match="same key twice"):
            parse_object(text)
    else:
        assert parse_object(text) == expected


def filled(head: str, unit: str, tail: str, size: int = 1 << 20) -> str:
    """A text of about ``size`` characters."""
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


@pytest.mark.parametrize(
    ("head", "unit", "tail"),
    [
        ('{"a":[1', ",1", "]}"),
        ('{"a":[[]', ",[]", "]}"),
        ('{"a":[{"b":1}', ',{"b":1}', "]}"),
        ('{"a":[{"b":1}', ',{"b":1}', ",NaN]}"),
        ('{"a":[{"b":1}', ',{"b":1}', ',"\\ud800"]}'),
        ('{"a":[{"b":1}', ',{"b":1}', "]"),
        ('{"a":1', ',"a":1', "}"),
        ('{"a":[""', ',""', "]}"),
        ('{"a":["\\""', ',"\\""', "]}"),
        ('{"a":["\\\\"', ',"\\\\"', "]}"),
        ('{"a":[0', "," + "[" * 30 + "]" * 30, "]}"),
        ('{"a":[1', "," + "9" * 4000, "]}"),
    ],
)
def test_what_would_take_long_to_read_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, head: str, unit: str, tail: str
) -> None:
    """A megabyte of each held the event loop for a second or two."""

    def read(*_: object, **__: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(json_text, "_read", read)
    for text in (filled(head, unit, tail), filled(head, unit, tail).encode("utf-8", "surrogatepass")):
        with pytest.raises(TooLarge):
            parse_object(text)


@pytest.mark.parametrize(
    ("head", "unit", "tail", "words"),
    [
        ("", "[", "", "not an array"),
        ('["', "x", '"]', "not an array"),
        ('"', "x", '"', "not a string"),
        ("", ",", "", "begins with {"),
        ("", "\0", "", "begins with {"),
        ('{"a":', "[", "", "nested deeper"),
        ("", '{"a":', "", "nested deeper"),
        ('{"a":"', "x", "", "within a string"),
        ('{"a":"', "\\", "\\", "within a string"),
        ('{"a":"', '\\"', "", "within a string"),
        ('{"a":"', "x", '"', "before its object does"),
        ("{", " ", "", "before its object does"),
        ("", " ", "", "empty"),
    ],
)
def test_a_long_text_is_refused_by_the_first_thing_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, head: str, unit: str, tail: str, words: str
) -> None:
    """A look at it tells, and nothing reads it."""
    monkeypatch.setattr(json_text, "_read", lambda *_: pytest.fail("it was read"))
    text = filled(head, unit, tail)
    taken, fault = steps_until_refused(text)
    assert words in fault.message
    if words in ("within a string", "before its object does", "empty"):
        assert taken == (len(text) - 1) // STEP_CHARACTERS
    else:
        assert taken == 0


def steps_until_refused(text: str) -> tuple[int, BadMessage]:
    taken = 0
    try:
        for _ in object_in_steps(text):
            taken += 1
    except BadMessage as fault:
        return taken, fault
    raise AssertionError("it was taken")


class CountedText(str):
    """Counts how much of it is cut out and looked at between two steps."""

    __slots__ = ("looked_at",)
    looked_at: int

    def __getitem__(self, key: Any) -> str:
        part = super().__getitem__(key)
        self.looked_at += len(part)
        return part


@pytest.mark.parametrize("tail", ['"}', ""])
def test_between_two_steps_no_more_than_a_piece_of_a_text_is_looked_at(tail: str) -> None:
    text = CountedText(filled('{"a":"', "x", tail))
    text.looked_at = 0
    looked_at = [0]
    with suppress(BadMessage):
        looked_at.extend(text.looked_at for _ in look_through(text))
    assert len(looked_at) == len(text) // STEP_CHARACTERS + (len(text) % STEP_CHARACTERS > 0)
    assert {after - before for before, after in pairwise(looked_at)} == {STEP_CHARACTERS}


@pytest.mark.parametrize("fault", ["1", "9007199254740993", '"\\u0000"', '"\\ud800"'])
def test_others_have_their_turn_while_many_values_are_looked_at(fault: str) -> None:
    text = '{"a":[' + "1," * 30_000 + fault + "]}"
    steps = 0
    with suppress(BadMessage, InvalidField):
        for _ in object_in_steps(text):
            steps += 1
    # Each value is looked at once, and what a fault is called once more.
    assert steps >= (30_000 // json_values.STEP_VALUES) * (1 if fault == "1" else 2)


@given(st.text(alphabet='{}[]",:\\ 19a', max_size=120), st.integers(1, 7))
@settings(deadline=None)
@example('{"a":"\\\\"}', 3)
@example('{"a":"\\\\\\""}', 5)
def test_where_a_text_is_cut_into_pieces_makes_no_difference(text: str, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_scan, "MAXIMUM_NESTING", 200)
        whole = outcome(text, len(text) + 1, patch)
        assert outcome(text, step, patch) == whole
    if whole is not None:
        with suppress(json.JSONDecodeError):
            assert type(json.loads(text)) is not dict


def outcome(text: str, step: int, patch: pytest.MonkeyPatch) -> str | None:
    patch.setattr(json_scan, "STEP_CHARACTERS", step)
    try:
        for _ in look_through(text):
            pass
    except BadMessage as fault:
        return fault.message.partition(",")[0]
    return None


@pytest.mark.parametrize("unit", [",", "[{", "9", '\\"', "\\\\", ":", "é", "\\u005b"])
def test_a_long_text_may_hold_whatever_it_likes(unit: str) -> None:
    text = filled('{"a":"', unit, '"}')
    assert parse_object(text) == json.loads(text)


def test_as_many_values_as_are_allowed_are_read() -> None:
    # One comma fewer than values, and a bracket and a brace around them.
    most = json_text.MAXIMUM_VALUES - 1
    assert len(parse_object('{"a":[' + ",".join(["1"] * most) + "]}")["a"]) == most
    with pytest.raises(TooLarge):
        parse_object('{"a":[' + ",".join(["1"] * (most + 1)) + "]}")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (2**63, "x must be at most 9223372036854775807, not 9223372036854775808"),
        (10**30, "x must be at most 9223372036854775807, not 1e+30"),
        (10**400, "x must be at most 9223372036854775807, not an integer beyond any double"),
        (-(2**63) - 1, "x must be at least -9223372036854775808, not -9223372036854775809"),
    ],
    ids=["one more", "beyond 64 bits", "beyond doubles", "one less"],
)
def test_a_bound_of_integers_is_told_exactly(value: int, told: str) -> None:
    one = attrs.make_class("One", {"x": attrs.field(validator=between(-(2**63), 2**63 - 1))})
    with pytest.raises(FieldFault, match=f"^{re.escape(told)}$"):
        one(value)
