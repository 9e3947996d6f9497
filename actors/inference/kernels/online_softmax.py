"""Exponential and online softmax (FlashAttention's streaming softmax) along vectors. Compiled by numba.

The softmax holds one column per vector lane in registers and is written in LLVM IR: numba unrolls its own loops over so few
columns before vectorising them, and then does not vectorise them, which takes ten times as long.
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
"""Below this, e^x is not a normal float32."""
LOG2_E = 1.44269504
ROUNDER = 12582912.0
"""Above 2^23 a float32 has no fraction, so adding this and subtracting it again rounds."""
WHOLE_HIGH, WHOLE_LOW = 0.693359375, 2.12194440e-4
"""ln 2 is the first minus the second; the first has few digits, so that its products with integers are exact."""
FACTORS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Polynomial coefficients for the remainder, from the seventh power down to the second, as in Cephes' `expf`."""


@compiled_strictly
def exponential(x: float) -> float:
    """e^x for a float32, within 2 units in the last place; nearly zero below -87."""
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
    """Like `exponential`, for a vector of non-positive numbers."""
    kind = x.type

    def number(value: float) -> Any:
        return ir.Constant(kind, [value] * kind.count)

    x = _larger(builder, x, number(LOWEST))
    # Above 2^23 a float32 has no fraction, so this rounds.
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
    """Builds the softmax intrinsic for ``lanes`` columns."""
    kind = ir.VectorType(F32, lanes)

    @instructions
    def soften(_typing: Any, _scores: Any, _positions: Any, _room: Any, _mixed: Any, _width: Any) -> Any:
        """Turns scores (positions, lanes) into weights that are not divided by their sum yet. Arguments are addresses, except
        the counts.

        ``room`` holds the largest score so far and then the sum, for each column; ``mixed`` (width, lanes) is the output
        accumulated so far. Both are scaled down when a larger score appears.
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
