"""The line that a person types into the chat, on a terminal that shows lines and can do nothing else (TERM=dumb).

Such a terminal does not say where a paste begins and ends. What is there at once belongs together: a line that others follow
within a moment is the beginning of a text of several lines. So a paste is one text, and so is what was typed ahead while an
answer came. Nothing is lost: the terminal keeps what is not read yet.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from rich.cells import cell_len

from actors.command_line.chat_input import BLOCK, BadCommand, LineCollector, parse_slash
from actors.command_line.printing import print_line
from actors.command_line.screen import Screen
from actors.command_line.terminal_modes import quiet_terminal

__all__ = ["DumbTerminal"]

MOMENT_SECONDS = 0.1
"""Between two pieces of one paste, on a slow line as well."""
CHUNK_BYTES = 4096
PROMPT, GOES_ON = "> ", "… "
END, ERASE, ERASE_WORD, ERASE_LINE = "\x04", "\x08\x7f", "\x17", "\x15"
TAB = 8


class _Forgotten(Exception):
    """The input typed so far was discarded."""


class DumbTerminal:
    """Reads one text after the other; inside `owned_terminal`."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._descriptor = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: deque[str] = deque()
        """Characters that were read and belong to no line yet."""
        self._after_return = False
        self._line: list[str] = []
        self._prompt = ""
        """Prompt of the line being typed, or empty."""
        self._collector = LineCollector()
        self._reading: trio.CancelScope | None = None

    @contextmanager
    def owned_terminal(self) -> Iterator[None]:
        """The terminal for the time of the chat; as it was afterwards."""
        with quiet_terminal(self._descriptor):
            yield

    async def read(self) -> str | None:
        """The next text; None at Ctrl-D."""
        while True:
            try:
                return await self._read_text()
            except _Forgotten:
                continue
            finally:
                self._prompt = ""

    def forget(self) -> None:
        """Drop what was typed of a text; another prompt follows."""
        if self._reading is not None:
            self._reading.cancel(reason="forgotten")
            self._prompt = ""
            self._write("\n")

    def tell(self, text: str) -> None:
        """Say something, above the line that is being typed."""
        if self._prompt:
            self._screen.print()
        self._screen.print(text)
        if self._prompt:
            self._write(self._prompt + "".join(self._line))

    async def _read_text(self) -> str | None:
        self._collector.clear()
        pasted: list[str] = []
        while True:
            line = await self._read_line(GOES_ON if pasted or self._collector.is_open else PROMPT)
            if line is None:
                return "\n".join(pasted) if pasted else None
            if not pasted and not self._collector.is_open:
                if _is_command(line):
                    return line
                if line.strip() != BLOCK and await self._is_followed():
                    pasted.append(line)
                    continue
            if pasted:
                # What was pasted is taken as it is.
                pasted.append(line)
                if not await self._is_followed():
                    return "\n".join(pasted)
            elif (text := self._collector.add(line)) is not None:
                return text

    async def _read_line(self, prompt: str) -> str | None:
        """Read a line and echo it; None at end of input."""
        self._line, self._prompt = [], prompt
        self._write(prompt)
        while True:
            one = await self._next()
            if one in ("", END):
                if one and self._line:
                    continue
                self._write("\n")
                return None
            if one == "\n":
                self._write("\n")
                return "".join(self._line)
            if one in ERASE:
                self._erase(1)
            elif one == ERASE_WORD:
                self._erase(len(self._line) - len(_without_last_word("".join(self._line))))
            elif one == ERASE_LINE:
                self._erase(len(self._line))
            elif one.isprintable() or one == "\t":
                self._line.append(one)
                self._write(one)

    def _erase(self, count: int) -> None:
        if count and self._line:
            taken = "".join(self._line[-count:])
            del self._line[-count:]
            cells = cell_len(taken.replace("\t", ""))
            self._write("\b" * cells + " " * cells + "\b" * cells)

    async def _next(self) -> str:
        """The next character, a line's end as one; empty at the end of input."""
        while not self._waiting:
            with trio.CancelScope() as self._reading:
                await trio.lowlevel.wait_readable(self._descriptor)
            if self._reading.cancelled_caught:
                self._reading = None
                raise _Forgotten
            self._reading = None
            if not self._take():
                return ""
        return self._waiting.popleft()

    async def _is_followed(self) -> bool:
        """Return whether more input is available, or arrives within a moment."""
        if not self._waiting:
            with trio.move_on_after(MOMENT_SECONDS):
                await trio.lowlevel.wait_readable(self._descriptor)
                self._take()
        return bool(self._waiting)

    def _take(self) -> bool:
        """Read what is there; False at the end of input."""
        read = os.read(self._descriptor, CHUNK_BYTES)
        for one in self._decoder.decode(read):
            # Both together are one end of a line.
            if one != "\n" or not self._after_return:
                self._waiting.append("\n" if one == "\r" else one)
            self._after_return = one == "\r"
        return bool(read)

    def _write(self, text: str) -> None:
        print_line(text, newline=False)


def _is_command(line: str) -> bool:
    try:
        return parse_slash(line) is not None
    except BadCommand:
        return False


def _without_last_word(line: str) -> str:
    return line.rstrip().rpartition(" ")[0] + " " if " " in line.strip() else ""
