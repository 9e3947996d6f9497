"""Parses values as models write them in their own markup: JSON, Python literals, and Gemma's unquoted texts and keys.
Pure functions.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["LooseValue", "read_arguments"]

MAXIMUM_DEPTH = 32
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[\w-]+")
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_TEXT_MARKS = ('<|"|>', "<escape>")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class LooseValue(ValueError):
    """The text is not a value in any of these forms."""


def read_arguments(text: str, at: int, *, value: str, ending: str) -> tuple[dict[str, Any], int]:
    """Parse `key=value, …` through ``ending``, with ``value`` between key and value. Returns the arguments and the
    end position.

    Takes linear time, to a bounded depth. Raises `LooseValue`.
    """
    return _Reader(text).arguments(at, value=value, ending=ending, depth=0)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text

    def arguments(self, at: int, *, value: str, ending: str, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = self._skip(at)
        while not self._text.startswith(ending, at):
            key, at = self._key(at)
            at = self._expect(value, self._skip(at))
            found[key], at = self._value(at, depth)
            at = self._skip(at)
            if self._text.startswith(",", at):
                at = self._skip(at + 1)
            elif not self._text.startswith(ending, at):
                raise LooseValue(f"no {ending} at {at}")
        return found, at + len(ending)

    def _key(self, at: int) -> tuple[str, int]:
        word = _WORD.match(self._text, at)
        if word is not None:
            return word[0], word.end()
        key, end = self._text_at(at)
        return key, end

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        if depth > MAXIMUM_DEPTH:
            raise LooseValue("nested too deep")
        at = self._skip(at)
        first = self._text[at : at + 1]
        if first == "{":
            return self.arguments(at + 1, value=":", ending="}", depth=depth + 1)
        if first == "[":
            return self._list(at + 1, depth + 1)
        number = _NUMBER.match(self._text, at)
        if number is not None:
            return json.loads(number[0]) if _is_json(number[0]) else number[0], number.end()
        word = _WORD.match(self._text, at)
        if word is not None and word[0] in _WORDS:
            return _WORDS[word[0]], word.end()
        return self._text_at(at)

    def _list(self, at: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = self._skip(at)
        while not self._text.startswith("]", at):
            one, at = self._value(at, depth)
            found.append(one)
            at = self._skip(at)
            if self._text.startswith(",", at):
                at = self._skip(at + 1)
            elif not self._text.startswith("]", at):
                raise LooseValue(f"no ] at {at}")
        return found, at + 1

    def _text_at(self, at: int) -> tuple[str, int]:
        for mark in _TEXT_MARKS:
            if self._text.startswith(mark, at):
                end = self._text.find(mark, at + len(mark))
                if end < 0:
                    break
                return self._text[at + len(mark) : end], end + len(mark)
        if (quoted := _QUOTED.match(self._text, at)) is not None:
            return _unescaped(quoted[0]), quoted.end()
        if (single := _SINGLE.match(self._text, at)) is not None:
            inner = single[1].replace("\\'", "'").replace('"', '\\"')
            return _unescaped(f'"{inner}"'), single.end()
        raise LooseValue(f"no value at {at}")

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return at if found is None else found.end()

    def _expect(self, text: str, at: int) -> int:
        if not self._text.startswith(text, at):
            raise LooseValue(f"no {text} at {at}")
        return at + len(text)


def _is_json(text: str) -> bool:
    try:
        json.dumps(json.loads(text), allow_nan=False)
    except ValueError:
        return False
    return True


def _unescaped(quoted: str) -> str:
    try:
        text: str = json.loads(quoted, strict=False)
        text.encode()  # half a surrogate pair cannot be sent
    except ValueError as error:
        raise LooseValue(str(error)) from None
    return text
