"""Scans a long JSON text in pieces before it is parsed, and rejects it at the first problem.

A parser blocks the event loop for as long as a text has values, and reports a problem only once it reaches it. This
scan needs no stack and little state, so other tasks can run between two pieces.
"""

from __future__ import annotations

from collections.abc import Generator

from protocol.errors import BadMessage, NotAnObject, TooLarge

__all__ = ["MAXIMUM_DIGITS", "MAXIMUM_NESTING", "MAXIMUM_VALUES", "STEP_CHARACTERS", "look_through"]

MAXIMUM_NESTING = 64
MAXIMUM_VALUES = 32_768
"""Most values of one message, at all depths: more than twice as many as the largest useful message has."""
MAXIMUM_DIGITS = 500
"""Most digits of a number in a text long enough to be scanned; a double has 309 before its point."""
STEP_CHARACTERS = 16_384
"""Characters scanned in one step; shorter texts are not scanned at all."""
WHITE_SPACE = " \t\n\r"
_ALL_DIGITS_ALIKE = str.maketrans("123456789", "000000000")
_LONG_NUMBER = "0" * (MAXIMUM_DIGITS + 1)
_BEGINNINGS = {"[": "an array", '"': "a string"}


def look_through(text: str) -> Generator[None, None, None]:
    """Yields between pieces of `STEP_CHARACTERS`. Afterwards ``text`` is known to have at most `MAXIMUM_VALUES` values.

    Raises `NotAnObject`, `BadMessage` for excessive nesting or an early end, `TooLarge` for too many values or digits.
    """
    look = _Look()
    for start in range(0, len(text), STEP_CHARACTERS):
        if start:
            yield
        look.at(text[start : start + STEP_CHARACTERS])
    look.end()


class _Look:
    """State of the scan between two pieces."""

    def __init__(self) -> None:
        self._has_begun = False
        self._is_in_string = False
        self._ends_in_backslash = False
        self._depth = self._marks = self._quotes = 0
        self._before = ""
        """The last digits outside of strings."""

    def at(self, piece: str) -> None:
        """Scans the next piece."""
        if not self._has_begun:
            piece = piece.lstrip(WHITE_SPACE)
            if not piece:
                return
            self._has_begun = True
            _check_beginning(piece[0])
        if self._ends_in_backslash:
            piece = "\\" + piece
            self._ends_in_backslash = False
        if "\\" in piece:
            piece = piece.replace("\\\\", "")
            if piece.endswith("\\"):
                self._ends_in_backslash = True
                piece = piece[:-1]
            piece = piece.replace('\\"', "")
        parts = piece.split('"')
        # Each string is a value or a name.
        self._quotes += len(parts) - 1
        outside = '"'.join(parts[self._is_in_string :: 2])
        if self._is_in_string:
            outside = '"' + outside
        self._is_in_string ^= len(parts) % 2 == 0
        self._check(outside)

    def _check(self, outside: str) -> None:
        opened = outside.count("[") + outside.count("{")
        self._marks += opened + outside.count(",")
        if self._marks > MAXIMUM_VALUES or self._quotes > 4 * MAXIMUM_VALUES:
            raise TooLarge(f"a message may have {MAXIMUM_VALUES} values")
        self._depth += opened - outside.count("]") - outside.count("}")
        if self._depth > MAXIMUM_NESTING:
            raise BadMessage(f"nested deeper than {MAXIMUM_NESTING}")
        digits = self._before + outside
        if _LONG_NUMBER in digits.translate(_ALL_DIGITS_ALIKE):
            raise TooLarge(f"a number may have {MAXIMUM_DIGITS} digits")
        self._before = digits[-MAXIMUM_DIGITS:]

    def end(self) -> None:
        """Checks the end of the text."""
        if not self._has_begun:
            raise BadMessage("not JSON: it is empty")
        if self._is_in_string:
            raise BadMessage("not JSON: it ends within a string")
        if self._depth > 0:
            raise BadMessage("not JSON: it ends before its object does")


def _check_beginning(first: str) -> None:
    if first in _BEGINNINGS:
        raise NotAnObject(f"a message is an object, not {_BEGINNINGS[first]}")
    if first != "{":
        raise BadMessage("not JSON: an object begins with {")
