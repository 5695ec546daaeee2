"""Copies between strided places: what a permutation, a slice, a padding or a window does when it cannot stay a view."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ml.kernels.call import Call
from ml.kernels.compiler import cfunc
from ml.kernels.memory import copy_bytes, pointer, word_at

TILE = 16
"""Elements of a side of the tiles in which two axes are exchanged."""
COPY_NS = 0.3
"""Of an element that lies beside the one before; others take three times that."""


def _move_generator(bits: int) -> Any:
    kind = ir.IntType(bits)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        target, source = (builder.bitcast(pointer(builder, item), kind.as_pointer()) for item in arguments)
        builder.store(builder.load(source, align=1), target, align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _move_1(typing_context, target, source):  # type: ignore[no-untyped-def]
    """Copy one byte."""
    return _move_generator(8)


@intrinsic
def _move_4(typing_context, target, source):  # type: ignore[no-untyped-def]
    """Copy four bytes."""
    return _move_generator(32)


@intrinsic
def _move_8(typing_context, target, source):  # type: ignore[no-untyped-def]
    """Copy eight bytes."""
    return _move_generator(64)


@cfunc("void(intp, intp, intp, intp)")
def _copy(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: source, target, bytes of an element, middle axes, then (size, source step, target step) of each axis.

    Steps in bytes. Items are places of the first axis; then come the middle axes, the last two are walked in tiles.
    """
    item, middle = word_at(s, 2), word_at(s, 3)
    places = 1
    for axis in range(middle):
        places *= word_at(s, 7 + 3 * axis)
    last = 7 + 3 * middle
    high, high_from, high_to = word_at(s, last), word_at(s, last + 1), word_at(s, last + 2)
    wide, wide_from, wide_to = word_at(s, last + 3), word_at(s, last + 4), word_at(s, last + 5)
    for number in range(first * places, end * places):
        index = number // places
        source = word_at(s, 0) + index * word_at(s, 5)
        target = word_at(s, 1) + index * word_at(s, 6)
        rest = number - index * places
        for axis in range(middle - 1, -1, -1):
            size = word_at(s, 7 + 3 * axis)
            source += rest % size * word_at(s, 8 + 3 * axis)
            target += rest % size * word_at(s, 9 + 3 * axis)
            rest //= size
        step = TILE if wide_from != item else wide
        for top in range(0, high, TILE):
            for left in range(0, wide, step):
                for row in range(top, min(high, top + TILE)):
                    origin, to = source + row * high_from, target + row * high_to
                    if item == 4 and wide_from == 4 and wide_to == 4:
                        for column in range(left, min(wide, left + step)):
                            _move_4(to + column * 4, origin + column * 4)
                    elif item == 4:
                        for column in range(left, min(wide, left + step)):
                            _move_4(to + column * wide_to, origin + column * wide_from)
                    elif item == 8:
                        for column in range(left, min(wide, left + step)):
                            _move_8(to + column * wide_to, origin + column * wide_from)
                    else:
                        for column in range(left, min(wide, left + step)):
                            _move_1(to + column * wide_to, origin + column * wide_from)


@lru_cache(maxsize=4096)
def copy_call(shape: tuple[int, ...], source: tuple[int, ...], target: tuple[int, ...], item: int) -> Call:
    """The call that copies a shape's elements of `item` bytes, by these strides (elements)."""
    axes: list[tuple[int, int, int]] = []
    for size, step_from, step_to in zip(shape, source, target, strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == step_from * size and axes[-1][2] == step_to * size:
            axes[-1] = (axes[-1][0] * size, step_from, step_to)
        else:
            axes.append((size, step_from, step_to))
    while len(axes) < 3:
        axes.insert(0, (1, 0, 0))
    # Exchanging axes goes by tiles: the axis that is contiguous in the source comes next to the last.
    near = min(range(len(axes) - 1), key=lambda axis: (axes[axis][1] != 1, -axis))
    if axes[-1][1] != 1 and axes[near][1] == 1:
        axes.insert(len(axes) - 1, axes.pop(near))
    if axes[0][0] == 1 and len(axes) == 3 and axes[1][0] > 1 and axes[-1][1] == 1:
        axes = [axes[1], (1, 0, 0), axes[2]]
    if axes[0][0] == axes[1][0] == 1 and axes[-1][1] == axes[-1][2] == 1 and axes[-1][0] % 64 == 0:
        axes = [(axes[-1][0] // 64, 64, 64), (1, 0, 0), (64, 1, 1)]
    flat = [number for size, a, b in axes for number in (size, a * item, b * item)]
    numbers = (0, 0, item, len(axes) - 3, *flat)
    near_ns = 1 if axes[-1][1] == 1 else 3
    nanoseconds = math.prod(size for size, _, _ in axes) * COPY_NS * near_ns * max(1, item / 4)
    return Call(_copy.address, numbers, (0, 1), axes[0][0], nanoseconds)


@cfunc("void(intp, intp, intp, intp)")
def _copy_rows(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: source, from row to row there, rows, bytes of a row, target, whose rows follow each other. One item."""
    source, step, rows, size, target = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3), word_at(s, 4)
    for row in range(rows):
        copy_bytes(target + row * size, source + row * step, size)


ROWS_COPY: int = _copy_rows.address
"""Kernel that copies a part of a matrix; its numbers are five words."""
