"""JSON as this protocol takes it: one object, and nothing that two readers would understand differently."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from protocol.errors import BadMessage, InvalidField, NotAnObject, TooLarge

__all__ = ["MAXIMUM_INTEGER", "MAXIMUM_NESTING", "NO_NUL", "json_type", "parse_object", "refuse_nul"]

MAXIMUM_NESTING = 64
MAXIMUM_VALUES = 32_768
"""Of one message, at all depths: more than twice what the largest message that is of use has."""
MAXIMUM_DIGITS = 500
"""Of one number in a text that is not short; a double has 309 before its point."""
MAXIMUM_INTEGER = 2**53
SHORT_CHARACTERS = 65_536
_ALL_DIGITS_ALIKE = str.maketrans("123456789", "000000000")
NAME_CHARACTERS = 64
"""As much of a name that the client chose is told back."""
NO_NUL = "must not contain the character U+0000"
_ESCAPED_NUL = "\\u0000"
"""The only way in which JSON can write it (RFC 8259, 7)."""


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


def parse_object(
    text: str | bytes, *, any_integers: bool = False, takes_nul: bool = False, prefix: str = ""
) -> dict[str, Any]:
    """The object that ``text`` is. Raises `BadMessage`, also for duplicate keys and NaN.

    Raises `TooLarge` for more than `MAXIMUM_VALUES` values: reading holds up everybody else for as long as there are values.

    Raises `InvalidField` for lone surrogates, which no text has, and for the character U+0000, which not every database
    can keep (`refuse_nul`), unless the caller ``takes_nul`` and looks for it later.

    With ``any_integers`` integers beyond ±2^53 are taken, and are exact: for formats of others, whose readers know more
    than doubles. What is wrong with a value is told with its path, which begins with ``prefix``.

    msgspec reads five times as fast as json, but keeps the last of two equal keys and says little of what is wrong.
    So what it reads counts only where no key can have been lost, and everything else is json's to judge.
    """
    try:
        if isinstance(text, bytes):
            # json.loads would guess UTF-16 and UTF-32 too, and skip a byte order mark.
            text = text.decode("utf-8")
        _bound_values(text)
        value = _read_fast(text, any_integers, prefix)
        if value is None:
            value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_Constant)
            if not isinstance(value, dict):
                raise NotAnObject(f"a message is an object, not {json_type(value)}")
            _count_pairs_and_colons(value, any_integers)
    except (BadMessage, InvalidField, TooLarge):
        raise
    except _Faulty as fault:
        raise _named(value, fault, prefix) from None
    except RecursionError:
        raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}") from None
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not takes_nul:
        refuse_nul(value, text, prefix)
    return value


def refuse_nul(root: dict[str, Any], text: str | bytes, prefix: str = "") -> None:
    """Raises `InvalidField` with the path of the first text, at any depth, that has the character U+0000.

    ``text`` is the JSON that ``root`` was read from: the escape stands in hardly any, and then nothing is looked through.
    """
    if not (_ESCAPED_NUL.encode() in text if isinstance(text, bytes) else _ESCAPED_NUL in text):
        return
    path = _path_of(root, _has_nul, prefix)
    if path is not None:
        raise InvalidField(f"{path[0]} {NO_NUL}", field=path[1])


def _has_nul(value: Any) -> bool:
    return type(value) is str and "\0" in value


def _bound_values(text: str) -> None:
    """Raises `TooLarge` where reading ``text`` would take too long, told by its marks and without reading it.

    That is too many values, or numbers so long that a square of their digits counts.
    """
    if _marks(text) <= MAXIMUM_VALUES and not _has_long_number(text):
        return
    # Marks and digits stand in strings too.
    bare = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    # Each string is a value or the name of one.
    outside = "" if (quotes := bare.count('"')) > 4 * MAXIMUM_VALUES else '"'.join(bare.split('"')[::2])
    if quotes > 4 * MAXIMUM_VALUES or _marks(outside) > MAXIMUM_VALUES:
        raise TooLarge(f"a message may have {MAXIMUM_VALUES} values")
    if _has_long_number(outside):
        raise TooLarge(f"a number may have {MAXIMUM_DIGITS} digits")


def _marks(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _has_long_number(text: str) -> bool:
    # A few of them in a short text cost nothing.
    return len(text) > SHORT_CHARACTERS and "0" * (MAXIMUM_DIGITS + 1) in text.translate(_ALL_DIGITS_ALIKE)


class _Constant:
    """`NaN`, `Infinity` or `-Infinity`, kept so that the message can say where it stands."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Faulty(Exception):
    """One value, somewhere in a message, that is not taken."""

    def __init__(
        self, problem: str, is_it: Callable[[Any], bool], fault: type[BadMessage | InvalidField] = BadMessage
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_it = is_it
        self.fault = fault


def _named(root: Any, fault: _Faulty, prefix: str) -> BadMessage | InvalidField:
    """The fault with the path of the first value that has it; looked for only now, because paths cost time."""
    path = _path_of(root, fault.is_it, prefix)
    assert path is not None, "the fault was found once before"
    error = fault.fault(f"{path[0]} {fault.problem}", field=path[1])
    error.parsed = root
    return error


def _path_of(root: Any, is_it: Callable[[Any], bool], prefix: str) -> tuple[str, str | None] | None:
    """What the first value or name that is meant is called, and its field; None where there is none."""
    # No recursion: what is nested too deep was told before. A path is written only for what is found.
    entries: list[Iterator[tuple[str | int, Any]]] = [iter([("", root)])]
    steps: list[str | int] = []
    while entries:
        entry = next(entries[-1], None)
        if entry is None:
            entries.pop()
            if steps:
                steps.pop()
            continue
        step, value = entry
        here = [*steps, step] if len(entries) > 1 else []
        if is_it(value):
            path = _written(prefix, here)
            return path, path
        if type(value) is dict:
            wrong_key = next((key for key in value if is_it(key)), None)
            if wrong_key is not None:
                path = _written(prefix, here)
                return f"the name {_written(path, [wrong_key])}", path or None
            entries.append(iter(value.items()))
        elif type(value) is list:
            entries.append(enumerate(value))
        else:
            continue
        if len(entries) > 2:
            steps.append(step)
    return None


def _written(prefix: str, steps: list[str | int]) -> str:
    path = prefix
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{_shown(step)}" if path else _shown(step)
    return path


def _shown(key: str) -> str:
    """As much of a name as is told back."""
    return key[:NAME_CHARACTERS].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _read_fast(text: str, any_integers: bool, prefix: str) -> dict[str, Any] | None:
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
    if type(value) is not dict:
        return None
    try:
        count = _count_pairs_and_colons(value, any_integers)
    except _Faulty as fault:
        raise _named(value, fault, prefix) from None
    if count != text.count(":"):
        return None
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadMessage("an object has the same key twice")
    return unique


def _count_pairs_and_colons(root: dict[str, Any], any_integers: bool) -> int:
    """Pairs of all objects and colons of all strings; refuses what other JSON readers would garble.

    That is huge integers, lone surrogates, bottomless nesting. Raises `BadMessage` or `_Faulty`.
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
                    _check_number(value, any_integers)
        containers = below
    return count


def _check_number(value: Any, any_integers: bool) -> None:
    if type(value) is int:
        if not any_integers and _is_huge(value):
            raise _Faulty("is an integer beyond ±2^53", _is_huge)
    elif type(value) is float and not math.isfinite(value):
        raise _Faulty("is a number beyond the range of a double", _is_endless)
    elif type(value) is _Constant:
        raise _Faulty(f"is {value.name}, which is not JSON", lambda one: type(one) is _Constant)


def _is_huge(value: Any) -> bool:
    return type(value) is int and not -MAXIMUM_INTEGER <= value <= MAXIMUM_INTEGER


def _is_endless(value: Any) -> bool:
    return type(value) is float and not math.isfinite(value)


def _checked_string(value: str) -> int:
    """How many colons it holds."""
    if not value.isascii() and _has_lone_surrogate(value):
        raise _Faulty("must be text: it holds a lone surrogate", _has_lone_surrogate, InvalidField)
    return value.count(":")


def _has_lone_surrogate(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
