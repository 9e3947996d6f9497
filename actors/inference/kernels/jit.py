"""How the functions of this folder are compiled, by numba."""

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
"""Sums may be made in another order, as any BLAS does it. Infinities and the like keep their meaning."""

Integers = NDArray[numpy.int64]
Table = NDArray[numpy.int64]
"""Rows of them."""
_Compiled = TypeVar("_Compiled", bound=Callable[..., Any])


_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
_WITHOUT_PYTHON = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: _Compiled) -> _Compiled:
    """Compile a function that other compiled ones call, for what they call it with."""
    return cast("_Compiled", numba.njit(fastmath=_LOOSE, **_OPTIONS, **_WITHOUT_PYTHON)(function))


def compiled_as(signature: str) -> Callable[[_Compiled], _Compiled]:
    """The same for one signature: otherwise each constant among the arguments makes one more function to be compiled."""
    make = numba.njit(signature, fastmath=_LOOSE, **_OPTIONS, **_WITHOUT_PYTHON)
    return cast("Callable[[_Compiled], _Compiled]", make)


def inlined(function: _Compiled) -> _Compiled:
    """Make a function part of the compiled ones that call it. Each level of calls is compiled with all that is below it."""
    return cast("_Compiled", numba.njit(inline="always", error_model="numpy")(function))


def compiled_strictly(function: _Compiled) -> _Compiled:
    """As `compiled`, for one whose sums must be made as they are written."""
    return cast("_Compiled", numba.njit(fastmath={"contract"}, **_OPTIONS, **_WITHOUT_PYTHON)(function))


def compiled_for_python(signature: str) -> Callable[[_Compiled], _Compiled]:
    """Compile a function that Python calls, at once: threads that call it hold no lock of Python's, nor ever compile."""
    make = numba.njit(signature, fastmath=_LOOSE, **_OPTIONS)
    return cast("Callable[[_Compiled], _Compiled]", make)
