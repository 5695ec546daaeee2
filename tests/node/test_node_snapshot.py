"""Snapshots of a real chain: restored byte for byte, and nothing but the state of the verified header is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import Cluster, make_cluster

from consensus.ledger import keys
from consensus.statesync.manifest import Manifest
from consensus.statesync.reasons import BAD_CHUNK, BAD_ENTRIES, BAD_MANIFEST, NO_SNAPSHOT, STATE_MISMATCH
from consensus.statesync.restore import PastBlock
from consensus.statesync.stream import EntryReader, chunked
from consensus.tendermint.reasons import BAD_BLOCK, BAD_COMMIT
from consensus.tendermint.types import CommitFlag, CommitSlot
from gensyn_node.app.chain import Chain
from gensyn_node.app.restore import Anchor, finish, restore, restored_block
from gensyn_node.app.snapshots import Snapshots
from gensyn_node.app.startup import check_chain
from gensyn_node.app.sync_wire import SnapshotsQuery, SnapshotsReply
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256
from gensyn_node.storage import reasons, snapshots
from gensyn_node.storage.snapshots import ChunkFolder, SnapshotFolder

HEIGHT = 12


class Taken:
    """A chain with a snapshot at `HEIGHT`, and what a newcomer knows of it by verified headers."""

    def __init__(self, directory: Path) -> None:
        self.cluster: Cluster = make_cluster(directory, 4)
        self.maker = ChainMaker(self.cluster)
        self.maker.grow(HEIGHT)
        self.folder = SnapshotFolder(directory / "snapshots")
        self.manifest: Manifest = self.folder.create(self.maker.chain.snapshot_source(), keep=2)
        self.chunks = [self.folder.chunk(self.manifest, index) for index in range(len(self.manifest.chunks))]
        self.entries = dict(self.maker.chain.view().items(b""))
        self.maker.grow(4)
        chain = self.maker.chain
        block, commit, following = chain.block(HEIGHT), chain.commit(HEIGHT), chain.block(HEIGHT + 1)
        assert block and commit and following
        self.anchor = Anchor(block, commit, following.header)
        self.past = []
        for height in range(HEIGHT - 1, 0, -1):
            earlier, members = chain.block(height), chain.validators(height)
            assert earlier and members
            self.past.append(PastBlock(earlier.header, earlier.evidence, members.validators))


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    return Taken(tmp_path_factory.mktemp("taken"))


def test_a_restored_chain_goes_on_like_the_one_it_was_taken_from(taken: Taken, tmp_path: Path) -> None:
    genesis = taken.cluster.genesis
    builder, sets, record = restore(genesis, taken.manifest, taken.anchor, taken.chunks, tmp_path / "building")
    finish(builder, genesis, restored_block(taken.anchor, sets, record, taken.past), tmp_path / "chain")
    chain = Chain.open(tmp_path / "chain", genesis)
    assert dict(chain.view().items(b"")) == taken.entries
    assert chain.head.height == chain.base == HEIGHT
    check_chain(chain)
    newcomer = ChainMaker.__new__(ChainMaker)
    newcomer.chain = chain
    for height in range(HEIGHT + 1, taken.maker.chain.head.height + 1):
        block, commit = taken.maker.chain.block(height), taken.maker.chain.commit(height)
        assert block and commit
        assert chain.tip().app_hash == block.header.app_hash
        newcomer.adopt(block, commit)
        check_chain(chain)
    assert chain.head.app_hash == taken.maker.chain.head.app_hash
    assert chain.state == taken.maker.chain.state  # with the proposer rotation
    for height in range(1, chain.head.height + 3):
        ours, theirs = chain.validators(height), taken.maker.chain.validators(height)
        assert ours and theirs
        assert ours.validators == theirs.validators
    assert chain.set_changes() == taken.maker.chain.set_changes() != ()
    chain.close()


def entries_of(chunks: list[bytes]) -> list[tuple[bytes, bytes]]:
    reader = EntryReader()
    return [entry for chunk in chunks for entry in reader.feed(chunk)]


def without(key: bytes) -> Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]:
    return lambda entries: [entry for entry in entries if entry[0] != key]


FORGED: dict[str, Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]] = {
    "an account more": lambda entries: sorted([*entries, (keys.account(b"\x01" * 20), b"\x92\1\0")]),
    "a key missing": without(keys.VALIDATORS),
    "another value": lambda entries: [(key, value + b"\0" if key == keys.SUPPLY else value) for key, value in entries],
    "nothing of consensus": without(keys.CONSENSUS),
    "a key beside the records": lambda entries: sorted([*entries, (b"zzz", b"")]),
}


@pytest.mark.parametrize("name", FORGED)
def test_entries_that_are_not_the_state_are_refused(name: str, taken: Taken, tmp_path: Path) -> None:
    """The manifest is the forger's: its hashes and counts fit its chunks. The verified app hash does not."""
    entries = FORGED[name](entries_of(taken.chunks))
    chunks = list(chunked(entries))
    manifest = structs.replace(
        taken.manifest, entries=len(entries), size=sum(map(len, chunks)), chunks=tuple(map(sha256, chunks))
    )
    with pytest.raises(Rejection) as caught:
        restore(taken.cluster.genesis, manifest, taken.anchor, chunks, tmp_path / "building")
    assert caught.value.reason is STATE_MISMATCH
    assert not (tmp_path / "building").exists()


def test_repeated_and_cut_entries_are_refused(taken: Taken, tmp_path: Path) -> None:
    entries = entries_of(taken.chunks)
    repeated = list(chunked([*entries, entries[-1]]))
    for chunks in (repeated, [*taken.chunks[:-1], taken.chunks[-1][:-1]]):
        manifest = structs.replace(taken.manifest, size=sum(map(len, chunks)))
        with pytest.raises(Rejection) as caught:
            restore(taken.cluster.genesis, manifest, taken.anchor, chunks, tmp_path / "building")
        assert caught.value.reason is BAD_ENTRIES


def test_the_proposer_rotation_is_not_taken_on_trust(taken: Taken, tmp_path: Path) -> None:
    """GHSA-g5xx: no header names the priorities. A newcomer with others would call honest proposers impostors."""
    honest = taken.manifest.validators
    members = honest.validators
    turned = [
        structs.replace(honest, priorities=tuple(reversed(honest.priorities))),
        structs.replace(honest, proposer=next(one.address for one in members if one.address != honest.proposer)),
    ]
    for validators in turned:
        assert validators.hash == honest.hash
        manifest = structs.replace(taken.manifest, validators=validators)
        with pytest.raises(Rejection) as caught:
            restore(taken.cluster.genesis, manifest, taken.anchor, taken.chunks, tmp_path / "building")
        assert caught.value.reason is STATE_MISMATCH


def test_what_does_not_hang_on_the_verified_header_is_refused(taken: Taken, tmp_path: Path) -> None:
    manifest, anchor = taken.manifest, taken.anchor
    other = taken.maker.chain.block(HEIGHT + 2)
    assert other
    richer = structs.replace(manifest.next_validators[0], power=manifest.next_validators[0].power + 1)
    absent = tuple(CommitSlot(CommitFlag.ABSENT, b"") for _ in anchor.commit.slots)
    emptied = structs.replace(anchor.block, transactions=())
    earlier = taken.maker.chain.block(HEIGHT - 1)
    assert earlier
    cases: list[tuple[Manifest, Anchor, object]] = [
        (structs.replace(manifest, chain_id="devnet-other"), anchor, BAD_MANIFEST),
        (structs.replace(manifest, height=HEIGHT + 1), anchor, STATE_MISMATCH),
        (manifest, Anchor(anchor.block, anchor.commit, other.header), STATE_MISMATCH),
        (manifest, Anchor(earlier, anchor.commit, anchor.following), STATE_MISMATCH),
        (manifest, Anchor(emptied, anchor.commit, anchor.following), BAD_BLOCK),
        (manifest, Anchor(anchor.block, structs.replace(anchor.commit, slots=absent), anchor.following), BAD_COMMIT),
        (
            structs.replace(manifest, next_validators=(richer, *manifest.next_validators[1:])),
            anchor,
            STATE_MISMATCH,
        ),
        (structs.replace(manifest, next_validators=manifest.next_validators[1:]), anchor, STATE_MISMATCH),
        (structs.replace(manifest, next_validators=()), anchor, STATE_MISMATCH),
    ]
    for wrong_manifest, wrong_anchor, reason in cases:
        with pytest.raises(Rejection) as caught:
            restore(taken.cluster.genesis, wrong_manifest, wrong_anchor, taken.chunks, tmp_path / "building")
        assert caught.value.reason is reason


def test_snapshots_are_the_same_everywhere_and_kept_by_number(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 4)
    first, second = ChainMaker(cluster), ChainMaker(cluster, 1)
    folders = [SnapshotFolder(tmp_path / "first"), SnapshotFolder(tmp_path / "second")]
    for turn in range(4):
        first.grow(2)
        for height in range(2 * turn + 1, 2 * turn + 3):
            block, commit = first.chain.block(height), first.chain.commit(height)
            assert block and commit
            second.adopt(block, commit)
        made = [
            folder.create(maker.chain.snapshot_source(), keep=2)
            for folder, maker in zip(folders, (first, second), strict=True)
        ]
        assert made[0] == made[1]
        assert folders[0].create(first.chain.snapshot_source(), keep=2) == made[0]
    assert folders[0].heights() == [6, 8]
    assert folders[0].manifest(8).id == made[0].id
    for missing in (lambda: folders[0].manifest(2), lambda: folders[0].chunk(made[0], 99)):
        with pytest.raises(Rejection) as caught:
            missing()
        assert caught.value.reason is NO_SNAPSHOT


def test_a_snapshot_is_of_one_height_while_blocks_go_on(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 4)
    maker = ChainMaker(cluster)
    maker.grow(3)
    source, expected = maker.chain.snapshot_source(), dict(maker.chain.view().items(b""))
    maker.grow(3)
    folder = SnapshotFolder(tmp_path / "snapshots")
    manifest = folder.create(source, keep=1)
    assert dict(entries_of([folder.chunk(manifest, n) for n in range(len(manifest.chunks))])) == expected
    assert manifest.height == 3


def test_damage_on_our_disk_is_not_served(taken: Taken, tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "snapshots")
    manifest = folder.create(taken.maker.chain.snapshot_source(), keep=1)
    (path,) = (tmp_path / "snapshots").glob("*/00000.chunk")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(Rejection) as caught:
        folder.chunk(manifest, 0)
    assert caught.value.reason is reasons.SNAPSHOT_CORRUPT
    (path.parent / snapshots.MANIFEST_FILE).write_bytes(b"?")
    with pytest.raises(Rejection) as caught:
        folder.manifest(manifest.height)
    assert caught.value.reason is reasons.SNAPSHOT_CORRUPT


def test_a_damaged_manifest_is_made_again_and_hides_no_other_snapshot(tmp_path: Path) -> None:
    """Begun again, a node comes past the heights of snapshots that are there."""
    maker = ChainMaker(make_cluster(tmp_path, 1))
    folder = SnapshotFolder(tmp_path / "snapshots")
    maker.grow(1)
    folder.create(maker.chain.snapshot_source(), keep=2)
    maker.grow(1)
    sound = folder.create(maker.chain.snapshot_source(), keep=2)
    manifest = tmp_path / "snapshots" / "2" / snapshots.MANIFEST_FILE
    manifest.write_bytes(b"?")
    assert folder.create(maker.chain.snapshot_source(), keep=2) == sound == folder.manifest(2)
    manifest.write_bytes(b"?")
    offering = Snapshots(chain=maker.chain, folder=folder, config=StorageSection())
    reply: SnapshotsReply = codec.decode(
        SnapshotsReply, trio.run(offering._serve_offers, "peer", codec.encode(SnapshotsQuery()))
    )
    assert [one.height for one in reply.offers] == [1]
    assert folder.heights() == [1]


def test_a_download_goes_on_with_what_is_whole(taken: Taken, tmp_path: Path) -> None:
    folder = ChunkFolder(tmp_path, taken.manifest)
    assert folder.here() == []
    folder.put(0, taken.chunks[0])
    assert ChunkFolder(tmp_path, taken.manifest).here() == [0]
    folder.put(0, taken.chunks[0][:-1])
    assert ChunkFolder(tmp_path, taken.manifest).here() == []
    assert BAD_CHUNK.code == "E1162"


def test_what_does_not_fit_or_was_killed_leaves_nothing(taken: Taken, tmp_path: Path) -> None:
    folder = SnapshotFolder(tmp_path / "snapshots")
    source = taken.maker.chain.snapshot_source()

    def cut() -> Iterator[tuple[bytes, bytes]]:
        yield from list(source.entries)[:3]
        raise OSError(28, "No space left on device")

    (tmp_path / "snapshots" / "3.new").mkdir(parents=True)
    with pytest.raises(OSError):
        folder.create(replace(source, entries=cut()), keep=1)
    assert list((tmp_path / "snapshots").iterdir()) == []
    assert folder.create(taken.maker.chain.snapshot_source(), keep=1).height == source.height
