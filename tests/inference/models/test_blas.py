"""The choice of a BLAS, each in a process of its own: a library once in the global table cannot be taken out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from actors.inference.worker import blas
from actors.inference.worker.blas import load_blas

PROGRAM = """
import json, sys, pathlib
from actors.inference.worker.blas import load_blas
report = load_blas(sys.argv[1], pathlib.Path(sys.argv[2]))
import ctypes
import mlx.core as mx
left, right = mx.arange(6, dtype=mx.float32).reshape(2, 3), mx.ones((3, 2))
print(json.dumps([report.name, report.choice, report.warning, mx.matmul(left, right, stream=mx.cpu).tolist(),
                  hasattr(ctypes.CDLL(None), "cblas_sgemm")]))
"""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")


def _load(setting: str, cache_folder: Path) -> tuple[str, str, str | None]:
    command = [sys.executable, "-c", PROGRAM, setting, str(cache_folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    name, choice, warning, product, is_global = json.loads(output)
    assert product == [[3.0, 3.0], [12.0, 12.0]]
    assert is_global == (choice != "shipped")
    return name, choice, warning


@on_linux
def test_the_small_openblas_is_renamed_once_and_taken(tmp_path: Path) -> None:
    name, choice, warning = _load("openblas", tmp_path)
    assert (choice, warning) == ("openblas", None)
    assert name.startswith("openblas 0.")
    (copy,) = (tmp_path / "blas").iterdir()
    before = copy.stat().st_mtime_ns
    assert _load("openblas", tmp_path)[1] == "openblas"
    assert copy.stat().st_mtime_ns == before


@on_linux
def test_a_truncated_copy_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    # Loading one would end the process by SIGBUS, which no handler can turn into the next candidate.
    _load("openblas", tmp_path)
    (copy,) = (tmp_path / "blas").iterdir()
    whole_bytes = copy.stat().st_size
    copy.write_bytes(copy.read_bytes()[:1_000_000])
    assert _load("openblas", tmp_path)[1:] == ("openblas", None)
    (copy,) = (tmp_path / "blas").iterdir()
    assert copy.stat().st_size == whole_bytes


@on_linux
def test_the_shipped_one_always_says_what_to_install(tmp_path: Path) -> None:
    name, choice, warning = _load("shipped", tmp_path)
    assert (name, choice) == ("reference (shipped)", "shipped")
    assert warning is not None
    assert "scipy-openblas32" in warning


@on_linux
@pytest.mark.parametrize("content", [None, b"", b"\x7fELF is not enough"])
def test_a_path_that_cannot_be_loaded_is_skipped_with_its_reason(tmp_path: Path, content: bytes | None) -> None:
    library = tmp_path / "libbroken.so"
    if content is not None:
        library.write_bytes(content)
    _name, choice, warning = _load(str(library), tmp_path)
    assert choice != "path"
    assert warning is not None
    assert "libbroken.so" in warning


@on_linux
def test_no_writable_cache_falls_back_and_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    _name, choice, warning = _load("openblas", blocked)
    assert choice != "openblas"
    assert warning is not None
    assert warning.startswith("openblas: ")


def test_macos_keeps_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert load_blas("auto", tmp_path).name == "accelerate"


def test_a_cuda_build_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(blas, "_is_installed", lambda name: name == "mlx-cuda-12")
    assert load_blas("auto", tmp_path).name == "none"


@on_linux
def test_coming_too_late_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", sys)
    with pytest.raises(RuntimeError, match=r"mlx\.core"):
        load_blas("auto", tmp_path)
