"""Fetches a model from the Hugging Face hub: one commit, each file checked against the hub's own listing. No MLX.

The listing of that commit has the names, sizes and hashes of files, so disk space is checked before the first byte and
each file after its last. Only checkpoint files are fetched: no program and no pickle. Files are written to a folder
next to the final one, which is renamed when all are right; an interrupted download stays there, and the next call
resumes it.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from actors.inference.checkpoints.catalogue import checkpoint_folder, models_folder
from actors.inference.checkpoints.errors import (
    HubCommitDiffers,
    HubDownloadBroken,
    HubFileCorrupt,
    HubModelGated,
    HubModelNotFound,
    HubModelUnusable,
    HubUnreachable,
    ModelDiskFull,
    PickleRefused,
)
from actors.inference.checkpoints.manifest import MANIFEST_NAME, file_sha256, read_manifest, write_manifest, write_stamp

CHECKPOINT_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "tokenizer.model", "chat_template.jinja", "chat_template.json", "model.safetensors.index.json",
)  # fmt: skip
"""Files of a checkpoint folder besides its weights; none is ever executed."""

_WEIGHTS = re.compile(r"model[A-Za-z0-9._-]*\.safetensors")
_PICKLE = re.compile(r".*\.(bin|pt|pth|ckpt)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOLD_SUFFIXES = (".gguf", ".onnx", ".h5", ".msgpack", ".npz", ".safetensors")
_SPARE_BYTES = 50_000_000
_BLOCK_BYTES = 1 << 20

Progress = Callable[[int, int], None]
"""Progress callback: bytes present and bytes in total."""


@attrs.frozen(kw_only=True)
class HubFile:
    """A file in the hub's listing."""

    name: str
    """Name in the model's top folder."""
    size_bytes: int
    """Its size."""
    hash: str
    """SHA-256 of a large file, or git's own hash (SHA-1 of a header and the content) of a small one."""

    @property
    def has_sha256(self) -> bool:
        """True if `hash` is a SHA-256."""
        return len(self.hash) == hashlib.sha256().digest_size * 2


@attrs.frozen(kw_only=True)
class HubListing:
    """Files of a model on the hub at one commit."""

    model: str
    """The hub id, `owner/name`."""
    commit: str
    """Hash of the commit that a revision is pinned to."""
    files: tuple[HubFile, ...]
    """Files of the checkpoint."""

    @property
    def size_bytes(self) -> int:
        """Total size of all files."""
        return sum(file.size_bytes for file in self.files)


def pull(model: str, cache_folder: Path, *, revision: str | None, offline: bool, progress: Progress) -> Path:
    """Fetches a model at a revision (a branch, tag or commit; None is the main branch) and returns its folder.

    A model installed at the requested commit is returned without a download; offline and without a revision, so is any
    commit of it, since only the hub can resolve branches and tags. Blocks for the download. When interrupted it leaves
    no model, only the partial download. Raises `HubUnreachable`, `HubModelNotFound`, `HubModelGated`,
    `HubDownloadBroken`, `HubFileCorrupt`, `ModelDiskFull`, `PickleRefused`, `HubCommitDiffers` for another commit of
    the same model, or `HubModelUnusable` for one without a configuration or weights.
    """
    folder = checkpoint_folder(model, cache_folder)
    present = _commit_of(folder)
    if present is not None and (revision == present or (offline and revision is None)):
        return folder
    if present is not None and offline and _COMMIT.fullmatch(revision or ""):
        raise HubCommitDiffers(model=model, present=present, wanted=str(revision))
    listing = list_files(model, revision, offline=offline)
    if present == listing.commit:
        return folder
    if folder.exists():
        raise HubCommitDiffers(model=model, present=present, wanted=listing.commit)
    arriving = models_folder(cache_folder) / f".pulling-{folder.name}-{listing.commit[:12]}"
    try:
        arriving.mkdir(parents=True, exist_ok=True)
        _check_room(listing, arriving)
        known = _fetch(listing, arriving, progress)
        source = {"hub_id": model, "revision": listing.commit}
        write_manifest(arriving, {"name": model, "source": source, "provenance": "verified"}, known)
        arriving.replace(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(listing, arriving) from error
    write_stamp(folder)
    return folder


def list_files(model: str, revision: str | None, *, offline: bool) -> HubListing:
    """Asks the hub for a model's files. Raises the errors that `pull` raises before the first byte."""
    if offline:
        raise HubUnreachable(model=model, reason="offline mode is on (--offline or HF_HUB_OFFLINE)")
    # Otherwise the client downloads a list of known programs, and reports to the hub which of them started it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    with _hub_errors(model, revision):
        info = HfApi(endpoint=_endpoint()).model_info(model, revision=revision, files_metadata=True)
    siblings = info.siblings or []
    wanted = [one for one in siblings if one.rfilename in CHECKPOINT_FILES or _WEIGHTS.fullmatch(one.rfilename)]
    names = {one.rfilename for one in wanted}
    if not any(_WEIGHTS.fullmatch(name) for name in names):
        pickles = tuple(sorted(one.rfilename for one in siblings if _PICKLE.fullmatch(one.rfilename)))
        if pickles:
            raise PickleRefused(source=model, files=pickles)
        raise HubModelUnusable(model=model, lacks="model*.safetensors", has=_kinds(siblings))
    if "config.json" not in names:
        raise HubModelUnusable(model=model, lacks="config.json", has=_kinds(siblings))
    files = tuple(
        HubFile(
            name=one.rfilename,
            size_bytes=int(one.size or 0),
            hash=one.lfs.sha256 if one.lfs is not None else str(one.blob_id),
        )
        # Small files first, so that a bad configuration is found before the gigabytes.
        for one in sorted(wanted, key=lambda one: one.size or 0)
    )
    return HubListing(model=model, commit=str(info.sha), files=files)


def _kinds(siblings: Iterable[Any]) -> tuple[str, ...]:
    """Kinds of files that a repository has instead."""
    suffixes = {Path(one.rfilename).suffix for one in siblings}
    return tuple(sorted(f"*{suffix}" for suffix in suffixes if suffix in _TOLD_SUFFIXES))


def _endpoint() -> str | None:
    """A mirror of the hub, from the variable that its client uses, but read now rather than when the client is
    imported."""
    return os.environ.get("HF_ENDPOINT") or None


def _commit_of(folder: Path) -> str | None:
    """Commit that a folder was pulled at; None if it does not exist or has another origin."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    source = read_manifest(folder).get("source")
    return str(source["revision"]) if isinstance(source, dict) and "revision" in source else None


def _fetch(listing: HubListing, folder: Path, progress: Progress) -> dict[str, str]:
    """Returns the SHA-256 of each file whose content was just checked against it."""
    arrived_bytes = 0
    for file in listing.files:
        path = folder / file.name
        if not (path.is_file() and _has_hash(path, file)):

            def count(of_this_file: int, before: int = arrived_bytes, most: int = file.size_bytes) -> None:
                progress(before + min(of_this_file, most), listing.size_bytes)

            partial = folder / f".{file.name}.partial"
            _fetch_file(listing, file, partial, count)
            found = _hash_like(partial, file.hash)
            if found != file.hash:
                partial.unlink()
                raise HubFileCorrupt(model=listing.model, file=file.name, expected=file.hash, found=found)
            partial.replace(path)
        arrived_bytes += file.size_bytes
        progress(arrived_bytes, listing.size_bytes)
    return {file.name: file.hash for file in listing.files if file.has_sha256}


def _fetch_file(listing: HubListing, file: HubFile, partial: Path, count: Callable[[int], None]) -> None:
    """Downloads a file, resuming an earlier attempt.

    Uses the client's own transport, with its retries and login, instead of `hf_hub_download`, which since version 2
    discards partial downloads whenever the process ends.
    """
    from huggingface_hub.file_download import hf_hub_url, http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # by way of a lazy table

    if partial.exists() and partial.stat().st_size > file.size_bytes:
        partial.unlink()
    partial.touch()
    url = hf_hub_url(listing.model, file.name, revision=listing.commit, endpoint=_endpoint())
    # Not in append mode: the client rewinds the file if a server does not support resuming.
    with partial.open("r+b") as target, _hub_errors(listing.model, listing.commit):
        known_bytes = target.seek(0, os.SEEK_END)
        http_get(
            url, target, resume_size=known_bytes, headers={**build_hf_headers(), "Accept-Encoding": "identity"},
            expected_size=file.size_bytes, displayed_filename=file.name, tqdm_class=_counting_bar(count),
        )  # fmt: skip


def _has_hash(path: Path, file: HubFile) -> bool:
    return path.stat().st_size == file.size_bytes and _hash_like(path, file.hash) == file.hash


def _hash_like(path: Path, expected: str) -> str:
    """Hash of a file, of the same kind as `expected`, judged by its length."""
    if len(expected) == hashlib.sha256().digest_size * 2:
        return file_sha256(path)
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_room(listing: HubListing, folder: Path) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if shutil.disk_usage(folder).free < listing.size_bytes - there + _SPARE_BYTES:
        error = _disk_full(listing, folder)
        with contextlib.suppress(OSError):
            # Unless it contains a partial download.
            folder.rmdir()
        raise error


def _disk_full(listing: HubListing, folder: Path) -> ModelDiskFull:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed = listing.size_bytes - there + _SPARE_BYTES
    return ModelDiskFull(folder=folder, needed_bytes=needed, free_bytes=shutil.disk_usage(folder).free)


@contextlib.contextmanager
def _hub_errors(model: str, revision: str | None) -> Iterator[None]:
    """Converts the client's errors into `ModelError`s."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise HubModelGated(model=model) from error
    except (errors.RevisionNotFoundError, errors.RepositoryNotFoundError) as error:
        named = revision if isinstance(error, errors.RevisionNotFoundError) else None
        raise HubModelNotFound(model=model, revision=named) from error
    except errors.HFValidationError as error:
        raise HubModelNotFound(model=model, revision=None) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubUnreachable(model=model, reason="offline mode is on (HF_HUB_OFFLINE)") from error
    except (httpx2.ConnectError, httpx2.TimeoutException, errors.LocalEntryNotFoundError) as error:
        raise HubUnreachable(model=model, reason=_words(error)) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise HubModelGated(model=model) from error
        raise HubUnreachable(model=model, reason=f"it answered {status}") from error
    except httpx2.HTTPError as error:
        raise HubDownloadBroken(model=model, reason=_words(error)) from error
    except OSError as error:
        # The client reports a truncated file as a plain OSError without an errno.
        if error.errno is not None:
            raise
        raise HubDownloadBroken(model=model, reason=_words(error)) from error


def _words(error: Exception) -> str:
    """First line of the innermost cause."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _counting_bar(count: Callable[[int], None]) -> Any:
    """Class with the interface of the client's progress bars that counts and displays nothing."""
    from huggingface_hub import utils

    bar: Any = utils.tqdm  # type: ignore[attr-defined]  # in its __all__ only by way of a lazy table

    class CountingBar(bar):  # type: ignore[misc]  # tqdm is untyped
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._counted = int(options.get("initial") or 0)
            options["disable"] = True
            super().__init__(*arguments, **options)
            count(self._counted)

        def update(self, n: float | None = 1) -> bool | None:
            self._counted += int(n or 0)
            count(self._counted)
            return None

    return CountingBar
