"""Stop texts, matched on text and not on tokens, for every way the text may be cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopMatcher"]


class StopMatcher:
    """Passes text on until the earliest stop text; holds back what may be the beginning of one.

    Of several stop texts the one that is complete first counts, and of those that end together the longest.
    """

    __slots__ = ("_held", "_stops", "has_stopped", "stop_text")

    def __init__(self, stops: Sequence[str]) -> None:
        """``stops`` are non-empty; an empty sequence holds nothing back."""
        self._stops = tuple(_Progress(stop) for stop in stops)
        self._held = ""
        self.has_stopped = False
        """True once a stop text was seen; from then on nothing is passed."""
        self.stop_text: str | None = None
        """The one that was seen."""

    def feed(self, piece: str) -> str:
        """The part of the text that is now certain to come before any stop text."""
        if self.has_stopped:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        for at, character in enumerate(piece, start=len(self._held) + 1):
            # The first that is complete counts: what comes after it must not matter, however it is cut.
            complete = [len(stop.text) for stop in self._stops if stop.takes(character)]
            if complete:
                self.has_stopped = True
                self._held = ""
                self.stop_text = text[at - max(complete) : at]
                return text[: at - max(complete)]
        certain = len(text) - max(stop.matched for stop in self._stops)
        self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        return "" if self.has_stopped else held


class _Progress:
    """How much of one stop text the text so far ends with (Knuth, Morris and Pratt, 1977).

    What it costs is linear in the text that comes. The table is made no further than the text has ever matched, so that a
    stop text of a million characters costs nothing while nobody writes it.
    """

    __slots__ = ("_borders", "matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        """Characters of the stop text with which the text so far ends."""
        self._borders = [0]
        """Of each beginning of ``text``, from length 1 on: the length of the longest shorter beginning that it ends with."""

    def takes(self, character: str) -> bool:
        """Go on by one character; whether the stop text is complete with it."""
        while self.matched and self.text[self.matched] != character:
            self.matched = self._borders[self.matched - 1]
        if self.text[self.matched] == character:
            self.matched += 1
        if self.matched == len(self.text):
            return True
        if self.matched > len(self._borders):
            self._borders.append(self._next_border())
        return False

    def _next_border(self) -> int:
        """Of the beginning that is one longer than those in the table."""
        last, border = self.text[len(self._borders)], self._borders[-1]
        while border and self.text[border] != last:
            border = self._borders[border - 1]
        return border + 1 if self.text[border] == last else 0
