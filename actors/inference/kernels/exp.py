"""An exponential that runs along vectors, for attention and gate. Compiled by numba."""

from __future__ import annotations

import numba

from actors.inference.kernels.intrinsics import power_of_two
from actors.inference.kernels.jit import compiled_strictly

__all__ = ["FACTORS", "LOG2_E", "LOWEST", "ROUNDER", "WHOLE_HIGH", "WHOLE_LOW", "exponential"]

LOWEST = -87.0
"""Below it there are no normal numbers."""
LOG2_E = 1.44269504
ROUNDER = 12582912.0
"""Beyond 2 to the 23rd a float has no fraction, so adding this and taking it away again rounds."""
WHOLE_HIGH, WHOLE_LOW = 0.693359375, 2.12194440e-4
"""The logarithm of 2 is the first less the second, and the first has few digits: products with whole numbers are exact."""
FACTORS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Of a polynomial for what is left, from the seventh power down to the second; Cephes' `expf` has the same."""


@compiled_strictly
def exponential(x: float) -> float:
    """e to a float32, within 2 units of the last place; zero's neighbour below -87."""
    x = max(numba.float32(LOWEST), x)
    x = min(numba.float32(88.0), x)
    whole = (x * numba.float32(LOG2_E) + numba.float32(ROUNDER)) - numba.float32(ROUNDER)
    rest = x - whole * numba.float32(WHOLE_HIGH)
    rest = rest + whole * numba.float32(WHOLE_LOW)
    value = numba.float32(FACTORS[0])
    value = value * rest + numba.float32(FACTORS[1])
    value = value * rest + numba.float32(FACTORS[2])
    value = value * rest + numba.float32(FACTORS[3])
    value = value * rest + numba.float32(FACTORS[4])
    value = value * rest + numba.float32(FACTORS[5])
    value = value * rest * rest + rest + numba.float32(1.0)
    result: float = value * power_of_two(numba.int32(whole))
    return result
