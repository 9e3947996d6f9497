"""Computes the memory of a checkpoint's loaded weights from the headers of its files. No MLX."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.config_claims import check_claims
from actors.inference.checkpoints.errors import ModelFileMissing
from actors.inference.checkpoints.manifest import safetensors_tensors
from actors.inference.checkpoints.reading import read_checkpoint_json

_WIDTH_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
"""Bytes per number by its type name in the file; all others take one."""
FLOAT32_BYTES = 4
PACKED_BITS = 32
PACKED_FORMS = (4, 8)
"""Bits of a packed weight,"""
SMALLEST_GROUP = 32
"""and divisor of the number of weights per scale, that compiled kernels support."""


def stays_packed(config: Mapping[str, Any]) -> bool:
    """True if compiled kernels can use the checkpoint's packed weights as they are (`kernels/`)."""
    if config.get("model_type") != "phi3":
        return False
    quantization = config.get("quantization")
    if not isinstance(quantization, dict):
        return False
    forms = [quantization, *(entry for entry in quantization.values() if isinstance(entry, dict))]
    return quantization.get("mode", "affine") == "affine" and all(
        form.get("bits") in PACKED_FORMS
        and isinstance(form.get("group_size"), int)
        and form["group_size"] % SMALLEST_GROUP == 0
        for form in forms
    )


def loaded_bytes(folder: Path, *, as_float32: bool, may_stay_packed: bool = False) -> int:
    """Bytes of all parameters, as stored in the files or as loaded by `load_checkpoint` for a CPU.

    For a CPU every weight becomes float32. Packed weights are unpacked, unless they `may_stay_packed` and have a
    supported form; then their scales and biases become float32. Raises `ModelFileMissing`, `ModelFileTruncated`,
    `ModelFileCorrupt`, or `UnsupportedModel` if the tensors contradict `config.json`.
    """
    paths = sorted(folder.glob("model*.safetensors"))
    if not paths:
        raise ModelFileMissing(path=folder / "model.safetensors")
    config = read_checkpoint_json(folder / "config.json")
    quantization = _quantization(config)
    stay_packed = may_stay_packed and stays_packed(config)
    total = 0
    tensors_of = {path: safetensors_tensors(path) for path in paths}
    check_claims(folder, config, itertools.chain.from_iterable(tensors_of.values()))
    for tensors in tensors_of.values():
        packed = {name.removesuffix(".scales") for name in tensors if name.endswith(".scales")}
        for name, (kind, shape) in tensors.items():
            count = math.prod(shape)
            module, _, part = name.rpartition(".")
            if not as_float32:
                total += count * _WIDTH_BYTES.get(kind, 1)
            elif module not in packed or (stay_packed and part != "weight"):
                total += count * FLOAT32_BYTES
            elif stay_packed:
                total += count * _WIDTH_BYTES.get(kind, 1)
            elif part == "weight":
                total += count * PACKED_BITS // _bits(quantization, module) * FLOAT32_BYTES
    return total


def _bits(quantization: dict[str, Any], module: str) -> int:
    entry = quantization.get(module)
    chosen = entry if isinstance(entry, dict) else quantization
    bits = chosen.get("bits")
    # A bad value is reported by name when the weights are read.
    return bits if isinstance(bits, int) and bits > 0 else 4


def _quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    quantization = config.get("quantization")
    return quantization if isinstance(quantization, dict) else {}
