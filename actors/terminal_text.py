"""Makes untrusted text safe for a terminal by showing control characters instead of sending them. Pure functions.

Titles, names, model answers and errors come from other programs and people. Sent to a terminal unchanged, they could move the
cursor, rewrite the title, fill the clipboard, or make a line read as another. So control characters are shown by their
pictures (`␛`), or by number (`\\x9b`, `\\u202e`) if they have none: C1 controls, direction overrides, zero-width characters
and line separators. Joiners stay if they join letters or emoji, and a letter keeps up to eight marks.
"""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["LONG_FIELDS", "many_lines", "one_line", "shown_document"]

LONG_FIELDS = frozenset(
    {"description", "ai_analysis", "body", "content", "text", "reasoning", "recommendation", "stack", "snapshot"}
)
"""Fields that may have several lines; elsewhere a line break could pass for the start of another entry."""
MARKS = 8
JOINERS = "\u200c\u200d"
DIRECTION_MARKS = "\u200e\u200f\u061c"
"""Marks for Hebrew and Arabic text, which override nothing."""
FILLERS = "\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5"
"""Characters that count as letters or symbols but draw nothing."""
SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def many_lines(text: str, *, before: str = "") -> str:
    """Make text safe, keeping line breaks and tabs; ``before`` is the preceding character, if any."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return _shown(text.replace("\r\n", "\n"), "\n\t", before)


def one_line(text: str) -> str:
    """Make text safe for a single line."""
    return text if text.isascii() and text.isprintable() else _shown(text, "", "")


def shown_document(value: Any, *, is_long: bool = False) -> Any:
    """Return a copy of a JSON document with all its text made safe, keys included."""
    match value:
        case str():
            return many_lines(value) if is_long else one_line(value)
        case list():
            return [shown_document(one, is_long=is_long) for one in value]
        case dict():
            return {
                one_line(name): shown_document(one, is_long=is_long or name in LONG_FIELDS)
                for name, one in value.items()
            }
    return value


def _shown(text: str, allowed: str, before: str) -> str:
    parts: list[str] = []
    marks = 0
    for position, one in enumerate(text):
        previous = text[position - 1] if position else before
        following = text[position + 1 : position + 2]
        category = unicodedata.category(one)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        is_kept = one in allowed or one in DIRECTION_MARKS
        if one in JOINERS:
            is_kept = _joins(previous) and _joins(following)
        if not is_kept and (category in SHOWN or one in FILLERS or marks > MARKS):
            parts.append(_picture(one))
        else:
            parts.append(one)
    return "".join(parts)


def _joins(neighbour: str) -> bool:
    return bool(neighbour) and not neighbour.isascii() and unicodedata.category(neighbour) not in SHOWN


def _picture(one: str) -> str:
    code = ord(one)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
