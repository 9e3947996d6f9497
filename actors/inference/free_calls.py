"""Holds the arguments of calls to JSON in an answer that may call tools as it likes, and nothing else of it.

A call of the tools that a client offers may come anywhere in such an answer, and may not come at all. Clients read its
arguments as JSON, some of them while they stream, so what a small model writes there is held to a JSON object from the
moment that it begins them. Before and behind them the model writes what it likes, at no cost.

What begins a call is what `actors/rest/openai/tool_call_reader.py` and `actors/rest/answer_reading/` read as one, or more
than that: text that is held without need is JSON, while a call that is not held may be none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy
from numpy.typing import NDArray

from actors.inference.answer_forms import ReasoningMarks, ToolCallFormat
from actors.inference.bad_schema import BadSchema

__all__ = ["NAMED", "FreeCallMatcher", "seen_marks"]

_RULES = r"""space: /[ \n\r\t]{0,64}/
object: %json {"type": "object", "x-guidance": {"whitespace_pattern": "[ \\n\\r\\t]{0,64}"}}
OTHER: /[^ \n\r\t{]/
LONGER: /[A-Za-z0-9_-]/
REST: /(?s:.*)/
"""
"""In llguidance's language. White space has a bound, as a model may write it for ever."""
NAMED = 'start: ("\\"" space ":" space (object | OTHER) | LONGER) REST\n' + _RULES
"""What follows the name `arguments`.

What is no object, or behind a longer name, is no call until it is whole: who reads it takes it for text if it is no JSON.
"""
HEADED = "start: space (object | OTHER) REST\n" + _RULES
"""What follows a mark before arguments; behind it what is no object is no call."""
ADDRESSED = "start: space object REST\n" + _RULES
"""What follows the head of a message to a function, whatever the model wrote there."""

_OBJECT = re.compile(
    rb'\{[ \t\r\n]{0,64}"name"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}"[A-Za-z0-9_-]+"[ \t\r\n]{0,64},[ \t\r\n]{0,64}'
    rb'"(?:arguments|parameters)(?=[^A-Za-z0-9_-]|$)'
)
"""A call up to the name of its arguments, which one token does not have together with what it opens them with."""
_MISTRAL = re.compile(
    rb"\[TOOL_CALLS\]\s{0,8}[A-Za-z0-9_-]{1,64}\s{0,8}(?:\[CALL_ID\][A-Za-z0-9_]{0,64}\s{0,8})?\[ARGS\]"
)
_KIMI_K2 = re.compile(
    rb"<\|tool_call_begin\|>\s{0,8}(?:functions\.)?[A-Za-z0-9_-]{1,64}(?::[0-9]{1,6})?\s{0,8}<\|tool_call_argument_begin\|>"
)
_RECIPIENT = re.compile(rb"\bto=(?:functions\.)?[A-Za-z0-9_-]")
_MESSAGE = b"<|message|>"
_BARE = re.compile(
    b"(?:%s)[ \t\r\n]*\\{" % b"|".join(re.escape(one.closing.encode()) for one in ReasoningMarks), re.DOTALL
)
LOOKED_BACK = 4096
"""Bytes before a token in which a call may have begun."""


def seen_marks(form: ToolCallFormat) -> frozenset[str]:
    """Marks of which a matcher of this form must know which tokens they are."""
    return frozenset([*form.marks, *(one.closing for one in ReasoningMarks)])


class FreeCallMatcher:
    """Follows one answer. Has what `structured_output.Matcher` has."""

    __slots__ = ("_form", "_held", "_marks", "_new_holder", "_tail", "_taken", "_text_of", "_was_marked")

    def __init__(
        self,
        form: ToolCallFormat,
        marks: Mapping[int, bytes],
        text_of: Callable[[int], bytes],
        new_holder: Callable[[str, bytes], Any],
    ) -> None:
        """``marks`` are the tokens that are one of `seen_marks` and nothing else, with their text.

        ``text_of`` gives another token's bytes. ``new_holder`` makes a `Matcher` of one of the grammars above that has read
        some bytes, or raises `BadSchema`.
        """
        self._form, self._marks = form, marks
        self._text_of, self._new_holder = text_of, new_holder
        self._tail = b""
        self._taken = 0
        """Bytes of the answer so far."""
        self._was_marked = False
        self._held: Any = None

    @property
    def is_idle(self) -> bool:
        """Whether no call can have begun yet, so that several tokens may be taken at once."""
        return not self._was_marked

    def mask(self) -> NDArray[numpy.uint32] | None:
        """Bits of the tokens that may come next, as of `Matcher`; None where all may."""
        if self._held is None:
            return None
        mask: NDArray[numpy.uint32] = self._held.mask()
        return mask

    def take(self, token_id: int) -> None:
        """The answer goes on with this token. Raises `BadSchema` where it is in arguments that cannot have it."""
        content = self._marks.get(token_id) or self._text_of(token_id)
        self._tail = (self._tail + content)[-LOOKED_BACK - len(content) :]
        self._taken += len(content)
        if self._held is not None:
            self._held.take(token_id)
            if self._held.is_complete:
                self._held, self._tail = None, content
            return
        self._was_marked = self._was_marked or self._is_marked()
        if self._was_marked:
            self._begin()

    def _is_marked(self) -> bool:
        """Whether a call may have begun."""
        if self._form is ToolCallFormat.HARMONY:
            # Every message of that form has the mark of its channel.
            return b"to=" in self._tail
        if self._form.opening.encode() in self._tail:
            return True
        if self._form is not ToolCallFormat.LLAMA:
            return False
        # Its calls may do without marks, where nothing but a thought stands before them.
        is_whole = self._taken == len(self._tail)
        return (is_whole and self._tail.lstrip(b" \t\r\n").startswith(b"{")) or _BARE.search(self._tail) is not None

    def _begin(self) -> None:
        """Hold what comes where the tail has a call whose arguments begin, or were opened by the same token."""
        ends = _ends_of_heads(self._form, self._tail)
        if not ends:
            return
        end, grammar = max(ends)
        read, self._tail = self._tail[end:], b""
        try:
            self._held = self._new_holder(grammar, read)
        except BadSchema:
            # One token began the arguments and went on with something else: this is no call that anybody reads as one.
            return
        if self._held.is_complete:
            self._held = None


def _ends_of_heads(form: ToolCallFormat, tail: bytes) -> list[tuple[int, str]]:
    """Where what stands before arguments ends, and what the arguments are held to there."""
    if form is ToolCallFormat.HARMONY:
        end = _end_of_address(tail)
        return [] if end is None else [(end, ADDRESSED)]
    # Mistral's older form is objects too.
    patterns = {ToolCallFormat.MISTRAL: _MISTRAL, ToolCallFormat.KIMI_K2: _KIMI_K2}
    found = [] if form is ToolCallFormat.KIMI_K2 else [(one.end(), NAMED) for one in _OBJECT.finditer(tail)]
    if form in patterns:
        found += [(one.end(), HEADED) for one in patterns[form].finditer(tail)]
    return found


def _end_of_address(tail: bytes) -> int | None:
    """Behind the last head of a message, where it is one to a function."""
    at = tail.rfind(_MESSAGE)
    if at < 0:
        return None
    before = tail.rfind(_MESSAGE, 0, at)
    head = tail[before + len(_MESSAGE) : at] if before >= 0 else tail[:at]
    if before >= 0:
        # A head begins with a mark, and what stands before that is another message. The first one's the prompt has begun.
        head = head[max(0, head.find(b"<|")) :]
    return at + len(_MESSAGE) if _RECIPIENT.search(head) else None
