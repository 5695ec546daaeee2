"""Keyed BLAKE3 in machine code, eight inputs at a time: one compression function on vectors of eight.

Source: the BLAKE3 paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), sections 2.1 to 2.4. Everything is
addressed, nothing is allocated, no lock of the interpreter is held.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ml.kernels.compiler import njit
from ml.kernels.memory import LANE, NUMBER, WORD, load, pointer, prefetch, put_word, store, times, transposed, word_at

LANES = 8
HASH_BYTES, BLOCK_BYTES = 32, 64
ROWS_AHEAD = 4
"""How far ahead memory is asked for: a tile's rows lie far apart, which the processor does not foresee."""
_VECTOR = ir.VectorType(LANE, LANES)
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_MIXES = (*_COLUMNS, (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
START, END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
"""Flags of a compression."""
NAN = 0x7FC00000
"""The one form of a NaN."""


def _constant(value: int) -> Any:
    return ir.Constant(_VECTOR, [ir.Constant(LANE, value)] * LANES)


def _splat(builder: Any, word: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, builder.trunc(word, LANE), ir.Constant(LANE, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_VECTOR, None))


def _rotated(builder: Any, value: Any, bits: int) -> Any:
    return builder.or_(builder.lshr(value, _constant(bits)), builder.shl(value, _constant(32 - bits)))


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


def _key_words(builder: Any, key: Any) -> list[Any]:
    """A vector for each of the 8 words at `key`."""
    words = builder.bitcast(key, LANE.as_pointer())
    loaded = [builder.load(builder.gep(words, [ir.Constant(WORD, n)]), align=4) for n in range(8)]
    return [_splat(builder, builder.zext(word, WORD)) for word in loaded]


@intrinsic
def hash_chunks(typing_context, target, stride, key, addresses, row_bytes, counter, blocks, last_bytes, ends):  # type: ignore[no-untyped-def]
    """The chaining values of chunk `counter` of eight inputs of floats, 32 bytes to each `target + lane * stride`.

    `addresses` holds where each lane's chunk begins; it goes on in rows of 128 bytes (two blocks) that are `row_bytes`
    apart. `blocks` is how many it has, `last_bytes` what counts of the last one (the rest must be zeros), `ends` the
    flags of the last one beside KEYED. NaNs get their one form.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        target, stride, key, addresses, row_bytes, counter, blocks, last_bytes, ends = arguments
        table = pointer(builder, addresses)
        lanes = [pointer(builder, load(builder, WORD, table, 8 * lane)) for lane in range(LANES)]
        entering = _key_words(builder, pointer(builder, key))
        counters, one = _splat(builder, counter), ir.Constant(WORD, 1)
        last = builder.sub(blocks, one)
        before = builder.basic_block
        body, done = builder.append_basic_block("blocks"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        number = builder.phi(WORD)
        chain = [builder.phi(_VECTOR) for _ in range(8)]
        offset = builder.mul(builder.lshr(number, one), row_bytes)
        offset = builder.add(offset, times(builder, builder.and_(number, one), BLOCK_BYTES))
        ahead = builder.add(offset, times(builder, row_bytes, ROWS_AHEAD))
        for lane in lanes:
            prefetch(builder, lane, ahead)
        words: list[Any] = []
        for half in range(2):
            at = builder.add(offset, ir.Constant(WORD, half * LANES * 4))
            words += transposed(builder, [load(builder, _VECTOR, lane, at) for lane in lanes])
        floats = ir.VectorType(NUMBER, LANES)
        for n, word in enumerate(words):
            value = builder.bitcast(word, floats)
            words[n] = builder.select(builder.fcmp_unordered("uno", value, value), _constant(NAN), word)
        begins, is_last = (builder.icmp_signed("==", number, place) for place in (ir.Constant(WORD, 0), last))
        flags = builder.select(begins, ir.Constant(WORD, KEYED + START), ir.Constant(WORD, KEYED))
        flags = builder.or_(flags, builder.select(is_last, ends, ir.Constant(WORD, 0)))
        length = builder.select(is_last, last_bytes, ir.Constant(WORD, BLOCK_BYTES))
        leaving = _compressed(builder, chain, words, (counters, _splat(builder, length), _splat(builder, flags)))
        following = builder.add(number, one)
        number.add_incoming(ir.Constant(WORD, 0), before)
        number.add_incoming(following, body)
        for phi, first, later in zip(chain, entering, leaving, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", following, blocks), body, done)
        builder.position_at_end(done)
        for lane, value in enumerate(transposed(builder, leaving)):
            place = builder.add(target, times(builder, stride, lane))
            store(builder, value, pointer(builder, place), 0)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 9), generate


@intrinsic
def eight_blocks(typing_context, source, target, key, length, flags):  # type: ignore[no-untyped-def]
    """Eight compressions of one block each, one behind the other at `source`, 32 bytes each to `target`.

    `length` bytes of each block count, the rest must be zeros; `flags` are all of them.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        source, target, key = (pointer(builder, item) for item in arguments[:3])
        words: list[Any] = []
        for half in range(2):
            rows = [load(builder, _VECTOR, source, lane * BLOCK_BYTES + half * 32) for lane in range(LANES)]
            words += transposed(builder, rows)
        lanes = (_constant(0), _splat(builder, arguments[3]), _splat(builder, arguments[4]))
        made = _compressed(builder, _key_words(builder, key), words, lanes)
        for n, value in enumerate(transposed(builder, made)):
            store(builder, value, target, n * HASH_BYTES)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


@njit("void(intp, intp)")
def put_hash(target, source):  # type: ignore[no-untyped-def]
    """Copy a hash."""
    for number in range(4):
        put_word(target + number * 8, word_at(source, number))


@njit("void(intp, intp, intp, intp, intp, intp)", inline="never")
def pairs(source, count, target, key, flags, tail):  # type: ignore[no-untyped-def]
    """target[i] = the compression of hashes 2i and 2i + 1 at `source`, for i below `count`; the two may be the same.

    `tail` is memory for eight blocks. Nothing is written behind the last hash.
    """
    whole = count // 8 * 8
    for first in range(0, whole, 8):
        eight_blocks(source + first * 64, target + first * 32, key, 64, flags)
    if whole < count:
        for number in range((count - whole) * 8):
            put_word(tail + number * 8, word_at(source + whole * 64, number))
        eight_blocks(tail, tail, key, 64, flags)
        for place in range(count - whole):
            put_hash(target + (whole + place) * 32, tail + place * 32)
