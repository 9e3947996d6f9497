"""The innermost pieces of the compiled forward pass, as instructions for LLVM: tiles of products, packed weights, counters.

Numba compiles plain loops well, but it cannot be told to keep a tile of sums in registers or to read eight weights out of a
word. So these few pieces are written as LLVM's own vectors, which it spreads over whatever registers a processor has: 32
numbers are four of AVX2's, two of AVX-512's, eight of Arm's.

Addresses are plain integers and nothing is checked: whoever calls knows shapes and lifetimes (`layers.py`, `forward.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numba
import platformdirs
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

__all__ = [
    "COLUMNS",
    "TILE_ROWS",
    "count_up",
    "dot_4_by_1",
    "dot_4_by_2",
    "dot_4_by_4",
    "dot_4_by_8",
    "dot_8_by_1",
    "dot_8_by_2",
    "dot_8_by_4",
    "dot_8_by_8",
    "floats_at",
    "power_of_two",
    "read_count",
    "tile_1",
    "tile_8",
    "tile_8_one",
    "tile_16",
    "tile_16_one",
    "tile_32",
    "tile_32_one",
    "unpack_4",
    "unpack_8",
    "yield_processor",
]

# What is compiled is kept by numba for the file of a function alone, not for those that it calls.
_sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
numba.config.CACHE_DIR = str(
    Path(numba.config.CACHE_DIR or platformdirs.user_cache_path("leanvibe") / "machine-code")
    / hashlib.sha256(_sources).hexdigest()[:16]
)

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_instructions = cast("Callable[[Callable[..., Any]], Any]", intrinsic)
_inlined = cast("Callable[[Callable[..., Any]], Any]", numba.njit(inline="always"))
_EIGHT_FLOATS, _EIGHT_INTEGERS = ir.VectorType(_F32, 8), ir.VectorType(_I32, 8)

_has_wide_registers = bool(binding.get_host_cpu_features().get("avx512f"))
COLUMNS = 32 if _has_wide_registers else 16
"""Of a tile of activations, at most."""
TILE_ROWS = {8: 8, 16: 6, 32: 6}
"""Rows of weights in a tile, by its columns: as many sums as fit into the registers beside what they are made of."""


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Any, kind: Any) -> Any:
    value = builder.load(_pointer(builder, address, kind))
    value.align = 1 if kind is _I8 else 4
    return value


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, _pointer(builder, address, value.type)).align = 4


def _times_plus(builder: Any, left: Any, right: Any, added: Any) -> Any:
    """left * right + added, fused where the processor can."""
    kind = added.type
    suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    name, signature = f"llvm.fmuladd.{suffix}", ir.FunctionType(kind, [kind] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [left, right, added])


def _everywhere(builder: Any, value: Any, lanes: int) -> Any:
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


def _loop(
    builder: Any, count: Any, carried: Sequence[Any], body: Callable[[Any, Sequence[Any]], Sequence[Any]]
) -> list[Any]:
    """``count`` times ``body(index, values)``, whose result is carried into the next turn; what was carried at the end."""
    before = builder.block
    head, inside = builder.append_basic_block("tile.head"), builder.append_basic_block("tile.body")
    after = builder.append_basic_block("tile.end")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_I64)
    values = [builder.phi(one.type) for one in carried]
    index.add_incoming(_I64(0), before)
    for value, one in zip(values, carried, strict=True):
        value.add_incoming(one, before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    made = body(index, values)
    following = builder.add(index, _I64(1))
    index.add_incoming(following, builder.block)
    for value, one in zip(values, made, strict=True):
        value.add_incoming(one, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return list(values)


def _tile(lanes: int, rows: int) -> Any:
    """An intrinsic for a tile of a product: so many rows of weights by so many columns."""
    kind = ir.VectorType(_F32, lanes) if lanes > 1 else _F32

    @_instructions
    def tile(_typing: Any, _x: Any, _w: Any, _row: Any, _step: Any, _y: Any, _depth: Any, _adds: Any) -> Any:
        """y[row, lane] (+)= sum of w[row, k] * x[k, lane]. Addresses, then steps of ``w`` from row to row and k to k in bytes."""

        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, w, row_step, step, y, depth, adds = arguments
            outputs = [builder.add(y, _I64(4 * lanes * row)) for row in range(rows)]
            nothing = ir.Constant(kind, None)
            old = []
            for address in outputs:
                with builder.if_else(builder.trunc(adds, ir.IntType(1))) as (then, otherwise):
                    with then:
                        loaded = _load(builder, address, kind)
                        then_block = builder.block
                    with otherwise:
                        otherwise_block = builder.block
                joined = builder.phi(kind)
                joined.add_incoming(loaded, then_block)
                joined.add_incoming(nothing, otherwise_block)
                old.append(joined)
            starts = [builder.add(w, builder.mul(row_step, _I64(row))) for row in range(rows)]

            def body(index: Any, sums: Sequence[Any]) -> list[Any]:
                columns = _load(builder, builder.add(x, builder.mul(index, _I64(4 * lanes))), kind)
                along = builder.mul(index, step)
                made = []
                for start, one in zip(starts, sums, strict=True):
                    weight = _load(builder, builder.add(start, along), _F32)
                    spread = _everywhere(builder, weight, lanes) if lanes > 1 else weight
                    made.append(_times_plus(builder, spread, columns, one))
                return made

            for address, total in zip(outputs, _loop(builder, depth, old, body), strict=True):
                _store(builder, total, address)
            return _context.get_dummy_value()

        whole = types.int64
        return types.void(whole, whole, whole, whole, whole, whole, whole), code

    return tile


_tiles = {lanes: (_tile(lanes, rows), _tile(lanes, 1)) for lanes, rows in TILE_ROWS.items()}
tile_8, tile_8_one = _tiles[8]
tile_16, tile_16_one = _tiles[16]
tile_32, tile_32_one = _tiles[32]
tile_1 = _tile(1, 1)


def _unpacked(builder: Any, address: Any, bits: int) -> Any:
    """Eight weights as floats, from ``bits`` bytes."""
    if bits == 4:
        word = _everywhere(builder, _load(builder, address, _I32), 8)
        shifted = builder.lshr(word, ir.Constant(_EIGHT_INTEGERS, [4 * index for index in range(8)]))
        numbers = builder.and_(shifted, ir.Constant(_EIGHT_INTEGERS, [15] * 8))
    else:
        numbers = builder.zext(_load(builder, address, ir.VectorType(_I8, 8)), _EIGHT_INTEGERS)
    return builder.sitofp(numbers, _EIGHT_FLOATS)


def _unpack(bits: int) -> Any:
    @_instructions
    def unpack(_typing: Any, _words: Any, _out: Any, _scale: Any, _bias: Any) -> Any:
        """Eight weights at an address to floats at another: number * scale + bias."""

        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            words, out, scale, bias = arguments
            weights = _times_plus(
                builder, _unpacked(builder, words, bits), _everywhere(builder, scale, 8), _everywhere(builder, bias, 8)
            )
            _store(builder, weights, out)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float32, types.float32), code

    return unpack


unpack_4, unpack_8 = _unpack(4), _unpack(8)


def _dot_packed(bits: int, rows: int, columns: int) -> Any:
    """An intrinsic for a product of packed weights with few columns: along the inputs, eight at a time."""

    @_instructions
    def dot(
        _typing: Any, _x: Any, _step: Any, _last: Any, _words: Any, _scales: Any, _biases: Any, _groups: Any,
        _parts: Any, _y: Any,
    ) -> Any:  # fmt: skip
        """y[row, column] of packed weights, ``groups`` to a row of ``parts`` times 32, with columns ``step`` bytes apart.

        Columns behind the ``last`` that there is are that one again.
        """

        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, step, last, words, scales, biases, groups, parts, y = arguments
            group_bytes = builder.mul(parts, _I64(4 * bits))
            row_bytes = builder.mul(group_bytes, groups)
            scale_bytes = builder.mul(groups, _I64(4))
            starts = []
            for column in range(columns):
                is_there = builder.icmp_signed("<", _I64(column), last)
                starts.append(builder.add(x, builder.mul(step, builder.select(is_there, _I64(column), last))))

            def each_group(group: Any, sums: Sequence[Any]) -> list[Any]:
                fours = builder.mul(group, _I64(4))
                at = [builder.add(builder.mul(scale_bytes, _I64(row)), fours) for row in range(rows)]
                scale = [_everywhere(builder, _load(builder, builder.add(scales, one), _F32), 8) for one in at]
                bias = [_everywhere(builder, _load(builder, builder.add(biases, one), _F32), 8) for one in at]
                start = builder.add(words, builder.mul(group, group_bytes))
                along = builder.mul(group, builder.mul(parts, _I64(128)))

                def each_part(index: Any, totals: Sequence[Any]) -> list[Any]:
                    made = list(totals)
                    for eight in range(4):
                        place = builder.add(along, builder.add(builder.mul(index, _I64(128)), _I64(32 * eight)))
                        here = builder.add(start, builder.add(builder.mul(index, _I64(4 * bits)), _I64(bits * eight)))
                        numbers = [_load(builder, builder.add(one, place), _EIGHT_FLOATS) for one in starts]
                        for row in range(rows):
                            packed = _unpacked(builder, builder.add(here, builder.mul(row_bytes, _I64(row))), bits)
                            weights = _times_plus(builder, packed, scale[row], bias[row])
                            for column, one in enumerate(numbers):
                                total = row * columns + column
                                made[total] = _times_plus(builder, weights, one, made[total])
                    return made

                return _loop(builder, parts, sums, each_part)

            nothing = ir.Constant(_EIGHT_FLOATS, None)
            for place, total in enumerate(_loop(builder, groups, [nothing] * (rows * columns), each_group)):
                lanes = [builder.extract_element(total, _I32(index)) for index in range(8)]
                while len(lanes) > 1:
                    lanes = [builder.fadd(lanes[index], lanes[index + 1]) for index in range(0, len(lanes), 2)]
                _store(builder, lanes[0], builder.add(y, _I64(4 * place)))
            return context.get_dummy_value()

        whole = types.int64
        return types.void(*[whole] * 9), code

    return dot


dot_4_by_1, dot_8_by_1 = _dot_packed(4, 4, 1), _dot_packed(8, 4, 1)
dot_4_by_2, dot_8_by_2 = _dot_packed(4, 2, 2), _dot_packed(8, 2, 2)
dot_4_by_4, dot_8_by_4 = _dot_packed(4, 2, 4), _dot_packed(8, 2, 4)
dot_4_by_8, dot_8_by_8 = _dot_packed(4, 1, 8), _dot_packed(8, 1, 8)
"""Weights of 4 or 8 bits by columns; of rows four, two, two and one."""


@_instructions
def _void_pointer(_typing: Any, _address: Any) -> Any:
    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), code


@_inlined
def floats_at(address: int, count: int) -> Any:
    """The float32 numbers at an address, as an array."""
    return numba.carray(_void_pointer(address), (count,), numba.float32)


@_instructions
def power_of_two(_typing: Any, _exponent: Any) -> Any:
    """2 to an integer from -126 to 127, as float32."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        biased = builder.add(builder.trunc(arguments[0], _I32), _I32(127))
        return builder.bitcast(builder.shl(biased, _I32(23)), _F32)

    return types.float32(types.int32), code


@_instructions
def count_up(_typing: Any, _address: Any) -> Any:
    """Add one to the 64-bit number at an address, as one act before all threads; what it was."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, arguments[0], _I64), _I64(1), "seq_cst")

    return types.int64(types.int64), code


@_instructions
def read_count(_typing: Any, _address: Any) -> Any:
    """The 64-bit number at an address, as other threads left it."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(builder, arguments[0], _I64), "acquire", 8)

    return types.int64(types.int64), code


@_instructions
def yield_processor(_typing: Any) -> Any:
    """Let another thread have this processor."""

    def code(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I32, []), "sched_yield")
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), code
