"""Messages of the next height that came before we got there.

They wait at the driver, not in the core: when their height starts, the driver logs and feeds them like any other input.
Inside the core they would take effect without being in the log of their height, and a vote that they caused could not
be rebuilt after a crash.
"""

from __future__ import annotations

from consensus.tendermint.inputs import Input, VerifiedProposal, VerifiedVote

EARLY_VOTES_MAX = 4
"""Votes of one validator that wait; more are dropped, catch-up brings them again."""
EARLY_PROPOSALS_MAX = 2
"""Proposals (with their blocks) that wait, of round 0 only."""


class EarlyMessages:
    """Bounded by validator, so that one of them cannot crowd out the others."""

    def __init__(self) -> None:
        self._votes: dict[bytes, list[VerifiedVote]] = {}
        self._proposals: list[VerifiedProposal] = []

    def offer(self, given: Input, height: int) -> bool:
        """Whether this message is of the next height; if so it waits here, or is dropped beyond the bounds."""
        match given:
            case VerifiedVote(vote) if vote.height == height + 1:
                waiting = self._votes.setdefault(vote.validator, [])
                if len(waiting) < EARLY_VOTES_MAX and given not in waiting:
                    waiting.append(given)
                return True
            case VerifiedProposal(proposal) if proposal.height == height + 1:
                if proposal.round == 0 and len(self._proposals) < EARLY_PROPOSALS_MAX:
                    self._proposals.append(given)
                return True
        return False

    def take(self) -> list[Input]:
        """Everything that waits, to be logged and fed now that the next height has started."""
        taken: list[Input] = [*self._proposals]
        for waiting in self._votes.values():
            taken.extend(waiting)
        self._votes, self._proposals = {}, []
        return taken
