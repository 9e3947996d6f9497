"""Input of the chat: the line editor on a capable terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import trio

from actors.command_line.chat_input import LineCollector
from actors.command_line.printing import print_line
from actors.command_line.screen import Screen

__all__ = ["ChatLines", "PlainLines", "chat_lines", "is_capable_terminal"]


class ChatLines(Protocol):
    """Reads what a person says, one text after the other."""

    def owned_terminal(self) -> AbstractContextManager[None]:
        """Own the terminal for the duration of the chat."""

    async def read(self) -> str | None:
        """The next text; None at the end. Raises `KeyboardInterrupt` where Ctrl-C is a key here."""

    def forget(self) -> None:
        """Drop the lines of a text that is not complete."""

    def tell(self, text: str) -> None:
        """Say something, with rich's marks of styles, also while a line is being typed."""


def chat_lines(screen: Screen, data_folder: Path) -> ChatLines:
    """Return the input suited to where this program runs."""
    if not is_capable_terminal():
        if not sys.stdin.isatty():
            return PlainLines(screen)
        from actors.command_line.dumb_terminal import DumbTerminal

        return DumbTerminal(screen)
    # It takes a tenth of a second to import.
    from actors.command_line.line_editor import LineEditor

    return LineEditor(screen, data_folder)


def is_capable_terminal() -> bool:
    """True on an interactive terminal that can redraw a line."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


class PlainLines:
    """Lines of a pipe or a file as they come; `\\` at the end of one and a block between `\"\"\"` make one text of several."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._collector = LineCollector()

    def owned_terminal(self) -> AbstractContextManager[None]:
        """Left as it is."""
        return nullcontext()

    async def read(self) -> str | None:
        """The next text; the first end of input is the end."""
        while True:
            line = await trio.to_thread.run_sync(_read_line, self._collector.is_open, abandon_on_cancel=True)
            if line is None:
                return None
            if (text := self._collector.add(line)) is not None:
                return text

    def forget(self) -> None:
        """Drop the lines of a text that is not complete."""
        self._collector.clear()
        print_line("")

    def tell(self, text: str) -> None:
        """In a line of its own."""
        self._screen.print(text)


def _read_line(goes_on: bool) -> str | None:
    print_line("… " if goes_on else "> ", newline=False)
    try:
        return input()
    except (EOFError, KeyboardInterrupt):
        return None
