"""A damaged GGUF is refused before MLX's reader, which a damaged one can kill."""

import contextlib
import struct
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.models.errors import ModelSourceMismatch
from actors.inference.models.gguf_header import check_gguf


def _write(path: Path) -> bytes:
    arrays = {"a.weight": mx.ones((8, 32)), "b.weight": mx.ones((4, 64), mx.float16)}
    metadata = {"general.architecture": "llama", "names": ["one", "two"], "count": mx.array(7, mx.uint32)}
    mx.save_gguf(str(path), arrays, metadata)
    return path.read_bytes()


def test_a_whole_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "whole.gguf"
    _write(path)
    check_gguf(path)


@pytest.mark.parametrize("kept_bytes", [0, 3, 10, 24, 60, 150, -1])
def test_a_cut_file_is_refused_by_name(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(_write(path)[:kept_bytes])
    with pytest.raises(ModelSourceMismatch, match=r"cut\.gguf"):
        check_gguf(path)


def test_a_type_that_would_be_widened_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "k.gguf"
    content = _write(path)
    at = content.index(b"b.weight") + len(b"b.weight") + 4 + 16
    path.write_bytes(content[:at] + struct.pack("<I", 12) + content[at + 4 :])
    with pytest.raises(ModelSourceMismatch, match=r"b\.weight is of type Q4_K"):
        check_gguf(path)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_bytes_end_in_our_error_or_in_none(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "any.gguf"
    content = bytearray(_write(path)[:400])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(ModelSourceMismatch):
        check_gguf(path)
