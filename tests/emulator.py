"""A terminal with a memory, by pyte: what a person sees of a program, and what stands in the scroll-back above it."""

from __future__ import annotations

import fcntl
import struct
import termios

import pyte

__all__ = ["Emulator"]

SCROLLED_ROWS = 10_000


class Emulator:
    """Takes what a program writes."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self._screen = pyte.HistoryScreen(columns, rows, history=SCROLLED_ROWS, ratio=0.5)
        self._stream = pyte.Stream(self._screen)

    def size(self, descriptor: int) -> None:
        """Tell a pseudo-terminal how large it is."""
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))

    def write(self, data: str) -> None:
        """What came, codes and all."""
        self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """All rows, those that were scrolled away first, without empty ones at the end."""
        scrolled = [
            "".join(row[column].data for column in range(self.columns)).rstrip() for row in self._screen.history.top
        ]
        found = scrolled + [row.rstrip() for row in self._screen.display]
        while found and not found[-1]:
            found.pop()
        return found

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)
