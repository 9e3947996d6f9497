"""How many prompt tokens a step may read, so that long prompts do not freeze everyone's tokens. Pure."""

from __future__ import annotations

__all__ = ["PrefillBudget"]

MOST_TOKENS = 512
"""Chunk when nobody decodes: large enough for the matrix products, small enough to notice a cancellation."""
LEAST_TOKENS = 8
"""A prompt makes progress in every step, whatever the others do."""
SHARE = 1.25
"""Reading may take this many times what the decoding of the step takes; with it the gap stays below three times."""
SMOOTHING = 0.2


class PrefillBudget:
    """Learns what decoding and reading cost here, and divides a step between them."""

    def __init__(self) -> None:
        self._decode_seconds: float | None = None
        self._token_seconds: float | None = None

    def decoded(self, seconds: float) -> None:
        """The decoding part of a step took this long."""
        old = self._decode_seconds
        self._decode_seconds = seconds if old is None else old + SMOOTHING * (seconds - old)

    def read(self, seconds: float, tokens: int) -> None:
        """Reading this many tokens took this long."""
        rate = seconds / tokens
        old = self._token_seconds
        self._token_seconds = rate if old is None else old + SMOOTHING * (rate - old)

    def tokens(self, *, decoding_rows: int, reading_rows: int) -> int:
        """Most prompt tokens for the next step.

        The more prompts wait beside the rows that decode, the larger is their share: twenty people who see
        nothing yet weigh more than one who sees his text pause.
        """
        if decoding_rows == 0:
            return MOST_TOKENS
        if self._decode_seconds is None or self._token_seconds is None:
            return LEAST_TOKENS * 2
        share = SHARE * max(1.0, reading_rows / decoding_rows)
        wanted = share * self._decode_seconds / self._token_seconds
        return max(LEAST_TOKENS, min(MOST_TOKENS, int(wanted)))
