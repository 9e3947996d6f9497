"""Attention with numpy's exponentials gives what MLX's own gives."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy
import pytest

from actors.inference.mlx.attention import WORTHWHILE, attend


def drawn(*shape: int, seed: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def masks(rows: int, length: int, positions: int) -> list[Any]:
    causal = mx.arange(positions)[None] <= (positions - length + mx.arange(length))[:, None]
    # The second row is padded on its left; its first queries see nothing at all.
    padding = mx.array([0] + [positions - length + 3] * (rows - 1))
    seen = causal[None, None] & (mx.arange(positions)[None, None, None] >= padding[:, None, None, None])
    return [None, causal[None, None], seen, mx.where(seen, 0.0, -1e9), "causal", causal]


@pytest.mark.parametrize("which", range(6))
@pytest.mark.parametrize(("heads", "key_heads"), [(9, 3), (4, 4), (8, 1)])
@pytest.mark.parametrize(("length", "positions"), [(1, 3000), (16, 700), (64, 64), (2, 5)])
def test_attention_is_mlxs_own(which: int, heads: int, key_heads: int, length: int, positions: int) -> None:
    rows, width = 2, 32
    queries = drawn(rows, heads, length, width, seed=1) * 3
    # A slice of a larger buffer, as a cache hands it out.
    keys = drawn(rows, key_heads, positions + 50, width, seed=2)[..., :positions, :]
    values = drawn(rows, key_heads, positions + 50, width, seed=3)[..., :positions, :]
    mask = masks(rows, length, positions)[which]
    expected = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.2, mask=mask)
    got = attend(queries, keys, values, scale=0.2, mask=mask)
    numpy.testing.assert_allclose(got, expected, atol=2e-5, rtol=1e-4)


def test_the_shapes_above_are_of_both_kinds() -> None:
    sizes = [2 * 9 * length * positions for length, positions in [(1, 3000), (16, 700), (64, 64), (2, 5)]]
    assert min(sizes) < WORTHWHILE < max(sizes)


def test_what_is_passed_in_stays_as_it_is() -> None:
    queries, keys, values = (drawn(1, 4, 50, 16, seed=seed) for seed in range(3))
    mask = mx.random.bernoulli(0.8, (1, 1, 50, 50), key=mx.random.key(9)) | mx.eye(50).astype(mx.bool_)
    before = [numpy.array(one) for one in (queries, keys, values, mask)]
    mx.eval([attend(queries, keys, values, scale=0.3, mask=mask) for _ in range(2)])
    for one, kept in zip((queries, keys, values, mask), before, strict=True):
        assert (numpy.array(one) == kept).all()
