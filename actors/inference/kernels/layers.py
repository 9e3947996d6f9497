"""All layers of a Phi-3 for a batch of tokens, in one call. Compiled by numba; every thread of the pool runs the same function.

The inputs are described in tables (`layout.py`). Keys and values are written directly into the buffers of the batch's
cache. Layout and work sharing are those of `gemm.py`.
"""

from __future__ import annotations

import numba
import numpy

from actors.inference.kernels.attention import attend_token, attend_tokens, attentions_of
from actors.inference.kernels.gemm import (
    claim,
    columns_of,
    complete,
    multiply,
    step_of,
    tiles_of,
    to_tiles,
)
from actors.inference.kernels.intrinsics import COLUMNS, floats_at
from actors.inference.kernels.jit import Integers, Table, compiled, compiled_for_python, inlined
from actors.inference.kernels.layout import (
    ATTENTION_OUTPUT,
    CACHE_FIELDS,
    CACHES,
    COSINES,
    DOWN_PROJECTION,
    FINAL_NORM,
    GATE,
    GATE_UP_PROJECTION,
    HALF_ROTATED,
    HEAD_WIDTH,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KEY_HEADS,
    KEYS,
    LAYERS,
    NORM_AFTER,
    NORM_BEFORE,
    NORMED,
    OUTPUT_PROJECTION,
    PART_FIRST_TOKEN,
    PART_KNOWN,
    PART_LENGTH,
    PROJECTION_FIELDS,
    QKV,
    QKV_PROJECTION,
    SINES,
    SOURCE,
    STATES,
    TARGET,
    TOKENS,
    UP,
    VALUES,
)
from actors.inference.kernels.online_softmax import exponential

__all__ = ["PHASES_OF_A_LAYER", "forward"]

PHASES_OF_A_LAYER = 7


@compiled
def _normalize(
    source: int, out: int, weight: int, epsilon: float, features: int, tokens: int, tile: int, scratch: int
) -> None:
    """RMS-normalizes each column of one tile and multiplies by a weight per feature."""
    columns = columns_of(tile, tokens)
    here, there = (
        floats_at(source + 4 * step_of(tokens) * tile * features, 1),
        floats_at(out + 4 * step_of(tokens) * tile * features, 1),
    )
    weights, sums = floats_at(weight, 1), floats_at(scratch, COLUMNS)
    for lane in range(columns):
        sums[lane] = numba.float32(0)
    if columns == 1:
        total = numba.float32(0)
        for feature in range(features):
            total += here[feature] * here[feature]
        sums[0] = total
    else:
        for feature in range(features):
            for lane in range(columns):
                value = here[feature * columns + lane]
                sums[lane] += value * value
    for lane in range(columns):
        sums[lane] = numba.float32(1) / numpy.sqrt(sums[lane] / numba.float32(features) + epsilon)
    if columns == 1:
        for feature in range(features):
            there[feature] = here[feature] * sums[0] * weights[feature]
        return
    for feature in range(features):
        scale = weights[feature]
        for lane in range(columns):
            there[feature * columns + lane] = here[feature * columns + lane] * sums[lane] * scale


@inlined
def _rotate(head: int, cosines: int, sines: int, half: int, columns: int) -> None:
    """Applies rotary embedding to one head of one tile: feature i with feature i + half."""
    values = floats_at(head, 1)
    cosine, sine = floats_at(cosines, 1), floats_at(sines, 1)
    for index in range(half * columns):
        first, second = values[index], values[index + half * columns]
        values[index] = first * cosine[index] - second * sine[index]
        values[index + half * columns] = second * cosine[index] + first * sine[index]


@inlined
def _keep(layer: Integers, parts: Table, place: int, sizes: Integers, head: int, source: int, tile: int) -> None:
    """Writes one head of one tile into the caches, as keys or values according to ``place``."""
    tokens, width = sizes[TOKENS], sizes[HEAD_WIDTH]
    columns = columns_of(tile, tokens)
    values = floats_at(source, 1)
    for lane in range(min(columns, tokens - step_of(tokens) * tile)):
        token = step_of(tokens) * tile + lane
        part = 0
        while part + 1 < len(parts) and token >= parts[part + 1, PART_FIRST_TOKEN]:
            part += 1
        fields = CACHES + CACHE_FIELDS * part + place
        within, length = token - parts[part, PART_FIRST_TOKEN], parts[part, PART_LENGTH]
        row, position = within // length, parts[part, PART_KNOWN] + within % length
        out = floats_at(
            layer[fields] + row * layer[fields + 1] + head * layer[fields + 2] + position * layer[fields + 3], 1
        )
        for feature in range(width):
            out[feature] = values[feature * columns + lane]


@inlined
def _qkv_of_head(layer: Integers, parts: Table, sizes: Integers, head: int, scratch: int) -> None:
    """Computes one head of queries, keys or values: its product, its rotary embedding, its entry in the cache."""
    tokens, width, heads, key_heads = sizes[TOKENS], sizes[HEAD_WIDTH], sizes[HEADS], sizes[KEY_HEADS]
    features, half = (heads + 2 * key_heads) * width, sizes[HALF_ROTATED]
    projection = layer[QKV_PROJECTION : QKV_PROJECTION + PROJECTION_FIELDS]
    multiply(
        sizes[NORMED], sizes[QKV], sizes[HIDDEN], features, head * width, width, head * width, tokens, projection,
        scratch, 0,
    )  # fmt: skip
    if head < heads + key_heads:
        for tile in range(tiles_of(tokens)):
            columns = columns_of(tile, tokens)
            _rotate(
                sizes[QKV] + 4 * (step_of(tokens) * tile * features + head * width * columns),
                sizes[COSINES] + 4 * step_of(tokens) * tile * half, sizes[SINES] + 4 * step_of(tokens) * tile * half, half, columns,
            )  # fmt: skip
    if head >= heads:
        place, number = (KEYS, head - heads) if head < heads + key_heads else (VALUES, head - heads - key_heads)
        for tile in range(tiles_of(tokens)):
            source = sizes[QKV] + 4 * (step_of(tokens) * tile * features + head * width * columns_of(tile, tokens))
            _keep(layer, parts, place, sizes, number, source, tile)


@inlined
def _swiglu_rows(layer: Integers, sizes: Integers, first: int, count: int, scratch: int) -> None:
    """Computes some rows of the SwiGLU: silu(gate) times up."""
    tokens, features = sizes[TOKENS], sizes[INTERMEDIATE]
    projection = layer[GATE_UP_PROJECTION : GATE_UP_PROJECTION + PROJECTION_FIELDS]
    multiply(sizes[NORMED], sizes[GATE], sizes[HIDDEN], features, first, count, first, tokens, projection, scratch, 0)
    multiply(
        sizes[NORMED], sizes[UP], sizes[HIDDEN], features, features + first, count, first, tokens, projection,
        scratch, 0,
    )  # fmt: skip
    for tile in range(tiles_of(tokens)):
        columns = columns_of(tile, tokens)
        at = 4 * (step_of(tokens) * tile * features + first * columns)
        gate, up = floats_at(sizes[GATE] + at, 1), floats_at(sizes[UP] + at, 1)
        for index in range(count * columns):
            value = gate[index]
            gate[index] = value / (numba.float32(1) + exponential(-value)) * up[index]


_ENTER, _LEAVE = -1, PHASES_OF_A_LAYER
"""Before the first layer, and after the last."""
_BEFORE, _HEADS, _ATTENTION, _AFTER_ATTENTION, _BETWEEN, _GATED, _AFTER_GATE = range(PHASES_OF_A_LAYER)


@inlined
def _attend(
    layer: Integers, parts: Table, sizes: Integers, first_valid: Integers, scale: float, piece: int, scratch: int
) -> None:
    """Computes one work item of attention; those of the first part come first."""
    part = 0
    pieces = attentions_of(parts[0], sizes)
    while piece >= pieces:
        piece -= pieces
        part += 1
        pieces = attentions_of(parts[part], sizes)
    cache = layer[CACHES + CACHE_FIELDS * part : CACHES + CACHE_FIELDS * (part + 1)]
    if parts[part, PART_LENGTH] == 1:
        attend_token(cache, parts[part], sizes, first_valid, scale, piece, scratch)
    else:
        attend_tokens(cache, parts[part], sizes, first_valid, scale, piece, scratch)


@inlined
def _pieces_of(step: int, parts: Table, sizes: Integers, rows_each: int) -> int:
    """Number of work items of a step."""
    if step == _HEADS:
        return int(sizes[HEADS] + 2 * sizes[KEY_HEADS])
    if step == _ATTENTION:
        pieces = 0
        for part in range(len(parts)):
            pieces += attentions_of(parts[part], sizes)
        return pieces
    if rows_each:
        outputs = sizes[INTERMEDIATE] if step == _GATED else sizes[HIDDEN]
        return int((outputs + rows_each - 1) // rows_each)
    return int(tiles_of(sizes[TOKENS]))


@inlined
def _rows_each(step: int, sizes: Integers, threads: int) -> int:
    """Rows of a product per work item: several items per thread, in whole tiles; 0 for steps that are divided differently."""
    if step not in (_AFTER_ATTENTION, _GATED, _AFTER_GATE):
        return 0
    outputs = sizes[INTERMEDIATE] if step == _GATED else sizes[HIDDEN]
    return int(max(24, min(96, outputs // (6 * threads) // 24 * 24)))


@inlined
def _do_piece(
    step: int, piece: int, rows_each: int, layer: Integers, parts: Table, sizes: Integers, first_valid: Integers,
    epsilon: float, scale: float, scratch: int,
) -> None:  # fmt: skip
    tokens, hidden = sizes[TOKENS], sizes[HIDDEN]
    first = piece * rows_each
    count = min(rows_each, (sizes[INTERMEDIATE] if step == _GATED else hidden) - first)
    if step in (_BEFORE, _BETWEEN, _LEAVE):
        weight = sizes[FINAL_NORM] if step == _LEAVE else layer[NORM_BEFORE if step == _BEFORE else NORM_AFTER]
        _normalize(sizes[STATES], sizes[NORMED], weight, epsilon, hidden, tokens, piece, scratch)
        if step == _LEAVE:
            _from_tiles(sizes[NORMED], sizes[TARGET], tokens, hidden, piece)
    elif step == _HEADS:
        _qkv_of_head(layer, parts, sizes, piece, scratch)
    elif step == _ATTENTION:
        _attend(layer, parts, sizes, first_valid, scale, piece, scratch)
    elif step == _GATED:
        _swiglu_rows(layer, sizes, first, count, scratch)
    elif step == _ENTER:
        to_tiles(sizes[SOURCE], sizes[STATES], tokens, hidden, piece)
    else:
        place, source, inputs = DOWN_PROJECTION, sizes[GATE], sizes[INTERMEDIATE]
        if step == _AFTER_ATTENTION:
            place, source, inputs = OUTPUT_PROJECTION, sizes[ATTENTION_OUTPUT], sizes[HEADS] * sizes[HEAD_WIDTH]
        projection = layer[place : place + PROJECTION_FIELDS]
        multiply(source, sizes[STATES], inputs, hidden, first, count, first, tokens, projection, scratch, 1)


@inlined
def _from_tiles(source: int, out: int, tokens: int, features: int, tile: int) -> None:
    """Writes one tile in row order, (tokens, features)."""
    columns = columns_of(tile, tokens)
    here = floats_at(source + 4 * step_of(tokens) * tile * features, 1)
    for lane in range(min(columns, tokens - step_of(tokens) * tile)):
        there = floats_at(out + 4 * (step_of(tokens) * tile + lane) * features, 1)
        for feature in range(features):
            there[feature] = here[feature * columns + lane]


@inlined
def _share(
    progress: int, phase: int, step: int, threads: int, layer: Integers, parts: Table, sizes: Integers,
    first_valid: Integers, epsilon: float, scale: float, scratch: int,
) -> None:  # fmt: skip
    """Does this thread's share of one step."""
    rows_each = _rows_each(step, sizes, threads)
    pieces, mine = _pieces_of(step, parts, sizes, rows_each), 0
    piece = claim(progress, phase)
    while piece < pieces:
        _do_piece(step, piece, rows_each, layer, parts, sizes, first_valid, epsilon, scale, scratch)
        mine += 1
        piece = claim(progress, phase)
    complete(progress, phase, pieces, mine)


@compiled_for_python(
    "void(int64, int64, int64, int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], float32, float32)"
)
def forward(
    progress: int, scratch: int, threads: int, layers: Table, parts: Table, sizes: Integers, first_valid: Integers,
    epsilon: float, scale: float,
) -> None:  # fmt: skip
    """Embedded tokens of all parts, (tokens, hidden), to normalized states of the same shape; run by every thread.

    ``progress`` is the address of zeroed counters, `PHASES_OF_A_LAYER` phases per layer and two more; ``scratch`` belongs to this
    thread. In each row the positions before ``first_valid`` are padding. The caches must have capacity for the new positions.
    """
    last = PHASES_OF_A_LAYER * sizes[LAYERS] + 1
    for phase in range(last + 1):
        number, step = (phase - 1) // PHASES_OF_A_LAYER, (phase - 1) % PHASES_OF_A_LAYER
        if phase == 0:
            number, step = 0, _ENTER
        elif phase == last:
            number, step = 0, _LEAVE
        _share(progress, phase, step, threads, layers[number], parts, sizes, first_valid, epsilon, scale, scratch)
