"""Takes what a model thinks before it answers out of the answer's text, as the text comes. Pure.

It is looked for at the beginning of an answer and nowhere else, so that an answer about such marks keeps them. What comes
out does not depend on how the text was cut into pieces.
"""

from __future__ import annotations

import enum

from attrs import frozen

from actors.inference.messages import ReasoningMarks

__all__ = ["Reasoning", "ReasoningReader", "ends_like"]


@frozen
class Reasoning:
    """A piece of what the model thinks, which is no part of its answer."""

    text: str


class _State(enum.Enum):
    START = enum.auto()
    """Before anything but white space has come."""
    ENTERED = enum.auto()
    """Behind the opening mark, and nothing but white space."""
    INSIDE = enum.auto()
    LEFT = enum.auto()
    """Behind the closing mark, and nothing but white space."""
    REST = enum.auto()


class ReasoningReader:
    """Parts an answer into what was thought and the rest. White space at the border of the two belongs to neither."""

    __slots__ = ("_held", "_marks", "_may_repeat", "_state")

    def __init__(self, marks: ReasoningMarks, *, begins_open: bool = False) -> None:
        """``begins_open``: the prompt ended with the opening mark."""
        self._marks = marks
        self._state = _State.ENTERED if begins_open else _State.START
        self._may_repeat = begins_open
        """Some models write the mark that the prompt has ended with once more."""
        self._held = ""

    @property
    def is_inside(self) -> bool:
        """Whether what comes next is thought."""
        return self._state in (_State.ENTERED, _State.INSIDE)

    @property
    def is_open(self) -> bool:
        """Whether what came so far may still turn out to begin the opening mark."""
        return self._state is _State.START

    @property
    def is_over(self) -> bool:
        """Whether all that comes is the answer."""
        return self._state is _State.REST

    def feed(self, piece: str) -> tuple[str, str]:
        """What is certain now of the reasoning, and of the rest."""
        if self._state is _State.REST:
            return "", piece
        self._held += piece
        thought = ""
        if self._state is _State.START:
            self._start()
        if self._state is _State.ENTERED:
            self._enter()
        if self._state is _State.INSIDE:
            thought = self._think()
        if self._state is _State.LEFT and (rest := self._held.lstrip()):
            self._held, self._state = rest, _State.REST
        if self._state is not _State.REST:
            return thought, ""
        rest, self._held = self._held, ""
        return thought, rest

    def finish(self) -> tuple[str, str]:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        if self.is_inside:
            return held.strip(), ""
        return "", "" if self._state is _State.LEFT else held

    def _start(self) -> None:
        opening, start = self._marks.opening, self._held.lstrip()
        if start.startswith(opening):
            self._held, self._state = start[len(opening) :], _State.ENTERED
        elif not opening.startswith(start):
            self._state = _State.REST

    def _enter(self) -> None:
        opening = self._marks.opening
        self._held = self._held.lstrip()
        if self._may_repeat and self._held.startswith(opening):
            self._held, self._may_repeat = self._held[len(opening) :].lstrip(), False
        waits = self._may_repeat and opening.startswith(self._held)
        if self._held and not waits:
            self._state = _State.INSIDE

    def _think(self) -> str:
        held, closing = self._held, self._marks.closing
        at = held.find(closing)
        if at >= 0:
            self._held, self._state = held[at + len(closing) :], _State.LEFT
            return held[:at].rstrip()
        certain = held[: len(held) - ends_like(held, closing)].rstrip()
        self._held = held[len(certain) :]
        return certain


def ends_like(text: str, mark: str) -> int:
    """Length of the longest end of ``text`` that begins the mark and is not all of it."""
    longest = min(len(mark) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)
