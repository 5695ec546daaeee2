"""Crashes that take more than a power cut takes: a log that is gone although something was signed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from node_cluster import eventually, make_cluster, run
from test_node_driver import Rig, cluster_proposer

from consensus.tendermint.types import VoteType
from gensyn_node.storage.wal import frame, log_path, read_log


@pytest.mark.parametrize("damage", ["removed", "emptied", "last record flipped", "last record cut"])
def test_a_height_whose_log_lacks_what_was_signed_on_is_sat_out(tmp_path: Path, damage: str) -> None:
    """A flipped last record looks like an unfinished one; but it was synced before something was signed on it."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        proposer = cluster_proposer(cluster)
        rig = Rig(cluster, proposer)
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: len(rig.votes(VoteType.PREVOTE)) == 1, "proposed and prevoted")
            nursery.cancel_scope.cancel()
        rig.close()
        assert rig.opened.signer is not None
        path = log_path(cluster.settings[proposer].home.data / "wal", 1)
        records = read_log(path).records[: rig.opened.signer.state.log_records]
        needed = b"".join(frame(record) for record in records)
        match damage:
            case "removed":
                path.unlink()
            case "emptied":
                path.write_bytes(b"")
            case "last record flipped":
                path.write_bytes(needed[:-1] + bytes([needed[-1] ^ 1]))
            case "last record cut":
                path.write_bytes(needed[:-1])
        for _ in range(2):
            again = Rig(cluster, proposer)
            assert again.opened.signer is not None
            assert again.opened.signer.state.silent_through == 1
            again.close()

    run(scenario)
