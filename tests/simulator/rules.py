"""The paper's rules once more, from the outside: what an honest core must have done with what it holds.

Written from Algorithm 1 of arXiv 1807.04938 and not from the round machine, which it is to check.
"""

from __future__ import annotations

from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.effects import Effect, SignProposal, SignVote
from consensus.tendermint.inputs import Input, Timeout, ValueValidated
from consensus.tendermint.round import RoundState, RoundStep
from consensus.tendermint.types import NIL, NO_ROUND, BlockId, Proposal, Step, Vote, VoteType
from tests.simulator.application import Violation

PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT


class Rules:
    """Of all honest cores of one run."""

    def __init__(self) -> None:
        self._entered: dict[int, int] = {}
        """Height -> highest round that an honest node was in."""
        self.built: set[BlockId] = set()
        """Blocks that honest nodes made."""

    def stepped(self, core: ConsensusCore, given: Input, before: RoundState, effects: list[Effect]) -> None:
        """After every input of an honest core. Raises `Violation`."""
        after = core.machine.state
        if after.height != before.height:
            self._entered.setdefault(after.height, 0)
        elif after.round != before.round:
            self._entered_round(given, before, after)
        match given:
            case ValueValidated(height, block_id, False) if height == after.height and block_id in self.built:
                raise Violation("an honest node built a block that is not valid")
        if after.step is not RoundStep.DECIDED:
            self._nothing_left(core, after)
        for effect in effects:
            match effect:
                case SignVote(vote):
                    self._vote(core, vote)
                case SignProposal(proposal):
                    self._proposal(after, proposal)

    def _entered_round(self, given: Input, before: RoundState, after: RoundState) -> None:
        """L55, L65: by a time-out into the next round, or to where somebody honest already is."""
        highest = self._entered.get(after.height, 0)
        by_timeout = isinstance(given, Timeout) and given.step is Step.PRECOMMIT and given.round == before.round
        if after.round > highest and not (by_timeout and after.round == before.round + 1):
            raise Violation(f"an honest node skipped to round {after.round}, where nobody honest is")
        self._entered[after.height] = max(highest, after.round)

    def _nothing_left(self, core: ConsensusCore, state: RoundState) -> None:
        """No rule whose condition holds is left undone."""
        machine, votes = core.machine, core.machine.votes
        for round, known in machine.proposals.items():
            value = votes.quorum(PRECOMMIT, round)
            if value and value in known and machine.validity.get(value):  # L49
                raise Violation(f"an honest node in round {state.round} knows the commit of round {round} and waits")
        polka = votes.quorum(PREVOTE, state.round)
        if state.step is RoundStep.PREVOTE and polka == NIL:  # L44
            raise Violation(f"an honest node ignores the nil polka of round {state.round}")
        known = machine.proposals.get(state.round, {})
        if polka and polka in known and machine.validity.get(polka) and state.step > RoundStep.PROPOSE:  # L36
            if (state.valid_value, state.valid_round) != (polka, state.round):
                raise Violation(f"an honest node does not remember the value of the polka of round {state.round}")
            if state.step is RoundStep.PREVOTE:
                raise Violation(f"an honest node does not precommit the value of the polka of round {state.round}")

    def _vote(self, core: ConsensusCore, vote: Vote) -> None:
        """L22, L28, L36: a vote for a value needs its proposal of this round, by the proposer of this round."""
        if vote.block_id == NIL:
            return
        proposal = core.proposals.get((vote.round, vote.block_id))
        if proposal is None:
            raise Violation(f"an honest vote in round {vote.round} for what was not proposed in it")
        if proposal.proposer != turns(core, vote.round):
            raise Violation(f"an honest vote in round {vote.round} for the proposal of somebody whose turn it was not")
        if vote.kind is PREVOTE and not core.machine.validity.get(vote.block_id):
            raise Violation("an honest prevote for a value not known to be valid")
        polka = vote.block_id
        if proposal.valid_round != NO_ROUND:
            polka = core.machine.votes.quorum(PREVOTE, proposal.valid_round)
        if vote.kind is PREVOTE and polka != vote.block_id:
            raise Violation(f"an honest prevote on the mere word that round {proposal.valid_round} had a polka")

    def _proposal(self, state: RoundState, proposal: Proposal) -> None:
        """L15: the value of the latest polka, if there was one."""
        if state.valid_value is not None and proposal.block_id != state.valid_value:
            raise Violation("an honest proposer passes over the value of a polka")


def turns(core: ConsensusCore, round: int) -> bytes:
    """The proposer of a round, by taking the turns one after the other."""
    validators = core.validators
    priorities = list(validators.priorities)
    chosen = validators.proposer
    if round:
        priorities = _within_bounds(priorities, validators.total_power)
    for _ in range(round):
        priorities = [p + v.power for p, v in zip(priorities, validators.validators, strict=True)]
        best = max(range(len(priorities)), key=lambda i: (priorities[i], _falling(validators.validators[i].address)))
        priorities[best] -= validators.total_power
        chosen = validators.validators[best].address
    return chosen


def _falling(address: bytes) -> bytes:
    """So that of equals the lower address is the greatest."""
    return bytes(255 - byte for byte in address)


def _within_bounds(priorities: list[int], total: int) -> list[int]:
    spread = max(priorities) - min(priorities)
    if spread > 2 * total:
        ratio = -(-spread // (2 * total))
        priorities = [int(abs(p) // ratio) * (1 if p >= 0 else -1) for p in priorities]
    average = sum(priorities) // len(priorities)
    return [p - average for p in priorities]
