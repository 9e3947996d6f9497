"""The repacked weights are those of the GGUF, bit for bit, read here by a small reader of our own."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import numpy
import pytest
from mlx import nn
from mlx.utils import tree_flatten

from actors.inference.checkpoints.errors import ModelSourceMismatch
from actors.inference.mlx.gguf_repack import repack_gguf, undo_rotary_interleaving
from actors.inference.mlx.load import LoadedModel, load_checkpoint

Array = numpy.ndarray[Any, numpy.dtype[numpy.float32]]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_F32, _Q4_1, _Q8_0 = 0, 3, 8
_Q4_1_BLOCK = numpy.dtype([("scale", "<f2"), ("minimum", "<f2"), ("nibbles", "u1", 16)])
_Q8_0_BLOCK = numpy.dtype([("scale", "<f2"), ("values", "i1", 32)])


def read_gguf(path: Path) -> dict[str, Array]:
    """All tensors in float32, by the published layout of GGUF version 3."""
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
        _version, tensor_count, pair_count = _unpack(file, "IQQ")
        for _ in range(pair_count):
            _read_string(file)
            _read_value(file, _unpack(file, "I")[0])
        infos = []
        for _ in range(tensor_count):
            name = _read_string(file)
            dimensions = _unpack(file, f"{_unpack(file, 'I')[0]}Q")
            kind, offset = _unpack(file, "IQ")
            infos.append((name, dimensions[::-1], kind, offset))
        start = -(-file.tell() // 32) * 32
    content = numpy.fromfile(path, numpy.uint8)[start:]
    return {name: _dequantize(content[offset:], shape, kind) for name, shape, kind, offset in infos}


def _dequantize(content: Any, shape: tuple[int, ...], kind: int) -> Array:
    count = int(numpy.prod(shape))
    if kind == _F32:
        return content[: count * 4].view(numpy.float32).reshape(shape)  # type: ignore[no-any-return]
    block = {_Q4_1: _Q4_1_BLOCK, _Q8_0: _Q8_0_BLOCK}[kind]
    blocks = content[: count // 32 * block.itemsize].view(block)
    scale = blocks["scale"].astype(numpy.float32)[:, None]
    if kind == _Q8_0:
        return (blocks["values"] * scale).reshape(shape)  # type: ignore[no-any-return]
    integers = numpy.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    return (integers * scale + blocks["minimum"].astype(numpy.float32)[:, None]).reshape(shape)  # type: ignore[no-any-return]


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))


def _read_string(file: BinaryIO) -> str:
    return file.read(_unpack(file, "Q")[0]).decode()


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == 8:
        return _read_string(file)
    if kind == 9:
        element, count = _unpack(file, "IQ")
        return [_read_value(file, element) for _ in range(count)]
    return _unpack(file, _SCALARS[kind])[0]


def _halves(rows: Array, heads: int) -> Array:
    """Rows `2i` and `2i + 1` of a head brought to `i` and `i + head_dim / 2`, one by one."""
    head_dim = rows.shape[0] // heads
    order = [head * head_dim + row for head in range(heads) for row in (*range(0, head_dim, 2), *range(1, head_dim, 2))]
    return rows[order]


def _as_numbers(loaded: LoadedModel) -> dict[str, mx.array]:
    """All parameters, those that are packed as the numbers that they stand for."""
    parameters = dict(tree_flatten(loaded.model.parameters()))
    for path, module in loaded.model.named_modules():
        if isinstance(module, (nn.QuantizedLinear, nn.QuantizedEmbedding)):
            scales, biases = parameters.pop(f"{path}.scales"), parameters.pop(f"{path}.biases")
            parameters[f"{path}.weight"] = mx.dequantize(
                parameters[f"{path}.weight"], scales, biases, group_size=module.group_size, bits=module.bits
            )
    return parameters


def test_interleaved_rows_are_brought_to_halves() -> None:
    rows = mx.arange(8 * 3).reshape(8, 3)
    assert undo_rotary_interleaving(rows, 2)[:, 0].tolist() == [0, 6, 3, 9, 12, 18, 15, 21]


def test_a_file_that_is_no_gguf_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(b"not a GGUF at all" * 10)
    with pytest.raises(ModelSourceMismatch, match=r"other\.gguf"):
        repack_gguf(path)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    mx.save_gguf(str(path), {"a.weight": mx.zeros((32,))}, {"general.architecture": "mamba"})
    with pytest.raises(ModelSourceMismatch, match="mamba"):
        repack_gguf(path)


@pytest.mark.mlx_real_inference
@pytest.mark.parametrize("may_compile", [False, True])
def test_every_loaded_parameter_is_that_of_the_gguf(
    source_gguf: Path, embedded_model: Path, *, may_compile: bool
) -> None:
    source = read_gguf(source_gguf)
    parameters = _as_numbers(load_checkpoint(embedded_model, "cpu", may_compile=may_compile))

    def check(name: str, *expected: Array) -> None:
        numpy.testing.assert_array_equal(numpy.asarray(parameters.pop(f"{name}.weight")), numpy.concatenate(expected))

    def take(name: str) -> Array:
        return source.pop(f"{name}.weight")

    check("model.embed_tokens", take("token_embd"))
    check("model.norm", take("output_norm"))
    for index in range(30):
        old, new = f"blk.{index}", f"model.layers.{index}"
        query, key = _halves(take(f"{old}.attn_q"), 9), _halves(take(f"{old}.attn_k"), 3)
        check(f"{new}.self_attn.qkv_proj", query, key, take(f"{old}.attn_v"))
        check(f"{new}.self_attn.o_proj", take(f"{old}.attn_output"))
        check(f"{new}.mlp.gate_up_proj", take(f"{old}.ffn_gate"), take(f"{old}.ffn_up"))
        check(f"{new}.mlp.down_proj", take(f"{old}.ffn_down"))
        check(f"{new}.input_layernorm", take(f"{old}.attn_norm"))
        check(f"{new}.post_attention_layernorm", take(f"{old}.ffn_norm"))
    assert not source
    assert not parameters
