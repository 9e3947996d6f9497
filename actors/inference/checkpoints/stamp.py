"""A note beside the manifest that the files were hashed, and how they looked then. No MLX here.

Hashing a checkpoint of many gigabytes takes longer than loading it, and a worker is started again after every crash. So
the hashes are computed when a checkpoint comes or is verified, and at the first load; after that a file counts as the same
while its size and the time of its last change are. That finds every file that was written to. It does not find bits that
rot on the disk, nor someone who sets the time back: `leanvibe model verify` always hashes.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.manifest import MANIFEST_NAME, file_sha256, read_manifest
from actors.inference.checkpoints.reading import UnreadableFile, read_json

STAMP_NAME = ".verified.json"
FAILURE_NAME = ".failed.json"
"""Says which check the checkpoint failed when it was last verified: good hashes alone make no trained model."""


def write_stamp(folder: Path) -> None:
    """Note that the files of `folder` were just found to be those of its manifest.

    A folder that cannot be written to gets none, and its files are hashed at every load.
    """
    making = folder / f"{STAMP_NAME}.making"
    with contextlib.suppress(OSError):
        making.write_text(json.dumps(_looks(folder)) + "\n", encoding="utf-8")
        making.replace(folder / STAMP_NAME)


def stamp_is_current(folder: Path) -> bool:
    """Whether manifest and files are as they were when the stamp was written."""
    try:
        return bool(read_json(folder / STAMP_NAME) == _looks(folder))
    except (OSError, UnreadableFile):
        return False


def write_failure(folder: Path, check: str) -> None:
    """Note that `folder` failed a check, and take its stamp away."""
    (folder / STAMP_NAME).unlink(missing_ok=True)
    making = folder / f"{FAILURE_NAME}.making"
    with contextlib.suppress(OSError):
        making.write_text(json.dumps({"check": check}) + "\n", encoding="utf-8")
        making.replace(folder / FAILURE_NAME)


def clear_failure(folder: Path) -> None:
    """Note that `folder` passed all checks."""
    with contextlib.suppress(OSError):
        (folder / FAILURE_NAME).unlink(missing_ok=True)


def failed_check(folder: Path) -> str | None:
    """The check that `folder` failed when it was last verified; None where there is none."""
    try:
        check = read_json(folder / FAILURE_NAME)["check"]
    except (OSError, UnreadableFile, KeyError, TypeError):
        return None
    return check if isinstance(check, str) else None


def _looks(folder: Path) -> dict[str, Any]:
    files = {}
    for entry in read_manifest(folder)["files"]:
        found = (folder / entry["name"]).stat()
        files[entry["name"]] = [found.st_size, found.st_mtime_ns]
    return {"manifest_sha256": file_sha256(folder / MANIFEST_NAME), "files": files}
