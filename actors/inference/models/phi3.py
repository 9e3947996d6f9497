"""Phi-3 on MLX, equal to the reference where mlx-lm's own class is not.

mlx-lm 0.32's phi3 takes `long_factor` for every length, ignores `sliding_window`, and does not read `rope_parameters`.
This one does all three as transformers' `Phi3ForCausalLM` does, and keeps mlx-lm's names of modules and parameters, so
that its checkpoints, quantization and adapters fit.

**Which longrope factors a row takes** is a matter of the whole sequence, not of a position: the reference takes the
long ones as soon as the sequence is longer than `trained_tokens`, for every position of it, and computes all keys and
values anew at that moment. So here, for each row by itself: the length is the positions known after the call, or what
the caller says in `sequence_lengths` (a chunk of a long prompt has to be read with the prompt's length). A row whose kept keys
were made with the short factors cannot go on past `trained_tokens`: that raises `LongContextSwitch`, and the caller
reads the row's tokens again from the first. Never are short and long keys mixed in silence.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.activations import swiglu
from mlx_lm.models.base import create_attention_mask

from actors.inference.models.attention import attend
from actors.inference.models.phi3_config import Phi3Arguments, Rotary

ModelArgs = Phi3Arguments
"""The name under which mlx-lm's modules have theirs."""


class LongContextSwitch(ValueError):
    """A row's keys were computed with the short factors and its sequence now needs the long ones."""

    def __init__(self, trained_tokens: int) -> None:
        super().__init__(
            f"the sequence grew past {trained_tokens} tokens, where this model's positions are measured anew: "
            "its tokens have to be read again from the first"
        )
        self.trained_tokens = trained_tokens


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
        """Logits. `cache` is one cache a layer, or None; `sequence_lengths` as the module says. May raise `LongContextSwitch`."""
        hidden = self.model(inputs, cache, sequence_lengths=sequence_lengths)
        is_tied = self.args.tie_word_embeddings
        logits: mx.array = self.model.embed_tokens.as_linear(hidden) if is_tied else self.lm_head(hidden)
        return logits

    @property
    def layers(self) -> Any:
        """The blocks, of which each wants a cache."""
        return self.model.layers


class Phi3Model(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """Phi-3 without its head: ids `(rows, length)` to normalized states `(rows, length, width)`."""

    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [_Block(args) for _ in range(args.num_hidden_layers)]
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self._window = args.sliding_window
        self._rotation = _Rotation(args.rotary)

    def __call__(
        self, inputs: mx.array, cache: Any = None, *, sequence_lengths: Sequence[int] | None = None
    ) -> mx.array:
        """The states, before the head. May raise `LongContextSwitch`."""
        hidden = self.embed_tokens(inputs)
        caches = [None] * len(self.layers) if cache is None else cache
        mask = create_attention_mask(hidden, caches[0], window_size=self._window)
        turn = self._rotation.for_rows(caches[0], inputs, sequence_lengths)
        for layer, one in zip(self.layers, caches, strict=True):
            hidden = layer(hidden, mask, one, turn)
        normalized: mx.array = self.norm(hidden)
        return normalized


class _Block(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    def __init__(self, args: Phi3Arguments) -> None:
        super().__init__()
        self.self_attn = _Attention(args)
        self.mlp = _FeedForward(args)
        self.input_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)

    def __call__(self, hidden: mx.array, mask: Any, cache: Any, turn: "_Turn") -> mx.array:
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

    def __call__(self, hidden: mx.array, mask: Any, cache: Any, turn: "_Turn") -> mx.array:
        rows, length, _width = hidden.shape
        all_heads = self._heads + 2 * self._key_value_heads
        by_head = self.qkv_proj(hidden).reshape(rows, length, all_heads, -1).transpose(0, 2, 1, 3)
        queries, keys, values = mx.split(by_head, [self._heads, self._heads + self._key_value_heads], axis=1)
        # The position is read before the cache moves it on.
        offset = 0 if cache is None else cache.offset
        queries, keys = turn(queries, offset), turn(keys, offset)
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
        gate, up = mx.split(self.gate_up_proj(hidden), 2, axis=-1)
        result: mx.array = self.down_proj(swiglu(gate, up))
        return result


class _Rotation:
    """The wavelengths of a model; not a module, since they are no parameters."""

    def __init__(self, rotary: Rotary) -> None:
        self._rotary = rotary
        self._short = self._long = None
        if rotary.is_longrope:
            exponents = mx.arange(0, rotary.width, 2, dtype=mx.float32) / rotary.width
            wavelengths = rotary.theta**exponents
            self._short = mx.array(rotary.short_factor) * wavelengths
            self._long = mx.array(rotary.long_factor) * wavelengths

    def for_rows(self, cache: Any, inputs: mx.array, sequence_lengths: Sequence[int] | None) -> "_Turn":
        """How to turn the queries and keys of one call, with each row's factors chosen."""
        rotary = self._rotary
        if not rotary.is_longrope:
            return _Turn(rotary, None)
        rows, length = inputs.shape
        known = _known_positions(cache, rows)
        totals = [before + length for before in known] if sequence_lengths is None else list(sequence_lengths)
        if sequence_lengths is None:
            for before, total in zip(known, totals, strict=True):
                if 0 < before <= rotary.trained_tokens < total:
                    raise LongContextSwitch(rotary.trained_tokens)
        is_long = [total > rotary.trained_tokens for total in totals]
        if all(is_long):
            return _Turn(rotary, self._long)
        if not any(is_long):
            return _Turn(rotary, self._short)
        return _Turn(rotary, self._short, self._long, mx.array(is_long)[:, None, None, None])


class _Turn:
    """Turns heads `(rows, heads, length, width)` by their positions, in one call for all layers alike."""

    def __init__(
        self,
        rotary: Rotary,
        wavelengths: mx.array | None,
        others: mx.array | None = None,
        takes_others: mx.array | None = None,
    ) -> None:
        self._rotary, self._wavelengths = rotary, wavelengths
        self._others, self._takes_others = others, takes_others

    def __call__(self, heads: mx.array, offset: Any) -> mx.array:
        rotary = self._rotary
        if rotary.attention_factor != 1:
            turned, passed = heads[..., : rotary.width], heads[..., rotary.width :]
            heads = mx.concatenate([turned * rotary.attention_factor, passed], axis=-1)
        result = self._turned(heads, offset, self._wavelengths)
        if self._takes_others is not None:
            result = mx.where(self._takes_others, self._turned(heads, offset, self._others), result)
        return result

    def _turned(self, heads: mx.array, offset: Any, wavelengths: mx.array | None) -> mx.array:
        return mx.fast.rope(
            heads, self._rotary.width, traditional=False, base=None if wavelengths is not None else self._rotary.theta,
            scale=self._rotary.position_scale, offset=offset, freqs=wavelengths,
        )  # fmt: skip


def _known_positions(cache: Any, rows: int) -> list[int]:
    """Positions of each row that the cache holds; negative by what padding is still to come."""
    if cache is None:
        return [0] * rows
    offset = cache.offset
    return [int(offset)] * rows if isinstance(offset, int) else [int(one) for one in offset.tolist()]
