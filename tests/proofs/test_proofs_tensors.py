"""Tensor, blob, state and dataset commitments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from proofs import blobs, merkle, state, tensors
from proofs.dataset import DatasetTensor, dataset_root
from proofs.program.types import BOOL, F32, I64, U8, TensorType
from proofs.reasons import BAD_CHUNK, BAD_TILE

SHAPES = [(), (1,), (32,), (33,), (5, 7), (32, 32), (33, 31), (64, 96), (3, 40, 65), (2, 2, 2, 2), (100, 1), (1, 200)]
DTYPES = [F32, I64, BOOL, U8]


def _array(dtype: str, shape: tuple[int, ...], seed: int = 1) -> np.ndarray[Any, np.dtype[Any]]:
    generator = np.random.default_rng(seed)
    if dtype == F32:
        return np.asarray(generator.standard_normal(shape), np.float32)
    return np.asarray(generator.integers(0, 2 if dtype == BOOL else 200, shape)).astype(tensors.NUMPY_DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiles_follow_the_definition(dtype: str, shape: tuple[int, ...]) -> None:
    array = _array(dtype, shape)
    type_ = tensors.type_of(array)
    assert type_ == TensorType(dtype, shape)
    matrix, expected = array.reshape(type_.matrix), []
    for top in range(0, matrix.shape[0], 32):
        for left in range(0, matrix.shape[1], 32):
            expected.append(matrix[top : top + 32, left : left + 32].tobytes())
    assert tensors.split_tiles(array) == expected
    assert len(expected) == tensors.tile_count(type_)
    leaves = tensors.tile_leaves(array)
    assert leaves == [tensors.TILES.leaf(tile) for tile in expected]
    assert tensors.root_of(array, type_) == tensors.bind(type_, merkle.fold(tensors.TILES, leaves))
    for index in range(len(expected)):
        tile = tensors.tile_of(array, index)
        assert tile.shape == tensors.tile_shape(type_, index)
        assert tensors.tile_bytes(tile) == expected[index]
        assert tensors.leaf_of(tile) == leaves[index]


def test_layout_and_byte_order_do_not_matter() -> None:
    array = _array(F32, (70, 45))
    root = tensors.root_of(array)
    assert tensors.root_of(np.asfortranarray(array)) == root
    assert tensors.root_of(array.astype(">f4").astype("<f4")) == root
    assert tensors.root_of(np.repeat(array, 2, axis=1)[:, ::2]) == root
    assert tensors.tile_leaves(array.astype(">f4")) == tensors.tile_leaves(array)


def test_dtype_and_shape_are_bound() -> None:
    zeros = {
        tensors.root_of(np.zeros(shape, tensors.NUMPY_DTYPES[dtype]))
        for dtype in DTYPES
        for shape in [(), (1,), (1, 1), (4, 8), (8, 4), (32,), (2, 4, 4)]
    }
    assert len(zeros) == len(DTYPES) * 7


def test_values_that_compare_equal_have_different_roots() -> None:
    assert tensors.root_of(np.float32([0.0])) != tensors.root_of(np.float32([-0.0]))
    payload = np.uint32([0x7FC00001]).view(np.float32)
    assert tensors.root_of(payload) != tensors.root_of(np.float32([np.nan]))
    assert tensors.root_of(np.float32([np.nan])) == tensors.root_of(np.float32([np.nan]))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_changes_the_root_and_no_other_tile_is_proved(data: st.DataObject) -> None:
    array = _array(F32, (data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))), data.draw(st.integers(0, 99)))
    type_, root, leaves = tensors.type_of(array), tensors.root_of(array), tensors.tile_leaves(array)
    flipped = array.copy()
    element, bit = data.draw(st.integers(0, array.size - 1)), data.draw(st.integers(0, 31))
    flipped.reshape(-1).view(np.uint32)[element] ^= np.uint32(1 << bit)
    assert tensors.root_of(flipped) != root
    row, column = divmod(element, array.shape[1])
    index = row // 32 * tensors.tile_grid(type_)[1] + column // 32
    path = tensors.prove_tile(leaves, index)
    good = tensors.verify_tile(root, type_, index, tensors.tile_bytes(tensors.tile_of(array, index)), path)
    assert good.tobytes() == tensors.tile_of(array, index).tobytes()
    with pytest.raises(Rejection) as caught:
        tensors.verify_tile(root, type_, index, tensors.tile_bytes(tensors.tile_of(flipped, index)), path)
    assert caught.value.reason is BAD_TILE


def test_tiles_of_a_wrong_kind_are_refused() -> None:
    array = _array(F32, (40, 40))
    type_, root, leaves = tensors.type_of(array), tensors.root_of(array), tensors.tile_leaves(array)
    data = tensors.split_tiles(array)
    for index, other, path in [
        (0, type_, tensors.prove_tile(leaves, 1)),
        (1, type_, tensors.prove_tile(leaves, 0)),
        (4, type_, tensors.prove_tile(leaves, 0)),
        (-1, type_, tensors.prove_tile(leaves, 0)),
        (0, TensorType(I64, (40, 40)), tensors.prove_tile(leaves, 0)),
        (0, TensorType(F32, (1600,)), tensors.prove_tile(leaves, 0)),
    ]:
        with pytest.raises(Rejection):
            tensors.verify_tile(root, other, index, data[0], path)


def test_a_committed_tile_must_be_of_its_type() -> None:
    type_ = TensorType(BOOL, (2,))
    for data in (b"\x00\x02", b"\x01", b"\x01\x01\x01"):
        root = tensors.tensor_root(type_, [tensors.TILES.leaf(data)])
        with pytest.raises(Rejection):
            tensors.verify_tile(root, type_, 0, data, ())


def test_a_type_can_be_required() -> None:
    with pytest.raises(ValueError, match="not"):
        tensors.root_of(np.zeros(3, np.float32), TensorType(F32, (4,)))
    with pytest.raises(KeyError):
        tensors.type_of(np.zeros(3, np.float64))


def test_accumulators_bind_dtype_and_shape() -> None:
    arrays = [np.zeros((4, 8), np.float32), np.zeros((8, 4), np.float32), np.zeros((4, 4), np.int64)]
    hashes = {tensors.accumulator_hash(array) for array in arrays}
    assert len(hashes) == 3
    assert tensors.leaf_of(arrays[0]) not in hashes


LENGTHS = [0, 1, BLOB_CHUNK_BYTES - 1, BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES + 1, 3 * BLOB_CHUNK_BYTES + 5]


@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_of_a_blob_prove_themselves(length: int) -> None:
    data = (np.arange(length, dtype=np.uint32) * 7 % 251).astype(np.uint8).tobytes()
    hashes, id_ = blobs.hash_chunks(data), blobs.blob_id_of(data)
    assert len(hashes) == blobs.chunk_count(length)
    assert blobs.blob_id(hashes, length) == id_
    for index in range(len(hashes)):
        chunk = data[index * BLOB_CHUNK_BYTES : (index + 1) * BLOB_CHUNK_BYTES]
        path = merkle.inclusion_path(blobs.CHUNKS, hashes, index)
        blobs.check_chunk(hashes, length, index, chunk)
        blobs.verify_chunk(id_, length, index, chunk, path)
        wrong = bytes([chunk[0] ^ 1]) + chunk[1:]
        for bad_length, bad_index, bad in [
            (length, index, wrong),
            (length + 1, index, chunk),
            (length, index + 1, chunk),
            (length, index, chunk[:-1]),
        ]:
            with pytest.raises(Rejection) as caught:
                blobs.verify_chunk(id_, bad_length, bad_index, bad, path)
            assert caught.value.reason is BAD_CHUNK
        with pytest.raises(Rejection):
            blobs.check_chunk(hashes, length, index, wrong)


def test_a_blob_id_binds_the_length() -> None:
    hashes = [bytes(32)]
    assert blobs.blob_id(hashes, 5) != blobs.blob_id(hashes, 6)
    for length in (-1, 0, BLOB_CHUNK_BYTES + 1):
        with pytest.raises(Rejection):
            blobs.blob_id(hashes, length)


def test_state_roots_bind_everything() -> None:
    def root(program: int = 1, step: int = 3, names: tuple[str, ...] = ("a", "b"), first: int = 1) -> bytes:
        return state.state_root(bytes([program]) * 32, step, names, [bytes([first]) * 32, bytes(32)])

    variants = [root(), root(program=2), root(step=4), root(names=("a", "c")), root(names=("b", "a")), root(first=2)]
    assert len(set(variants)) == len(variants)
    with pytest.raises(ValueError, match="zip"):
        state.state_root(bytes(32), 0, ("a",), [])


def test_checkpoint_entries_prove_themselves() -> None:
    names, roots = [f"parameter.{n}" for n in range(7)], [bytes([n]) * 32 for n in range(7)]
    checkpoint = state.checkpoint_root(names, roots)
    for index in range(7):
        path = state.checkpoint_path(names, roots, index)
        for other in range(7):
            good = state.verify_checkpoint_entry(checkpoint, names[other], roots[index], index, 7, path)
            assert good is (other == index)


def test_evidence_binds_every_state_root() -> None:
    roots = [bytes([n]) * 32 for n in range(5)]
    variants = [roots, roots[:-1], roots[::-1], [*roots, roots[-1]], [*roots[:-1], bytes([9]) * 32]]
    assert len({state.evidence_root(variant) for variant in variants}) == len(variants)


def test_datasets_bind_names_types_and_order() -> None:
    x = DatasetTensor("x", TensorType(F32, (4,)), 10, bytes(32))
    y = DatasetTensor("y", TensorType(I64, ()), 10, bytes(32))
    assert x.type == TensorType(F32, (10, 4))
    variants = [(x, y), (y, x), (x,), (x, DatasetTensor("y", y.record, 11, y.root))]
    assert len({dataset_root(variant) for variant in variants}) == len(variants)
