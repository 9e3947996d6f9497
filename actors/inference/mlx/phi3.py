"""Phi-3 on MLX, equal to the reference where mlx-lm's own class is not.

mlx-lm 0.32's phi3 uses `long_factor` at every length, ignores `sliding_window`, and does not read `rope_parameters`.
This class does all three like transformers' `Phi3ForCausalLM`, and keeps mlx-lm's names of modules and parameters, so
that its checkpoints, quantization and adapters fit. The rotary embedding, with longrope's two sets of factors, is in
`rope.py`. On the CPU all layers can be computed by compiled kernels in one call (`kernels/`), on the same parameters
and caches.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
from mlx import nn
from mlx_lm.models.base import create_attention_mask

from actors.inference.checkpoints.phi3_config import Phi3Arguments
from actors.inference.mlx.attention import attend
from actors.inference.mlx.rope import RotaryEmbedding, RotaryTable
from actors.inference.mlx.swiglu import fused_swiglu

ModelArgs = Phi3Arguments
"""Name that mlx-lm's modules use for it."""


class CompiledPass(Protocol):
    """Computes the layers and the head in place of MLX (`kernels/forward.py`)."""

    def takes(self, cache: Any) -> bool:
        """True if it can write into caches of this kind."""

    def reserve(self, cache: Any, rows: int, positions: int) -> None:
        """Allocates cache memory for a known number of positions."""

    def grow_ahead(self, cache: Any, to_come: int, step_positions: int) -> None:
        """Allocates part of the cache memory that will soon be needed."""

    def states(self, inputs: mx.array, cache: Any, turn: RotaryTable) -> mx.array:
        """Returns the same states as `Phi3Model`; the caches grow in the same way."""

    def states_of_all(self, parts: Sequence[tuple[mx.array, Any, RotaryTable]]) -> list[mx.array]:
        """The same for two parts with separate caches."""

    def logits(self, states: mx.array) -> mx.array:
        """Returns the same logits as the head."""


class Model(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Phi-3 with its head: ids `(rows, length)` to logits `(rows, length, vocabulary)`."""

    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.model = Phi3Model(args)
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(
        self, inputs: mx.array, cache: Any = None, *, sequence_lengths: Sequence[int] | None = None
    ) -> mx.array:
        """Returns logits. `cache` is one cache per layer, or None; `sequence_lengths` as in `rope.py`. May raise
        `LongContextSwitch`."""
        return self.project(self.model(inputs, cache, sequence_lengths=sequence_lengths))

    def project(self, hidden: mx.array) -> mx.array:
        """The head alone: normalized states (…, width) to logits (…, vocabulary)."""
        if self.model.compiled is not None:
            return self.model.compiled.logits(hidden)
        is_tied = self.args.tie_word_embeddings
        logits: mx.array = self.model.embed_tokens.as_linear(hidden) if is_tied else self.lm_head(hidden)
        return logits

    def reserve(self, cache: Any, rows: int, positions: int) -> None:
        """Allocates cache memory for this many more positions of each row; without compiled kernels caches grow by
        themselves."""
        if self.model.compiled is not None:
            self.model.compiled.reserve(cache, rows, positions)

    def grow_ahead(self, cache: Any, to_come: int, step_positions: int) -> None:
        """Allocates part of the cache memory to come between two steps, so that no step has to allocate all of it.

        ``to_come`` is the number of positions that may still be written, ``step_positions`` the number written per
        step.
        """
        if self.model.compiled is not None:
            self.model.compiled.grow_ahead(cache, to_come, step_positions)

    def states_of_both(self, first: tuple[mx.array, Any], second: tuple[mx.array, Any]) -> tuple[mx.array, mx.array]:
        """States of ids for two caches in one pass, if compiled kernels compute them.

        The weights are read once for both, which is most of the cost of a pass with few tokens.
        """
        return self.model.states_of_both(first, second)

    @property
    def layers(self) -> Any:
        """The blocks, each of which needs a cache."""
        return self.model.layers

    def take_long_factors(self) -> None:
        """Uses the long factors at every length from now on. Existing cached keys would not match: call it before there
        are any."""
        self.model.take_long_factors()


class Phi3Model(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Phi-3 without its head: ids `(rows, length)` to normalized states `(rows, length, width)`."""

    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [_Block(args) for _ in range(args.num_hidden_layers)]
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self._window = args.sliding_window
        self._rotation = RotaryEmbedding(args.rotary)
        self.compiled: CompiledPass | None = None

    def __call__(
        self, inputs: mx.array, cache: Any = None, *, sequence_lengths: Sequence[int] | None = None
    ) -> mx.array:
        """Returns the states before the head. May raise `LongContextSwitch`."""
        caches = [None] * len(self.layers) if cache is None else cache
        turn = self._rotation.for_rows(caches[0], inputs, sequence_lengths)
        if self.compiled is not None and self.compiled.takes(cache):
            return self.compiled.states(inputs, cache, turn)
        hidden = self.embed_tokens(inputs)
        mask = create_attention_mask(hidden, caches[0], window_size=self._window)
        for layer, one in zip(self.layers, caches, strict=True):
            hidden = layer(hidden, mask, one, turn)
        normalized: mx.array = self.norm(hidden)
        return normalized

    def states_of_both(self, first: tuple[mx.array, Any], second: tuple[mx.array, Any]) -> tuple[mx.array, mx.array]:
        """See `Model.states_of_both`. May raise `LongContextSwitch`."""
        compiled = self.compiled
        if compiled is None or not all(compiled.takes(cache) for _, cache in (first, second)):
            raise ValueError("two passes in one need compiled code and caches of a batch")
        turns = [self._rotation.for_rows(cache[0], inputs, None) for inputs, cache in (first, second)]
        one, other = compiled.states_of_all([(*first, turns[0]), (*second, turns[1])])
        return one, other

    def take_long_factors(self) -> None:
        """See `Model.take_long_factors`."""
        self._rotation.is_always_long = True


class _Block(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self.self_attn = _Attention(args)
        self.mlp = _FeedForward(args)
        self.input_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)

    def __call__(self, hidden: mx.array, mask: Any, cache: Any, turn: RotaryTable) -> mx.array:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, cache, turn)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class _Attention(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self._heads, self._key_value_heads = args.num_attention_heads, args.num_key_value_heads
        self._scale = args.head_dim**-0.5
        width = args.head_dim
        self.qkv_proj = nn.Linear(args.hidden_size, (self._heads + 2 * self._key_value_heads) * width, bias=False)
        self.o_proj = nn.Linear(self._heads * width, args.hidden_size, bias=False)

    def __call__(self, hidden: mx.array, mask: Any, cache: Any, turn: RotaryTable) -> mx.array:
        rows, length, _width = hidden.shape
        all_heads = self._heads + 2 * self._key_value_heads
        by_head = self.qkv_proj(hidden).reshape(rows, length, all_heads, -1).transpose(0, 2, 1, 3)
        turned = turn(by_head[:, : self._heads + self._key_value_heads])
        queries, keys = mx.split(turned, [self._heads], axis=1)
        values = by_head[:, self._heads + self._key_value_heads :]
        if cache is not None:
            keys, values = cache.update_and_fetch(keys, values)
        mixed = attend(queries, keys, values, scale=self._scale, mask=mask)
        result: mx.array = self.o_proj(mixed.transpose(0, 2, 1, 3).reshape(rows, length, -1))
        return result


class _FeedForward(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(args.hidden_size, 2 * args.intermediate_size, bias=False)
        self.down_proj = nn.Linear(args.intermediate_size, args.hidden_size, bias=False)

    def __call__(self, hidden: mx.array) -> mx.array:
        result: mx.array = self.down_proj(fused_swiglu(self.gate_up_proj(hidden)))
        return result
