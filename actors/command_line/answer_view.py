"""Shows a streaming answer on a terminal: finished parts are written once, and only the rest is redrawn.

Lines that have scrolled off cannot be erased, so redrawing a text longer than the screen would duplicate it. Here the unfinished
part never fills the screen; only the end of a long one is shown until it is complete. A table counts as unfinished until its
end, because a later row may widen its columns. If a written line changes nevertheless, it is replaced while the screen still
shows it.
"""

from __future__ import annotations

import time
from itertools import pairwise, takewhile

from rich.cells import cell_len
from rich.segment import Segment

from actors.command_line.answer_markdown import Line, block_lines, block_starts, is_code, line_text, lines_of
from actors.command_line.screen import Screen, words
from actors.terminal_text import many_lines

__all__ = ["AnswerView"]

DRAW_SECONDS = 0.08
SHARE = 5
"""Drawing takes at most one part in so many of the time."""
OPEN = frozenset("*`[|")
"""A line with one of these may still become something else."""
TAB = 8
DECIDED_CHARACTERS = 40
"""A line of so many that begins with a letter or a digit is no longer the beginning of something else."""


class AnswerView:
    """View of one answer. `end` leaves its whole text on the screen, once."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._width = screen.width
        self._source = ""
        """Of the block that is not finished."""
        self._is_first = True
        self._written: list[str] = []
        """Lines of that block that are on the screen for good."""
        self._drawn: list[str] = []
        """Lines below them, which are erased before the next."""
        self._above = 0
        """Rows above the cursor that are on the screen for certain, and of this answer."""
        self._status = ""
        self._is_changed = False
        self._next = 0.0

    def say(self, status: str) -> None:
        """Show a status line until the first text arrives; empty removes it."""
        if status != self._status:
            self._status, self._is_changed = status, True
            self.tick(now=True)

    def add(self, piece: str) -> None:
        """The next piece of text."""
        self._source += piece
        self._status, self._is_changed = "", True
        self.tick()

    def tick(self, *, now: bool = False) -> None:
        """Draw what has changed, unless that was done just before."""
        began = time.monotonic()
        if self._is_changed and (now or began >= self._next):
            self._draw(is_complete=False)
            self._next = began + max(DRAW_SECONDS, SHARE * (time.monotonic() - began))

    def note(self, text: str, style: str) -> None:
        """Print a note on separate lines between lines of the answer."""
        with self._screen:
            self._erase()
            self._screen.print(words(text, style))
            # It stays, and so does what stands above it.
            self._above = 0
            self._draw(is_complete=False)

    def end(self) -> None:
        """The answer is over, complete or not."""
        self._status = ""
        self._draw(is_complete=True)

    def _draw(self, *, is_complete: bool) -> None:
        self._is_changed = False
        with self._screen:
            self._erase()
            self._write_finished(is_complete=is_complete)
            if not self._source.strip():
                if self._status:
                    self._draw_below([[Segment(self._status, self._screen.get_style("dim"))]])
                return
            lines = self._laid_out(self._source)
            if is_complete:
                self._finish(lines)
                return
            self._take_back(lines)
            # The width of its first line goes for a block: lines are counted.
            fixed = self._fixed(lines)
            for line in lines[len(self._written) : fixed]:
                self._write(line)
            self._draw_below(lines[len(self._written) :])

    def _write_finished(self, *, is_complete: bool) -> None:
        """Write all blocks but the last; until the end which they are is certain only of whole lines."""
        whole, _, last = self._source.rpartition("\n")
        if is_complete or (len(last) >= DECIDED_CHARACTERS and last.lstrip()[:1].isalnum()):
            whole = self._source
        starts = block_starts(many_lines(whole)) if whole.strip() else []
        if len(starts) < 2:
            return
        source = lines_of(self._source)
        cuts = [0, *starts[1:]]
        for begin, end in pairwise(cuts):
            self._finish(self._laid_out("".join(source[begin:end])))
        self._source = "".join(source[cuts[-1] :])

    def _laid_out(self, source: str) -> list[Line]:
        # What a closing character means is decided by the one that follows.
        return block_lines(many_lines(source.removesuffix("\r")), self._screen, self._width)

    def _finish(self, lines: list[Line]) -> None:
        self._take_back(lines)
        done = len(self._written) if _same(self._written, lines) == len(self._written) else 0
        for line in lines[done:]:
            self._write(line)
        self._source, self._written, self._width = "", [], self._screen.width
        self._is_first = False

    def _fixed(self, lines: list[Line]) -> int:
        """Return the number of leading lines that further text cannot change."""
        if len(block_starts(many_lines(self._source))) > 1:
            # The last line looks like the beginning of another block, and may yet belong to this one.
            return len(self._written)
        if is_code(self._source) and "\n" not in self._source.lstrip("\n"):
            # What the fence says of the code is not there yet.
            return len(self._written)
        count = max(0, len(lines) - 1)
        if not is_code(self._source):
            count = next((number for number, one in enumerate(lines[:count]) if OPEN & set(line_text(one))), count)
            count = min(count, self._before_table(lines))
        return count if _same(self._written, lines) == len(self._written) else 0

    def _before_table(self, lines: list[Line]) -> int:
        """Return the number of lines above a table, or above what may become one."""
        source = lines_of(self._source)
        row = next((number for number, one in enumerate(source) if "|" in one), None)
        if row is None:
            return len(lines)
        above = "".join(source[:row])
        return _same([line_text(one) for one in self._laid_out(above)], lines) if above.strip() else 0

    def _take_back(self, lines: list[Line]) -> None:
        """Erase written lines of the block that say something else now, where all of them can still be reached."""
        same = _same(self._written, lines)
        rows = sum(self._rows(one) for one in self._written[same:])
        if rows and not same and not self._is_first:
            # With the line that sets the block apart.
            rows += 1
        if 0 < rows <= self._above:
            self._screen.erase_rows(rows)
            self._above -= rows
            del self._written[same:]

    def _write(self, line: Line) -> None:
        if not self._written and not self._is_first:
            self._put([])
        self._put(line)
        self._written.append(line_text(line))

    def _put(self, line: Line) -> None:
        self._screen.write_line(line)
        self._above = min(self._above + self._rows(line_text(line)), self._screen.height - 1)

    def _draw_below(self, lines: list[Line]) -> None:
        room = self._screen.height - 2
        shown: list[Line] = []
        for line in reversed(lines):
            room -= self._rows(line_text(line))
            if room < 0:
                break
            shown.insert(0, line)
        if shown and not self._written and not self._is_first and len(shown) < self._screen.height - 2:
            shown.insert(0, [])
        for line in shown:
            self._put(line)
        self._drawn = [line_text(one) for one in shown]

    def _erase(self) -> None:
        if self._drawn:
            # A terminal that was made narrower has broken the lines anew.
            rows = sum(self._rows(one) for one in self._drawn)
            self._screen.erase_rows(rows)
            self._above = max(0, self._above - rows)
            self._drawn = []

    def _rows(self, text: str) -> int:
        return max(1, -(-cell_len(text.expandtabs(TAB)) // self._screen.width))


def _same(written: list[str], lines: list[Line]) -> int:
    """Return the number of leading lines that are as written."""
    pairs = zip(written, lines, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == line_text(pair[1]), pairs))
