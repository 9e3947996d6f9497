"""Attention of one piece of a batch: the only token of a row, or some tokens of a row that follow each other.

Compiled by numba. Queries are read from the tiles of the product, keys and values from the cache's buffers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy

from actors.inference.models.compiled.compiling import Integers, compiled
from actors.inference.models.compiled.exponential import exponential
from actors.inference.models.compiled.machine_code import COLUMNS, floats_at
from actors.inference.models.compiled.products import BLOCK_BYTES, columns_of, step_of, tile_product
from actors.inference.models.compiled.tables import (
    HEAD_WIDTH,
    HEADS,
    KEY_HEADS,
    KEYS,
    KNOWN,
    LENGTH,
    MIXED,
    QKV,
    TOKENS,
    VALUES,
    WINDOW,
)

__all__ = ["attend_token", "attend_tokens", "scratch_bytes"]

_LOWEST = numpy.float32(-3e38)


def scratch_bytes(positions: int, head_width: int, group: int) -> int:
    """Room that each thread needs: for the weights at hand, queries, scores and what was mixed of one attention."""
    return BLOCK_BYTES + 4 * (COLUMNS * (positions + 2 * head_width) + group * (positions + head_width + 16)) + 4096


@compiled
def attend_token(
    layer: Integers, sizes: Integers, first_valid: Integers, scale: float, piece: int, scratch: int
) -> None:
    """Attention of one row's only token, for the heads that share a key head."""
    tokens, width, heads, key_heads = sizes[TOKENS], sizes[HEAD_WIDTH], sizes[HEADS], sizes[KEY_HEADS]
    group, features = heads // key_heads, (heads + 2 * key_heads) * width
    row, key_head = piece // key_heads, piece % key_heads
    tile = row // step_of(tokens)
    columns, lane = columns_of(tile, tokens), row % step_of(tokens)
    end = sizes[KNOWN] + 1
    begin = first_valid[row]
    if sizes[WINDOW]:
        begin = max(begin, end - sizes[WINDOW])
    positions = end - begin
    query = floats_at(scratch, group * width)
    scores = floats_at(scratch + 4 * group * width, 1)
    source = floats_at(sizes[QKV] + 4 * step_of(tokens) * tile * features, 1)
    for index in range(group * width):
        query[index] = source[(key_head * group * width + index) * columns + lane] * scale
    keys = layer[KEYS] + row * layer[KEYS + 1] + key_head * layer[KEYS + 2]
    for position in range(positions):
        key = floats_at(keys + (begin + position) * layer[KEYS + 3], 1)
        for one in range(group):
            total = numba.float32(0)
            for feature in range(width):
                total += query[one * width + feature] * key[feature]
            scores[one * positions + position] = total
    for one in range(group):
        _soften_row(scores, one * positions, positions)
    for index in range(group * width):
        query[index] = numba.float32(0)
    values = layer[VALUES] + row * layer[VALUES + 1] + key_head * layer[VALUES + 2]
    for position in range(positions):
        value = floats_at(values + (begin + position) * layer[VALUES + 3], 1)
        for one in range(group):
            likelihood = scores[one * positions + position]
            for feature in range(width):
                query[one * width + feature] += likelihood * value[feature]
    out = floats_at(sizes[MIXED] + 4 * step_of(tokens) * tile * heads * width, 1)
    for index in range(group * width):
        out[(key_head * group * width + index) * columns + lane] = query[index]


@compiled
def _soften_row(scores: Any, start: int, positions: int) -> None:
    """Softmax of so many numbers from a place on."""
    largest = _LOWEST
    for position in range(start, start + positions):
        largest = max(largest, scores[position])
    total = numba.float32(0)
    for position in range(start, start + positions):
        likelihood = exponential(scores[position] - largest)
        scores[position] = likelihood
        total += likelihood
    share = numba.float32(1) / total
    for position in range(start, start + positions):
        scores[position] *= share


@compiled
def attend_tokens(
    layer: Integers, sizes: Integers, first_valid: Integers, scale: float, piece: int, scratch: int
) -> None:
    """Attention of up to `COLUMNS` tokens of one row that follow each other, for one head."""
    tokens, width, heads, key_heads = sizes[TOKENS], sizes[HEAD_WIDTH], sizes[HEADS], sizes[KEY_HEADS]
    length, features = sizes[LENGTH], (heads + 2 * key_heads) * width
    parts = (length + COLUMNS - 1) // COLUMNS
    row, head, start = piece // (heads * parts), piece // parts % heads, COLUMNS * (piece % parts)
    count = min(COLUMNS, length - start)
    columns = COLUMNS if count > 16 else (16 if count > 8 else 8)
    first_position = sizes[KNOWN] + start
    begin = first_valid[row]
    if sizes[WINDOW]:
        begin = max(begin, first_position - sizes[WINDOW] + 1)
    # Padding attends to padding; nobody reads it.
    padding = max(0, begin - first_position)
    begin -= padding
    positions = first_position + count - begin
    query, mixed = floats_at(scratch, 1), floats_at(scratch + 4 * COLUMNS * width, 1)
    scores_at = scratch + 8 * COLUMNS * width
    scores = floats_at(scores_at, 1)
    for lane in range(columns):
        token = min(row * length + start + lane, tokens - 1)
        tile = token // step_of(tokens)
        wide = columns_of(tile, tokens)
        source = floats_at(
            sizes[QKV] + 4 * (step_of(tokens) * tile * features + head * width * wide + token % step_of(tokens)), 1
        )
        for feature in range(width):
            query[feature * columns + lane] = source[feature * wide] * scale
    key_head = head // (heads // key_heads)
    keys = layer[KEYS] + row * layer[KEYS + 1] + key_head * layer[KEYS + 2] + begin * layer[KEYS + 3]
    tile_product(scratch, keys, layer[KEYS + 3], 4, scores_at, width, positions, columns, 0)
    _mask(scores, positions, columns, first_position - begin, padding, sizes[WINDOW])
    _soften(scores, positions, columns, mixed)
    values = layer[VALUES] + row * layer[VALUES + 1] + key_head * layer[VALUES + 2] + begin * layer[VALUES + 3]
    tile_product(scores_at, values, 4, layer[VALUES + 3], scratch + 4 * COLUMNS * width, positions, width, columns, 0)
    for lane in range(count):
        token = row * length + start + lane
        tile = token // step_of(tokens)
        wide = columns_of(tile, tokens)
        out = floats_at(
            sizes[MIXED] + 4 * (step_of(tokens) * tile * heads * width + head * width * wide + token % step_of(tokens)),
            1,
        )
        for feature in range(width):
            out[feature * wide] = mixed[feature * columns + lane]


@compiled
def _mask(scores: Any, positions: int, columns: int, own: int, padding: int, window: int) -> None:
    """Column j stands at position own + j and sees nothing behind it, nor what is further before it than the window.

    The first ``padding`` positions are seen by themselves alone.
    """
    for lane in range(columns):
        for position in range(min(positions, own + lane + 1), positions):
            scores[position * columns + lane] = _LOWEST
        if own + lane >= padding:
            for position in range(padding):
                scores[position * columns + lane] = _LOWEST
        if window:
            for position in range(min(positions, max(0, own + lane - window + 1))):
                scores[position * columns + lane] = _LOWEST


@compiled
def _soften(scores: Any, positions: int, columns: int, room: Any) -> None:
    """Softmax along positions, column by column. ``room`` is for 64 numbers."""
    for lane in range(columns):
        room[lane] = _LOWEST
    for position in range(positions):
        for lane in range(columns):
            room[lane] = max(room[lane], scores[position * columns + lane])
    for lane in range(columns):
        room[columns + lane] = numba.float32(0)
    for position in range(positions):
        for lane in range(columns):
            likelihood = exponential(scores[position * columns + lane] - room[lane])
            scores[position * columns + lane] = likelihood
            room[columns + lane] += likelihood
    for lane in range(columns):
        room[lane] = numba.float32(1) / room[columns + lane]
    for position in range(positions):
        for lane in range(columns):
            scores[position * columns + lane] *= room[lane]
