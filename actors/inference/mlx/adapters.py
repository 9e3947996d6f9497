"""Applies LoRA and DoRA adapters to a loaded model, with mlx-lm's own loader.

An adapter is a separate folder with `adapter_config.json` and `adapters.safetensors`, as written by `mlx_lm.lora`, and
has its own manifest: hashes, the base model, and the canary values of both together. Adapters are fused into float32
weights, so serving costs no more than without; for quantized weights they stay separate, since fusing would round them
away.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from actors.inference.checkpoints.errors import (
    CheckpointMismatch,
    ModelFileCorrupt,
    ModelFileMissing,
    UnsupportedModel,
)
from actors.inference.checkpoints.manifest import verify_safetensors_size
from actors.inference.checkpoints.reading import read_checkpoint_json
from actors.inference.mlx.library_imports import keeping_descriptor_limit

with keeping_descriptor_limit():
    from mlx_lm.tuner.utils import load_adapters

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapters.safetensors"

_KINDS = ("lora", "dora")
_PARTS = ("lora_a", "lora_b", "m")


def apply_adapter(model: Any, folder: Path) -> None:
    """Applies the adapter in `folder` to `model`, in place.

    Raises `ModelFileMissing`, `ModelFileTruncated`, `ModelFileCorrupt`, `UnsupportedModel` for an adapter of another
    kind, or `CheckpointMismatch` with the tensors that the model lacks and the parameters without tensors.
    """
    _check_config(folder)
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise ModelFileMissing(path=path)
    verify_safetensors_size(path)
    try:
        load_adapters(model, str(folder))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        # Its message lists the tensors, one per line.
        lines = tuple(line.strip() for line in str(error).splitlines()[1:]) or (str(error),)
        raise CheckpointMismatch(folder=folder, unexpected=lines) from error
    given = set(mx.load(str(path)))
    wanted = {name for name, _array in tree_flatten(model.parameters()) if name.rpartition(".")[2] in _PARTS}
    if wanted - given:
        # mlx-lm silently leaves those at their random initial values, whose effect is zero.
        raise CheckpointMismatch(folder=folder, missing=tuple(sorted(wanted - given)))
    _take_in_where_exact(model)
    model.eval()
    mx.eval(model.parameters())


def _check_config(folder: Path) -> None:
    path = folder / CONFIG_NAME
    config = read_checkpoint_json(path)
    if "peft_type" in config:
        reason = "it is an adapter of the PEFT library, and only those that mlx_lm.lora has trained can be loaded"
        raise UnsupportedModel(folder=folder, reason=reason)
    kind = config.get("fine_tune_type", "lora")
    if kind not in _KINDS:
        raise UnsupportedModel(folder=folder, reason=f"fine_tune_type is {kind!r}, not one of {', '.join(_KINDS)}")
    for key in ("num_layers", "lora_parameters"):
        if key not in config:
            raise ModelFileCorrupt(path=path, reason=f"has no {key}")


def _take_in_where_exact(model: Any) -> None:
    fused = [
        (name, module.fuse())
        for name, module in model.named_modules()
        if hasattr(module, "fuse") and _base_type(module) == mx.float32
    ]
    if fused:
        model.update_modules(tree_unflatten(fused))


def _base_type(module: Any) -> Any:
    base = getattr(module, "linear", None) or getattr(module, "embedding", None)
    if base is None or isinstance(base, nn.QuantizedLinear | nn.QuantizedEmbedding):
        return None
    return base.weight.dtype
