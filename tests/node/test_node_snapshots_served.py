"""Who asks for a snapshot that is gone has done nothing wrong."""

from __future__ import annotations

from consensus.statesync.fetch import FAILURES_MAX, PER_PEER
from consensus.statesync.reasons import NO_SNAPSHOT
from gensyn_node.primitives.errors import Rejection
from p2p.scoring import ScoreBoard


def test_a_newcomer_whose_snapshot_was_replaced_while_it_downloads_is_not_banned() -> None:
    board = ScoreBoard(60.0)
    for _ in range(FAILURES_MAX + PER_PEER):  # as many as it asks before it gives up
        assert board.charge("newcomer", Rejection(NO_SNAPSHOT, "of height 40"), 0.0) is None
