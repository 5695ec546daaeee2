"""LevelDB and the chain store: damage is refused, a block is all there or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import BlockRecord, ChainStore, Head, Place
from gensyn_node.storage.leveldb import Database

GENESIS = b"g" * 32


def new_store(path: Path) -> ChainStore:
    head = Head(0, b"", b"root0", b"")
    return ChainStore.create(
        path,
        GENESIS,
        head,
        validators=[(1, b"v1"), (2, b"v2")],
        ledger_writes=[(b"a/1", b"10")],
        tree_nodes=[(b"N", b"n")],
    )


def record(height: int, **changes: object) -> BlockRecord:
    name = str(height).encode()
    values: dict[str, object] = {
        "head": Head(height, b"id" + name, b"root" + name, b"state" + name),
        "block": b"block" + name,
        "commit": b"commit" + name,
        "results": b"results" + name,
        "validators": b"v" + str(height + 2).encode(),
        "transaction_ids": (b"t" + name + b"a", b"t" + name + b"b"),
        "ledger_writes": ((b"a/" + name, name), (b"a/" + str(height - 1).encode(), None)),
        "tree_nodes": ((b"N" + name, b"n"),),
        "stale_nodes": (b"N" + str(height - 1).encode(),) if height > 1 else (b"N",),
    }
    return BlockRecord(**(values | changes))  # type: ignore[arg-type]


def test_everything_of_a_block_is_read_back_after_reopening(tmp_path: Path) -> None:
    store = new_store(tmp_path / "chain")
    for height in range(1, 6):
        store.write_block(record(height), keep_versions=2)
    store.close()
    store = ChainStore.open(tmp_path / "chain", GENESIS)
    assert store.head == record(5).head
    assert [store.block(h) for h in (0, 1, 5, 6)] == [None, b"block1", b"block5", None]
    assert (store.commit(3), store.results(3)) == (b"commit3", b"results3")
    assert [store.validators(h) for h in (1, 2, 7, 8)] == [b"v1", b"v2", b"v7", None]
    assert (store.height_of(b"id4"), store.height_of(b"id9")) == (4, None)
    assert (store.place_of(b"t4b"), store.place_of(b"t9b")) == (Place(4, 1), None)
    assert list(store.snapshot().ledger_items(b"a/")) == [(b"a/5", b"5")]
    assert store.snapshot().ledger_value(b"a/1") is None


def test_stale_tree_nodes_go_after_the_kept_versions(tmp_path: Path) -> None:
    store = new_store(tmp_path / "chain")
    for height in range(1, 7):
        store.write_block(record(height), keep_versions=3)
    present = [height for height in range(1, 7) if store.snapshot().tree_node(b"N%d" % height) is not None]
    # Node h goes stale in block h + 1 and is dropped three blocks later, with block h + 4.
    assert present == [3, 4, 5, 6]
    assert store.snapshot().tree_node(b"N") is None


def test_a_node_written_again_is_not_stale_any_more(tmp_path: Path) -> None:
    """The tree is addressed by content: a value that changes and changes back brings its old nodes back."""
    store = new_store(tmp_path / "chain")
    store.write_block(record(1, tree_nodes=((b"A", b"a"),)), keep_versions=2)
    store.write_block(record(2, tree_nodes=((b"B", b"b"),), stale_nodes=(b"A",)), keep_versions=2)
    store.write_block(record(3, tree_nodes=((b"A", b"a"),), stale_nodes=(b"B",)), keep_versions=2)
    store.write_block(record(4, tree_nodes=(), stale_nodes=()), keep_versions=2)
    assert store.snapshot().tree_node(b"A") == b"a"
    store.write_block(record(5, tree_nodes=((b"B", b"b"),), stale_nodes=(b"A",)), keep_versions=2)
    assert store.snapshot().tree_node(b"B") == b"b"
    store.write_block(record(6, tree_nodes=(), stale_nodes=()), keep_versions=2)
    assert store.snapshot().tree_node(b"A") == b"a"
    store.write_block(record(7, tree_nodes=(), stale_nodes=()), keep_versions=2)
    assert store.snapshot().tree_node(b"A") is None


def test_a_snapshot_does_not_change_with_the_head(tmp_path: Path) -> None:
    store = new_store(tmp_path / "chain")
    before = store.snapshot()
    for height in range(1, 6):
        store.write_block(record(height), keep_versions=1)
    assert before.ledger_value(b"a/1") == b"10"
    assert before.tree_node(b"N") == b"n"
    assert list(before.ledger_items(b"a/")) == [(b"a/1", b"10")]
    assert store.snapshot().tree_node(b"N") is None


def test_blocks_come_in_order(tmp_path: Path) -> None:
    store = new_store(tmp_path / "chain")
    with pytest.raises(InvariantViolation):
        store.write_block(record(2), keep_versions=2)


def test_home_of_another_chain_is_refused(tmp_path: Path) -> None:
    new_store(tmp_path / "chain").close()
    with pytest.raises(Rejection) as caught:
        ChainStore.open(tmp_path / "chain", b"x" * 32)
    assert caught.value.reason is reasons.WRONG_CHAIN


def test_opening_never_creates(tmp_path: Path) -> None:
    with pytest.raises(Rejection) as caught:
        ChainStore.open(tmp_path / "chain", GENESIS)
    assert caught.value.reason is reasons.STORE_MISSING
    assert not (tmp_path / "chain").exists()
    new_store(tmp_path / "chain").close()
    with pytest.raises(Rejection) as caught:
        new_store(tmp_path / "chain")
    assert caught.value.reason is reasons.STORE_EXISTS


def test_lost_current_file_is_not_an_empty_chain(tmp_path: Path) -> None:
    new_store(tmp_path / "chain").close()
    (tmp_path / "chain" / "CURRENT").unlink()
    with pytest.raises(Rejection) as caught:
        ChainStore.open(tmp_path / "chain", GENESIS)
    assert caught.value.reason is reasons.STORE_CORRUPT


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
def test_flipped_byte_in_the_log_is_not_a_silent_hole(tmp_path: Path, where: float) -> None:
    store = new_store(tmp_path / "chain")
    for height in range(1, 200):
        store.write_block(record(height), keep_versions=2)
    store.close()
    (log,) = (tmp_path / "chain").glob("*.log")
    content = bytearray(log.read_bytes())
    content[int(len(content) * where)] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(Rejection) as caught:
        ChainStore.open(tmp_path / "chain", GENESIS)
    assert caught.value.reason is reasons.STORE_CORRUPT


def test_flipped_byte_in_a_table_is_an_error_not_another_value(tmp_path: Path) -> None:
    database = Database.create(tmp_path / "db")
    database.write([(b"key%04d" % number, b"value%04d" % number) for number in range(2000)])
    database.close()
    Database.open(tmp_path / "db").close()
    tables = sorted((tmp_path / "db").glob("*.ldb"))
    assert tables
    content = bytearray(tables[0].read_bytes())
    for position in range(0, len(content) - 200, 97):
        content[position] ^= 0x40
    tables[0].write_bytes(content)
    damaged, wrong = 0, 0
    try:
        database = Database.open(tmp_path / "db")
    except Rejection:
        return
    for number in range(2000):
        try:
            value = database.get(b"key%04d" % number)
        except Rejection as error:
            assert error.reason is reasons.STORE_CORRUPT
            damaged += 1
        else:
            wrong += value not in (b"value%04d" % number,)
    assert bool(database.damage.found) == (damaged > 0)
    assert database.snapshot().damage is database.damage
    database.close()
    assert wrong == 0
    assert damaged > 0


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_node_store import new_store, record
store = new_store(Path({path!r}))
for height in range(1, 100000):
    store.write_block(record(height), keep_versions=2)
    print(height, flush=True)
"""


def test_acknowledged_blocks_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    script = WRITER.format(tests=str(Path(__file__).parent), path=str(path))
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 50:
            os.kill(writer.pid, signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.strip())])
    writer.wait()
    store = ChainStore.open(path, GENESIS)
    height = store.head.height
    assert height >= acknowledged
    assert store.head == record(height).head
    assert store.block(height) == record(height).block
    assert store.block(height + 1) is None
    assert [key for key, _ in store.snapshot().ledger_items(b"a/")] == [b"a/%d" % height]
    store.close()
