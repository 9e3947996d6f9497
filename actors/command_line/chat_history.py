"""Input history of the chat: a bounded file that only its user can read, without tokens."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

from actors.access.tokens import hide_tokens

__all__ = ["FILE_NAME", "ChatHistory"]

FILE_NAME = "chat-history"
MAXIMUM_ENTRIES = 1000
MAXIMUM_BYTES = 1024 * 1024
MAXIMUM_ENTRY_CHARACTERS = 20_000
"""A longer text was pasted, and is no line to come back to."""


class ChatHistory(History):
    """One JSON string per line, oldest first. If the file cannot be written, the history lasts for this session."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / FILE_NAME

    def load_history_strings(self) -> Iterable[str]:
        """Newest first, as prompt_toolkit has it; a file over its bounds is cut to them."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * MAXIMUM_BYTES))
                lines = file.read().splitlines()
        except OSError:
            return []
        kept, size = [], 0
        for line in reversed(lines[-MAXIMUM_ENTRIES:]):
            size += len(line) + 1
            if size > MAXIMUM_BYTES:
                break
            kept.append(line)
        if len(kept) < len(lines):
            self._write_anew(reversed(kept))
        return [one for one in map(_text_of, kept) if one is not None]

    def store_string(self, string: str) -> None:
        """At the end of the file; a token in it is not kept."""
        if not string.strip() or len(string) > MAXIMUM_ENTRY_CHARACTERS:
            return
        line = json.dumps(hide_tokens(string)).encode() + b"\n"
        # A full disk or a folder of another user must not end a conversation.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.fchmod(descriptor, 0o600)
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def _write_anew(self, lines: Iterable[bytes]) -> None:
        with contextlib.suppress(OSError):
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{FILE_NAME}-")
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(line + b"\n" for line in lines)
            Path(temporary).replace(self._path)


def _text_of(line: bytes) -> str | None:
    try:
        text = json.loads(line)
    except ValueError:
        return None
    return text if isinstance(text, str) else None
