"""A damaged GGUF is refused before MLX's reader, which a damaged one can kill."""

import contextlib
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.checkpoints.errors import ModelSourceMismatch
from actors.inference.checkpoints.gguf_header import check_gguf
from actors.inference.mlx.convert import Options, convert
from actors.inference.mlx.gguf_probe import probe_gguf
from actors.inference.mlx.gguf_repack import repack_gguf


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


# --- headers written by hand ------------------------------------------------------------------------


def text(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(raw)) + raw


def value(key: str | bytes, kind: int, content: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + content


def number(key: str, content: int) -> bytes:
    return value(key, 4, struct.pack("<I", content))


def tensor(name: str | bytes = "a.weight", dimensions: Sequence[int] = (8, 4), kind: int = 0, offset: int = 0) -> bytes:
    return b"".join(
        (
            text(name),
            struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions),
            struct.pack("<IQ", kind, offset),
        )
    )


def write(path: Path, *values: bytes, tensors: Sequence[bytes] = (tensor(),), version: int = 3) -> Path:
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(values))
    path.write_bytes(head + b"".join(values) + b"".join(tensors) + bytes(1024))
    return path


STRINGS_OF_ONE = struct.pack("<IQ", 8, 1)
HARMFUL = {
    "float64": ([value("x", 12, struct.pack("<d", 1.5))], "x is of type FLOAT64"),
    "float64s": ([value("x", 9, struct.pack("<IQd", 12, 1, 1.5))], "x is of type FLOAT64"),
    "arrays-of-arrays": ([value("x", 9, struct.pack("<IQIQI", 9, 1, 4, 1, 5))], "array of arrays"),
    "unknown-type": ([value("x", 13, bytes(8))], "unknown type 13"),
    "unknown-type-of-array": ([value("x", 9, struct.pack("<IQ", 200, 1))], "unknown type 200"),
    "alignment-0": ([number("general.alignment", 0)], "alignment is 0"),
    "alignment-3": ([number("general.alignment", 3)], "alignment is 3"),
    "alignment-24": ([number("general.alignment", 24)], "alignment is 24"),
    "alignment-huge": ([number("general.alignment", 0xFFFFFFFF)], "alignment is 4294967295"),
    "alignment-of-64-bits": ([value("general.alignment", 10, struct.pack("<Q", 32))], "not a UINT32"),
    "alignment-text": ([value("general.alignment", 8, text("32"))], "not a UINT32"),
    "key-twice": ([number("x", 1), number("x", 2)], "key x twice"),
    "key-empty": ([number("", 1)], "key that is empty"),
    "key-not-utf8": ([value(b"\xff", 4, bytes(4))], "not UTF-8"),
    "value-not-utf8": ([value("x", 8, text(b"\xff\xfe"))], "not UTF-8"),
    "strings-not-utf8": ([value("x", 9, STRINGS_OF_ONE + text(b"\xff"))], "not UTF-8"),
    "strings-without-end": ([value("x", 9, struct.pack("<IQ", 8, 2**60))], "ends within"),
    "numbers-without-end": ([value("x", 9, struct.pack("<IQ", 11, 2**61))], "ends within"),
    "text-without-end": ([value("x", 8, struct.pack("<Q", 2**63))], "ends within"),
}
HARMFUL_TENSORS = {
    "no-dimensions": ([tensor(dimensions=())], "0 dimensions"),
    "five-dimensions": ([tensor(dimensions=(1, 1, 1, 1, 1))], "5 dimensions"),
    "nothing": ([tensor(dimensions=(8, 0))], "8 × 0"),
    "overflow": ([tensor(dimensions=(2**33, 2**31))], "is impossible"),
    "overflow-to-nothing": ([tensor(dimensions=(2**32, 2**32))], "is impossible"),
    "half-a-block": ([tensor(dimensions=(48, 2), kind=2)], "multiple of 32"),
    "half-a-block-that-adds-up": ([tensor(dimensions=(16, 2), kind=8)], "multiple of 32"),
    "beyond-the-end": ([tensor(dimensions=(8, 800))], "extend to"),
    "place-beyond-all": ([tensor(offset=2**64 - 64)], "extend to"),
    "off-the-border": ([tensor(offset=1)], "aligned to 32"),
    "twice": ([tensor(), tensor(offset=128)], "twice"),
    "one-over-another": ([tensor(), tensor("b.weight", offset=64)], "overlaps the one before"),
    "name-empty": ([tensor("")], "name that is empty"),
    "name-nul": ([tensor("a\0b")], "contains NUL"),
    "name-not-utf8": ([tensor(b"\xff.weight")], "not UTF-8"),
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_tk24_a_value_that_harms_the_native_reader_is_refused_before_it(tmp_path: Path, harm: str) -> None:
    values, reason = HARMFUL[harm]
    with pytest.raises(ModelSourceMismatch, match=reason):
        check_gguf(write(tmp_path / "harmful.gguf", *values))


@pytest.mark.parametrize("harm", HARMFUL_TENSORS)
def test_tk24_a_tensor_that_cannot_be_is_refused_before_the_native_reader(tmp_path: Path, harm: str) -> None:
    tensors, reason = HARMFUL_TENSORS[harm]
    with pytest.raises(ModelSourceMismatch, match=reason):
        check_gguf(write(tmp_path / "harmful.gguf", tensors=tensors))


@pytest.mark.parametrize(("version", "reason"), [(1, "version 1;"), (4, "version 4;"), (3 << 24, "big-endian")])
def test_other_versions_and_orders_of_bytes_are_refused_by_name(tmp_path: Path, version: int, reason: str) -> None:
    with pytest.raises(ModelSourceMismatch, match=reason):
        check_gguf(write(tmp_path / "other.gguf", version=version))


def test_counts_beyond_any_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1, 2**62))
    with pytest.raises(ModelSourceMismatch, match="which is impossible"):
        check_gguf(path)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 7, 10, 11])
def test_values_of_all_other_types_pass(tmp_path: Path, kind: int) -> None:
    width = {0: 1, 1: 1, 2: 2, 3: 2, 7: 1}.get(kind, 8 if kind >= 10 else 4)
    one, several = value("x", kind, bytes(width)), value("y", 9, struct.pack("<IQ", kind, 3) + bytes(3 * width))
    check_gguf(write(tmp_path / "whole.gguf", one, several))


def test_tk24_what_kills_the_reader_all_the_same_is_a_sentence(tmp_path: Path) -> None:
    # The check would refuse it; the probe has to survive what no check knows.
    path = write(tmp_path / "deadly.gguf", value("x", 12, struct.pack("<d", 1.5)))
    with pytest.raises(ModelSourceMismatch, match="ends MLX's reader by SIGSEGV"):
        probe_gguf(path)


def test_tk24_a_file_to_convert_is_read_where_that_may_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.inference.mlx.convert.check_gguf", lambda _path: None)
    path = write(tmp_path / "deadly.gguf", value("x", 12, struct.pack("<d", 1.5)))
    with pytest.raises(ModelSourceMismatch, match="SIGSEGV"):
        convert(path, tmp_path / "made", Options(), lambda _phase, _fraction: None)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "values",
    [
        [number("llama.attention.head_count", 0), number("llama.attention.head_count_kv", 0)],
        [value("llama.attention.head_count", 8, text("many")), number("llama.attention.head_count_kv", 1)],
        [
            value("llama.attention.head_count", 9, struct.pack("<IQII", 4, 2, 1, 1)),
            number("llama.attention.head_count_kv", 1),
        ],
    ],
    ids=["none", "text", "list"],
)
def test_values_that_do_not_fit_are_a_refusal(tmp_path: Path, values: list[bytes]) -> None:
    rows = math.prod((8, 4)) * 4
    names = ("token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight")
    path = write(
        tmp_path / "odd.gguf",
        value("general.architecture", 8, text("llama")),
        number("llama.block_count", 1),
        *values,
        tensors=[tensor(name, offset=rows * place) for place, name in enumerate(names)],
    )
    check_gguf(path)
    with pytest.raises(ModelSourceMismatch):
        repack_gguf(path)
