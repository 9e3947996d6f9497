"""Which tensors a Phi-3 checkpoint in PyTorch's layout must have, and what each is called on MLX. No MLX here.

The two layouts name and shape their parameters alike, `(out, in)`, so that the table's work is to account for each: what
is not in it is an error, and so is what is in it and not in the checkpoint.
"""

import re
from collections.abc import Mapping
from typing import Any

import attrs

from actors.inference.checkpoints.phi3_config import Phi3Arguments

Shape = tuple[int, ...]

_IGNORED = re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")
"""Saved by old versions of transformers though computed from the configuration, here as there."""


@attrs.frozen(kw_only=True)
class ConversionTable:
    """The parameters of one configuration."""

    shapes: Mapping[str, Shape]
    """Shape of each parameter under its name on MLX."""
    drops: frozenset[str]
    """Names that are left out where they occur: a tied head that was written out a second time."""

    def target(self, name: str) -> str | None:
        """What a PyTorch tensor is called on MLX; None for one that is left out. Raises `KeyError` for an unknown one."""
        if name in self.drops or _IGNORED.fullmatch(name):
            return None
        if name not in self.shapes:
            raise KeyError(name)
        return name


def phi3_table(config: Mapping[str, Any]) -> ConversionTable:
    """The table for a Phi-3 `config.json`. Raises `ValueError` or `KeyError` for one that cannot be run."""
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
