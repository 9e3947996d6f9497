"""Tensors that a Phi-3 checkpoint in PyTorch's layout must have, with their names in MLX. No MLX.

The two layouts use the same names and shapes, `(out, in)`, so the table's purpose is to be exhaustive: unknown tensors
are an error, and so are missing ones.
"""

import re
from collections.abc import Mapping
from typing import Any

import attrs

from actors.inference.checkpoints.phi3_config import Phi3Arguments

Shape = tuple[int, ...]

_IGNORED = re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
"""Saved by old versions of transformers although it is computed from the configuration, here too."""


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
