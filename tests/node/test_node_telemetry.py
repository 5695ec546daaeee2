"""What is counted of consensus, told by hand."""

from __future__ import annotations

from pathlib import Path

from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import make_cluster

from consensus.tendermint.types import CommitFlag, CommitSlot
from gensyn_node.app.measures import Family
from gensyn_node.app.telemetry import Telemetry
from gensyn_node.primitives.money import NANO_PER_GSN


def value(families: list[Family], name: str) -> float:
    (found,) = (one for one in families if one.name == f"gensyn_consensus_{name}")
    return found.samples[0][2]


def test_who_is_missing_is_weighed_by_the_set_that_signed_and_not_by_the_one_that_follows(tmp_path: Path) -> None:
    """Block 3 is sealed by the old set, in its order; block 4 carries that commit and is sealed by another set."""
    maker = ChainMaker(make_cluster(tmp_path, 4))
    telemetry = Telemetry(lambda: 0.0, lambda: 0)
    try:
        maker.add()
        maker.add([maker.bond(3, 5 * NANO_PER_GSN)])
        maker.add()
        sealed, commit = maker.add()
        old, new = maker.chain.validators(3), maker.chain.validators(4)
        assert old is not None and new is not None and old.validators != new.validators
        for height, members in ((3, old), (4, new)):
            strongest = max(range(4), key=lambda at: members.validators[at].power)
            slots = list(commit.slots)
            slots[strongest] = CommitSlot(CommitFlag.ABSENT, b"")
            carried = structs.replace(sealed, last_commit=structs.replace(commit, height=height, slots=tuple(slots)))
            telemetry.committed(carried, 1, 0, maker.chain.validators(height))
            families = telemetry.families(maker.chain.state.validators)
            assert value(families, "missing_validators") == 1
            assert value(families, "missing_validators_power") == members.validators[strongest].power
        assert value(families, "missing_validators_power") == 105
    finally:
        maker.chain.close()
