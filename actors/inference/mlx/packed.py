"""Format of a checkpoint's packed weights: bits and group size of each module, and the check that its parts are
complete. No MLX.

A packed module has `weight` (32-bit words), `scales` and `biases`, one of each per group of weights, and `quantization`
in `config.json` gives the bits of a weight and the weights per group.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.errors import CheckpointMismatch, UnsupportedModel

WORD_BITS = 32


def quantized_modules(tensors: Iterable[str]) -> list[str]:
    """Modules with packed weights, found by the names of all tensors."""
    return [name.removesuffix(".scales") for name in tensors if name.endswith(".scales")]


def group_size_and_bits(quantization: Mapping[str, Any], module: str) -> tuple[int, int]:
    """Quantization of `module`: its own entry if it has one, else the default."""
    entry = quantization.get(module)
    chosen = entry if isinstance(entry, dict) else quantization
    return int(chosen["group_size"]), int(chosen["bits"])


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
        groups = (*weight[:-1], weight[-1] * WORD_BITS // (bits * group_size)) if bits * group_size > 0 else ()
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
