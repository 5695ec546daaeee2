"""Roots of f32 tensors in machine code: what `proofs.tensors` defines, eight BLAKE3 chunks at a time.

A tile of 32 × 32 floats is four chunks of 1024 bytes. Chunks, their parents and the nodes of the tree over tiles go
through one compression function on vectors of eight. NaNs are made canonical as they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

from ml.kernels.call import Call, run_listed
from ml.kernels.memory import LANE, NUMBER, WORD, load, pointer, store, times, word_at
from proofs import tensors

LANES = 8
_VECTOR = ir.VectorType(LANE, LANES)
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_MIXES = (*_COLUMNS, (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
START, END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
_NAN = 0x7FC00000


def _constant(value: int) -> Any:
    return ir.Constant(_VECTOR, [ir.Constant(LANE, value)] * LANES)


def _splat(builder: Any, word: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, builder.trunc(word, LANE), ir.Constant(LANE, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_VECTOR, None))


def _rotated(builder: Any, value: Any, bits: int) -> Any:
    return builder.or_(builder.lshr(value, _constant(bits)), builder.shl(value, _constant(32 - bits)))


def _vector_at(builder: Any, base: Any, number: int) -> Any:
    return builder.bitcast(builder.gep(base, [ir.Constant(WORD, number * LANES * 4)]), _VECTOR.as_pointer())


def _compressed(builder: Any, chain: list[Any], words: list[Any], lanes: tuple[Any, Any, Any]) -> list[Any]:
    """The next chaining values, a vector for each word; `lanes`: numbers of chunks, lengths of blocks, flags."""
    counter, length, flags = lanes
    state = [*chain, *(_constant(word) for word in _IV[:4]), counter, _constant(0), length, flags]
    for turn in range(7):
        for number, (a, b, c, d) in enumerate(_MIXES):
            for half, (first, second) in enumerate(((16, 12), (8, 7))):
                state[a] = builder.add(builder.add(state[a], state[b]), words[2 * number + half])
                state[d] = _rotated(builder, builder.xor(state[d], state[a]), first)
                state[c] = builder.add(state[c], state[d])
                state[b] = _rotated(builder, builder.xor(state[b], state[c]), second)
        if turn < 6:
            words = [words[place] for place in _PERMUTATION]
    return [builder.xor(state[n], state[n + 8]) for n in range(8)]


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Vector i of lane j becomes vector j of lane i."""
    rows, distance = list(rows), 1
    while distance < LANES:
        low = [n if not n & distance else LANES + n - distance for n in range(LANES)]
        high = [n + distance if not n & distance else LANES + n for n in range(LANES)]
        masks = [ir.Constant(_VECTOR, [ir.Constant(LANE, n) for n in mask]) for mask in (low, high)]
        for n in range(LANES):
            if not n & distance:
                a, b = rows[n], rows[n + distance]
                rows[n] = builder.shuffle_vector(a, b, masks[0])
                rows[n + distance] = builder.shuffle_vector(a, b, masks[1])
        distance *= 2
    return rows


def _key_words(builder: Any, key: Any) -> list[Any]:
    """A vector for each of the 8 words at `key`."""
    words = builder.bitcast(key, LANE.as_pointer())
    loaded = [builder.load(builder.gep(words, [ir.Constant(WORD, n)]), align=4) for n in range(8)]
    return [_splat(builder, builder.zext(word, WORD)) for word in loaded]


@intrinsic
def _tile_chunks(typing_context, target, key, first, second, row_bytes):  # type: ignore[no-untyped-def]
    """The chaining values of the 4 chunks of two whole tiles, 8 × 32 bytes to `target`; NaNs get their one form.

    `first` and `second` are the tiles' addresses, `row_bytes` apart their rows, of which a chunk has eight.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        target, key = (pointer(builder, item) for item in arguments[:2])
        row_bytes = arguments[4]
        lanes = [
            pointer(builder, builder.add(base, times(builder, row_bytes, 8 * chunk)))
            for base in arguments[2:4]
            for chunk in range(4)
        ]
        entering = _key_words(builder, key)
        before = builder.basic_block
        body, done = builder.append_basic_block("blocks"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        number = builder.phi(WORD)
        chain = [builder.phi(_VECTOR) for _ in range(8)]
        one = ir.Constant(WORD, 1)
        offset = builder.mul(builder.lshr(number, one), row_bytes)
        offset = builder.add(offset, times(builder, builder.and_(number, one), 64))
        words: list[Any] = []
        for half in range(2):
            at = builder.add(offset, ir.Constant(WORD, half * LANES * 4))
            words += _transposed(builder, [load(builder, _VECTOR, lane, at) for lane in lanes])
        floats = ir.VectorType(NUMBER, LANES)
        for n, word in enumerate(words):
            value = builder.bitcast(word, floats)
            words[n] = builder.select(builder.fcmp_unordered("uno", value, value), _constant(_NAN), word)
        begins, ends = (builder.icmp_signed("==", number, ir.Constant(WORD, last)) for last in (0, 15))
        flags = builder.select(begins, ir.Constant(WORD, KEYED + START), ir.Constant(WORD, KEYED))
        flags = builder.select(ends, ir.Constant(WORD, KEYED + END), flags)
        counter = ir.Constant(_VECTOR, [ir.Constant(LANE, n % 4) for n in range(LANES)])
        leaving = _compressed(builder, chain, words, (counter, _constant(64), _splat(builder, flags)))
        following = builder.add(number, one)
        number.add_incoming(ir.Constant(WORD, 0), before)
        number.add_incoming(following, body)
        for phi, first, last in zip(chain, entering, leaving, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, body)
        builder.cbranch(builder.icmp_signed("<", following, ir.Constant(WORD, 16)), body, done)
        builder.position_at_end(done)
        for n, value in enumerate(_transposed(builder, leaving)):
            store(builder, value, target, n * 32)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


@intrinsic
def _eight_pairs(typing_context, source, target, key, flags):  # type: ignore[no-untyped-def]
    """Eight keyed hashes of 64 bytes each, one behind the other at `source`, to `target`."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        source, target, key = (pointer(builder, item) for item in arguments[:3])
        words: list[Any] = []
        for half in range(2):
            rows = [load(builder, _VECTOR, source, lane * 64 + half * 32) for lane in range(LANES)]
            words += _transposed(builder, rows)
        lanes = (_constant(0), _constant(64), _splat(builder, arguments[3]))
        made = _compressed(builder, _key_words(builder, key), words, lanes)
        for n, value in enumerate(_transposed(builder, made)):
            store(builder, value, target, n * 32)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


@intrinsic
def _compress(typing_context, chain, message, lanes):  # type: ignore[no-untyped-def]
    """One compression of a block in each lane: the chaining values at `chain` become the next ones.

    `chain` holds 8 vectors, `message` 16, `lanes` 3: chunk numbers (below 2^32), lengths of the blocks, flags.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        chain, message, lanes = (pointer(builder, item) for item in arguments)
        before = [builder.load(_vector_at(builder, chain, n), align=4) for n in range(8)]
        counter, length, flags = (builder.load(_vector_at(builder, lanes, n), align=4) for n in range(3))
        words = [builder.load(_vector_at(builder, message, n), align=4) for n in range(16)]
        for n, value in enumerate(_compressed(builder, before, words, (counter, length, flags))):
            builder.store(value, _vector_at(builder, chain, n), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), generate


@intrinsic
def _gather(typing_context, message, addresses):  # type: ignore[no-untyped-def]
    """Word i of each lane's 64 bytes into vector i of `message`."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        message, addresses = (pointer(builder, item) for item in arguments)
        table = builder.bitcast(addresses, WORD.as_pointer())
        lanes = [pointer(builder, builder.load(builder.gep(table, [ir.Constant(WORD, n)]))) for n in range(LANES)]
        for half in range(2):
            rows = [builder.load(_vector_at(builder, lane, half), align=4) for lane in lanes]
            for n, row in enumerate(_transposed(builder, rows)):
                builder.store(row, _vector_at(builder, message, half * 8 + n), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 2), generate


@intrinsic
def _set_chain(typing_context, chain, key):  # type: ignore[no-untyped-def]
    """Every lane's chaining value: the 8 words at `key`."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        chain, key = (pointer(builder, item) for item in arguments)
        for n, word in enumerate(_key_words(builder, key)):
            builder.store(word, _vector_at(builder, chain, n), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _lane_word(typing_context, chain, number, lane):  # type: ignore[no-untyped-def]
    """Word `number` of a lane's chaining value."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        words = builder.bitcast(pointer(builder, arguments[0]), LANE.as_pointer())
        place = builder.add(builder.mul(arguments[1], ir.Constant(WORD, LANES)), arguments[2])
        return builder.zext(builder.load(builder.gep(words, [place])), WORD)

    return types.intp(types.intp, types.intp, types.intp), generate


@intrinsic
def _put_u32(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write the low 32 bits."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        words = builder.bitcast(pointer(builder, arguments[0]), LANE.as_pointer())
        builder.store(builder.trunc(arguments[1], LANE), words, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _u32_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The 32-bit word at an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        words = builder.bitcast(pointer(builder, arguments[0]), LANE.as_pointer())
        return builder.zext(builder.load(words, align=4), WORD)

    return types.intp(types.intp), generate


@intrinsic
def _put_word(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write a 64-bit word."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.bitcast(pointer(builder, arguments[0]), WORD.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


_CHAIN, _MESSAGE, _ADDRESSES, _LANES, _CHUNKS, _TILE, _BATCH, _TAIL = 0, 256, 768, 832, 1024, 2048, 8192, 9216
"""Places in the scratch memory."""


@njit("void(intp)", inline="never", cache=True)
def _block(scratch):  # type: ignore[no-untyped-def]
    """Compress the blocks at the lanes' addresses."""
    _gather(scratch + _MESSAGE, scratch + _ADDRESSES)
    _compress(scratch + _CHAIN, scratch + _MESSAGE, scratch + _LANES)


@njit("void(intp, intp, intp, intp, intp)", cache=True)
def _set_lane(scratch, lane, counter, length, flags):  # type: ignore[no-untyped-def]
    _put_u32(scratch + _LANES + lane * 4, counter)
    _put_u32(scratch + _LANES + 32 + lane * 4, length)
    _put_u32(scratch + _LANES + 64 + lane * 4, flags)


@njit("void(intp, intp, intp)", cache=True)
def _put_digest(scratch, lane, target):  # type: ignore[no-untyped-def]
    for number in range(8):
        _put_u32(target + number * 4, _lane_word(scratch + _CHAIN, number, lane))


@njit("void(intp, intp, intp, intp, intp, intp)", inline="never", cache=True)
def _pairs(source, count, target, key, flags, scratch):  # type: ignore[no-untyped-def]
    """target[i] = the keyed hash of hashes 2i and 2i + 1 at `source`, for i below `count`."""
    whole = count // 8 * 8
    for first in range(0, whole, 8):
        _eight_pairs(source + first * 64, target + first * 32, key, flags)
    if whole < count:
        tail = scratch + _TAIL
        for number in range((count - whole) * 8):
            _put_word(tail + number * 8, word_at(source + whole * 64, number))
        _eight_pairs(tail, tail, key, flags)
        for number in range((count - whole) * 4):
            _put_word(target + whole * 32 + number * 8, word_at(tail, number))


@njit("void(intp, intp, intp, intp)", inline="never", cache=True)
def _join(chunks, target, key, scratch):  # type: ignore[no-untyped-def]
    """The digest of an input of 1 to 4 chunks (their chaining values, the root's own already) to `target`."""
    values = scratch + _CHUNKS
    if chunks > 2:
        _pairs(values, chunks // 2, values, key, KEYED + PARENT, scratch)
        if chunks == 3:
            for number in range(4):
                _put_word(values + 32 + number * 8, word_at(values, 8 + number))
    if chunks > 1:
        _pairs(values, 1, values, key, KEYED + PARENT + ROOT, scratch)
    for number in range(4):
        _put_word(target + number * 8, word_at(values, number))


@cfunc("void(intp, intp, intp, intp)", cache=True)
def _leaves(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: matrix, leaves, leaf key, bytes of a row, whole tiles and tiles in a row, whole tiles; items are eights.

    Whole tiles are counted row by row. In the last eight the last tile may come several times.
    """
    matrix, leaves, key = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    row_bytes, whole, across, count = word_at(s, 3), word_at(s, 4), word_at(s, 5), word_at(s, 6)
    batch = scratch + _BATCH
    for item in range(first, end):
        tiles = min(8, count - item * 8)
        for pair in range((tiles + 1) // 2):
            first_tile = item * 8 + pair * 2
            second_tile = min(first_tile + 1, count - 1)
            first_at = matrix + first_tile // whole * 32 * row_bytes + first_tile % whole * 128
            second_at = matrix + second_tile // whole * 32 * row_bytes + second_tile % whole * 128
            _tile_chunks(batch + pair * 256, key, first_at, second_at, row_bytes)
        _pairs(batch, (tiles + 1) // 2 * 4, batch, key, KEYED + PARENT, scratch)
        _pairs(batch, tiles, batch, key, KEYED + PARENT + ROOT, scratch)
        for place in range(tiles):
            tile = item * 8 + place
            target = leaves + (tile // whole * across + tile % whole) * 32
            for number in range(4):
                _put_word(target + number * 8, word_at(batch, place * 4 + number))


@njit("void(intp, intp, intp, intp, intp, intp, intp)", inline="never", cache=True)
def _edge(source, row_bytes, height, width, target, key, scratch):  # type: ignore[no-untyped-def]
    """The leaf of a tile of any size."""
    tile, size = scratch + _TILE, height * width * 4
    for number in range((size + 63) // 64 * 16):
        _put_u32(tile + number * 4, 0)
    for row in range(height):
        for column in range(width):
            word = _u32_at(source + row * row_bytes + column * 4)
            _put_u32(tile + (row * width + column) * 4, _NAN if word & 0x7FFFFFFF > 0x7F800000 else word)
    chunks = (size + 1023) // 1024
    _set_chain(scratch + _CHAIN, key)
    for block in range(min(16, (size + 63) // 64)):
        for lane in range(8):
            chunk = min(lane, chunks - 1)
            left = min(1024, size - chunk * 1024)
            blocks = (left + 63) // 64
            now = min(block, blocks - 1)
            flags = KEYED + (START if now == 0 else 0)
            if now == blocks - 1:
                flags += END + (ROOT if chunks == 1 else 0)
            _put_word(scratch + _ADDRESSES + lane * 8, tile + chunk * 1024 + now * 64)
            _set_lane(scratch, lane, chunk, min(64, left - now * 64), flags)
        _block(scratch)
        for chunk in range(chunks):
            # The last chunk may be done before the others.
            if block == (min(1024, size - chunk * 1024) + 63) // 64 - 1:
                _put_digest(scratch, chunk, scratch + _CHUNKS + chunk * 32)
    _join(chunks, target, key, scratch)


@cfunc("void(intp, intp, intp, intp)", cache=True)
def _edges(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: matrix, leaves, leaf key, rows, columns; items are rows of tiles, of which the edge tiles are done."""
    matrix, leaves, key, rows, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3), word_at(s, 4)
    across = (columns + 31) // 32
    for down in range(first, end):
        height = min(32, rows - down * 32)
        for place in range(columns // 32 if height == 32 else 0, across):
            source = matrix + (down * 32 * columns + place * 32) * 4
            width = min(32, columns - place * 32)
            _edge(source, columns * 4, height, width, leaves + (down * across + place) * 32, key, scratch)


@cfunc("void(intp, intp, intp, intp)", cache=True)
def _fold(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: hashes, node key, how many; the root ends in the first place. One item."""
    hashes, key, count = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    while count > 1:
        _pairs(hashes, count // 2, hashes, key, KEYED + START + END + ROOT, scratch)
        if count % 2:
            for number in range(4):
                _put_word(hashes + count // 2 * 32 + number * 8, word_at(hashes, (count - 1) * 4 + number))
        count = (count + 1) // 2


_LEAF_KEY = np.frombuffer(tensors.LEAF_KEY, np.uint8).copy()
_NODE_KEY = np.frombuffer(tensors.NODE_KEY, np.uint8).copy()
_LEAF_KEY_AT, _NODE_KEY_AT = _LEAF_KEY.ctypes.data, _NODE_KEY.ctypes.data


_EIGHT_TILES_NS, _ROW_OF_EDGES_NS = 10_000, 20_000
"""What an item of `_leaves` takes, and one of `_edges`, roughly."""


def tree_roots(values: Sequence[torch.Tensor], together: bool = False) -> list[bytes]:
    """The root of the tree over the tiles of each contiguous f32 tensor, NaNs counted as canonical.

    All in one call of machine code: a state has hundreds of tensors, most of them small. `together`: on all of this
    process's threads, which then must have nothing else to do; else on the calling thread alone.
    """
    if not values:
        return []
    shapes = []
    for value in values:
        columns = value.shape[-1] if value.ndim else 1
        rows = value.numel() // columns
        shapes.append((rows, columns, -(-rows // 32) * -(-columns // 32)))
    leaves = np.empty((sum(tiles for _, _, tiles in shapes), 32), np.uint8)
    out, place, places = leaves.ctypes.data, 0, []
    calls: list[Call] = []
    numbers: tuple[int, ...]
    for value, (rows, columns, tiles) in zip(values, shapes, strict=True):
        at, target, whole = value.data_ptr(), out + 32 * place, columns // 32
        count = rows // 32 * whole
        if count:
            numbers = (at, target, _LEAF_KEY_AT, columns * 4, whole, -(-columns // 32), count)
            eights = -(-count // 8)
            calls.append(Call(_leaves.address, numbers, (), eights, eights * _EIGHT_TILES_NS))
        if count < tiles:
            numbers, down = (at, target, _LEAF_KEY_AT, rows, columns), -(-rows // 32)
            calls.append(Call(_edges.address, numbers, (), down, down * _ROW_OF_EDGES_NS))
        calls.append(Call(_fold.address, (target, _NODE_KEY_AT, tiles), (), 1, 0))
        places.append(place)
        place += tiles
    run_listed(calls, together)
    return [leaves[place].tobytes() for place in places]


def tree_root(value: torch.Tensor) -> bytes:
    """The root of one tensor, as `tree_roots` has it."""
    return tree_roots([value])[0]
