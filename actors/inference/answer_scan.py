"""Tracks parts of a JSON answer that a grammar cannot: keys already used, and the length of numbers. No I/O.

A grammar cannot remember names that the model makes up, so an object could contain one key twice (RFC 8259 leaves the
meaning open), and an array of unique items one string twice. The scan follows the bytes of the answer token by token
and reports which tokens would repeat a string.
"""

from __future__ import annotations

import json

from attrs import define, evolve, field, frozen

__all__ = ["AnswerScan"]

NUMBER = frozenset(b"0123456789.eE+-")
_ESCAPE, _QUOTE = ord("\\"), ord('"')
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_COMMA, _COLON = b",:"


@frozen
class _Container:
    is_object: bool
    is_unique: bool
    """True if its strings must differ: keys, or the items of an array declared unique."""
    expects_key: bool = False
    seen: frozenset[str] = frozenset()


@define
class AnswerScan:
    """Scan position in one answer."""

    unique_keys: frozenset[str] = frozenset()
    """Properties whose arrays contain each string only once."""
    number_length: int = 0
    """Length in bytes of the current number."""
    is_whole: bool = True
    """True while the number has neither point nor exponent."""
    exponent_digits: int | None = None
    """Number of exponent digits; None before the exponent."""
    _stack: list[_Container] = field(factory=list)
    _is_string: bool = False
    _is_escaped: bool = False
    _raw: bytes | None = None
    """Bytes so far of a string that must be unique."""
    _key: str | None = None

    @property
    def is_in_string(self) -> bool:
        """True if the next byte belongs to a string."""
        return self._is_string

    @property
    def begun(self) -> bytes | None:
        """Bytes so far of a string that must differ from all of `seen`; None elsewhere."""
        return self._raw

    @property
    def depth(self) -> int:
        """Number of open containers."""
        return len(self._stack)

    @property
    def awaits_string(self) -> bool:
        """True if a string that must be unique may begin here."""
        top = self._stack[-1] if self._stack and not self._is_string else None
        return top is not None and top.is_unique and (top.expects_key or not top.is_object)

    @property
    def is_plain(self) -> bool:
        """True if the string has no escape so far."""
        return self._raw is not None and b"\\" not in self._raw

    @property
    def seen(self) -> frozenset[str]:
        """Strings in the innermost container."""
        return self._stack[-1].seen if self._stack else frozenset()

    def after(self, content: bytes) -> AnswerScan:
        """Returns the scan as it would be after these bytes."""
        scan = evolve(self, stack=list(self._stack))
        scan.take(content)
        return scan

    def would_repeat(self, content: bytes) -> bool:
        """True if these bytes would complete a string already present."""
        return evolve(self, stack=list(self._stack)).take(content)

    def take(self, content: bytes) -> bool:
        """Appends bytes to the answer. Returns True if they complete a string that must not be repeated."""
        has_repeated = False
        for byte in content:
            if self._is_string:
                has_repeated |= self._take_in_string(byte)
            else:
                self._take_outside(byte)
        return has_repeated

    def _take_in_string(self, byte: int) -> bool:
        if byte == _QUOTE and not self._is_escaped:
            self._is_string = False
            return self._raw is not None and self._close(self._raw)
        self._is_escaped = byte == _ESCAPE and not self._is_escaped
        if self._raw is not None:
            self._raw += bytes([byte])
        return False

    def _close(self, raw: bytes) -> bool:
        self._raw = None
        top = self._stack[-1]
        try:
            text: str = json.loads(b'"' + raw + b'"')
        except ValueError:
            text = raw.decode(errors="replace")
        if top.is_object:
            self._key = text
        has_repeated = text in top.seen
        self._stack[-1] = evolve(top, seen=top.seen | {text})
        return has_repeated

    def _take_outside(self, byte: int) -> None:
        self._count_number(byte)
        top = self._stack[-1] if self._stack else None
        if byte == _QUOTE:
            self._is_string = True
            self._raw = b"" if top is not None and top.is_unique and (top.expects_key or not top.is_object) else None
        elif byte == _OPEN_OBJECT:
            self._stack.append(_Container(is_object=True, is_unique=True, expects_key=True))
        elif byte == _OPEN_ARRAY:
            is_unique = top is not None and top.is_object and self._key in self.unique_keys
            self._stack.append(_Container(is_object=False, is_unique=is_unique))
        elif byte in (_CLOSE_OBJECT, _CLOSE_ARRAY):
            if self._stack:
                self._stack.pop()
        elif top is not None and top.is_object and byte in (_COMMA, _COLON):
            self._stack[-1] = evolve(top, expects_key=byte == _COMMA)

    def _count_number(self, byte: int) -> None:
        if byte not in NUMBER:
            self.number_length, self.exponent_digits, self.is_whole = 0, None, True
            return
        self.number_length += 1
        self.is_whole &= byte not in b".eE"
        if byte in b"eE" and self.number_length > 1:
            self.exponent_digits = 0
        elif self.exponent_digits is not None and byte not in b"+-":
            self.exponent_digits += 1
