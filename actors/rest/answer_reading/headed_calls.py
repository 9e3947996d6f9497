"""Parses calls with the name before a JSON object, as Mistral's and Kimi K2's models write them, as text arrives. No
I/O.

Arguments are passed on as the model writes them, as in `ToolCallReader`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection

from attrs import frozen

from actors.inference.messages import ToolCallFormat
from actors.rest.answer_reading.reasoning import ends_like
from actors.rest.openai.tool_call_reader import CallArguments, CallStart, Part, ToolCallReader

__all__ = ["HeadedReader", "JsonEnd"]

HEAD_CHARACTERS = 256
"""Maximum length of a name with its marks."""
_SIGNIFICANT = re.compile(r'["\\{}\[\]]')


class JsonEnd:
    """Finds the end of a JSON object that arrives in pieces. Each character is scanned once."""

    __slots__ = ("_depth", "_in_string", "_is_escaped")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def feed(self, piece: str) -> int | None:
        """Return how much of the piece belongs to the object, or None if it does not end in it."""
        at = 0
        while at < len(piece):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = _SIGNIFICANT.search(piece, at)
            if found is None:
                return None
            at, character = found.end(), found[0]
            if character == '"':
                self._in_string = not self._in_string
            elif character == "\\":
                self._is_escaped = self._in_string
            elif not self._in_string:
                self._depth += 1 if character in "{[" else -1
                if self._depth <= 0:
                    return at
        return None


@frozen
class _Head:
    pattern: re.Pattern[str]
    """Matches a head from its opening mark on, as the engine does (`actors/inference/free_calls.py`)."""
    marks: tuple[str, ...]
    """Other marks that are not text outside of calls."""


_HEADS = {
    ToolCallFormat.MISTRAL: _Head(
        re.compile(
            r"\[TOOL_CALLS\]\s{0,8}(?P<name>[\w-]{1,64})\s{0,8}(?:\[CALL_ID\]\w{0,64}\s{0,8})?\[ARGS\][ \t\r\n]{0,8}(?=\{)",
            re.ASCII,
        ),
        ("[TOOL_CALLS]",),
    ),
    ToolCallFormat.KIMI_K2: _Head(
        re.compile(
            r"<\|tool_call_begin\|>\s{0,8}(?:functions\.)?(?P<name>[\w-]{1,64})(?::\d{1,6})?\s{0,8}"
            r"<\|tool_call_argument_begin\|>[ \t\r\n]{0,8}(?=\{)",
            re.ASCII,
        ),
        ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_end|>"),
    ),
}


class _State(enum.Enum):
    TEXT = enum.auto()
    HEAD = enum.auto()
    ARGUMENTS = enum.auto()


class HeadedReader:
    """Like `ToolCallReader`."""

    __slots__ = ("_after_call", "_end", "_form", "_head", "_held", "_is_cut", "_names", "_objects", "_state")

    def __init__(self, form: ToolCallFormat, names: Collection[str]) -> None:
        """``names`` are the offered functions; a call of any other is text."""
        self._form = form
        self._head = _HEADS[form]
        self._names = frozenset(names)
        self._held = ""
        self._state = _State.TEXT
        self._is_cut = False
        self._after_call = False
        self._end = JsonEnd()
        self._objects: ToolCallReader | None = None
        """Takes over if calls turn out to be objects, Mistral's older format."""

    @property
    def has_cut_call(self) -> bool:
        """Same as in `ToolCallReader`."""
        return self._is_cut if self._objects is None else self._objects.has_cut_call

    def feed(self, piece: str) -> list[Part]:
        """Return the parts that can no longer change."""
        if self._objects is not None:
            return self._objects.feed(piece)
        self._held += piece
        parts: list[Part] = []
        steps = {_State.TEXT: self._read_text, _State.HEAD: self._read_head, _State.ARGUMENTS: self._read_arguments}
        while steps[self._state](parts):
            pass
        return parts

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[Part]:
        """Return what was held back, after the last text."""
        if self._objects is not None:
            return self._objects.finish(is_cut=is_cut, is_forced=is_forced)
        parts: list[Part] = []
        while self._state is _State.HEAD and not is_cut:
            self._give_up(parts)
            parts += self.feed("")
        self._is_cut = self._state is _State.ARGUMENTS
        if self._state is _State.TEXT and not (self._after_call and not self._held.strip()):
            self._release(self._held, parts)
        self._held = ""
        return [one for one in parts if not (is_forced and isinstance(one, str))]

    def _read_text(self, parts: list[Part]) -> bool:
        if self._after_call:
            self._held = self._held.lstrip()
        marks = (self._form.opening, *self._head.marks)
        places = [(at, mark) for mark in marks if (at := self._held.find(mark)) >= 0]
        at, mark = min(places, default=(-1, ""))
        end = at if at >= 0 else len(self._held) - max(ends_like(self._held, one) for one in marks)
        certain = self._held[:end].rstrip()
        self._release(certain, parts)
        self._held = self._held[len(certain) :]
        if at < 0:
            return False
        self._held = self._held.lstrip()
        if mark == self._form.opening:
            self._state = _State.HEAD
        else:
            self._held, self._after_call = self._held[len(mark) :], True
        return True

    def _read_head(self, parts: list[Part]) -> bool:
        start = self._held[len(self._form.opening) :].lstrip()
        if self._form is ToolCallFormat.MISTRAL and start.startswith(("[", "{")) and not self._after_call:
            self._objects = ToolCallReader(self._form, self._names)
            parts += self._objects.feed(self._held)
            self._held = ""
            return False
        head = self._head.pattern.match(self._held)
        if head is not None and head["name"] in self._names:
            parts.append(CallStart(head["name"]))
            self._held, self._state, self._after_call = self._held[head.end() :], _State.ARGUMENTS, True
            self._end = JsonEnd()
            return True
        if head is None and len(self._held) < HEAD_CHARACTERS and not self._held[:-1].count("{"):
            return False
        self._give_up(parts)
        return True

    def _read_arguments(self, parts: list[Part]) -> bool:
        end = self._end.feed(self._held)
        text = self._held if end is None else self._held[:end]
        if text:
            parts.append(CallArguments(text))
        self._held = self._held[len(text) :]
        if end is None:
            return False
        self._state = _State.TEXT
        return True

    def _give_up(self, parts: list[Part]) -> None:
        end = len(self._form.opening)
        self._release(self._held[:end], parts)
        self._held, self._state = self._held[end:], _State.TEXT

    def _release(self, text: str, parts: list[Part]) -> None:
        if text:
            parts.append(text)
            self._after_call = False
