"""Separates reasoning from an answer's text as it arrives. No I/O.

Reasoning is recognized only at the beginning of an answer, so that an answer about its marks keeps them. The result
does not depend on how the text was split.
"""

from __future__ import annotations

import enum

from attrs import frozen

from actors.inference.messages import ReasoningMarks

__all__ = ["Reasoning", "ReasoningReader", "ends_like"]


@frozen
class Reasoning:
    """A piece of reasoning, which is not part of the answer."""

    text: str


class _State(enum.Enum):
    START = enum.auto()
    """Nothing but white space has arrived."""
    ENTERED = enum.auto()
    """After the opening mark, with nothing but white space since."""
    INSIDE = enum.auto()
    LEFT = enum.auto()
    """After the closing mark, with nothing but white space since."""
    REST = enum.auto()


class ReasoningReader:
    """Splits an answer into reasoning and the rest. White space between the two is dropped."""

    __slots__ = ("_held", "_marks", "_may_repeat", "_state")

    def __init__(self, marks: ReasoningMarks, *, begins_open: bool = False) -> None:
        """``begins_open``: the prompt ended with the opening mark."""
        self._marks = marks
        self._state = _State.ENTERED if begins_open else _State.START
        self._may_repeat = begins_open
        """Some models repeat the opening mark that the prompt ended with."""
        self._held = ""

    @property
    def is_inside(self) -> bool:
        """True if the next text is reasoning."""
        return self._state in (_State.ENTERED, _State.INSIDE)

    @property
    def is_open(self) -> bool:
        """True if the text so far may still begin the opening mark."""
        return self._state is _State.START

    @property
    def is_over(self) -> bool:
        """True if all further text is the answer."""
        return self._state is _State.REST

    def feed(self, piece: str) -> tuple[str, str]:
        """Return the reasoning and the rest that can no longer change."""
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
        """Return what was held back, after the last text."""
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
    """Length of the longest suffix of ``text`` that is a proper prefix of the mark."""
    longest = min(len(mark) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(mark[:length])), 0)
