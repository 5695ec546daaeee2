"""Block sync among liars: old blocks for ever, heights that do not exist. The honest peer is asked all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import trio
from node_cluster import Cluster, make_cluster, run
from test_node_executor import Bench, commit_of

from gensyn_node.app import wire
from gensyn_node.app.block_sync import BlockSync
from gensyn_node.app.driver import Driver, SealedByPeers
from gensyn_node.primitives import codec
from p2p.api import Direction, PeerInfo, Peers, Requests

FAR = 1 << 60


class Adopts:
    """Stands for the driver: executes what it is given at once."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def offer(self, item: SealedByPeers) -> None:
        """Make the block the head."""
        await self.bench.executor.commit(item.block, item.commit)

    async def wait_height_after(self, height: int) -> None:
        """The head is there already."""
        await trio.lowlevel.checkpoint()


class Neighbours:
    """Stands for the network: peers by name with the heights that they claim, and what each answers."""

    def __init__(self, replies: dict[str, Any], heads: dict[str, int]) -> None:
        self.replies, self.heads = replies, heads
        self.asked: list[str] = []
        self.meanwhile: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """What happens before an answer comes."""

    def connected(self) -> list[PeerInfo]:
        """All of them."""
        return [
            PeerInfo(name, "/ip4/1.2.3.4/tcp/1", Direction.INBOUND, "x", 1, head, None, 0, 1)
            for name, head in sorted(self.heads.items())
        ]

    async def request(self, peer: str, method: str, data: bytes, **_: Any) -> bytes:
        """Answer `chain/blocks`."""
        await trio.lowlevel.checkpoint()
        await self.meanwhile()
        self.asked.append(peer)
        assert len(self.asked) < 50, "asks the same peer for ever"
        query: wire.BlocksQuery = codec.decode(wire.BlocksQuery, data)
        return codec.encode(self.replies[peer](query))


async def grow(cluster: Cluster, bench: Bench, blocks: int) -> list[wire.SealedBlock]:
    """Commit some blocks to a chain."""
    sealed: list[wire.SealedBlock] = []
    for _ in range(blocks):
        block = await bench.build(sealed[-1].commit if sealed else None)
        commit = commit_of(cluster, bench.chain, block)
        await bench.executor.commit(block, commit)
        sealed.append(wire.SealedBlock(block, commit))
    return sealed


def test_a_peer_that_sends_old_blocks_does_not_keep_us_from_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        ahead, behind = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        sealed = await grow(cluster, ahead, 4)
        await behind.executor.commit(sealed[0].block, sealed[0].commit)
        network = Neighbours(
            {
                "liar": lambda query: wire.BlocksReply(FAR, (sealed[0],)),
                "honest": lambda query: wire.BlocksReply(4, tuple(sealed[query.first - 1 :])),
            },
            {"liar": FAR, "honest": 4},
        )
        sync = BlockSync(
            chain=behind.chain,
            driver=cast(Driver, Adopts(behind)),
            executor=behind.executor,
            requests=cast(Requests, network),
            peers=cast(Peers, network),
        )
        await sync._sync(eager=True)
        assert behind.chain.head == ahead.chain.head
        assert network.asked[0] == "liar"

    run(scenario)


def test_a_claimed_height_that_is_never_shown_does_not_leave_us_syncing(tmp_path: Path) -> None:
    """ASA-2025-001: a peer that claims a height and never shows it must not keep a node from voting."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        ahead, behind = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        sealed = await grow(cluster, ahead, 4)
        network = Neighbours({"liar": lambda query: wire.BlocksReply(FAR, tuple(sealed[query.first - 1 :]))}, {})
        network.heads["liar"] = FAR
        sync = BlockSync(
            chain=behind.chain,
            driver=cast(Driver, Adopts(behind)),
            executor=behind.executor,
            requests=cast(Requests, network),
            peers=cast(Peers, network),
        )
        await sync._sync(eager=True)
        assert behind.chain.head.height == 4
        assert not sync.syncing

    run(scenario)


def test_whoever_shows_what_consensus_brings_anyway_does_not_leave_us_syncing(tmp_path: Path) -> None:
    """A validator that has restarted signs nothing while it is syncing: a peer that drags it out would silence it."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        ahead, behind = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        sealed = await grow(cluster, ahead, 12)
        syncing: list[bool] = []

        async def decide_one() -> None:
            """The liar waits for the next block; from height 4 on consensus here gets it as fast as the liar."""
            height = behind.chain.head.height
            if 4 <= height < 12:
                await behind.executor.commit(sealed[height].block, sealed[height].commit)
            syncing.append(sync.syncing)

        network = Neighbours(
            {
                "liar": lambda query: wire.BlocksReply(
                    FAR, tuple(sealed[query.first - 1 : 4 if query.first == 1 else query.first])
                )
            },
            {"liar": FAR},
        )
        network.meanwhile = decide_one
        sync = BlockSync(
            chain=behind.chain,
            driver=cast(Driver, Adopts(behind)),
            executor=behind.executor,
            requests=cast(Requests, network),
            peers=cast(Peers, network),
        )
        await sync._sync(eager=True)
        assert not sync.syncing
        assert not any(syncing[2:])

    run(scenario)


def test_a_peer_that_gives_block_by_block_is_not_asked_for_all(tmp_path: Path) -> None:
    """With a slow answer each it would be outrun by the chain, while an honest peer has them all."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        ahead, behind = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        sealed = await grow(cluster, ahead, 6)
        network = Neighbours(
            {
                "liar": lambda query: wire.BlocksReply(query.first, tuple(sealed[query.first - 1 : query.first])),
                "honest": lambda query: wire.BlocksReply(6, tuple(sealed[query.first - 1 :])),
            },
            {"liar": FAR, "honest": 6},
        )
        sync = BlockSync(
            chain=behind.chain,
            driver=cast(Driver, Adopts(behind)),
            executor=behind.executor,
            requests=cast(Requests, network),
            peers=cast(Peers, network),
        )
        await sync._sync(eager=False)
        assert behind.chain.head == ahead.chain.head
        assert network.asked[:2] == ["liar", "honest"]
        for bench in (ahead, behind):
            bench.chain.close()

    run(scenario)
