"""Durations of consensus. Waiting grows with the round without bound, so that in the end it outlasts any delay."""

from __future__ import annotations

from consensus.tendermint.types import Step
from gensyn_node.primitives.codec import Struct

MESSAGE_DELAY_GROWTH_ROUNDS_MAX = 64
"""The timely bound stops growing here: it is hours by then."""


class ConsensusParameters(Struct):
    """Milliseconds. Time-outs may differ between nodes; precision and message delay must be the chain's."""

    propose_ms: int = 3_000
    propose_growth_ms: int = 500
    vote_ms: int = 1_000
    vote_growth_ms: int = 500
    precision_ms: int = 505
    """How far honest clocks are apart."""
    message_delay_ms: int = 15_000
    """How long a proposal may travel in round 0."""

    def timeout_ms(self, step: Step, round: int) -> int:
        """The paper's timeoutPropose(r), timeoutPrevote(r), timeoutPrecommit(r): linear in the round."""
        if step is Step.PROPOSE:
            return self.propose_ms + self.propose_growth_ms * round
        return self.vote_ms + self.vote_growth_ms * round

    def timely(self, time_ms: int, received_ms: int, round: int) -> bool:
        """Proposer-based time: received neither before the block's time nor too long after it.

        The allowed delay grows by a tenth per round, so that a wrong bound cannot stop the chain.
        """
        growth = min(round, MESSAGE_DELAY_GROWTH_ROUNDS_MAX)
        delay = self.message_delay_ms * 11**growth // 10**growth
        return time_ms <= received_ms + self.precision_ms and received_ms <= time_ms + delay + self.precision_ms
