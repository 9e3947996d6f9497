"""Caches the verification of a checkpoint's files: a stamp next to the manifest with their sizes and times. No MLX.

Hashing a checkpoint of many gigabytes takes longer than loading it, and a worker restarts after every crash. Hence
hashes are computed when a checkpoint is installed or verified, and at the first load; after that a file counts as
unchanged while its size and modification time are. That detects every write. It does not detect bit rot, nor someone
who resets the time: `leanvibe model verify` always hashes.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.manifest import MANIFEST_NAME, file_sha256, read_manifest
from actors.inference.checkpoints.reading import UnreadableFile, read_json

STAMP_NAME = ".verified.json"
FAILURE_NAME = ".failed.json"
"""Names the check that the checkpoint failed at its last verification: good hashes alone do not make a trained model.
"""


def write_stamp(folder: Path) -> None:
    """Records that the files of `folder` were just found to match its manifest.

    A read-only folder gets no stamp, and its files are hashed at every load.
    """
    making = folder / f"{STAMP_NAME}.making"
    with contextlib.suppress(OSError):
        making.write_text(json.dumps(_looks(folder)) + "\n", encoding="utf-8")
        making.replace(folder / STAMP_NAME)


def stamp_is_current(folder: Path) -> bool:
    """True if manifest and files are unchanged since the stamp was written."""
    try:
        return bool(read_json(folder / STAMP_NAME) == _looks(folder))
    except (OSError, UnreadableFile):
        return False


def write_failure(folder: Path, check: str) -> None:
    """Records that `folder` failed a check, and removes its stamp."""
    (folder / STAMP_NAME).unlink(missing_ok=True)
    making = folder / f"{FAILURE_NAME}.making"
    with contextlib.suppress(OSError):
        making.write_text(json.dumps({"check": check}) + "\n", encoding="utf-8")
        making.replace(folder / FAILURE_NAME)


def clear_failure(folder: Path) -> None:
    """Records that `folder` passed all checks."""
    with contextlib.suppress(OSError):
        (folder / FAILURE_NAME).unlink(missing_ok=True)


def failed_check(folder: Path) -> str | None:
    """Name of the check that `folder` failed at its last verification; None if it did not fail."""
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
