"""Constrains the arguments of optional tool calls to JSON and leaves the rest of the answer free.

In such an answer the model may call one of the client's tools anywhere, or not at all. Clients parse the arguments as
JSON, some of them while streaming, so from the moment a model opens them they are constrained to a JSON object. Before
and after, the model writes freely at no cost.

The patterns that start a call are those that `actors/rest/openai/tool_call_reader.py` and `actors/rest/answer_reading/`
recognise, or more: constraining text needlessly still yields JSON, whereas an unconstrained call may be malformed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy
from numpy.typing import NDArray

from actors.inference.answer_forms import ReasoningMarks, ToolCallFormat
from actors.inference.schema_errors import BadSchema

__all__ = ["NAMED", "FreeCallMatcher", "seen_marks"]

_RULES = r"""space: /[ \n\r\t]{0,64}/
object: %json {"type": "object", "x-guidance": {"whitespace_pattern": "[ \\n\\r\\t]{0,64}"}}
OTHER: /[^ \n\r\t{]/
LONGER: /[A-Za-z0-9_-]/
REST: /(?s:.*)/
"""
"""In llguidance's language. White space is limited, because a model may write it endlessly."""
NAMED = 'start: ("\\"" space ":" space (object | OTHER) | LONGER) REST\n' + _RULES
"""Grammar after the name `arguments`.

A value that is not an object, or that belongs to a longer name, is no call until it is complete: parsers treat text
that is not JSON as text.
"""
HEADED = "start: space (object | OTHER) REST\n" + _RULES
"""Grammar after a mark before arguments; anything but an object there is not a call."""
ADDRESSED = "start: space object REST\n" + _RULES
"""Grammar after the head of a message addressed to a function, whatever else the head contains."""

_OBJECT = re.compile(
    rb'\{[ \t\r\n]{0,64}"name"[ \t\r\n]{0,64}:[ \t\r\n]{0,64}"[A-Za-z0-9_-]+"[ \t\r\n]{0,64},[ \t\r\n]{0,64}'
    rb'"(?:arguments|parameters)(?=[^A-Za-z0-9_-]|$)'
)
"""A call up to the key of its arguments; no single token contains both that key and the arguments' opening brace."""
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
"""Bytes before a token that are searched for the beginning of a call."""


def seen_marks(form: ToolCallFormat) -> frozenset[str]:
    """Marks whose token ids a matcher of this format must know."""
    return frozenset([*form.marks, *(one.closing for one in ReasoningMarks)])


class FreeCallMatcher:
    """Follows one answer. Same interface as `structured_output.Matcher`."""

    __slots__ = ("_form", "_held", "_marks", "_new_holder", "_tail", "_taken", "_text_of", "_was_marked")

    def __init__(
        self,
        form: ToolCallFormat,
        marks: Mapping[int, bytes],
        text_of: Callable[[int], bytes],
        new_holder: Callable[[str, bytes], Any],
    ) -> None:
        """``marks`` maps the tokens that are exactly one of `seen_marks` to their text.

        ``text_of`` returns any other token's bytes. ``new_holder`` makes a `Matcher` of one of the grammars above that
        has already read some bytes, or raises `BadSchema`.
        """
        self._form, self._marks = form, marks
        self._text_of, self._new_holder = text_of, new_holder
        self._tail = b""
        self._taken = 0
        """Length of the answer so far in bytes."""
        self._was_marked = False
        self._held: Any = None

    @property
    def is_idle(self) -> bool:
        """True while no call can have begun, so that several tokens may be taken at once."""
        return not self._was_marked

    def mask(self) -> NDArray[numpy.uint32] | None:
        """Bit mask of the tokens that may come next, as in `Matcher`; None if all may."""
        if self._held is None:
            return None
        mask: NDArray[numpy.uint32] = self._held.mask()
        return mask

    def take(self, token_id: int) -> None:
        """Appends a token to the answer. Raises `BadSchema` if the arguments being written do not allow it."""
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
        """True if a call may have begun."""
        if self._form is ToolCallFormat.HARMONY:
            # Every message of that format has a channel mark, so the mark alone says nothing.
            return b"to=" in self._tail
        if self._form.opening.encode() in self._tail:
            return True
        if self._form is not ToolCallFormat.LLAMA:
            return False
        # Its calls may omit the marks if nothing but reasoning precedes them.
        is_whole = self._taken == len(self._tail)
        return (is_whole and self._tail.lstrip(b" \t\r\n").startswith(b"{")) or _BARE.search(self._tail) is not None

    def _begin(self) -> None:
        """Starts constraining if the tail contains a call whose arguments begin here or were opened by the same token."""
        ends = _ends_of_heads(self._form, self._tail)
        if not ends:
            return
        end, grammar = max(ends)
        read, self._tail = self._tail[end:], b""
        try:
            self._held = self._new_holder(grammar, read)
        except BadSchema:
            # The token that opened the arguments went on with something else, so no parser takes this for a call.
            return
        if self._held.is_complete:
            self._held = None


def _ends_of_heads(form: ToolCallFormat, tail: bytes) -> list[tuple[int, str]]:
    """End positions of call heads in the tail, each with the grammar of the arguments that follow."""
    if form is ToolCallFormat.HARMONY:
        end = _end_of_address(tail)
        return [] if end is None else [(end, ADDRESSED)]
    # Mistral's older format uses objects as well.
    patterns = {ToolCallFormat.MISTRAL: _MISTRAL, ToolCallFormat.KIMI_K2: _KIMI_K2}
    found = [] if form is ToolCallFormat.KIMI_K2 else [(one.end(), NAMED) for one in _OBJECT.finditer(tail)]
    if form in patterns:
        found += [(one.end(), HEADED) for one in patterns[form].finditer(tail)]
    return found


def _end_of_address(tail: bytes) -> int | None:
    """Position after the last message head, if it is addressed to a function."""
    at = tail.rfind(_MESSAGE)
    if at < 0:
        return None
    before = tail.rfind(_MESSAGE, 0, at)
    head = tail[before + len(_MESSAGE) : at] if before >= 0 else tail[:at]
    if before >= 0:
        # A head begins with a mark; text before that belongs to another message. The first head is begun by the prompt.
        head = head[max(0, head.find(b"<|")) :]
    return at + len(_MESSAGE) if _RECIPIENT.search(head) else None
