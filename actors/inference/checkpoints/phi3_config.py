"""A Phi-3 `config.json`, parsed like the reference, and the tensors that a checkpoint with it must have. No MLX.

The reference is transformers' `Phi3Config` and `modeling_rope_utils`; settings that cannot be computed correctly are refused by
name. Both spellings of the rotary settings are supported: separate `rope_theta`, `partial_rotary_factor` and `rope_scaling`, as
in published models, and a single `rope_parameters`, as written by transformers 5.

PyTorch's layout uses the same names and shapes as MLX, `(out, in)`, so the purpose of the table of tensors is to be
exhaustive: unknown tensors are an error, and so are missing ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import attrs

# Earlier Phi-3 configurations call longrope "su" or "yarn" (transformers, `Phi3Config`).
_LONGROPE = frozenset({"longrope", "su", "yarn"})
_KNOWN_KEYS = frozenset(
    {
        "attention_factor", "factor", "long_factor", "original_max_position_embeddings", "partial_rotary_factor",
        "rope_theta", "rope_type", "short_factor", "type",
    }
)  # fmt: skip
Shape = tuple[int, ...]
_IGNORED = re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
"""Saved by old versions of transformers although it is computed from the configuration, here too."""


@attrs.frozen(kw_only=True)
class Rotary:
    """Rotary embedding of queries and keys."""

    width: int
    """Number of leading dimensions of a head that are rotated; the others pass through."""
    theta: float
    """Base of the wavelengths."""
    position_scale: float = 1.0
    """Factor of positions: 1 / factor under linear scaling."""
    attention_factor: float = 1.0
    """Factor of the rotated part of queries and keys."""
    short_factor: tuple[float, ...] = ()
    """Longrope: factor of each pair's wavelength in sequences up to `trained_tokens`."""
    long_factor: tuple[float, ...] = ()
    """Longrope: the same for longer sequences."""
    trained_tokens: int = 0
    """Longrope: longest sequence that uses `short_factor`."""

    @property
    def is_longrope(self) -> bool:
        """True if wavelengths depend on the length of the sequence."""
        return bool(self.long_factor)


@attrs.frozen(kw_only=True)
class Phi3Arguments:
    """Dimensions of a Phi-3 model, with mlx-lm's names where it has them."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    """Width of one head."""
    rms_norm_eps: float
    vocab_size: int
    tie_word_embeddings: bool
    sliding_window: int | None
    """Number of positions a token attends to, including itself; None for all."""
    rotary: Rotary

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Phi3Arguments:
        """Parses a configuration. Raises `ValueError` or `KeyError` naming the field that is missing or not supported."""
        heads = int(config["num_attention_heads"])
        width = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        key_value_heads = int(config.get("num_key_value_heads") or heads)
        activation = config.get("hidden_act", "silu")
        if activation != "silu":
            raise ValueError(f"hidden_act {activation!r} is not supported, only 'silu'")
        if heads % key_value_heads:
            raise ValueError(f"{heads} attention heads cannot share {key_value_heads} key-value heads")
        window = config.get("sliding_window")
        return cls(
            model_type=str(config["model_type"]),
            hidden_size=int(config["hidden_size"]),
            num_hidden_layers=int(config["num_hidden_layers"]),
            intermediate_size=int(config["intermediate_size"]),
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=width,
            rms_norm_eps=float(config["rms_norm_eps"]),
            vocab_size=int(config["vocab_size"]),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            sliding_window=None if window is None else int(window),
            rotary=read_rotary(config, width),
        )


@attrs.frozen(kw_only=True)
class ConversionTable:
    """Parameters of one configuration."""

    shapes: Mapping[str, Shape]
    """Shape of each parameter by its name in MLX."""
    drops: frozenset[str]
    """Names ignored if present: a tied head that was saved a second time."""

    def target(self, name: str) -> str | None:
        """Name in MLX of a PyTorch tensor; None for one to ignore. Raises `KeyError` for an unknown one."""
        if name in self.drops or _IGNORED.fullmatch(name):
            return None
        if name not in self.shapes:
            raise KeyError(name)
        return name


def phi3_table(config: Mapping[str, Any]) -> ConversionTable:
    """Table for a Phi-3 `config.json`. Raises `ValueError` or `KeyError` for one that cannot be run."""
    arguments = Phi3Arguments.from_dict(config)
    width, inner = arguments.hidden_size, arguments.intermediate_size
    attended = arguments.num_attention_heads * arguments.head_dim
    projected = attended + 2 * arguments.num_key_value_heads * arguments.head_dim
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (arguments.vocab_size, width)}
    for index in range(arguments.num_hidden_layers):
        layer = f"model.layers.{index}"
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.self_attn.qkv_proj.weight"] = (projected, width)
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, attended)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
        shapes[f"{layer}.mlp.gate_up_proj.weight"] = (2 * inner, width)
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, inner)
    shapes["model.norm.weight"] = (width,)
    drops: set[str] = set()
    if arguments.tie_word_embeddings:
        drops.add("lm_head.weight")
    else:
        shapes["lm_head.weight"] = (arguments.vocab_size, width)
    return ConversionTable(shapes=shapes, drops=frozenset(drops))


def read_rotary(config: Mapping[str, Any], head_width: int) -> Rotary:
    """Rotary settings of a configuration with heads of `head_width` dimensions. Raises `ValueError` naming the setting."""
    settings = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(settings, Mapping):
        raise ValueError(f"rope_scaling is {settings!r}, not an object")
    unknown = sorted(settings.keys() - _KNOWN_KEYS)
    if unknown:
        raise ValueError(f"rope_scaling has {', '.join(unknown)}, which no Phi-3 reference has")
    theta = float(settings.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    partial = settings.get("partial_rotary_factor")
    share = float(config.get("partial_rotary_factor", 1.0) if partial is None else partial)
    width = int(head_width * share)
    kind = settings.get("rope_type", settings.get("type", "default"))
    if kind == "default":
        return Rotary(width=width, theta=theta)
    if kind == "linear":
        return Rotary(width=width, theta=theta, position_scale=1 / _positive(settings, "factor"))
    if kind in _LONGROPE:
        return _longrope(config, settings, width, theta)
    raise ValueError(f"rope_scaling type {kind!r} is not supported, only 'longrope' and 'linear'")


def _longrope(config: Mapping[str, Any], settings: Mapping[str, Any], width: int, theta: float) -> Rotary:
    trained = config.get("original_max_position_embeddings", settings.get("original_max_position_embeddings", 4096))
    factor = settings.get("factor")
    if factor is None:
        factor = int(config["max_position_embeddings"]) / int(trained)
    attention = settings.get("attention_factor")
    if attention is None:
        # LongRoPE (arXiv 2402.13753), computed like the reference.
        attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(int(trained)))
    return Rotary(
        width=width,
        theta=theta,
        attention_factor=float(attention),
        short_factor=_factors(settings, "short_factor", width),
        long_factor=_factors(settings, "long_factor", width),
        trained_tokens=int(trained),
    )


def _factors(settings: Mapping[str, Any], name: str, width: int) -> tuple[float, ...]:
    values = settings.get(name)
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        raise ValueError(f"rope_scaling has no list of numbers {name}")
    if len(values) != width // 2:
        raise ValueError(f"rope_scaling {name} has {len(values)} numbers, expected {width // 2}")
    return tuple(float(value) for value in values)


def _positive(settings: Mapping[str, Any], name: str) -> float:
    value = settings.get(name)
    if not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"rope_scaling {name} is {value!r}, not a number above 0")
    return float(cast("float", value))
