"""Fits lines and tables to the width: wrapped between words, with ids, paths and `commands` kept whole. Pure functions.

rich breaks words where a column is narrower than they are, and commands at their spaces; a terminal breaks lines anywhere.
A table whose words do not fit next to one another is printed row by row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

__all__ = ["Whole", "fitted", "wrap_text", "wrapped"]

_WHOLE = re.compile(r"(?:`[^`\n]+`|\S)+")
"""What is never broken: a word, or words between backticks with what touches them."""
_NOTHING = ("", "–")
INDENT = 2


def wrapped(text: str, width: int) -> str:
    """The text with line breaks between words where a line is wider; a word that is wider stands alone and whole."""
    return wrap_text(Text(text), width).plain


def wrap_text(text: Text, width: int, *, indent: int = 0) -> Text:
    """Wrap styled text; continuation lines are indented by ``indent``."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        found = list(_WHOLE.finditer(line.plain))
        if cell_len(line.plain) <= width or not found:
            lines.append(line)
            continue
        margin = " " * (found[0].start() + indent)
        begin, before = 0, ""
        for last, one in pairwise(found):
            if cell_len(before + line.plain[begin : one.end()]) > width:
                lines.append(Text(before).append_text(line[begin : last.end()]))
                begin, before = one.start(), margin
        lines.append(Text(before).append_text(line[begin:]))
    return Text("\n").join(lines)


def fitted(table: Table, width: int) -> RenderableType:
    """The table within so many cells; row by row where its columns have no room. One that fits is left as it is."""
    texts = [[_text(cell) for cell in one.cells] for one in table.columns]
    if table.expand or not all(isinstance(cell, Text) for column in texts for cell in column):
        # It sees for itself.
        return table
    headings = [str(one.header) if table.show_header else "" for one in table.columns]
    outside = _outside(table)
    most = [_widest([heading, *(one.plain for one in column)]) for heading, column in zip(headings, texts, strict=True)]
    if outside + sum(most) <= width:
        return table
    least = [
        wide if one.no_wrap else _widest(_words(heading, column))
        for one, wide, heading, column in zip(table.columns, most, headings, texts, strict=True)
    ]
    spare = width - outside - sum(least)
    if spare < 0:
        return Group(*(Whole(one) for one in _records(table, headings, texts, width)))
    return _narrowed(table, texts, _shared_out(least, most, spare))


class Whole:
    """A text whose lines are broken already."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._text.no_wrap, self._text.overflow = True, "ignore"
        yield self._text


def _narrowed(table: Table, texts: list[list[Text]], widths: list[int]) -> Table:
    made = Table(
        title=table.title,
        title_justify=table.title_justify,
        box=table.box,
        show_header=table.show_header,
        pad_edge=table.pad_edge,
        padding=table.padding,
    )
    for one, wide in zip(table.columns, widths, strict=True):
        made.add_column(one.header, justify=one.justify, style=one.style, width=wide, overflow="fold")
    for row in zip(*texts, strict=True):
        made.add_row(*(wrap_text(cell, wide) for cell, wide in zip(row, widths, strict=True)))
    return made


def _records(table: Table, headings: list[str], texts: list[list[Text]], width: int) -> Iterable[Text]:
    """Each row below the other: what names it, then the rest with its headings."""
    if table.title:
        yield Text(str(table.title), style="italic")
    names = 1 + next((number for number, one in enumerate(headings) if one), 0)
    room = _widest(headings[names:] if table.show_header else [one.plain for one in texts[0]])
    for number, row in enumerate(zip(*texts, strict=True)):
        if not table.show_header:
            yield _labelled(row[0], Text(" ").join(row[1:]), room, width, indent=0)
            continue
        if number or table.title:
            yield Text()
        name = Text(" ").join(one for one in row[:names] if one.plain.strip())
        name.stylize("bold")
        yield wrap_text(name, width, indent=INDENT)
        for heading, cell in zip(headings[names:], row[names:], strict=True):
            if cell.plain.strip() not in _NOTHING:
                yield _labelled(Text(heading, style="dim"), cell, room, width, indent=INDENT)


def _labelled(label: Text, cell: Text, room: int, width: int, *, indent: int) -> Text:
    margin = indent + room + 2
    whole = wrap_text(cell, max(1, width - margin))
    line = Text(" " * indent).append_text(label).append(" " * (room - cell_len(label.plain) + 2))
    return line.append_text(Text("\n" + " " * margin).join(whole.split("\n", allow_blank=True)))


def _outside(table: Table) -> int:
    """Cells of a line that no column has."""
    left, right = table.padding[3], table.padding[1]
    count = len(table.columns)
    if table.box is None:
        return (left + right) * count - (0 if table.pad_edge else left + right)
    return (left + right + 1) * count + 1


def _shared_out(least: list[int], most: list[int], spare: int) -> list[int]:
    """The least of each, and the spare cells to those that want more, evenly."""
    widths = list(least)
    while spare > 0 and (wanting := [one for one, wide in enumerate(widths) if wide < most[one]]):
        for one in wanting[:spare]:
            widths[one] += 1
        spare -= len(wanting[:spare])
    return widths


def _text(cell: Any) -> Any:
    return Text(cell) if isinstance(cell, str) else cell


def _words(heading: str, column: list[Text]) -> Iterable[str]:
    for text in (heading, *(one.plain for one in column)):
        yield from _WHOLE.findall(text)


def _widest(texts: Iterable[str]) -> int:
    return max((cell_len(line) for one in texts for line in one.split("\n")), default=0)
