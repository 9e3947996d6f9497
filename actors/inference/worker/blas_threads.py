"""The number of threads of the BLAS under MLX, read and set while it runs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from attrs import frozen

__all__ = ["BlasThreads", "blas_threads"]

_PREFIXES = ("", "scipy_")
"""The renamed copy of `blas.py` keeps the package's own names for what MLX does not call."""


@frozen
class BlasThreads:
    """Of an OpenBLAS in this process."""

    most: int
    """As many as it was started with."""
    use: Callable[[int], None]
    """Say how many the next products use. Only between two products, from the thread that asks for them."""


def blas_threads() -> BlasThreads | None:
    """Of the OpenBLAS in the global symbol table; None for other libraries, which mind this themselves or cannot."""
    try:
        everything = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    for prefix in _PREFIXES:
        if hasattr(everything, f"{prefix}openblas_set_num_threads"):
            read, use = everything[f"{prefix}openblas_get_num_threads"], everything[f"{prefix}openblas_set_num_threads"]
            read.restype, read.argtypes = ctypes.c_int, []
            use.restype, use.argtypes = None, [ctypes.c_int]
            return BlasThreads(read(), use)
    return None
