"""rich's console for text of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.control import Control
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from actors.terminal_text import many_lines, one_line

__all__ = ["Screen", "markdown", "words"]


class Screen(Console):
    """rich's console for text of others: no markup, no codes for pictures, and control characters shown.

    Text is made safe before it is measured, so that columns stand where they are drawn. Where that is no terminal there
    are no boxes and nothing is cut or folded: a row is a line, its cells apart by tabs.
    """

    def __init__(self, *, stderr: bool = False, markup: bool = False) -> None:
        super().__init__(stderr=stderr, markup=markup, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print like rich's own method, wrapped between words; tables become lines without a terminal."""
        if self.is_terminal:
            if objects and not options.get("soft_wrap"):
                objects = tuple(self._in_width(one) for one in objects)
                # A word that is wider than the terminal is for the terminal to break.
                options.setdefault("crop", False)
            super().print(*objects, **options)
            return
        options.setdefault("soft_wrap", True)
        for one in objects or ("",):
            for line in _lines(one):
                if isinstance(line, _Row):
                    # rich would draw its tabs as spaces.
                    self.file.write(f"{line}\n")
                else:
                    super().print(line, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by rich for every plain string, in cells and titles too."""
        return super().render_str(many_lines(text), **options)

    def _in_width(self, one: Any) -> Any:
        from actors.command_line.narrow import Whole, fitted, wrap_text

        if isinstance(one, str):
            one = self.render_str(one)
        if isinstance(one, Text):
            return Whole(wrap_text(one, self.width))
        return fitted(one, self.width) if isinstance(one, Table) else one

    def write_line(self, segments: list[Segment]) -> None:
        """A line that is laid out already, as long as it is: the terminal breaks it."""
        self.print(Segments([*segments, Segment.line()]), end="", soft_wrap=True)

    def erase_rows(self, count: int) -> None:
        """Take the rows above the cursor away, and go where the first was."""
        self.send(f"\r\x1b[{count}A\x1b[J")

    def send(self, codes: str) -> None:
        """Send terminal codes; does nothing without a terminal."""
        control = Control()
        control.segment = Segment(codes, None, [])
        self.control(control)


def _lines(drawn: Any) -> Iterator[Any]:
    """Without boxes; whatever is no table as it is."""
    if isinstance(drawn, Table):
        if drawn.title:
            yield words(drawn.title)
        if drawn.show_header:
            yield _row(column.header for column in drawn.columns)
        for cells in zip(*(column.cells for column in drawn.columns), strict=True):
            yield _row(cells)
    elif isinstance(drawn, Panel):
        yield from [words(one) for one in (drawn.title, drawn.subtitle) if one]
        yield from _lines(drawn.renderable)
    elif isinstance(drawn, Group):
        for one in drawn.renderables:
            yield from _lines(one)
    elif isinstance(drawn, Padding):
        for one in _lines(drawn.renderable):
            yield Text("  ").append_text(one) if isinstance(one, Text) else one
    else:
        yield drawn


class _Row(str):
    """Cells apart by tabs, each made safe."""

    __slots__ = ()


def _row(cells: Iterable[Any]) -> _Row:
    return _Row("\t".join(_plain(one) for one in cells))


def _plain(cell: Any) -> str:
    """A cell in one line; a tab in it would make two cells."""
    if isinstance(cell, Group):
        return "; ".join(_plain(one) for one in cell.renderables)
    text = cell.plain if isinstance(cell, Text) else str(cell)
    return one_line(text.replace("\t", " "))


def words(text: object, style: str | Style = "", *, is_long: bool = False) -> Text:
    """Return untrusted text with a style, on one line unless it may have several."""
    return Text(many_lines(str(text)) if is_long else one_line(str(text)), style=style)


def markdown(text: str) -> RenderableType:
    """Return untrusted Markdown."""
    return _Blocks(many_lines(text))


class _Blocks:
    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # It brings a parser with it, which most commands never need.
        from actors.command_line.answer_markdown import block_lines, block_starts, lines_of

        lines = lines_of(self._text)
        starts = block_starts(self._text)
        for number, (begin, end) in enumerate(zip([0, *starts[1:]], [*starts[1:], len(lines)], strict=True)):
            if number:
                yield Segment.line()
            for line in block_lines("".join(lines[begin:end]), console, options.max_width):
                yield from line
                yield Segment.line()
