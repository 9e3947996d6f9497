"""Innermost operations of the compiled forward pass, written in LLVM IR: product tiles, packed weights, counters.

Numba compiles plain loops well, but cannot be made to keep a tile of sums in registers or to extract eight weights from a
word. So these few operations use LLVM's own vectors, which it maps to the registers of each processor: 32
numbers are four of AVX2's, two of AVX-512's, eight of Arm's.

Addresses are plain integers and nothing is checked: the callers know shapes and lifetimes (`layers.py`, `forward.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.np.arrayobj import make_array, populate_array

from actors.inference.kernels.llvm_ir import (
    F32,
    I8,
    I32,
    I64,
    fma,
    instructions,
    load,
    loop,
    pointer,
    splat,
    store,
)

__all__ = [
    "COLUMNS",
    "DOT_ROWS",
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
    "fetch_soon",
    "floats_at",
    "power_of_two",
    "read_count",
    "tile_1",
    "tile_8",
    "tile_8_one",
    "tile_16",
    "tile_16_four",
    "tile_16_one",
    "tile_32",
    "tile_32_one",
    "unpack_4",
    "unpack_8",
    "yield_processor",
]

_EIGHT_FLOATS, _EIGHT_INTEGERS = ir.VectorType(F32, 8), ir.VectorType(I32, 8)


def _compiles_for_wide_registers() -> bool:
    """True if AVX-512 is available, on this machine or in the target named by numba's own variable."""
    wanted = numba.config.CPU_FEATURES
    if wanted is not None:
        return "+avx512f" in wanted.split(",")
    return bool(binding.get_host_cpu_features().get("avx512f"))


_has_wide_registers = _compiles_for_wide_registers()
COLUMNS = 32 if _has_wide_registers else 16
"""Most columns of a tile of activations."""
TILE_ROWS = {8: 8, 16: 8, 32: 8} if _has_wide_registers else {8: 8, 16: 6, 32: 4}
"""Rows of weights in a tile, by number of columns: as many sums as fit into registers along with their operands."""


def _tile(lanes: int, rows: int) -> Any:
    """Builds the intrinsic for one tile of a product: ``rows`` rows of weights by ``lanes`` columns."""
    kind = ir.VectorType(F32, lanes) if lanes > 1 else F32

    @instructions
    def tile(_typing: Any, _x: Any, _w: Any, _row: Any, _step: Any, _y: Any, _depth: Any, _adds: Any) -> Any:
        """y[row, lane] (+)= sum of w[row, k] * x[k, lane]. Arguments: addresses, and the strides of ``w`` by row and by k in bytes."""

        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, w, row_step, step, y, depth, adds = arguments
            outputs = [builder.add(y, I64(4 * lanes * row)) for row in range(rows)]
            nothing = ir.Constant(kind, None)
            old = []
            for address in outputs:
                with builder.if_else(builder.trunc(adds, ir.IntType(1))) as (then, otherwise):
                    with then:
                        loaded = load(builder, address, kind)
                        then_block = builder.block
                    with otherwise:
                        otherwise_block = builder.block
                joined = builder.phi(kind)
                joined.add_incoming(loaded, then_block)
                joined.add_incoming(nothing, otherwise_block)
                old.append(joined)
            starts = [builder.add(w, builder.mul(row_step, I64(row))) for row in range(rows)]

            def body(index: Any, sums: Sequence[Any]) -> list[Any]:
                columns = load(builder, builder.add(x, builder.mul(index, I64(4 * lanes))), kind)
                along = builder.mul(index, step)
                made = []
                for start, one in zip(starts, sums, strict=True):
                    weight = load(builder, builder.add(start, along), F32)
                    spread = splat(builder, weight, lanes) if lanes > 1 else weight
                    made.append(fma(builder, spread, columns, one))
                return made

            for address, total in zip(outputs, loop(builder, depth, old, body), strict=True):
                store(builder, total, address)
            return _context.get_dummy_value()

        whole = types.int64
        return types.void(whole, whole, whole, whole, whole, whole, whole), code

    return tile


tile_8, tile_8_one = _tile(8, TILE_ROWS[8]), _tile(8, 1)
tile_16, tile_16_four, tile_16_one = _tile(16, TILE_ROWS[16]), _tile(16, 4), _tile(16, 1)
tile_32, tile_32_one = _tile(32, TILE_ROWS[32]), _tile(32, 1)
tile_1 = _tile(1, 1)


def _unpacked(builder: Any, address: Any, bits: int) -> Any:
    """Unpacks eight weights as floats, from ``bits`` bytes."""
    if bits == 4:
        word = splat(builder, load(builder, address, I32), 8)
        shifted = builder.lshr(word, ir.Constant(_EIGHT_INTEGERS, [4 * index for index in range(8)]))
        numbers = builder.and_(shifted, ir.Constant(_EIGHT_INTEGERS, [15] * 8))
    else:
        numbers = builder.zext(load(builder, address, ir.VectorType(I8, 8)), _EIGHT_INTEGERS)
    return builder.sitofp(numbers, _EIGHT_FLOATS)


def _unpack(bits: int) -> Any:
    @instructions
    def unpack(_typing: Any, _words: Any, _out: Any, _scale: Any, _bias: Any) -> Any:
        """Unpacks eight weights at one address to floats at another: number * scale + bias."""

        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            words, out, scale, bias = arguments
            weights = fma(builder, _unpacked(builder, words, bits), splat(builder, scale, 8), splat(builder, bias, 8))
            store(builder, weights, out)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float32, types.float32), code

    return unpack


unpack_4, unpack_8 = _unpack(4), _unpack(8)


def _dot_packed(bits: int, rows: int, columns: int) -> Any:
    """Builds the intrinsic for a product of packed weights with few columns: along the inputs, eight at a time."""

    @instructions
    def dot(
        _typing: Any, _x: Any, _step: Any, _last: Any, _words: Any, _scales: Any, _biases: Any, _groups: Any,
        _parts: Any, _y: Any,
    ) -> Any:  # fmt: skip
        """y[row, column] of packed weights, ``groups`` per row, each of ``parts`` times 32, with columns ``step`` bytes apart.

        Columns after ``last`` repeat that one.
        """

        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            x, step, last, words, scales, biases, groups, parts, y = arguments
            group_bytes = builder.mul(parts, I64(4 * bits))
            row_bytes = builder.mul(group_bytes, groups)
            scale_bytes = builder.mul(groups, I64(4))
            starts = []
            for column in range(columns):
                is_there = builder.icmp_signed("<", I64(column), last)
                starts.append(builder.add(x, builder.mul(step, builder.select(is_there, I64(column), last))))

            def each_group(group: Any, sums: Sequence[Any]) -> list[Any]:
                fours = builder.mul(group, I64(4))
                at = [builder.add(builder.mul(scale_bytes, I64(row)), fours) for row in range(rows)]
                scale = [splat(builder, load(builder, builder.add(scales, one), F32), 8) for one in at]
                bias = [splat(builder, load(builder, builder.add(biases, one), F32), 8) for one in at]
                start = builder.add(words, builder.mul(group, group_bytes))
                along = builder.mul(group, builder.mul(parts, I64(128)))

                def each_part(index: Any, totals: Sequence[Any]) -> list[Any]:
                    made = list(totals)
                    for eight in range(4):
                        place = builder.add(along, builder.add(builder.mul(index, I64(128)), I64(32 * eight)))
                        here = builder.add(start, builder.add(builder.mul(index, I64(4 * bits)), I64(bits * eight)))
                        numbers = [load(builder, builder.add(one, place), _EIGHT_FLOATS) for one in starts]
                        for row in range(rows):
                            packed = _unpacked(builder, builder.add(here, builder.mul(row_bytes, I64(row))), bits)
                            weights = fma(builder, packed, scale[row], bias[row])
                            for column, one in enumerate(numbers):
                                total = row * columns + column
                                made[total] = fma(builder, weights, one, made[total])
                    return made

                return loop(builder, parts, sums, each_part)

            nothing = ir.Constant(_EIGHT_FLOATS, None)
            for place, total in enumerate(loop(builder, groups, [nothing] * (rows * columns), each_group)):
                lanes = [builder.extract_element(total, I32(index)) for index in range(8)]
                while len(lanes) > 1:
                    lanes = [builder.fadd(lanes[index], lanes[index + 1]) for index in range(0, len(lanes), 2)]
                store(builder, lanes[0], builder.add(y, I64(4 * place)))
            return context.get_dummy_value()

        whole = types.int64
        return types.void(*[whole] * 9), code

    return dot


DOT_ROWS = {1: 4, 2: 4, 4: 4, 8: 2} if _has_wide_registers else {1: 2, 2: 2, 4: 1, 8: 1}
"""Rows of packed weights in a product, by number of columns: as many sums as there are registers for, along with scales, biases and
two constants. AVX-512 has 32; with 16, two rows by four columns take twice as long as one."""
dot_4_by_1, dot_8_by_1 = _dot_packed(4, DOT_ROWS[1], 1), _dot_packed(8, DOT_ROWS[1], 1)
dot_4_by_2, dot_8_by_2 = _dot_packed(4, DOT_ROWS[2], 2), _dot_packed(8, DOT_ROWS[2], 2)
dot_4_by_4, dot_8_by_4 = _dot_packed(4, DOT_ROWS[4], 4), _dot_packed(8, DOT_ROWS[4], 4)
dot_4_by_8, dot_8_by_8 = _dot_packed(4, DOT_ROWS[8], 8), _dot_packed(8, DOT_ROWS[8], 8)
"""Weights of 4 or 8 bits, by columns."""


@instructions
def floats_at(_typing: Any, _address: Any, _count: Any) -> Any:
    """The float32 numbers at an address, as an array.

    Equivalent to `numba.carray` in a single step: as an inlined function that took a third of the total compile time, since
    numba copies the whole caller for each call.
    """
    kind = types.Array(types.float32, 1, "C")

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address, count = arguments
        array = make_array(kind)(context, builder)
        populate_array(
            array, data=builder.inttoptr(address, F32.as_pointer()), shape=[count], strides=[I64(4)], itemsize=I64(4),
            meminfo=None,
        )  # fmt: skip
        return array._getvalue()

    return kind(types.int64, types.int64), code


@instructions
def power_of_two(_typing: Any, _exponent: Any) -> Any:
    """2 to an integer from -126 to 127, as float32."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        biased = builder.add(builder.trunc(arguments[0], I32), I32(127))
        return builder.bitcast(builder.shl(biased, I32(23)), F32)

    return types.float32(types.int32), code


@instructions
def count_up(_typing: Any, _address: Any) -> Any:
    """Atomically adds one to the 64-bit number at an address. Returns the previous value."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", pointer(builder, arguments[0], I64), I64(1), "seq_cst")

    return types.int64(types.int64), code


@instructions
def read_count(_typing: Any, _address: Any) -> Any:
    """Reads the 64-bit number at an address with acquire ordering."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(pointer(builder, arguments[0], I64), "acquire", 8)

    return types.int64(types.int64), code


@instructions
def fetch_soon(_typing: Any, _address: Any) -> Any:
    """Prefetches the 64 bytes around an address without waiting; any address is allowed."""

    def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        where = pointer(builder, arguments[0], I8)
        signature = ir.FunctionType(ir.VoidType(), [where.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        builder.call(function, [where, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), code


@instructions
def yield_processor(_typing: Any) -> Any:
    """Yields the processor to another thread."""

    def code(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), "sched_yield")
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), code
