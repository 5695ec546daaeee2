"""RFC 6962 trees against outside vectors, and that nothing but the right path proves anything."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import blobs, merkle, tensors
from proofs.merkle import SHA256

VECTORS = Path(__file__).parent.parent / "vectors" / "merkle"
PROOFS = json.loads((VECTORS / "rfc6962_inclusion_consistency.json").read_text())
SCHEMES = pytest.mark.parametrize("scheme", [SHA256, tensors.TILES, blobs.CHUNKS], ids=["sha256", "tiles", "chunks"])


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _path(case: dict[str, Any]) -> list[bytes]:
    return [_bytes(item) for item in case["proof"] or []]


def test_constants_of_the_rfc() -> None:
    vectors = json.loads((VECTORS / "rfc6962.json").read_text())
    assert merkle.root([]).hex() == vectors["empty_tree"]
    assert merkle.root([b""]).hex() == vectors["empty_leaf"]
    assert SHA256.leaf(b"L123456").hex() == vectors["leaf_L123456"]
    assert SHA256.node(b"N123", b"N456").hex() == vectors["node_N123_N456"]


def test_roots() -> None:
    cases = json.loads((VECTORS / "cometbft_roots.json").read_text())["roots"]
    assert len(cases) == 5
    for case in cases:
        assert merkle.root([bytes.fromhex(leaf) for leaf in case["leaves_hex"]]).hex() == case["root"]


@pytest.mark.parametrize("case", PROOFS["inclusion"], ids=lambda case: case["file"])
def test_inclusion_vectors(case: dict[str, Any]) -> None:
    good = merkle.verify_inclusion(
        SHA256, _bytes(case["root"]), _bytes(case["leafHash"]), case["leafIdx"], case["treeSize"], _path(case)
    )
    assert good is not case["wantErr"]


@pytest.mark.parametrize("case", PROOFS["consistency"], ids=lambda case: case["file"])
def test_consistency_vectors(case: dict[str, Any]) -> None:
    good = merkle.verify_consistency(
        SHA256, case["size1"], _bytes(case["root1"]), case["size2"], _bytes(case["root2"]), _path(case)
    )
    assert good is not case["wantErr"]


@SCHEMES
@pytest.mark.parametrize("size", range(1, 20))
def test_every_leaf_is_proved_at_its_place_only(scheme: merkle.Scheme, size: int) -> None:
    leaves = [scheme.leaf(bytes([number])) for number in range(size)]
    root = merkle.fold(scheme, leaves)
    for index, leaf in enumerate(leaves):
        path = merkle.inclusion_path(scheme, leaves, index)
        for place in range(-1, size + 1):
            assert merkle.verify_inclusion(scheme, root, leaf, place, size, path) is (place == index)
        assert not merkle.verify_inclusion(scheme, root, leaf, index, size, (*path, leaf))
        assert not path or not merkle.verify_inclusion(scheme, root, leaf, index, size, path[:-1])


@SCHEMES
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_breaks_a_proof(scheme: merkle.Scheme, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    leaves = [scheme.leaf(bytes([number])) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    items = [leaves[index], *merkle.inclusion_path(scheme, leaves, index), merkle.fold(scheme, leaves)]
    at, bit = data.draw(st.integers(0, len(items) - 1)), data.draw(st.integers(0, 255))
    changed = bytearray(items[at])
    changed[bit // 8] ^= 1 << bit % 8
    items[at] = bytes(changed)
    assert not merkle.verify_inclusion(scheme, items[-1], items[0], index, size, items[1:-1])


@SCHEMES
@pytest.mark.parametrize("size", [2, 3, 5, 8, 21])
def test_no_node_passes_for_a_leaf(scheme: merkle.Scheme, size: int) -> None:
    contents = [bytes([number]) * 64 for number in range(size)]
    leaves = [scheme.leaf(content) for content in contents]
    inner = leaves[0] + leaves[1]
    assert scheme.leaf(inner) != scheme.node(leaves[0], leaves[1])
    assert merkle.fold(scheme, leaves[::-1]) != merkle.fold(scheme, leaves)
    assert merkle.fold(scheme, [*leaves, leaves[-1]]) != merkle.fold(scheme, leaves)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 300), log=st.integers(0, 5))
def test_aligned_subtrees_fold_to_the_same_root(size: int, log: int) -> None:
    leaves = [SHA256.leaf(number.to_bytes(2, "little")) for number in range(size)]
    parts = [merkle.fold(SHA256, leaves[first : first + (1 << log)]) for first in range(0, size, 1 << log)]
    assert merkle.fold(SHA256, parts) == merkle.fold(SHA256, leaves)


def test_bad_arguments() -> None:
    with pytest.raises(IndexError):
        merkle.inclusion_path(SHA256, [bytes(32)], 1)
    with pytest.raises(ValueError, match="33 bytes"):
        merkle.split_hashes(bytes(33))
    assert merkle.root_from_path(SHA256, bytes(32), 0, 2, [bytes(31)]) is None
