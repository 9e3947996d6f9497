"""How fast this machine gives memory that was not in use before: in a virtual machine the host may have to find it first."""

from __future__ import annotations

import time

import mlx.core as mx

__all__ = ["allocation_bytes_per_second"]

PIECE_BYTES = 16 * 1024 * 1024
PIECES = 3


def allocation_bytes_per_second() -> float:
    """The slowest of a few pieces that are held side by side, so that none gets what another gave back. Blocks for some 50 ms."""
    mx.clear_cache()
    held: list[mx.array] = []
    slowest = float("inf")
    for _ in range(PIECES):
        began = time.perf_counter()
        held.append(mx.zeros((PIECE_BYTES,), mx.uint8))
        mx.eval(held[-1])
        slowest = min(slowest, PIECE_BYTES / (time.perf_counter() - began))
    del held
    mx.clear_cache()
    return slowest
