"""Validates the header of a GGUF before MLX reads it. No MLX.

MLX's reader trusts the file: lengths past its end and values of unknown types end the process by SIGSEGV, an alignment
of zero by SIGFPE, and unsupported block formats are silently widened to float16. The layout is that of the GGUF
specification, versions 2 and 3.
"""

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from actors.inference.checkpoints.errors import ModelSourceMismatch
from actors.inference.checkpoints.reading import UnreadableFile, open_regular_file

_UINT32, _STRING, _ARRAY, _FLOAT64 = 4, 8, 9, 12
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, _UINT32: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, _FLOAT64: 8}
_UNREADABLE_VALUES = {_FLOAT64: "FLOAT64"}
"""Value types that MLX's reader mistakes for another and crashes on."""
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34)}
"""Tensor types that MLX reads without conversion: numbers per block, bytes per block."""
_OTHER_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    30: "BF16",
}  # fmt: skip
_MAXIMUM_RANK = 4
_MAXIMUM_PAIRS = 100_000
_MAXIMUM_TENSORS = 100_000
_MAXIMUM_NAME_BYTES = 64 * 1024
"""The specification allows 65,535 for keys and 64 for names of tensors; published names are longer than that."""
_MAXIMUM_ALIGNMENT = 1 << 20
_DEFAULT_ALIGNMENT = 32
_SHOWN_NAME_CHARACTERS = 100
_MAXIMUM_ARRAY_BYTES = 256 * 1024 * 1024
"""All strings of an array together: the vocabularies and merges of published models take some ten million bytes."""


@attrs.frozen
class _Tensor:
    name: str
    offset: int
    size_bytes: int


def check_gguf(path: Path) -> None:
    """Raises `ModelSourceMismatch` unless the whole header can be read and everything in it lies within the file."""
    try:
        with open_regular_file(path) as file:
            _check(file, os.fstat(file.fileno()).st_size)
    except UnreadableFile as error:
        raise ModelSourceMismatch(path=path, reason=f"it {error}") from error
    except (struct.error, EOFError) as error:
        raise ModelSourceMismatch(path=path, reason="it ends within its own header") from error
    except ValueError as error:
        raise ModelSourceMismatch(path=path, reason=str(error)) from error


def _check(file: BinaryIO, size_bytes: int) -> None:
    if file.read(4) != b"GGUF":
        raise ValueError("it is not a GGUF file")
    version, tensor_count, pair_count = _read(file, "IQQ")
    if version not in (2, 3):
        swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
        order = ", in big-endian order" if swapped in (2, 3) else ""
        raise ValueError(
            f"it is a GGUF of version {min(version, swapped)}{order}; only versions 2 and 3 in little-endian order are supported"
        )
    if pair_count > _MAXIMUM_PAIRS or tensor_count > _MAXIMUM_TENSORS:
        raise ValueError(f"it claims {pair_count:,} values and {tensor_count:,} tensors, which is impossible")
    alignment = _read_values(file, pair_count, size_bytes)
    tensors: dict[str, _Tensor] = {}
    for _ in range(tensor_count):
        tensor = _tensor(file, size_bytes)
        if tensor.name in tensors:
            raise ValueError(f"it has the tensor {_shown(tensor.name)} twice")
        if tensor.offset % alignment:
            raise ValueError(f"tensor {_shown(tensor.name)} is not aligned to {alignment} bytes")
        tensors[tensor.name] = tensor
    start = -(-file.tell() // alignment) * alignment
    end = 0
    for tensor in sorted(tensors.values(), key=lambda one: one.offset):
        if tensor.offset < end:
            raise ValueError(f"tensor {_shown(tensor.name)} overlaps the one before it")
        end = tensor.offset + tensor.size_bytes
    if start + end > size_bytes:
        raise ValueError(f"it has {size_bytes:,} bytes, but its tensors extend to {start + end:,}")


def _read_values(file: BinaryIO, count: int, size_bytes: int) -> int:
    """Skips all pairs; returns the alignment of tensors in bytes."""
    alignment = _DEFAULT_ALIGNMENT
    keys: set[str] = set()
    for _ in range(count):
        key = _name(file, size_bytes, "key")
        if key in keys:
            raise ValueError(f"it has the key {_shown(key)} twice")
        keys.add(key)
        kind = _read(file, "I")[0]
        value = _value(file, kind, key, size_bytes)
        if key != "general.alignment":
            continue
        if kind != _UINT32:
            raise ValueError("its general.alignment is not a UINT32")
        # A power of two, as llama.cpp requires; the specification says a multiple of eight.
        if value < 8 or value & (value - 1) or value > _MAXIMUM_ALIGNMENT:
            raise ValueError(f"its general.alignment is {value}, not a power of two from 8 to {_MAXIMUM_ALIGNMENT:,}")
        alignment = value
    return alignment


def _tensor(file: BinaryIO, size_bytes: int) -> _Tensor:
    name = _name(file, size_bytes, "tensor's name")
    rank = _read(file, "I")[0]
    if not 1 <= rank <= _MAXIMUM_RANK:
        raise ValueError(f"tensor {_shown(name)} has {rank} dimensions")
    dimensions = _read(file, f"{rank}Q")
    kind, offset = _read(file, "IQ")
    if kind not in _BLOCKS:
        raise ValueError(
            f"tensor {_shown(name)} is of type {_OTHER_TYPES.get(kind, kind)}, and only F32, F16, Q4_0, Q4_1 and Q8_0 can "
            "be read without loss"
        )
    numbers, block_bytes = _BLOCKS[kind]
    if min(dimensions) == 0 or max(dimensions) > size_bytes * numbers:
        raise ValueError(f"tensor {_shown(name)} has the shape {' × '.join(map(str, dimensions))}, which is impossible")
    # A row, the first dimension, consists of whole blocks.
    if dimensions[0] % numbers:
        raise ValueError(f"tensor {_shown(name)} has rows of {dimensions[0]}, which is not a multiple of {numbers}")
    return _Tensor(name=name, offset=int(offset), size_bytes=math.prod(dimensions) // numbers * block_bytes)


def _value(file: BinaryIO, kind: int, key: str, size_bytes: int) -> int:
    """Skips a value. Returns it if it is an integer, because one of them is needed, else 0."""
    if kind == _STRING:
        _text(file, size_bytes, f"the value of {_shown(key)}")
        return 0
    if kind == _ARRAY:
        element, count = _read(file, "IQ")
        _check_kind(element, key)
        if element == _STRING:
            _skip_strings(file, count, key, size_bytes)
        else:
            _skip(file, count * _SCALAR_BYTES[element], size_bytes)
        return 0
    _check_kind(kind, key)
    raw = file.read(_SCALAR_BYTES[kind])
    if len(raw) < _SCALAR_BYTES[kind]:
        raise EOFError
    return int.from_bytes(raw, "little")


def _check_kind(kind: int, key: str) -> None:
    if kind in _UNREADABLE_VALUES:
        raise ValueError(f"its value {_shown(key)} is of type {_UNREADABLE_VALUES[kind]}, which is not supported")
    if kind == _ARRAY:
        raise ValueError(f"its value {_shown(key)} is an array of arrays, which is not supported")
    if kind != _STRING and kind not in _SCALAR_BYTES:
        raise ValueError(f"its value {_shown(key)} is of the unknown type {kind}")


def _skip_strings(file: BinaryIO, count: int, key: str, size_bytes: int) -> None:
    total = 0
    if count > size_bytes // 8:
        raise EOFError
    for _ in range(count):
        total += len(_text(file, size_bytes, f"the value of {_shown(key)}"))
        if total > _MAXIMUM_ARRAY_BYTES:
            raise ValueError(f"its value {_shown(key)} has more than {_MAXIMUM_ARRAY_BYTES:,} bytes")


def _name(file: BinaryIO, size_bytes: int, what: str) -> str:
    name = _text(file, size_bytes, f"a {what}", _MAXIMUM_NAME_BYTES)
    if not name or "\0" in name:
        raise ValueError(f"it has a {what} that is empty or contains NUL")
    return name


def _text(file: BinaryIO, size_bytes: int, what: str, maximum_bytes: int | None = None) -> str:
    length = _read(file, "Q")[0]
    if length > size_bytes:
        raise EOFError
    if maximum_bytes is not None and length > maximum_bytes:
        raise ValueError(f"it has {what} of {length:,} bytes")
    content = file.read(length)
    if len(content) < length:
        raise EOFError
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 text") from error


def _skip(file: BinaryIO, count_bytes: int, size_bytes: int) -> None:
    if file.tell() + count_bytes > size_bytes:
        raise EOFError
    file.seek(count_bytes, 1)


def _shown(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME_CHARACTERS else f"{name[:_SHOWN_NAME_CHARACTERS]}…"


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))
