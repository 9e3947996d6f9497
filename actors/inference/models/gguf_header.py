"""Walk through the header of a GGUF before MLX reads it. No MLX here.

MLX's reader trusts the file: lengths that point past the end of it end the process by SIGSEGV, and block formats that
MLX does not have are silently widened to float16. The layout is that of the GGUF specification, versions 2 and 3.
"""

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from actors.inference.models.errors import ModelSourceMismatch

_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34)}
"""Of a tensor type that MLX reads as it is: numbers in a block, bytes of a block."""
_OTHER_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    30: "BF16",
}  # fmt: skip
_MOST_DIMENSIONS = 4
_MOST_DEPTH = 4


def check_gguf(path: Path) -> None:
    """Raise `ModelSourceMismatch` unless everything that the header points to lies within the file, in readable types."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        try:
            _check(file, size_bytes)
        except (struct.error, EOFError) as error:
            raise ModelSourceMismatch(path=path, reason="it ends within its own header") from error
        except ValueError as error:
            raise ModelSourceMismatch(path=path, reason=str(error)) from error


def _check(file: BinaryIO, size_bytes: int) -> None:
    if file.read(4) != b"GGUF":
        raise ValueError("it is no GGUF file")
    version, tensor_count, pair_count = _read(file, "IQQ")
    if version not in (2, 3):
        raise ValueError(f"it is a GGUF of version {version}, and 2 and 3 can be read")
    alignment = 32
    for _ in range(pair_count):
        key = _string(file, size_bytes)
        value = _value(file, _read(file, "I")[0], size_bytes, _MOST_DEPTH)
        if key == b"general.alignment" and isinstance(value, int) and value > 0:
            alignment = value
    ends = [_tensor_end(file, size_bytes) for _ in range(tensor_count)]
    start = -(-file.tell() // alignment) * alignment
    needed_bytes = start + max(ends, default=0)
    if needed_bytes > size_bytes:
        raise ValueError(f"it has {size_bytes} bytes, and its tensors reach to {needed_bytes}")


def _tensor_end(file: BinaryIO, size_bytes: int) -> int:
    name = _string(file, size_bytes).decode("utf-8", "replace")
    dimensions = _read(file, "I")[0]
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(f"tensor {name} has {dimensions} dimensions")
    count: int = math.prod(_read(file, f"{dimensions}Q"))
    kind, offset = _read(file, "IQ")
    if kind not in _BLOCKS:
        raise ValueError(
            f"tensor {name} is of type {_OTHER_TYPES.get(kind, kind)}, and only F32, F16, Q4_0, Q4_1 and Q8_0 can be read "
            "without loss"
        )
    numbers, block_bytes = _BLOCKS[kind]
    return int(offset) + -(-count // numbers) * block_bytes


def _value(file: BinaryIO, kind: int, size_bytes: int, depth: int) -> Any:
    """Step over a value; whole numbers come back, since one of them matters."""
    if kind == _STRING:
        return _string(file, size_bytes)
    if kind == _ARRAY:
        element, count = _read(file, "IQ")
        if element in _SCALAR_BYTES:
            return _skip(file, count * _SCALAR_BYTES[element], size_bytes)
        if depth == 0 or count > size_bytes:
            raise ValueError("it has an array that cannot be")
        for _ in range(count):
            _value(file, element, size_bytes, depth - 1)
        return None
    if kind not in _SCALAR_BYTES:
        raise ValueError(f"it has a value of unknown type {kind}")
    raw = file.read(_SCALAR_BYTES[kind])
    if len(raw) < _SCALAR_BYTES[kind]:
        raise EOFError
    return int.from_bytes(raw, "little")


def _string(file: BinaryIO, size_bytes: int) -> bytes:
    length = _read(file, "Q")[0]
    if length > size_bytes:
        raise EOFError
    content = file.read(length)
    if len(content) < length:
        raise EOFError
    return content


def _skip(file: BinaryIO, count_bytes: int, size_bytes: int) -> None:
    if file.tell() + count_bytes > size_bytes:
        raise EOFError
    file.seek(count_bytes, 1)


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))
