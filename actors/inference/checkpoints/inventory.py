"""Describes the models of the cache folder without loading them. No MLX."""

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from actors.inference.checkpoints.catalogue import (
    CheckpointLocation,
    checkpoint_folder,
    find_checkpoint,
    full_name,
    list_checkpoints,
    models_folder,
    short_names,
)
from actors.inference.checkpoints.encoder import (
    ENCODER_NAME,
    ENCODER_REQUIREMENT,
    WEIGHTS,
    encoder_folder,
    encoder_modified,
)
from actors.inference.checkpoints.errors import ModelError, ModelNotFound
from actors.inference.checkpoints.manifest import MANIFEST_NAME, failed_check, read_manifest
from actors.inference.checkpoints.provenance import describe_source, provenance_of
from actors.inference.checkpoints.reading import UnreadableFile, read_json_object

_SHOWN_CHARACTERS = 64
_WEIGHTS = ".safetensors"


@attrs.frozen(kw_only=True)
class InventoryEntry:
    """A model that is installed or has a short name."""

    name: str
    """Value for `--model`: the short name if it has one."""
    full_name: str
    """Hub id or folder name."""
    is_present: bool
    """True if it is on this machine."""
    is_in_use: bool
    """True if the running server has it loaded."""
    size_bytes: int | None
    """Size of all its files; None if it is not present."""
    type: str
    """Model type and weight type; empty if it is not present."""
    quantization: str
    """Bits and group size of packed weights, or empty."""
    provenance: str
    """`verified`, `unverified`, `damaged manifest`, `unreadable (…)`, `failed CHECK` from its last verification, or
    empty if it is not present."""
    source: str
    """Origin of its files."""
    folder: Path | None
    """Its folder; None if it is not present."""
    digest: str = ""
    """SHA-256 of the weights from its manifest, for several files the SHA-256 of their hashes; empty if unknown."""
    modified_seconds: float | None = None
    """Modification time of its weights, POSIX seconds."""


def inventory(cache_folder: Path, in_use: Path | None) -> list[InventoryEntry]:
    """Lists every model in the cache folder and every short name. `in_use` is the folder of the running server's model."""
    used_folder = None if in_use is None else in_use.resolve()
    shortest = {full: short for short, full in short_names().items()}
    entries = [_entry(found, shortest, used_folder) for found in list_checkpoints(cache_folder)]
    if used_folder is not None and not any(entry.is_in_use for entry in entries) and used_folder.is_dir():
        # The server may be running a model from some other folder.
        entries.append(_entry(find_checkpoint(str(used_folder), cache_folder), shortest, used_folder))
    present = {entry.full_name for entry in entries}
    entries += [
        InventoryEntry(
            name=short, full_name=full, is_present=False, is_in_use=False, size_bytes=None, type="",
            quantization="", provenance="", source="", folder=None,
        )
        for short, full in short_names().items()
        if full not in present
    ]  # fmt: skip
    return entries


def encoder_entry(cache_folder: Path, *, is_in_use: bool) -> InventoryEntry:
    """Entry of the embedding encoder, whose files must be present. `inventory` lists chat models only."""
    folder = encoder_folder(cache_folder)
    return InventoryEntry(
        name=ENCODER_NAME,
        full_name=ENCODER_NAME,
        is_present=True,
        is_in_use=is_in_use,
        size_bytes=folder_bytes(folder),
        type="bert float32",
        quantization="",
        # It is loaded only if its hashes are those in this program.
        provenance="verified",
        source=ENCODER_REQUIREMENT,
        folder=folder,
        digest=WEIGHTS.sha256,
        modified_seconds=encoder_modified(folder),
    )


def removable_folder(name: str, cache_folder: Path) -> Path:
    """Present or future folder of a model in the cache folder, by any of its names. Raises `ModelNotFound` for folders
    elsewhere."""
    full = short_names().get(name.lower(), full_name(name))
    folder = checkpoint_folder(full, cache_folder)
    models = models_folder(cache_folder)
    if folder.parent != models or folder.name.startswith("."):
        raise ModelNotFound(name_or_path=name, searched=(models,))
    return folder


def remove_model(name: str, cache_folder: Path) -> int:
    """Removes a model of the cache folder and its interrupted downloads. Returns the bytes freed.

    Folders elsewhere belong to their owners and are never touched. Raises `ModelNotFound` if the cache folder has
    neither. The folder is renamed first; if interrupted after that, the next removal deletes the rest.
    """
    folder, models = removable_folder(name, cache_folder), models_folder(cache_folder)
    partial = sorted(models.glob(f".pulling-{folder.name}-*"))
    if not folder.is_dir() and not partial:
        raise ModelNotFound(name_or_path=name, searched=(folder,))
    freed_bytes = sum(folder_bytes(one) for one in (folder, *partial))
    if folder.is_dir():
        folder.rename(models / f".removing-{uuid.uuid4().hex}")
    for leftover in (*partial, *models.glob(".removing-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    return freed_bytes


def folder_bytes(folder: Path) -> int:
    """Total size of the files in a folder; 0 if it does not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def weights_type(config: Mapping[str, Any]) -> str:
    """Short description of model type and weight type, from `config.json`."""
    quantization = config.get("quantization")
    dtype = config.get("dtype", config.get("torch_dtype", ""))
    weights = f"{_shown(quantization.get('bits'))}-bit" if isinstance(quantization, dict) else _shown(dtype)
    return f"{_shown(config.get('model_type', '?'))} {weights}".strip()


def _shown(value: Any) -> str:
    """A string or integer of a configuration; `?` for anything else."""
    return str(value) if isinstance(value, str | int) and len(str(value)) <= _SHOWN_CHARACTERS else "?"


def _quantization(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization")
    if not isinstance(quantization, dict):
        return ""
    return f"{_shown(quantization.get('bits'))} bits in groups of {_shown(quantization.get('group_size'))}"


def _entry(found: CheckpointLocation, shortest: Mapping[str, str], used_folder: Path | None) -> InventoryEntry:
    try:
        return _read_entry(found, shortest, used_folder)
    except Exception as error:  # noqa: BLE001  isolation boundary: no folder hides the others, whatever lies in it
        return InventoryEntry(
            name=shortest.get(found.name, found.name), full_name=found.name, is_present=True, is_in_use=False,
            size_bytes=None, type="", quantization="", provenance=f"unreadable ({type(error).__name__})", source="unknown",
            folder=found.folder,
        )  # fmt: skip


def _read_entry(found: CheckpointLocation, shortest: Mapping[str, str], used_folder: Path | None) -> InventoryEntry:
    provenance, source, digest = "unverified", "unknown", ""
    if (found.folder / MANIFEST_NAME).exists():
        try:
            manifest = read_manifest(found.folder)
            provenance, source = provenance_of(manifest), describe_source(manifest)
            digest = weights_digest(manifest)
        except ModelError:
            provenance = "damaged manifest"
    failed = failed_check(found.folder)
    if failed is not None:
        provenance = f"failed {failed}"
    config = _config_of(found.folder)
    return InventoryEntry(
        name=shortest.get(found.name, found.name),
        full_name=found.name,
        is_present=True,
        is_in_use=found.folder.resolve() == used_folder,
        size_bytes=folder_bytes(found.folder),
        type=weights_type(config),
        quantization=_quantization(config),
        provenance=provenance,
        source=source,
        folder=found.folder,
        digest=digest,
        modified_seconds=_modified(found.folder),
    )


def weights_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a checkpoint's weights, from its manifest. Hexadecimal; empty without weights."""
    hashes = [one["sha256"] for one in manifest["files"] if one["name"].endswith(_WEIGHTS)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""


def _modified(folder: Path) -> float | None:
    return max((path.stat().st_mtime for path in folder.iterdir() if path.name.endswith(_WEIGHTS)), default=None)


def _config_of(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / "config.json")
    except (OSError, UnreadableFile):
        return {}
