"""Format of a checkpoint's weights: their packing, and their memory once loaded, from the headers of the files. No MLX.

A packed module has `weight` (32-bit words), `scales` and `biases`, one of each per group of weights, and `quantization` in
`config.json` gives the bits of a weight and the weights per group.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.config_fields import check_claims
from actors.inference.checkpoints.errors import CheckpointMismatch, ModelFileMissing, UnsupportedModel
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


def check_packed(folder: Path, shapes: Mapping[str, tuple[int, ...]], quantization: Mapping[str, Any]) -> None:
    """Raises `CheckpointMismatch` with all tensors at fault, or `UnsupportedModel` if `config.json` does not specify
    the format."""
    modules = quantized_modules(shapes)
    missing = [
        name for module in modules for name in (f"{module}.weight", f"{module}.biases") if name not in shapes
    ]  # fmt: skip
    packed = set(modules)
    unexpected = [name for name in shapes if name.endswith(".biases") and name.removesuffix(".biases") not in packed]
    misshapen: list[str] = []
    for module in modules:
        try:
            group_size, bits = group_size_and_bits(quantization, module)
        except (KeyError, TypeError, ValueError) as error:
            key = error.args[0] if isinstance(error, KeyError) else "group_size and bits as numbers"
            reason = f"{module} is packed, and quantization in config.json has no {key}"
            raise UnsupportedModel(folder=folder, reason=reason) from error
        if f"{module}.weight" in missing or f"{module}.biases" in missing:
            continue
        weight = shapes[f"{module}.weight"]
        groups = (*weight[:-1], weight[-1] * PACKED_BITS // (bits * group_size)) if bits * group_size > 0 else ()
        misshapen += [
            f"{name}: {shapes[name]}, expected {groups} for {bits} bits in groups of {group_size}"
            for name in (f"{module}.scales", f"{module}.biases")
            if shapes[name] != groups
        ]
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(
            folder=folder,
            missing=tuple(sorted(missing)),
            unexpected=tuple(sorted(unexpected)),
            misshapen=tuple(sorted(misshapen)),
        )


def group_size_and_bits(quantization: Mapping[str, Any], module: str) -> tuple[int, int]:
    """Quantization of `module`: its own entry if it has one, else the default."""
    entry = quantization.get(module)
    chosen = entry if isinstance(entry, dict) else quantization
    return int(chosen["group_size"]), int(chosen["bits"])


def quantized_modules(tensors: Iterable[str]) -> list[str]:
    """Modules with packed weights, found by the names of all tensors."""
    return [name.removesuffix(".scales") for name in tensors if name.endswith(".scales")]


def _bits(quantization: dict[str, Any], module: str) -> int:
    entry = quantization.get(module)
    chosen = entry if isinstance(entry, dict) else quantization
    bits = chosen.get("bits")
    # A bad value is reported by name when the weights are read.
    return bits if isinstance(bits, int) and bits > 0 else 4


def _quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    quantization = config.get("quantization")
    return quantization if isinstance(quantization, dict) else {}
