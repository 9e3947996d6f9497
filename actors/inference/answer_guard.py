"""Removes tokens from a grammar's mask that would repeat a key or prolong a number without end.

The answer can always end: if nothing would be left, nothing is removed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy
from numpy.typing import NDArray

from actors.inference.answer_scan import NUMBER, AnswerScan

__all__ = ["AnswerGuard", "TokenTables"]

LONGEST_NUMBER = 24
"""A number must end after this many bytes if it can; a double has no more (-1.2345678901234567e-308)."""
LONGEST_WHOLE_NUMBER = 16
"""The same for its integer part, so that integers fit into 64 bits and doubles nearly do."""
MOST_EXPONENT_DIGITS = 2
"""Doubles end at 1e308; a number with two exponent digits never overflows."""
Mask = NDArray[numpy.uint32]


class TokenTables:
    """Tokens of a vocabulary by their effect: those that end strings and those that continue numbers."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        """``contents`` holds the bytes of each token, empty for tokens that are not text."""
        self.contents = contents
        self.words = (len(contents) + 31) // 32
        self.by_rest: dict[bytes, list[int]] = defaultdict(list)
        """Tokens by the bytes before their first quote."""
        self.by_content: dict[bytes, list[int]] = defaultdict(list)
        quoted, several, goes_on, huge, commas = [], [], [], [], []
        by_digits: list[list[int]] = [[] for _ in range(MOST_EXPONENT_DIGITS + 1)]
        for token_id, content in enumerate(contents):
            if b'"' in content:
                quoted.append(token_id)
                self.by_rest[content.partition(b'"')[0]].append(token_id)
                several += [token_id] if content.count(b'"') > 1 else []
            elif content:
                self.by_content[content].append(token_id)
            if b"," in content:
                commas.append(token_id)
            if content[:1] and content[0] in NUMBER:
                goes_on.append(token_id)
                scan = AnswerScan(number_length=1)
                scan.take(_number_in(content))
                huge += [token_id] if (scan.exponent_digits or 0) > MOST_EXPONENT_DIGITS else []
                scan = AnswerScan(number_length=1, exponent_digits=0)
                scan.take(_number_in(content))
                for digits in range(min(scan.exponent_digits or 0, MOST_EXPONENT_DIGITS + 1)):
                    by_digits[digits].append(token_id)
        self.quoted, self.several, self.commas = self.mask(quoted), self.mask(several), self.mask(commas)
        self.goes_on, self.huge = self.mask(goes_on), self.mask(huge)
        self.more_digits = [self.mask(ids) for ids in by_digits]
        """Index n: mask of tokens that add more than n digits."""

        self._suspects: dict[bytes, list[int]] = {}

    def suspects(self, text: bytes) -> list[int]:
        """Tokens that contain this text or begin with a suffix of it. Cached per text."""
        if text not in self._suspects:
            ends = tuple(text[at:] for at in range(1, len(text)))
            self._suspects[text] = [
                one for one, content in enumerate(self.contents) if text in content or content.startswith(ends)
            ]
        return self._suspects[text]

    def mask(self, ids: Iterable[int]) -> Mask:
        """Bit mask of these tokens."""
        mask = numpy.zeros(self.words, numpy.uint32)
        for token_id in ids:
            mask[token_id // 32] |= numpy.uint32(1 << token_id % 32)
        return mask


def _number_in(content: bytes) -> bytes:
    return content[: next((place for place, byte in enumerate(content) if byte not in NUMBER), len(content))]


class AnswerGuard:
    """Guards one answer."""

    def __init__(self, tables: TokenTables, scan: AnswerScan, *, has_narrow_strings: bool) -> None:
        """With ``has_narrow_strings``, unique strings may run out, so the guard looks ahead."""
        self._tables, self._scan = tables, scan
        self._looks_ahead = has_narrow_strings

    def take(self, token_id: int) -> None:
        """Appends a token to the answer."""
        self._scan.take(self._tables.contents[token_id])

    def read(self, content: bytes) -> None:
        """Starts the answer with these bytes, the tail of a token that is only partly answer."""
        self._scan.take(content)

    def content(self, token_id: int) -> bytes:
        """Bytes of a token."""
        return self._tables.contents[token_id]

    def guarded(self, mask: Mask, engine: Any, allowed_after: Callable[[Any, int], tuple[Any, Mask] | None]) -> Mask:
        """Returns the mask without tokens that would repeat a string. ``allowed_after`` copies ``engine`` and advances
        the copy by a token."""
        left = self._without_long_numbers(mask)
        unwanted = self._repeating(self._scan, left)
        if self._looks_ahead:
            unwanted += self._dead_ends(self._scan, left & ~self._tables.mask(unwanted), engine, allowed_after)
        if not unwanted:
            return left
        fewer = left & ~self._tables.mask(unwanted)
        return fewer if fewer.any() else left

    def _without_long_numbers(self, mask: Mask) -> Mask:
        scan, tables = self._scan, self._tables
        if not scan.number_length or scan.is_in_string:
            return mask
        unwanted = tables.huge
        if scan.exponent_digits is not None:
            unwanted = unwanted | tables.more_digits[max(0, MOST_EXPONENT_DIGITS - scan.exponent_digits)]
        if scan.is_whole and scan.number_length >= LONGEST_WHOLE_NUMBER:
            unwanted = unwanted | tables.more_digits[0]
        if scan.number_length >= LONGEST_NUMBER:
            unwanted = unwanted | tables.goes_on
        left = mask & ~unwanted
        return left if left.any() else mask

    def _repeating(self, scan: AnswerScan, mask: Mask) -> list[int]:
        """Allowed tokens that would complete a string already present."""
        tables, found = self._tables, list[int]()
        begun = scan.begun
        if begun is not None and scan.seen:
            written = [_written(one) for one in scan.seen]
            if not scan.is_plain or any(b"\\" in one for one in written):
                return [one for one in _ids(mask & tables.quoted) if scan.would_repeat(tables.contents[one])]
            for one in written:
                if one.startswith(begun):
                    found += tables.by_rest.get(one[len(begun) :], ())
        found += [one for one in _ids(mask & tables.several) if scan.would_repeat(tables.contents[one])]
        return found

    def _dead_ends(self, scan: AnswerScan, mask: Mask, engine: Any, allowed_after: Any) -> list[int]:
        """Allowed tokens after which only a repetition can follow."""
        if not scan.depth or (scan.begun is None and not scan.seen):
            return []
        # After a comma another item must follow.
        ways = self._tables.commas
        if scan.is_in_string:
            ways = ways & self._tables.quoted
        elif scan.awaits_string:
            ways = ways | self._tables.quoted
        candidates = _ids(mask & ways)
        if scan.begun is not None:
            candidates += self._on_the_way(scan, mask)
        return [one for one in candidates if not self._leads_on(scan, one, engine, allowed_after, 24)]

    def _on_the_way(self, scan: AnswerScan, mask: Mask) -> list[int]:
        """Allowed tokens after which the string is still a prefix of one already present."""
        begun, found = scan.begun or b"", list[int]()
        for one in map(_written, scan.seen):
            if one.startswith(begun):
                rest = one[len(begun) :]
                for end in range(1, len(rest) + 1):
                    found += self._tables.by_content.get(rest[:end], ())
        return [one for one in set(found) if mask[one // 32] >> (one % 32) & 1]

    def _leads_on(self, scan: AnswerScan, token_id: int, engine: Any, allowed_after: Any, depth: int) -> bool:
        """True if a new string can follow this token."""
        after = scan.after(self._tables.contents[token_id])
        if depth == 0 or after.depth != scan.depth or (after.begun is None and not after.awaits_string):
            # Another container, or another kind of value.
            return True
        if after.begun is not None and not any(_written(one).startswith(after.begun) for one in after.seen):
            return True
        step = allowed_after(engine, token_id)
        if step is None:
            return False
        deeper, mask = step
        mask = mask & ~self._tables.mask(self._repeating(after, mask))
        if after.begun is None:
            ways = _ids(mask)
        else:
            ways = self._on_the_way(after, mask)
            if (mask & ~self._tables.mask(ways)).any():
                return True
        return any(self._leads_on(after, one, deeper, allowed_after, depth - 1) for one in ways[:64])


def _written(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode(errors="replace")


def _ids(mask: Mask) -> list[int]:
    ids: list[int] = numpy.unpackbits(mask.view(numpy.uint8), bitorder="little").nonzero()[0].tolist()
    return ids
