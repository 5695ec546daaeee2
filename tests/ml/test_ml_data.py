"""Data sets: written, opened, damaged, divided, batched; and files from people."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_jobs import SEED

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.data.dataset import open_dataset
from ml.data.manifest import DatasetWriter, Manifest, manifest_path, read_manifest, shard_path, write_dataset
from ml.data.sources import from_arrays
from ml.data.split import split_records
from ml.presets import Built
from proofs.growing import GrowingTensor
from proofs.program.types import TensorType
from proofs.sampling import batch_indices
from proofs.tensors import root_of


def refused(call: object, *arguments: object, **keywords: object) -> str:
    """The message with which a call refuses the data."""
    with pytest.raises(Rejection) as refusal:
        call(*arguments, **keywords)  # type: ignore[operator]
    assert refusal.value.reason in (reasons.BAD_DATASET, reasons.DATASET_MISMATCH)
    return refusal.value.message


def test_written_and_opened(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        "x": generator.standard_normal((101, 7, 3)).astype(np.float32),
        "y": generator.integers(-5, 5, 101),
        "b": generator.random((101, 2)) < 0.5,
        "u": generator.integers(0, 255, (101, 4)).astype(np.uint8),
    }
    manifest = write_dataset(tmp_path, arrays, ("a", "ß"), shard_bytes=1000)
    dataset = open_dataset(tmp_path, manifest.root)
    assert dataset.records == 101 and dataset.manifest.vocabulary == ("a", "ß")
    assert len(manifest.blobs) > 10
    numbers = np.array([100, 0, 50, 50, 11])
    for name, array in arrays.items():
        assert np.array_equal(dataset.array(name), array)
        assert np.array_equal(dataset.rows(name, numbers), array[numbers])
    assert read_manifest(manifest_path(tmp_path).read_bytes()) == manifest
    assert write_dataset(tmp_path / "again", arrays, ("a", "ß"), shard_bytes=64 << 20).root == manifest.root


def test_batches_are_the_permutation(mlp_sgd: Built, table_data: Path) -> None:
    dataset = open_dataset(table_data)
    dataset.check_fits(mlp_sgd.program)
    x, y = dataset.batch(mlp_sgd.program, SEED, 9)
    numbers = batch_indices(SEED, 9, 24, 300)
    assert np.array_equal(x.numpy(), dataset.array("x")[numbers])
    assert np.array_equal(y.numpy(), dataset.array("y")[numbers])


def test_a_data_set_must_fit_the_program(mlp_sgd: Built, gpt_adamw: Built, table_data: Path, token_data: Path) -> None:
    assert "tokens" in refused(open_dataset(table_data).check_fits, gpt_adamw.program)
    assert "x" in refused(open_dataset(token_data).check_fits, mlp_sgd.program)


def test_damage_is_noticed(tmp_path: Path) -> None:
    array = np.arange(64, dtype=np.float32).reshape(16, 4)
    manifest = write_dataset(tmp_path, {"x": array})
    refused(open_dataset, tmp_path, bytes(32))
    refused(open_dataset, tmp_path / "nowhere")
    shard = shard_path(tmp_path, manifest.blobs[0].blob_id)
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"\x01")
    assert "other bytes" in refused(open_dataset, tmp_path)
    shard.write_bytes(good[:-1])
    assert "another size" in refused(open_dataset, tmp_path)
    shard.unlink()
    assert "missing" in refused(open_dataset, tmp_path)


def test_lying_manifests_are_refused(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, {"x": np.ones((16, 4), np.float32)})
    item = manifest.tensors[0]
    tensor, shard = item.tensor, item.shards[0]
    changed = type(tensor)(tensor.name, tensor.record, 17, tensor.root)
    lies = [
        Manifest(2, manifest.tensors, ()),
        Manifest(1, (), ()),
        Manifest(1, (type(item)(changed, item.shards),), ()),
        Manifest(1, (type(item)(tensor, (type(shard)(shard.blob_id, 16, 255),)),), ()),
        Manifest(1, (type(item)(type(tensor)("x", tensor.record, 16, bytes(32)), item.shards),), ()),
    ]
    for lie in lies[:4]:
        refused(read_manifest, encode(lie))
    manifest_path(tmp_path).write_bytes(encode(lies[4]))
    assert "root" in refused(open_dataset, tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_crash_the_manifest_reader(noise: bytes, place: int) -> None:
    with pytest.raises(Rejection):
        read_manifest(noise)
    shape = encode(decode(Manifest, encode(Manifest(1, (), ("a",)))))
    with pytest.raises(Rejection):
        read_manifest(shape[:place] + noise + shape[place:])


def test_nans_become_canonical(tmp_path: Path) -> None:
    odd = np.array([[0x7FC12345], [0x3F800000]], np.uint32).view(np.float32)
    write_dataset(tmp_path, {"x": odd})
    assert open_dataset(tmp_path).array("x").view(np.uint32).tolist() == [[0x7FC00000], [0x3F800000]]


def test_the_split_is_fixed() -> None:
    train, held_out = split_records(1000, 0.1)
    assert len(train) == 900 and len(held_out) == 100
    assert np.array_equal(split_records(1000, 0.1)[1], held_out)
    assert sorted([*train, *held_out]) == list(range(1000))


def test_records_in_memory(tmp_path: Path) -> None:
    source = from_arrays({"x": np.ones((10, 3)), "y": np.arange(10, dtype=np.int32)}, 0.3, ("a",))
    assert source.validation is not None
    train, held_out = source.train.arrays(), source.validation.arrays()
    assert train["x"].dtype == np.float32 and train["y"].dtype == np.int64 and source.vocabulary == ("a",)
    assert len(train["y"]) == 7 and len(held_out["y"]) == 3
    assert sorted([*train["y"], *held_out["y"]]) == list(range(10))
    manifest = source.write(tmp_path / "train", tmp_path / "held-out")
    assert open_dataset(tmp_path / "train", manifest.root).array("y").tolist() == train["y"].tolist()
    assert open_dataset(tmp_path / "held-out").array("y").tolist() == held_out["y"].tolist()
    refused(from_arrays, {"x": np.array([1 << 63], np.uint64)})
    refused(from_arrays, {})
    refused(from_arrays, {"x": np.ones((4, 2), np.float32), "y": np.ones(5)})
    refused(from_arrays, {"x": np.ones((4, 0), np.float32)})
    refused(from_arrays, {"x": np.ones((4, 2), np.float32)}, 1.0)


def test_data_larger_than_what_is_held(tmp_path: Path, mlp_sgd: Built) -> None:
    # 96 MB in shards of 4 MB: neither writing nor checking nor reading a batch may hold more than a few shards.
    types = {"x": TensorType("f32", (1500,)), "y": TensorType("i64", ())}
    generator = np.random.default_rng(5)
    tracemalloc.start()
    writer = DatasetWriter(tmp_path, types, shard_bytes=4 << 20)
    for _ in range(40):
        writer.add({"x": generator.random((400, 1500), np.float32), "y": generator.integers(0, 9, 400)})
    manifest = writer.finish()
    dataset = open_dataset(tmp_path, manifest.root)
    rows = dataset.rows("x", np.array([0, 15_999, 700, 699]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert manifest.records == 16_000 and len(manifest.blobs) > 20 and rows.shape == (4, 1500)
    assert peak < 32 << 20
    assert dataset.extent("y") == (0, 8)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=8), st.sampled_from([(), (1,), (5,), (33, 40), (2, 3, 31)]))
def test_a_growing_tensor_has_the_root_of_the_whole(parts: list[int], shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(sum(parts))
    arrays = [generator.integers(0, 255, (count, *shape)).astype(np.uint8) for count in parts]
    growing = GrowingTensor(TensorType("u8", shape))
    for array in arrays:
        growing.add(array)
    assert growing.root() == root_of(np.concatenate(arrays))
