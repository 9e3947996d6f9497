"""Whether drafts pay for the row that decodes alone. Pure: what steps took is told, never measured here."""

from __future__ import annotations

__all__ = ["SpeculationGate"]

SMOOTHING = 0.2
FIRST_PAUSE_TOKENS = 4
LONGEST_PAUSE_TOKENS = 512


class SpeculationGate:
    """Holds what drafted steps brought against what as many plain ones would have taken.

    Where they lost time, none is tried for some tokens, each time for twice as many: a row that drafts never help tries
    five in its first hundred tokens. Where eight columns cost less than two, each loses less than a plain step.
    """

    def __init__(self) -> None:
        self._plain_seconds: float | None = None
        self._won_seconds = 0.0
        """By a drafted step, the latest weighing most."""
        self._pause_tokens = 0
        self._next_pause_tokens = FIRST_PAUSE_TOKENS

    def begin_row(self) -> None:
        """Another row: what drafts brought the one before says nothing of it."""
        self._won_seconds = 0.0
        self._pause_tokens = 0
        self._next_pause_tokens = FIRST_PAUSE_TOKENS

    @property
    def is_open(self) -> bool:
        """Whether a draft may be tried. Not before a plain step was measured: there is nothing to hold it against."""
        return self._plain_seconds is not None and not self._pause_tokens

    def plain(self, seconds: float) -> None:
        """A step of the row alone, without a draft, took this long."""
        old = self._plain_seconds
        self._plain_seconds = seconds if old is None else old + SMOOTHING * (seconds - old)
        self._pause_tokens = max(0, self._pause_tokens - 1)

    def drafted(self, seconds: float, tokens: int) -> None:
        """A step with a draft took this long and brought so many tokens, one of which a plain step brings too."""
        assert self._plain_seconds is not None, "it is closed until one was measured"
        won = tokens * self._plain_seconds - seconds
        self._won_seconds += SMOOTHING * (won - self._won_seconds)
        if self._won_seconds >= 0:
            self._next_pause_tokens = FIRST_PAUSE_TOKENS
            return
        self._won_seconds = 0.0
        self._pause_tokens = self._next_pause_tokens
        self._next_pause_tokens = min(2 * self._next_pause_tokens, LONGEST_PAUSE_TOKENS)
