"""Stop texts, matched on text and not on tokens, for every way the text may be cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopMatcher"]


class StopMatcher:
    """Passes text on until the earliest stop text; holds back what may be the beginning of one.

    Of several stop texts the one that is complete first counts, and of those that end together the longest.
    """

    __slots__ = ("_held", "_stops", "has_stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        """``stops`` are non-empty; an empty sequence holds nothing back."""
        self._stops = tuple(stops)
        self._held = ""
        self.has_stopped = False
        """True once a stop text was seen; from then on nothing is passed."""

    def feed(self, piece: str) -> str:
        """The part of the text that is now certain to come before any stop text."""
        if self.has_stopped:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        # The earliest is the one that is complete first: what comes after it must not matter, however it is cut.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.has_stopped = True
            self._held = ""
            return text[: min(found)[1]]
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once no more text can come."""
        held, self._held = self._held, ""
        return "" if self.has_stopped else held

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins some stop text."""
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
