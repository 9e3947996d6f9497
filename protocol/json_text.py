"""JSON as this protocol takes it: one object, and nothing that two readers would understand differently."""

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
"""The only way in which JSON can write it (RFC 8259, 7)."""
_WORTH_A_PATH = ("NaN", "Infinity", "\\ud", "\\uD")
"""Where these stand in a long text that cannot be read, it is read again by json, which tells what is wrong with them."""


def json_type(value: object) -> str:
    """What JSON calls this value, with its article."""
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
    """Take them at once: what they come to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def parse_object(
    text: str | bytes, *, any_integers: bool = False, takes_nul: bool = False, prefix: str = ""
) -> dict[str, Any]:
    """The object that ``text`` is. Raises what `object_in_steps` does."""
    return all_steps(object_in_steps(text, any_integers=any_integers, takes_nul=takes_nul, prefix=prefix))


def object_in_steps(
    text: str | bytes, *, any_integers: bool = False, takes_nul: bool = False, prefix: str = ""
) -> Generator[None, None, dict[str, Any]]:
    """The object that ``text`` is; yields wherever others may have their turn. Raises `BadMessage`, also for duplicate keys and NaN.

    Raises `TooLarge` for more than `MAXIMUM_VALUES` values: reading holds up everybody else for as long as there are values.

    Raises `InvalidField` for lone surrogates, which no text has, and for the character U+0000, which not every database
    can keep (`nul_refused_in_steps`), unless the caller ``takes_nul`` and looks for it later.

    With ``any_integers`` integers beyond ±2^53 are taken, and are exact: for formats of others, whose readers know more
    than doubles. What is wrong with a value is told with its path, which begins with ``prefix``.

    msgspec reads five times as fast as json, but keeps the last of two equal keys and says little of what is wrong.
    So what it reads counts only where no key can have been lost, and what is wrong with a short text is json's to say.
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
    """Raises `InvalidField` with the path of the first text, at any depth, that has the character U+0000.

    ``text`` is the JSON that ``root`` was read from: the escape stands in hardly any, and then nothing is looked through.
    """
    if not (_ESCAPED_NUL.encode() in text if isinstance(text, bytes) else _ESCAPED_NUL in text):
        return
    path = yield from path_of(root, _has_nul, prefix)
    if path is not None:
        raise InvalidField(f"{path[0]} {NO_NUL}", field=path[1])


def _has_nul(value: Any) -> bool:
    return type(value) is str and "\0" in value


class _FaultyWithin(Exception):
    """A fault, and what it stands in."""

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
    # Each colon of the text divides a pair or stands in a string, as itself or as an escape. Where the pairs and the
    # strings that were read hold fewer than the text, some belonged to a pair that was lost.
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
