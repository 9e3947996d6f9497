"""Attention of one work item: the only token of a row, or some consecutive tokens of a row. Compiled by numba.

Queries are read from the tiles of the QKV product, keys and values from the cache's buffers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy

from actors.inference.kernels.gemm import BLOCK_BYTES, columns_of, step_of, tile_product
from actors.inference.kernels.intrinsics import floats_at
from actors.inference.kernels.jit import Integers, compiled, inlined
from actors.inference.kernels.layout import (
    ATTENTION_OUTPUT,
    HEAD_WIDTH,
    HEADS,
    KEY_HEADS,
    KEYS,
    PART_FIRST_ROW,
    PART_FIRST_TOKEN,
    PART_KNOWN,
    PART_LENGTH,
    PART_ROWS,
    QKV,
    TOKENS,
    VALUES,
    WINDOW,
)
from actors.inference.kernels.online_softmax import exponential, online_softmax_8, online_softmax_16

__all__ = ["attend_token", "attend_tokens", "attentions_of", "scratch_bytes"]

_LOWEST = numpy.float32(-3e38)


LANES = 16
"""Most columns when several tokens attend at once: as fast as more, and easier to divide among threads."""
POSITIONS = 120
"""Positions per block in that case: their keys, values and scores then fit in a core's cache."""


def scratch_bytes(positions: int, head_width: int, group: int) -> int:
    """Scratch bytes per thread: for the unpacked weights, or for the queries, scores and outputs of one attention."""
    of_some_tokens = LANES * (POSITIONS + 2 * head_width + 2)
    return BLOCK_BYTES + 4 * max(of_some_tokens, group * (positions + head_width)) + 4096


@inlined
def attentions_of_row(part: Integers, sizes: Integers) -> int:
    """Number of work items that the attention of one row is divided into."""
    if part[PART_LENGTH] == 1:
        return int(sizes[KEY_HEADS])
    group = sizes[HEADS] // sizes[KEY_HEADS]
    most_tokens = LANES // min(group, LANES)
    token_parts = (part[PART_LENGTH] + most_tokens - 1) // most_tokens
    return int(sizes[KEY_HEADS] * ((group + LANES - 1) // LANES) * token_parts)


@inlined
def attentions_of(part: Integers, sizes: Integers) -> int:
    """Number of work items over all rows of a part."""
    return int(part[PART_ROWS] * attentions_of_row(part, sizes))


@compiled
def attend_token(
    cache: Integers, part: Integers, sizes: Integers, first_valid: Integers, scale: float, piece: int, scratch: int
) -> None:
    """Attention of a row's only token, for the heads that share a key head."""
    tokens, width, heads, key_heads = sizes[TOKENS], sizes[HEAD_WIDTH], sizes[HEADS], sizes[KEY_HEADS]
    group, features = heads // key_heads, (heads + 2 * key_heads) * width
    row, key_head = piece // key_heads, piece % key_heads
    token = part[PART_FIRST_TOKEN] + row
    tile = token // step_of(tokens)
    columns, lane = columns_of(tile, tokens), token % step_of(tokens)
    end = part[PART_KNOWN] + 1
    begin = first_valid[part[PART_FIRST_ROW] + row]
    if sizes[WINDOW]:
        begin = max(begin, end - sizes[WINDOW])
    positions = end - begin
    query = floats_at(scratch, group * width)
    scores = floats_at(scratch + 4 * group * width, 1)
    source = floats_at(sizes[QKV] + 4 * step_of(tokens) * tile * features, 1)
    for index in range(group * width):
        query[index] = source[(key_head * group * width + index) * columns + lane] * scale
    keys = cache[KEYS] + row * cache[KEYS + 1] + key_head * cache[KEYS + 2]
    for position in range(positions):
        key = floats_at(keys + (begin + position) * cache[KEYS + 3], 1)
        for one in range(group):
            total = numba.float32(0)
            for feature in range(width):
                total += query[one * width + feature] * key[feature]
            scores[one * positions + position] = total
    for one in range(group):
        _online_softmax_row(scores, one * positions, positions)
    for index in range(group * width):
        query[index] = numba.float32(0)
    values = cache[VALUES] + row * cache[VALUES + 1] + key_head * cache[VALUES + 2]
    for position in range(positions):
        value = floats_at(values + (begin + position) * cache[VALUES + 3], 1)
        for one in range(group):
            likelihood = scores[one * positions + position]
            for feature in range(width):
                query[one * width + feature] += likelihood * value[feature]
    out = floats_at(sizes[ATTENTION_OUTPUT] + 4 * step_of(tokens) * tile * heads * width, 1)
    for index in range(group * width):
        out[(key_head * group * width + index) * columns + lane] = query[index]


@compiled
def _online_softmax_row(scores: Any, start: int, positions: int) -> None:
    """Softmax of ``positions`` numbers from index ``start`` on, in place."""
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
    cache: Integers, part: Integers, sizes: Integers, first_valid: Integers, scale: float, piece: int, scratch: int
) -> None:
    """Attention of some consecutive tokens of one row, for heads that share a key head.

    A column is one token in one head, so that keys and values are fetched once for all of them. Positions are processed in
    blocks; the accumulated output is scaled down when a larger score appears.
    """
    width, group, length = sizes[HEAD_WIDTH], sizes[HEADS] // sizes[KEY_HEADS], part[PART_LENGTH]
    most_heads = min(group, LANES)
    most_tokens, head_parts = LANES // most_heads, (group + LANES - 1) // LANES
    token_parts = (length + most_tokens - 1) // most_tokens
    start = most_tokens * (piece % token_parts)
    key_head, row = piece // token_parts // head_parts % sizes[KEY_HEADS], piece // attentions_of_row(part, sizes)
    first_head = key_head * group + most_heads * (piece // token_parts % head_parts)
    count, heads = min(most_tokens, length - start), min(most_heads, (key_head + 1) * group - first_head)
    columns = 16 if count * heads > 8 else 8
    first_token, first_position = part[PART_FIRST_TOKEN] + row * length + start, part[PART_KNOWN] + start
    begin = first_valid[part[PART_FIRST_ROW] + row]
    if sizes[WINDOW]:
        begin = max(begin, first_position - sizes[WINDOW] + 1)
    # Padding attends to padding; the result is never read.
    padding = max(0, begin - first_position)
    begin -= padding
    positions = first_position + count - begin

    mixed_at, scores_at = scratch + 4 * LANES * width, scratch + 8 * LANES * width
    query, mixed = floats_at(scratch, columns * width), floats_at(mixed_at, columns * width)
    room_at = scores_at + 4 * LANES * POSITIONS
    scores, room = floats_at(scores_at, 1), floats_at(room_at, 2 * columns)
    query[:] = numba.float32(0)
    mixed[:] = numba.float32(0)
    room[:] = numba.float32(0)
    room[:columns] = _LOWEST
    _gather(query, sizes, first_head, heads, first_token, count, columns, scale)
    keys = cache[KEYS] + row * cache[KEYS + 1] + key_head * cache[KEYS + 2] + begin * cache[KEYS + 3]
    values = cache[VALUES] + row * cache[VALUES + 1] + key_head * cache[VALUES + 2] + begin * cache[VALUES + 3]
    key_step, value_step = cache[KEYS + 3], cache[VALUES + 3]
    for done in range(0, positions, POSITIONS):
        here = min(POSITIONS, positions - done)
        tile_product(scratch, keys + done * key_step, key_step, 4, scores_at, width, here, columns, 0)
        own = first_position - begin - done
        if own < here or padding > done or sizes[WINDOW]:
            for lane in range(count * heads):
                _mask(scores, here, columns, lane, own + lane % count, padding - done, sizes[WINDOW])
        # Until its first real score, a column that has seen nothing weighs masked positions as likely; that score then reduces
        # them to zero.
        if columns == 16:
            online_softmax_16(scores_at, here, room_at, mixed_at, width)
        else:
            online_softmax_8(scores_at, here, room_at, mixed_at, width)
        tile_product(scores_at, values + done * value_step, 4, value_step, mixed_at, here, width, columns, 1)
    _scatter(mixed, room, sizes, first_head, heads, first_token, count, columns)


@inlined
def _gather(
    query: Any, sizes: Integers, first_head: int, heads: int, first_token: int, count: int, columns: int, scale: float
) -> None:
    """Copies some heads of some tokens of the product into columns."""
    tokens, width = sizes[TOKENS], sizes[HEAD_WIDTH]
    features = (sizes[HEADS] + 2 * sizes[KEY_HEADS]) * width
    for lane in range(count * heads):
        token = first_token + lane % count
        tile = token // step_of(tokens)
        wide = columns_of(tile, tokens)
        at = step_of(tokens) * tile * features + (first_head + lane // count) * width * wide + token % step_of(tokens)
        source = floats_at(sizes[QKV] + 4 * at, 1)
        for feature in range(width):
            query[feature * columns + lane] = source[feature * wide] * scale


@inlined
def _scatter(
    mixed: Any, room: Any, sizes: Integers, first_head: int, heads: int, first_token: int, count: int, columns: int
) -> None:
    """Writes the accumulated output, divided by the sum of its weights, to where the next product reads it."""
    tokens, width = sizes[TOKENS], sizes[HEAD_WIDTH]
    for lane in range(count * heads):
        token = first_token + lane % count
        tile = token // step_of(tokens)
        wide = columns_of(tile, tokens)
        at = step_of(tokens) * tile * sizes[HEADS] * width + (first_head + lane // count) * width * wide
        out = floats_at(sizes[ATTENTION_OUTPUT] + 4 * (at + token % step_of(tokens)), 1)
        share = numba.float32(1) / room[columns + lane]
        for feature in range(width):
            out[feature * wide] = mixed[feature * columns + lane] * share


@inlined
def _mask(scores: Any, positions: int, columns: int, lane: int, own: int, padding: int, window: int) -> None:
    """Masks the scores of one column at position ``own``: later positions, and those before its window.

    The first ``padding`` positions are visible only to themselves.
    """
    for position in range(max(0, own + 1), positions):
        scores[position * columns + lane] = _LOWEST
    if own >= padding:
        for position in range(min(positions, padding)):
            scores[position * columns + lane] = _LOWEST
    if window:
        for position in range(min(positions, own - window + 1)):
            scores[position * columns + lane] = _LOWEST
