"""Words and floats at addresses, for kernels that numba compiles: they take addresses, so any thread can call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD, NUMBER, BYTE, LANE = ir.IntType(64), ir.FloatType(), ir.IntType(8), ir.IntType(32)
Signature = tuple[Any, Callable[..., Any]]


def pointer(builder: Any, address: Any) -> Any:
    """An address as a pointer to bytes."""
    return builder.inttoptr(address, BYTE.as_pointer())


def load(builder: Any, kind: Any, base: Any, offset: Any) -> Any:
    """What lies `offset` bytes behind a pointer."""
    place = builder.gep(base, [ir.Constant(WORD, offset) if isinstance(offset, int) else offset])
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=4)


def store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    """Write a value `offset` bytes behind a pointer."""
    place = builder.gep(base, [ir.Constant(WORD, offset) if isinstance(offset, int) else offset])
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=4)


def prefetch(builder: Any, base: Any, offset: Any) -> None:
    """Ask for what lies `offset` bytes behind a pointer, wherever that may be."""
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, near, data = (ir.Constant(flag, value) for value in (0, 3, 1))
    builder.call(function, [builder.gep(base, [offset]), read, near, data])


def times(builder: Any, word: Any, factor: int) -> Any:
    """A word multiplied by a constant."""
    return builder.mul(word, ir.Constant(WORD, factor))


def transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Of as many vectors as each has lanes (a power of two): vector i of lane j becomes vector j of lane i."""
    rows, lanes, distance = list(rows), range(len(rows)), 1
    while distance < len(rows):
        # Swap, in every pair of rows this far apart, the off-diagonal lanes this far apart.
        low = [lane if not lane & distance else len(rows) + lane - distance for lane in lanes]
        high = [lane + distance if not lane & distance else len(rows) + lane for lane in lanes]
        kind = ir.VectorType(LANE, len(rows))
        masks = [ir.Constant(kind, [ir.Constant(LANE, lane) for lane in mask]) for mask in (low, high)]
        for row in lanes:
            if not row & distance:
                a, b = rows[row], rows[row + distance]
                rows[row] = builder.shuffle_vector(a, b, masks[0])
                rows[row + distance] = builder.shuffle_vector(a, b, masks[1])
        distance *= 2
    return rows


@intrinsic
def float_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The float at an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return load(builder, NUMBER, pointer(builder, arguments[0]), 0)

    return types.float32(types.intp), generate


@intrinsic
def word_at(typing_context, address, place):  # type: ignore[no-untyped-def]
    """The i64 number `place` of those at an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        at = builder.add(arguments[0], times(builder, arguments[1], 8))
        return builder.load(builder.inttoptr(at, WORD.as_pointer()), align=8)

    return types.intp(types.intp, types.intp), generate


@intrinsic
def put_float(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write a float to an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        store(builder, arguments[1], pointer(builder, arguments[0]), 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.float32), generate


@intrinsic
def put_word(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write an i64 to an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], WORD.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def copy_bytes(typing_context, target, source, count):  # type: ignore[no-untyped-def]
    """Copy `count` bytes between places that do not overlap."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        cgutils.raw_memcpy(builder, pointer(builder, arguments[0]), pointer(builder, arguments[1]), arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate
