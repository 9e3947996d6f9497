"""The softmax of some positions' scores, a column to each lane of a vector, in registers. As instructions for LLVM.

Numba's own loops along so few columns are unrolled before they are made vectors, and then are not: that takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import ir
from numba.core import types

from actors.inference.kernels.intrinsics import power_of_two
from actors.inference.kernels.jit import compiled_strictly
from actors.inference.kernels.llvm_ir import F32, I32, I64, fma, instructions, load, loop, store

__all__ = ["exponential", "online_softmax_8", "online_softmax_16"]


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


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _exponential(builder: Any, x: Any) -> Any:
    """As `exponential.exponential`, of a vector of numbers that are not above zero."""
    kind = x.type

    def number(value: float) -> Any:
        return ir.Constant(kind, [value] * kind.count)

    x = _larger(builder, x, number(LOWEST))
    # Beyond 2 to the 23rd a float has no fraction, so this rounds.
    whole = builder.fsub(fma(builder, x, number(LOG2_E), number(ROUNDER)), number(ROUNDER))
    rest = fma(builder, whole, number(-WHOLE_HIGH), x)
    rest = fma(builder, whole, number(WHOLE_LOW), rest)
    value = number(FACTORS[0])
    for factor in FACTORS[1:]:
        value = fma(builder, value, rest, number(factor))
    value = fma(builder, builder.fmul(value, rest), rest, builder.fadd(rest, number(1.0)))
    integers = ir.VectorType(I32, kind.count)
    biased = builder.add(builder.fptosi(whole, integers), ir.Constant(integers, [127] * kind.count))
    power = builder.bitcast(builder.shl(biased, ir.Constant(integers, [23] * kind.count)), kind)
    return builder.fmul(value, power)


def _online_softmax(lanes: int) -> Any:
    """An intrinsic for the scores of some positions, so many columns of them."""
    kind = ir.VectorType(F32, lanes)

    @instructions
    def soften(_typing: Any, _scores: Any, _positions: Any, _room: Any, _mixed: Any, _width: Any) -> Any:
        """Scores (positions, lanes) to likelihoods before they are divided by their sum; all are addresses but the counts.

        ``room`` has of each column the largest score so far, then the sum; ``mixed`` (width, lanes) is what was made of
        likelihoods so far. Both are scaled down where a larger score turns up.
        """

        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            scores, positions, room, mixed, width = arguments

            def at(start: Any, index: Any) -> Any:
                return builder.add(start, builder.mul(index, I64(4 * lanes)))

            before, total = load(builder, room, kind), load(builder, at(room, I64(1)), kind)

            def look(index: Any, carried: Sequence[Any]) -> list[Any]:
                return [_larger(builder, load(builder, at(scores, index), kind), carried[0])]

            (largest,) = loop(builder, positions, [before], look)
            share = _exponential(builder, builder.fsub(before, largest))

            def scale(index: Any, _carried: Sequence[Any]) -> list[Any]:
                store(builder, builder.fmul(load(builder, at(mixed, index), kind), share), at(mixed, index))
                return []

            loop(builder, width, [], scale)

            def weigh(index: Any, carried: Sequence[Any]) -> list[Any]:
                score = load(builder, at(scores, index), kind)
                likelihood = _exponential(builder, builder.fsub(score, largest))
                store(builder, likelihood, at(scores, index))
                return [builder.fadd(carried[0], likelihood)]

            (total,) = loop(builder, positions, [builder.fmul(total, share)], weigh)
            store(builder, largest, room)
            store(builder, total, at(room, I64(1)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), code

    return soften


online_softmax_8, online_softmax_16 = _online_softmax(8), _online_softmax(16)
