"""Products with the columns of few tokens: along the inputs, four rows of weights at a time. Compiled by numba.

Layout and weights are those of `gemm.py`.
"""

from __future__ import annotations

import numba

from actors.inference.kernels.intrinsics import (
    DOT_ROWS,
    dot_4_by_1,
    dot_4_by_2,
    dot_4_by_4,
    dot_4_by_8,
    dot_8_by_1,
    dot_8_by_2,
    dot_8_by_4,
    dot_8_by_8,
    fetch_soon,
    floats_at,
)
from actors.inference.kernels.jit import Integers, compiled_as, inlined
from actors.inference.kernels.layout import BIASES, BITS, GROUP, SCALES, WEIGHT

__all__ = ["FEW", "multiply_few"]

FEW = 8
"""Up to this many tokens, each is a tile of its own: weights are then fetched for little work, and products along the inputs are
faster than tiles with most of their columns empty."""

_ROWS_1, _ROWS_2, _ROWS_4, _ROWS_8 = (DOT_ROWS[columns] for columns in (1, 2, 4, 8))


@compiled_as("int64(int64)")
def _columns_made(tokens: int) -> int:
    """Number of columns computed for ``tokens`` tokens; some may be repeated."""
    if tokens <= 2:
        return tokens
    return 4 if tokens <= 4 else 8


@inlined
def _dot_packed(
    bits: int, x: int, step: int, last: int, words: int, scales: int, biases: int, groups: int, parts: int, out: int
) -> None:
    """out[row, column] of four rows of packed weights, with the columns of `_columns_made`."""
    row_bytes, scale_bytes = groups * parts * 4 * bits, 4 * groups
    columns = _columns_made(last + 1)
    rows = _ROWS_1 if columns == 1 else (_ROWS_2 if columns == 2 else (_ROWS_4 if columns == 4 else _ROWS_8))
    for row in range(0, 4, rows):
        w, s, b = words + row * row_bytes, scales + row * scale_bytes, biases + row * scale_bytes
        y = out + 4 * row * columns
        if bits == 4:
            if columns == 1:
                dot_4_by_1(x, step, last, w, s, b, groups, parts, y)
            elif columns == 2:
                dot_4_by_2(x, step, last, w, s, b, groups, parts, y)
            elif columns == 4:
                dot_4_by_4(x, step, last, w, s, b, groups, parts, y)
            else:
                dot_4_by_8(x, step, last, w, s, b, groups, parts, y)
        elif columns == 1:
            dot_8_by_1(x, step, last, w, s, b, groups, parts, y)
        elif columns == 2:
            dot_8_by_2(x, step, last, w, s, b, groups, parts, y)
        elif columns == 4:
            dot_8_by_4(x, step, last, w, s, b, groups, parts, y)
        else:
            dot_8_by_8(x, step, last, w, s, b, groups, parts, y)


@inlined
def _fetch(address: int, count: int) -> None:
    """Prefetches ``count`` bytes at once: earlier than the processor does by itself (measured, AVX-512: 13 % of a step)."""
    for place in range(address, address + count, 64):
        fetch_soon(place)


@inlined
def _dot_rows(x: int, w: int, inputs: int, y: int) -> None:
    """y[row] of four rows of float32 weights with one column."""
    column, zero = floats_at(x, 1), floats_at(w, 1)
    one, two, three = floats_at(w + 4 * inputs, 1), floats_at(w + 8 * inputs, 1), floats_at(w + 12 * inputs, 1)
    a = b = c = d = numba.float32(0)
    for k in range(inputs):
        number = column[k]
        a += number * zero[k]
        b += number * one[k]
        c += number * two[k]
        d += number * three[k]
    out = floats_at(y, 4)
    out[0], out[1], out[2], out[3] = a, b, c, d


@compiled_as("void(int64, int64, int64, int64, int64, int64, int64, int64, int64[::1], int64, int64)")
def multiply_few(
    x: int, y: int, inputs: int, outputs: int, first: int, count: int, y_first: int, tokens: int, projection: Integers,
    scratch: int, adds: int,
) -> None:  # fmt: skip
    """Like `gemm.multiply`, for up to `FEW` tokens, each a tile of its own."""
    bits, group = projection[BITS], projection[GROUP]
    made = floats_at(scratch, 1)
    width = _columns_made(tokens)
    for row in range(0, count, 4):
        if bits == 0:
            for token in range(tokens):
                weights = projection[WEIGHT] + 4 * (first + row) * inputs
                _dot_rows(x + 4 * token * inputs, weights, inputs, scratch + 16 * token)
        else:
            groups = inputs // group
            words = projection[WEIGHT] + (first + row) * (inputs // 8) * bits
            scales = projection[SCALES] + 4 * (first + row) * groups
            biases = projection[BIASES] + 4 * (first + row) * groups
            _fetch(words, inputs // 2 * bits)
            _fetch(scales, 16 * groups)
            _fetch(biases, 16 * groups)
            _dot_packed(bits, x, 4 * inputs, tokens - 1, words, scales, biases, groups, group // 32, scratch)
        for token in range(tokens):
            out = floats_at(y + 4 * (token * outputs + y_first + row), 4)
            for index in range(4):
                number = made[4 * token + index] if bits == 0 else made[index * width + token]
                out[index] = number + out[index] if adds else number
