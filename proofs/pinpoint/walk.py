"""Levels over long lists: a run of items is cut into at most `FAN_OUT` parts of a power of `FAN_OUT` items each."""

from __future__ import annotations

from gensyn_node.primitives.hashing import HASH_BYTES
from proofs.merkle import split_hashes
from proofs.pinpoint.types import FAN_OUT, Span


def part_size(count: int) -> int:
    """Items in one part (the last may have fewer): the smallest power of FAN_OUT with at most FAN_OUT parts."""
    size = 1
    while count > size * FAN_OUT:
        size *= FAN_OUT
    return size


def part_count(count: int) -> int:
    """Number of parts."""
    return -(-count // part_size(count))


def part_of(span: Span, index: int, defender: bytes, challenger: bytes) -> Span:
    """Part `index` of a span, with the two claims about it."""
    size = part_size(span.count)
    return Span(span.first + index * size, min(size, span.count - index * size), defender, challenger)


def levels(count: int, item: int) -> int:
    """How many times a run of `count` items is cut until `item` of it stands alone; a single item counts as one cut."""
    cuts = 1
    size = part_size(count)
    while size > 1 and min(size, count - item // size * size) > 1:
        start = item // size * size
        count, item = min(size, count - start), item - start
        size = part_size(count)
        cuts += 1
    return cuts


def exactly(data: bytes, count: int) -> list[bytes] | None:
    """Concatenated hashes as a list; None unless there are exactly `count`."""
    return split_hashes(data) if len(data) == count * HASH_BYTES else None
