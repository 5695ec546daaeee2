"""The authenticated map: a binary Merkle trie over SHA-256 of the keys, compact, with inclusion and absence proofs.

A subtree with one entry *is* that entry's leaf, so a path has about log2(entries) nodes. The shape depends on the set
of entries alone, never on the order they came in. Leaf: `0 ‖ key hash ‖ value hash`; inner node: `1 ‖ left ‖ right`;
a node's name is the SHA-256 of that; an empty subtree is 32 zero bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, TypeAlias

from msgspec import Meta

from consensus.ledger.fields import Hash, OptionalHash
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import InvariantViolation

EMPTY_ROOT = bytes(32)
_LEAF, _INNER = 0, 1
_DEPTH_MAX = 256

ReadNode: TypeAlias = Callable[[bytes], bytes]
_Item: TypeAlias = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """What a batch of changes does to the stored nodes."""

    root: bytes
    new_nodes: dict[bytes, bytes]
    """Hash → encoding."""
    stale_nodes: frozenset[bytes]
    """Nodes of the old tree that the new one does not have."""


class MapProof(Struct):
    """Shows what the map holds at a key: a value, or nothing."""

    siblings: Annotated[tuple[Hash, ...], Meta(max_length=_DEPTH_MAX)]
    """From the root down."""
    other_key_hash: OptionalHash
    """Absence: the key hash of the leaf that stands where the key would; empty when nothing does, or for inclusion."""
    other_value_hash: OptionalHash
    """That leaf's value hash, or empty."""


def _bit(key_hash: bytes, depth: int) -> int:
    return key_hash[depth >> 3] >> (7 - (depth & 7)) & 1


@dataclass(slots=True)
class _Batch:
    """One update under way."""

    read_node: ReadNode
    new: dict[bytes, bytes] = field(default_factory=dict)
    stale: set[bytes] = field(default_factory=set)

    def store(self, encoding: bytes) -> bytes:
        digest = sha256(encoding).digest()
        self.new[digest] = encoding
        return digest

    def read(self, digest: bytes) -> bytes:
        known = self.new.get(digest)
        return self.read_node(digest) if known is None else known

    def apply(self, digest: bytes, depth: int, items: list[_Item]) -> bytes:
        """The subtree at `depth` named `digest`, with the changes `items` (sorted, all under it)."""
        if digest == EMPTY_ROOT:
            return self.build(depth, [item for item in items if item[1] is not None])
        node = self.read(digest)
        if node[0] == _LEAF:
            return self.replace_leaf(digest, node, depth, items)
        left, right = node[1:33], node[33:65]
        lower, upper = _split(items, depth)
        new_left = self.apply(left, depth + 1, lower) if lower else left
        new_right = self.apply(right, depth + 1, upper) if upper else right
        if new_left == left and new_right == right:
            return digest
        self.stale.add(digest)
        return self.join(new_left, new_right)

    def replace_leaf(self, digest: bytes, node: bytes, depth: int, items: list[_Item]) -> bytes:
        key_hash, value_hash = node[1:33], node[33:65]
        self.stale.add(digest)
        if all(item[0] != key_hash for item in items):
            items = [*items, (key_hash, value_hash)]
        return self.build(depth, [item for item in items if item[1] is not None])

    def build(self, depth: int, items: list[_Item]) -> bytes:
        """A fresh subtree of these entries."""
        if not items:
            return EMPTY_ROOT
        if len(items) == 1:
            key_hash, value_hash = items[0]
            return self.store(b"\x00" + key_hash + (value_hash or b""))
        lower, upper = _split(items, depth)
        return self.join(self.build(depth + 1, lower), self.build(depth + 1, upper))

    def join(self, left: bytes, right: bytes) -> bytes:
        """The inner node over two subtrees; a lone leaf rises instead."""
        if left == EMPTY_ROOT and (right == EMPTY_ROOT or self.read(right)[0] == _LEAF):
            return right
        if right == EMPTY_ROOT and self.read(left)[0] == _LEAF:
            return left
        return self.store(b"\x01" + left + right)


def _split(items: list[_Item], depth: int) -> tuple[list[_Item], list[_Item]]:
    lower: list[_Item] = []
    upper: list[_Item] = []
    byte, shift = depth >> 3, 7 - (depth & 7)
    for item in items:
        (upper if item[0][byte] >> shift & 1 else lower).append(item)
    return lower, upper


def update(root: bytes, read_node: ReadNode, changes: Mapping[bytes, bytes | None]) -> TreeUpdate:
    """The tree after setting (or, with None, deleting) each key of `changes`."""
    items: list[_Item] = [
        (sha256(key).digest(), None if value is None else sha256(value).digest()) for key, value in changes.items()
    ]
    batch = _Batch(read_node)
    new_root = batch.apply(root, 0, items) if items else root
    again = batch.stale & batch.new.keys()
    fresh = {digest: encoding for digest, encoding in batch.new.items() if digest not in again}
    return TreeUpdate(new_root, fresh, frozenset(batch.stale - again))


def reaches(root: bytes, read_node: ReadNode, digest: bytes) -> bool:
    """Whether the node `digest`, which must exist with all below it, is part of the tree under `root`."""
    below = digest
    while (node := read_node(below))[0] != _LEAF:
        below = node[1:33] if node[1:33] != EMPTY_ROOT else node[33:65]
    key_hash, here, depth = node[1:33], root, 0
    while here != EMPTY_ROOT:
        if here == digest:
            return True
        node = read_node(here)
        if node[0] == _LEAF:
            return False
        here = node[33:65] if _bit(key_hash, depth) else node[1:33]
        depth += 1
    return False


def prove(root: bytes, read_node: ReadNode, key: bytes) -> MapProof:
    """The proof of what the tree holds at `key`."""
    key_hash = sha256(key).digest()
    siblings: list[bytes] = []
    digest = root
    while digest != EMPTY_ROOT:
        node = read_node(digest)
        if node[0] == _LEAF:
            found = node[1:33] == key_hash
            return MapProof(tuple(siblings), b"" if found else node[1:33], b"" if found else node[33:65])
        if len(siblings) == _DEPTH_MAX:
            raise InvariantViolation("the tree is deeper than its keys are long")
        upper = _bit(key_hash, len(siblings))
        siblings.append(node[1:33] if upper else node[33:65])
        digest = node[33:65] if upper else node[1:33]
    return MapProof(tuple(siblings), b"", b"")


def verify(root: bytes, key: bytes, value: bytes | None, proof: MapProof) -> bool:
    """Whether `proof` shows that the map under `root` holds `value` at `key`; None: that it holds nothing there."""
    key_hash = sha256(key).digest()
    depth = len(proof.siblings)
    if depth > _DEPTH_MAX or any(len(sibling) != 32 for sibling in proof.siblings):
        return False
    if value is not None:
        if proof.other_key_hash or proof.other_value_hash:
            return False
        digest = sha256(b"\x00" + key_hash + sha256(value).digest()).digest()
    elif proof.other_key_hash or proof.other_value_hash:
        if not _stands_in_the_way(key_hash, proof, depth):
            return False
        digest = sha256(b"\x00" + proof.other_key_hash + proof.other_value_hash).digest()
    else:
        digest = EMPTY_ROOT
    for level in range(depth - 1, -1, -1):
        sibling = proof.siblings[level]
        pair = sibling + digest if _bit(key_hash, level) else digest + sibling
        digest = sha256(b"\x01" + pair).digest()
    return digest == root


def _stands_in_the_way(key_hash: bytes, proof: MapProof, depth: int) -> bool:
    """Whether the proof's other leaf is another key's, on the key's own path."""
    other = proof.other_key_hash
    if len(other) != 32 or len(proof.other_value_hash) != 32 or other == key_hash:
        return False
    shift = _DEPTH_MAX - depth
    return int.from_bytes(other, "big") >> shift == int.from_bytes(key_hash, "big") >> shift
