"""The list of a checkpoint's files with their sizes and hashes, and the check that they are still so. No MLX here."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from actors.inference.models.errors import ModelFileCorrupt, ModelFileMissing, ModelFileTruncated

MANIFEST_NAME = "manifest.json"
FORMAT = 1
"""Raised when the meaning of a field changes."""

_SAFETENSORS_LENGTH_BYTES = 8
_BLOCK_BYTES = 1 << 20


def write_manifest(folder: Path, description: Mapping[str, Any]) -> None:
    """Write `manifest.json` over all other files of `folder`, with `description`'s keys (source, canary …) in front."""
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST_NAME
    ]
    content = {"format": FORMAT, **description, "files": files}
    (folder / MANIFEST_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's content. Raises `ModelFileMissing` or `ModelFileCorrupt`."""
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileMissing(path=path) from error
    except ValueError as error:
        raise ModelFileCorrupt(path=path, reason="is not JSON") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
        raise ModelFileCorrupt(path=path, reason="has no list of files")
    return cast("dict[str, Any]", manifest)


def verify_files(folder: Path, *, with_hashes: bool = False) -> None:
    """Check that every file of the manifest is there in its right size; with hashes also in its right content.

    Sizes take no measurable time and are checked at every load; hashes read everything (0.1 s for the embedded model).
    Raises `ModelFileMissing`, `ModelFileTruncated` or `ModelFileCorrupt`, each with the path of the first bad file.
    """
    for entry in read_manifest(folder)["files"]:
        path = folder / entry["name"]
        if not path.is_file():
            raise ModelFileMissing(path=path)
        found_bytes = path.stat().st_size
        if found_bytes != entry["bytes"]:
            raise ModelFileTruncated(path=path, expected_bytes=entry["bytes"], found_bytes=found_bytes)
        if with_hashes and (found := file_sha256(path)) != entry["sha256"]:
            raise ModelFileCorrupt(path=path, reason=f"SHA-256 is {found}, expected {entry['sha256']}")


def verify_safetensors_size(path: Path) -> None:
    """Check a safetensors file against its own header, for checkpoints that have no manifest.

    The file is mapped lazily by MLX, so a short one would otherwise end the process by SIGBUS in mid-load. The format:
    eight bytes of header length (little endian), the header in JSON, then the tensors at `data_offsets`.
    Raises `ModelFileTruncated` or `ModelFileCorrupt`.
    """
    found_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_SAFETENSORS_LENGTH_BYTES), "little")
        start = _SAFETENSORS_LENGTH_BYTES + header_bytes
        if found_bytes < start:
            raise ModelFileTruncated(path=path, expected_bytes=start, found_bytes=found_bytes)
        try:
            header = json.loads(file.read(header_bytes))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileCorrupt(path=path, reason="has no readable safetensors header") from error
    expected_bytes = start + max(ends, default=0)
    if found_bytes != expected_bytes:
        raise ModelFileTruncated(path=path, expected_bytes=expected_bytes, found_bytes=found_bytes)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
