"""Pruning: what the policy lets go goes in small steps, what evidence, snapshots and certificates need stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import Cluster, make_cluster, run

from consensus.ledger.messages import transaction_id
from consensus.ledger.parameters import devnet_parameters
from gensyn_node.app.maintenance import roll_back
from gensyn_node.app.pruning import AT_ONCE, Pruner, lowest_kept
from gensyn_node.app.startup import check_chain
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.reasons import CANNOT_ROLL_BACK
from gensyn_node.storage.snapshots import SnapshotFolder

UNBONDING = 10


def cluster_of(tmp_path: Path) -> Cluster:
    return make_cluster(tmp_path, 2, parameters=structs.replace(devnet_parameters(), unbonding_blocks=UNBONDING))


def test_blocks_go_in_small_steps_and_the_rest_reads_as_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        maker = ChainMaker(cluster_of(tmp_path))
        maker.grow(60)
        chain, snapshots = maker.chain, SnapshotFolder(tmp_path / "snapshots")
        pruner = Pruner(chain, StorageSection(keep_blocks=15), snapshots)
        gone, stays = chain.block(20), chain.block(46)
        assert gone and stays
        counts = []
        while (pruned := await pruner.prune_some()) > 0:
            counts.append(pruned)
        assert sum(counts) == 45
        assert max(counts) <= AT_ONCE
        assert chain.base == 46
        assert [chain.block(h) is None for h in (1, 45, 46, 60)] == [True, True, False, False]
        assert chain.commit(44) is None or chain.store.changes_set(44)
        assert chain.store.place_of(transaction_id(gone.transactions[0])) is None
        assert chain.store.place_of(transaction_id(stays.transactions[0])) is not None
        assert chain.store.height_of(gone.id) is None
        for height in chain.set_changes():  # certificates list these from the genesis on
            assert chain.header(height) is not None
            assert chain.commit(height) is not None
            assert chain.validators(height + 1) is not None
        check_chain(chain)
        chain.store.compact_blocks(chain.base)
        maker.grow(5)
        chain.close()
        again = ChainMaker(maker.cluster)
        assert again.chain.base == 46
        check_chain(again.chain)
        again.chain.close()
        with pytest.raises(Rejection) as caught:
            roll_back(maker.settings.home, 40)
        assert caught.value.reason is CANNOT_ROLL_BACK
        assert roll_back(maker.settings.home, 50).height == 50

    run(scenario)


def test_evidence_and_snapshots_hold_blocks_back(tmp_path: Path) -> None:
    maker = ChainMaker(cluster_of(tmp_path))
    maker.grow(30)
    snapshots = SnapshotFolder(tmp_path / "snapshots")
    chain = maker.chain
    assert lowest_kept(chain, StorageSection(), snapshots) == 0
    assert lowest_kept(chain, StorageSection(keep_blocks=25), snapshots) == 6
    assert lowest_kept(chain, StorageSection(keep_blocks=1), snapshots) == 30 - UNBONDING
    snapshots.create(chain.snapshot_source(), keep=1)
    maker.grow(10)
    assert lowest_kept(chain, StorageSection(keep_blocks=1), snapshots) == 30 - UNBONDING
    assert lowest_kept(chain, StorageSection(keep_blocks=1000), snapshots) == 0
    chain.close()


def test_fewer_kept_states_are_reached_step_by_step(tmp_path: Path) -> None:
    maker = ChainMaker(cluster_of(tmp_path))
    maker.grow(30)
    assert maker.chain.store.oldest_state == 0
    maker.chain.keep_states = 4
    for grown in range(1, 12):
        maker.grow(1)
        assert maker.chain.store.oldest_state <= 4 * grown
        check_chain(maker.chain)
    assert maker.chain.store.oldest_state == maker.chain.head.height - 4
    maker.chain.close()
