"""Stores a calibration next to the manifest of the checkpoint it was measured on. No MLX.

It is bound to the manifest's hash, and no longer applies once the checkpoint has changed.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from actors.inference.calibration import Calibration, Point
from actors.inference.checkpoints.errors import ModelFileMissing
from actors.inference.checkpoints.manifest import MANIFEST_NAME, file_sha256
from actors.inference.checkpoints.reading import read_json

__all__ = ["CALIBRATION_NAME", "manifest_sha256", "read_calibration", "write_calibration"]

CALIBRATION_NAME = ".calibration.json"
"""Hidden, and therefore not part of the checkpoint."""


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
