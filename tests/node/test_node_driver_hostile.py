"""Crashes that take more than a power cut takes: a log that is gone although something was signed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from node_cluster import eventually, make_cluster, run
from test_node_driver import Rig, cluster_proposer

from consensus.tendermint.types import VoteType
from gensyn_node.storage.wal import log_path


@pytest.mark.parametrize("emptied", [False, True])
def test_a_height_whose_log_is_lost_is_sat_out(tmp_path: Path, emptied: bool) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        proposer = cluster_proposer(cluster)
        rig = Rig(cluster, proposer)
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: len(rig.votes(VoteType.PREVOTE)) == 1, "proposed and prevoted")
            nursery.cancel_scope.cancel()
        rig.close()
        path = log_path(cluster.settings[proposer].home.data / "wal", 1)
        if emptied:
            path.write_bytes(b"")
        else:
            path.unlink()
        for _ in range(2):
            again = Rig(cluster, proposer)
            assert again.opened.signer is not None
            assert again.opened.signer.state.silent_through == 1
            again.close()

    run(scenario)
