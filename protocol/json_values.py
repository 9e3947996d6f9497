"""Checks the parsed values of a JSON text, and rejects those that other parsers would garble, with their paths.

Each walk is a generator that yields after every `STEP_VALUES` values, so that other tasks can run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from typing import Any

from protocol.errors import BadMessage, InvalidField
from protocol.json_scan import MAXIMUM_NESTING

__all__ = ["MAXIMUM_INTEGER", "NO_NUL", "Constant", "Faulty", "colons_in", "count_pairs_and_colons", "named", "path_of"]

MAXIMUM_INTEGER = 2**53
STEP_VALUES = 1024
STEP_COLONS = 65_536
"""Characters whose colons are counted in one step."""
NAME_CHARACTERS = 64
"""Most characters of a client-chosen name that error messages repeat."""
NO_NUL = "must not contain the character U+0000"


class Constant:
    """`NaN`, `Infinity` or `-Infinity`, kept so that the error can give its path."""

    def __init__(self, name: str) -> None:
        self.name = name


class Faulty(Exception):
    """A value, somewhere in a message, that is not accepted."""

    def __init__(
        self, problem: str, is_it: Callable[[Any], bool], fault: type[BadMessage | InvalidField] = BadMessage
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_it = is_it
        self.fault = fault


def named(root: Any, fault: Faulty, prefix: str) -> Generator[None, None, BadMessage | InvalidField]:
    """The fault with the path of the first value that has it; searched only now, because paths cost time."""
    path = yield from path_of(root, fault.is_it, prefix)
    assert path is not None, "the fault was found once before"
    error = fault.fault(f"{path[0]} {fault.problem}", field=path[1])
    error.parsed = root
    return error


def path_of(
    root: Any, is_it: Callable[[Any], bool], prefix: str
) -> Generator[None, None, tuple[str, str | None] | None]:
    """Path and field of the first value or name for which ``is_it`` holds; None without one."""
    # No recursion: excessive nesting was rejected before. A path is built only for the match.
    entries: list[Iterator[tuple[str | int, Any]]] = [iter([("", root)])]
    steps: list[str | int] = []
    looked_at = 0
    while entries:
        entry = next(entries[-1], None)
        if entry is None:
            entries.pop()
            if steps:
                steps.pop()
            continue
        looked_at += 1
        if looked_at % STEP_VALUES == 0:
            yield
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
    """The part of a name that error messages repeat."""
    return key[:NAME_CHARACTERS].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def count_pairs_and_colons(root: dict[str, Any], any_integers: bool) -> Generator[None, None, int]:
    """Counts the pairs of all objects and the colons of all strings; rejects values that other parsers would garble.

    These are huge integers, lone surrogates and excessive nesting. Raises `BadMessage` or `Faulty`.
    """
    containers: list[Any] = [root]
    depth = count = looked_at = 0
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
                    looked_at += 1
                    if looked_at % STEP_VALUES == 0:
                        yield
                    count += (yield from _checked_string(key)) if len(key) > STEP_COLONS else _checked_word(key)
            for value in values:
                looked_at += 1
                if looked_at % STEP_VALUES == 0:
                    yield
                kind = type(value)
                if kind is str:
                    count += (yield from _checked_string(value)) if len(value) > STEP_COLONS else _checked_word(value)
                elif kind is dict or kind is list:
                    below.append(value)
                else:
                    _check_number(value, any_integers)
        containers = below
    return count


def _check_number(value: Any, any_integers: bool) -> None:
    if type(value) is int:
        if not any_integers and _is_huge(value):
            raise Faulty("is an integer beyond ±2^53", _is_huge)
    elif type(value) is float and not math.isfinite(value):
        raise Faulty("is a number beyond the range of a double", _is_endless)
    elif type(value) is Constant:
        raise Faulty(f"is {value.name}, which is not JSON", lambda one: type(one) is Constant)


def _is_huge(value: Any) -> bool:
    return type(value) is int and not -MAXIMUM_INTEGER <= value <= MAXIMUM_INTEGER


def _is_endless(value: Any) -> bool:
    return type(value) is float and not math.isfinite(value)


def _checked_string(value: str) -> Generator[None, None, int]:
    """Counts the colons of a long string."""
    _refuse_lone_surrogate(value)
    yield
    return (yield from colons_in(value))


def _checked_word(value: str) -> int:
    """Counts the colons of a string."""
    _refuse_lone_surrogate(value)
    return value.count(":")


def colons_in(text: str) -> Generator[None, None, int]:
    """Counts the colons of a text, in steps."""
    count = 0
    for start in range(0, len(text), STEP_COLONS):
        if start:
            yield
        count += text.count(":", start, start + STEP_COLONS)
    return count


def _refuse_lone_surrogate(value: str) -> None:
    if not value.isascii() and _has_lone_surrogate(value):
        raise Faulty("must be valid text: it contains a lone surrogate", _has_lone_surrogate, InvalidField)


def _has_lone_surrogate(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
