"""The functions of `elementwise.py` in numpy alone, for systems without numba. Slower; results differ in a float's last digits
only."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

__all__ = ["attend", "gelu", "normalize"]

Floats = NDArray[numpy.float32]
HEAD_WIDTH = 32
# Abramowitz and Stegun, 7.1.26: within 1.5e-7.
_ERF_AT = 0.3275911
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def gelu(states: Floats, bias: Floats, first: int, last: int) -> None:
    """Replaces x by GELU(x + bias), using the error function rather than tanh."""
    value = states[first:last] + bias
    x = numpy.abs(value) * numpy.float32(0.5**0.5)
    t = 1 / (1 + numpy.float32(_ERF_AT) * x)
    top = numpy.zeros_like(t)
    for factor in _ERF:
        top = (top + numpy.float32(factor)) * t
    states[first:last] = 0.5 * value * (1 + numpy.copysign(1 - top * numpy.exp(-x * x), value))


def normalize(
    states: Floats, added: Floats, bias: Floats, weight: Floats, shift: Floats, epsilon: float, first: int, last: int
) -> None:
    """Replaces rows of ``states`` by the layer norm of states + added + bias."""
    rows = states[first:last]
    rows += added[first:last]
    rows += bias
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= numpy.sqrt((rows * rows).mean(axis=1, keepdims=True) + numpy.float32(epsilon))
    rows *= weight
    rows += shift


def attend(qkv: Floats, out: Floats, starts: NDArray[numpy.int64], bias: Floats, first: int, last: int) -> None:
    """Softmax attention of each token over the tokens of its own text, like `elementwise.attend`."""
    hidden = out.shape[1]
    heads = hidden // HEAD_WIDTH
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        low, high = max(first, begin), min(last, end)
        if low >= high:
            continue
        query = _heads(qkv[low:high, :hidden] + bias[:hidden], heads)
        key = _heads(qkv[begin:end, hidden : 2 * hidden] + bias[hidden : 2 * hidden], heads)
        value = _heads(qkv[begin:end, 2 * hidden :] + bias[2 * hidden :], heads)
        scores = query @ key.transpose(0, 2, 1)
        scores -= scores.max(axis=2, keepdims=True)
        numpy.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        out[low:high] = (scores @ value).transpose(1, 0, 2).reshape(high - low, hidden)


def _heads(states: Floats, heads: int) -> Floats:
    return states.reshape(len(states), heads, HEAD_WIDTH).transpose(1, 0, 2)
