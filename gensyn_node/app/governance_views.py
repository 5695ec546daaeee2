"""Pure: proposals and what governance has under way, as the shapes that the RPC server answers with."""

from __future__ import annotations

from consensus.ledger import proposal_queries, queries
from consensus.ledger.block import Reader
from consensus.ledger.proposal_messages import CHOICES
from consensus.ledger.proposal_records import PROPOSAL_ENDED, Proposal
from consensus.ledger.upgrades import Upgrades
from gensyn_node.primitives.errors import REASONS
from gensyn_node.rpc import backend as rpc
from gensyn_node.rpc.json_view import snake_case


def proposal_view(reader: Reader, proposal: Proposal, height: int) -> rpc.ProposalView:
    """A proposal with its count: the present one while the vote is open."""
    standing = proposal_queries.standing(reader, proposal)
    parameters = queries.parameters(reader)
    return rpc.ProposalView(
        number=proposal.number,
        kind=snake_case(type(proposal.content).__name__),
        state=proposal.state,
        final=proposal.state in PROPOSAL_ENDED,
        title=proposal.title,
        summary=proposal.summary,
        proposer=proposal.proposer,
        content=proposal.content,
        deposit_nano=proposal.deposit_nano,
        submitted_height=proposal.submitted_height,
        voting_end_height=proposal.voting_end_height,
        effect_height=proposal.effect_height,
        blocks_left=max(0, proposal.voting_end_height - height),
        tally=standing.tally,
        quorum_nano=standing.quorum_nano,
        threshold_bps=parameters.threshold_bps,
        veto_bps=parameters.veto_bps,
        outcome=standing.outcome,
        why=f"{proposal.why}: {REASONS[proposal.why].meaning}" if proposal.why in REASONS else proposal.why,
    )


def governance_view(reader: Reader, known: Upgrades) -> rpc.GovernanceView:
    """What is under way, and whether this node can go through the planned upgrade."""
    governance = proposal_queries.governance(reader)
    plan = governance.upgrade
    return rpc.GovernanceView(
        protocol=governance.protocol,
        treasury_nano=queries.supply(reader).treasury_nano,
        voting=governance.voting,
        upgrade=plan,
        upgrade_known=plan is None or (plan.name in known and known[plan.name].protocol == plan.protocol),
        upgrades=governance.upgrades,
    )


def voting_places(reader: Reader, number: int, account: bytes) -> tuple[rpc.VotingPlaceView, ...]:
    """Where an account can vote on a proposal."""
    return tuple(
        rpc.VotingPlaceView(
            validator=place.validator,
            as_operator=place.as_operator,
            stake_nano=place.stake_nano,
            choice="" if place.choice is None else CHOICES[place.choice],
        )
        for place in proposal_queries.voting_places(reader, number, account)
    )
