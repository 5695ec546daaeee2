"""The authenticated map against a dictionary, and forged proofs."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.ledger import tree
from consensus.ledger.tree import EMPTY_ROOT, MapProof

KEYS = st.binary(min_size=0, max_size=2)
CHANGES = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=3), max_size=12), max_size=8)


class Store:
    """A tree with its nodes."""

    def __init__(self) -> None:
        self.root = EMPTY_ROOT
        self.nodes: dict[bytes, bytes] = {}

    def update(self, changes: dict[bytes, bytes | None]) -> None:
        done = tree.update(self.root, self.nodes.__getitem__, changes)
        assert not done.stale_nodes & done.new_nodes.keys()
        assert done.stale_nodes <= self.nodes.keys()
        for digest in done.stale_nodes:
            del self.nodes[digest]
        self.nodes.update(done.new_nodes)
        self.root = done.root

    def prove(self, key: bytes) -> MapProof:
        return tree.prove(self.root, self.nodes.__getitem__, key)


def reachable(store: Store) -> set[bytes]:
    found, left = set(), [store.root]
    while left:
        digest = left.pop()
        if digest != EMPTY_ROOT:
            found.add(digest)
            node = store.nodes[digest]
            assert sha256(node).digest() == digest
            left += [node[1:33], node[33:65]] if node[0] else []
    return found


@settings(max_examples=60, deadline=None)
@given(CHANGES)
def test_it_is_a_map_whose_root_depends_on_its_content_alone(batches: list[dict[bytes, bytes | None]]) -> None:
    store, model = Store(), dict[bytes, bytes]()
    for batch in batches:
        store.update(batch)
        model.update({key: value for key, value in batch.items() if value is not None})
        for key in [key for key, value in batch.items() if value is None]:
            model.pop(key, None)
        fresh = Store()
        fresh.update(dict(model))
        assert store.root == fresh.root
        assert reachable(store) == store.nodes.keys(), "no node is lost and none is left behind"
    for key in {key for batch in batches for key in batch} | {b"never"}:
        proof = store.prove(key)
        assert tree.verify(store.root, key, model.get(key), proof)
        assert not tree.verify(store.root, key, b"other", proof)
        if key in model:
            assert not tree.verify(store.root, key, None, proof)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(KEYS, st.binary(max_size=3), min_size=1, max_size=30),
    KEYS,
    st.integers(0, 2**20),
    st.binary(max_size=3),
)
def test_a_changed_proof_proves_nothing(content: dict[bytes, bytes], key: bytes, where: int, other: bytes) -> None:
    store = Store()
    store.update(dict(content))
    proof, value = store.prove(key), content.get(key)
    forged = []
    if proof.siblings:
        position, bit = where % len(proof.siblings), where % 256
        sibling = (int.from_bytes(proof.siblings[position], "big") ^ 1 << bit).to_bytes(32, "big")
        siblings = (*proof.siblings[:position], sibling, *proof.siblings[position + 1 :])
        forged += [msgspec.structs.replace(proof, siblings=siblings)]
        forged += [msgspec.structs.replace(proof, siblings=proof.siblings[:-1])]
    forged += [msgspec.structs.replace(proof, siblings=(*proof.siblings, bytes(32)))]
    for bad in forged:
        assert not tree.verify(store.root, key, value, bad)
        if other != value:
            assert not tree.verify(store.root, key, other, bad)
    hidden = MapProof(proof.siblings, sha256(b"x").digest(), sha256(b"y").digest())
    if value is not None:
        assert not tree.verify(store.root, key, None, hidden)
        assert not tree.verify(store.root, key, None, MapProof(proof.siblings, b"", b""))


def test_a_leaf_of_another_path_does_not_prove_absence() -> None:
    """A true leaf from elsewhere in the tree is no witness that the key's own place is taken."""
    store = Store()
    store.update({b"%d" % number: b"v" for number in range(50)})
    missing = b"missing"
    for number in range(50):
        other = b"%d" % number
        proof = store.prove(other)
        borrowed = MapProof(proof.siblings, sha256(other).digest(), sha256(b"v").digest())
        if borrowed != store.prove(missing):
            assert not tree.verify(store.root, missing, None, borrowed)
    own = store.prove(b"7")
    assert not tree.verify(store.root, b"7", None, MapProof(own.siblings, sha256(b"7").digest(), sha256(b"v").digest()))


@pytest.mark.parametrize("siblings", [(bytes(31),), (bytes(32),) * 257])
def test_proofs_of_a_wrong_shape_are_refused(siblings: tuple[bytes, ...]) -> None:
    assert not tree.verify(EMPTY_ROOT, b"k", None, MapProof(siblings, b"", b""))


def test_the_empty_map_and_the_map_emptied_again_are_the_same() -> None:
    store = Store()
    assert tree.verify(EMPTY_ROOT, b"k", None, store.prove(b"k"))
    store.update({b"a": b"1", b"b": b"2"})
    store.update({b"a": None, b"b": None, b"c": None})
    assert store.root == EMPTY_ROOT and store.nodes == {}
