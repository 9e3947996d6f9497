"""Operations between the matrix products of the encoder's layers: attention, GELU, layer norm. Compiled by numba.

Arrays are float32 and C-contiguous; a function works on rows ``first`` to ``last`` of the packed tokens, so that threads share
a batch.
"""

from __future__ import annotations

import numba
import numpy
from numpy.typing import NDArray

from actors.inference.kernels.jit import Integers, compiled_for_python, inlined
from actors.inference.kernels.online_softmax import exponential

__all__ = ["attend", "gelu", "normalize"]

Floats = NDArray[numpy.float32]
HEAD_WIDTH = 32
LANES = 16
ERF_LIMIT = 4.0
ROOT_HALF = 0.70710678118654752
# A rational approximation of erf on [-4, 4], within 4 units of the last place of a float32 (Eigen's `generic_fast_erf`).
_ERF_TOP = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_BOTTOM = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
)  # fmt: skip


@compiled_for_python("void(float32[:,::1], float32[::1], int64, int64)")
def gelu(states: Floats, bias: Floats, first: int, last: int) -> None:
    """Replaces x by GELU(x + bias), using the error function rather than tanh."""
    width = states.shape[1]
    half, one = numba.float32(0.5), numba.float32(1.0)
    for token in range(first, last):
        row = states[token]
        for k in range(width):
            value = row[k] + bias[k]
            x = value * numba.float32(ROOT_HALF)
            x = min(max(x, numba.float32(-ERF_LIMIT)), numba.float32(ERF_LIMIT))
            square = x * x
            top = numba.float32(_ERF_TOP[0])
            top = top * square + numba.float32(_ERF_TOP[1])
            top = top * square + numba.float32(_ERF_TOP[2])
            top = top * square + numba.float32(_ERF_TOP[3])
            top = top * square + numba.float32(_ERF_TOP[4])
            top = top * square + numba.float32(_ERF_TOP[5])
            top = top * square + numba.float32(_ERF_TOP[6])
            bottom = numba.float32(_ERF_BOTTOM[0])
            bottom = bottom * square + numba.float32(_ERF_BOTTOM[1])
            bottom = bottom * square + numba.float32(_ERF_BOTTOM[2])
            bottom = bottom * square + numba.float32(_ERF_BOTTOM[3])
            bottom = bottom * square + numba.float32(_ERF_BOTTOM[4])
            row[k] = half * value * (one + x * top / bottom)


@compiled_for_python(
    "void(float32[:,::1], float32[:,::1], float32[::1], float32[::1], float32[::1], float32, int64, int64)"
)
def normalize(
    states: Floats, added: Floats, bias: Floats, weight: Floats, shift: Floats, epsilon: float, first: int, last: int
) -> None:
    """Replaces rows of ``states`` by the layer norm of states + added + bias."""
    width = states.shape[1]
    for token in range(first, last):
        row, more = states[token], added[token]
        total = numba.float32(0)
        for k in range(width):
            value = row[k] + more[k] + bias[k]
            row[k] = value
            total += value
        mean = total / numba.float32(width)
        squares = numba.float32(0)
        for k in range(width):
            away = row[k] - mean
            squares += away * away
        scale = numba.float32(1.0) / numpy.sqrt(squares / numba.float32(width) + epsilon)
        for k in range(width):
            row[k] = (row[k] - mean) * scale * weight[k] + shift[k]


@inlined
def _gather(qkv: Floats, bias: Floats, begin: int, count: int, k: int, v: int, keys: Floats, values: Floats) -> None:
    """Gathers one head of one text: keys along the tokens, values along the head, each with its bias."""
    for token in range(count):
        for d in range(HEAD_WIDTH):
            keys[d, token] = qkv[begin + token, k + d] + bias[k + d]
            values[token, d] = qkv[begin + token, v + d] + bias[v + d]
    for token in range(count, (count + LANES - 1) // LANES * LANES):
        for d in range(HEAD_WIDTH):
            keys[d, token] = numba.float32(0)


@inlined
def _score(query: Floats, keys: Floats, padded: int, scores: Floats) -> None:
    """Dot products of one query with all keys."""
    for other in range(padded):
        scores[other] = numba.float32(0)
    for d in range(0, HEAD_WIDTH, 8):
        q0, q1, q2, q3 = query[d], query[d + 1], query[d + 2], query[d + 3]
        q4, q5, q6, q7 = query[d + 4], query[d + 5], query[d + 6], query[d + 7]
        for other in range(padded):
            scores[other] += (
                q0 * keys[d, other] + q1 * keys[d + 1, other] + q2 * keys[d + 2, other] + q3 * keys[d + 3, other]
                + q4 * keys[d + 4, other] + q5 * keys[d + 5, other] + q6 * keys[d + 6, other] + q7 * keys[d + 7, other]
            )  # fmt: skip


@inlined
def _highest(scores: Floats, count: int, padded: int, lanes: Floats) -> float:
    """The largest score, reduced along vectors."""
    for other in range(count, padded):
        scores[other] = numba.float32(-1e30)
    for lane in range(LANES):
        lanes[lane] = scores[lane]
    for block in range(LANES, padded, LANES):
        for lane in range(LANES):
            lanes[lane] = max(lanes[lane], scores[block + lane])
    highest: float = lanes[0]
    for lane in range(1, LANES):
        highest = max(highest, lanes[lane])
    return highest


@inlined
def _mix(weights: Floats, values: Floats, count: int, sums: Floats) -> None:
    """The weighted sum of all values."""
    for d in range(HEAD_WIDTH):
        sums[d] = numba.float32(0)
    four = count // 4 * 4
    for other in range(0, four, 4):
        w0, w1, w2, w3 = weights[other], weights[other + 1], weights[other + 2], weights[other + 3]
        for d in range(HEAD_WIDTH):
            sums[d] += (
                w0 * values[other, d]
                + w1 * values[other + 1, d]
                + w2 * values[other + 2, d]
                + w3 * values[other + 3, d]
            )
    for other in range(four, count):
        w0 = weights[other]
        for d in range(HEAD_WIDTH):
            sums[d] += w0 * values[other, d]


@compiled_for_python("void(float32[:,::1], float32[:,::1], int64[::1], float32[::1], int64, int64)")
def attend(qkv: Floats, out: Floats, starts: Integers, bias: Floats, first: int, last: int) -> None:
    """Softmax attention of each token over the tokens of its own text.

    ``qkv`` holds queries, keys and values in adjacent columns, without their bias, with queries already scaled; ``starts`` holds the
    offset of each text, and the end of the last.
    """
    hidden = out.shape[1]
    longest = 0
    for text in range(len(starts) - 1):
        longest = max(longest, starts[text + 1] - starts[text])
    room = (longest + LANES - 1) // LANES * LANES
    keys = numpy.empty((HEAD_WIDTH, room), numpy.float32)
    values = numpy.empty((room, HEAD_WIDTH), numpy.float32)
    scores = numpy.empty(room, numpy.float32)
    query = numpy.empty(HEAD_WIDTH, numpy.float32)
    lanes = numpy.empty(LANES, numpy.float32)
    sums = numpy.empty(HEAD_WIDTH, numpy.float32)
    for text in range(len(starts) - 1):
        begin, end = starts[text], starts[text + 1]
        if end <= first or begin >= last:
            continue
        count = end - begin
        padded = (count + LANES - 1) // LANES * LANES
        for head in range(hidden // HEAD_WIDTH):
            q = head * HEAD_WIDTH
            _gather(qkv, bias, begin, count, hidden + q, 2 * hidden + q, keys, values)
            for token in range(max(first, begin), min(last, end)):
                for d in range(HEAD_WIDTH):
                    query[d] = qkv[token, q + d] + bias[q + d]
                _score(query, keys, padded, scores)
                highest = _highest(scores, count, padded, lanes)
                total = numba.float32(0)
                for other in range(count):
                    weight = exponential(scores[other] - highest)
                    scores[other] = weight
                    total += weight
                _mix(scores, values, count, sums)
                for d in range(HEAD_WIDTH):
                    out[token, q + d] = sums[d] / total
