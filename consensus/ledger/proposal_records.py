"""What the ledger stores of governance: proposals, votes, and what is to come."""

from __future__ import annotations

from consensus.ledger.fields import Address, Count, Nano, Small, Text
from consensus.ledger.proposal_messages import Content, PlanUpgrade, Summary
from gensyn_node.primitives.codec import Struct

PROPOSAL_VOTING = "voting"
PROPOSAL_PASSED = "passed"
"""Accepted; it takes effect at `effect_height`."""
PROPOSAL_ENACTED = "enacted"
PROPOSAL_FAILED = "failed"
"""Accepted, but impossible when it was to take effect; nothing changed."""
PROPOSAL_REJECTED = "rejected"
PROPOSAL_NO_QUORUM = "no_quorum"
PROPOSAL_VETOED = "vetoed"
PROPOSAL_ENDED = (
    PROPOSAL_ENACTED,
    PROPOSAL_FAILED,
    PROPOSAL_REJECTED,
    PROPOSAL_NO_QUORUM,
    PROPOSAL_VETOED,
)


class Tally(Struct):
    """Stake behind each choice, and all stake that could have voted."""

    yes_nano: Nano = 0
    no_nano: Nano = 0
    abstain_nano: Nano = 0
    veto_nano: Nano = 0
    bonded_nano: Nano = 0

    @property
    def voted_nano(self) -> int:
        """Stake that voted, abstentions included."""
        return self.yes_nano + self.no_nano + self.abstain_nano + self.veto_nano


class Proposal(Struct):
    """A proposal, from its deposit to its effect."""

    number: Count
    proposer: Address
    title: Text
    summary: Summary
    content: Content
    state: Text
    """One of the PROPOSAL words."""
    deposit_nano: Nano
    """What is held; zero once it went back or was burnt."""
    submitted_height: Count
    voting_end_height: Count
    """Last block whose votes count."""
    effect_height: Count
    """First block under what it changes; 0 while it is not known, or when there is nothing to change."""
    tally: Tally
    """As counted at the end of the vote; zeros before."""
    votes: Count
    """Records of votes that are still stored."""
    why: Text
    """The code of why it failed, empty otherwise: words may change with a release, and every node stores the same."""


class Ballot(Struct):
    """The votes at one validator on one proposal."""

    choice: Small | None
    """The operator's choice, for all stake that did not vote itself."""
    own_units: tuple[Count, Count, Count, Count]
    """Units of delegators that voted themselves, by choice."""


class DelegatorVote(Struct):
    """A delegator's vote at one validator on one proposal."""

    choice: Small
    units: Count
    """Its units there now: they follow its delegation until the vote ends."""


class AgendaItem(Struct):
    """A proposal to be looked at when block `height` ends."""

    height: Count
    number: Count


class AppliedUpgrade(Struct):
    """An upgrade that the chain went through."""

    name: Text
    height: Count


class Governance(Struct):
    """What governance has under way. One record, read at each end of a block: nothing in it can be crowded out."""

    agenda: tuple[AgendaItem, ...] = ()
    """Votes to count and passed proposals to put into effect, soonest first."""
    voting: tuple[Count, ...] = ()
    """Proposals whose vote is open."""
    pruning: tuple[Count, ...] = ()
    """Ended proposals whose votes are still stored."""
    upgrade: PlanUpgrade | None = None
    """The next upgrade, if one is decided."""
    protocol: Small = 1
    """Protocol version in force."""
    upgrades: tuple[AppliedUpgrade, ...] = ()
    """The last upgrades gone through, oldest first."""
    evidence_floor: Count = 0
    """Offences below this height stay expired although the unbonding time was raised since."""
