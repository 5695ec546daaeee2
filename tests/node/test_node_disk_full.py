"""A full disk, for real: a small tmpfs is filled, the node stops before damage, and goes on when there is room."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
import trio
import trio.testing
from chain_maker import ChainMaker, dump
from msgspec import structs
from node_cluster import Cluster, make_cluster, run
from test_node_executor import Bench, commit_of
from test_node_processes import WAIT_S, NodeProcess, processes

from consensus.ledger import keys
from gensyn_node.app.role_service import hold_while_tight
from gensyn_node.app.room import Room
from gensyn_node.app.settings import LOG_FOLDER, SIGN_STATE_FILE
from gensyn_node.app.snapshots import Snapshots
from gensyn_node.app.startup import check_chain, open_home
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.chooser import RoleReport
from gensyn_node.storage.leveldb import Database
from gensyn_node.storage.reasons import STORE_UNREADABLE
from gensyn_node.storage.signer import Signer, SignRequest, SignStep, read_state
from gensyn_node.storage.snapshots import SnapshotFolder
from gensyn_node.storage.wal import WriteAheadLog, log_path, read_log

MIB = 1 << 20


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A file system of so many MiB."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all room but `leave` bytes; the file to remove."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        block = bytes(64 << 10)
        while shutil.disk_usage(disk).free > leave:
            try:
                if file.write(block[: max(1, min(len(block), shutil.disk_usage(disk).free - leave))]) == 0:
                    break
            except OSError:
                break
    return path


def test_a_block_that_could_not_be_written_is_written_later_and_nothing_else_is_lost(tmp_path: Path) -> None:
    """LevelDB refuses every write after a failed one until it is opened again; what is there stays readable."""
    with small_disk(tmp_path / "disk", 24) as disk:
        cluster = make_cluster(disk, 1)
        maker = ChainMaker(cluster)
        maker.grow(3)
        failed = 0
        for turn in range(12):
            filler = fill(disk)
            before, height = dump(maker.chain), maker.chain.head.height
            with pytest.raises(OSError):
                for _ in range(2_000):  # LevelDB's log lies in blocks that it has already
                    height += 1
                    maker.grow(1, transfers=6)
                    before = dump(maker.chain)
            failed += 1
            filler.unlink()
            maker.chain.reopen()
            assert maker.chain.head.height in (height - 1, height), turn
            if maker.chain.head.height == height - 1:
                assert dump(maker.chain) == before
            check_chain(maker.chain)
            maker.grow(2)
        assert failed == 12
        maker.chain.close()
        again = ChainMaker(cluster)
        check_chain(again.chain)
        assert again.chain.head == maker.chain.head
        again.chain.close()


def test_the_log_stays_whole_when_a_record_does_not_fit(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as disk:
        log = WriteAheadLog.open(disk / LOG_FOLDER, 1).log
        log.append(b"first")
        log.sync()
        filler = fill(disk, leave=8 << 10)
        with pytest.raises(OSError):
            log.append(bytes(MIB))
        log.sync()
        filler.unlink()
        log.append(b"second")
        log.sync()
        log.close()
        content = read_log(log_path(disk / LOG_FOLDER, 1))
        assert (content.records, content.corrupt) == ((b"first", b"second"), False)


def test_a_failed_sync_is_made_good_by_writing_the_log_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync the kernel may have dropped the pages, and the next fsync says that all is well."""
    log = WriteAheadLog.open(tmp_path, 1).log
    log.append(b"first")
    path = log_path(tmp_path, 1)
    number = path.stat().st_ino

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError):
            log.sync()
        assert log.synced_records == 0
    log.append(b"second")
    log.sync()
    assert log.synced_records == 2
    assert path.stat().st_ino != number
    log.append(b"third")
    log.sync()
    log.close()
    assert read_log(path).records == (b"first", b"second", b"third")


def test_no_signature_leaves_before_its_record_is_on_disk(tmp_path: Path) -> None:
    key = SecretKey(bytes(32))
    with small_disk(tmp_path / "disk", 1) as disk:
        signer = Signer.create(disk / "signer" / SIGN_STATE_FILE, key)
        filler = fill(disk)
        request = SignRequest(5, 0, SignStep.PREVOTE, b"m" * 9000, b"m" * 9000, 0, 1)
        with pytest.raises(OSError):
            signer.sign(request)
        assert signer.state.height == 0
        assert read_state(disk / "signer" / SIGN_STATE_FILE).height == 0
        filler.unlink()
        assert signer.sign(request).signature == key.sign(request.message)
        assert read_state(disk / "signer" / SIGN_STATE_FILE).height == 5


def test_the_room_has_a_mark_and_a_higher_one_to_go_on() -> None:
    free = [1000]
    room = Room(Path("/"), 100, lambda folder: free[0])

    async def scenario() -> None:
        await room.wait()
        written: list[int] = []

        def write() -> None:
            if free[0] < 50:
                raise OSError(28, "No space left on device")
            written.append(free[0])

        async with trio.open_nursery() as nursery:
            free[0] = 99
            nursery.start_soon(room.persist, write)
            await trio.sleep(1.2)
            assert room.paused and not written
            free[0] = 110  # above the mark, not enough to go on
            await trio.sleep(1.2)
            assert room.paused and not written
            free[0] = 125
        assert written == [125] and not room.paused and room.pauses == 1
        free[0] = 200
        assert not room.tight and not room.ample
        free[0] = 199
        assert room.tight

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_write_that_fails_with_room_on_the_disk_ends_the_node() -> None:
    tries = []

    def write() -> None:
        tries.append(1)
        raise OSError(5, "Input/output error")

    async def scenario() -> None:
        with pytest.raises(OSError):
            await Room(Path("/"), 0, lambda folder: 1000).persist(write)

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(tries) == 3


def test_tasks_are_refused_long_before_signing_stops_and_taken_again() -> None:
    class Seat:
        role, activity = "solver", ""

        def report(self) -> RoleReport:
            raise AssertionError("nobody asks")

        async def set_role(self, role: str) -> str:
            self.role = role
            return role

    free, seat = [1000], Seat()
    room = Room(Path("/"), 100, lambda folder: free[0])

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_while_tight, room, seat)
            for amount, expected in ((1000, "solver"), (150, "none"), (300, "none"), (400, "solver")):
                free[0] = amount
                await trio.sleep(5)
                assert (seat.role, room.paused) == (expected, False)
            free[0] = 150
            await trio.sleep(5)
            seat.role = "verifier"
            await trio.sleep(5)
            assert seat.role == "none"  # the new choice is held as well
            free[0] = 1000
            await trio.sleep(5)
            assert seat.role == "verifier"
            nursery.cancel_scope.cancel()

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def on_small_disk(cluster: Cluster, low_water_mib: int) -> Cluster:
    """The cluster with a low-water mark that fits its disk."""
    storage = StorageSection(low_water_mib=low_water_mib, snapshot_interval=5, snapshots_kept=1)
    settings = tuple(structs.replace(one.config, storage=storage) for one in cluster.settings)
    return Cluster(
        cluster.genesis,
        tuple(
            type(one)(one.home, config, one.genesis, one.account_key, one.consensus_key, one.p2p_key)
            for one, config in zip(cluster.settings, settings, strict=True)
        ),
    )


def status(node: NodeProcess) -> dict[str, object]:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return node.call("status")
        except (httpx.HTTPError, OSError):
            assert time.monotonic() < deadline, node.log()
            time.sleep(0.1)


def wait_paused(node: NodeProcess, *, paused: bool) -> dict[str, object]:
    deadline = time.monotonic() + WAIT_S
    while bool((found := status(node))["paused"]) is not paused:
        assert node.process is not None and node.process.poll() is None, node.log()
        assert time.monotonic() < deadline, node.log()
        time.sleep(0.1)
    return found


@pytest.mark.integration
def test_a_node_on_a_full_disk_pauses_says_so_and_goes_on(tmp_path: Path) -> None:
    """The filler takes everything, also what is below the mark: log, sign state and database meet a full disk."""
    with small_disk(tmp_path / "disk", 64) as disk:
        cluster = on_small_disk(make_cluster(disk, 1), 8)
        with processes(cluster) as (node,):
            for _ in range(3):
                node.wait_height(node.height() + 2)
                filler = fill(disk)
                paused = wait_paused(node, paused=True)
                time.sleep(1.5)
                again = status(node)
                assert again["height"] == paused["height"]
                signed = read_state(cluster.settings[0].home.signer / SIGN_STATE_FILE)
                assert signed.height <= int(str(again["height"])) + 1
                filler.unlink()
                wait_paused(node, paused=False)
                node.wait_height(int(str(again["height"])) + 2)
            assert node.stop(signal.SIGTERM) == 0, node.log()
            text = node.log()
        assert "block_committed" in text
        opened = open_home(cluster.settings[0])
        check_chain(opened.chain)
        assert opened.wal.height == opened.chain.head.height + 1
        opened.chain.close()
        opened.wal.close()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_block_is_committed_once_whether_the_failed_write_took_place_or_not(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk does not tell whether the batch is there; the reopened database does."""
    honest, failing = Database.write, [2]

    def write(self: Database, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool = True) -> None:
        if moment == "after":
            honest(self, changes, sync=sync)
        if failing[0]:
            failing[0] -= 1
            raise OSError(28, "No space left on device")
        if moment == "before":
            honest(self, changes, sync=sync)

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        bench = Bench(cluster.settings[0])
        last_commit = None
        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", write)
            for height in range(1, 4):
                block = await bench.build(last_commit)
                last_commit = commit_of(cluster, bench.chain, block)
                await bench.executor.commit(block, last_commit)
                assert bench.chain.head.height == height
                check_chain(bench.chain)
        assert failing == [0]
        bench.chain.close()

    run(scenario)


READING_WHILE_REOPENED = """
import sys, threading
from pathlib import Path
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.leveldb import Database
from gensyn_node.storage.reasons import STORE_UNREADABLE

database = Database.create(Path(sys.argv[1]))
database.write((b"%06d" % number, bytes(200)) for number in range(20_000))
stop, wrong, refused = threading.Event(), [], []

def read(snapshots):
    try:
        number = 0
        while not stop.is_set():
            try:
                reader = database.snapshot() if snapshots else database
                for _, value in reader.items(b"0"):
                    number = (number + 7) % 20_000
                    assert reader.get(b"%06d" % number) == value == bytes(200)
            except Rejection as rejection:
                assert rejection.reason is STORE_UNREADABLE
                refused.append(1)
            else:
                database.compact(b"0", b"1")
    except BaseException as error:
        wrong.append(error)

threads = [threading.Thread(target=read, args=(snapshots,)) for snapshots in (False, True, True)]
for one in threads:
    one.start()
for turn in range(40):
    threading.Event().wait(0.01)
    database.reopen()
stop.set()
for one in threads:
    one.join()
assert not wrong, wrong
assert refused
assert database.get(b"000007") == bytes(200)
"""


def test_readers_on_other_threads_outlive_the_opening_again(tmp_path: Path) -> None:
    """LevelDB frees its memory when it is closed, whoever is still reading in it: the process would die."""
    done = subprocess.run(
        [sys.executable, "-c", READING_WHILE_REOPENED, str(tmp_path / "chain")],
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_rows_left_to_the_garbage_collector_do_not_stop_the_opening_again(tmp_path: Path) -> None:
    database = Database.create(tmp_path / "chain")
    database.write([(b"1", b"one"), (b"2", b"two")])
    rows = cast(Generator[tuple[bytes, bytes]], database.items(b""))
    assert next(rows) == (b"1", b"one")
    closed = threading.Event()

    def collect() -> None:
        with database._gate.alone():
            rows.close()
        closed.set()

    threading.Thread(target=collect, daemon=True).start()
    assert closed.wait(WAIT_S)
    database.reopen()
    assert list(database.items(b"")) == [(b"1", b"one"), (b"2", b"two")]
    database.close()


def test_what_was_begun_before_the_database_was_opened_again_is_refused_and_goes_on_after(tmp_path: Path) -> None:
    async def scenario() -> None:
        maker = ChainMaker(make_cluster(tmp_path, 1))
        maker.grow(3)
        chain, config = maker.chain, StorageSection(keep_blocks=1)
        source, view = chain.snapshot_source(), chain.view()
        folder = SnapshotFolder(tmp_path / "snapshots")
        snapshots = Snapshots(chain=chain, folder=folder, config=config)
        chain.reopen()
        await snapshots.create(source)
        assert folder.heights() == []
        with pytest.raises(Rejection) as caught:
            view.get(keys.SUPPLY)
        assert caught.value.reason is STORE_UNREADABLE
        await snapshots.create(chain.snapshot_source())
        assert folder.heights() == [3]
        chain.close()
        with pytest.raises(Rejection) as caught:
            chain.block(1)
        assert caught.value.reason is STORE_UNREADABLE

    run(scenario)
