"""Small Phi-3 checkpoints of every shape that matters, drawn from a seed: the same for the reference and for the tests.

Only numpy, and of it only the legacy generator, whose numbers are frozen for good; so the golden file holds logits and
no weights. Configurations are written as published models write them.
"""

import hashlib
from typing import Any

import numpy
from numpy.typing import NDArray

Tensors = dict[str, NDArray[numpy.float32]]

VOCABULARY = 96
WINDOW = 9
TRAINED_LENGTH = 24
"""Positions of the longrope shapes at which the reference goes from the short to the long factors."""

_BASE: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 128,
    "original_max_position_embeddings": 128,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _longrope(pairs: int, kind: str = "longrope", **more: Any) -> dict[str, Any]:
    """Factors that grow from pair to pair, far enough apart for a wrong choice to show."""
    short = [round(1.0 + 0.07 * pair, 3) for pair in range(pairs)]
    long = [round(1.5 + 0.9 * pair, 3) for pair in range(pairs)]
    return {"type": kind, "short_factor": short, "long_factor": long, **more}


_LONG = {"max_position_embeddings": 96, "original_max_position_embeddings": TRAINED_LENGTH}

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped_heads": {"num_key_value_heads": 2},
    "one_key_value_head": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": 2},
    "other_theta": {"rope_theta": 100.0, "num_key_value_heads": 2},
    "partial_rotary": {"partial_rotary_factor": 0.75, "num_key_value_heads": 2},
    "linear_scaling": {"rope_scaling": {"type": "linear", "factor": 4.0}, "num_key_value_heads": 2},
    "sliding_window": {"sliding_window": WINDOW, "num_key_value_heads": 2},
    "longrope": {**_LONG, "rope_scaling": _longrope(8), "num_key_value_heads": 2},
    "longrope_named_su": {**_LONG, "rope_scaling": _longrope(8, "su")},
    "longrope_partial": {
        **_LONG, "rope_scaling": _longrope(6), "partial_rotary_factor": 0.75, "tie_word_embeddings": True,
    },
    "longrope_windowed": {**_LONG, "rope_scaling": _longrope(8), "sliding_window": WINDOW, "num_key_value_heads": 2},
    "longrope_attention_factor": {**_LONG, "rope_scaling": _longrope(8, attention_factor=1.3)},
    "rope_parameters": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
        "rope_theta": None,
    },
}  # fmt: skip
"""What each shape changes of the plain configuration; None takes a key out."""

PROMPT_LENGTHS = (41, 22, 5)
"""The middle one generates across `TRAINED_LENGTH`; the first lies beyond it and beyond `WINDOW`."""
NEW_TOKENS = 8


def configuration(shape: str) -> dict[str, Any]:
    """Content of `config.json`."""
    merged = {**_BASE, **SHAPES[shape]}
    return {key: value for key, value in merged.items() if value is not None or key == "sliding_window"}


def tensors(shape: str) -> Tensors:
    """The checkpoint's tensors under their Hugging Face names, `(out, in)`; without a head of its own where tied."""
    config = configuration(shape)
    # Wide enough weights that attention is far from uniform: only then do positions matter to the logits.
    random = numpy.random.RandomState(20_000 + sorted(SHAPES).index(shape))
    width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head_width = width // heads
    projected = (heads + 2 * config["num_key_value_heads"]) * head_width

    def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[numpy.float32]:
        return (random.standard_normal((rows, columns)) * gain / columns**0.5).astype(numpy.float32)

    def norm() -> NDArray[numpy.float32]:
        return (1 + 0.2 * random.standard_normal(width)).astype(numpy.float32)

    made: Tensors = {"model.embed_tokens.weight": matrix(VOCABULARY, width, 8.0)}
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        made[f"{layer}.input_layernorm.weight"] = norm()
        made[f"{layer}.self_attn.qkv_proj.weight"] = matrix(projected, width, 1.6)
        made[f"{layer}.self_attn.o_proj.weight"] = matrix(width, heads * head_width, 1.5)
        made[f"{layer}.post_attention_layernorm.weight"] = norm()
        made[f"{layer}.mlp.gate_up_proj.weight"] = matrix(2 * inner, width, 1.2)
        made[f"{layer}.mlp.down_proj.weight"] = matrix(width, inner, 1.2)
    made["model.norm.weight"] = norm()
    if not config["tie_word_embeddings"]:
        made["lm_head.weight"] = matrix(VOCABULARY, width, 2.0)
    return made


def prompts(shape: str) -> list[list[int]]:
    """Token ids of the prompts, of the lengths above."""
    random = numpy.random.RandomState(30_000 + sorted(SHAPES).index(shape))
    return [random.randint(3, VOCABULARY, length).tolist() for length in PROMPT_LENGTHS]


def digest(made: Tensors) -> str:
    """SHA-256 over names and bytes: says at once when a test draws other weights than the reference did."""
    total = hashlib.sha256()
    for name in sorted(made):
        total.update(name.encode())
        total.update(made[name].tobytes())
    return total.hexdigest()
