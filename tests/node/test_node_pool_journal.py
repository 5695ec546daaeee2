"""What waits survives a restart, checked again; a damaged file or a full disk costs the file and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from node_cluster import Cluster, make_cluster, run, transfer
from test_node_executor import Bench, commit_of

from gensyn_node.app.pool import Pool
from gensyn_node.app.pool_keeper import PoolKeeper
from gensyn_node.storage import mempool_journal
from gensyn_node.storage.mempool_journal import JournalEntry, MempoolJournal


async def kept(pool: Pool, path: Path, work: Callable[[], None] = lambda: None) -> list[bytes]:
    """Run a keeper: restore, do the work, write, stop. What it announced."""
    announced: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(PoolKeeper(pool, MempoolJournal(path), announced.append).run)
        await trio.testing.wait_all_tasks_blocked(0.05)
        work()
        await trio.sleep(1.5)
        nursery.cancel_scope.cancel()
    return announced


def stored(path: Path) -> list[bytes]:
    """The transactions in a file."""
    return [entry.transaction for entry in MempoolJournal(path).read()]


def test_what_waited_comes_back_is_checked_again_and_spread(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench, path = Bench(cluster.settings[0]), tmp_path / "journal"
        waiting = [transfer(cluster, sender, 0, 5, b"\2" * 20) for sender in range(3)]

        def come_in() -> None:
            for data in waiting:
                bench.pool.add(data)

        assert await kept(bench.pool, path, come_in) == []
        assert stored(path) == waiting
        # While the node was down, the first went into a block, and the last was damaged on disk in a sound record.
        block = await bench.build(None)
        await bench.executor.commit(block, commit_of(cluster, bench.chain, block))
        later = transfer(cluster, 3, 0, 5, b"\2" * 20)
        forged = later[:-1] + bytes([later[-1] ^ 1])
        MempoolJournal(path).append([JournalEntry(0, later), JournalEntry(0, forged)])
        again = Pool(bench.chain)
        assert await kept(again, path) == [later]
        assert [entry.transaction for entry in again.entries()] == stored(path) == [later]

    run(scenario)


def test_a_restart_does_not_make_a_transaction_younger(tmp_path: Path) -> None:
    bench = Bench(make_cluster(tmp_path, 1).settings[0])
    data = transfer(Cluster(bench.settings.genesis, (bench.settings,)), 0, 0, 5, b"\2" * 20)
    bench.pool.add(data, height=1_000)  # of a chain that was longer: never above the head
    assert [entry.height for entry in bench.pool.entries()] == [0]


def test_a_damaged_file_gives_its_sound_beginning(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    entries = [JournalEntry(number, bytes([number]) * 100) for number in range(4)]
    journal = MempoolJournal(path)
    journal.append(entries[:3])
    journal.append(entries[3:])
    sound = path.read_bytes()
    assert MempoolJournal(path).read() == tuple(entries)
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0x10]) + sound[place + 1 :])
        found = MempoolJournal(path).read()
        assert found == tuple(entries[: len(found)])
        assert len(found) == place * 4 // len(sound)
        path.write_bytes(sound[:place])
        assert len(MempoolJournal(path).read()) == place * 4 // len(sound)
    path.write_bytes(b"\0" * 5_000)
    assert MempoolJournal(path).read() == ()


def test_a_file_longer_than_any_mempool_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_journal, "FILE_BYTES_MAX", 1_000)
    path = tmp_path / "journal"
    MempoolJournal(path).append([JournalEntry(0, b"x" * 2_000)])
    assert MempoolJournal(path).read() == ()


def test_a_long_file_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_journal, "REWRITE_BYTES", 1_000)
    journal = MempoolJournal(tmp_path / "journal")
    journal.append([JournalEntry(0, b"x" * 500)])
    assert not journal.is_long(0)
    journal.append([JournalEntry(0, b"y" * 600)])
    assert journal.is_long(0) and not journal.is_long(600)
    journal.rewrite([JournalEntry(0, b"y" * 600)])
    assert not journal.is_long(0)
    assert stored(tmp_path / "journal") == [b"y" * 600]


def test_a_full_disk_costs_the_journal_and_it_is_whole_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 2)
        bench, path = Bench(cluster.settings[0]), tmp_path / "journal"
        full = True

        def write_all(descriptor: int, data: bytes) -> None:
            if full:
                raise OSError(28, "No space left on device")
            write(descriptor, data)

        write = mempool_journal.write_all
        monkeypatch.setattr(mempool_journal, "write_all", write_all)
        first, second = (transfer(cluster, sender, 0, 5, b"\2" * 20) for sender in range(2))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PoolKeeper(bench.pool, MempoolJournal(path), lambda data: None).run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            bench.pool.add(first)
            await trio.sleep(1.5)
            assert stored(path) == []
            full = False
            bench.pool.add(second)
            await trio.sleep(1.5)
            assert stored(path) == [first, second]
            nursery.cancel_scope.cancel()

    run(scenario)
