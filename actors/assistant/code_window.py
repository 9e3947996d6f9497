"""Shortens code to fit, keeping the lines around the cursor, and records the lines left out. Pure functions."""

from __future__ import annotations

from attrs import frozen

__all__ = ["CodeWindow", "window_around"]


@frozen(kw_only=True)
class CodeWindow:
    """The part of a text that the model is shown."""

    text: str
    """Complete lines."""
    lines_before: int
    """Number of lines left out above it."""
    lines_after: int
    """Number of lines left out below it."""
    cursor: int | None
    """Offset of the cursor in ``text``, in characters."""

    @property
    def is_whole(self) -> bool:
        """True if nothing was left out."""
        return self.lines_before == 0 and self.lines_after == 0


def window_around(content: str, cursor: int | None, maximum_characters: int) -> CodeWindow | None:
    """Select as many complete lines around the cursor (or from the start) as fit; None if the cursor's line alone
    does not.

    Lines nearer to the cursor come first; of two at the same distance, the one above.
    """
    if len(content) <= maximum_characters:
        return CodeWindow(text=content, lines_before=0, lines_after=0, cursor=cursor)
    lines = content.splitlines(keepends=True)
    at = _line_of(lines, cursor or 0)
    if len(lines[at]) > maximum_characters:
        return None
    first, last, room = at, at, maximum_characters - len(lines[at])
    above, below = at - 1, at + 1
    while above >= 0 or below < len(lines):
        takes_above = above >= 0 and (below >= len(lines) or at - above <= below - at)
        line = lines[above] if takes_above else lines[below]
        if len(line) > room:
            # The window is contiguous, so lines beyond one that does not fit are excluded.
            if takes_above:
                above = -1
            else:
                below = len(lines)
            continue
        room -= len(line)
        if takes_above:
            first, above = above, above - 1
        else:
            last, below = below, below + 1
    skipped = sum(len(line) for line in lines[:first])
    return CodeWindow(
        text="".join(lines[first : last + 1]),
        lines_before=first,
        lines_after=len(lines) - 1 - last,
        cursor=None if cursor is None else cursor - skipped,
    )


def _line_of(lines: list[str], cursor: int) -> int:
    for number, line in enumerate(lines):
        if cursor < len(line):
            return number
        cursor -= len(line)
    return len(lines) - 1
