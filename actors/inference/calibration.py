"""Maps a model's measured confidence to how often answers of that confidence were right. Pure functions.

The map is isotonic regression by pooling adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman, 1955) over bins of
equal count: a more confident answer is never rated less likely to be right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from attrs import Attribute, field, frozen

__all__ = ["MINIMUM_ITEMS", "Calibration", "Point", "fit"]

MINIMUM_ITEMS = 20
"""Fewer samples are not meaningful."""
BIN_ITEMS = 5
"""With smaller bins one lucky answer would count too much."""


@frozen(kw_only=True)
class Point:
    """A group of answers of similar confidence."""

    confidence: float
    """Their mean confidence."""
    rate: float
    """Share of them that was right."""


def _rising(_: object, __: Attribute[tuple[Point, ...]], points: tuple[Point, ...]) -> None:
    if not points:
        raise ValueError("a calibration has points")
    if any(not 0 <= value <= 1 for one in points for value in (one.confidence, one.rate)):
        raise ValueError("confidence and rate are between 0 and 1")
    pairs = list(itertools.pairwise(points))
    if any(one.confidence >= two.confidence or one.rate > two.rate for one, two in pairs):
        raise ValueError("confidence and rate rise from point to point")


@frozen(kw_only=True)
class Calibration:
    """Calibration of one model."""

    points: tuple[Point, ...] = field(validator=_rising)
    """Rising in both coordinates."""
    items: int
    """Number of answers judged."""

    def rate(self, confidence: float) -> float:
        """Share of answers of this confidence that are right, interpolated; beyond the measured range, the outermost
        point's."""
        points = self.points
        if confidence <= points[0].confidence:
            return points[0].rate
        for low, high in itertools.pairwise(points):
            if confidence <= high.confidence:
                share = (confidence - low.confidence) / (high.confidence - low.confidence)
                return min(high.rate, low.rate + share * (high.rate - low.rate))
        return points[-1].rate


def fit(measured: Sequence[tuple[float, bool]]) -> Calibration:
    """Fits the map to pairs of confidence and correctness. Raises `ValueError` for fewer than `MINIMUM_ITEMS`."""
    if len(measured) < MINIMUM_ITEMS:
        raise ValueError(f"{len(measured)} answers are too few to calibrate by; {MINIMUM_ITEMS} are needed")
    ordered = sorted(measured)
    bins = len(ordered) // BIN_ITEMS
    edges = [len(ordered) * number // bins for number in range(bins + 1)]
    pools: list[list[tuple[float, bool]]] = []
    for start, end in itertools.pairwise(edges):
        pools.append(ordered[start:end])
        # Pool bins of equal confidence, and any bin that was right less often than a less confident neighbour.
        while len(pools) > 1 and (
            _rate(pools[-2]) >= _rate(pools[-1]) or _confidence(pools[-2]) >= _confidence(pools[-1])
        ):
            last = pools.pop()
            pools[-1] = pools[-1] + last
    points = tuple(Point(confidence=_confidence(one), rate=_rate(one)) for one in pools)
    return Calibration(points=points, items=len(ordered))


def _rate(pool: Sequence[tuple[float, bool]]) -> float:
    return sum(is_right for _, is_right in pool) / len(pool)


def _confidence(pool: Sequence[tuple[float, bool]]) -> float:
    return min(1.0, sum(confidence for confidence, _ in pool) / len(pool))
