"""RFC 6962 Merkle trees, over any pair of leaf and node hashes.

A tree is built over *leaf hashes*. A node without a sibling is promoted, which gives exactly the shape of RFC 6962
section 2.1: the left subtree is the largest power of two. An aligned run of a power of two leaves is therefore a
subtree, and the tree over such subtrees' roots has the same root: the pinpoint game walks big trees that way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gensyn_node.primitives.hashing import HASH_BYTES

PATH_LENGTH_MAX = 64
"""Hashes in one inclusion path: no tree has more than 2^64 leaves."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The hash functions of one kind of tree; leaf and node hashes must never collide."""

    leaf: Callable[[bytes], bytes]
    node: Callable[[bytes, bytes], bytes]
    empty: bytes
    """Root of the tree without leaves."""


def _sha256_leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _sha256_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


SHA256 = Scheme(_sha256_leaf, _sha256_node, hashlib.sha256(b"").digest())
"""RFC 6962 with SHA-256: every list on the chain."""


def fold(scheme: Scheme, hashes: Sequence[bytes]) -> bytes:
    """The root of the tree whose leaf hashes (or aligned subtrees' roots) are given in order."""
    if not hashes:
        return scheme.empty
    level, node = list(hashes), scheme.node
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [*map(node, level[0::2], level[1::2]), *odd]
    return level[0]


class Growing:
    """A tree whose leaf hashes come one after another: only the roots of its complete subtrees are kept."""

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._peaks: list[tuple[int, bytes]] = []
        """(height, root) of the subtrees, heights falling."""

    def add(self, hashes: Iterable[bytes]) -> None:
        """Append leaf hashes."""
        node, peaks = self._scheme.node, self._peaks
        for hash_ in hashes:
            height = 0
            while peaks and peaks[-1][0] == height:
                hash_ = node(peaks.pop()[1], hash_)
                height += 1
            peaks.append((height, hash_))

    def root(self) -> bytes:
        """The root of the tree over everything added, as `fold` gives it."""
        if not self._peaks:
            return self._scheme.empty
        result = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            result = self._scheme.node(peak, result)
        return result


def root(leaves: Sequence[bytes], scheme: Scheme = SHA256) -> bytes:
    """The root over leaf *data*."""
    return fold(scheme, [scheme.leaf(leaf) for leaf in leaves])


def inclusion_path(scheme: Scheme, hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings of leaf `index`, bottom up. `IndexError` when there is no such leaf."""
    return inclusion_paths(scheme, hashes, (index,))[0]


def inclusion_paths(scheme: Scheme, hashes: Sequence[bytes], indices: Sequence[int]) -> list[tuple[bytes, ...]]:
    """The path of each of several leaves, hashing the tree once. `IndexError` when there is no such leaf."""
    if not all(0 <= index < len(hashes) for index in indices):
        raise IndexError(f"leaves {list(indices)[:8]} of {len(hashes)}")
    level, places, paths = list(hashes), list(indices), [list[bytes]() for _ in indices]
    while len(level) > 1:
        for path, place in zip(paths, places, strict=True):
            if place ^ 1 < len(level):
                path.append(level[place ^ 1])
        odd = level[-1:] if len(level) % 2 else []
        level = [*map(scheme.node, level[0::2], level[1::2]), *odd]
        places = [place // 2 for place in places]
    return [tuple(path) for path in paths]


def streamed_paths(
    scheme: Scheme, hashes: Iterable[bytes], size: int, indices: Sequence[int]
) -> list[tuple[bytes, ...]]:
    """`inclusion_paths` over `size` leaf hashes that come one after another, keeping what the paths need alone.

    `IndexError` when there is no such leaf, `ValueError` when there are more or fewer than `size`.
    """
    if not all(0 <= index < size for index in indices):
        raise IndexError(f"leaves {list(indices)[:8]} of {size}")
    heights = (size - 1).bit_length() if size else 0
    lasts = [(size - 1) >> height for height in range(heights + 1)]
    wanted = [
        [(height, (index >> height) ^ 1) for height in range(heights) if (index >> height) ^ 1 <= lasts[height]]
        for index in indices
    ]
    kept = {place: b"" for path in wanted for place in path}
    waiting: dict[int, bytes] = {}
    """Height → the left one of a pair whose right one is not there yet."""
    count = 0
    for hash_ in hashes:
        place, count = count, count + 1
        for height in range(heights + 1):
            if (height, place) in kept:
                kept[height, place] = hash_
            if place % 2:
                hash_ = scheme.node(waiting.pop(height), hash_)
            elif place != lasts[height]:
                waiting[height] = hash_
                break
            place //= 2
    if count != size:
        raise ValueError(f"{count} leaves, not {size}")
    return [tuple(kept[place] for place in path) for path in wanted]


def root_from_path(scheme: Scheme, leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that `path` leads to from leaf `index` of `size`; None when the path has not the right length."""
    if (
        not 0 <= index < size
        or len(path) > PATH_LENGTH_MAX
        or any(len(hash_) != HASH_BYTES for hash_ in (leaf_hash, *path))
    ):
        return None
    current, last, used = leaf_hash, size - 1, 0
    while last > 0:
        if index % 2 or index < last:
            if used == len(path):
                return None
            sibling = path[used]
            used += 1
            current = scheme.node(sibling, current) if index % 2 else scheme.node(current, sibling)
        index //= 2
        last //= 2
    return current if used == len(path) else None


def verify_inclusion(
    scheme: Scheme, root_hash: bytes, leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]
) -> bool:
    """Whether `path` proves that leaf `index` of the `size` leaves under `root_hash` is `leaf_hash`."""
    return root_from_path(scheme, leaf_hash, index, size, path) == root_hash


def verify_consistency(
    scheme: Scheme, first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether the tree of `first` leaves is a prefix of the tree of `second` leaves (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    nodes = list(path)
    if first & (first - 1) == 0:
        nodes.insert(0, first_root)
    if not nodes:
        return False
    index, last = first - 1, second - 1
    while index % 2:
        index, last = index // 2, last // 2
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if index % 2 or index == last:
            old, new = scheme.node(node, old), scheme.node(node, new)
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            new = scheme.node(new, node)
        index, last = index // 2, last // 2
    return last == 0 and old == first_root and new == second_root


def split_hashes(data: bytes) -> list[bytes]:
    """Concatenated 32-byte hashes as a list; `ValueError` when the length is no multiple of 32."""
    if len(data) % HASH_BYTES:
        raise ValueError(f"{len(data)} bytes are not a whole number of {HASH_BYTES}-byte hashes")
    return [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]
