"""Calls of tools in an answer's text, read as it comes. Pure.

What comes out does not depend on how the text was cut into pieces. What looks like a call and is none stays text: a
client can show it, and neither loses the answer nor calls what nobody offered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, NoReturn

from attrs import frozen

from actors.inference.messages import ToolCallFormat

__all__ = ["ToolCall", "ToolCallReader"]

_DECODER = json.JSONDecoder()
_BEGUN = re.compile(
    r'\{\s*"name"\s*:\s*"(?P<name>[A-Za-z0-9_-]+)"\s*(?:,\s*(?:"(?:arguments|parameters)"\s*:\s*(?P<arguments>.*)|[^:]*))?$',
    re.DOTALL,
)
"""A call that was cut, from its name on. Where the arguments had not begun there are none."""
_STARTS = {ToolCallFormat.TAGGED: "{", ToolCallFormat.BARRED: "[{"}
"""What the JSON of a call may begin with."""


@frozen
class ToolCall:
    """A function that the model wants called."""

    name: str
    arguments: str
    """A JSON object, as text."""


class ToolCallReader:
    """Takes pieces of one answer, and gives its text and its calls in their order.

    Held back is only what may belong to a call, and white space before it. White space round calls is no content.
    """

    __slots__ = ("_after_call", "_call_at", "_escaped", "_format", "_held", "_in_string", "_names", "_scanned")

    def __init__(self, tool_call_format: ToolCallFormat, names: Collection[str]) -> None:
        """``names`` are the functions that were offered; a call of another is text."""
        self._format = tool_call_format
        self._names = frozenset(names)
        self._held = ""
        self._call_at = -1
        """Where in the held text the opening mark of a call begins; -1 outside of calls."""
        self._after_call = False
        self._scanned = 0
        """So far the closing mark was looked for."""
        self._in_string = False
        self._escaped = False

    def feed(self, piece: str) -> list[str | ToolCall]:
        """What is now certain: texts that are not empty, and whole calls."""
        self._held += piece
        parts: list[str | ToolCall] = []
        while self._advance(parts):
            pass
        return _joined(parts)

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[str | ToolCall]:
        """What was held back, once no more text can come. A last call counts without its closing mark if it is whole.

        Of an answer that ``is_cut`` for its length a last call comes as far as it was made, its arguments part of a JSON
        text; before its name it is nothing, and no text either. One that ``is_forced`` has no text at all.
        """
        parts: list[str | ToolCall] = []
        while self._call_at >= 0:
            start = self._call_at + len(self._format.opening)
            if self._take_call(self._held[start:], "", parts):
                pass
            elif is_cut and (begun := _begun_calls(self._held[start:], self._names, self._format.closing)) is not None:
                parts += begun
                self._held, self._call_at = "", -1
            else:
                self._give_up(parts)
            while self._advance(parts):
                pass
        if self._held and not is_forced and not (self._after_call and not self._held.strip()):
            parts.append(self._held)
        self._held = ""
        return _joined(parts)

    def _advance(self, parts: list[str | ToolCall]) -> bool:
        """Go on by one call, or what was taken for one; False when more text is needed."""
        if self._call_at < 0:
            if self._after_call:
                self._held = self._held.lstrip()
            opening = self._format.opening
            at = self._held.find(opening)
            end = at if at >= 0 else len(self._held) - _begun(self._held, opening)
            certain = self._held[:end].rstrip()
            self._release(certain, parts)
            self._held = self._held[len(certain) :]
            if at < 0:
                return False
            self._call_at = at - len(certain)
        return self._read_call(parts)

    def _read_call(self, parts: list[str | ToolCall]) -> bool:
        start = self._call_at + len(self._format.opening)
        first = self._held[start:].lstrip()[:1]
        if not first:
            return False
        if first not in _STARTS[self._format]:
            self._give_up(parts)
            return True
        closing = self._format.closing
        at = self._find_closing(max(start, self._scanned), closing)
        if at < 0:
            return False
        if not self._take_call(self._held[start:at], self._held[at + len(closing) :], parts):
            self._give_up(parts)
        return True

    def _find_closing(self, at: int, closing: str) -> int:
        """Where the closing mark begins that is not inside a string of the JSON; looks at each character once."""
        held = self._held
        while at < len(held):
            character = held[at]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character == closing[0]:
                if held.startswith(closing, at):
                    return at
                if closing.startswith(held[at:]):
                    break
            at += 1
        self._scanned = at
        return -1

    def _take_call(self, body: str, rest: str, parts: list[str | ToolCall]) -> bool:
        calls = _calls(body, self._names)
        if calls is None:
            return False
        parts += calls
        self._held, self._call_at, self._after_call = rest, -1, True
        self._forget_scan()
        return True

    def _give_up(self, parts: list[str | ToolCall]) -> None:
        """It is no call: its mark is text, and what follows is read anew."""
        end = self._call_at + len(self._format.opening)
        self._release(self._held[:end], parts)
        self._held, self._call_at = self._held[end:], -1
        self._forget_scan()

    def _release(self, text: str, parts: list[str | ToolCall]) -> None:
        if text:
            parts.append(text)
            self._after_call = False

    def _forget_scan(self) -> None:
        self._scanned, self._in_string, self._escaped = 0, False, False


def _begun(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that begins the mark."""
    longest = min(len(mark) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)


def _joined(parts: list[str | ToolCall]) -> list[str | ToolCall]:
    """Neighbouring texts as one."""
    joined: list[str | ToolCall] = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(last := joined[-1], str):
            joined[-1] = last + part
        else:
            joined.append(part)
    return joined


def _calls(body: str, names: frozenset[str]) -> list[ToolCall] | None:
    """The calls of one JSON text; None where any is none."""
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    entries = content if isinstance(content, list) else [content]
    calls = [_call(one, names) for one in entries]
    return [one for one in calls if one is not None] if calls and None not in calls else None


def _begun_calls(body: str, names: frozenset[str], closing: str) -> list[ToolCall] | None:
    """The calls of a text that was cut in the middle of one: whole ones and, where its name was told, the last as it is.

    None where it is no call of these functions.
    """
    text = body.lstrip().removeprefix("[")
    calls: list[ToolCall] = []
    while text := text.lstrip(" ,\n\t\r"):
        try:
            content, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            break
        whole = _call(content, names)
        if whole is None:
            return None
        calls.append(whole)
        text = text[end:]
        if closing.startswith(text.lstrip().removeprefix("]").lstrip()):
            return calls
    begun = _BEGUN.match(text)
    if begun is None:
        # Before its name is told nothing can be called; what is there must be on the way to it.
        return calls if not text or _is_begun(text) else None
    name = begun["name"]
    if name not in names:
        return None
    return [*calls, ToolCall(name, begun["arguments"] or "")]


def _is_begun(text: str) -> bool:
    squeezed = "".join(text.split())
    return squeezed.startswith('{"name":"') or '{"name":"'.startswith(squeezed)


def _call(content: Any, names: frozenset[str]) -> ToolCall | None:
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str) or name not in names:
        return None
    arguments = content.get("arguments", content.get("parameters", {}))
    try:
        if isinstance(arguments, str):
            # Some models write them as OpenAI sends them: as text.
            arguments = json.loads(arguments, parse_constant=_no_constant)
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()  # half a surrogate pair cannot be sent
    except (ValueError, RecursionError):
        return None
    return ToolCall(name, text) if isinstance(arguments, dict) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
