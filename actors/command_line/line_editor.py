"""The line that a person types into the chat, on a terminal that can do more than show lines.

prompt_toolkit runs on an event loop of its own in a worker thread: under Trio there is no asyncio, and a guest loop would
tie the connection's timers to the editor's. The thread owns the terminal only while a line is read. Between two lines the
terminal neither shows nor assembles what is typed, so that it waits, whole, for the next line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.shortcuts import CompleteStyle
from rich.cells import cell_len
from rich.text import Text

from actors.command_line.chat_history import ChatHistory
from actors.command_line.chat_input import BLOCK, COMMANDS
from actors.command_line.screen import Screen, words
from actors.command_line.terminal_modes import quiet_terminal

__all__ = ["ChatCompleter", "LineEditor"]

PROMPT, GOES_ON = "> ", "… "
PASTE_ON, PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
LEAVE_SECONDS = 1.0
SHOWN_LINES = 3
"""Of a text that is higher than the screen, once it is taken."""


class ChatCompleter(Completer):
    """Names of commands, and names of files behind those that take one."""

    def __init__(self) -> None:
        self._files = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Complete the text before the cursor."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            for one, command in COMMANDS.items():
                if one.startswith(name):
                    yield Completion(one, start_position=-len(name), display_meta=command.help)
        elif name in COMMANDS and COMMANDS[name].takes_file:
            yield from self._files.get_completions(Document(argument.lstrip()), complete_event)


class LineEditor:
    """Reads one text after the other; inside `owned_terminal`."""

    def __init__(self, screen: Screen, data_folder: Path) -> None:
        self._screen = screen
        self._is_block = False
        output = Vt100_Output.from_pty(sys.stdout)
        # Where the cursor stands is of no use here, and a terminal that does not answer would hold every line.
        output.enable_cpr = False
        self._session: PromptSession[str] = PromptSession(
            message=PROMPT,
            multiline=True,
            prompt_continuation=GOES_ON,
            history=ChatHistory(data_folder),
            completer=ChatCompleter(),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            reserve_space_for_menu=0,
            key_bindings=self._keys(),
            output=output,
            color_depth=ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else None,
        )
        self._session.app.before_render += self._settle_what_stays

    @contextmanager
    def owned_terminal(self) -> Iterator[None]:
        """The terminal for the time of the chat; as it was afterwards."""
        try:
            with quiet_terminal(sys.stdin.fileno()):
                yield
        finally:
            self._screen.send(PASTE_OFF)

    async def read(self) -> str | None:
        """Read a text; None at Ctrl-D. Raises `KeyboardInterrupt` at Ctrl-C. If cancelled, the line is erased."""
        self._is_block = False
        over = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def prompt() -> str | None:
            try:
                return self._session.prompt(handle_sigint=False)
            except EOFError:
                return None
            finally:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(over.set)

        try:
            with patch_stdout(raw=True):
                text = await trio.to_thread.run_sync(prompt, abandon_on_cancel=True)
        except trio.Cancelled:
            if (loop := self._session.app.loop) is not None:
                loop.call_soon_threadsafe(lambda: self._session.app.exit(exception=EOFError()))
            with trio.move_on_after(LEAVE_SECONDS, shield=True):
                await over.wait()
            raise
        else:
            if text and self._session.app.erase_when_done:
                self._show_beginning(text)
            return text
        finally:
            # A text that is pasted while an answer comes is one text as well.
            self._screen.send(PASTE_ON)

    def forget(self) -> None:
        """Do nothing: a line left by Ctrl-C is already discarded."""

    def tell(self, text: str) -> None:
        """Above the line that is being typed, for which prompt_toolkit sees."""
        self._screen.print(text)

    def _settle_what_stays(self, _: object) -> None:
        """A text that fills the screen is taken away at its end: drawn to its end it would stand there a second time."""
        app = self._session.app
        size = app.output.get_size()
        rows = 0
        for line in self._session.default_buffer.document.lines:
            rows += 1 + (len(PROMPT) + cell_len(line)) // size.columns
            if rows >= size.rows:
                break
        app.erase_when_done = rows >= size.rows

    def _show_beginning(self, text: str) -> None:
        """Print the beginning of a long text to the scroll-back; `/history` shows the whole, which the server stores."""
        lines = text.split("\n")
        width = self._screen.width - len(PROMPT)
        for number, line in enumerate(lines[:SHOWN_LINES]):
            shown = words(line)
            shown.truncate(width, overflow="ellipsis")
            self._screen.print(Text(GOES_ON if number else PROMPT).append_text(shown), soft_wrap=True)
        count = f"{len(lines):,} lines, " if len(lines) > 1 else ""
        self._screen.print(words(f"  [{count}{len(text):,} characters]", "dim"))

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter", filter=has_focus(DEFAULT_BUFFER))
        def _enter(event: KeyPressEvent) -> None:
            self._end_line(event)

        @keys.add("escape", "enter", filter=has_focus(DEFAULT_BUFFER))
        def _another_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        return keys

    def _end_line(self, event: KeyPressEvent) -> None:
        """Only what was typed says that a text goes on; a text that was pasted is taken as it is."""
        buffer = event.current_buffer
        document = buffer.document
        if document.is_cursor_at_the_end and document.current_line.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        elif not self._is_block and document.text.strip() == BLOCK:
            self._is_block = True
            buffer.insert_text("\n")
        elif self._is_block and document.current_line.strip() != BLOCK:
            buffer.insert_text("\n")
        else:
            if self._is_block:
                buffer.text = "\n".join(document.lines[1:-1])
            buffer.validate_and_handle()
