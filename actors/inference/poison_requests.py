"""Detects poison requests: those that kill every worker which computes them. No I/O.

A worker that dies takes all of its rows with it, and any of them may be the cause. So each request gets a strike if it was new
in the dead worker, and then runs alone until it has proven harmless; one with too many strikes is failed instead of being
tried on yet another worker.
"""

from __future__ import annotations

from attrs import define

__all__ = ["MAXIMUM_DEATHS", "MAXIMUM_STRIKES", "STEPS_TO_CLEAR", "DeathRecord"]

MAXIMUM_STRIKES = 3
"""Strikes that end a request. A worker's death counts as one if the request had completed fewer than two steps. Two
steps completed alone after a strike clear the request, and the count starts again."""
MAXIMUM_DEATHS = 20
"""Upper bound on worker deaths per request, whatever caused them."""
STEPS_TO_CLEAR = 2


@define
class DeathRecord:
    """Worker deaths that a request was involved in."""

    deaths: int = 0
    strikes: int = 0
    is_suspect: bool = False
    """True from a strike until the two steps that clear it."""

    def note_death(self, steps_since_admission: int) -> bool:
        """Record that the request's worker died. Returns True if the request must not be tried again."""
        self.deaths += 1
        if steps_since_admission < STEPS_TO_CLEAR:
            self.is_suspect = True
            self.strikes += 1
        else:
            # It completed two steps alone, so another request caused the earlier strike.
            self.is_suspect = False
            self.strikes = 0
        return self.strikes >= MAXIMUM_STRIKES or self.deaths >= MAXIMUM_DEATHS

    def must_run_alone(self, steps_since_admission: int) -> bool:
        """Return True while a suspect must run without neighbours, until it has proven harmless."""
        return self.is_suspect and steps_since_admission < STEPS_TO_CLEAR
