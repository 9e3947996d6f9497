"""A BERT encoder's forward pass over packed texts: there is no padding, so a batch costs only its own tokens.

The texts of a batch are concatenated in one array of tokens. Threads share it by rows: each computes all layers for its own
rows, and they synchronize once per layer, where attention reads the keys and values of all. Products use numpy's BLAS with one
thread each; the operations in between are in `elementwise.py`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from attrs import frozen
from numpy.typing import NDArray

try:
    from actors.inference.encoder.worker.elementwise import attend, gelu, normalize
except ModuleNotFoundError:  # numba is available on Linux only
    from actors.inference.encoder.worker.plain import attend, gelu, normalize

__all__ = ["Encoder", "Shape"]

Floats = NDArray[numpy.float32]
LEAST_ROWS = 8
"""Fewest rows per thread: fewer cost more to share than to compute."""


@frozen(kw_only=True)
class Shape:
    """The layers' dimensions, from `config.json`."""

    layers: int
    hidden: int
    heads: int
    epsilon: float


@frozen(kw_only=True)
class _Layer:
    qkv: Floats
    """Weights of query, key and value in adjacent columns, (hidden, 3 × hidden); queries are already scaled for the softmax."""
    qkv_bias: Floats
    out: Floats
    out_bias: Floats
    norm: Floats
    norm_shift: Floats
    up: Floats
    up_bias: Floats
    down: Floats
    down_bias: Floats
    last_norm: Floats
    last_norm_shift: Floats


class Encoder:
    """Owns the weights and its threads; one call at a time."""

    def __init__(self, tensors: Mapping[str, Floats], shape: Shape, threads: int | None = None) -> None:
        """``tensors`` are keyed by the checkpoint's names. Raises `KeyError` for a missing one."""
        _bound_products_threads()
        self.shape = shape
        self.threads = threads or processors()
        self._words = tensors["embeddings.word_embeddings.weight"]
        # Every text has the same token type, so its vector is added to each position's.
        self._positions = (
            tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = tensors["embeddings.LayerNorm.weight"]
        self._norm_shift = tensors["embeddings.LayerNorm.bias"]
        self._layers = [_layer(tensors, f"encoder.layer.{number}.", shape) for number in range(shape.layers)]
        self._no_bias = numpy.zeros(shape.hidden, numpy.float32)
        self._pool = ThreadPoolExecutor(self.threads, "encoder") if self.threads > 1 else None

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return len(self._words)

    @property
    def positions(self) -> int:
        """Length of the longest text, in tokens."""
        return len(self._positions)

    def embed(self, texts: Sequence[Sequence[int]]) -> Floats:
        """Embeds each text as the mean over its tokens, normalized to length 1: (texts, hidden), float32."""
        if not texts:
            return numpy.empty((0, self.shape.hidden), numpy.float32)
        starts = numpy.zeros(len(texts) + 1, numpy.int64)
        numpy.cumsum([len(one) for one in texts], out=starts[1:])
        ids = numpy.concatenate([numpy.asarray(one, numpy.int64) for one in texts])
        places = numpy.arange(starts[-1]) - numpy.repeat(starts[:-1], numpy.diff(starts))
        states = self._run(ids, places, starts)
        means: Floats = numpy.add.reduceat(states, starts[:-1], axis=0, dtype=numpy.float32)
        means /= numpy.diff(starts)[:, None].astype(numpy.float32)
        # The reference also divides by at least 1e-12.
        means /= numpy.maximum(numpy.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return means

    def _run(self, ids: NDArray[numpy.int64], places: NDArray[numpy.int64], starts: NDArray[numpy.int64]) -> Floats:
        tokens, hidden = len(ids), self.shape.hidden
        states = numpy.empty((tokens, hidden), numpy.float32)
        # Two buffers in turn: one thread may start the next layer while another still reads this one.
        qkvs = [numpy.empty((tokens, 3 * hidden), numpy.float32) for _ in range(2)]
        parts = max(1, min(self.threads, tokens // LEAST_ROWS))
        borders = [tokens * part // parts for part in range(parts + 1)]
        barrier = threading.Barrier(parts)

        def work(first: int, last: int) -> None:
            try:
                self._run_rows(ids, places, starts, states, qkvs, first, last, barrier)
            except BaseException:  # in every case: the other threads must not wait for this one
                barrier.abort()
                raise

        if parts == 1 or self._pool is None:
            work(0, tokens)
            return states
        others = [self._pool.submit(work, borders[part], borders[part + 1]) for part in range(1, parts)]
        work(borders[0], borders[1])
        for one in others:
            one.result()
        return states

    def _run_rows(
        self,
        ids: NDArray[numpy.int64],
        places: NDArray[numpy.int64],
        starts: NDArray[numpy.int64],
        states: Floats,
        qkvs: Sequence[Floats],
        first: int,
        last: int,
        barrier: threading.Barrier,
    ) -> None:
        rows, shape = slice(first, last), self.shape
        states[rows] = self._words[ids[rows]]
        # Each thread touches only its own rows of these arrays, so only those pages are allocated.
        mixed = numpy.empty_like(states)
        mixed[rows] = self._positions[places[rows]]
        normalize(states, mixed, self._no_bias, self._norm, self._norm_shift, shape.epsilon, first, last)
        context = numpy.empty_like(states)
        wide = numpy.empty((len(states), self._layers[0].up.shape[1]), numpy.float32)
        for number, layer in enumerate(self._layers):
            qkv = qkvs[number % 2]
            numpy.matmul(states[rows], layer.qkv, out=qkv[rows])
            barrier.wait()
            attend(qkv, context, starts, layer.qkv_bias, first, last)
            numpy.matmul(context[rows], layer.out, out=mixed[rows])
            normalize(states, mixed, layer.out_bias, layer.norm, layer.norm_shift, shape.epsilon, first, last)
            numpy.matmul(states[rows], layer.up, out=wide[rows])
            gelu(wide, layer.up_bias, first, last)
            numpy.matmul(wide[rows], layer.down, out=mixed[rows])
            normalize(
                states, mixed, layer.down_bias, layer.last_norm, layer.last_norm_shift, shape.epsilon, first, last
            )


def _bound_products_threads() -> None:
    """Makes numpy's own OpenBLAS compute each product in the calling thread.

    Its threads and the encoder's would otherwise spin while waiting for one another, which takes minutes on a busy machine.
    The environment
    variable only works before numpy is imported; other builds of numpy have no such library.
    """
    for path in Path(numpy.__file__).parent.parent.glob("numpy.libs/libscipy_openblas*"):
        library = ctypes.CDLL(str(path))
        for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(1)


def processors() -> int:
    """Number of processors available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _layer(tensors: Mapping[str, Floats], name: str, shape: Shape) -> _Layer:
    own = f"{name}attention.self."
    scale = numpy.float32((shape.hidden // shape.heads) ** -0.5)
    query, key, value = (tensors[f"{own}{one}.weight"] for one in ("query", "key", "value"))
    biases = [tensors[f"{own}{one}.bias"] for one in ("query", "key", "value")]
    return _Layer(
        qkv=numpy.ascontiguousarray(numpy.concatenate([query * scale, key, value]).T),
        qkv_bias=numpy.concatenate([biases[0] * scale, *biases[1:]]),
        out=numpy.ascontiguousarray(tensors[f"{name}attention.output.dense.weight"].T),
        out_bias=tensors[f"{name}attention.output.dense.bias"],
        norm=tensors[f"{name}attention.output.LayerNorm.weight"],
        norm_shift=tensors[f"{name}attention.output.LayerNorm.bias"],
        up=numpy.ascontiguousarray(tensors[f"{name}intermediate.dense.weight"].T),
        up_bias=tensors[f"{name}intermediate.dense.bias"],
        down=numpy.ascontiguousarray(tensors[f"{name}output.dense.weight"].T),
        down_bias=tensors[f"{name}output.dense.bias"],
        last_norm=tensors[f"{name}output.LayerNorm.weight"],
        last_norm_shift=tensors[f"{name}output.LayerNorm.bias"],
    )
