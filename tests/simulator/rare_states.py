"""Rare states: named once here, counted when a run reaches one, and asserted to be reached by the tests."""

from __future__ import annotations

from collections import Counter

from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.effects import Effect, EvidenceFound, SignProposal, SignVote
from consensus.tendermint.evidence import evidence_height
from consensus.tendermint.inputs import Input, Timeout, VerifiedCertificate, VerifiedProposal, VerifiedVote
from consensus.tendermint.round import RoundState, RoundStep
from consensus.tendermint.types import NIL, NO_ROUND, Block, Step, ValidatorSet, VoteType
from tests.simulator.disk import OpenedLog

PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT

RARE_STATES = (
    # rounds
    "round 3 or above",
    "skip to a higher round by f+1",
    "a round of nil precommits",
    "proposal that came too late or too early",
    # locks
    "locked again on the same value in a later round",
    "lock moved to another value",
    "lock overruled by a later polka",
    "valid value without a lock on it",
    "value with a polka proposed again by another",
    "polka before its proposal",
    "two proposals of one round",
    # decisions
    "decision by the commit of an earlier round",
    "decision by certificate alone",
    "height taken over by block sync",
    # offences
    "double vote proven by a certificate",
    "evidence committed",
    "evidence of an earlier height committed",
    # crashes
    "crash between log and signature",
    "crash between signature and broadcast",
    "crash between decision and store",
    "crash between store and next log",
    "the whole network down at once",
    "restart with a lock",
    "torn log tail cut",
    "damaged log set aside",
    "validator sits out what it forgot",
    "signer refuses",
    "disk full",
    "machine frozen across a height",
    # the set
    "set change takes effect",
    "set changes in two heights in a row",
    "validator votes that was not in the genesis",
    "late starter reaches the head",
)
"""Of consensus and storage; an application has its own."""


class Coverage:
    """Counts."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._sets: dict[int, ValidatorSet] = {}

    def opened(self, log: OpenedLog, address: bytes) -> None:
        """An honest machine has started."""
        seen = self.seen
        seen["torn log tail cut"] += log.cut
        seen["damaged log set aside"] += log.damaged
        seen["validator sits out what it forgot"] += log.sits_out
        seen["restart with a lock"] += any(
            isinstance(record, VerifiedVote)
            and record.vote.validator == address
            and record.vote.kind is PRECOMMIT
            and record.vote.block_id != NIL
            for record in log.records
        )

    def starts(self, height: int, validators: ValidatorSet) -> None:
        """A height begins with this set."""
        if height in self._sets:
            return
        self._sets[height] = validators
        changed = [self._differs(height), self._differs(height - 1)]
        self.seen["set change takes effect"] += changed[0]
        self.seen["set changes in two heights in a row"] += all(changed)

    def _differs(self, height: int) -> bool:
        now, before = self._sets.get(height), self._sets.get(height - 1)
        return now is not None and before is not None and now.hash != before.hash

    def stepped(self, core: ConsensusCore, given: Input, before: RoundState, effects: list[Effect]) -> None:
        """An honest core took an input."""
        machine, seen = core.machine, self.seen
        after = machine.state
        if isinstance(given, VerifiedProposal) and given.proposal.height == after.height:
            self._proposed(core, given)
        for effect in effects:
            self._effect(effect, given, before, after)
        if after is before or after.height != before.height:
            return
        if after.round != before.round:
            seen["rounds entered"] += 1
            seen["round 3 or above"] += after.round >= 3
            seen["a round of nil precommits"] += machine.votes.quorum(PRECOMMIT, before.round) == NIL
            timed_out = isinstance(given, Timeout) and given.step is Step.PRECOMMIT
            seen["skip to a higher round by f+1"] += not timed_out
        if after.locked_round != before.locked_round and before.locked_round != NO_ROUND:
            same = after.locked_value == before.locked_value
            seen["locked again on the same value in a later round" if same else "lock moved to another value"] += 1
        if after.valid_round != before.valid_round and after.valid_round > after.locked_round:
            seen["valid value without a lock on it"] += 1
        if after.step is RoundStep.DECIDED and before.step is not RoundStep.DECIDED:
            seen["decisions"] += 1
            seen["decisions above round 0"] += after.decision_round > 0
            seen["decision by the commit of an earlier round"] += after.decision_round < before.round
            seen["decision by certificate alone"] += isinstance(given, VerifiedCertificate)

    def _proposed(self, core: ConsensusCore, given: VerifiedProposal) -> None:
        proposal, machine = given.proposal, core.machine
        known = machine.proposals.get(proposal.round, {})
        self.seen["two proposals of one round"] += len(known) > 1
        self.seen["polka before its proposal"] += machine.votes.quorum(PREVOTE, proposal.round) == proposal.block_id
        if (entry := known.get(proposal.block_id)) is not None:
            self.seen["proposal that came too late or too early"] += not entry.timely

    def _effect(self, effect: Effect, given: Input, before: RoundState, after: RoundState) -> None:
        match effect:
            case SignVote(vote) if vote.kind is PREVOTE and vote.block_id != NIL:
                overruled = before.height == after.height and before.locked_value not in (None, vote.block_id)
                self.seen["lock overruled by a later polka"] += overruled
            case SignProposal(proposal, block) if proposal.valid_round != NO_ROUND:
                self.seen["value with a polka proposed again by another"] += proposal.proposer != block.header.proposer
            case EvidenceFound():
                self.seen["evidence found"] += 1
                self.seen["double vote proven by a certificate"] += isinstance(given, VerifiedCertificate)

    def stored(self, block: Block) -> None:
        """An honest node executed a block."""
        self.seen["evidence committed"] += bool(block.evidence)
        old = any(evidence_height(item) < block.header.height - 1 for item in block.evidence)
        self.seen["evidence of an earlier height committed"] += old
