"""Converts a Llama checkpoint in GGUF losslessly to mlx_lm's Phi-3 layout.

Llama blocks and Phi-3 blocks are the same arithmetic; Phi-3 stores the projections of a block fused. Two changes are
needed, both only moves of whole rows, so quantized tensors (packed along columns) are moved unchanged:

- GGUF stores the rows of q and k interleaved for its rotary form, `(heads, head_dim / 2, 2)`, where Phi-3 rotates halves
  (llama.cpp, `convert_hf_to_gguf.py`, `LlamaModel.permute`). That permutation is undone.
- `qkv_proj` is the rows of q, k and v stacked, `gate_up_proj` those of gate above up.

`mx.load` reads Q4_1 and Q8_0 straight into MLX's own quantized form: packed weights, scales, biases, groups of 32.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import mlx.core as mx

from actors.inference.checkpoints.errors import ModelSourceMismatch

GROUP_SIZE = 32
"""Columns that share a scale and a bias, in both Q4_1 and Q8_0."""

_PARTS = ("weight", "scales", "biases")
_PACKED_BITS = 32


@attrs.frozen(kw_only=True)
class RepackedCheckpoint:
    """A checkpoint in the Phi-3 layout, in memory."""

    config: dict[str, Any]
    """Content of `config.json`, with `quantization` as mlx_lm writes it."""
    tensors: dict[str, mx.array]
    """Tensors by mlx_lm's phi3 names; quantized ones in three parts."""
    metadata: Mapping[str, Any]
    """The GGUF's own key-value pairs, including the tokenizer."""


def repack_gguf(path: Path) -> RepackedCheckpoint:
    """Reads a Llama GGUF and rearranges it into the Phi-3 layout.

    Only for a file whose hash has been checked, or that passed `check_gguf` and `probe_gguf`: MLX's reader ends the
    process by SIGSEGV on some damaged ones. Raises `ModelSourceMismatch` if the file has another architecture, or if
    tensors are missing or left over.
    """
    try:
        arrays, metadata = cast("tuple[dict[str, mx.array], dict[str, Any]]", mx.load(str(path), return_metadata=True))
    except (RuntimeError, ValueError) as error:
        raise ModelSourceMismatch(path=path, reason=f"not a readable GGUF ({error})") from error
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelSourceMismatch(path=path, reason=f"architecture is {architecture!r}, expected 'llama'")
    try:
        tensors, quantization = _rearrange(arrays, metadata)
        config = _phi3_config(metadata, quantization, has_own_head="lm_head.weight" in tensors)
    except KeyError as error:
        raise ModelSourceMismatch(path=path, reason=f"{error.args[0]} is not in the file") from error
    except _LeftOver as error:
        raise ModelSourceMismatch(path=path, reason=f"unknown tensors {error}") from error
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        # Counts of zero, strings in place of numbers, tensors of other shapes: the file's author chose them.
        raise ModelSourceMismatch(path=path, reason=f"its values and tensors are inconsistent ({error})") from error
    return RepackedCheckpoint(config=config, tensors=tensors, metadata=metadata)


def undo_rotary_interleaving(rows: mx.array, heads: int) -> mx.array:
    """Reorders the rows of a q or k projection for Phi-3.

    `rows` is `(heads * head_dim, columns)`: within a head, GGUF has rows `2i` and `2i + 1` for a pair that is rotated
    together, Phi-3 has rows `i` and `i + head_dim / 2`.
    """
    count, columns = rows.shape
    pairs = rows.reshape(heads, count // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(count, columns)


class _LeftOver(Exception):
    """The file has tensors that match no parameter of the model."""


def _rearrange(arrays: dict[str, mx.array], metadata: Mapping[str, Any]) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Moves every tensor to its Phi-3 name; also returns their quantization in the form of mlx_lm's `quantization`."""
    heads = int(metadata["llama.attention.head_count"])
    key_value_heads = int(metadata["llama.attention.head_count_kv"])
    tensors: dict[str, mx.array] = {}
    bits_by_module: dict[str, int] = {}

    def take(name: str, heads_to_reorder: int = 0) -> dict[str, mx.array]:
        found = {part: arrays.pop(f"{name}.{part}") for part in _PARTS if f"{name}.{part}" in arrays}
        if "weight" not in found:
            raise KeyError(f"{name}.weight")
        if heads_to_reorder:
            found = {part: undo_rotary_interleaving(rows, heads_to_reorder) for part, rows in found.items()}
        return found

    def put(module: str, *sources: dict[str, mx.array]) -> None:
        for part in sources[0]:
            stacked = [source[part] for source in sources]
            tensors[f"{module}.{part}"] = mx.concatenate(stacked) if len(stacked) > 1 else stacked[0]
        if "scales" in sources[0]:
            columns = sources[0]["scales"].shape[1] * GROUP_SIZE
            bits_by_module[module] = sources[0]["weight"].shape[1] * _PACKED_BITS // columns

    put("model.embed_tokens", take("token_embd"))
    put("model.norm", take("output_norm"))
    if "output.weight" in arrays:
        put("lm_head", take("output"))
    for index in range(int(metadata["llama.block_count"])):
        old, new = f"blk.{index}", f"model.layers.{index}"
        query, key = take(f"{old}.attn_q", heads), take(f"{old}.attn_k", key_value_heads)
        put(f"{new}.self_attn.qkv_proj", query, key, take(f"{old}.attn_v"))
        put(f"{new}.self_attn.o_proj", take(f"{old}.attn_output"))
        put(f"{new}.mlp.gate_up_proj", take(f"{old}.ffn_gate"), take(f"{old}.ffn_up"))
        put(f"{new}.mlp.down_proj", take(f"{old}.ffn_down"))
        put(f"{new}.input_layernorm", take(f"{old}.attn_norm"))
        put(f"{new}.post_attention_layernorm", take(f"{old}.ffn_norm"))
    # For example the frequencies of a scaled rotary form, which the configuration below cannot express.
    if arrays:
        raise _LeftOver(", ".join(sorted(arrays)))
    return tensors, _quantization(bits_by_module)


def _quantization(bits_by_module: Mapping[str, int]) -> dict[str, Any]:
    """The commonest width as the default, and an entry for every module with another."""
    widths = list(bits_by_module.values())
    default_bits = max(set(widths), key=widths.count)
    quantization: dict[str, Any] = {"group_size": GROUP_SIZE, "bits": default_bits}
    for module, bits in bits_by_module.items():
        if bits != default_bits:
            quantization[module] = {"group_size": GROUP_SIZE, "bits": bits}
    return quantization


def _phi3_config(metadata: Mapping[str, Any], quantization: dict[str, Any], *, has_own_head: bool) -> dict[str, Any]:
    vocabulary = metadata["tokenizer.ggml.tokens"]
    context_length_tokens = int(metadata["llama.context_length"])
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "dtype": "float32",
        "hidden_size": int(metadata["llama.embedding_length"]),
        "num_hidden_layers": int(metadata["llama.block_count"]),
        "intermediate_size": int(metadata["llama.feed_forward_length"]),
        "num_attention_heads": int(metadata["llama.attention.head_count"]),
        "num_key_value_heads": int(metadata["llama.attention.head_count_kv"]),
        # The file has a float32, and 1e-5 as float32 would be written with sixteen digits.
        "rms_norm_eps": float(f"{float(metadata['llama.attention.layer_norm_rms_epsilon']):.6g}"),
        "rope_theta": float(metadata["llama.rope.freq_base"]),
        "max_position_embeddings": context_length_tokens,
        "original_max_position_embeddings": context_length_tokens,
        "vocab_size": len(vocabulary),
        "hidden_act": "silu",
        "tie_word_embeddings": not has_own_head,
        "bos_token_id": int(metadata["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(metadata["tokenizer.ggml.eos_token_id"]),
        "pad_token_id": int(metadata["tokenizer.ggml.padding_token_id"]),
        "quantization": quantization,
    }
