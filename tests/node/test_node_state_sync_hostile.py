"""How far back a joining node needs headers, and peers that give them one by one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import make_cluster, run

from consensus.ledger import keys
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_records import Governance
from gensyn_node.app import sync_wire
from gensyn_node.app.restore import Anchor, oldest_needed
from gensyn_node.app.snapshots import Snapshots
from gensyn_node.app.state_sync import StateSync
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives import codec
from gensyn_node.storage.snapshots import SnapshotFolder
from p2p.api import Direction, Network, PeerInfo

HEAD = 30


def test_no_header_is_needed_that_the_others_forgot_before_the_unbonding_time_was_raised(tmp_path: Path) -> None:
    genesis = make_cluster(tmp_path, 1).genesis
    usual = genesis.parameters.unbonding_blocks
    raised = structs.replace(devnet_parameters(), unbonding_blocks=10 * usual)
    ledger = {keys.PARAMETERS: codec.encode(raised)}
    height = 20 * usual
    assert oldest_needed(genesis, ledger.get, height) == 10 * usual
    ledger[keys.GOVERNANCE] = codec.encode(Governance(evidence_floor=15 * usual))
    assert oldest_needed(genesis, ledger.get, height) == 15 * usual
    assert oldest_needed(genesis, {keys.PARAMETERS: codec.encode(genesis.parameters)}.get, 2) == 1


def test_a_peer_that_gives_one_header_at_a_time_is_not_asked_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_wire, "HEADERS_MAX", 4)
    asked: list[str] = []

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 2, validators=1)
        maker = ChainMaker(cluster)
        maker.grow(HEAD)
        config = StorageSection()
        serving = Snapshots(chain=maker.chain, folder=SnapshotFolder(tmp_path / "snapshots"), config=config)

        async def request(peer: str, method: str, data: bytes, **_: Any) -> bytes:
            assert method == sync_wire.METHOD_HEADERS
            asked.append(peer)
            if peer == "a":
                query: sync_wire.HeadersQuery = codec.decode(sync_wire.HeadersQuery, data)
                data = codec.encode(structs.replace(query, count=1))
            await trio.lowlevel.checkpoint()
            return await serving._serve_headers(peer, data)

        def connected() -> list[PeerInfo]:
            return [PeerInfo(n, "/ip4/1.2.3.4/tcp/1", Direction.INBOUND, "x", 1, HEAD, None, 0, 1) for n in "ab"]

        network = SimpleNamespace(requests=SimpleNamespace(request=request), peers=SimpleNamespace(connected=connected))
        settings = cluster.settings[1]
        sync = StateSync(
            home=settings.home,
            genesis=settings.genesis,
            config=settings.config,
            network=cast(Network, network),
            clock_ms=lambda: 0,
        )
        block, following = maker.chain.block(HEAD - 1), maker.chain.block(HEAD)
        assert block and following and following.last_commit
        past = await sync._history(Anchor(block, following.last_commit, following.header), 1)
        assert past is not None
        assert [one.header.height for one in past] == list(range(HEAD - 2, 0, -1))
        maker.chain.close()

    run(scenario)
    assert asked.count("a") <= 2
