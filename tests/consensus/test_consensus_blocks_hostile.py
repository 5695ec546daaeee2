"""Blocks of a hostile proposer: refused with a reason, never with another error."""

from __future__ import annotations

import pytest
from msgspec import structs
from test_consensus_blocks import CHAIN, NAMES, SET, double_vote, good_block, reason

from consensus.tendermint.evidence import verify_evidence
from consensus.tendermint.types import DuplicateVoteEvidence
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection


def misplaced(**place: int) -> DuplicateVoteEvidence:
    """A double vote at a place where nobody can vote."""
    good = double_vote(NAMES[0])
    return DuplicateVoteEvidence(structs.replace(good.first, **place), structs.replace(good.second, **place))


@pytest.mark.parametrize(
    "place", [{"round": -1}, {"height": -1}, {"height": 0}, {"round": (1 << 64) - 1}, {"height": -1, "round": -1}]
)
def test_evidence_of_an_impossible_place_is_refused(place: dict[str, int]) -> None:
    assert reason(good_block(evidence=(misplaced(**place),))) == "bad_evidence"
    with pytest.raises(Rejection):
        verify_evidence(CHAIN, SET, misplaced(**place))


def test_a_block_of_countless_tiny_transactions_is_refused() -> None:
    assert reason(good_block(transactions=(b"",) * (limits.BLOCK_TRANSACTIONS_MAX + 1))) == "bad_block"
