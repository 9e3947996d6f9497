"""The compiled forward pass in place of MLX's graph: memory layout of one call, on MLX's own buffers.

MLX stays the owner of weights and caches. Compiled code borrows their buffers for the duration of a call, through numpy
views; keys and values are written in place into free capacity of the batch's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy
from attrs import frozen
from mlx import nn
from mlx_lm.models.cache import BatchKVCache
from numpy.typing import NDArray

from actors.inference.kernels import attention, gemm, layers, layout, skinny_gemm
from actors.inference.kernels.intrinsics import COLUMNS
from actors.inference.kernels.thread_pool import ThreadPool
from actors.inference.mlx.rope import PrecomputedRotaryTable

__all__ = ["CompiledForward", "can_compile"]

_Floats = NDArray[numpy.float32]
_Integers = NDArray[numpy.int64]


AHEAD = 64
"""A layer's cache may grow this many positions before it is full: somewhat more than there are layers."""

Part = tuple[mx.array, Sequence[BatchKVCache] | None, PrecomputedRotaryTable]
"""Ids (rows, length), their caches or None, and the rotary table of their positions."""


def can_compile(model: Any) -> bool:
    """True if compiled code can compute every product of a loaded `phi3.Model`."""
    modules = [model.model.embed_tokens, *([] if model.args.tie_word_embeddings else [model.lm_head])]
    for layer in model.layers:
        modules += [layer.self_attn.qkv_proj, layer.self_attn.o_proj, layer.mlp.gate_up_proj, layer.mlp.down_proj]
    # Rows are computed in fours, also within one head and in gate and up separately.
    parts = (model.args.head_dim, model.args.intermediate_size)
    return all(part % 4 == 0 for part in parts) and all(_can_multiply(module) for module in modules)


def _can_multiply(module: nn.Module) -> bool:
    weight = module.weight
    if "bias" in module or weight.ndim != 2:
        return False
    outputs = weight.shape[0]
    if type(module) in (nn.Linear, nn.Embedding):
        return bool(weight.dtype == mx.float32 and outputs % 4 == 0)
    if type(module) in (nn.QuantizedLinear, nn.QuantizedEmbedding):
        return bool(
            module.bits in (4, 8)
            and module.group_size % 32 == 0
            and module.mode == "affine"
            and module.scales.dtype == mx.float32
            and outputs % 4 == 0
        )
    return False


class _Projection:
    """Addresses and format of one module's weights, which it keeps alive."""

    def __init__(self, module: nn.Module) -> None:
        is_packed = isinstance(module, (nn.QuantizedLinear, nn.QuantizedEmbedding))
        arrays = [module.weight, module.scales, module.biases] if is_packed else [module.weight]
        mx.eval(arrays)
        self._views = [_contiguous(array) for array in arrays]
        fields = numpy.zeros(layout.PROJECTION_FIELDS, numpy.int64)
        fields[[layout.WEIGHT, layout.SCALES, layout.BIASES][: len(arrays)]] = [_at(one) for one in self._views]
        if is_packed:
            fields[layout.BITS], fields[layout.GROUP] = module.bits, module.group_size
        self.fields: _Integers = fields
        self.outputs = int(arrays[0].shape[0])


class _Embedding:
    """Token embeddings, looked up by numpy in place, which waits for none of MLX's threads."""

    def __init__(self, module: nn.Module) -> None:
        self._weight = _contiguous(module.weight)
        self._bits = 0
        if isinstance(module, nn.QuantizedEmbedding):
            self._bits, self._scales, self._biases = module.bits, _contiguous(module.scales), _contiguous(module.biases)
            self._shifts = numpy.arange(0, 32, self._bits, dtype=numpy.uint32)

    def of(self, ids: NDArray[Any]) -> _Floats:
        """Embeds ids of any shape: (…, width)."""
        rows: NDArray[Any] = self._weight[ids]
        if not self._bits:
            return rows
        numbers = ((rows[..., None] >> self._shifts) & numpy.uint32(2**self._bits - 1)).astype(numpy.float32)
        scales, biases = self._scales[ids], self._biases[ids]
        grouped: _Floats = numbers.reshape(*scales.shape, -1) * scales[..., None] + biases[..., None]
        return grouped.reshape(*ids.shape, -1)


class CompiledForward:
    """All layers of one model and its head. Belongs to the thread that steps the model."""

    def __init__(self, model: Any, thread_pool: ThreadPool) -> None:
        """``model`` is a loaded `phi3.Model` that `can_compile` accepts."""
        arguments = model.args
        self._thread_pool = thread_pool
        self._arguments = arguments
        self._embedding = _Embedding(model.model.embed_tokens)
        self._window = arguments.sliding_window or 0
        self._epsilon = numpy.float32(arguments.rms_norm_eps)
        self._scale = numpy.float32(arguments.head_dim**-0.5)
        self._norm = _contiguous(model.model.norm.weight)
        self._head = _Projection(model.model.embed_tokens if arguments.tie_word_embeddings else model.lm_head)
        self._kept: list[Any] = []
        self._table = numpy.zeros((arguments.num_hidden_layers, layout.LAYER_FIELDS), numpy.int64)
        for row, layer in zip(self._table, model.layers, strict=True):
            attention, feed_forward = layer.self_attn, layer.mlp
            modules = (attention.qkv_proj, attention.o_proj, feed_forward.gate_up_proj, feed_forward.down_proj)
            projections = [_Projection(module) for module in modules]
            norms = [_contiguous(layer.input_layernorm.weight), _contiguous(layer.post_attention_layernorm.weight)]
            row[: layout.NORM_BEFORE] = numpy.concatenate([one.fields for one in projections])
            row[layout.NORM_BEFORE], row[layout.NORM_AFTER] = (_at(one) for one in norms)
            self._kept += [projections, norms]
        self._arena = numpy.empty(0, numpy.float32)
        self._scratch: list[_Floats] = [numpy.empty(0, numpy.float32) for _ in range(thread_pool.threads)]

    def takes(self, cache: Sequence[Any] | None) -> bool:
        """True if keys and values can be written in place: without a cache, or into a batch's cache."""
        return cache is None or all(type(one) is BatchKVCache and one._right_padding is None for one in cache)

    def reserve(self, cache: Sequence[BatchKVCache], rows: int, positions: int) -> None:
        """Reserves capacity for this many more positions at once: growing in steps copies all content at each step."""
        for one in cache:
            _make_room(one, (rows, self._arguments.num_key_value_heads, positions, self._arguments.head_dim))

    def grow_ahead(self, cache: Sequence[BatchKVCache], to_come: int, step_positions: int) -> None:
        """Grows the layers whose capacity ends within `AHEAD` positions, as many as are due in this step.

        Growing allocates new arrays and copies the old: some seconds for eight rows of a Phi-3-mini if all layers did it at once.
        """
        wanted = min(to_come, AHEAD)
        lacking = [one for one in cache if one.keys.shape[2] < one._idx + wanted]
        if not lacking:
            return
        left = min(one.keys.shape[2] - one._idx for one in lacking)
        count = -(-len(lacking) // max(1, left // step_positions))
        for one in lacking[:count]:
            rows, heads, _, width = one.keys.shape
            _make_room(one, (rows, heads, wanted, width))

    def states(self, inputs: mx.array, cache: Sequence[BatchKVCache] | None, turn: PrecomputedRotaryTable) -> mx.array:
        """Normalized states (rows, length, hidden) of ids (rows, length) that follow the cache's content. The cache grows by them."""
        return self.states_of_all([(inputs, cache, turn)])[0]

    def states_of_all(self, parts: Sequence[Part]) -> list[mx.array]:
        """Like `states`, for up to `layout.PARTS` parts of different shapes in one call, so that weights are fetched once for all."""
        shapes = [inputs.shape for inputs, _, _ in parts]
        counts = [rows * length for rows, length in shapes]
        tokens = sum(counts)
        arguments = self._arguments
        embedded = _together([self._embedding.of(numpy.asarray(inputs)) for inputs, _, _ in parts], tokens)
        target = numpy.empty((tokens, arguments.hidden_size), numpy.float32)
        table = self._table.copy()
        places = numpy.zeros((len(parts), layout.PART_FIELDS), numpy.int64)
        first_valid: list[_Integers] = []
        kept: list[Any] = []
        first_token = first_row = longest = 0
        for number, ((_, cache, _), (rows, length)) in enumerate(zip(parts, shapes, strict=True)):
            known = 0 if cache is None else cache[0]._idx
            places[number] = first_token, first_row, rows, length, known
            first_token += rows * length
            first_row += rows
            longest = max(longest, known + length)
            start = layout.CACHES + layout.CACHE_FIELDS * number
            kept += self._point_to_cache(table[:, start : start + layout.CACHE_FIELDS], cache, rows, length)
            first_valid.append(
                numpy.zeros(rows, numpy.int64)
                if cache is None
                else numpy.asarray(cache[0].left_padding).astype(numpy.int64)
            )
        sizes = numpy.zeros(layout.SIZE_FIELDS, numpy.int64)
        width, half = arguments.head_dim, arguments.rotary.width // 2
        sizes[: layout.SOURCE] = (
            tokens, len(table), arguments.hidden_size, arguments.num_attention_heads, arguments.num_key_value_heads,
            width, arguments.intermediate_size, half, self._window,
        )  # fmt: skip
        sizes[[layout.SOURCE, layout.TARGET, layout.FINAL_NORM]] = _at(embedded), _at(target), _at(self._norm)
        arena = self._divide_arena(sizes, tokens)
        turns = [(turn, count) for (_, _, turn), count in zip(parts, counts, strict=True)]
        cosines = [_for_each_token(turn.cosines, count) for turn, count in turns]
        sines = [_for_each_token(turn.sines, count) for turn, count in turns]
        _to_tiles(arena[layout.COSINES], _together(cosines, tokens), tokens)
        _to_tiles(arena[layout.SINES], _together(sines, tokens), tokens)
        group = arguments.num_attention_heads // arguments.num_key_value_heads
        scratch = self._scratch_of(attention.scratch_bytes(longest, width, group))
        progress = _progress(layers.PHASES_OF_A_LAYER * len(table) + 2)
        valid = numpy.concatenate(first_valid)
        self._thread_pool.run(
            layers.forward,
            [
                (
                    _at(progress),
                    _at(one),
                    self._thread_pool.threads,
                    table,
                    places,
                    sizes,
                    valid,
                    self._epsilon,
                    self._scale,
                )
                for one in scratch
            ],
            (progress, kept),
        )
        for (_, cache, _), (_, length) in zip(parts, shapes, strict=True):
            _grow(cache, length)
        ends = numpy.cumsum(counts)
        return [
            mx.array(target[end - count : end]).reshape(*shape, -1)
            for end, count, shape in zip(ends, counts, shapes, strict=True)
        ]

    def logits(self, states: mx.array) -> mx.array:
        """Projects states (…, hidden) to logits (…, vocabulary)."""
        source = numpy.ascontiguousarray(numpy.asarray(states)).reshape(-1, states.shape[-1])
        tokens, inputs = source.shape
        target = numpy.empty((tokens, self._head.outputs), numpy.float32)
        columns = numpy.empty(COLUMNS * -(-tokens // COLUMNS) * inputs, numpy.float32)
        made_bytes = 4 * gemm.BLOCK_ROWS * COLUMNS * -(-tokens // COLUMNS)
        progress = _progress(2)
        self._thread_pool.run(
            gemm.project,
            [
                (_at(progress), _at(one), _at(source), _at(columns), _at(target), tokens, inputs, self._head.outputs,
                 self._head.fields)
                for one in self._scratch_of(gemm.BLOCK_BYTES + made_bytes)
            ],
            (progress,),
        )  # fmt: skip
        return mx.array(target).reshape(*states.shape[:-1], -1)

    def _point_to_cache(
        self, fields: _Integers, cache: Sequence[BatchKVCache] | None, rows: int, length: int
    ) -> list[Any]:
        """Writes the locations of keys and values into (layers, `layout.CACHE_FIELDS`). Returns the objects to keep alive
        during the call."""
        arguments = self._arguments
        shape = (rows, arguments.num_key_value_heads, length, arguments.head_dim)
        if cache is None:
            # Without a cache nothing is read again after its layer, so all layers share one buffer.
            views = [numpy.empty(shape, numpy.float32), numpy.empty(shape, numpy.float32)]
            fields[:] = _fields_of(views)
            return views
        for row, one in zip(fields, cache, strict=True):
            _make_room(one, shape)
            row[:] = _place_of(one).fields
        return []

    def _divide_arena(self, sizes: _Integers, tokens: int) -> dict[int, _Floats]:
        """Divides the memory for all intermediate results. Returns the parts by field; their addresses are also written into
        ``sizes``."""
        arguments = self._arguments
        padded = tokens if tokens <= skinny_gemm.FEW else COLUMNS * -(-tokens // COLUMNS)
        width = arguments.head_dim
        heads, key_heads = arguments.num_attention_heads, arguments.num_key_value_heads
        features = {
            layout.STATES: arguments.hidden_size,
            layout.NORMED: arguments.hidden_size,
            layout.QKV: (heads + 2 * key_heads) * width,
            layout.ATTENTION_OUTPUT: heads * width,
            layout.GATE: arguments.intermediate_size,
            layout.UP: arguments.intermediate_size,
            layout.COSINES: arguments.rotary.width // 2,
            layout.SINES: arguments.rotary.width // 2,
        }
        needed = padded * sum(features.values())
        if len(self._arena) < needed:
            # Padded columns of the last tile are read, so they must hold numbers.
            self._arena = numpy.zeros(needed, numpy.float32)
        parts, start = {}, 0
        for field, count in features.items():
            parts[field] = self._arena[start : start + padded * count]
            sizes[field] = _at(parts[field])
            start += padded * count
        return parts

    def _scratch_of(self, needed_bytes: int) -> list[_Floats]:
        for index, one in enumerate(self._scratch):
            if one.nbytes < needed_bytes:
                self._scratch[index] = numpy.empty(needed_bytes // 4 + 1, numpy.float32)
        return self._scratch


def _at(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _contiguous(array: mx.array) -> NDArray[Any]:
    """A numpy view of MLX's buffer."""
    mx.eval(array)
    view = numpy.asarray(array)
    if not view.flags.c_contiguous:
        raise ValueError("weights must be row-contiguous")
    return view


def _progress(phases: int) -> _Integers:
    return numpy.zeros(phases * gemm.PHASE_BYTES // 8, numpy.int64)


def _fields_of(views: Sequence[_Floats]) -> _Integers:
    """Address and strides of keys and of values (rows, heads, positions, width), as fields of a layer's row."""
    fields = []
    for view in views:
        assert view.strides[3] == 4, "what belongs to one position has to lie together"
        fields += [_at(view), *view.strides[:3]]
    return numpy.array(fields, numpy.int64)


@frozen(eq=False)
class _Place:
    """Location of a cache's keys and values. Asking MLX for it takes longer than the rest of a call's preparation."""

    keys: mx.array
    values: mx.array
    fields: _Integers


def _place_of(cache: BatchKVCache) -> _Place:
    """Looks up the location once per pair of arrays, and stores it on the cache; replaced arrays live until the next lookup."""
    place: _Place | None = getattr(cache, "_place", None)
    if place is None or place.keys is not cache.keys or place.values is not cache.values:
        views = [numpy.asarray(cache.keys), numpy.asarray(cache.values)]
        place = cache._place = _Place(cache.keys, cache.values, _fields_of(views))
    return place


def _make_room(cache: BatchKVCache, shape: tuple[int, int, int, int]) -> None:
    """Makes a layer's cache hold this many more positions, as `BatchKVCache.update_and_fetch` would."""
    rows, heads, length, width = shape
    needed = cache._idx + length
    if cache.keys is not None and cache.keys.shape[2] >= needed:
        return
    capacity = -(-needed // cache.step) * cache.step
    grown = [mx.zeros((rows, heads, capacity, width), mx.float32) for _ in range(2)]
    mx.eval(grown)
    if cache.keys is not None:
        for new, old in zip(grown, (cache.keys, cache.values), strict=True):
            numpy.asarray(new)[:, :, : cache._idx] = numpy.asarray(old)[:, :, : cache._idx]
    cache.keys, cache.values = grown


def _grow(cache: Sequence[BatchKVCache] | None, length: int) -> None:
    """Updates the caches' lengths by the positions written."""
    if cache is None:
        return
    # A concrete value instead of a lazy sum: the next call reads it.
    offset = mx.array(numpy.asarray(cache[0].offset) + numpy.int32(length))
    for one in cache:
        one._idx += length
        one.offset = offset


def _together(arrays: Sequence[_Floats], tokens: int) -> _Floats:
    """Concatenates arrays along tokens, flattening all axes but the last."""
    flat = [one.reshape(-1, one.shape[-1]) for one in arrays]
    return numpy.ascontiguousarray(flat[0] if len(flat) == 1 else numpy.concatenate(flat)).reshape(tokens, -1)


def _for_each_token(table: _Floats, tokens: int) -> _Floats:
    """Expands sines or cosines (rows or 1, 1, length, features) to (tokens, features)."""
    source = table[:, 0]
    rows = tokens // source.shape[1]
    return numpy.broadcast_to(source, (rows, *source.shape[1:])).reshape(tokens, -1)


def _to_tiles(out: _Floats, flat: _Floats, tokens: int) -> None:
    """Writes (tokens, features) as tiles."""
    features = flat.shape[1]
    if tokens <= skinny_gemm.FEW:
        out[: flat.size] = flat.reshape(-1)
        return
    for tile in range(-(-tokens // COLUMNS)):
        part = flat[COLUMNS * tile : COLUMNS * (tile + 1)]
        left = tokens - COLUMNS * tile
        columns = COLUMNS if left > 16 else 16 if left > 8 else 8
        room = out[COLUMNS * tile * features :][: features * columns].reshape(features, columns)
        room[:, : len(part)] = part.T
        room[:, len(part) :] = 0
