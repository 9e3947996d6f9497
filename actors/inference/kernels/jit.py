"""Decorators that compile the functions of this folder with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy
from numpy.typing import NDArray

from actors.inference.kernels.jit_cache import code_folder

__all__ = [
    "CODE_FOLDER",
    "Integers",
    "Table",
    "compiled",
    "compiled_as",
    "compiled_for_python",
    "compiled_strictly",
    "inlined",
]

CODE_FOLDER = code_folder(numba.config.CACHE_DIR)
numba.config.CACHE_DIR = str(CODE_FOLDER)

_LOOSE = {"reassoc", "nsz", "contract"}
"""Sums may be reordered, as in any BLAS. Infinities and NaN keep their meaning."""

Integers = NDArray[numpy.int64]
Table = NDArray[numpy.int64]
"""Rows of integers."""
_Compiled = TypeVar("_Compiled", bound=Callable[..., Any])


_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
_WITHOUT_PYTHON = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: _Compiled) -> _Compiled:
    """Compiles a function that other compiled functions call, for the argument types they use."""
    return cast("_Compiled", numba.njit(fastmath=_LOOSE, **_OPTIONS, **_WITHOUT_PYTHON)(function))


def compiled_as(signature: str) -> Callable[[_Compiled], _Compiled]:
    """Like `compiled`, for one signature: otherwise each constant argument would cause another specialization."""
    make = numba.njit(signature, fastmath=_LOOSE, **_OPTIONS, **_WITHOUT_PYTHON)
    return cast("Callable[[_Compiled], _Compiled]", make)


def inlined(function: _Compiled) -> _Compiled:
    """Inlines a function into the compiled functions that call it. Each level of calls is compiled along with everything below it."""
    return cast("_Compiled", numba.njit(inline="always", error_model="numpy")(function))


def compiled_strictly(function: _Compiled) -> _Compiled:
    """Like `compiled`, for a function whose sums must be evaluated as written."""
    return cast("_Compiled", numba.njit(fastmath={"contract"}, **_OPTIONS, **_WITHOUT_PYTHON)(function))


def compiled_for_python(signature: str) -> Callable[[_Compiled], _Compiled]:
    """Compiles a function that Python calls, immediately: threads that call it do not hold the GIL and never compile."""
    make = numba.njit(signature, fastmath=_LOOSE, **_OPTIONS)
    return cast("Callable[[_Compiled], _Compiled]", make)
