"""Maps a model's measured confidence to how often answers of that confidence were right, and stores the map.

The map is isotonic regression by pooling adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman, 1955) over bins of
equal count: a more confident answer is never rated less likely to be right. Its file is next to the manifest of the
checkpoint it was measured on and bound to the manifest's hash, so it no longer applies once the checkpoint has changed.
No MLX.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import attrs
from attrs import Attribute, field, frozen

from actors.inference.checkpoints.errors import ModelFileMissing
from actors.inference.checkpoints.manifest import MANIFEST_NAME, file_sha256
from actors.inference.checkpoints.reading import read_json

__all__ = [
    "CALIBRATION_NAME",
    "MINIMUM_ITEMS",
    "Calibration",
    "Point",
    "fit",
    "manifest_sha256",
    "read_calibration",
    "write_calibration",
]

MINIMUM_ITEMS = 20
"""Fewer samples are not meaningful."""
BIN_ITEMS = 5
"""With smaller bins one lucky answer would count too much."""
CALIBRATION_NAME = ".calibration.json"
"""Hidden, and therefore not part of the checkpoint."""


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


def manifest_sha256(folder: Path) -> str:
    """Hash that a calibration is bound to. Raises `ModelFileMissing` if there is no manifest."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise ModelFileMissing(path=path)
    return file_sha256(path)


def write_calibration(folder: Path, calibration: Calibration, manifest: str) -> Path:
    """Stores a calibration for the manifest of that hash, replacing any previous one atomically. Raises `OSError`."""
    content = {"manifest_sha256": manifest, **attrs.asdict(calibration)}
    making, path = folder / f"{CALIBRATION_NAME}.making", folder / CALIBRATION_NAME
    making.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    making.replace(path)
    return path


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration measured on the checkpoint in its present state; None without a readable one."""
    try:
        content = read_json(folder / CALIBRATION_NAME)
        if content["manifest_sha256"] != file_sha256(folder / MANIFEST_NAME):
            return None
        points = tuple(Point(confidence=float(one["confidence"]), rate=float(one["rate"])) for one in content["points"])
        return Calibration(points=points, items=int(content["items"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _rate(pool: Sequence[tuple[float, bool]]) -> float:
    return sum(is_right for _, is_right in pool) / len(pool)


def _confidence(pool: Sequence[tuple[float, bool]]) -> float:
    return min(1.0, sum(confidence for confidence, _ in pool) / len(pool))
