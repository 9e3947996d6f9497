"""One rule for every text of every command: no U+0000, at any depth, in values and in names; it is told where it stands."""

import json
import typing
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from protocol.codec import decode_command
from protocol.commands import COMMANDS
from protocol.errors import InvalidField
from protocol.json_text import parse_object
from tests.protocol.command_samples import FREE, VALID, Wrap, json_kinds, least_data

NUL = "a\0b"
SHOWN = "a\ufffdb"


def texts(kind: str) -> Iterator[tuple[str, Any]]:
    """(path, data with a NUL there) for every place of a command where a text may stand, free JSON among them."""
    data = COMMANDS[kind].data
    if data in FREE:
        yield from _texts_of_value(Any, "data", lambda value: value)
    else:
        yield from texts_of_class(data, "data", VALID[kind], lambda value: value)


def texts_of_class(cls: type, path: str, valid: dict[str, Any], wrap: Wrap) -> Iterator[tuple[str, Any]]:
    for name, wanted in typing.get_type_hints(cls).items():

        def put(value: Any, name: str = name) -> Any:
            return wrap({**valid, name: value})

        yield from _texts_of_value(wanted, f"{path}.{name}", put)


def _texts_of_value(wanted: Any, path: str, wrap: Wrap) -> Iterator[tuple[str, Any]]:
    if "string" in json_kinds(wanted):
        yield path, wrap(NUL)
    for part in typing.get_args(wanted) or (wanted,):
        origin = typing.get_origin(wanted) if typing.get_origin(wanted) in (list, dict) else typing.get_origin(part)
        whole = wanted if typing.get_origin(wanted) in (list, dict) else part
        if origin is list:
            yield from _texts_of_value(typing.get_args(whole)[0], f"{path}[0]", lambda value: wrap([value]))
        elif origin is dict:
            yield path, wrap({NUL: 1})
            yield from _texts_of_value(typing.get_args(whole)[1], f"{path}.7", lambda value: wrap({"7": value}))
        elif part is Any:
            yield f"{path}.deep[1].er", wrap({"deep": [1, {"er": NUL}]})
            yield f"{path}.deep", wrap({"deep": {NUL: 1}})
        elif attrs.has(part):
            yield from texts_of_class(part, path, least_data(part), wrap)
        if whole is wanted:
            break


CASES = [(kind, path, data) for kind in COMMANDS for path, data in texts(kind)]


def test_the_cases_cover_every_command_that_has_a_text() -> None:
    fieldless = {kind for kind in COMMANDS if kind not in {case[0] for case in CASES}}
    assert all(not typing.get_type_hints(COMMANDS[kind].data) or kind == "unsubscribe" for kind in fieldless), fieldless
    assert len(CASES) > 120


@pytest.mark.parametrize(("kind", "path", "data"), CASES, ids=[f"{kind} {path}" for kind, path, _ in CASES])
def test_no_text_of_any_command_has_a_nul_and_the_refusal_names_the_field(kind: str, path: str, data: Any) -> None:
    for text in (
        json.dumps({"type": kind, "id": "c1", "data": data}),
        json.dumps({"data": data, "id": "c1", "type": kind}),
    ):
        for frame in (text, text.encode()):
            with pytest.raises(InvalidField, match=r"must not contain the character U\+0000") as caught:
                decode_command(frame)
            assert (caught.value.field, caught.value.command_id) == (path, "c1")
            assert "\0" not in caught.value.message


def test_a_backslash_before_it_makes_it_a_text_like_any_other() -> None:
    assert parse_object('{"a": "C:\\\\u0000"}') == {"a": "C:\\u0000"}


def test_bodies_are_held_to_the_same_rule() -> None:
    with pytest.raises(InvalidField) as caught:
        parse_object('{"items": [{"title": "a\\u0000"}]}', prefix="body")
    assert caught.value.field == "body.items[0].title"
