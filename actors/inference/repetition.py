"""Notices an answer that says the same thing over and over, so that it can be ended. Pure.

Small models fall into loops that they do not leave: a sentence again and again, often with one word or number of it
changed. Such an answer would go on to the end of the context, and is of no use to anybody.
"""

from __future__ import annotations

from collections import deque

__all__ = ["RepetitionDetector"]

LONGEST_PERIOD = 256
"""Tokens of the longest block whose repetition is noticed: a paragraph."""
GRAM = 4
"""As many tokens have to come again before a period is suspected."""
REPEATED_TOKENS = 192
"""At least as many have to be what stood a period before,"""
REPEATED_PERIODS = 5
"""and as many periods,"""
SHORT_PERIOD = 4
SHORT_PERIOD_TOKENS = 512
"""but more where the block is so short that people ask for it: a row of zeros, a ruler, an empty table."""
REPEATING_TOKENS = 64
REPEATING_PERIODS = 2
"""An answer that is cut elsewhere repeats itself already with so many tokens and periods."""
CHANGING_TOKENS = 400
"""And more where a word or a number of the block changes each time, as in a list that people asked for too."""
MISMATCH_COST = 12
"""A token that differs takes back so many: all but one in a dozen have to agree."""


class RepetitionDetector:
    """Follows the tokens of one answer."""

    __slots__ = ("_changes", "_grams", "_ids", "_period", "_position", "_repeated")

    def __init__(self) -> None:
        self._ids: deque[int] = deque(maxlen=LONGEST_PERIOD + 1)
        self._grams: dict[tuple[int, ...], int] = {}
        """Where each run of `GRAM` tokens began to stand last, oldest first, as far back as the longest period."""
        self._position = 0
        self._period = 0
        self._repeated = 0
        self._changes = False

    def feed(self, token_id: int) -> bool:
        """Take the next token; True once the answer repeats itself. Takes the same time for each."""
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
        """Whether its end is what stood a period before, for less long than it is ended for."""
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
        # Put last again, so that the first is the oldest.
        self._grams.pop(gram, None)
        self._grams[gram] = self._position
        if len(self._grams) > LONGEST_PERIOD:
            del self._grams[next(iter(self._grams))]

    def _last_gram(self) -> tuple[int, ...]:
        ids = self._ids
        return tuple(ids[place] for place in range(max(0, len(ids) - GRAM), len(ids)))
