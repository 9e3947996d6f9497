"""The list of a checkpoint's files with sizes and hashes, the check against it, and the record of that check. No MLX.

Hashing a checkpoint of many gigabytes takes longer than loading it, and a worker restarts after every crash. Hence hashes are
computed when a checkpoint is installed or verified, and at the first load, and a stamp records sizes and modification times;
after that a file counts as unchanged while these are. That detects every write. It does not detect bit rot, nor someone who
resets the time: `leanvibe model verify` always hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from actors.inference.checkpoints.errors import ModelError, ModelFileCorrupt, ModelFileMissing, ModelFileTruncated
from actors.inference.checkpoints.reading import (
    MAXIMUM_HEADER_BYTES,
    UnreadableFile,
    decode_json,
    open_regular_file,
    read_checkpoint_json,
    read_json,
)

MANIFEST_NAME = "manifest.json"
FORMAT = 1
"""Raised when the meaning of a field changes."""
Hashed = Callable[[int], None]
"""Progress callback: bytes hashed since the last call."""
_SAFETENSORS_LENGTH_BYTES = 8
_MAXIMUM_RANK = 8
"""Dimensions of a tensor. Those of language models have one to four."""
_WIDTH_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_SHOWN_NAME_CHARACTERS = 100
_BLOCK_BYTES = 1 << 20
STAMP_NAME = ".verified.json"
FAILURE_NAME = ".failed.json"
"""Names the check that the checkpoint failed at its last verification: good hashes alone do not make a trained model.
"""


def write_manifest(folder: Path, description: Mapping[str, Any], known_sha256: Mapping[str, str] | None = None) -> None:
    """Writes `manifest.json` for all other files of `folder`, beginning with the keys of `description` (source, canary
    …).

    `known_sha256` has hashes that were just computed and need not be computed again. Hidden files and folders belong to
    tools or to this program (the stamp) and are not part of the checkpoint. The file is renamed into place, so a reader
    sees either the old or the new one.
    """
    files = [
        {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": (known_sha256 or {}).get(path.name) or file_sha256(path),
        }
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST_NAME and not path.name.startswith(".")
    ]
    content = {"format": FORMAT, **description, "files": files}
    making = folder / f".{MANIFEST_NAME}.making"
    making.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    making.replace(folder / MANIFEST_NAME)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest. Raises `ModelFileMissing` or `ModelFileCorrupt`."""
    path = folder / MANIFEST_NAME
    manifest = read_checkpoint_json(path)
    if not isinstance(manifest.get("files"), list):
        raise ModelFileCorrupt(path=path, reason="has no list of files")
    if not all(_is_entry(entry) for entry in manifest["files"]):
        raise ModelFileCorrupt(
            path=path, reason="has an entry that is not the name, size and hash of a file in its folder"
        )
    return manifest


def verify_files(folder: Path, *, with_hashes: bool = False, hashed: Hashed = lambda _bytes: None) -> None:
    """Checks that every file of the manifest exists with the right size and, with hashes, the right content.

    Sizes take no measurable time and are checked at every load; hashing reads everything (0.1 s for the embedded
    model). Raises `ModelFileMissing`, `ModelFileTruncated` or `ModelFileCorrupt` with the path of the first bad file.
    """
    for problem in file_problems(folder, with_hashes=with_hashes, hashed=hashed):
        raise problem


def file_problems(folder: Path, *, with_hashes: bool, hashed: Hashed = lambda _bytes: None) -> Iterator[ModelError]:
    """Yields the error of every file that differs from the manifest, and of weights not listed in it.

    Raises `ModelFileMissing` or `ModelFileCorrupt` for the manifest itself.
    """
    entries = read_manifest(folder)["files"]
    for entry in entries:
        path = folder / entry["name"]
        if not path.is_file():
            yield ModelFileMissing(path=path)
            continue
        found_bytes = path.stat().st_size
        if found_bytes != entry["bytes"]:
            yield ModelFileTruncated(path=path, expected_bytes=entry["bytes"], found_bytes=found_bytes)
        elif with_hashes and (found := file_sha256(path, hashed)) != entry["sha256"]:
            yield ModelFileCorrupt(path=path, reason=f"SHA-256 is {found}, expected {entry['sha256']}")
    listed = {entry["name"] for entry in entries}
    for path in sorted(folder.glob("model*.safetensors")):
        if path.name not in listed:
            # It would be loaded with the others.
            yield ModelFileCorrupt(path=path, reason="is not in the manifest")


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


def verify_safetensors_size(path: Path) -> None:
    """Checks a safetensors file against its own header, for checkpoints without a manifest.

    MLX maps the file lazily, so a truncated one would otherwise end the process by SIGBUS during the load. The format:
    eight bytes of header length (little endian), the header in JSON, then the tensors at `data_offsets`. Raises
    `ModelFileTruncated` or `ModelFileCorrupt`.
    """
    found_bytes = path.stat().st_size
    header, start = _safetensors_header(path)
    expected_bytes = start + max((entry.data_offsets[1] for entry in header.values()), default=0)
    if found_bytes != expected_bytes:
        raise ModelFileTruncated(path=path, expected_bytes=expected_bytes, found_bytes=found_bytes)
    for name, entry in header.items():
        width = _WIDTH_BYTES.get(entry.dtype)
        begin, end = entry.data_offsets
        if begin > end or (width is not None and end - begin != math.prod(entry.shape) * width):
            reason = f"has a tensor whose type, shape and offsets disagree: {name[:_SHOWN_NAME_CHARACTERS]}"
            raise ModelFileCorrupt(path=path, reason=reason)


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a safetensors file, from its header alone. Raises the same errors as
    `verify_safetensors_size`."""
    return {name: shape for name, (_kind, shape) in safetensors_tensors(path).items()}


def safetensors_tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor, from the header alone. Raises the same errors as `verify_safetensors_size`."""
    header, _start = _safetensors_header(path)
    return {name: (entry.dtype, tuple(entry.shape)) for name, entry in header.items()}


_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _TensorEntry(msgspec.Struct):
    """Entry of one tensor in a safetensors header."""

    dtype: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=_MAXIMUM_RANK)]
    data_offsets: tuple[_Size, _Size]


def _safetensors_header(path: Path) -> tuple[dict[str, _TensorEntry], int]:
    """Header entries by tensor name, and the offset of the first tensor."""
    try:
        # The server reads it: a named pipe in its place would block a thread for good, and with it every later load.
        with open_regular_file(path) as file:
            found_bytes = os.fstat(file.fileno()).st_size
            header_bytes = int.from_bytes(file.read(_SAFETENSORS_LENGTH_BYTES), "little")
            start = _SAFETENSORS_LENGTH_BYTES + header_bytes
            if found_bytes < start:
                raise ModelFileTruncated(path=path, expected_bytes=start, found_bytes=found_bytes)
            if header_bytes > MAXIMUM_HEADER_BYTES:
                reason = f"has a safetensors header of {header_bytes:,} bytes, over {MAXIMUM_HEADER_BYTES:,}"
                raise ModelFileCorrupt(path=path, reason=reason)
            content = file.read(header_bytes)
    except UnreadableFile as error:
        raise ModelFileCorrupt(path=path, reason=str(error)) from error
    try:
        parts = decode_json(content, dict[str, msgspec.Raw])
        parts.pop("__metadata__", None)
        return {name: decode_json(bytes(part), _TensorEntry) for name, part in parts.items()}, start
    except UnreadableFile as error:
        raise ModelFileCorrupt(path=path, reason="has no readable safetensors header") from error


def listed_bytes(manifest: Mapping[str, Any]) -> int:
    """Total size of the files in a manifest."""
    return sum(int(entry["bytes"]) for entry in manifest["files"])


def fraction_hashed(total_bytes: int, progress: Callable[[float], None]) -> Hashed:
    """Converts byte counts to the fraction of `total_bytes` hashed, 0 to 1, and passes it to `progress`."""
    hashed_bytes = 0

    def count(more_bytes: int) -> None:
        nonlocal hashed_bytes
        hashed_bytes += more_bytes
        progress(min(1.0, hashed_bytes / total_bytes))

    return count


def file_sha256(path: Path, hashed: Hashed = lambda _bytes: None) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            hashed(len(block))
    return digest.hexdigest()


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    name = entry.get("name")
    is_inside = isinstance(name, str) and name not in ("", ".", "..") and "/" not in name
    return is_inside and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


def _looks(folder: Path) -> dict[str, Any]:
    files = {}
    for entry in read_manifest(folder)["files"]:
        found = (folder / entry["name"]).stat()
        files[entry["name"]] = [found.st_size, found.st_mtime_ns]
    return {"manifest_sha256": file_sha256(folder / MANIFEST_NAME), "files": files}
