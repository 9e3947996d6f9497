"""Products of weights with columns of activations, and the division of work among threads. Compiled by numba.

**Layout.** Activations of ``tokens`` columns and ``features`` rows are stored in tiles of up to `COLUMNS` columns; each tile is
contiguous, ``(features, columns)``. A product writes the layout that the next one reads, and per-feature operations
run along columns. `columns_of` gives the width of a tile; the last is 8 or 16 wide where that is enough. Up to
`FEW` tokens are each a tile of their own.

**Weights** are ``(outputs, inputs)`` in row order: float32, or MLX's packed format of 4 or 8 bits with a scale and a bias per
group of inputs. Packed weights are expanded to float32 a few rows at a time, in a core's cache, so that memory is read once and
in packed form; all sums are float32.

**Work sharing.** Every thread runs the same function. A phase consists of work items; a free thread claims the next one, and
moves on when all are complete. A late thread, even one that never arrives, finds nothing to do and delays no other.
"""

from __future__ import annotations

import numba

from actors.inference.kernels.intrinsics import (
    COLUMNS,
    TILE_ROWS,
    count_up,
    floats_at,
    read_count,
    tile_1,
    tile_8,
    tile_8_one,
    tile_16,
    tile_16_four,
    tile_16_one,
    tile_32,
    tile_32_one,
    unpack_4,
    unpack_8,
    yield_processor,
)
from actors.inference.kernels.jit import Integers, compiled, compiled_as, compiled_for_python, inlined
from actors.inference.kernels.layout import BIASES, BITS, GROUP, SCALES, WEIGHT
from actors.inference.kernels.skinny_gemm import FEW, multiply_few

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ROWS",
    "PHASE_BYTES",
    "claim",
    "columns_of",
    "complete",
    "multiply",
    "project",
    "step_of",
    "tile_product",
    "tiles_of",
    "to_tiles",
]

PHASE_BYTES = 64
"""The two counters of a phase have a cache line to themselves."""
BLOCK_ROWS = 96
DEPTH = 288
"""Inputs per block: a tile of this depth stays in the L1 cache."""
BLOCK_BYTES = 4 * BLOCK_ROWS * DEPTH + 4096
"""Scratch that `multiply` needs."""
_ROWS_8, _ROWS_16, _ROWS_32 = TILE_ROWS[8], TILE_ROWS[16], TILE_ROWS[32]
_SPINS = 20_000
"""Polls of a counter before the thread yields its processor; some fifty microseconds."""


@compiled
def claim(progress: int, phase: int) -> int:
    """Claims the next work item of a phase."""
    return int(count_up(progress + PHASE_BYTES * phase))


@compiled
def complete(progress: int, phase: int, pieces: int, mine: int) -> None:
    """Reports completed work items and waits for those of other threads."""
    done = progress + PHASE_BYTES * phase + 8
    for _ in range(mine):
        count_up(done)
    spins = 0
    while read_count(done) < pieces:
        spins += 1
        if spins >= _SPINS:
            yield_processor()


@compiled_as("int64(int64)")
def step_of(tokens: int) -> int:
    """Number of tokens from one tile to the next."""
    return 1 if tokens <= FEW else COLUMNS


@compiled_as("int64(int64)")
def tiles_of(tokens: int) -> int:
    """Number of tiles."""
    return tokens if tokens <= FEW else (tokens + COLUMNS - 1) // COLUMNS


@compiled_as("int64(int64, int64)")
def columns_of(tile: int, tokens: int) -> int:
    """Number of columns of a tile."""
    if tokens <= FEW:
        return 1
    left = tokens - COLUMNS * tile
    if left > 16:
        return COLUMNS
    return 16 if left > 8 else 8


@compiled_as("void(int64, int64, int64, int64, int64, int64, int64, int64, int64)")
def tile_product(
    x: int, w: int, row_step: int, step: int, y: int, depth: int, rows: int, columns: int, adds: int
) -> None:
    """y (rows, columns) (+)= w (rows, depth) times x (depth, columns), one tile; strides of ``w`` in bytes."""
    row = 0
    if columns == 32:
        while row + _ROWS_32 <= rows:
            tile_32(x, w + row * row_step, row_step, step, y + 128 * row, depth, adds)
            row += _ROWS_32
        while row < rows:
            tile_32_one(x, w + row * row_step, row_step, step, y + 128 * row, depth, adds)
            row += 1
    elif columns == 16:
        while row + _ROWS_16 <= rows:
            tile_16(x, w + row * row_step, row_step, step, y + 64 * row, depth, adds)
            row += _ROWS_16
        while row + 4 <= rows:
            tile_16_four(x, w + row * row_step, row_step, step, y + 64 * row, depth, adds)
            row += 4
        while row < rows:
            tile_16_one(x, w + row * row_step, row_step, step, y + 64 * row, depth, adds)
            row += 1
    elif columns == 8:
        while row + _ROWS_8 <= rows:
            tile_8(x, w + row * row_step, row_step, step, y + 32 * row, depth, adds)
            row += _ROWS_8
        while row < rows:
            tile_8_one(x, w + row * row_step, row_step, step, y + 32 * row, depth, adds)
            row += 1
    else:
        for one in range(rows):
            tile_1(x, w + one * row_step, row_step, step, y + 4 * one, depth, adds)


@inlined
def _unpack_rows(projection: Integers, inputs: int, first: int, rows: int, start: int, depth: int, out: int) -> None:
    """Expands weights (rows, depth) from row ``first`` and input ``start`` on to floats at an address."""
    bits, group = projection[BITS], projection[GROUP]
    groups = inputs // group
    scales, biases = floats_at(projection[SCALES], 1), floats_at(projection[BIASES], 1)
    # Position of a row's start within its group; incremented from there instead of dividing for each row.
    first_group, first_left = start // group, group - start % group
    for row in range(rows):
        words = projection[WEIGHT] + ((first + row) * inputs + start) // 8 * bits
        place, left = (first + row) * groups + first_group, first_left
        there = out + 4 * row * depth
        for _ in range(depth // 32):
            scale, bias = scales[place], biases[place]
            if bits == 4:
                for part in range(4):
                    unpack_4(words + 4 * part, there + 32 * part, scale, bias)
            else:
                for part in range(4):
                    unpack_8(words + 8 * part, there + 32 * part, scale, bias)
            words += 4 * bits
            there += 128
            left -= 32
            if left == 0:
                place, left = place + 1, group


@compiled_as("void(int64, int64, int64, int64, int64, int64, int64, int64, int64[::1], int64, int64)")
def multiply(
    x: int, y: int, inputs: int, outputs: int, first: int, count: int, y_first: int, tokens: int, projection: Integers,
    scratch: int, adds: int,
) -> None:  # fmt: skip
    """Computes ``count`` rows of a product, from row ``first`` of the weights on, for all tokens.

    x (inputs, tokens) and y (outputs, tokens) are tiles at addresses; the rows are written from ``y_first`` on. ``count`` is a
    multiple of four. ``adds`` is 1 to add to the existing values. ``scratch`` is `BLOCK_BYTES` owned by this thread.
    """
    if tokens <= FEW:
        multiply_few(x, y, inputs, outputs, first, count, y_first, tokens, projection, scratch, adds)
        return
    is_packed = projection[BITS] != 0
    tiles = tiles_of(tokens)
    for start in range(0, count, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, count - start)
        for begin in range(0, inputs, DEPTH):
            depth = min(DEPTH, inputs - begin)
            if is_packed:
                _unpack_rows(projection, inputs, first + start, rows, begin, depth, scratch)
                w, row_step = scratch, 4 * depth
            else:
                w, row_step = projection[WEIGHT] + 4 * ((first + start) * inputs + begin), 4 * inputs
            adds_now = 1 if begin > 0 else adds
            for tile in range(tiles):
                columns = columns_of(tile, tokens)
                tile_product(
                    x + 4 * (COLUMNS * tile * inputs + begin * columns), w, row_step, 4,
                    y + 4 * (COLUMNS * tile * outputs + (y_first + start) * columns), depth, rows, columns, adds_now,
                )  # fmt: skip


@compiled
def to_tiles(source: int, out: int, tokens: int, features: int, tile: int) -> None:
    """Copies one tile from row order, (tokens, features); columns without a token are zero."""
    columns, step = columns_of(tile, tokens), step_of(tokens)
    there = floats_at(out + 4 * step * tile * features, 1)
    for lane in range(columns):
        token = step * tile + lane
        if token < tokens:
            here = floats_at(source + 4 * token * features, 1)
            for feature in range(features):
                there[feature * columns + lane] = here[feature]
        else:
            for feature in range(features):
                there[feature * columns + lane] = numba.float32(0)


@compiled_for_python("void(int64, int64, int64, int64, int64, int64, int64, int64, int64[::1])")
def project(
    progress: int, scratch: int, source: int, columns: int, out: int, tokens: int, inputs: int, outputs: int,
    projection: Integers,
) -> None:  # fmt: skip
    """out (tokens, outputs) = source (tokens, inputs) times the weights, both in row order at addresses; run by every thread.

    ``columns`` is a buffer for the source as tiles.
    """
    tiles = tiles_of(tokens)
    pieces, mine = tiles, 0
    piece = claim(progress, 0)
    while piece < pieces:
        to_tiles(source, columns, tokens, inputs, piece)
        mine += 1
        piece = claim(progress, 0)
    complete(progress, 0, pieces, mine)
    rows_each = BLOCK_ROWS
    pieces, mine = (outputs + rows_each - 1) // rows_each, 0
    made = scratch + BLOCK_BYTES
    piece = claim(progress, 1)
    while piece < pieces:
        first = piece * rows_each
        count = min(rows_each, outputs - first)
        if tokens <= FEW:
            # One tile per token is the same as row order.
            multiply(columns, out, inputs, outputs, first, count, first, tokens, projection, scratch, 0)
        else:
            multiply(columns, made, inputs, rows_each, first, count, 0, tokens, projection, scratch, 0)
            for tile in range(tiles):
                width = columns_of(tile, tokens)
                tiled = floats_at(made + 4 * COLUMNS * tile * rows_each, 1)
                for lane in range(min(width, tokens - COLUMNS * tile)):
                    row = floats_at(out + 4 * ((COLUMNS * tile + lane) * outputs + first), 1)
                    for index in range(count):
                        row[index] = tiled[index * width + lane]
        mine += 1
        piece = claim(progress, 1)
    complete(progress, 1, pieces, mine)
