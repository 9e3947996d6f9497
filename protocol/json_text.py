"""JSON as this protocol takes it: one object, and nothing that two readers would understand differently."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from protocol.errors import BadMessage

__all__ = ["json_type", "parse_object"]

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


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The object that ``text`` is. Raises `BadMessage`, also for duplicate keys, NaN and lone surrogates."""
    try:
        if isinstance(text, bytes):
            # json.loads would guess UTF-16 and UTF-32 too, and skip a byte order mark.
            text = text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constants)
    except BadMessage:
        raise
    except RecursionError:
        raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}") from None
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadMessage(f"a message is an object, not {json_type(value)}")
    _check_values(value)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadMessage("an object has the same key twice")
    return unique


def _no_constants(name: str) -> NoReturn:
    raise BadMessage(f"{name} is not JSON")


def _check_values(root: Any) -> None:
    """Refuse what other JSON readers would garble: huge integers, lone surrogates, bottomless nesting."""
    containers = [root]
    depth = 0
    while containers:
        depth += 1
        if depth > MAXIMUM_NESTING:
            raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}")
        below: list[Any] = []
        for container in containers:
            if isinstance(container, dict):
                for key in container:
                    _check_string(key)
            for value in container.values() if isinstance(container, dict) else container:
                if isinstance(value, dict | list):
                    below.append(value)
                else:
                    _check_scalar(value)
        containers = below


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        _check_string(value)
    elif type(value) is int and not -MAXIMUM_INTEGER <= value <= MAXIMUM_INTEGER:
        raise BadMessage("an integer is beyond ±2^53")
    elif type(value) is float and not math.isfinite(value):
        raise BadMessage("a number is beyond the range of a double")


def _check_string(value: str) -> None:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadMessage("a string holds a lone surrogate") from None
