"""The single-row products give what the plain ones give, and only where they are meant to."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.phi3 import Model as Phi3
from mlx_lm.models.phi3 import ModelArgs

from actors.inference.mlx import single_row
from actors.inference.mlx.load import load_checkpoint


def _multiply_in_numpy(*arguments: int) -> None:
    """`cblas_sgemv` for row-major weights, in numpy, so that these tests need no particular BLAS."""
    import ctypes

    _order, _transpose, outputs, inputs, _alpha, weight, _stride, row, _one, _beta, result, _step = arguments

    def view(address: int, count: int) -> "numpy.ndarray[tuple[int], numpy.dtype[numpy.float32]]":
        return numpy.ctypeslib.as_array((ctypes.c_float * count).from_address(address))

    view(result, outputs)[:] = view(weight, outputs * inputs).reshape(outputs, inputs) @ view(row, inputs)
    calls.append((outputs, inputs))


calls: list[tuple[int, int]] = []


@pytest.fixture
def with_products(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    monkeypatch.setattr(single_row, "_find_matrix_vector_product", lambda: _multiply_in_numpy)


@pytest.mark.usefixtures("with_products")
def test_one_row_takes_the_product_and_more_rows_do_not(
    tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint()
    fast = load_checkpoint(folder, "cpu", may_compile=False)
    monkeypatch.setattr(single_row, "_find_matrix_vector_product", lambda: None)
    plain = load_checkpoint(folder, "cpu", may_compile=False)
    assert (fast.has_single_row_products, plain.has_single_row_products) == (True, False)
    one, many = mx.array([[7]]), mx.array([[7, 8], [9, 3]])
    numpy.testing.assert_allclose(numpy.asarray(fast.model(one)), numpy.asarray(plain.model(one)), rtol=1e-4, atol=1e-4)
    assert calls == [(128, 64), (64, 64), (192, 64), (64, 96), (96, 64)]
    calls.clear()
    numpy.testing.assert_array_equal(numpy.asarray(fast.model(many)), numpy.asarray(plain.model(many)))
    assert calls == []


@pytest.mark.usefixtures("with_products")
def test_parameters_keep_their_names_and_arrays(tiny_checkpoint: Callable[..., Path]) -> None:
    loaded = load_checkpoint(tiny_checkpoint(), "cpu", may_compile=False)
    names = {name for name, _array in tree_flatten(loaded.model.parameters())}
    with_matrices = {name for name, _array in tree_flatten(Phi3(ModelArgs.from_dict(loaded.config)).parameters())}
    assert loaded.has_single_row_products
    assert names == with_matrices
    assert loaded.every_parameter_from_checkpoint


@pytest.mark.usefixtures("with_products")
def test_a_row_in_half_precision_is_left_to_mlx() -> None:
    layer = single_row.SingleRowLinear(mx.ones((3, 4)), _multiply_in_numpy)
    assert layer(mx.ones((1, 4), mx.float16)).tolist() == [[4.0, 4.0, 4.0]]
    assert calls == []


@pytest.mark.usefixtures("with_products")
def test_a_strided_row_is_read_in_order() -> None:
    layer = single_row.SingleRowLinear(mx.eye(3), _multiply_in_numpy)
    row = mx.arange(6, dtype=mx.float32).reshape(3, 2)[:, 1].reshape(1, 1, 3)
    assert layer(row).tolist() == [[[1.0, 3.0, 5.0]]]
    assert calls == [(3, 3)]
