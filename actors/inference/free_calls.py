"""Holds the arguments of calls to JSON in an answer that may call tools as it likes, and nothing else of it.

A call of the tools that a client offers may come anywhere in such an answer, and may not come at all. Clients read its
arguments as JSON, some of them while they stream, so what a small model writes there is held to a JSON object from the
moment that it names them. Before and behind them the model writes what it likes, at no cost.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy
from numpy.typing import NDArray

from actors.inference.bad_schema import BadSchema

__all__ = ["FREE_ARGUMENTS", "FreeCallMatcher"]

FREE_ARGUMENTS = r"""start: ("\"" space ":" space (object | OTHER) | LONGER) REST
space: /[ \n\r\t]{0,64}/
object: %json {"type": "object", "x-guidance": {"whitespace_pattern": "[ \\n\\r\\t]{0,64}"}}
OTHER: /[^ \n\r\t{]/
LONGER: /[A-Za-z0-9_-]/
REST: /(?s:.*)/
"""
"""What follows the name `arguments`, in llguidance's language. White space has a bound, as a model may write it for ever.

What is no object, or behind a longer name, is no call until it is whole: who reads it takes it for text if it is no JSON.
"""
_BEGINS = re.compile(rb'\{\s*"name"\s*:\s*"[A-Za-z0-9_-]+"\s*,\s*"(?:arguments|parameters)(?=[^A-Za-z0-9_-]|$)')
"""A call up to the name of its arguments, which one token does not have together with what it opens them with."""
LOOKED_BACK = 1024
"""Bytes before a token in which a call may have begun."""


class FreeCallMatcher:
    """Follows one answer. Has what `structured_output.Matcher` has."""

    __slots__ = ("_held", "_mark", "_mark_id", "_new_holder", "_tail", "_text_of", "_was_marked")

    def __init__(
        self,
        mark: str,
        mark_id: int | None,
        text_of: Callable[[int], bytes],
        new_holder: Callable[[bytes], Any],
    ) -> None:
        """``mark`` is what calls begin with, ``mark_id`` the token that is nothing else, where there is one.

        ``text_of`` gives a token's bytes. ``new_holder`` makes a `Matcher` of `FREE_ARGUMENTS` that has read some bytes, or
        raises `BadSchema`.
        """
        self._mark, self._mark_id = mark.encode(), mark_id
        self._text_of, self._new_holder = text_of, new_holder
        self._tail = b""
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
        content = self._mark if token_id == self._mark_id else self._text_of(token_id)
        self._tail = (self._tail + content)[-LOOKED_BACK - len(content) :]
        if self._held is not None:
            self._held.take(token_id)
            if self._held.is_complete:
                self._held, self._tail = None, content
            return
        self._was_marked = self._was_marked or self._mark in self._tail
        if self._was_marked:
            self._begin()

    def _begin(self) -> None:
        """Hold what comes where the tail ends with a call whose arguments are named, or opened by the same token."""
        found = list(_BEGINS.finditer(self._tail))
        if not found:
            return
        read, self._tail = self._tail[found[-1].end() :], b""
        try:
            self._held = self._new_holder(read)
        except BadSchema:
            # One token named the arguments and went on with something else: this is no call that anybody reads as one.
            return
        if self._held.is_complete:
            self._held = None
