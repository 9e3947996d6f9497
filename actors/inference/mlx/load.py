"""Loads a checkpoint folder as an `mlx_lm` model, with every parameter from the checkpoint or not at all.

On the CPU everything is computed in float32, the fastest type there: compiled kernels read packed weights as they are,
for MLX they are dequantized. On Metal and CUDA they stay packed.
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
from actors.inference.checkpoints.manifest import MANIFEST_NAME, verify_files, verify_safetensors_size
from actors.inference.checkpoints.reading import read_checkpoint_json
from actors.inference.checkpoints.stop_tokens import stop_token_ids
from actors.inference.checkpoints.weight_format import (
    check_packed,
    group_size_and_bits,
    loaded_bytes,
    quantized_modules,
    stays_packed,
)
from actors.inference.kernels.jit_cache import import_compiled, is_to_be_made, use_compiled
from actors.inference.kernels.thread_pool import ThreadPool
from actors.inference.memory_fit import available_memory_bytes, loading_bytes, measured_free_bytes
from actors.inference.mlx.library_imports import keeping_descriptor_limit
from actors.inference.mlx.single_row import use_single_row_products

Device = Literal["cpu", "metal", "cuda"]

_DEQUANTIZING_STREAMS = min(4, os.cpu_count() or 1)
_AT_ONCE_BYTES = 128 * 1024 * 1024
SPREAD_BYTES = 2 * 1024**3
"""Up to this size of float32 weights, MLX computes a model until compiled kernels are available."""

_OWN_CLASSES = {"phi3": "actors.inference.mlx.phi3"}
"""Model types for which mlx-lm's class differs from the reference, with the module of the class used instead."""


@attrs.frozen(kw_only=True, eq=False)
class LoadedModel:
    """A model ready to step, and facts about it."""

    model: Any
    """`Model` of `mlx_lm.models.<model_type>`, evaluated. Belongs to the thread that loaded it."""
    config: dict[str, Any]
    """Content of `config.json`."""
    dtype: str
    """Type of the weights as run: `float32`, `bfloat16`, `4-bit float32` …"""
    parameter_bytes: int
    """Memory of all parameters, in bytes."""
    parameter_count: int
    """Number of weights before quantization."""
    every_parameter_from_checkpoint: bool
    """True if each array in the model, before the adapter, was read from the checkpoint."""
    context_length_tokens: int
    """Maximum tokens of prompt and answer together. Up to this length the model's text equals the reference's, except
    after `serve_long_context`."""
    vocabulary_size: int
    """Number of logits."""
    stop_token_ids: frozenset[int]
    """Tokens that end an answer."""
    has_single_row_products: bool
    """True if decoding for one client uses `single_row.py`."""
    threads: ThreadPool | None
    """Threads that compute layers and head with compiled kernels; None if MLX does."""
    uncompiled: str | None
    """Why compiled kernels are not used although they might be; None if they are used, or do not apply."""


def available_device() -> Device:
    """Best device of this build of MLX."""
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
    """Loads the checkpoint in `folder`, with the adapter in `adapter` if given, and makes `device` MLX's default.

    With `is_memory_bounded` a setting limits the memory of models, and the system's free memory is not checked. With
    `may_compile`, a Phi-3 on a CPU is computed by compiled kernels (`kernels/`).

    Raises `ModelFileMissing`, `ModelFileTruncated`, `ModelFileCorrupt`, `ModelTooLarge`, `UnsupportedModel`, or
    `CheckpointMismatch` with the tensors that are missing, unexpected or of the wrong shape. Call it in the thread that
    will step the model.
    """
    mx.set_default_device(mx.cpu if device == "cpu" else mx.gpu)
    if (folder / MANIFEST_NAME).exists():
        verify_files(folder)
    config = read_checkpoint_json(folder / "config.json")
    # With an adapter they are expanded, since fusing it into packed ones would round it away.
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
        # Imported here because it imports mlx-lm's trainer.
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
    """True if MLX should compute a checkpoint until another process has compiled the kernels, which is faster than
    waiting.

    False for large models, whose weights MLX would need as float32, and if a setting limits the memory of models, since
    it does not account for expanded weights.
    """
    if not is_to_be_made() or is_memory_bounded or adapter is not None:
        return False
    if not stays_packed(read_checkpoint_json(folder / "config.json")):
        return False
    return loaded_bytes(folder, as_float32=True) <= SPREAD_BYTES


def serve_long_context(loaded: LoadedModel) -> LoadedModel:
    """Returns the model with its long factors used at every length, and its full configured context.

    Only longrope has such factors; any other model is returned unchanged. Text of sequences up to the trained length
    then differs from the reference's, which must be reported.
    """
    rotary = getattr(loaded.model.args, "rotary", None)
    if rotary is None or not rotary.is_longrope:
        return loaded
    loaded.model.take_long_factors()
    return attrs.evolve(loaded, context_length_tokens=int(loaded.config["max_position_embeddings"]))


def check_memory(folder: Path, weights_bytes: int, device: Device) -> None:
    """Raises `ModelTooLarge` if weights of this size cannot be loaded, before the system kills the process for lack of
    memory."""
    # The system's figures do not include a graphics card's own memory.
    free_bytes = None if device == "cuda" else available_memory_bytes(0)
    # On other devices nothing is expanded: the weights stay as read.
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
            # It would be undefined which of the two counts.
            raise CheckpointMismatch(
                folder=folder, unexpected=tuple(f"{name} (again, in {path.name})" for name in again)
            )
        tensors.update(read)
    return tensors


def _build_model(folder: Path, config: Mapping[str, Any]) -> Any:
    """Builds the model with parameters that are never evaluated: MLX is lazy, so no random values are drawn."""
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
        # Some of its modules exit the process if a package that they need is not installed.
        raise UnsupportedModel(folder=folder, reason=f"mlx_lm cannot run model_type {model_type!r} here") from error
    try:
        model = module.Model(module.ModelArgs.from_dict(dict(config)))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        reason = f"config.json has no {error}" if isinstance(error, KeyError) else str(error)
        raise UnsupportedModel(folder=folder, reason=f"config.json does not fit {model_type}: {reason}") from error
    except (ArithmeticError, IndexError, AssertionError, RuntimeError, MemoryError) as error:
        # Raised by fields that are valid on their own but contradict each other.
        reason = f"its numbers are inconsistent ({type(error).__name__}: {error})"
        raise UnsupportedModel(folder=folder, reason=f"config.json does not fit {model_type}: {reason}") from error
    if model_type not in _OWN_CLASSES:
        _refuse_what_would_differ(folder, config, model)
    return model


def _refuse_what_would_differ(folder: Path, config: Mapping[str, Any], model: Any) -> None:
    """Refuses mlx-lm models by name that would run but give other text than their reference."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if isinstance(scaling, Mapping) and scaling.get("rope_type", scaling.get("type")) in ("longrope", "su"):
        reason = f"mlx-lm's {config['model_type']} uses the long factors of longrope at every length"
        raise UnsupportedModel(folder=folder, reason=reason)
    if hasattr(model, "make_cache"):
        kinds = sorted({type(cache).__name__ for cache in model.make_cache()} - {"KVCache"})
        if kinds:
            reason = f"its layers need {' and '.join(kinds)}, and batches here are made of plain key-value caches"
            raise UnsupportedModel(folder=folder, reason=reason)


def _context_length_tokens(model: Any, config: Mapping[str, Any]) -> int:
    """Maximum length of a row.

    With longrope it ends where the reference would recompute all keys with its long factors (see `phi3.py`), since the
    step loop continues with the existing keys.
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
    """Converts every tensor to float32, on several streams at once: dequantizing is most of the load time.

    Removes tensors from `tensors` as it goes, so that their memory is freed while the results are made: besides the
    result there are never more than about `_AT_ONCE_BYTES` and the largest tensor.
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
                # In float32 throughout: the product with a half-precision scale would be rounded to half precision.
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
    """Keeps packed weights as they are and converts everything else to float32, the type of the products."""
    return {
        name: tensor.astype(mx.float32) if mx.issubdtype(tensor.dtype, mx.floating) else tensor
        for name, tensor in tensors.items()
    }


def _as_one_type(tensors: Mapping[str, mx.array], config: Mapping[str, Any]) -> dict[str, mx.array]:
    """Converts all floating tensors to one type, so that no step has to; packed ones stay as they are.

    That is the type of the scales, unless the configuration asks for float32: the embedded model does, since its
    activations reach 22,500, too close to float16's maximum of 65,504.
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
    """Replaces the modules whose tensors are quantized by quantized modules of the same form."""
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
