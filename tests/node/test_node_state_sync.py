"""Joining a chain by a snapshot over real connections: from honest peers, past liars, and after a kill."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import FEE_NANO, Cluster, eventually, make_cluster, peer_id, run

from consensus.ledger import keys
from consensus.ledger.messages import Bond, encode_transaction, sign_transaction, validator_key_proof_bytes
from consensus.statesync.manifest import CHUNK_BYTES
from consensus.statesync.stream import EntryReader, chunked
from gensyn_node.app.doppelganger import own_precommit
from gensyn_node.app.node import Node, open_node
from gensyn_node.app.settings import CHAIN_FOLDER, SIGN_STATE_FILE, SNAPSHOT_FOLDER, NodeSettings
from gensyn_node.app.startup import check_chain
from gensyn_node.app.state_sync import CHUNK_FOLDER, RESTORED_FOLDER, StateSync, wants_state_sync
from gensyn_node.config.node_config import NodeSection, StatesyncSection, StorageSection
from gensyn_node.primitives import codec
from gensyn_node.primitives.hashing import sha256
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.storage.files import replace_file
from gensyn_node.storage.signer import Signer, SignRequest, SignStep
from gensyn_node.storage.snapshots import MANIFEST_FILE, SnapshotFolder

pytestmark = pytest.mark.integration

SNAPSHOT = 40
HEAD = 60


def follower(settings: NodeSettings, *, state_sync: bool = False) -> NodeSettings:
    """A node without a vote; blocks come from `ChainMaker` or from peers."""
    config = structs.replace(
        settings.config,
        node=NodeSection(role="none", validator=False),
        storage=StorageSection(snapshot_interval=0),
        statesync=StatesyncSection(enabled=state_sync),
    )
    return NodeSettings(
        settings.home, config, settings.genesis, settings.account_key, settings.consensus_key, settings.p2p_key
    )


def grown(directory: Path, servers: int) -> tuple[Cluster, list[ChainMaker]]:
    """Homes with the same chain and the same snapshot; one more home is empty."""
    cluster = make_cluster(directory, servers + 1, validators=1)
    makers = [ChainMaker(cluster, number) for number in range(servers)]
    for height in range(1, HEAD + 1):
        block, commit = makers[0].grow_one()
        for other in makers[1:]:
            other.adopt(block, commit)
        if height == SNAPSHOT:
            for maker in makers:
                folder = SnapshotFolder(maker.settings.home.data / SNAPSHOT_FOLDER)
                folder.create(maker.chain.snapshot_source(), keep=1)
    return cluster, makers


@asynccontextmanager
async def joined(cluster: Cluster, servers: int, *, state_sync: bool) -> AsyncIterator[Node]:
    """All servers and the newcomer, which has the head."""
    async with AsyncExitStack() as stack:
        for number in range(servers):
            await stack.enter_async_context(open_node(follower(cluster.settings[number])))
        newcomer = await stack.enter_async_context(
            open_node(follower(cluster.settings[servers], state_sync=state_sync))
        )
        await eventually(lambda: newcomer.ledger.head.height >= HEAD, "the newcomer has the head")
        yield newcomer


@pytest.mark.parametrize("state_sync", [False, True])
def test_a_newcomer_gets_to_the_head(state_sync: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, makers = grown(tmp_path, 2)
        head = makers[0].chain.head
        for maker in makers:
            maker.chain.close()
        async with joined(cluster, 2, state_sync=state_sync) as newcomer:
            assert newcomer.ledger.head == head
            assert newcomer.ledger.base == (SNAPSHOT if state_sync else 1)
            check_chain(newcomer.ledger)
            assert not (newcomer.settings.home.data / CHUNK_FOLDER).exists()

    run(scenario)


def forge(settings: NodeSettings, padding_bytes: int = 0) -> bytes:
    """Give a server a snapshot with richer accounts, whose manifest fits its chunks; the manifest's id."""
    folder = SnapshotFolder(settings.home.data / SNAPSHOT_FOLDER)
    manifest = folder.manifest(SNAPSHOT)
    reader = EntryReader()
    entries = [entry for n in range(len(manifest.chunks)) for entry in reader.feed(folder.chunk(manifest, n))]
    forged = [(key, value + b"\0" if key == keys.SUPPLY else value) for key, value in entries]
    if padding_bytes:
        forged.append((b"\xff" * 200, bytes(padding_bytes)))
    chunks = list(chunked(forged))
    changed = structs.replace(
        manifest, entries=len(forged), size=sum(map(len, chunks)), chunks=tuple(map(sha256, chunks))
    )
    place = settings.home.data / SNAPSHOT_FOLDER / str(SNAPSHOT)
    for number, chunk in enumerate(chunks):
        (place / f"{number:05d}.chunk").write_bytes(chunk)
    replace_file(place / MANIFEST_FILE, codec.encode(changed))
    return changed.id


def test_a_validator_joins_by_a_snapshot_from_a_told_block_and_signs(tmp_path: Path) -> None:
    """More than a third of the stake is bonded to it then: from there on there is a block only where it signs."""

    async def scenario() -> None:
        cluster, (maker,) = grown(tmp_path, 1)
        first, second = cluster.settings
        told = maker.chain.header(SNAPSHOT // 2)
        maker.chain.close()
        assert told is not None
        signer = Signer.open(first.home.signer / SIGN_STATE_FILE, first.consensus_key)
        signer.sign(SignRequest(HEAD, 1, SignStep.PRECOMMIT, b"as it was", b"as it was", 0, 0))
        trust = StatesyncSection(enabled=True, trusted_height=told.height, trusted_hash=told.id.hex())
        second = replace(second, config=structs.replace(second.config, statesync=trust))
        async with open_node(first) as one, open_node(second) as other:
            await eventually(lambda: other.ledger.head.height > HEAD, "the newcomer follows")
            assert other.ledger.base == SNAPSHOT
            assert other.watch is not None
            await eventually(lambda: other.watch.may_sign, "its watch is over")
            proof = second.consensus_key.sign(
                validator_key_proof_bytes(cluster.genesis.chain_id, second.account_key.address)
            )
            bond = Bond(second.consensus_key.public, 200 * NANO_PER_GSN, proof)
            data = encode_transaction(
                sign_transaction(second.account_key, cluster.genesis.chain_id, 0, 2 * FEE_NANO, bond)
            )
            one.pool.add(data)

            def signed() -> bool:
                height = one.ledger.head.height
                commit, members = one.ledger.commit(height), one.ledger.validators(height)
                assert commit is not None and members is not None
                return own_precommit(commit, members, second.consensus_key.address) is not None

            await eventually(signed, "a block that the newcomer signed")
            before = one.ledger.head.height
            await eventually(lambda: min(n.ledger.head.height for n in (one, other)) >= before + 3, "three more")
            check_chain(other.ledger)

    run(scenario)


def test_no_snapshot_is_taken_where_the_told_block_is_not_the_chain_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is blamed for it: who wrote the configuration may be wrong."""
    monkeypatch.setattr("gensyn_node.app.state_sync.OFFERS_WAIT_S", 2.0)

    async def scenario() -> None:
        cluster, makers = grown(tmp_path, 1)
        makers[0].chain.close()
        trust = StatesyncSection(enabled=True, trusted_height=SNAPSHOT // 2, trusted_hash="ab" * 32)
        newcomer = follower(cluster.settings[1])
        newcomer = replace(newcomer, config=structs.replace(newcomer.config, statesync=trust))
        async with open_node(follower(cluster.settings[0])), open_node(newcomer) as node:
            assert node.ledger.base == 1, "nothing was restored"
            assert not node.network.peers.bans()

    run(scenario)


@pytest.fixture
def all_servers_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer looks for offers when all three servers are connected."""
    honest = StateSync._offers

    async def offers(self: StateSync) -> list[tuple[str, int, bytes]]:
        await eventually(lambda: len(self._peers.connected()) + len(self._peers.bans()) >= 3, "all servers are there")
        return await honest(self)

    monkeypatch.setattr(StateSync, "_offers", offers)


@pytest.mark.usefixtures("all_servers_first")
def test_a_large_forged_snapshot_does_not_keep_a_newcomer_from_a_smaller_true_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a chunk of it is fetched, however many offer it."""
    monkeypatch.setattr("gensyn_node.app.state_sync.TRIED_FIRST_BYTES", 0)

    async def scenario() -> None:
        cluster, makers = grown(tmp_path, 3)
        head = makers[0].chain.head
        for maker in makers:
            maker.chain.close()
        for settings in cluster.settings[:2]:
            forge(settings, 3 * CHUNK_BYTES)
        async with joined(cluster, 3, state_sync=True) as newcomer:
            assert (newcomer.ledger.head, newcomer.ledger.base) == (head, SNAPSHOT)
            assert not newcomer.network.peers.bans()

    run(scenario)


@pytest.mark.usefixtures("all_servers_first")
def test_a_forged_snapshot_bans_those_who_offer_it_and_the_honest_one_is_taken(tmp_path: Path) -> None:
    """Two forgers against one honest peer: more peers offer the forged snapshot, so it is tried first."""

    async def scenario() -> None:
        cluster, makers = grown(tmp_path, 3)
        head = makers[0].chain.head
        for maker in makers:
            maker.chain.close()
        forge(cluster.settings[0])
        forge(cluster.settings[1])
        async with joined(cluster, 3, state_sync=True) as newcomer:
            assert newcomer.ledger.head == head
            assert newcomer.ledger.base == SNAPSHOT
            banned = {ban.peer for ban in newcomer.network.peers.bans()}
            assert banned == {peer_id(one.p2p_key) for one in cluster.settings[:2]}

    run(scenario)


def test_without_any_good_snapshot_the_blocks_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensyn_node.app.state_sync.OFFERS_WAIT_S", 2.0)

    async def scenario() -> None:
        cluster, makers = grown(tmp_path, 2)
        for maker in makers:
            maker.chain.close()
        SnapshotFolder(cluster.settings[0].home.data / SNAPSHOT_FOLDER).remove(SNAPSHOT)
        forge(cluster.settings[1])
        async with joined(cluster, 2, state_sync=True) as newcomer:
            assert newcomer.ledger.base == 1
            assert (newcomer.settings.home.data / CHAIN_FOLDER).is_dir()

    run(scenario)


@pytest.mark.parametrize("old_chain_gone", [False, True])
def test_a_kill_before_the_restored_chain_is_in_place_costs_nothing(old_chain_gone: bool, tmp_path: Path) -> None:
    cluster, makers = grown(tmp_path, 1)
    makers[0].chain.close()
    home, other = cluster.settings[1].home, makers[0].settings.home
    (other.data / CHAIN_FOLDER).rename(home.data / RESTORED_FOLDER)
    if old_chain_gone:
        shutil.rmtree(home.data / CHAIN_FOLDER)
    assert not wants_state_sync(follower(cluster.settings[1], state_sync=True))
    again = ChainMaker(cluster, 1)
    assert again.chain.head.height == HEAD
    again.chain.close()
    assert not (home.data / RESTORED_FOLDER).exists()
