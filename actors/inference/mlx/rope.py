"""Rotary embedding of queries and keys, with the wavelengths that each row's sequence requires.

**Which longrope factors a row uses** depends on the whole sequence, not on a position: the reference uses the
long ones as soon as the sequence is longer than `trained_tokens`, for every position in it, and recomputes all keys and
values at that moment. The same applies here, for each row separately: the length is the positions known after the call, or
the caller's `sequence_lengths` (a chunk of a long prompt must be read with the prompt's length). A row whose cached keys
were made with the short factors cannot continue past `trained_tokens`: that raises `LongContextSwitch`, and the caller
reads the row's tokens again from the first. Short and long keys are never mixed silently.

With `is_always_long` every row uses the long factors at every length: rows then grow past `trained_tokens` with their
existing keys, and shorter rows produce different text from the reference.

On the CPU the sines and cosines of a call are computed once for all layers. `mx.fast.rope` computes them for each layer
and separately for queries and keys, which for 32 rows of the embedded model takes 7.0 ms of a step where this takes 2.8
(measured). On a GPU `mx.fast.rope` is one kernel.
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
            "its tokens must be read again from the first"
        )
        self.trained_tokens = trained_tokens


class RotaryTable(Protocol):
    """Rotates heads (rows, heads, length, width) by the positions of one call, the same in all layers."""

    def __call__(self, heads: mx.array) -> mx.array:
        """Returns the same shape, with the leading `Rotary.width` dimensions of each head rotated."""


class RotaryEmbedding:
    """The wavelengths of a model; not a module, since they are not parameters."""

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
        """Rotation for the queries and keys of one call: ids (rows, length) after those in `cache`. See the module.

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
        """Short and long wavelengths."""
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
    """Rotates with precomputed sines and cosines (rows or 1, 1, length, width / 2), made by numpy without waiting for
    MLX's threads."""

    def __init__(self, rotary: Rotary, wavelengths: NDArray[numpy.float32], offset: Any, length: int) -> None:
        positions = numpy.asarray(offset).reshape(-1, 1) + numpy.arange(length)
        # Like the reference: a product with the reciprocal, in float32.
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
    """Rotates with `mx.fast.rope`, twice if some rows use other wavelengths."""

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
    """Positions of each row in the cache; negative by the padding still to come."""
    if cache is None:
        return [0] * rows
    offset = cache.offset
    return [int(offset)] * rows if isinstance(offset, int) else [int(one) for one in offset.tolist()]
