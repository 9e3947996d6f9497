"""Positions turned with sines and cosines of our own are those that `mx.fast.rope` turns."""

from __future__ import annotations

import mlx.core as mx
import numpy
import pytest
from mlx_lm.models.cache import BatchKVCache

from actors.inference.checkpoints.phi3_config import Rotary
from actors.inference.mlx.rope import RotaryEmbedding, _FusedRotaryTable

PLAIN = Rotary(width=16, theta=10_000.0)
LINEAR = Rotary(width=16, theta=500.0, position_scale=0.25)
PARTIAL = Rotary(width=12, theta=10_000.0)
LONGROPE = Rotary(
    width=12,
    theta=10_000.0,
    attention_factor=1.19,
    short_factor=(1.0, 1.1, 1.2, 1.3, 1.4, 1.5),
    long_factor=(1.0, 2.0, 3.0, 5.0, 8.0, 13.0),
    trained_tokens=40,
)
HEAD_WIDTH = 16
KNOWN = [30, 57, 9]
"""Positions of each row before the call; under longrope the second row is a long one."""


def after_known() -> BatchKVCache:
    cache = BatchKVCache([max(KNOWN) - one for one in KNOWN])
    stored = mx.zeros((len(KNOWN), 1, max(KNOWN), HEAD_WIDTH))
    cache.update_and_fetch(stored, stored)
    return cache


@pytest.mark.parametrize("rotary", [PLAIN, LINEAR, PARTIAL, LONGROPE])
@pytest.mark.parametrize("length", [1, 5])
def test_a_batch_is_turned_as_by_mlxs_own_operation(rotary: Rotary, length: int) -> None:
    heads = mx.random.normal((len(KNOWN), 2, length, HEAD_WIDTH), key=mx.random.key(1))
    cache = after_known()
    ids = mx.zeros((len(KNOWN), length), mx.int32)
    got = RotaryEmbedding(rotary).for_rows(cache, ids, None)(heads)
    plain = rotary.theta ** (mx.arange(0, rotary.width, 2, dtype=mx.float32) / rotary.width)
    for row, known in enumerate(KNOWN):
        wavelengths = plain
        if rotary.is_longrope:
            is_long = known + length > rotary.trained_tokens
            wavelengths = plain * mx.array(rotary.long_factor if is_long else rotary.short_factor)
        expected = _FusedRotaryTable(rotary, mx.array([known]), wavelengths)(heads[row : row + 1])
        numpy.testing.assert_allclose(got[row : row + 1], expected, atol=2e-5)


def test_without_a_cache_positions_begin_at_zero() -> None:
    heads = mx.random.normal((2, 1, 4, HEAD_WIDTH), key=mx.random.key(2))
    got = RotaryEmbedding(PLAIN).for_rows(None, mx.zeros((2, 4), mx.int32), None)(heads)
    numpy.testing.assert_allclose(got, _FusedRotaryTable(PLAIN, 0, None)(heads), atol=2e-5)
    numpy.testing.assert_array_equal(got[:, :, 0], heads[:, :, 0])
