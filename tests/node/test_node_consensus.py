"""Whole nodes in one process, over real sockets and databases: they agree, and go on when gossip does not."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import plyvel
import pytest
import trio
from msgspec import structs
from node_cluster import WAIT_S, Cluster, balance, eventually, free_ports, key, make_cluster, peer_id, run, transfer

from consensus.tendermint.types import CommitFlag, CommitSlot
from gensyn_node.app import wire
from gensyn_node.app.block_sync import BlockSync
from gensyn_node.app.node import Node, open_node
from gensyn_node.app.settings import SIGN_STATE_FILE
from gensyn_node.config.home import Home
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.signer import SignState, read_state

pytestmark = pytest.mark.integration


async def start(stack: AsyncExitStack, cluster: Cluster, *numbers: int) -> list[Node]:
    """Start some of the nodes."""
    return [await stack.enter_async_context(open_node(cluster.settings[number])) for number in numbers]


def assert_same_chain(nodes: list[Node]) -> None:
    """All nodes have the same blocks up to the lowest head."""
    lowest = min(node.ledger.head.height for node in nodes)
    for height in range(1, lowest + 1):
        ids = set()
        for node in nodes:
            block = node.ledger.block(height)
            assert block is not None
            ids.add(block.id)
        assert len(ids) == 1, f"two blocks at height {height}"


def test_four_nodes_commit_transfers(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        target = b"\x55" * 20
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2, 3)
            names = [
                await nodes[n].chain.submit_transaction(transfer(cluster, n, nonce, 1_000, target))
                for n in range(4)
                for nonce in range(5)
            ]
            for name in names:
                outcome = await nodes[0].chain.wait_transaction(name, 60)
                assert outcome is not None
                assert outcome.accepted, outcome
            height = nodes[0].ledger.head.height
            await eventually(lambda: all(n.ledger.head.height >= height for n in nodes), "all nodes at this height")
            assert [balance(node, target) for node in nodes] == [20_000] * 4
            assert_same_chain(nodes)
            # Blocks go on without transactions as well.
            await eventually(lambda: all(n.ledger.head.height >= height + 2 for n in nodes), "empty blocks")
            assert all(len(node.pool) == 0 for node in nodes)

    run(scenario)


def test_a_node_that_missed_blocks_catches_up_and_votes_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2)
            await eventually(lambda: nodes[0].ledger.head.height >= 8, "three of four go on alone")
            (late,) = await start(stack, cluster, 3)
            await eventually(lambda: late.ledger.head.height >= nodes[0].ledger.head.height - 1 > 8, "it catches up")
            joined = late.ledger.head.height
            await eventually(lambda: _signed_by(nodes[0], late, joined + 1), "its precommit is in a commit again")
            assert_same_chain([*nodes, late])
            assert not late.sync.syncing

    run(scenario)


def _signed_by(observer: Node, member: Node, first: int) -> bool:
    """Whether a commit from height `first` on holds a precommit of `member`."""
    address = member.settings.consensus_key.address
    for height in range(first, observer.ledger.head.height + 1):
        validators, commit = observer.ledger.validators(height), observer.ledger.commit(height)
        if validators and commit and commit.slots[validators.positions[address]].flag is CommitFlag.COMMIT:
            return True
    return False


def test_without_gossip_the_chain_is_still_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4).without_gossip()
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2, 3)
            await eventually(lambda: all(n.ledger.head.height >= 3 for n in nodes), "three blocks by asking alone")
            target = b"\x44" * 20
            await nodes[2].chain.submit_transaction(transfer(cluster, 2, 0, 9, target))
            await eventually(
                lambda: all(balance(n, target) == 9 for n in nodes), "a transaction that only one node had"
            )
            assert_same_chain(nodes)

    run(scenario)


def test_nodes_restart_from_their_homes(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        target = b"\x66" * 20
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2, 3)
            name = await nodes[1].chain.submit_transaction(transfer(cluster, 0, 0, 7, target))
            assert await nodes[2].chain.wait_transaction(name, 60)
            await eventually(lambda: all(balance(n, target) == 7 for n in nodes), "all have it")
            heights = [node.ledger.head.height for node in nodes]
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2, 3)
            for node, height in zip(nodes, heights, strict=True):
                assert node.ledger.head.height >= height
                assert balance(node, target) == 7
            await eventually(lambda: all(n.ledger.head.height > max(heights) + 1 for n in nodes), "they go on")
            assert_same_chain(nodes)
            assert all(not node.executor.evidence.pending() for node in nodes)

    run(scenario)


def test_a_restored_backup_finds_its_twin_and_stops(tmp_path: Path) -> None:
    """The same key on two machines: the one that starts later hears the other and never signs."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        backup = tmp_path / "backup"
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2)
            async with AsyncExitStack() as first_run:
                (original,) = await start(first_run, cluster, 3)
                await eventually(lambda: _signed_by(nodes[0], original, 1), "the validator signs")
            shutil.copytree(cluster.settings[3].home.path, backup)
            (original,) = await start(stack, cluster, 3)
            await eventually(lambda: _signed_by(nodes[0], original, read_last(backup).height + 1), "it signs again")
            before = read_last(backup)
            config, listen = cluster.settings[3].config, f"/ip4/127.0.0.1/tcp/{free_ports(1)[0]}"
            twin = replace(
                cluster.settings[3],
                home=Home(backup),
                p2p_key=key("p2p", 77),
                config=structs.replace(config, p2p=structs.replace(config.p2p, listen=(listen,))),
            )
            with pytest.raises(Rejection) as caught:
                async with open_node(twin):
                    await trio.sleep(WAIT_S)
            assert caught.value.reason is reasons.TWIN_FOUND
            assert read_last(backup) == before, "the twin has signed"
            height = nodes[0].ledger.head.height
            await eventually(lambda: _signed_by(nodes[0], original, height + 1), "the original goes on")
            assert all(not node.executor.evidence.pending() for node in nodes)

    run(scenario)


def test_a_read_that_meets_damage_ends_the_node_whoever_asked(tmp_path: Path) -> None:
    """The error itself can end in the handler of a peer's request, as if the peer were to blame."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        with pytest.raises(Rejection) as caught:
            async with open_node(cluster.settings[0]) as node:
                await eventually(lambda: node.ledger.head.height >= 1, "a block")
                node.ledger.store.database.damage.met("reading b", plyvel.CorruptionError("block checksum mismatch"))
                await trio.sleep(WAIT_S)
        assert caught.value.reason is reasons.STORE_CORRUPT

    run(scenario)


def read_last(home: Path) -> SignState:
    return read_state(Home(home).signer / SIGN_STATE_FILE)


def test_a_second_node_on_one_home_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        async with AsyncExitStack() as stack:
            await start(stack, cluster, 0)
            with pytest.raises(Rejection) as caught:
                await start(stack, cluster, 0)
            assert caught.value.reason.name == "home_in_use"

    run(scenario)


def test_a_lying_peer_is_banned_and_the_chain_still_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that serves blocks whose commit lacks a quorum loses its welcome; the blocks come from the others."""
    honest = BlockSync.serve_blocks
    liars: list[BlockSync] = []
    lied: list[str] = []

    async def serve_blocks(self: BlockSync, peer: str, request: bytes) -> bytes:
        reply: wire.BlocksReply = codec.decode(wire.BlocksReply, await honest(self, peer, request))
        if peer != peer_id(key("p2p", 3)):
            return codec.encode(reply)
        if self not in liars:
            # The honest ones have nothing to give until the liar was asked, or it might never be.
            return codec.encode(reply if lied or not liars else wire.BlocksReply(reply.head_height, ()))
        lied.extend(peer for _ in reply.blocks)
        absent = CommitSlot(CommitFlag.ABSENT, b"")
        without_quorum = tuple(
            wire.SealedBlock(one.block, structs.replace(one.commit, slots=(*one.commit.slots[:2], absent, absent)))
            for one in reply.blocks
        )
        return codec.encode(wire.BlocksReply(1_000_000, without_quorum))

    monkeypatch.setattr(BlockSync, "serve_blocks", serve_blocks)

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2)
            await eventually(lambda: nodes[0].ledger.head.height >= 6, "some blocks")
            liars.append(nodes[0].sync)
            (late,) = await start(stack, cluster, 3)
            await eventually(lambda: late.ledger.head.height >= 6, "synced from the others")
            await eventually(
                lambda: nodes[0].network.peer_id in [ban.peer for ban in late.network.peers.bans()],
                "the liar is banned",
            )

    run(scenario)
