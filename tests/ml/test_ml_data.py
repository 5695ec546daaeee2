"""Data sets: written, opened, damaged, divided, batched; and files from people."""

from __future__ import annotations

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
from ml.data.manifest import Manifest, manifest_path, read_manifest, shard_path, write_dataset
from ml.data.sources import from_arrays, from_csv, from_npz, from_text
from ml.data.split import split_records
from ml.presets import Built
from proofs.sampling import batch_indices


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


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((10, 3)), y=np.arange(10, dtype=np.int32))
    source = from_npz(path, validation=0.3)
    assert source.train["x"].dtype == np.float32 and source.train["y"].dtype == np.int64
    assert len(source.train["y"]) == 7 and len(source.validation["y"]) == 3
    assert sorted([*source.train["y"], *source.validation["y"]]) == list(range(10))
    np.savez(path, x=np.ones((10, 3)), y=np.arange(9))
    assert "same first dimension" in refused(from_npz, path)
    np.savez(path, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "plain" in refused(from_npz, path)
    np.savez(path, x=np.array(["text"]))
    assert "numbers" in refused(from_npz, path)
    path.write_bytes(b"PK\x03\x04 not really")
    refused(from_npz, path)
    refused(from_npz, tmp_path / "none")
    refused(from_arrays, {"x": np.array([1 << 63], np.uint64)})
    refused(from_arrays, {})
    refused(from_arrays, {"x": np.ones((4, 2), np.float32)}, 1.0)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,kind,b\n1,cat,2.5\n3,dog,-1e3\n5,cat,0\n")
    source = from_csv(path, "kind")
    assert source.vocabulary == ("cat", "dog")
    assert source.train["x"].tolist() == [[1, 2.5], [3, -1000], [5, 0]] and source.train["y"].tolist() == [0, 1, 0]
    path.write_text("a,label\n1,10\n2,9\n3,10\n")
    assert from_csv(path, "label").vocabulary == ("9", "10")
    for text, word in (
        ("a,b\n1,2\n", "header"),
        ("kind,kind\n1,2\n", "header"),
        ("a,kind\n", "rows"),
        ("a,kind\n1\n", "line 2"),
        ("a,kind\n1,2\nx,2\n", "line 3"),
        ("a,kind\nnan,2\n", "finite"),
    ):
        path.write_text(text)
        assert word in refused(from_csv, path, "kind")
    path.write_bytes(b"\xff\xfe\x00")
    refused(from_csv, path, "kind")


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("hello wörld, hello 🦆!" * 10, encoding="utf-8")
    source = from_text(path, 8, validation=0.2)
    tokens, letters = source.train["tokens"], source.vocabulary
    assert tokens.dtype == np.uint8 and tokens.shape[1] == 9 and letters == tuple(sorted(letters))
    assert "".join(letters[token] for token in tokens[0]) == "hello wör"
    assert tokens[0, 8] == tokens[1, 0]
    assert len(source.validation["tokens"]) > 0
    raw = from_text(path, 8, tokens="bytes")
    assert bytes(raw.train["tokens"][0]) == "hello wö".encode() and raw.vocabulary == ()
    many = tmp_path / "many.txt"
    many.write_text("".join(chr(0x4E00 + index) for index in range(400)), encoding="utf-8")
    assert from_text(many, 8).train["tokens"].dtype == np.int64
    assert "fewer" in refused(from_text, path, 10_000)
    refused(from_text, path, 8, tokens="words")
    refused(from_text, path, 0)
    path.write_bytes(b"\xff\xff")
    refused(from_text, path, 8)


def test_the_split_is_fixed() -> None:
    train, held_out = split_records(1000, 0.1)
    assert len(train) == 900 and len(held_out) == 100
    assert np.array_equal(split_records(1000, 0.1)[1], held_out)
    assert sorted([*train, *held_out]) == list(range(1000))
