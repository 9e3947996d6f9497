"""What the models of the cache folder are, without loading them. No MLX here."""

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
from actors.inference.checkpoints.manifest import MANIFEST_NAME, read_manifest
from actors.inference.checkpoints.provenance import describe_source, provenance_of
from actors.inference.checkpoints.reading import UnreadableFile, read_json_object
from actors.inference.checkpoints.stamp import failed_check

_SHOWN_CHARACTERS = 64
_WEIGHTS = ".safetensors"


@attrs.frozen(kw_only=True)
class InventoryEntry:
    """One model, there or known by a short name."""

    name: str
    """What to write after `--model`: the short name where there is one."""
    full_name: str
    """The hub id or the folder's name."""
    is_present: bool
    """Whether it is on this machine."""
    is_in_use: bool
    """Whether the running server has it loaded."""
    size_bytes: int | None
    """All its files together; None for one that is not there."""
    type: str
    """Model type and type of the weights; empty for one that is not there."""
    quantization: str
    """Bits and group of packed weights, or empty."""
    provenance: str
    """`verified`, `unverified`, `damaged manifest`, `unreadable (…)`, `failed CHECK` of when it was last verified, or empty for
    one that is not there."""
    source: str
    """Where it came from."""
    folder: Path | None
    """Where it lies."""
    digest: str = ""
    """SHA-256 of the weights as its manifest has it, of several files that over their hashes; empty where there is none."""
    modified_seconds: float | None = None
    """When its weights were last written, POSIX seconds."""


def inventory(cache_folder: Path, in_use: Path | None) -> list[InventoryEntry]:
    """Every model under the cache folder and every short name. `in_use` is the folder of what the running server uses."""
    used_folder = None if in_use is None else in_use.resolve()
    shortest = {full: short for short, full in short_names().items()}
    entries = [_entry(found, shortest, used_folder) for found in list_checkpoints(cache_folder)]
    if used_folder is not None and not any(entry.is_in_use for entry in entries) and used_folder.is_dir():
        # The server may well run a model from some other folder.
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
    """The encoder of embeddings, whose files are there. No chat model, so `inventory` has it not."""
    folder = encoder_folder(cache_folder)
    return InventoryEntry(
        name=ENCODER_NAME,
        full_name=ENCODER_NAME,
        is_present=True,
        is_in_use=is_in_use,
        size_bytes=folder_bytes(folder),
        type="bert float32",
        quantization="",
        # It is loaded with the hashes that this program has and no others.
        provenance="verified",
        source=ENCODER_REQUIREMENT,
        folder=folder,
        digest=WEIGHTS.sha256,
        modified_seconds=encoder_modified(folder),
    )


def removable_folder(name: str, cache_folder: Path) -> Path:
    """Where a model of the cache folder lies, or would lie, by any of its names. Raises `ModelNotFound` for what is elsewhere."""
    full = short_names().get(name.lower(), full_name(name))
    folder = checkpoint_folder(full, cache_folder)
    models = models_folder(cache_folder)
    if folder.parent != models or folder.name.startswith("."):
        raise ModelNotFound(name_or_path=name, searched=(models,))
    return folder


def remove_model(name: str, cache_folder: Path) -> int:
    """Remove a model of the cache folder and what an interrupted download of it left; returns the bytes freed.

    A folder elsewhere is its owner's and is never touched. Raises `ModelNotFound` where the cache folder has neither. The
    folder vanishes under its name at once; when interrupted after that, the next removal clears the rest.
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
    """Size of all files under a folder; 0 for one that is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def weights_type(config: Mapping[str, Any]) -> str:
    """Model type and type of the weights in a few words, from `config.json`."""
    quantization = config.get("quantization")
    dtype = config.get("dtype", config.get("torch_dtype", ""))
    weights = f"{_shown(quantization.get('bits'))}-bit" if isinstance(quantization, dict) else _shown(dtype)
    return f"{_shown(config.get('model_type', '?'))} {weights}".strip()


def _shown(value: Any) -> str:
    """A word or a number of a configuration; `?` for what is neither, which nobody wants to see in a table."""
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
    """SHA-256 of a checkpoint's weights, of what its manifest says of their files. Hexadecimal; empty without weights."""
    hashes = [one["sha256"] for one in manifest["files"] if one["name"].endswith(_WEIGHTS)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""


def _modified(folder: Path) -> float | None:
    return max((path.stat().st_mtime for path in folder.iterdir() if path.name.endswith(_WEIGHTS)), default=None)


def _config_of(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / "config.json")
    except (OSError, UnreadableFile):
        return {}
