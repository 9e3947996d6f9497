"""Parses answers in OpenAI's harmony format (gpt-oss), which consists of messages on channels, as text arrives. No
I/O.

`analysis` is reasoning, `final` the answer, `commentary` a call of `functions.name` or text before one. The format is specified in OpenAI's `harmony` repository (`docs/format.md`).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from actors.rest.answer_reading.headed_calls import JsonEnd
from actors.rest.answer_reading.reasoning import Reasoning, ends_like
from actors.rest.openai.tool_call_reader import CallArguments, CallStart, Part

__all__ = ["HarmonyReader"]

_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?(?P<name>[\w-]{1,128})")
_TO_FUNCTION = "to=functions."
"""Possible beginning of an answer: the prompt ends in the middle of a head, and some models name the recipient before
the channel.
"""
HEAD_CHARACTERS = 512
"""Maximum length of the text before a message."""


class HarmonyReader:
    """Like `AnswerReader`, for a format that marks everything."""

    __slots__ = ("_end", "_held", "_in_message", "_is_first", "_kind", "_names", "_said", "has_cut_call")

    def __init__(self, names: Collection[str]) -> None:
        """``names`` are the offered functions; a call of any other is text."""
        self.has_cut_call = False
        """Same as in `ToolCallReader`."""
        self._names = frozenset(names)
        self._held = ""
        self._is_first = True
        """True before the first message, whose head the prompt may have begun."""
        self._end = JsonEnd()
        """Finds the end of a call's arguments as they arrive; text after it is dropped."""
        self._in_message = False
        self._kind = "final"
        """Kind of the current message: `analysis`, `final`, `call`, `loose` if its arguments are not an object,
        `called` after them.
        """
        self._said = False
        """True once the current message has content."""

    @property
    def is_inside(self) -> bool:
        """True if the next text is reasoning."""
        return self._in_message and self._kind == "analysis"

    @property
    def is_open(self) -> bool:
        """True if the kind of the last text is not known yet."""
        return not self._in_message

    @property
    def is_over(self) -> bool:
        """True if the next text is an answer or a call."""
        return self._in_message and self._kind != "analysis"

    def feed(self, piece: str) -> list[Part | Reasoning]:
        """Return the parts that can no longer change."""
        self._held += piece
        parts: list[Part | Reasoning] = []
        while self._read_message(parts) if self._in_message else self._read_head(parts):
            pass
        return parts

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[Part | Reasoning]:
        """Return what was held back, after the last text."""
        parts: list[Part | Reasoning] = []
        if self._in_message:
            self._give_out(self._held if self._kind == "final" else self._held.rstrip(), parts)
            self.has_cut_call = self._kind == "call"
        elif self._is_first and _TO_FUNCTION.startswith(self._held.lstrip()):
            self._give_out(self._held, parts)
        self._held = ""
        return [one for one in parts if not (is_forced and isinstance(one, str))]

    def _read_head(self, parts: list[Part | Reasoning]) -> bool:
        start = self._held.lstrip()
        if not start:
            return False
        begins = (*_ENDS, _TO_FUNCTION) if self._is_first else _ENDS
        if not any(mark.startswith(start) or start.startswith(mark) for mark in begins):
            # Without a mark, the prompt has already opened a channel.
            self._in_message, self._kind, self._is_first = True, "final", False
            return True
        at = self._held.find(_MESSAGE)
        if at > HEAD_CHARACTERS or (at < 0 and len(self._held) > HEAD_CHARACTERS + len(_MESSAGE)):
            # This begins no message, and is shown without its mark.
            mark = next((one for one in _ENDS if start.startswith(one)), "")
            self._held, self._in_message, self._kind, self._is_first = start[len(mark) :], True, "final", False
            return True
        if at < 0:
            return False
        head, self._held = self._held[:at], self._held[at + len(_MESSAGE) :]
        recipient = _RECIPIENT.search(head)
        self._in_message, self._said, self._is_first = True, False, False
        if recipient is not None and recipient["name"] in self._names:
            self._kind, self._end = "call", JsonEnd()
            parts.append(CallStart(recipient["name"]))
        else:
            self._kind = "analysis" if "analysis" in head and recipient is None else "final"
        return True

    def _read_message(self, parts: list[Part | Reasoning]) -> bool:
        if self._kind == "call":
            start = self._held.lstrip()
            if self._said or start.startswith("{"):
                return self._read_arguments(parts)
            # An unconstrained model may write something other than an object, which ends with its message.
            self._kind = "loose" if start else self._kind
        places = [at for mark in _ENDS if (at := self._held.find(mark)) >= 0]
        if places:
            self._give_out(self._held[: min(places)].rstrip(), parts)
            self._held = self._held[min(places) :]
            for mark in ("<|end|>", "<|call|>", "<|return|>"):
                self._held = self._held.removeprefix(mark)
            self._in_message = False
            return True
        end = len(self._held) - max(ends_like(self._held, mark) for mark in _ENDS)
        certain = self._held[:end].rstrip()
        self._give_out(certain, parts)
        self._held = self._held[len(certain) :]
        return False

    def _read_arguments(self, parts: list[Part | Reasoning]) -> bool:
        """Read arguments to the end of their object; marks inside it are content."""
        text = self._held if self._said else self._held.lstrip()
        end = self._end.feed(text)
        self._give_out(text[:end], parts)
        self._held = "" if end is None else text[end:]
        self._kind = "call" if end is None else "called"
        return end is not None

    def _give_out(self, text: str, parts: list[Part | Reasoning]) -> None:
        if not self._said:
            text = text.lstrip()
        if not text:
            return
        self._said = True
        if self._kind in ("call", "loose"):
            parts.append(CallArguments(text))
        elif self._kind != "called":
            parts.append(Reasoning(text) if self._kind == "analysis" else text)
