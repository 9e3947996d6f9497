"""Rotary positions: how queries and keys are turned, with the wavelengths that each row's sequence takes.

**Which longrope factors a row takes** is a matter of the whole sequence, not of a position: the reference takes the
long ones as soon as the sequence is longer than `trained_tokens`, for every position of it, and computes all keys and
values anew at that moment. So here, for each row by itself: the length is the positions known after the call, or what
the caller says in `sequence_lengths` (a chunk of a long prompt has to be read with the prompt's length). A row whose kept keys
were made with the short factors cannot go on past `trained_tokens`: that raises `LongContextSwitch`, and the caller
reads the row's tokens again from the first. Never are short and long keys mixed in silence.

While `is_always_long` every row takes the long ones at every length: rows then grow past `trained_tokens` with the keys they
have, and shorter ones give other text than the reference.

On the CPU the sines and cosines of a call are computed once for all layers. `mx.fast.rope` computes them for each layer
and each of queries and keys, which for 32 rows of the embedded model takes 7.0 ms of a step where this takes 2.8 (measured).
On a GPU `mx.fast.rope` is one kernel.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import mlx.core as mx
import numpy
from numpy.typing import NDArray

from actors.inference.checkpoints.phi3_config import Rotary

__all__ = ["LongContextSwitch", "PrecomputedRotaryTable", "RotaryEmbedding", "RotaryTable"]


class LongContextSwitch(ValueError):
    """A row's keys were computed with the short factors and its sequence now needs the long ones."""

    def __init__(self, trained_tokens: int) -> None:
        super().__init__(
            f"the sequence grew past {trained_tokens} tokens, where this model's positions are computed with other factors: "
            "its tokens have to be read again from the first"
        )
        self.trained_tokens = trained_tokens


class RotaryTable(Protocol):
    """Turns heads (rows, heads, length, width) by the positions of one call, in all layers alike."""

    def __call__(self, heads: mx.array) -> mx.array:
        """The same shape, with the leading `Rotary.width` numbers of each head turned."""


class RotaryEmbedding:
    """The wavelengths of a model; not a module, since they are no parameters."""

    def __init__(self, rotary: Rotary) -> None:
        self._rotary = rotary
        self.is_always_long = False
        exponents = mx.arange(0, rotary.width, 2, dtype=mx.float32) / rotary.width
        self._plain = rotary.theta**exponents
        self._short = mx.array(rotary.short_factor) * self._plain if rotary.is_longrope else self._plain
        self._long = mx.array(rotary.long_factor) * self._plain if rotary.is_longrope else self._plain

    def for_rows(
        self, cache: Any, inputs: mx.array, sequence_lengths: Sequence[int] | None
    ) -> "RotaryTable | PrecomputedRotaryTable":
        """How to turn the queries and keys of one call: ids (rows, length) after what `cache` holds. See the module.

        Raises `LongContextSwitch`.
        """
        is_long = self._are_long(cache, inputs, sequence_lengths) if self._rotary.is_longrope else [False]
        offset = 0 if cache is None else cache.offset
        if mx.default_device() == mx.Device(mx.cpu):
            short, long = self._for_numpy
            wavelengths = numpy.where(numpy.array(is_long)[:, None], long, short)
            return PrecomputedRotaryTable(self._rotary, wavelengths, offset, inputs.shape[1])
        if not self._rotary.is_longrope:
            return _FusedRotaryTable(self._rotary, offset, None)
        if all(is_long):
            return _FusedRotaryTable(self._rotary, offset, self._long)
        if not any(is_long):
            return _FusedRotaryTable(self._rotary, offset, self._short)
        return _FusedRotaryTable(self._rotary, offset, self._short, self._long, mx.array(is_long)[:, None, None, None])

    @cached_property
    def _for_numpy(self) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]]:
        """The short wavelengths and the long ones."""
        return numpy.array(self._short), numpy.array(self._long)

    def _are_long(self, cache: Any, inputs: mx.array, sequence_lengths: Sequence[int] | None) -> list[bool]:
        rows, length = inputs.shape
        if self.is_always_long:
            return [True]
        trained = self._rotary.trained_tokens
        if sequence_lengths is not None:
            return [total > trained for total in sequence_lengths]
        known = _known_positions(cache, rows)
        for before in known:
            if 0 < before <= trained < before + length:
                raise LongContextSwitch(trained)
        return [before + length > trained for before in known]


class PrecomputedRotaryTable:
    """By sines and cosines of its own (rows or 1, 1, length, width / 2), which numpy computes: that waits for no thread of MLX's."""

    def __init__(self, rotary: Rotary, wavelengths: NDArray[numpy.float32], offset: Any, length: int) -> None:
        positions = numpy.asarray(offset).reshape(-1, 1) + numpy.arange(length)
        # As the reference has it: a product with the reciprocal, in float32.
        scaled = positions.astype(numpy.float32) * numpy.float32(rotary.position_scale)
        angles = scaled[:, None, :, None] * (numpy.float32(1) / wavelengths)[:, None, None, :]
        self.cosines = numpy.cos(angles) * numpy.float32(rotary.attention_factor)
        self.sines = numpy.sin(angles) * numpy.float32(rotary.attention_factor)
        self._width = rotary.width

    @cached_property
    def _of_mlx(self) -> tuple[mx.array, mx.array]:
        return mx.array(self.cosines), mx.array(self.sines)

    def __call__(self, heads: mx.array) -> mx.array:
        cosines, sines = self._of_mlx
        half = self._width // 2
        first, second = heads[..., :half], heads[..., half : self._width]
        parts = [first * cosines - second * sines, second * cosines + first * sines]
        if heads.shape[-1] > self._width:
            parts.append(heads[..., self._width :])
        return mx.concatenate(parts, axis=-1)


class _FusedRotaryTable:
    """By `mx.fast.rope`, twice where some rows take other wavelengths."""

    def __init__(
        self,
        rotary: Rotary,
        offset: Any,
        wavelengths: mx.array | None,
        others: mx.array | None = None,
        takes_others: mx.array | None = None,
    ) -> None:
        self._rotary, self._offset, self._wavelengths = rotary, offset, wavelengths
        self._others, self._takes_others = others, takes_others

    def __call__(self, heads: mx.array) -> mx.array:
        rotary = self._rotary
        if rotary.attention_factor != 1:
            turned, passed = heads[..., : rotary.width], heads[..., rotary.width :]
            heads = mx.concatenate([turned * rotary.attention_factor, passed], axis=-1)
        result = self._turned(heads, self._wavelengths)
        if self._takes_others is not None:
            result = mx.where(self._takes_others, self._turned(heads, self._others), result)
        return result

    def _turned(self, heads: mx.array, wavelengths: mx.array | None) -> mx.array:
        return mx.fast.rope(
            heads, self._rotary.width, traditional=False, base=None if wavelengths is not None else self._rotary.theta,
            scale=self._rotary.position_scale, offset=self._offset, freqs=wavelengths,
        )  # fmt: skip


def _known_positions(cache: Any, rows: int) -> list[int]:
    """Positions of each row that the cache holds; negative by what padding is still to come."""
    if cache is None:
        return [0] * rows
    offset = cache.offset
    return [int(offset)] * rows if isinstance(offset, int) else [int(one) for one in offset.tolist()]
