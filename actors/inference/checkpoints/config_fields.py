"""Checks a `config.json`: the fields that a model is built from or that end answers, also against the existing tensors.

Python accepts a string as a sequence, `true` as 1, and an empty list as "not set": a field of the wrong type would be used
in an unintended way, or fail the load with an error that names no field. So each field that is used is checked first. A model
is built before any weight is read, so a count without matching tensors would be built until memory or patience runs out: a
billion layers take 40 MB a second. Pure functions, no MLX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from actors.inference.checkpoints.errors import UnsupportedModel

__all__ = ["MAXIMUM_ENTRIES", "MAXIMUM_LAYERS", "MAXIMUM_POSITIONS", "MAXIMUM_VOCABULARY", "MAXIMUM_WIDTH", "end_tokens_problem", "field_problems"]  # fmt: skip

MAXIMUM_LAYERS = 10_000
MAXIMUM_VOCABULARY = 1 << 24
MAXIMUM_POSITIONS = 1 << 31
MAXIMUM_WIDTH = 1 << 24
_MAXIMUM_WINDOW = 1 << 30
"""Added to positions in 32 bits."""
MAXIMUM_ENTRIES = 10_000
"""Entries of a list, or characters of a string: families build one layer for each."""
_MAXIMUM_FACTOR = 1e30
"""Factor of positions, which are computed in float32 with a maximum of 3.4e38."""
_SHOWN_CHARACTERS = 60


@frozen
class _Kind:
    """Permitted values of a field."""

    words: str
    """Description, to follow "not"."""
    takes: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(least: int, most: int) -> _Kind:
    return _Kind(
        f"a whole number from {least:,} to {most:,}", lambda value: _is_whole(value) and least <= value <= most
    )


def _one_of(*values: int) -> _Kind:
    *first, last = map(str, values)
    return _Kind(f"{', '.join(first)} or {last}", lambda value: _is_whole(value) and value in values)


def _number(least: float, most: float) -> _Kind:
    # Comparisons with NaN are false.
    return _Kind(f"a number from {least:g} to {most:g}", lambda value: _is_number(value) and least <= value <= most)


def _above_zero(most: float) -> _Kind:
    return _Kind(f"a number above 0, to {most:g}", lambda value: _is_number(value) and 0 < value <= most)


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(f"{kind.words}, or null", lambda value: value is None or kind.takes(value))


_BOOL = _or_null(_Kind("true or false", lambda value: isinstance(value, bool)))
_TEXT = _or_null(_Kind("a string", lambda value: isinstance(value, str)))
_OBJECT = _or_null(_Kind("an object", lambda value: isinstance(value, Mapping)))
_TEXTS = _or_null(
    _Kind("a list of strings", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
)
_WIDTH = _whole(1, MAXIMUM_WIDTH)
_POSITIONS = _whole(1, MAXIMUM_POSITIONS)
_TRAINED = _or_null(_whole(2, MAXIMUM_POSITIONS))
"""Positions in training; their logarithm is a divisor."""
_SHARE = _or_null(_above_zero(1))
_FACTOR = _or_null(_above_zero(_MAXIMUM_FACTOR))
_EPSILON = _or_null(_number(0, 1))
_FACTORS = _or_null(
    _Kind(
        f"a number, or a list of numbers, above 0, to {_MAXIMUM_FACTOR:g}",
        lambda value: all(
            _is_number(one) and 0 < one <= _MAXIMUM_FACTOR for one in (value if isinstance(value, list) else [value])
        ),
    )
)
_END = _whole(-1, MAXIMUM_VOCABULARY)
_ENDS = _or_null(
    _Kind(
        f"{_END.words}, or a list of these",
        lambda value: all(map(_END.takes, value if isinstance(value, list) else [value])),
    )
)

_FIELDS = {
    "model_type": _Kind("a string", lambda value: isinstance(value, str)),
    "hidden_size": _WIDTH,
    "intermediate_size": _or_null(_WIDTH),
    "num_hidden_layers": _whole(1, MAXIMUM_LAYERS),
    "num_attention_heads": _WIDTH,
    "num_key_value_heads": _or_null(_WIDTH),
    "head_dim": _or_null(_WIDTH),
    "vocab_size": _whole(1, MAXIMUM_VOCABULARY),
    "max_position_embeddings": _POSITIONS,
    "original_max_position_embeddings": _TRAINED,
    "sliding_window": _or_null(_whole(1, _MAXIMUM_WINDOW)),
    "rms_norm_eps": _EPSILON,
    "layer_norm_eps": _EPSILON,
    "layer_norm_epsilon": _EPSILON,
    "norm_eps": _EPSILON,
    "rope_theta": _FACTOR,
    "rope_local_base_freq": _FACTOR,
    "partial_rotary_factor": _SHARE,
    "rope_scaling": _OBJECT,
    "rope_parameters": _OBJECT,
    "rope_traditional": _BOOL,
    "tie_word_embeddings": _BOOL,
    "attention_bias": _BOOL,
    "mlp_bias": _BOOL,
    "use_sliding_window": _BOOL,
    "layer_types": _TEXTS,
    "hidden_act": _TEXT,
    "dtype": _TEXT,
    "torch_dtype": _TEXT,
    "quantization": _OBJECT,
    "text_config": _OBJECT,
    "eos_token_id": _ENDS,
}
_ROTARY = {
    "rope_type": _TEXT,
    "type": _TEXT,
    "rope_theta": _FACTOR,
    "partial_rotary_factor": _SHARE,
    "factor": _FACTOR,
    "attention_factor": _FACTOR,
    "low_freq_factor": _FACTOR,
    "high_freq_factor": _FACTOR,
    "beta_fast": _FACTOR,
    "beta_slow": _FACTOR,
    "mscale": _or_null(_number(0, _MAXIMUM_FACTOR)),
    "mscale_all_dim": _or_null(_number(0, _MAXIMUM_FACTOR)),
    "short_factor": _FACTORS,
    "long_factor": _FACTORS,
    "original_max_position_embeddings": _TRAINED,
}
_PACKED = {
    "mode": _TEXT,
    "bits": _or_null(_one_of(2, 3, 4, 5, 6, 8)),
    "group_size": _or_null(_one_of(16, 32, 64, 128)),
}
_MODULE = _Kind("an object, or true or false", lambda value: isinstance(value, Mapping | bool))


def field_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Describes each field with a bad value: its path, its value, and the permitted values."""
    yield from _judged(config, _FIELDS, "")
    for prefix, part in (("", config), ("text_config.", config.get("text_config"))):
        if not isinstance(part, Mapping):
            continue
        if prefix:
            yield from _judged(part, _FIELDS, prefix)
        for key in ("rope_scaling", "rope_parameters"):
            yield from _rotary_problems(part.get(key), f"{prefix}{key}.")
        yield from _packed_problems(part.get("quantization"), f"{prefix}quantization.")
        yield from _layer_type_problems(part, prefix)


def end_tokens_problem(value: Any) -> str | None:
    """Describes a bad `eos_token_id`, as the end of a sentence that begins with its name; None for a good one."""
    return None if _ENDS.takes(value) else f"is {_shown(value)}, not {_ENDS.words}"


def _rotary_problems(settings: Any, prefix: str) -> Iterator[str]:
    if isinstance(settings, Mapping):
        yield from _judged(settings, _ROTARY, prefix)
        for key, value in settings.items():
            # Some families have separate settings per layer type.
            if isinstance(value, Mapping):
                yield from _judged(value, _ROTARY, f"{prefix}{key}.")


def _packed_problems(settings: Any, prefix: str) -> Iterator[str]:
    if isinstance(settings, Mapping):
        yield from _judged(settings, _PACKED, prefix)
        for key, value in settings.items():
            if isinstance(value, Mapping):
                yield from _judged(value, _PACKED, f"{prefix}{key}.")
            elif key not in _PACKED and not _MODULE.takes(value):
                yield _problem(prefix + key, value, _MODULE)


def _layer_type_problems(config: Mapping[str, Any], prefix: str) -> Iterator[str]:
    types, layers = config.get("layer_types"), config.get("num_hidden_layers")
    if isinstance(types, list) and _is_whole(layers) and len(types) != layers:
        yield f"{prefix}layer_types in config.json names {len(types):,} layers, but num_hidden_layers is {layers:,}"


def _judged(settings: Mapping[str, Any], kinds: Mapping[str, _Kind], prefix: str) -> Iterator[str]:
    for name, kind in kinds.items():
        if name in settings and not kind.takes(settings[name]):
            yield _problem(prefix + name, settings[name], kind)


def _problem(path: str, value: Any, kind: _Kind) -> str:
    return f"{path[:_SHOWN_CHARACTERS]} in config.json is {_shown(value)}, not {kind.words}"


def _shown(value: Any) -> str:
    """A value in JSON terms, shortened to fit into a sentence."""
    if isinstance(value, Mapping | list):
        return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value):,}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return repr(value[:_SHOWN_CHARACTERS])
    return f"{value:.4g}" if abs(value) >= 1e15 and abs(value) < 1e300 else str(value)[:_SHOWN_CHARACTERS]


_LAYER_OF = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,9})\.")
_LAYER_COUNTS = frozenset({"num_hidden_layers", "num_layers", "n_layer", "n_layers"})
_MAXIMUM_DEPTH = 4
"""Configurations nest those of their parts (`text_config`, `rope_scaling`), and no deeper."""
_BOUNDS = {
    **dict.fromkeys(_LAYER_COUNTS, MAXIMUM_LAYERS),
    "vocab_size": MAXIMUM_VOCABULARY,
    "max_position_embeddings": MAXIMUM_POSITIONS,
    "original_max_position_embeddings": MAXIMUM_POSITIONS,
}
_COUNT = re.compile(r"(?:^|_)(?:size|dim|rank|heads?|experts|layers?|groups?|blocks)(?:_|$)")
"""Words in the names of counts and widths, in all families of models."""


def check_claims(folder: Path, config: Mapping[str, Any], tensor_names: Iterable[str]) -> None:
    """Raises `UnsupportedModel`, naming the field, for a value that its field cannot have or that the tensors
    contradict."""
    for problem in field_problems(config):
        raise UnsupportedModel(folder=folder, reason=problem)
    for name, key, value in _values(config, "", _MAXIMUM_DEPTH):
        if isinstance(value, str | list):
            if len(value) > MAXIMUM_ENTRIES:
                what = "characters" if isinstance(value, str) else "entries"
                reason = f"{name} in config.json has {len(value):,} {what}, beyond {MAXIMUM_ENTRIES:,}"
                raise UnsupportedModel(folder=folder, reason=reason)
            continue
        bound = _BOUNDS.get(key, MAXIMUM_WIDTH if _COUNT.search(key) else None)
        # Some families write -1 or 0 for "none".
        if math.isnan(value) or (bound is not None and not -1 <= value <= bound):
            beyond = "no number" if math.isnan(value) else f"{value:.4g}, beyond {bound:,}"
            raise UnsupportedModel(folder=folder, reason=f"{name} in config.json is {beyond}")
    layers = max((int(found[1]) + 1 for one in tensor_names if (found := _LAYER_OF.search(one))), default=None)
    if layers is None:
        return
    parts = {"": config, "text_config.": config.get("text_config") or {}}
    for prefix, claimed in ((prefix, part.get("num_hidden_layers")) for prefix, part in parts.items()):
        if claimed is not None and claimed > layers:
            reason = (
                f"{prefix}num_hidden_layers in config.json is {claimed:,}, but there are tensors for {layers:,} layers"
            )
            raise UnsupportedModel(folder=folder, reason=reason)


def _values(config: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str, float | str | list[Any]]]:
    """Path, key and value of every number, string and list, including those of objects in lists."""
    for key, value in config.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, key, float(min(max(value, -(1 << 63)), 1 << 63))
        elif isinstance(value, str):
            yield prefix + key, key, value
        elif isinstance(value, list):
            yield prefix + key, key, value
            for at, one in enumerate(value[:MAXIMUM_ENTRIES] if depth else ()):
                if isinstance(one, Mapping):
                    yield from _values(one, f"{prefix}{key}[{at}].", depth - 1)
        elif isinstance(value, Mapping) and depth:
            yield from _values(value, f"{prefix}{key}.", depth - 1)
