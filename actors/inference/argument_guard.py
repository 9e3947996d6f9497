"""Guards tool calls that write arguments one by one: JSON values, verbatim strings and marks between them.

`AnswerGuard`'s checks on JSON (repeated keys, endless numbers) apply to the JSON parts alone, since a quotation mark in
a verbatim string would invert its view of all that follows. No JSON string may contain a mark of the call, because a
parser would end the call there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from actors.inference.answer_forms import ARGUMENT_SYNTAXES
from actors.inference.answer_guard import AnswerGuard, Mask, TokenTables
from actors.inference.answer_scan import AnswerScan
from actors.inference.tools import ToolCallConstraint

__all__ = ["ArgumentGuard", "ArgumentPlaces"]


class _Place(enum.Enum):
    MARKS = enum.auto()
    """Between values."""
    JSON = enum.auto()
    TEXT_MARK = enum.auto()
    """Inside the mark before a string, which may contain a quotation mark."""
    TEXT = enum.auto()


class ArgumentPlaces:
    """Follows the bytes of one answer and tracks the part that the next byte belongs to."""

    def __init__(self, rule: ToolCallConstraint) -> None:
        """Takes time proportional to the number of names in the rule."""
        form = rule.tool_call_format
        syntax = ARGUMENT_SYNTAXES[form]
        self.fences = [one.encode() for one in syntax.fences(form, is_text=False)]
        self._opening = form.opening.encode()
        self._is_written = bool(syntax.between)
        self._json_end = syntax.end.strip().encode()
        self._text_end = (syntax.text_end or syntax.end).strip().encode()
        # In these formats the mark before a string begins with a character that JSON has only inside strings.
        self._text_mark = (syntax.text_value or "").encode() if self._is_written else b""
        self._functions: dict[bytes, dict[bytes, bool]] = {}
        for function in rule.functions:
            properties = (function.parameters or {}).get("properties")
            required = (function.parameters or {}).get("required")
            others = (function.parameters or {}).get("additionalProperties")
            listed = dict.fromkeys(required or (), others) if isinstance(required, list) else {}
            listed |= properties if isinstance(properties, dict) else {}
            heads: dict[bytes, bool] = {}
            for key, schema in listed.items():
                is_text = syntax.is_plain_text(schema)
                value = (syntax.text_value if is_text else None) or syntax.value
                heads[f"{syntax.key}{key}{value}".encode(errors="replace")] = is_text
            self._functions[f"{syntax.named[0]}{function.name}{syntax.named[1]}".lstrip().encode()] = heads
        self._heads: dict[bytes, bool] = {}
        names = [one for heads in self._functions.values() for one in heads]
        self._longest = max(
            map(len, [*self._functions, *names, self._opening, self._text_mark, self._text_end, *self.fences])
        )
        # An answer that may also be plain JSON is JSON unless it begins with a call.
        self._may_be_json = rule.answer_schema is not None
        self.place = _Place.JSON if self._is_written or self._may_be_json else _Place.MARKS
        self._tail = b""
        self._taken = 0

    @property
    def tail(self) -> bytes:
        """The last bytes written."""
        return self._tail

    def take(self, byte: int, scan: AnswerScan) -> AnswerScan:
        """Appends a byte to the answer; ``scan`` is for the current JSON value, or for the next one."""
        self._tail = (self._tail + bytes([byte]))[-self._longest :]
        self._taken += 1
        if self.place is _Place.TEXT_MARK:
            if self._tail.endswith(self._text_mark):
                self.place, self._tail = _Place.TEXT, b""
            return scan
        if self.place is _Place.TEXT:
            if self._tail.endswith(self._text_end):
                self.place = _Place.JSON if self._is_written else _Place.MARKS
            return scan
        if self.place is _Place.MARKS:
            return self._between(scan)
        scan.take(bytes([byte]))
        if self._is_written:
            if self._text_mark and not scan.is_in_string and self._tail.endswith(self._text_mark[:2]):
                self.place = _Place.TEXT_MARK
        elif self._may_be_json:
            if self._taken == len(self._opening) and self._tail == self._opening:
                self._may_be_json, self.place = False, _Place.MARKS
        elif not scan.is_in_string and not scan.depth and self._tail.endswith(self._json_end):
            self.place = _Place.MARKS
        return scan

    def _between(self, scan: AnswerScan) -> AnswerScan:
        named = [one for one in self._functions if self._tail.endswith(one)]
        if named:
            self._heads = self._functions[max(named, key=len)]
        begun = [one for one in self._heads if self._tail.endswith(one)]
        if not begun:
            return scan
        self.place = _Place.TEXT if self._heads[max(begun, key=len)] else _Place.JSON
        return AnswerScan(scan.unique_keys)

    @property
    def is_json(self) -> bool:
        """True if the next byte belongs to JSON and is checked by the JSON guard."""
        return self.place is _Place.JSON


class ArgumentGuard(AnswerGuard):
    """Guards one answer of that kind."""

    def __init__(
        self,
        tables: TokenTables,
        scan: AnswerScan,
        *,
        has_narrow_strings: bool,
        places: ArgumentPlaces,
        marks: Mapping[int, bytes],
    ) -> None:
        """``marks`` maps tokens that are marks of the format to their text."""
        super().__init__(tables, scan, has_narrow_strings=has_narrow_strings)
        self._places, self._marks = places, marks

    def take(self, token_id: int) -> None:
        """Appends a token to the answer."""
        self.read(self._marks.get(token_id) or self._tables.contents[token_id])

    def read(self, content: bytes) -> None:
        """Starts the answer with these bytes."""
        for byte in content:
            self._scan = self._places.take(byte, self._scan)

    def guarded(self, mask: Mask, engine: Any, allowed_after: Callable[[Any, int], tuple[Any, Mask] | None]) -> Mask:
        """As in `AnswerGuard`, and without tokens that would complete a mark inside a JSON string."""
        if not self._places.is_json:
            return mask
        left = super().guarded(mask, engine, allowed_after)
        if not self._scan.is_in_string:
            return left
        tail, tables = self._places.tail, self._tables
        unwanted = []
        for fence in self._places.fences:
            begun = tail[-len(fence) + 1 :] if len(fence) > 1 else b""
            unwanted += [one for one in tables.suspects(fence) if fence in begun + tables.contents[one]]
        fewer = left & ~tables.mask(unwanted)
        return fewer if fewer.any() else left
