"""SwiGLU for the feed-forward layers, with numpy's exponentials where MLX's own are slow: on the CPU, in float32.

MLX's CPU backend takes about 18 ns for one element, numpy one and a half in blocks that stay in the cache. After the
products of the embedded model that is most of what is left of a step: with 32 rows it takes 26 ms of 226, and when
reading 1,900 prompt tokens 1.7 s of 5.1 (measured, one thread). numpy needs values where MLX has a graph, so the input
is evaluated here; a GPU, and other types, keep the graph.
"""

from __future__ import annotations

import mlx.core as mx
import numpy
from mlx_lm.models.activations import swiglu

__all__ = ["fused_swiglu"]

_BLOCK_ELEMENTS = 65_536
"""Elements of the gate at a time: 256 KiB, with two temporaries of that size, stay in a core's cache."""


def fused_swiglu(gate_and_up: mx.array) -> mx.array:
    """SwiGLU: silu of the first half times the second, (…, 2 x width) to (…, width). Same as `mlx_lm`'s `swiglu`."""
    if gate_and_up.dtype != mx.float32 or mx.default_device() != mx.Device(mx.cpu):
        plain: mx.array = swiglu(*mx.split(gate_and_up, 2, axis=-1))
        return plain
    width = gate_and_up.shape[-1] // 2
    rows = numpy.asarray(gate_and_up).reshape(-1, 2 * width)
    result = numpy.empty((len(rows), width), numpy.float32)
    step = max(1, _BLOCK_ELEMENTS // width)
    for first in range(0, len(rows), step):
        block = rows[first : first + step]
        _swiglu_block(block[:, :width], block[:, width:], result[first : first + step])
    return mx.array(result).reshape(*gate_and_up.shape[:-1], width)


def _swiglu_block(gate: numpy.ndarray, up: numpy.ndarray, out: numpy.ndarray) -> None:
    """silu(gate) * up. Far below zero the exponential is infinite, and the quotient correctly zero."""
    with numpy.errstate(over="ignore"):
        numpy.exp(-gate, out=out)
    out += 1
    numpy.divide(gate, out, out=out)
    out *= up
