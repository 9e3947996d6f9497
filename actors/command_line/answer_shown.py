"""Shows an answer where this program runs: drawn on a terminal that can do that, as exact text elsewhere."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from actors.command_line.chat_lines import is_capable_terminal
from actors.command_line.printing import AnswerPrinter, print_line
from actors.command_line.screen import Screen

__all__ = ["AnswerShown", "answer_shown"]

TICK_SECONDS = 0.1
ASK_SECONDS = 0.5
"""How often the server is asked what a question waits for."""
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@contextmanager
def answer_shown(screen: Screen) -> Iterator[AnswerShown]:
    """Show an answer. However the block ends, all of its text has been printed."""
    shown = AnswerShown(screen)
    try:
        yield shown
    finally:
        shown.end()


class AnswerShown:
    """Shows an answer as its pieces arrive."""

    def __init__(self, screen: Screen) -> None:
        self._printer: AnswerPrinter | None = None
        self._has_begun = False
        if is_capable_terminal():
            # It brings the parser of Markdown with it.
            from actors.command_line.answer_view import AnswerView

            self._view = AnswerView(screen)
        else:
            self._printer = AnswerPrinter()
        self._can_spin = "utf" in screen.encoding

    def add(self, piece: str) -> None:
        """The next piece."""
        self._has_begun = True
        if self._printer is not None:
            self._printer.add(piece)
        else:
            self._view.add(piece)

    def note(self, text: str) -> None:
        """Print a note without repeating any text of the answer."""
        if self._printer is None:
            self._view.note(text, "yellow")
        else:
            self._printer.end_line()
            print_line(text, style="yellow", err=True)

    def end(self) -> None:
        """The answer is over."""
        if self._printer is None:
            self._view.end()
        elif self._has_begun:
            self._printer.end()

    async def keep_up(self, waiting: Callable[[], Awaitable[str]]) -> None:
        """Draw what came in between, and what is going on until the first piece. Runs until cancelled."""
        if self._printer is not None:
            return
        began, words, frame = time.monotonic(), "asking", 0
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                nonlocal words
                while not self._has_begun:
                    words = await waiting()
                    await trio.sleep(ASK_SECONDS)

            nursery.start_soon(ask)
            while True:
                if self._has_begun:
                    self._view.tick()
                else:
                    frame = (frame + 1) % len(FRAMES)
                    spinner = FRAMES[frame] if self._can_spin else "..."
                    self._view.say(f"{spinner} {words} · {time.monotonic() - began:.0f} s")
                await trio.sleep(TICK_SECONDS)
