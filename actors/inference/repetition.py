"""Detects answers that repeat themselves, so that they can be ended. No I/O.

Small models fall into loops: a sentence over and over, often with one word or number changed. Such an answer would
continue to the end of the context and is useless.
"""

from __future__ import annotations

from collections import deque

__all__ = ["RepetitionDetector"]

LONGEST_PERIOD = 256
"""Longest block, in tokens, whose repetition is detected: a paragraph."""
GRAM = 4
"""Number of repeated tokens that makes a period suspected."""
REPEATED_TOKENS = 192
"""Minimum number of tokens equal to those one period before,"""
REPEATED_PERIODS = 5
"""and minimum number of periods,"""
SHORT_PERIOD = 4
SHORT_PERIOD_TOKENS = 512
"""with a higher minimum for blocks so short that they may be wanted: a row of zeros, a ruler, an empty table."""
REPEATING_TOKENS = 64
REPEATING_PERIODS = 2
"""An answer that ends for another reason counts as repeating from this many tokens and periods."""
CHANGING_TOKENS = 400
"""Minimum if a word or number of the block changes each time, as it does in some lists that were asked for."""
MISMATCH_COST = 12
"""Tokens subtracted for each mismatch, so that all but one in a dozen must agree."""


class RepetitionDetector:
    """Follows the tokens of one answer."""

    __slots__ = ("_changes", "_grams", "_ids", "_period", "_position", "_repeated")

    def __init__(self) -> None:
        self._ids: deque[int] = deque(maxlen=LONGEST_PERIOD + 1)
        self._grams: dict[tuple[int, ...], int] = {}
        """Latest position of each run of `GRAM` tokens, oldest first, back to the longest period."""
        self._position = 0
        self._period = 0
        self._repeated = 0
        self._changes = False

    def feed(self, token_id: int) -> bool:
        """Takes the next token. Returns True once the answer repeats itself. Constant time."""
        self._ids.append(token_id)
        self._position += 1
        if self._period and len(self._ids) > self._period:
            if self._ids[-1 - self._period] == token_id:
                self._repeated += 1
            else:
                self._repeated = max(0, self._repeated - MISMATCH_COST)
                self._changes = True
        if not self._repeated:
            self._changes = False
            self._period = self._suspected_period()
            self._repeated = GRAM if self._period else 0
        self._remember()
        return self._repeated >= self._limit

    @property
    def is_repeating(self) -> bool:
        """True if its end repeats the period before, though not yet long enough to end the answer."""
        return self._repeated >= max(REPEATING_TOKENS, REPEATING_PERIODS * self._period)

    @property
    def _limit(self) -> int:
        least = CHANGING_TOKENS if self._changes else REPEATED_TOKENS
        least = SHORT_PERIOD_TOKENS if self._period <= SHORT_PERIOD else least
        return max(least, REPEATED_PERIODS * self._period)

    def _suspected_period(self) -> int:
        before = self._grams.get(self._last_gram(), 0)
        return self._position - before if before and self._position - before <= LONGEST_PERIOD else 0

    def _remember(self) -> None:
        if len(self._ids) < GRAM:
            return
        gram = self._last_gram()
        # Reinserted, so that the first entry is the oldest.
        self._grams.pop(gram, None)
        self._grams[gram] = self._position
        if len(self._grams) > LONGEST_PERIOD:
            del self._grams[next(iter(self._grams))]

    def _last_gram(self) -> tuple[int, ...]:
        ids = self._ids
        return tuple(ids[place] for place in range(max(0, len(ids) - GRAM), len(ids)))
