"""Max pooling and its gradient, straight from the images."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ml.kernels.call import Call
from ml.kernels.compiler import cfunc
from ml.kernels.matmul import WIDTH
from ml.kernels.memory import float_at, put_float, put_word, word_at
from ml.kernels.recipe import Recipe

LOOK_NS = 0.3
"""One element of one window, about."""
SPREAD_NS = 1.5
"""One window's gradient, about."""


def _lanes_step(step: int) -> Any:
    """Look at one element of WIDTH windows next to each other, which lie `step` floats apart."""

    @intrinsic
    def look(typing_context, source, best, chosen, number, low, high):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            source, best, chosen, number, low, high = arguments
            floats, integers = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(32), WIDTH)

            def pointer(address: Any, kind: Any) -> Any:
                return builder.inttoptr(address, kind.as_pointer())

            def spread(item: Any) -> Any:
                lanes = builder.insert_element(
                    ir.Constant(integers, ir.Undefined),
                    builder.trunc(item, ir.IntType(32)),
                    ir.Constant(ir.IntType(32), 0),
                )
                return builder.shuffle_vector(lanes, ir.Constant(integers, ir.Undefined), ir.Constant(integers, None))

            value = builder.load(pointer(source, floats), align=4)
            if step == 2:
                # The second half overlaps the first by one float: nothing beyond the last window's is read.
                later = builder.add(source, ir.Constant(ir.IntType(64), 4 * (WIDTH - 1)))
                following = builder.load(pointer(later, floats), align=4)
                order = [*range(0, WIDTH, 2), *range(WIDTH + 1, 2 * WIDTH, 2)]
                value = builder.shuffle_vector(value, following, ir.Constant(integers, order))
            held = builder.load(pointer(best, floats), align=4)
            lane = ir.Constant(integers, list(range(WIDTH)))
            inside = builder.and_(
                builder.icmp_signed(">=", lane, spread(low)), builder.icmp_signed("<", lane, spread(high))
            )
            # Greater or NaN, and nothing replaces a NaN.
            greater = builder.fcmp_unordered(">", value, held)
            taken = builder.and_(builder.and_(greater, builder.fcmp_ordered("ord", held, held)), inside)
            builder.store(builder.select(taken, value, held), pointer(best, floats), align=4)
            before = builder.load(pointer(chosen, integers), align=4)
            builder.store(builder.select(taken, spread(number), before), pointer(chosen, integers), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return look


_look_next = _lanes_step(1)
_look_second = _lanes_step(2)


@intrinsic
def _lane_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The i32 at an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        item = builder.load(builder.inttoptr(arguments[0], ir.IntType(32).as_pointer()), align=4)
        return builder.sext(item, ir.IntType(64))

    return types.intp(types.intp), generate


@intrinsic
def _put_lane(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write an i32 to an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        item = builder.trunc(arguments[1], ir.IntType(32))
        builder.store(item, builder.inttoptr(arguments[0], ir.IntType(32).as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@cfunc("void(intp, intp, intp, intp)")
def _greatest(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: images, values, places within the window, planes, height, width, rows, columns, then size, start, step,
    dilation of both axes. Items are planes."""
    images, values, within, planes = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3)
    height, width, rows, columns = word_at(s, 4), word_at(s, 5), word_at(s, 6), word_at(s, 7)
    tall, top, down, spread = word_at(s, 8), word_at(s, 9), word_at(s, 10), word_at(s, 11)
    broad, left, across, gap = word_at(s, 12), word_at(s, 13), word_at(s, 14), word_at(s, 15)
    limit = images + planes * height * width * 4
    best = scratch
    chosen = scratch + (columns + WIDTH) * 4
    for item in range(first, end):
        for o in range(rows):
            # What stands outside is -infinity: the element that a window without a greater one shows first.
            for p in range(columns + WIDTH):
                put_float(best + p * 4, types.float32(-np.inf))
                _put_lane(chosen + p * 4, 0)
            for k in range(tall):
                row = top + o * down + k * spread
                if row < 0 or row >= height:
                    continue
                line = images + (item * height + row) * width * 4
                for m in range(broad):
                    start, number = left + m * gap, k * broad + m
                    low = max(0, -(start // across))
                    high = min(columns, (width - 1 - start) // across + 1)
                    for p in range(low // WIDTH * WIDTH, high, WIDTH):
                        source = line + (start + p * across) * 4
                        safe = source >= images and source + ((WIDTH - 1) * across + 1) * 4 <= limit
                        if across == 1 and safe:
                            _look_next(source, best + p * 4, chosen + p * 4, number, low - p, high - p)
                        elif across == 2 and safe:
                            _look_second(source, best + p * 4, chosen + p * 4, number, low - p, high - p)
                        else:
                            for at in range(max(low, p), min(high, p + WIDTH)):
                                value, held = float_at(line + (start + at * across) * 4), float_at(best + at * 4)
                                if (value > held or value != value) and held == held:
                                    put_float(best + at * 4, value)
                                    _put_lane(chosen + at * 4, number)
            target = (item * rows + o) * columns
            for p in range(columns):
                put_float(values + (target + p) * 4, float_at(best + p * 4))
                put_word(within + (target + p) * 8, _lane_at(chosen + p * 4))


@cfunc("void(intp, intp, intp, intp)")
def _spread(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: gradients, places within the window, out, height, width, rows, columns, then size, start, step, dilation
    of both axes. Items are planes. Windows are taken from the last: the kernel's elements then come in order."""
    gradients, within, out = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    height, width, rows, columns = word_at(s, 3), word_at(s, 4), word_at(s, 5), word_at(s, 6)
    tall, top, down, spread = word_at(s, 7), word_at(s, 8), word_at(s, 9), word_at(s, 10)
    broad, left, across, gap = word_at(s, 11), word_at(s, 12), word_at(s, 13), word_at(s, 14)
    size = tall * broad
    for k in range(size):
        put_word(scratch + k * 16, k // broad * spread - top)
        put_word(scratch + k * 16 + 8, k % broad * gap - left)
    for item in range(first, end):
        plane, source = out + item * height * width * 4, item * rows * columns
        for place in range(height * width):
            put_float(plane + place * 4, types.float32(0))
        for o in range(rows - 1, -1, -1):
            for p in range(columns - 1, -1, -1):
                at = source + o * columns + p
                k = word_at(within, at)
                if 0 <= k < size:
                    i, j = o * down + word_at(scratch, 2 * k), p * across + word_at(scratch, 2 * k + 1)
                    if 0 <= i < height and 0 <= j < width:
                        target = plane + (i * width + j) * 4
                        put_float(target, float_at(target) + float_at(gradients + at * 4))


def greatest(shape: tuple[int, ...], attributes: tuple[int, ...], names: tuple[str, ...]) -> Recipe:
    """Images (batch, channels, height, width) → values and places within the window, each (…, down, across).

    `attributes` are those of `windows` over the last two axes. Outputs: `names` out of max_last (values), argmax_last.
    """
    batch, channels, height, width = shape
    (tall, rows, top, down, spread, _), (broad, columns, left, across, gap, _) = attributes[1:7], attributes[7:13]
    planes = batch * channels
    numbers = (0, 0, 0, planes, height, width, rows, columns, tall, top, down, spread, broad, left, across, gap)
    call = Call(_greatest.address, numbers, (0, 1, 2), planes, planes * rows * columns * tall * broad * LOOK_NS)
    elements = planes * rows * columns
    if len(names) == 2:
        order = (1, 2) if names[0] == "max_last" else (2, 1)
        return Recipe((), ((call, (0, *order)),))
    values = names == ("max_last",)
    return Recipe((elements * (8 if values else 4),), ((call, (0, 1, 2) if values else (0, 2, 1)),))


def spread(shape: tuple[int, ...], attributes: tuple[int, ...], images: tuple[int, int]) -> Recipe:
    """Gradients and chosen places (batch, channels, down, across) → the gradient of the images, (…, height, width).

    `attributes` look from an image's elements back at the windows: (start + i - dilation · k) / interior, the interior
    being the pooling's step.
    """
    batch, channels, rows, columns = shape
    (tall, _, top, _, dilation, down), (broad, _, left, _, gap, across) = attributes[1:7], attributes[7:13]
    planes, (height, width) = batch * channels, images
    numbers = (0, 0, 0, height, width, rows, columns, tall, top, down, -dilation, broad, left, across, -gap)
    nanoseconds = planes * (rows * columns * SPREAD_NS + height * width * LOOK_NS)
    return Recipe((), ((Call(_spread.address, numbers, (0, 1, 2), planes, nanoseconds), (0, 1, 2)),))
