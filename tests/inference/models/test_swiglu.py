"""The gate with numpy's exponentials gives what mlx-lm's own gives."""

from __future__ import annotations

import mlx.core as mx
import numpy
import pytest
from mlx_lm.models.activations import swiglu

from actors.inference.mlx.swiglu import fused_swiglu


def drawn(*shape: int, spread: float = 3.0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(7)) * spread


@pytest.mark.parametrize("shape", [(1, 1, 12), (5, 3, 128), (2, 300, 1024), (7, 2)])
def test_the_gate_is_mlxs_own(shape: tuple[int, ...]) -> None:
    both = drawn(*shape)
    got = fused_swiglu(both)
    assert got.shape == (*shape[:-1], shape[-1] // 2)
    numpy.testing.assert_allclose(got, swiglu(*mx.split(both, 2, axis=-1)), rtol=2e-6, atol=1e-6)


def test_numbers_far_from_zero_overflow_nothing() -> None:
    gates = mx.array([[-1e30, -200.0, -90.0, 0.0, 90.0, 1e30]])
    got = numpy.array(fused_swiglu(mx.concatenate([gates, mx.ones_like(gates)], axis=-1)))
    numpy.testing.assert_allclose(got, [[0.0, 0.0, 0.0, 0.0, 90.0, 1e30]], atol=1e-30)


def test_what_is_passed_in_stays_as_it_is() -> None:
    both = drawn(4, 64)
    before = numpy.array(both)
    mx.eval(fused_swiglu(both), fused_swiglu(both))
    assert (numpy.array(both) == before).all()


def test_other_types_keep_the_graph() -> None:
    both = drawn(3, 8).astype(mx.bfloat16)
    assert fused_swiglu(both).dtype == mx.bfloat16
