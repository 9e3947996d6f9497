"""A faster product for one row of activations on the CPU, for BLAS libraries whose `sgemm` is slow at it.

Decoding for one client multiplies every weight by a single row. MLX always calls `cblas_sgemm` for that, and OpenBLAS
packs the whole weight first, which costs as much as the product. Its `cblas_sgemv` reads the weight once and takes half
the time (measured, 2 cores, all projections of the embedded model: 16 ms against 34 ms). MLX never calls that, so the
layers here do, on MLX's own buffers. Both are float32; only the order of summation differs, as it does between batch
sizes anyway. With more than one row nothing changes. MKL optimises a single row itself and needs none of this.

A foreign function needs the row's actual values, so the layer evaluates it: the graph of a step is then built and run
in pieces. On the CPU this costs nothing measurable compared to the product.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import attrs
import mlx.core as mx
import numpy
from mlx import nn
from mlx.utils import tree_unflatten
from numpy.typing import NDArray

MatrixVectorProduct = Callable[..., None]
"""`cblas_sgemv` from ctypes."""

_ROW_MAJOR, _NO_TRANSPOSE = 101, 111


def use_single_row_products(model: nn.Module) -> bool:
    """Replaces the float32 linear layers of `model` by ones that are fast for a single row. Returns True if it did.

    Does nothing unless a tuned BLAS other than MKL is in the global symbol table (see `worker/blas.py`). Parameters,
    their names and their memory stay as they are. Must be called after the weights are loaded: the layers keep the
    addresses of the weights.
    """
    multiply = _find_matrix_vector_product()
    if multiply is None:
        return False
    replacements: list[tuple[str, nn.Module]] = []
    for path, module in model.named_modules():
        if type(module) is nn.Linear and "bias" not in module and module.weight.dtype == mx.float32:
            replacements.append((path, SingleRowLinear(module.weight, multiply)))
        elif type(module) is nn.Embedding and module.weight.dtype == mx.float32:
            replacements.append((path, SingleRowEmbedding(module.weight, multiply)))
    model.update_modules(_nested(replacements))
    return bool(replacements)


class SingleRowLinear(nn.Module):  # type: ignore[misc]  # mlx.nn is untyped
    """`nn.Linear` without bias, `(…, in) -> (…, out)`, using a matrix-vector product for a single row."""

    def __init__(self, weight: mx.array, multiply: MatrixVectorProduct) -> None:
        super().__init__()
        self.weight = weight
        self._product = _WeightTimesRow(weight, multiply)

    def __call__(self, x: mx.array) -> mx.array:
        """The product with the transposed weight, as in `nn.Linear`."""
        return self._product(x)


class SingleRowEmbedding(nn.Embedding):  # type: ignore[misc]  # mlx.nn is untyped
    """`nn.Embedding` that is fast for one row when used as the output head."""

    def __init__(self, weight: mx.array, multiply: MatrixVectorProduct) -> None:
        # Skips nn.Embedding's own constructor, which would draw random weights.
        nn.Module.__init__(self)
        self.weight = weight
        self._product = _WeightTimesRow(weight, multiply)

    def as_linear(self, x: mx.array) -> mx.array:
        """The product with the transposed table, `(…, width) -> (…, vocabulary)`."""
        return self._product(x)


@attrs.frozen(eq=False, init=False)
class _WeightTimesRow:
    """A weight `(out, in)` with the address of its buffer."""

    weight: mx.array
    """Keeps the buffer alive as long as its address is used."""
    view: NDArray[numpy.float32]
    """The same buffer as a numpy view; holding it keeps MLX from reusing the buffer."""
    multiply: MatrixVectorProduct
    """`cblas_sgemv`."""

    def __init__(self, weight: mx.array, multiply: MatrixVectorProduct) -> None:
        mx.eval(weight)
        view: NDArray[numpy.float32] = numpy.asarray(weight)
        if not view.flags.c_contiguous or view.dtype != numpy.float32:
            raise ValueError("the weight must be row-contiguous float32")
        self.__attrs_init__(weight, view, multiply)

    def __call__(self, x: mx.array) -> mx.array:
        outputs, inputs = self.view.shape
        if x.size != inputs or x.dtype != mx.float32:
            return x @ self.weight.T
        row = numpy.ascontiguousarray(numpy.asarray(x).reshape(inputs))
        result = numpy.empty(outputs, numpy.float32)
        self.multiply(
            _ROW_MAJOR, _NO_TRANSPOSE, outputs, inputs, 1.0, self.view.ctypes.data, inputs,
            row.ctypes.data, 1, 0.0, result.ctypes.data, 1,
        )  # fmt: skip
        return mx.array(result).reshape(*x.shape[:-1], outputs)


def _find_matrix_vector_product() -> MatrixVectorProduct | None:
    """`cblas_sgemv` of the BLAS in the global symbol table; None if there is none or it needs no help."""
    try:
        everything = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    if hasattr(everything, "mkl_get_version") or not hasattr(everything, "cblas_sgemv"):
        return None
    function = everything.cblas_sgemv
    number, real, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    function.restype = None
    function.argtypes = [
        number, number, number, number, real, pointer, number, pointer, number, real, pointer, number,
    ]  # fmt: skip
    product: MatrixVectorProduct = function
    return product


def _nested(replacements: list[tuple[str, nn.Module]]) -> dict[str, Any]:
    """Nested dictionaries and lists for `Module.update_modules`, from dotted paths."""
    tree: dict[str, Any] = tree_unflatten(replacements)
    return tree
