"""An exponential that runs along vectors, for attention and gate. Compiled by numba."""

from __future__ import annotations

import numba

from actors.inference.models.compiled.compiling import compiled_strictly
from actors.inference.models.compiled.machine_code import power_of_two

__all__ = ["exponential"]


@compiled_strictly
def exponential(x: float) -> float:
    """e to a float32, within 2 units of the last place; zero's neighbour below -87."""
    x = max(numba.float32(-87.0), x)
    x = min(numba.float32(88.0), x)
    # Beyond 2 to the 23rd a float has no fraction, so this rounds.
    whole = (x * numba.float32(1.44269504) + numba.float32(12582912.0)) - numba.float32(12582912.0)
    rest = x - whole * numba.float32(0.693359375)
    rest = rest + whole * numba.float32(2.12194440e-4)
    value = numba.float32(1.9875691500e-4)
    value = value * rest + numba.float32(1.3981999507e-3)
    value = value * rest + numba.float32(8.3334519073e-3)
    value = value * rest + numba.float32(4.1665795894e-2)
    value = value * rest + numba.float32(1.6666665459e-1)
    value = value * rest + numba.float32(5.0000001201e-1)
    value = value * rest * rest + rest + numba.float32(1.0)
    result: float = value * power_of_two(numba.int32(whole))
    return result
