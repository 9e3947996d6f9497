"""JSON as this protocol takes it: one object, and nothing that two readers would understand differently."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import msgspec

from protocol.errors import BadMessage

__all__ = ["MAXIMUM_INTEGER", "json_type", "parse_object"]

MAXIMUM_NESTING = 64
MAXIMUM_INTEGER = 2**53


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


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that ``text`` is. Raises `BadMessage`, also for duplicate keys, NaN and lone surrogates.

    msgspec reads five times as fast as json, but keeps the last of two equal keys and says little of what is wrong.
    So what it reads counts only where no key can have been lost, and everything else is json's to judge.
    """
    try:
        if isinstance(text, bytes):
            # json.loads would guess UTF-16 and UTF-32 too, and skip a byte order mark.
            text = text.decode("utf-8")
        value = _read_fast(text)
        if value is None:
            value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constants)
            if not isinstance(value, dict):
                raise BadMessage(f"a message is an object, not {json_type(value)}")
            _count_pairs_and_colons(value)
    except BadMessage:
        raise
    except RecursionError:
        raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}") from None
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from None
    return value


def _read_fast(text: str) -> dict[str, Any] | None:
    """The object, or None where json has to look: at what is wrong, and at what may hold a key twice.

    Each colon of the text divides a pair or stands in a string. Where the pairs and the strings that were read hold as
    many colons as the text, none belonged to a pair that was lost. (A colon written as an escape would hide one.)
    """
    if "\\u003" in text:
        return None
    try:
        value = _decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    if type(value) is not dict or _count_pairs_and_colons(value) != text.count(":"):
        return None
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadMessage("an object has the same key twice")
    return unique


def _no_constants(name: str) -> NoReturn:
    raise BadMessage(f"{name} is not JSON")


def _count_pairs_and_colons(root: dict[str, Any]) -> int:
    """Pairs of all objects and colons of all strings; refuses what other JSON readers would garble.

    That is huge integers, lone surrogates, bottomless nesting.
    """
    containers: list[Any] = [root]
    depth = count = 0
    while containers:
        depth += 1
        if depth > MAXIMUM_NESTING:
            raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}")
        below: list[Any] = []
        for container in containers:
            values = container
            if type(container) is dict:
                values = container.values()
                count += len(container)
                for key in container:
                    count += _checked_string(key)
            for value in values:
                kind = type(value)
                if kind is str:
                    count += _checked_string(value)
                elif kind is dict or kind is list:
                    below.append(value)
                else:
                    _check_number(value)
        containers = below
    return count


def _check_number(value: Any) -> None:
    if type(value) is int:
        if not -MAXIMUM_INTEGER <= value <= MAXIMUM_INTEGER:
            raise BadMessage("an integer is beyond ±2^53")
    elif type(value) is float and not math.isfinite(value):
        raise BadMessage("a number is beyond the range of a double")


def _checked_string(value: str) -> int:
    """How many colons it holds."""
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadMessage("a string holds a lone surrogate") from None
    return value.count(":")
