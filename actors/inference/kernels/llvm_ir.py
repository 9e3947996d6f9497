"""LLVM IR helpers shared by the intrinsics here: vector load and store, fused multiply-add, loops with carried values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["F32", "I8", "I32", "I64", "fma", "instructions", "load", "loop", "pointer", "splat", "store"]

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
instructions = cast("Callable[[Callable[..., Any]], Any]", intrinsic)


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """Casts an address to a pointer to one kind of value."""
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, address: Any, kind: Any) -> Any:
    """Loads the value at an address; floats must be aligned, bytes need not be."""
    value = builder.load(pointer(builder, address, kind))
    value.align = 1 if kind is I8 else 4
    return value


def store(builder: Any, value: Any, address: Any) -> None:
    """Stores floats at an address."""
    builder.store(value, pointer(builder, address, value.type)).align = 4


def fma(builder: Any, left: Any, right: Any, added: Any) -> Any:
    """left * right + added, fused where the processor can."""
    kind = added.type
    suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
    name, signature = f"llvm.fmuladd.{suffix}", ir.FunctionType(kind, [kind] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [left, right, added])


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of ``lanes`` copies of a value."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def loop(
    builder: Any, count: Any, carried: Sequence[Any], body: Callable[[Any, Sequence[Any]], Sequence[Any]]
) -> list[Any]:
    """Runs ``body(index, values)`` ``count`` times, carrying its result into the next iteration. Returns the final values."""
    before = builder.block
    head, inside = builder.append_basic_block("tile.head"), builder.append_basic_block("tile.body")
    after = builder.append_basic_block("tile.end")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(I64)
    values = [builder.phi(one.type) for one in carried]
    index.add_incoming(I64(0), before)
    for value, one in zip(values, carried, strict=True):
        value.add_incoming(one, before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    made = body(index, values)
    following = builder.add(index, I64(1))
    index.add_incoming(following, builder.block)
    for value, one in zip(values, made, strict=True):
        value.add_incoming(one, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return list(values)
