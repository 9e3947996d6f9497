"""Strict JSON parsing: a single object, without anything that two parsers would understand differently."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, TypeVar

import msgspec

from protocol.errors import BadMessage, InvalidField, NotAnObject, TooLarge
from protocol.json_scan import MAXIMUM_NESTING, MAXIMUM_VALUES, STEP_CHARACTERS, look_through
from protocol.json_values import (
    MAXIMUM_INTEGER,
    NO_NUL,
    Constant,
    Faulty,
    colons_in,
    count_pairs_and_colons,
    named,
    path_of,
)

__all__ = [
    "MAXIMUM_INTEGER",
    "MAXIMUM_NESTING",
    "MAXIMUM_VALUES",
    "NO_NUL",
    "STEP_CHARACTERS",
    "all_steps",
    "json_type",
    "nul_refused_in_steps",
    "object_in_steps",
    "parse_object",
]

Result = TypeVar("Result")

_ESCAPED_NUL = "\\u0000"
"""The only way to write it in JSON (RFC 8259, 7)."""
_WORTH_A_PATH = ("NaN", "Infinity", "\\ud", "\\uD")
"""If a long invalid text contains one of these, json parses it again to locate the problem."""


def json_type(value: object) -> str:
    """JSON's name for the type of a value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return type(value).__name__


_decoder = msgspec.json.Decoder()


def all_steps(steps: Generator[None, None, Result]) -> Result:
    """Runs all steps at once and returns their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def parse_object(
    text: str | bytes, *, any_integers: bool = False, takes_nul: bool = False, prefix: str = ""
) -> dict[str, Any]:
    """Parses ``text`` as an object. Raises like `object_in_steps`."""
    return all_steps(object_in_steps(text, any_integers=any_integers, takes_nul=takes_nul, prefix=prefix))


def object_in_steps(
    text: str | bytes, *, any_integers: bool = False, takes_nul: bool = False, prefix: str = ""
) -> Generator[None, None, dict[str, Any]]:
    """Parses ``text`` as an object; yields at points where other tasks may run. Raises `BadMessage`, also for duplicate keys and NaN.

    Raises `TooLarge` for more than `MAXIMUM_VALUES` values, because parsing blocks the event loop for as long as there are values.

    Raises `InvalidField` for lone surrogates, which are not valid text, and for the character U+0000, which not every database
    can store (`nul_refused_in_steps`), unless the caller sets ``takes_nul`` and checks for it later.

    ``any_integers`` allows integers beyond ±2^53, and keeps them exact: for foreign formats whose readers support more
    than doubles. Errors about a value give its path, which begins with ``prefix``.

    msgspec parses five times as fast as json, but keeps the last of two equal keys and its errors have little detail.
    So its result is used only if no key can have been lost, and json reports the errors of short texts.
    """
    try:
        if isinstance(text, bytes):
            # json.loads would guess UTF-16 and UTF-32 too, and skip a byte order mark.
            text = text.decode("utf-8")
        if len(text) > STEP_CHARACTERS:
            yield from look_through(text)
            yield
        value = yield from _read(text, any_integers)
    except (BadMessage, InvalidField, TooLarge):
        raise
    except _FaultyWithin as found:
        raise (yield from named(found.root, found.fault, prefix)) from None
    except RecursionError:
        raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}") from None
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not takes_nul:
        yield from nul_refused_in_steps(value, text, prefix)
    return value


def nul_refused_in_steps(root: dict[str, Any], text: str | bytes, prefix: str = "") -> Generator[None, None, None]:
    """Raises `InvalidField` with the path of the first string, at any depth, that contains the character U+0000.

    ``text`` is the JSON of ``root``: its escape occurs in hardly any, and without it nothing is searched.
    """
    if not (_ESCAPED_NUL.encode() in text if isinstance(text, bytes) else _ESCAPED_NUL in text):
        return
    path = yield from path_of(root, _has_nul, prefix)
    if path is not None:
        raise InvalidField(f"{path[0]} {NO_NUL}", field=path[1])


def _has_nul(value: Any) -> bool:
    return type(value) is str and "\0" in value


class _FaultyWithin(Exception):
    """A fault, and the object it occurs in."""

    def __init__(self, root: dict[str, Any], fault: Faulty) -> None:
        super().__init__(fault.problem)
        self.root = root
        self.fault = fault


def _read(text: str, any_integers: bool) -> Generator[None, None, dict[str, Any]]:
    try:
        value = _decoder.decode(text)
    except (ValueError, RecursionError):
        if len(text) > STEP_CHARACTERS and not any(one in text for one in _WORTH_A_PATH):
            raise
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=Constant)
    if type(value) is not dict:
        raise NotAnObject(f"a message is an object, not {json_type(value)}")
    try:
        count = yield from count_pairs_and_colons(value, any_integers)
    except Faulty as fault:
        raise _FaultyWithin(value, fault) from None
    # Each colon of the text separates a pair or belongs to a string, literally or as an escape. If the pairs and strings
    # that were parsed hold fewer than the text, some belonged to a pair that was lost.
    written = yield from colons_in(text)
    if "\\u003" in text:
        escapes = text.replace("\\\\", "")
        written += escapes.count("\\u003a") + escapes.count("\\u003A")
    if count != written:
        raise BadMessage("an object has the same key twice")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadMessage("an object has the same key twice")
    return unique
