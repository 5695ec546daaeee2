"""Products with windows, read where they lie: convolutions without the matrix of windows.

The windows of one image are never written out. The image is copied once into *planes* (padded, divided by the
remainders of the step, so that neighbouring windows see neighbouring elements), and element k of every window lies at a
fixed offset from the window's place. Then vectors run over places (`gather_product`) or channels (`correlate`).
Each element is the chain of the definition, multiply, then add, k ascending: no bit differs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ml.kernels.matmul import ROWS, WIDTH
from ml.kernels.threads import run_parts

VECTORS = 2
COLUMNS = WIDTH * VECTORS
ROW_COLUMNS = WIDTH * 4
"""Places that a product with one row takes at once."""
PARALLEL_TERMS = 1 << 20
"""Below so many terms one thread does all."""
CHUNK_FLOATS = 1 << 21
"""Planes and gradients that `correlate` keeps at a time."""

Table = np.ndarray[tuple[int], np.dtype[np.intp]]


@dataclass(frozen=True)
class Planes:
    """How windows of an image (channels, height, width) lie in its planes. Sizes and offsets in floats."""

    image: tuple[int, int]
    places: tuple[int, int]
    """Windows down and across."""
    offsets: Table
    """Of element k = (channel, row, column) of a window from the window's place."""
    rows: Table
    """(remainder, row) → row of the image, or -1."""
    columns: Table
    pitch: tuple[int, int]
    """Rows of a plane, and floats of its rows."""
    plain: bool
    """Whether planes are the padded image itself: rows are copied as they are."""
    channel: int
    """Floats of one channel's planes."""

    @property
    def span(self) -> int:
        """Places of a plane from the first window's to the last one's."""
        return (self.places[0] - 1) * self.pitch[1] + self.places[1]


@lru_cache(maxsize=1024)
def planes_of(shape: tuple[int, ...], attributes: tuple[int, ...]) -> Planes:
    """The planes of an image (channels, height, width) under the attributes of `windows` over its last two axes."""
    axes = [_axis(shape[1 + axis], attributes[1 + 6 * axis : 7 + 6 * axis]) for axis in range(2)]
    (phase_h, shift_h, high, rows), (phase_w, shift_w, wide, columns) = axes
    remainders = int(phase_w.max()) + 1
    channel = (int(phase_h.max()) + 1) * remainders * high * wide
    within = ((phase_h[:, None] * remainders + phase_w) * high + shift_h[:, None]) * wide + shift_w
    offsets = np.arange(shape[0])[:, None, None] * channel + within
    plain = (attributes[4], attributes[6], attributes[10], attributes[12]) == (1, 1, 1, 1)
    return Planes(
        (shape[1], shape[2]),
        (attributes[2], attributes[8]),
        np.ascontiguousarray(offsets.reshape(-1), np.intp),
        rows,
        columns,
        (high, wide),
        plain,
        channel,
    )


def _axis(length: int, numbers: tuple[int, ...]) -> tuple[Any, Any, int, Table]:
    """Remainder and shift of each element of a window, size of a plane, and which elements it holds."""
    size, count, start, step, dilation, interior = numbers
    reach = start + dilation * np.arange(size)
    first = int(reach.min())
    phase, shift = (reach - first) % step, (reach - first) // step
    high = int(shift.max()) + count
    place = first + np.arange(int(phase.max()) + 1)[:, None] + step * np.arange(high)
    position, rest = np.divmod(place, interior)
    inside = (rest == 0) & (position >= 0) & (position < length)
    return phase, shift, high, np.ascontiguousarray(np.where(inside, position, -1).reshape(-1), np.intp)


_WORD, _FLOAT, _INT = ir.IntType(64), ir.FloatType(), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)


def _load(builder: Any, kind: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=8 if kind is _WORD else 4)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def _spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_INT, 0))
    lanes = ir.Constant(ir.VectorType(_INT, WIDTH), None)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), lanes)


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _places_block(rows: int, vectors: int) -> Any:
    """c[r, j] = chain over k of w[k, r] * x[offset[k] + j], from +0.0, for `rows` rows and `vectors` vectors."""

    @intrinsic
    def block(typing_context, weights, x, offsets, terms, c):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            weights, x, offsets, terms, c = arguments
            before = builder.basic_block
            loop, done = builder.append_basic_block("terms"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            left, w_at, o_at = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
            sums = [[builder.phi(_VECTOR) for _ in range(vectors)] for _ in range(rows)]
            at = builder.add(x, _load(builder, _WORD, o_at))
            seen = [_load(builder, _VECTOR, builder.add(at, _number(v * WIDTH * 4))) for v in range(vectors)]
            after = []
            for r in range(rows):
                weight = _spread(builder, _load(builder, _FLOAT, builder.add(w_at, _number(r * 4))))
                after.append([builder.fadd(sums[r][v], builder.fmul(weight, seen[v])) for v in range(vectors)])
            following = builder.sub(left, _number(1))
            for phi, first, later in (
                (left, terms, following),
                (w_at, weights, builder.add(w_at, _number(rows * 4))),
                (o_at, offsets, builder.add(o_at, _number(8))),
            ):
                phi.add_incoming(first, before)
                phi.add_incoming(later, loop)
            for r, v in itertools.product(range(rows), range(vectors)):
                sums[r][v].add_incoming(ir.Constant(_VECTOR, None), before)
                sums[r][v].add_incoming(after[r][v], loop)
            builder.cbranch(builder.icmp_signed(">", following, _number(0)), loop, done)
            builder.position_at_end(done)
            for r, v in itertools.product(range(rows), range(vectors)):
                _store(builder, after[r][v], builder.add(c, _number((r * vectors + v) * WIDTH * 4)))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), generate

    return block


_block_of_rows = _places_block(ROWS, VECTORS)
_block_of_one = _places_block(1, ROW_COLUMNS // WIDTH)


@intrinsic
def _channels_block(typing_context, x, offsets, gradient, down, across, jump, c, fresh):  # type: ignore[no-untyped-def]
    """c[r, j] = chain over places (down, across) of c[r, j] + x[offset[r] + place] * gradient[place, j]."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        x, offsets, gradient, down, across, jump, c, fresh = arguments
        pairs = list(itertools.product(range(ROWS), range(VECTORS)))
        targets = [builder.add(c, _number((r * VECTORS + v) * WIDTH * 4)) for r, v in pairs]
        is_fresh = builder.icmp_signed("!=", fresh, _number(0))
        zero = ir.Constant(_VECTOR, None)
        start = [builder.select(is_fresh, zero, _load(builder, _VECTOR, target)) for target in targets]
        bases = [builder.add(x, _load(builder, _WORD, builder.add(offsets, _number(8 * r)))) for r in range(ROWS)]
        before = builder.basic_block
        outer, inner = builder.append_basic_block("row"), builder.append_basic_block("place")
        ended, done = builder.append_basic_block("rowend"), builder.append_basic_block("done")
        builder.branch(outer)

        builder.position_at_end(outer)
        rows_left, row_at, row_gradient = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        row_sums = [builder.phi(_VECTOR) for _ in pairs]
        builder.branch(inner)

        builder.position_at_end(inner)
        left, at, from_ = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        sums = [builder.phi(_VECTOR) for _ in pairs]
        flows = [_load(builder, _VECTOR, builder.add(from_, _number(v * WIDTH * 4))) for v in range(VECTORS)]
        spread = [_spread(builder, _load(builder, _FLOAT, builder.add(base, at))) for base in bases]
        after = [
            builder.fadd(total, builder.fmul(spread[r], flows[v])) for total, (r, v) in zip(sums, pairs, strict=True)
        ]
        following, next_at = builder.sub(left, _number(1)), builder.add(at, _number(4))
        next_from = builder.add(from_, _number(COLUMNS * 4))
        for phi, first, later in ((left, across, following), (at, row_at, next_at), (from_, row_gradient, next_from)):
            phi.add_incoming(first, outer)
            phi.add_incoming(later, inner)
        for total, row, later in zip(sums, row_sums, after, strict=True):
            total.add_incoming(row, outer)
            total.add_incoming(later, inner)
        builder.cbranch(builder.icmp_signed(">", following, _number(0)), inner, ended)

        builder.position_at_end(ended)
        rows_after, jumped = builder.sub(rows_left, _number(1)), builder.add(next_at, jump)
        for phi, first, later in (
            (rows_left, down, rows_after),
            (row_at, _number(0), jumped),
            (row_gradient, gradient, next_from),
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(later, ended)
        for row, first, later in zip(row_sums, start, after, strict=True):
            row.add_incoming(first, before)
            row.add_incoming(later, ended)
        builder.cbranch(builder.icmp_signed(">", rows_after, _number(0)), outer, done)

        builder.position_at_end(done)
        for target, later in zip(targets, after, strict=True):
            _store(builder, later, target)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), generate


@intrinsic
def _move_vector(typing_context, source, target):  # type: ignore[no-untyped-def]
    """Copy WIDTH floats."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        _store(builder, _load(builder, _VECTOR, arguments[0]), arguments[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _add_vector(typing_context, source, amount, target):  # type: ignore[no-untyped-def]
    """Copy WIDTH floats with an amount added to each."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        source, amount, target = arguments
        total = builder.fadd(_load(builder, _VECTOR, source), _spread(builder, amount))
        _store(builder, total, target)
        return context.get_dummy_value()

    return types.void(types.intp, types.float32, types.intp), generate


@njit(
    "void(float32[:,:,::1], intp[::1], intp[::1], intp, intp, intp, float32[::1], intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _fill_planes(image, rows, columns, high, wide, plain, planes, at, channel):  # type: ignore[no-untyped-def]
    """The planes of an image (channels, height, width), from `at` on."""
    remainders_h, remainders_w = len(rows) // high, len(columns) // wide
    width = image.shape[2]
    first = 0
    while plain and first < wide and columns[first] < 0:
        first += 1
    for c in range(image.shape[0]):
        for h in range(remainders_h):
            for w in range(remainders_w):
                base = at + c * channel + (h * remainders_w + w) * high * wide
                for t in range(high):
                    row, target = rows[h * high + t], base + t * wide
                    if row < 0:
                        for u in range(wide):
                            planes[target + u] = np.float32(0)
                    elif plain:
                        held = columns[first] if first < wide else 0
                        count = min(width - held, wide - first)
                        for u in range(first):
                            planes[target + u] = np.float32(0)
                        for u in range(count):
                            planes[target + first + u] = image[c, row, held + u]
                        for u in range(first + count, wide):
                            planes[target + u] = np.float32(0)
                    else:
                        for u in range(wide):
                            column = columns[w * wide + u]
                            planes[target + u] = image[c, row, column] if column >= 0 else np.float32(0)


@njit("void(float32[:,:,::1], float32[::1], intp)", nogil=True, cache=True, error_model="numpy")
def _pack_weights(weights, packed, rows):  # type: ignore[no-untyped-def]
    """(groups, M, terms) → blocks of `rows` rows, [group][block][term][row], zeros beyond M."""
    groups, count, terms = weights.shape
    blocks = (count + rows - 1) // rows
    for g in range(groups):
        for block in range(blocks):
            base = (g * blocks + block) * terms * rows
            for r in range(rows):
                row = block * rows + r
                for k in range(terms):
                    packed[base + k * rows + r] = weights[g, row, k] if row < count else np.float32(0)


@njit(
    "void(float32[:,:,:,::1], float32[::1], intp[::1], intp[::1], intp[::1], intp[::1], float32[::1], "
    "float32[:,:,::1], intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _gather(images, packed, offsets, rows, columns, s, bias, out, first, end):  # type: ignore[no-untyped-def]
    """Images `first` … `end - 1`; `s`: high, wide, plain, floats a channel, down, across, groups, M, terms."""
    high, wide, plain, channel, down, across, groups, count, terms = (
        s[0],
        s[1],
        s[2],
        s[3],
        s[4],
        s[5],
        s[6],
        s[7],
        s[8],
    )
    one = count == 1
    height = 1 if one else ROWS
    broad = ROW_COLUMNS if one else COLUMNS
    blocks = (count + height - 1) // height
    span, size = (down - 1) * wide + across, down * across
    planes = np.zeros(images.shape[1] * channel + broad + 16, np.float32)
    edge = np.zeros(height * broad + 16, np.float32)
    edge_at, planes_at, packed_at = edge.ctypes.data, planes.ctypes.data, packed.ctypes.data
    offsets_at, out_at = offsets.ctypes.data, out.ctypes.data
    run_lane, run_place, run_length = np.empty(broad, np.intp), np.empty(broad, np.intp), np.empty(broad, np.intp)
    for n in range(first, end):
        _fill_planes(images[n], rows, columns, high, wide, plain, planes, 0, channel)
        for j in range(0, span, broad):
            runs, lane = 0, 0
            while lane < broad and j + lane < span:
                row, column = (j + lane) // wide, (j + lane) % wide
                if column >= across:
                    lane += wide - column
                    continue
                length = min(across - column, broad - lane)
                run_lane[runs], run_place[runs], run_length[runs] = lane, row * across + column, length
                runs += 1
                lane += length
            for g in range(groups):
                for block in range(blocks):
                    weights = packed_at + (g * blocks + block) * terms * height * 4
                    if one:
                        _block_of_one(weights, planes_at + j * 4, offsets_at + g * terms * 8, terms, edge_at)
                    else:
                        _block_of_rows(weights, planes_at + j * 4, offsets_at + g * terms * 8, terms, edge_at)
                    for r in range(min(height, count - block * height)):
                        m = g * count + block * height + r
                        target = out_at + (n * groups * count + m) * size * 4
                        for run in range(runs):
                            source, place, left = r * broad + run_lane[run], run_place[run], run_length[run]
                            # A vector may write beyond its run: the next one, further on, writes there again.
                            while left > 0 and place + WIDTH <= size:
                                if len(bias):
                                    _add_vector(edge_at + source * 4, bias[m], target + place * 4)
                                else:
                                    _move_vector(edge_at + source * 4, target + place * 4)
                                source, place, left = source + WIDTH, place + WIDTH, left - WIDTH
                            for lane in range(max(0, left)):
                                value = edge[source + lane]
                                out[n, m, place + lane] = value + bias[m] if len(bias) else value
    # numba frees an array after the last mention of its name; addresses are used until here.
    planes[0] = edge[0]


def gather_product(
    weights: torch.Tensor, images: torch.Tensor, attributes: tuple[int, ...], groups: int, bias: torch.Tensor | None
) -> torch.Tensor:
    """Weights (groups, M, terms) times the windows of images (batch, channels, height, width).

    The result is (batch, groups · M, places); `bias`, one number a row, is added last.
    """
    batch, channels = images.shape[:2]
    planes = planes_of(tuple(images.shape[1:]), attributes)
    _, count, terms = weights.shape
    size = planes.places[0] * planes.places[1]
    rows = 1 if count == 1 else ROWS
    packed = np.empty(groups * -(-count // rows) * terms * rows, np.float32)
    _pack_weights(weights.contiguous().numpy(), packed, rows)
    out = torch.empty((batch, groups * count, size), dtype=torch.float32)
    numbers = [*planes.pitch, int(planes.plain), planes.channel, *planes.places, groups, count, terms]
    settings = np.array(numbers, np.intp)
    amounts = np.empty(0, np.float32) if bias is None else bias.contiguous().numpy()
    arrays = (images.contiguous().numpy(), packed, planes.offsets * 4, planes.rows, planes.columns, settings, amounts)
    work = batch * groups * count * terms * size
    target = out.numpy()
    run_parts(batch, work, PARALLEL_TERMS, lambda first, end: _gather(*arrays, target, first, end))
    del channels
    return out


@njit(
    "void(float32[:,:,:,::1], float32[:,:,:,::1], intp[::1], intp[::1], intp[::1], float32[::1], float32[::1], "
    "intp, intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _prepare(images, gradients, rows, columns, s, planes, flows, image, first, end):  # type: ignore[no-untyped-def]
    """Planes and transposed gradients of images `image + first` … `image + end - 1`; `s` as `_correlate` takes it."""
    high, wide, plain, channel, size, groups = s[0], s[1], s[2], s[3], s[4] * s[5], s[6]
    count = gradients.shape[2]
    panels = (count + COLUMNS - 1) // COLUMNS
    for n in range(first, end):
        _fill_planes(
            images[image + n], rows, columns, high, wide, plain, planes, n * images.shape[1] * channel, channel
        )
        for g in range(groups):
            for panel in range(panels):
                base = ((n * groups + g) * panels + panel) * size * COLUMNS
                columns_here = min(COLUMNS, count - panel * COLUMNS)
                for start in range(0, size, 16):
                    stop = min(size, start + 16)
                    for j in range(columns_here):
                        for place in range(start, stop):
                            value = gradients[image + n, g, panel * COLUMNS + j, place]
                            flows[base + place * COLUMNS + j] = value
                if columns_here < COLUMNS:
                    for place in range(size):
                        for j in range(columns_here, COLUMNS):
                            flows[base + place * COLUMNS + j] = np.float32(0)


@njit(
    "void(float32[::1], float32[::1], intp[::1], intp[::1], float32[::1], intp, intp, intp, intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _correlate(planes, flows, offsets, s, sums, images, fresh, floats, first, end):  # type: ignore[no-untyped-def]
    """Go on with blocks `first` … `end - 1` of the result over some images; a block is ROWS terms × COLUMNS channels.

    `s`: high, wide, plain, floats a channel, down, across, groups, blocks of terms, panels of channels.
    """
    wide, down, across, groups, blocks, panels = s[1], s[4], s[5], s[6], s[7], s[8]
    size = down * across
    planes_at, flows_at, offsets_at, sums_at = (
        planes.ctypes.data,
        flows.ctypes.data,
        offsets.ctypes.data,
        sums.ctypes.data,
    )
    for n in range(images):
        starts = fresh if n == 0 else 0
        for item in range(first, end):
            g, rest = item // (blocks * panels), item % (blocks * panels)
            panel, block = rest // blocks, rest % blocks
            flow = flows_at + ((n * groups + g) * panels + panel) * size * COLUMNS * 4
            rows = offsets_at + (g * blocks + block) * ROWS * 8
            target = sums_at + item * ROWS * COLUMNS * 4
            jump = (wide - across) * 4
            _channels_block(planes_at + n * floats * 4, rows, flow, down, across, jump, target, starts)


@njit(
    "void(float32[:,:,:,::1], float32[:,:,:,::1], intp[::1], intp[::1], intp[::1], intp[::1], float32[:,::1], "
    "intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _correlate_one(images, gradients, offsets, rows, columns, s, out, first, end):  # type: ignore[no-untyped-def]
    """One output channel a group: groups `first` … `end - 1`, a chain for each element of the kernel."""
    high, wide, plain, channel, down, across = s[0], s[1], s[2], s[3], s[4], s[5]
    terms, inputs = out.shape[1], images.shape[1] // gradients.shape[1]
    planes = np.zeros(inputs * channel, np.float32)
    sums = np.zeros(terms, np.float32)
    for g in range(first, end):
        sums[:] = np.float32(0)
        for n in range(images.shape[0]):
            own = images[n, g * inputs : (g + 1) * inputs]
            _fill_planes(own, rows, columns, high, wide, plain, planes, 0, channel)
            for row in range(down):
                for column in range(across):
                    flow, at = gradients[n, g, 0, row * across + column], row * wide + column
                    for k in range(terms):
                        sums[k] += flow * planes[offsets[k] + at]
        out[g, :] = sums


def correlate(gradients: torch.Tensor, images: torch.Tensor, attributes: tuple[int, ...]) -> torch.Tensor:
    """Gradients (batch, groups, M, places) against the windows of images (batch, channels, height, width).

    The result is (groups, M, terms): chains over images, then places.
    """
    batch, groups, count, size = gradients.shape
    planes = planes_of(tuple(images.shape[1:]), attributes)
    terms = len(planes.offsets) // groups
    numbers = [*planes.pitch, int(planes.plain), planes.channel, *planes.places, groups]
    image, flow = images.contiguous().numpy(), gradients.contiguous().numpy()
    work = batch * groups * count * terms * size
    if count == 1:
        single = torch.empty((groups, terms), dtype=torch.float32)
        made, settings = single.numpy(), np.array(numbers, np.intp)
        tables = (planes.offsets, planes.rows, planes.columns, settings, made)
        run_parts(groups, work, PARALLEL_TERMS, lambda first, end: _correlate_one(image, flow, *tables, first, end))
        return single.reshape(groups, 1, terms)
    blocks, panels = -(-terms // ROWS), -(-count // COLUMNS)
    settings = np.array([*numbers, blocks, panels], np.intp)
    padded = np.zeros((groups, blocks * ROWS), np.intp)
    padded[:, :terms] = planes.offsets.reshape(groups, terms) * 4
    floats, flow_floats = images.shape[1] * planes.channel, groups * panels * size * COLUMNS
    chunk = max(1, min(batch, CHUNK_FLOATS // (floats + flow_floats)))
    held, flows = np.empty(chunk * floats + 16, np.float32), np.empty(chunk * flow_floats, np.float32)
    sums = np.empty(groups * panels * blocks * ROWS * COLUMNS, np.float32)
    offsets, items = padded.reshape(-1), groups * panels * blocks
    for start in range(0, batch, chunk):
        here = min(chunk, batch - start)
        share = work * here // batch

        def prepare(first: int, end: int, start: int = start) -> None:
            _prepare(image, flow, planes.rows, planes.columns, settings, held, flows, start, first, end)

        def go_on(first: int, end: int, start: int = start, here: int = here) -> None:
            _correlate(held, flows, offsets, settings, sums, here, int(start == 0), floats, first, end)

        run_parts(here, share, PARALLEL_TERMS, prepare)
        run_parts(items, share, PARALLEL_TERMS, go_on)
    tiles = torch.from_numpy(sums).view(groups, panels, blocks, ROWS, COLUMNS)
    return tiles.permute(0, 1, 4, 2, 3).reshape(groups, panels * COLUMNS, blocks * ROWS)[:, :count, :terms]
