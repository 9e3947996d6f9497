"""All output of the commands except rich's layouts (`screen.py`). No other module of this folder writes to the standard streams.

Output for people shows control characters instead of sending them, on a terminal and in a pipe that may end on one. A model's
answer written to a pipe or file is exact, and so is JSON.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import click

from actors.terminal_text import JOINERS, many_lines

__all__ = ["AnswerPrinter", "end_line", "json_text", "print_json", "print_line"]

# JSON may carry them as they are; a terminal would obey some of those.
_UNSAFE = re.compile(
    "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def print_line(text: str, *, err: bool = False, style: str | None = None, newline: bool = True) -> None:
    """A line, or several, for a person; ``style`` is a colour, or `dim`.

    What goes to standard error is words, and broken between them on a terminal.
    """
    if err and (width := _terminal_width()):
        # Most commands have nothing to say there.
        from actors.command_line.narrow import wrapped

        text = wrapped(text, width)
    # As https://no-color.org has it; None lets click look whether it is a terminal.
    is_plain = style is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    looks: dict[str, Any] = {} if is_plain else {"dim": True} if style == "dim" else {"fg": style}
    # click ends also what has no style with a code.
    click.secho(many_lines(text), err=err, nl=newline, color=False if is_plain else None, reset=not is_plain, **looks)


def end_line() -> None:
    """Let the shell's prompt begin a line of its own: Ctrl-C stands in one, behind what was shown."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and stream.isatty():
            stream.write("\n")
            stream.flush()
            return


def _terminal_width() -> int:
    """Return the width of the terminal on standard error; 0 without one."""
    if sys.stderr is None or not sys.stderr.isatty():
        return 0
    given = os.environ.get("COLUMNS", "")
    try:
        return int(given) if given.isdecimal() else os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 0


def print_json(value: Any) -> None:
    """Print a JSON document on one line, exactly."""
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    """JSON that a terminal shows as it stands."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


class AnswerPrinter:
    """Prints an answer as it comes: shown on a terminal, exact elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._held = ""
        self._before = ""

    def add(self, piece: str) -> None:
        """The next piece of text."""
        if not self._is_terminal:
            self._write(piece)
            return
        text = self._held + piece
        # What these mean is decided by the character that follows.
        kept = len(text) - 1 if text[-1:] == "\r" or text[-1:] in JOINERS else len(text)
        text, self._held = text[:kept], text[kept:]
        if text:
            self._write(many_lines(text, before=self._before))
            self._before = text[-1]

    def end_line(self) -> None:
        """Let what another stream says begin a line of its own, where both are one terminal."""
        if self._is_terminal and sys.stderr.isatty() and self._before not in ("", "\n"):
            self._write("\n")
            self._before = "\n"

    def end(self) -> None:
        """The end of its last line."""
        self._write(many_lines(self._held, before=self._before) + "\n")
        self._held = ""

    def _write(self, text: str) -> None:
        # A model may emit half of a pair, which no stream can carry.
        sys.stdout.write(text.encode("utf-8", "replace").decode())
        sys.stdout.flush()
