"""Drafts from a row's own ids: what followed the last time that its end stood there before. Pure.

An answer about a text repeats parts of it, code above all. Whatever followed the same ids earlier is a guess at what
comes next that costs nothing to make ("prompt lookup decoding", Saxena 2023); the model then judges all of it in one
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["LONGEST_MATCH", "SHORTEST_MATCH", "DraftTokens", "NgramProposer"]

SHORTEST_MATCH = 3
"""Ids that must agree; two agree by chance too often."""
LONGEST_MATCH = 8
"""More say no more."""
PLACES = 16
"""Earlier places that are compared, the latest first; so a proposal takes the same time however long the row is."""
MOST_IDS = 16_384
"""Ids that are surely looked through, the newest; twice as many are held at most."""


@frozen
class DraftTokens:
    """Ids that may come next."""

    ids: list[int]
    matched: int
    """Ids before them that agree with the row's end, `SHORTEST_MATCH` to `LONGEST_MATCH`."""


class NgramProposer:
    """The ids of one row, and where each run of `SHORTEST_MATCH` ids ended. Taking an id and proposing take O(1)."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._latest: dict[tuple[int, ...], int] = {}
        """Runs to the place just behind their latest occurrence."""
        self._before: list[int] = []
        """For each place the one before it that had the same run behind it; 0 where there is none."""
        for one in ids[-MOST_IDS:]:
            self.take(one)

    def take(self, token_id: int) -> None:
        """The row's next id."""
        if len(self._ids) >= 2 * MOST_IDS:
            newest = self._ids[-MOST_IDS:]
            self._ids, self._latest, self._before = [], {}, []
            for one in newest:
                self.take(one)
        self._ids.append(token_id)
        place = len(self._ids)
        before = 0
        if place >= SHORTEST_MATCH:
            run = tuple(self._ids[-SHORTEST_MATCH:])
            before = self._latest.get(run, 0)
            self._latest[run] = place
        self._before.append(before)

    def propose(self, most: int) -> DraftTokens | None:
        """Up to ``most`` ids that followed where most ids agree with the row's end, the latest such place.

        None where not even `SHORTEST_MATCH` do.
        """
        if not self._ids or most < 1:
            return None
        best, matched = 0, 0
        place = self._before[-1]
        for _ in range(PLACES):
            if not place or matched == LONGEST_MATCH:
                break
            agreeing = self._agreeing(place)
            if agreeing > matched:
                best, matched = place, agreeing
            place = self._before[place - 1]
        return DraftTokens(self._following(best, most), matched) if matched else None

    def _following(self, place: int, count: int) -> list[int]:
        """Ids from a place on; where they reach the end they go on with themselves, as a text that repeats itself does."""
        ids = self._ids[place : place + count]
        while len(ids) < count:
            ids.append(ids[len(ids) + place - len(self._ids)])
        return ids

    def _agreeing(self, place: int) -> int:
        """How many ids before a place agree with those at the end; the last `SHORTEST_MATCH` do."""
        ids = self._ids
        count = SHORTEST_MATCH
        while count < LONGEST_MATCH and count < place and ids[place - count - 1] == ids[-count - 1]:
            count += 1
        return count
