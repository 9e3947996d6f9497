"""How much memory a checkpoint's weights take once they are loaded, from the headers of its files. No MLX here."""

import json
import math
from pathlib import Path
from typing import Any

from actors.inference.models.errors import ModelFileCorrupt, ModelFileMissing
from actors.inference.models.manifest import safetensors_tensors

_WIDTH_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
"""Bytes of one number by its name in the file; all others take one."""
FLOAT32_BYTES = 4
PACKED_BITS = 32


def loaded_bytes(folder: Path, *, as_float32: bool) -> int:
    """Bytes of all parameters: as they are in the files, or as `load_checkpoint` spreads them on a CPU.

    There every weight becomes a float32, and packed ones are unpacked. Raises `ModelFileMissing`, `ModelFileTruncated` or
    `ModelFileCorrupt`.
    """
    paths = sorted(folder.glob("model*.safetensors"))
    if not paths:
        raise ModelFileMissing(path=folder / "model.safetensors")
    quantization = _quantization(folder)
    total = 0
    for path in paths:
        tensors = safetensors_tensors(path)
        packed = {name.removesuffix(".scales") for name in tensors if name.endswith(".scales")}
        for name, (kind, shape) in tensors.items():
            count = math.prod(shape)
            module, _, part = name.rpartition(".")
            if not as_float32:
                total += count * _WIDTH_BYTES.get(kind, 1)
            elif module not in packed:
                total += count * FLOAT32_BYTES
            elif part == "weight":
                total += count * PACKED_BITS // _bits(quantization, module) * FLOAT32_BYTES
    return total


def _bits(quantization: dict[str, Any], module: str) -> int:
    entry = quantization.get(module)
    chosen = entry if isinstance(entry, dict) else quantization
    return int(chosen.get("bits", 4))


def _quantization(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFileMissing(path=path) from error
    except ValueError as error:
        raise ModelFileCorrupt(path=path, reason="is not JSON") from error
    quantization = config.get("quantization") if isinstance(config, dict) else None
    return quantization if isinstance(quantization, dict) else {}
