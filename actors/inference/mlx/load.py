"""Make a model of `mlx_lm` out of a checkpoint folder, with every parameter from the checkpoint or not at all.

On the CPU everything is computed in float32, the fastest type there: compiled code reads packed weights as they are, for
MLX they are dequantized. On Metal and CUDA they stay as they are.
"""

import importlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import attrs
import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from actors.inference.checkpoints.errors import (
    CheckpointMismatch,
    ModelFileCorrupt,
    ModelFileMissing,
    ModelTooLarge,
    UnsupportedModel,
)
from actors.inference.checkpoints.loaded_size import loaded_bytes, stays_packed
from actors.inference.checkpoints.manifest import MANIFEST_NAME, verify_files, verify_safetensors_size
from actors.inference.checkpoints.reading import read_checkpoint_json
from actors.inference.checkpoints.stop_tokens import stop_token_ids
from actors.inference.kernels.jit_cache import import_compiled, is_to_be_made, use_compiled
from actors.inference.kernels.thread_pool import ThreadPool
from actors.inference.memory_fit import available_memory_bytes, loading_bytes, measured_free_bytes
from actors.inference.mlx.library_imports import keeping_descriptor_limit
from actors.inference.mlx.packed import check_packed, group_size_and_bits, quantized_modules
from actors.inference.mlx.single_row import use_single_row_products

Device = Literal["cpu", "metal", "cuda"]

_DEQUANTIZING_STREAMS = min(4, os.cpu_count() or 1)
_AT_ONCE_BYTES = 128 * 1024 * 1024
SPREAD_BYTES = 2 * 1024**3
"""Weights of float32 up to which a model is computed by MLX until compiled code is there."""

_OWN_CLASSES = {"phi3": "actors.inference.mlx.phi3"}
"""Model types for which mlx-lm's class differs from the reference, and where ours is."""


@attrs.frozen(kw_only=True, eq=False)
class LoadedModel:
    """A model ready to step, and what is true of it."""

    model: Any
    """The `Model` of `mlx_lm.models.<model_type>`, evaluated. Belongs to the thread that loaded it."""
    config: dict[str, Any]
    """Content of `config.json`."""
    dtype: str
    """Type of the weights as run: `float32`, `bfloat16`, `4-bit float32` …"""
    parameter_bytes: int
    """Memory of all parameters, in bytes."""
    parameter_count: int
    """Number of weights before quantization."""
    every_parameter_from_checkpoint: bool
    """Whether each array in the model, before the adapter, is one that was read from the checkpoint."""
    context_length_tokens: int
    """The most tokens of prompt and answer together. The model's text is that of the reference for as many, but after
    `serve_long_context`."""
    vocabulary_size: int
    """Number of logits."""
    stop_token_ids: frozenset[int]
    """Tokens that end an answer."""
    has_single_row_products: bool
    """Whether decoding for one client goes through `single_row.py`."""
    threads: ThreadPool | None
    """Those that compute layers and head in compiled code; None where MLX does it."""
    uncompiled: str | None
    """Why it does not, where it could be expected; None where it does, or nobody would expect it."""


def available_device() -> Device:
    """The best device of this build of MLX."""
    if mx.metal.is_available():
        return "metal"
    return "cuda" if mx.cuda.is_available() else "cpu"


def load_checkpoint(
    folder: Path,
    device: Device,
    *,
    adapter: Path | None = None,
    is_memory_bounded: bool = False,
    may_compile: bool = True,
) -> LoadedModel:
    """Load the checkpoint in `folder`, with the adapter in `adapter` if there is one, and make `device` MLX's default.

    With `is_memory_bounded` a person has set what models may take, and what the system says is free is not asked. Where
    `may_compile`, a Phi-3 on a CPU is computed by compiled code (`kernels/`).

    Raises `ModelFileMissing`, `ModelFileTruncated`, `ModelFileCorrupt`, `ModelTooLarge`, `UnsupportedModel`, or `CheckpointMismatch` with
    the tensors that are missing, unexpected or of the wrong shape. Call it in the thread that will step the model.
    """
    mx.set_default_device(mx.cpu if device == "cpu" else mx.gpu)
    if (folder / MANIFEST_NAME).exists():
        verify_files(folder)
    config = read_checkpoint_json(folder / "config.json")
    # With an adapter they are spread, since taking it in would round packed ones away.
    stay_packed = device == "cpu" and may_compile and adapter is None and stays_packed(config) and not import_compiled()
    weights_bytes = loaded_bytes(folder, as_float32=device == "cpu", may_stay_packed=stay_packed)
    if not is_memory_bounded:
        check_memory(folder, weights_bytes, device)
    tensors = _read_tensors(folder)
    model = _build_model(folder, config)
    if hasattr(model, "sanitize"):
        tensors = model.sanitize(tensors)
    quantization = _quantization(folder, config)
    check_packed(folder, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, quantization)
    parameter_count = _parameter_count(tensors, quantization)
    if stay_packed:
        tensors = _as_packed(tensors)
        _quantize_like(model, tensors, quantization)
    elif device == "cpu":
        tensors = _as_float32(tensors, quantization)
    else:
        tensors = _as_one_type(tensors, config)
        _quantize_like(model, tensors, quantization)
    _check_fit(folder, model, tensors)
    model.load_weights(list(tensors.items()), strict=True)
    model.eval()
    mx.eval(model.parameters())
    parameters = dict(tree_flatten(model.parameters()))
    from_checkpoint = all(parameters[name] is tensors.get(name) for name in parameters)
    if adapter is not None:
        # Imported here: mlx-lm's trainer comes with it.
        from actors.inference.mlx.adapters import apply_adapter

        apply_adapter(model, adapter)
        parameters = dict(tree_flatten(model.parameters()))
    threads, uncompiled = use_compiled(model) if device == "cpu" and may_compile else (None, None)
    has_single_row_products = device == "cpu" and threads is None and use_single_row_products(model)
    return LoadedModel(
        model=model,
        config=config,
        dtype=_type_name(tensors, quantization),
        parameter_bytes=sum(parameter.nbytes for parameter in parameters.values()),
        parameter_count=parameter_count,
        every_parameter_from_checkpoint=from_checkpoint,
        context_length_tokens=_context_length_tokens(model, config),
        vocabulary_size=int(config["vocab_size"]),
        stop_token_ids=stop_token_ids(folder, config),
        has_single_row_products=has_single_row_products,
        threads=threads,
        uncompiled=uncompiled,
    )


def waits_for_code(folder: Path, adapter: Path | None, is_memory_bounded: bool) -> bool:
    """Whether MLX shall compute a checkpoint until another process has made compiled code: where that is quicker than to wait.

    It is not for a large one, whose weights MLX wants as float32. Nor where a person has set what models may take, which
    spread weights are not counted in.
    """
    if not is_to_be_made() or is_memory_bounded or adapter is not None:
        return False
    if not stays_packed(read_checkpoint_json(folder / "config.json")):
        return False
    return loaded_bytes(folder, as_float32=True) <= SPREAD_BYTES


def serve_long_context(loaded: LoadedModel) -> LoadedModel:
    """The same model with its long factors at every length, served as long as its configuration says.

    Only longrope has such factors; any other model comes back as it is. The text of sequences up to the trained length is
    then not the reference's: who serves it has to say so.
    """
    rotary = getattr(loaded.model.args, "rotary", None)
    if rotary is None or not rotary.is_longrope:
        return loaded
    loaded.model.take_long_factors()
    return attrs.evolve(loaded, context_length_tokens=int(loaded.config["max_position_embeddings"]))


def check_memory(folder: Path, weights_bytes: int, device: Device) -> None:
    """Raises `ModelTooLarge` where weights of that size cannot be loaded, before a system without memory ends the process."""
    # What a graphics card of its own has free is not in the system's figures.
    free_bytes = None if device == "cuda" else available_memory_bytes(0)
    # Elsewhere nothing is spread: the weights are held as they are read.
    needed_bytes = loading_bytes(weights_bytes) if device == "cpu" else weights_bytes
    if free_bytes is not None and needed_bytes > free_bytes:
        raise ModelTooLarge(
            folder=folder, needed_bytes=needed_bytes, free_bytes=free_bytes, device=device,
            is_measured=measured_free_bytes() is not None,
        )  # fmt: skip


def _read_tensors(folder: Path) -> dict[str, mx.array]:
    paths = sorted(folder.glob("model*.safetensors"))
    if not paths:
        raise ModelFileMissing(path=folder / "model.safetensors")
    tensors: dict[str, mx.array] = {}
    for path in paths:
        verify_safetensors_size(path)
        try:
            read = cast("dict[str, mx.array]", mx.load(str(path)))
        except (RuntimeError, ValueError) as error:
            raise ModelFileCorrupt(path=path, reason=str(error)) from error
        if again := sorted(tensors.keys() & read.keys()):
            # Which of the two would count is nobody's choice.
            raise CheckpointMismatch(
                folder=folder, unexpected=tuple(f"{name} (again, in {path.name})" for name in again)
            )
        tensors.update(read)
    return tensors


def _build_model(folder: Path, config: Mapping[str, Any]) -> Any:
    """The model with parameters that are only described, not drawn: MLX is lazy, and none of them is ever evaluated."""
    for key in ("model_type", "max_position_embeddings", "vocab_size"):
        if key not in config:
            raise UnsupportedModel(folder=folder, reason=f"config.json has no {key}")
    model_type = str(config["model_type"])
    if not model_type.isidentifier():
        raise UnsupportedModel(folder=folder, reason=f"model_type {model_type[:60]!r} is not a name")
    module_name = _OWN_CLASSES.get(model_type, f"mlx_lm.models.{model_type}")
    try:
        with keeping_descriptor_limit():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise UnsupportedModel(folder=folder, reason=f"mlx_lm has no model_type {model_type!r}") from error
    except SystemExit as error:
        # Some of its modules end the process where a package of theirs is not installed.
        raise UnsupportedModel(folder=folder, reason=f"mlx_lm cannot run model_type {model_type!r} here") from error
    try:
        model = module.Model(module.ModelArgs.from_dict(dict(config)))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        reason = f"config.json has no {error}" if isinstance(error, KeyError) else str(error)
        raise UnsupportedModel(folder=folder, reason=f"config.json does not fit {model_type}: {reason}") from error
    except (ArithmeticError, IndexError, AssertionError, RuntimeError, MemoryError) as error:
        # Of fields that are of the right kind each, and do not go together.
        reason = f"its numbers do not go together ({type(error).__name__}: {error})"
        raise UnsupportedModel(folder=folder, reason=f"config.json does not fit {model_type}: {reason}") from error
    if model_type not in _OWN_CLASSES:
        _refuse_what_would_differ(folder, config, model)
    return model


def _refuse_what_would_differ(folder: Path, config: Mapping[str, Any], model: Any) -> None:
    """Refuse by name the models of mlx-lm that would run here and give other text than their reference."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if isinstance(scaling, Mapping) and scaling.get("rope_type", scaling.get("type")) in ("longrope", "su"):
        reason = f"mlx-lm's {config['model_type']} takes the long factors of longrope at every length"
        raise UnsupportedModel(folder=folder, reason=reason)
    if hasattr(model, "make_cache"):
        kinds = sorted({type(cache).__name__ for cache in model.make_cache()} - {"KVCache"})
        if kinds:
            reason = f"its layers need {' and '.join(kinds)}, and batches here are made of plain key-value caches"
            raise UnsupportedModel(folder=folder, reason=reason)


def _context_length_tokens(model: Any, config: Mapping[str, Any]) -> int:
    """The most tokens that rows can grow to.

    Under longrope that ends where the reference would compute all keys anew with its long factors (see `phi3.py`), since
    the step loop goes on with the keys that it has.
    """
    positions = int(config["max_position_embeddings"])
    rotary = getattr(model.args, "rotary", None)
    return min(positions, rotary.trained_tokens) if rotary is not None and rotary.is_longrope else positions


def _quantization(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get("quantization") or {}
    if not isinstance(given, Mapping):
        raise UnsupportedModel(folder=folder, reason="quantization in config.json is not an object")
    quantization = dict(given)
    if quantization.get("mode", "affine") != "affine":
        raise UnsupportedModel(folder=folder, reason=f"quantization mode {quantization['mode']!r} is not affine")
    return quantization


def _as_float32(tensors: dict[str, mx.array], quantization: Mapping[str, Any]) -> dict[str, mx.array]:
    """Every tensor as float32, computed on several streams at once: dequantizing is most of the time to load.

    Takes the tensors out of `tensors`, so that what was read goes as what was made comes: beside the result there is never
    more than some `_AT_ONCE_BYTES` and the largest tensor.
    """
    result: dict[str, mx.array] = {}
    quantized = set(quantized_modules(tensors))
    streams = itertools.cycle([mx.new_stream(mx.cpu) for _ in range(_DEQUANTIZING_STREAMS)])
    pending: list[mx.array] = []
    for name in [name for name in tensors if not name.endswith((".scales", ".biases"))]:
        module, stored = name.removesuffix(".weight"), tensors.pop(name)
        with mx.stream(next(streams)):
            if module in quantized:
                group_size, bits = group_size_and_bits(quantization, module)
                scales, biases = tensors.pop(f"{module}.scales"), tensors.pop(f"{module}.biases")
                # In float32 throughout: the product of a half-precision scale would be rounded to half precision.
                result[name] = mx.dequantize(
                    stored, scales.astype(mx.float32), biases.astype(mx.float32),
                    group_size=group_size, bits=bits,
                )  # fmt: skip
                del scales, biases
            else:
                result[name] = stored.astype(mx.float32)
        del stored
        pending.append(result[name])
        if sum(tensor.nbytes for tensor in pending) >= _AT_ONCE_BYTES:
            mx.eval(pending)
            pending.clear()
    mx.eval(pending)
    return result


def _as_packed(tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Packed weights as they are, everything else as float32: the products are made in it."""
    return {
        name: tensor.astype(mx.float32) if mx.issubdtype(tensor.dtype, mx.floating) else tensor
        for name, tensor in tensors.items()
    }


def _as_one_type(tensors: Mapping[str, mx.array], config: Mapping[str, Any]) -> dict[str, mx.array]:
    """All floating tensors in one type, so that no step converts them again; packed ones as they are.

    That is the type of the scales, unless the configuration asks for float32: the embedded model does, since its
    activations come to 22,500, too near to the 65,504 at which float16 ends.
    """
    scales = next((tensor for name, tensor in tensors.items() if name.endswith(".scales")), None)
    if scales is None:
        return dict(tensors)
    wanted = config.get("dtype", config.get("torch_dtype"))
    chosen = mx.float32 if wanted == "float32" else scales.dtype
    return {
        name: tensor.astype(chosen) if mx.issubdtype(tensor.dtype, mx.floating) else tensor
        for name, tensor in tensors.items()
    }


def _quantize_like(model: Any, tensors: Mapping[str, mx.array], quantization: Mapping[str, Any]) -> None:
    """Turn the modules whose tensors are quantized into quantized modules of the same form."""
    modules = set(quantized_modules(tensors))
    if not modules:
        return

    def form(path: str, _module: nn.Module) -> bool | dict[str, Any]:
        if path not in modules:
            return False
        group_size, bits = group_size_and_bits(quantization, path)
        return {"group_size": group_size, "bits": bits}

    nn.quantize(model, class_predicate=form)


def _check_fit(folder: Path, model: Any, tensors: Mapping[str, mx.array]) -> None:
    parameters = dict(tree_flatten(model.parameters()))
    missing = tuple(sorted(parameters.keys() - tensors.keys()))
    unexpected = tuple(sorted(tensors.keys() - parameters.keys()))
    misshapen = tuple(
        f"{name}: {tensors[name].shape}, expected {parameters[name].shape}"
        for name in sorted(parameters.keys() & tensors.keys())
        if tensors[name].shape != parameters[name].shape
    )
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(folder=folder, missing=missing, unexpected=unexpected, misshapen=misshapen)


def _parameter_count(tensors: Mapping[str, mx.array], quantization: Mapping[str, Any]) -> int:
    quantized = set(quantized_modules(tensors))
    count = 0
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if module in quantized and part == "weight":
            count += tensor.size * 32 // group_size_and_bits(quantization, module)[1]
        elif module not in quantized or part not in ("scales", "biases"):
            count += tensor.size
    return count


def _type_name(tensors: Mapping[str, mx.array], quantization: Mapping[str, Any]) -> str:
    floating = next(tensor for tensor in tensors.values() if mx.issubdtype(tensor.dtype, mx.floating))
    name = str(floating.dtype).removeprefix("mlx.core.")
    is_quantized = any(name.endswith(".scales") for name in tensors)
    return f"{quantization['bits']}-bit {name}" if is_quantized else name
