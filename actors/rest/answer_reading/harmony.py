"""Reads answers in OpenAI's harmony form, gpt-oss's: messages on channels, in an answer's text as it comes. Pure.

`analysis` is what the model thinks, `final` its answer, `commentary` either a call of `functions.name` or words before one.
The form is that of OpenAI's `harmony` repository (`docs/format.md`).
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
"""How an answer may begin: the prompt ends in the middle of a head, and some name the recipient before the channel."""
HEAD_CHARACTERS = 512
"""Longest that what stands before a message may be."""


class HarmonyReader:
    """As `AnswerReader`, of a form that marks everything."""

    __slots__ = ("_end", "_held", "_in_message", "_is_first", "_kind", "_names", "_said", "has_cut_call")

    def __init__(self, names: Collection[str]) -> None:
        """``names`` are the functions that were offered; a call of another is text."""
        self.has_cut_call = False
        """As of `ToolCallReader`."""
        self._names = frozenset(names)
        self._held = ""
        self._is_first = True
        """Before the first message, whose head the prompt may have begun."""
        self._end = JsonEnd()
        """Looks for the end of a call's arguments while they come; what stands behind them is passed over."""
        self._in_message = False
        self._kind = "final"
        """Of the message that is read: `analysis`, `call`, `loose` where its arguments are no object, `called` behind them, or what is shown."""
        self._said = False
        """Whether a message of this kind has begun with a text."""

    @property
    def is_inside(self) -> bool:
        """Whether what comes next is thought."""
        return self._in_message and self._kind == "analysis"

    @property
    def is_open(self) -> bool:
        """Whether it is not known yet what came last."""
        return not self._in_message

    @property
    def is_over(self) -> bool:
        """Whether what comes next is shown, or called."""
        return self._in_message and self._kind != "analysis"

    def feed(self, piece: str) -> list[Part | Reasoning]:
        """What is certain now."""
        self._held += piece
        parts: list[Part | Reasoning] = []
        while self._read_message(parts) if self._in_message else self._read_head(parts):
            pass
        return parts

    def finish(self, *, is_cut: bool = False, is_forced: bool = False) -> list[Part | Reasoning]:
        """What was held back, once no more text can come."""
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
            # No mark at all: the prompt has said which channel it is.
            self._in_message, self._kind, self._is_first = True, "final", False
            return True
        at = self._held.find(_MESSAGE)
        if at > HEAD_CHARACTERS or (at < 0 and len(self._held) > HEAD_CHARACTERS + len(_MESSAGE)):
            # It begins no message, and is shown without its mark.
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
            # A model that nothing holds may write no object, which ends with its message.
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
        """Arguments that are an object go to its end: the text of a mark in them is text."""
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
