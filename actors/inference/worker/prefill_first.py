"""Whether rows that have just begun wait until the prompts that came with them are read. Pure.

Of 32 people who ask at the same moment the first eight could go on at once, but each of their steps fetches all weights
for eight rows, and each chunk that is read beside them does so again. Reading everybody first lets all go on together:
all ends come sooner, and so do the first tokens of those who wait. The price is one pause behind the first token, so it is
bounded, and rows that are in flow never pay it.
"""

from __future__ import annotations

__all__ = ["LONGEST_PAUSE_SECONDS", "PrefillFirstPolicy"]

LONGEST_PAUSE_SECONDS = 2.5
"""Between the first token of a row and its second, at most about this long for the sake of others."""


class PrefillFirstPolicy:
    """Follows one pause: `waits` before each step, `waited` after a step that was part of it."""

    def __init__(self) -> None:
        self._paused_seconds = 0.0

    def waits(self, *, all_just_began: bool, unread_tokens: int, token_seconds: float | None) -> bool:
        """Whether the rows of the batch sit out the next step.

        ``all_just_began``: there are such rows, and none has emitted more than its first token. ``unread_tokens`` are those of
        all prompts that wait or are being read; ``token_seconds`` is what one of them takes, None where nothing is known.
        """
        is_known_short = (
            token_seconds is not None and self._paused_seconds + unread_tokens * token_seconds <= LONGEST_PAUSE_SECONDS
        )
        if all_just_began and unread_tokens and is_known_short:
            return True
        self._paused_seconds = 0.0
        return False

    def waited(self, seconds: float) -> None:
        """A step took this long while they sat out."""
        self._paused_seconds += seconds
