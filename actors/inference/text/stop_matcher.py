"""Matches stop texts on text rather than tokens, however the text is divided into pieces."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopMatcher"]


class StopMatcher:
    """Passes text through up to the first stop text; holds back what may be the beginning of one.

    The stop text that completes first counts, and the longest of those that complete together.
    """

    __slots__ = ("_held", "_stops", "has_stopped", "stop_text")

    def __init__(self, stops: Sequence[str]) -> None:
        """``stops`` are non-empty; an empty sequence holds nothing back."""
        self._stops = tuple(_Progress(stop) for stop in stops)
        self._held = ""
        self.has_stopped = False
        """True once a stop text has been found; after that nothing is passed through."""
        self.stop_text: str | None = None
        """The stop text that was found."""

    def feed(self, piece: str) -> str:
        """Returns the text that is now certain to precede any stop text."""
        if self.has_stopped:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        for at, character in enumerate(piece, start=len(self._held) + 1):
            # The first to complete counts, so the text after it must not matter, however it is divided.
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
        """Returns the held-back text once no more can come."""
        held, self._held = self._held, ""
        return "" if self.has_stopped else held


class _Progress:
    """Matching state of one stop text (Knuth, Morris and Pratt, 1977).

    Takes time linear in the incoming text. The table extends only as far as the text has ever matched, so a stop text
    of a million characters costs nothing until its beginning occurs.
    """

    __slots__ = ("_borders", "matched", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        """Length of the longest prefix of the stop text that the text so far ends with."""
        self._borders = [0]
        """For each prefix of ``text``, from length 1 on: length of its longest proper prefix that is also a suffix."""

    def takes(self, character: str) -> bool:
        """Advances by one character. Returns True if it completes the stop text."""
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
        """Entry for the prefix one longer than those in the table."""
        last, border = self.text[len(self._borders)], self._borders[-1]
        while border and self.text[border] != last:
            border = self._borders[border - 1]
        return border + 1 if self.text[border] == last else 0
