"""Data sets larger than what a worker may have in memory: trained on, verified and disputed inside its bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ml_worker import Worker

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from ml.data import shards as shards_module
from ml.data.dataset import open_dataset
from ml.data.manifest import Manifest, Shard, ShardedTensor, manifest_path, shard_path, write_dataset
from ml.data.shards import MAPPED_BYTES_MAX, Shards
from ml.oracle import dispute_context
from ml.trainer import open_run
from ml.worker.messages import Fault, Job, Ready, Reply, Request, Respond, Responded, Train, Trained, Verified, Verify
from proofs import tensors
from proofs.blobs import blob_id_of
from proofs.dataset import DatasetTensor
from proofs.growing import GrowingTensor
from proofs.pinpoint import DEFENDER, DEFENDER_WRONG, Claim, Move
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.types import SEGMENT, Arbitrate
from proofs.program.types import OPSET, BatchInput, Fill, Node, Program, StateEntry, TensorType
from proofs.tiled import tiled

RECORD = TensorType("f32", (256, 256))
IN_SHARD, SHARDS = 128, 8
"""256 MiB in files of 32; two of them are different."""
MEMORY = 160 << 20
"""Address space of the worker beyond its libraries."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of eight shards, the even ones and the odd ones the same file."""
    folder = tmp_path_factory.mktemp("large")
    whole, shards = GrowingTensor(RECORD), []
    for number in range(2):
        records = np.full((IN_SHARD, *RECORD.shape), number + 1, np.float32)
        records[:, 0] = np.random.default_rng(number).random((IN_SHARD, 256), np.float32)
        data = records.tobytes()
        shards.append((Shard(blob_id_of(data), IN_SHARD, len(data)), records))
        shard_path(folder, shards[-1][0].blob_id).write_bytes(data)
    for number in range(SHARDS):
        whole.add(shards[number % 2][1])
    tensor = DatasetTensor("x", RECORD, IN_SHARD * SHARDS, whole.root())
    listed = tuple(shards[number % 2][0] for number in range(SHARDS))
    manifest_path(folder).write_bytes(encode(Manifest(1, (ShardedTensor(tensor, listed),), ())))
    return folder


def program() -> Program:
    """w' = w - a small part of the batch's sum."""
    state = (StateEntry("parameter.w", TensorType("f32", (1,)), Fill(0x3F800000)),)
    nodes = (
        Node("sum_last", (1,), ()),
        Node("reshape", (3,), (1, 1024)),
        Node("sum_last", (4,), ()),
        Node("reshape", (5,), (1,)),
        Node("full", (), (0, 0x2F000000, 1)),
        Node("mul", (6, 7), ()),
        Node("sub", (0, 8), ()),
        Node("reshape", (9,), ()),
    )
    return Program(OPSET, state, 4, (BatchInput("x", RECORD),), nodes, (9,), 10)


@contextmanager
def bounded_worker() -> Iterator[Worker]:
    worker = Worker("--memory-bytes", str(MEMORY))
    try:
        ready = worker.final()
        assert isinstance(ready, Ready)
        yield worker
    finally:
        worker.close()


def ask(worker: Worker, request: Request) -> Reply:
    worker.send(request)
    reply = worker.final()
    assert reply is not None
    return reply


def test_a_worker_with_less_memory_than_data_trains_verifies_and_disputes(large: Path, tmp_path: Path) -> None:
    assert IN_SHARD * SHARDS * RECORD.elements * 4 > MEMORY + (64 << 20)
    honest = Job(encode(program()), str(large), bytes(32), "", 1)
    lying = Job(encode(program()), str(large), bytes(32), "", 1, Fault(2, 1, 777, 29))
    own, other = str(tmp_path / "own"), str(tmp_path / "other")
    with bounded_worker() as worker:
        trained, told = ask(worker, Train(honest, own, 0, 4, 4, 4)), ask(worker, Train(lying, other, 0, 4, 4, 4))
        assert isinstance(trained, Trained) and isinstance(told, Trained) and trained.end_root != told.end_root
        verified = ask(worker, Verify(honest, own, 0, 4, trained.initial_root, told.end_root))
        assert isinstance(verified, Verified) and not verified.agrees and verified.end_root == trained.end_root
        context = dispute_context(open_run(honest))
        claim = Claim(SEGMENT, 0, 4, trained.initial_root, told.end_root, b"", trained.end_root)
        game, moves = open_game(claim, context), []
        while game.outcome is None:
            job, states = (lying, other) if game.turn == DEFENDER else (honest, own)
            reply = ask(worker, Respond(job, states, encode(game)))
            assert isinstance(reply, Responded) and game.turn is not None
            moves.append(decode(Move, reply.move, max_bytes=1 << 20))
            game = play(game, game.turn, moves[-1], context)
    assert game.outcome == DEFENDER_WRONG, game.why
    evidence = moves[-1]
    assert isinstance(evidence, Arbitrate) and evidence.tiles[0].input == 0


@pytest.mark.parametrize("shape", [(), (1,), (5,), (33, 40), (2, 3, 31), (70,)])
def test_tiles_and_paths_are_those_of_the_whole(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 255, (77, *shape)).astype(np.uint8)
    tensor, leaves = tiled(array), tensors.tile_leaves(array)
    assert list(tensor.leaves()) == leaves and tensor.type == tensors.type_of(array)
    some = sorted({0, len(leaves) // 2, len(leaves) - 1})
    assert tensor.paths(some) == tensors.prove_tiles(leaves, some)
    for index in some:
        assert np.array_equal(tensor.tile(index), tensors.tile_of(array, index))
    with pytest.raises(IndexError):
        tensor.paths([len(leaves)])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=12), st.integers(0, 99), st.integers(0, 99))
def test_what_is_read_is_what_would_be_mapped(numbers: list[int], first: int, end: int) -> None:
    array, mapped, read = PARTS
    wanted = np.array(numbers)
    assert np.array_equal(mapped.rows(wanted), array[wanted]) and np.array_equal(read.rows(wanted), array[wanted])
    assert np.array_equal(mapped.between(first, end), array[first:end])
    assert np.array_equal(read.between(first, end), array[first:end])
    assert len(read._open) <= 2


@pytest.fixture(autouse=True, scope="module")
def _parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same records twice: mapped, and read with two files open at most."""
    global PARTS
    folder = tmp_path_factory.mktemp("parts")
    array = np.random.default_rng(3).random((100, 7), np.float32)
    manifest = write_dataset(folder, {"x": array}, shard_bytes=7 * 4 * 9)
    files = [(shard_path(folder, shard.blob_id), shard.records) for shard in manifest.tensors[0].shards]
    mapped = Shards(TensorType("f32", (7,)), files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "MAPPED_BYTES_MAX", 0)
        patch.setattr(shards_module, "OPEN_MAX", 2)
        PARTS = (array, mapped, Shards(TensorType("f32", (7,)), files))
        yield


def test_a_shard_that_became_shorter_is_refused(large: Path, tmp_path: Path) -> None:
    for path in large.iterdir():
        (tmp_path / path.name).symlink_to(path)
    dataset = open_dataset(tmp_path, check=False)
    name = dataset.manifest.tensors[0].shards[1].blob_id
    shard_path(tmp_path, name).unlink()
    shard_path(tmp_path, name).write_bytes(bytes(10))
    assert MAPPED_BYTES_MAX < 256 << 20
    with pytest.raises(Rejection, match="became shorter"):
        dataset.rows("x", np.array([IN_SHARD + 3]))
