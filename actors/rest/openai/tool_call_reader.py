"""Parses tool calls from an answer's text as it arrives. No I/O.

The result does not depend on how the text is split: each decision needs only the shortest prefix that settles it.
Text that merely resembles a call stays text, so that a client can show it. A call has begun once the answer has
named an offered function and opened its arguments; from there on the arguments are passed on as the model writes
them. The engine constrains them to JSON (`actors/inference/free_calls.py`), so they are valid JSON, or a prefix of it
if the answer was truncated.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

from attrs import frozen

from actors.inference.messages import ToolCallFormat

__all__ = ["CallArguments", "CallStart", "Part", "ToolCall", "ToolCallReader", "whole_calls"]

_S = r"[ \t\r\n]{0,64}"
"""JSON white space, bounded as the engine bounds it in the head of a call (`actors/inference/free_calls.py`)."""
_NAMED = rf'\{{{_S}"name"{_S}:{_S}"(?P<name>[A-Za-z0-9_-]+)"{_S}'
_HEAD = re.compile(rf'{_NAMED},{_S}"(?:arguments|parameters)"{_S}:{_S}(?=\{{[ \t\r\n]*["}}])')
"""A call up to its arguments, which are an object."""
_BEGUN = re.compile(
    rf'{_NAMED}(?:,{_S}(?:"(?:arguments|parameters)"{_S}:{_S}(?:(?P<arguments>\{{.*)|.*)|[^:]*))?$', re.DOTALL
)
"""A truncated call, from its name on. Without `arguments` if they had not begun or are not an object."""
_LISTS = (ToolCallFormat.BARRED, ToolCallFormat.MISTRAL)
"""Formats whose calls are in a JSON array."""
_OUTSIDE = re.compile(r'["{}\[\]<\\]')
_INSIDE = re.compile(r'["\\]')


@frozen
class ToolCall:
    """A call of a function by the model."""

    name: str
    arguments: str
    """A JSON object as text, as the model wrote it."""


@frozen
class CallStart:
    """The beginning of a call."""

    name: str


@frozen
class CallArguments:
    """More arguments of the call that began last."""

    text: str


Part = str | CallStart | CallArguments
"""A piece of text or of a call."""


class _State(enum.Enum):
    TEXT = enum.auto()
    """Outside of calls."""
    OPENED = enum.auto()
    """After an opening mark; the following text decides whether it is one."""
    ENTRY = enum.auto()
    """In an object that may be a call."""
    ARGUMENTS = enum.auto()
    """In the arguments of a call that has begun."""
    REST = enum.auto()
    """After the arguments, in the object of the call."""
    NEXT = enum.auto()
    """After a call: another one follows, or the closing mark."""


class ToolCallReader:
    """Takes pieces of an answer and returns its text and calls in order.

    Only text that may belong to a call is held back, and white space before it. White space around calls is dropped.
    """

    __slots__ = (
        "_after_call", "_at", "_depth", "_escaped", "_format", "_held", "_in_string", "_is_later", "_may_be_bare", "_names",
        "_object_at", "_state", "has_cut_call",
    )  # fmt: skip

    def __init__(self, tool_call_format: ToolCallFormat, names: Collection[str]) -> None:
        """``names`` are the offered functions; a call of any other is text."""
        self.has_cut_call = False
        """True if the answer ended in the middle of a call, so that the call cannot be carried out."""
        self._format = tool_call_format
        self._names = frozenset(names)
        self._held = ""
        """Text that has not been returned yet."""
        self._state = _State.TEXT
        self._after_call = False
        self._object_at = 0
        """Position of the call's object in the held text."""
        self._is_later = False
        """True if another call precedes that object within the same marks."""
        self._may_be_bare = tool_call_format is ToolCallFormat.LLAMA
        """True while an object at the very beginning may be a call without its mark."""
        self._at = 0
        """Position up to which the held text was scanned for the end of an object."""
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, piece: str) -> list[Part]:
        """Return the parts that can no longer change; none of them is empty."""
        self._held += piece
        parts: list[Part] = []
        self._advance(parts)
        return _joined(parts)

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[Part]:
        """Return what was held back, after the last text. A complete last call counts even without its closing mark.

        If the answer ``is_cut`` by its length limit, a last call is returned as far as it goes, with truncated
        arguments; before its name it is neither call nor text. An answer that ``is_forced`` has no text at all.
        """
        parts: list[Part] = []
        while self._state in (_State.OPENED, _State.ENTRY):
            if is_cut and (begun := self._begun_call()) is not None:
                self.has_cut_call = True
                parts += begun
                self._held, self._state = "", _State.NEXT
                break
            self._give_up(parts)
            self._advance(parts)
        if self._state is _State.ARGUMENTS:
            self.has_cut_call = True
            self._pass_on(len(self._held), parts)
        elif self._state is _State.TEXT and not (self._after_call and not self._held.strip()):
            self._release(self._held, parts)
        self._held = ""
        return _joined([one for one in parts if not (is_forced and isinstance(one, str))])

    def _advance(self, parts: list[Part]) -> None:
        steps = {
            _State.TEXT: self._read_text,
            _State.OPENED: self._read_opening,
            _State.ENTRY: self._read_entry,
            _State.ARGUMENTS: self._read_arguments,
            _State.REST: self._read_rest,
            _State.NEXT: self._read_next,
        }
        while steps[self._state](parts):
            pass

    # Each step returns False if it needs more text, and True once it has changed the state.

    def _read_text(self, parts: list[Part]) -> bool:
        if self._after_call:
            self._held = self._held.lstrip()
        if self._may_be_bare:
            start = self._held.lstrip(" \t\r\n")
            if not start:
                return False
            self._may_be_bare = False
            if start[0] == "{":
                self._object_at = len(self._held) - len(start)
                self._state, self._is_later = _State.ENTRY, True
                self._start_scan(self._object_at)
                return True
        opening = self._format.opening
        at = self._held.find(opening)
        end = at if at >= 0 else len(self._held) - _begun(self._held, opening)
        certain = self._held[:end].rstrip()
        self._release(certain, parts)
        self._held = self._held[len(certain) :]
        if at < 0:
            return False
        self._object_at = at - len(certain) + len(opening)
        self._state, self._is_later = _State.OPENED, False
        return True

    def _read_opening(self, parts: list[Part]) -> bool:
        rest = self._held[self._object_at :].lstrip()
        if self._format in _LISTS and rest.startswith("["):
            rest = rest[1:].lstrip()
        if not rest:
            return False
        if rest[0] != "{":
            self._give_up(parts)
            return True
        self._object_at = len(self._held) - len(rest)
        self._state = _State.ENTRY
        self._start_scan(self._object_at)
        return True

    def _read_entry(self, parts: list[Part]) -> bool:
        """Decide whether the object is a call: by its head, or by the whole object if it is written in another way."""
        head = _HEAD.match(self._held, self._object_at)
        if head is not None:
            if head["name"] not in self._names:
                self._give_up(parts)
                return True
            parts.append(CallStart(head["name"]))
            self._held, self._state, self._after_call = self._held[head.end() :], _State.ARGUMENTS, True
            self._start_scan(0)
            return True
        end = self._scan(is_json=True)
        if end is None:
            return False
        call = _call(self._held[self._object_at : end], self._names) if end >= 0 else None
        if call is None:
            self._give_up(parts)
            return True
        parts += [CallStart(call.name), CallArguments(call.arguments)]
        self._held, self._state, self._after_call = self._held[end:], _State.NEXT, True
        return True

    def _read_arguments(self, parts: list[Part]) -> bool:
        end = self._scan()
        if end is None:
            self._pass_on(self._at, parts)
            return False
        # A closing mark in the middle ends arguments that are not JSON.
        self._pass_on(self._at if end < 0 else end, parts)
        self._state = _State.REST
        self._start_scan(0, depth=1)
        return True

    def _read_rest(self, _: list[Part]) -> bool:
        """Skip the remaining fields of a call's object."""
        end = self._scan()
        if end is None:
            self._held, self._at = self._held[self._at :], 0
            return False
        self._held, self._state = self._held[self._at if end < 0 else end :], _State.NEXT
        return True

    def _read_next(self, parts: list[Part]) -> bool:
        if self._format is ToolCallFormat.LLAMA:
            self._held = self._held.lstrip("; \n")
        more = self._held.lstrip(" ,\t\r\n")
        if not more:
            return False
        if more.startswith("{"):
            self._held, self._object_at, self._state, self._is_later = more, 0, _State.ENTRY, True
            self._start_scan(0)
            return True
        self._held = self._held.lstrip()
        end = self._held.removeprefix("]").lstrip() if self._format in _LISTS else self._held
        closing = self._format.closing
        if closing.startswith(end) and end != closing:
            return False
        self._held, self._state = end.removeprefix(closing), _State.TEXT
        return True

    def _scan(self, *, is_json: bool = False) -> int | None:
        """Find the end of the object; -1 at a closing mark outside of its strings, None if neither has arrived.

        With ``is_json``, also -1 at characters that JSON never has outside of strings. Each character is scanned
        once.
        """
        held, closing = self._held, self._format.closing
        while True:
            if self._escaped and self._at < len(held):
                self._at, self._escaped = self._at + 1, False
            found = (_INSIDE if self._in_string else _OUTSIDE).search(held, self._at)
            if found is None:
                self._at = max(self._at, len(held))
                return None
            self._at, character = found.start(), found[0]
            if not self._in_string and character in "<\\":
                if is_json or held.startswith(closing, self._at):
                    return -1
                if closing.startswith(held[self._at : self._at + len(closing)]):
                    return None
            elif character == '"':
                self._in_string = not self._in_string
            elif character == "\\":
                self._escaped = True
            else:
                self._depth += 1 if character in "{[" else -1
                if self._depth == 0:
                    return self._at + 1
            self._at += 1

    def _start_scan(self, at: int, *, depth: int = 0) -> None:
        self._at, self._depth, self._in_string, self._escaped = at, depth, False, False

    def _pass_on(self, end: int, parts: list[Part]) -> None:
        if end:
            parts.append(CallArguments(self._held[:end]))
        self._held, self._at = self._held[end:], 0

    def _give_up(self, parts: list[Part]) -> None:
        """Treat the mark as text and parse what follows it again. After a call, treat the object's brace as text."""
        end = (
            self._object_at + 1
            if self._is_later
            else self._held.index(self._format.opening) + len(self._format.opening)
        )
        self._release(self._held[:end], parts)
        self._held, self._state = self._held[end:], _State.TEXT

    def _release(self, text: str, parts: list[Part]) -> None:
        if text:
            parts.append(text)
            self._after_call = False

    def _begun_call(self) -> list[Part] | None:
        """The truncated call, as far as it goes; None if it is not a call of an offered function."""
        if self._state is _State.OPENED:
            return []
        text = self._held[self._object_at :]
        begun = _BEGUN.match(text)
        if begun is None:
            # Without its name nothing can be called; the text must at least be a prefix of a call.
            return [] if _is_begun(text) else None
        if begun["name"] not in self._names:
            return None
        arguments = begun["arguments"]
        return [CallStart(begun["name"]), *([CallArguments(arguments)] if arguments else [])]


def whole_calls(parts: Iterable[Part]) -> list[str | ToolCall]:
    """Combine the pieces of each call."""
    whole: list[str | ToolCall] = []
    for part in parts:
        if isinstance(part, CallStart):
            whole.append(ToolCall(part.name, ""))
        elif isinstance(part, CallArguments):
            last = whole.pop()
            assert isinstance(last, ToolCall)
            whole.append(ToolCall(last.name, last.arguments + part.text))
        elif whole and isinstance(before := whole[-1], str):
            whole[-1] = before + part
        else:
            whole.append(part)
    return whole


def _begun(text: str, mark: str) -> int:
    """Length of the longest suffix of ``text`` that is a proper prefix of the mark."""
    longest = min(len(mark) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)


def _joined(parts: list[Part]) -> list[Part]:
    """Join adjacent pieces of the same kind."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments):
            joined[-1] = CallArguments(last.text + part.text)
        else:
            joined.append(part)
    return joined


def _is_begun(text: str) -> bool:
    squeezed = "".join(text[:256].split())
    return squeezed.startswith('{"name":"') or '{"name":"'.startswith(squeezed)


def _call(text: str, names: frozenset[str]) -> ToolCall | None:
    """Parse a complete object that is not written in the usual order; None if it is not a call."""
    try:
        content: Any = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str) or name not in names:
        return None
    arguments = content.get("arguments", content.get("parameters", {}))
    try:
        if isinstance(arguments, str):
            # Some models write them as a string, as OpenAI sends them.
            arguments = json.loads(arguments, parse_constant=_no_constant)
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        written.encode()  # half a surrogate pair cannot be sent
    except (ValueError, RecursionError):
        return None
    return ToolCall(name, written) if isinstance(arguments, dict) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
