"""Text of others as a terminal may show it: what would be obeyed there is shown instead. Pure.

Titles, names, answers of a model and errors are written by other programs and people. Sent to a terminal as they are,
they move the cursor, rewrite its title, fill the clipboard, or let a line read as another. So control characters are
shown by their pictures (`␛`), and by their numbers (`\\x9b`, `\\u202e`) where they have none: controls of C1, overrides
of the direction, everything that takes no room, and separators of lines. Joiners stay where they join letters or
pictures, marks on a letter up to eight.
"""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["LONG_FIELDS", "many_lines", "one_line", "shown_document"]

LONG_FIELDS = frozenset(
    {"description", "ai_analysis", "body", "content", "text", "reasoning", "recommendation", "stack", "snapshot"}
)
"""What may have several lines; a line break anywhere else could pass for the beginning of another entry."""
MARKS = 8
JOINERS = "\u200c\u200d"
DIRECTION_MARKS = "\u200e\u200f\u061c"
"""They say how a neighbour is written in Hebrew and Arabic, and override nothing."""
FILLERS = "\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5"
"""Letters and symbols by category that draw nothing."""
SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def many_lines(text: str, *, before: str = "") -> str:
    """Text whose line breaks and tabs are its own; ``before`` is the character that came before it, if one did."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return _shown(text.replace("\r\n", "\n"), "\n\t", before)


def one_line(text: str) -> str:
    """Text that has to stay on its line."""
    return text if text.isascii() and text.isprintable() else _shown(text, "", "")


def shown_document(value: Any, *, is_long: bool = False) -> Any:
    """All text of a JSON document, keys included; the document itself is left as it is."""
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
