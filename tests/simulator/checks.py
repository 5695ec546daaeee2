"""The promises of the protocol, checked at every event that could break one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from consensus.tendermint.block import verify_commit
from consensus.tendermint.evidence import evidence_id, offenders, verify_evidence
from consensus.tendermint.types import (
    NIL,
    Block,
    BlockId,
    Commit,
    CommitFlag,
    DuplicateVoteEvidence,
    Proposal,
    ValidatorSet,
    Vote,
    VoteType,
)
from consensus.tendermint.verify import SignatureCheck
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from tests.simulator.application import BAD, CHAIN, Violation

PREVOTE = VoteType.PREVOTE


@dataclass
class Checks:
    """Sees what honest nodes sign, decide, store and prove; raises `Violation`."""

    honest: set[bytes]
    check: SignatureCheck
    decided: dict[int, BlockId] = field(default_factory=dict)
    roots: dict[int, bytes] = field(default_factory=dict)
    sets: dict[int, ValidatorSet] = field(default_factory=dict)
    decisions: int = 0
    _signed: dict[tuple[Any, ...], tuple[Any, ...]] = field(default_factory=dict)
    _prevoted: dict[tuple[int, int], dict[bytes, BlockId]] = field(default_factory=lambda: defaultdict(dict))
    _precommits: dict[tuple[bytes, int], dict[int, BlockId]] = field(default_factory=lambda: defaultdict(dict))
    _heard: dict[int, dict[tuple[Any, ...], Vote]] = field(default_factory=lambda: defaultdict(dict))
    _provable: dict[int, dict[bytes, tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(dict))
    _punished: set[bytes] = field(default_factory=set)
    _accused: set[bytes] = field(default_factory=set)
    _executed: set[int] = field(default_factory=set)

    def signed(self, address: bytes, message: Vote | Proposal) -> None:
        """An honest validator made this signature: never two at one place, and never against its lock."""
        if isinstance(message, Vote):
            kind, content = message.kind.name, (message.block_id,)
        else:
            kind, content = "proposal", (message.block_id, message.valid_round)
        place = (address, message.height, message.round, kind)
        if self._signed.setdefault(place, content) != content:
            raise Violation(f"an honest validator signed two values at {place[1:]}")
        if isinstance(message, Vote):
            self._voted(message)

    def _voted(self, vote: Vote) -> None:
        own = self._precommits[vote.validator, vote.height]
        if vote.kind is not PREVOTE:
            if vote.block_id != NIL:
                own[vote.round] = vote.block_id
            return
        self._prevoted[vote.height, vote.round][vote.validator] = vote.block_id
        locked = max((round for round in own if round < vote.round), default=None)
        if vote.block_id == NIL or locked is None or own[locked] == vote.block_id:
            return
        if not any(self._polka_possible(vote, round) for round in range(locked, vote.round)):
            raise Violation(f"an honest validator locked in round {locked} prevoted another value at {vote.round}")

    def _polka_possible(self, vote: Vote, round: int) -> bool:
        """Whether what honest validators prevoted there, with all other power, makes a quorum for this value."""
        validators = self.sets[vote.height]
        prevotes = self._prevoted[vote.height, round]
        power = sum(
            validator.power
            for validator in validators.validators
            if validator.address not in self.honest or prevotes.get(validator.address) == vote.block_id
        )
        return 3 * power > 2 * validators.total_power

    def starts(self, height: int, validators: ValidatorSet) -> None:
        """An honest node begins a height with this set, rotation included: the same for everybody."""
        if self.sets.setdefault(height, validators) != validators:
            raise Violation(f"two validator sets at height {height}")

    def storing(self, block: Block, commit: Commit, validators: ValidatorSet) -> None:
        """An honest node takes a block as final."""
        height = block.header.height
        if self.decided.setdefault(height, block.id) != block.id:
            raise Violation(f"two blocks were decided at height {height}")
        if any(BAD in transaction for transaction in block.transactions):
            raise Violation(f"an invalid block was decided at height {height}")
        if commit.block_id != block.id or commit.height != height:
            raise Violation(f"height {height} was decided with the commit of another block")
        try:
            verify_commit(CHAIN, validators, commit, self.check)
        except Rejection as rejection:
            raise Violation(f"height {height} was decided with a bad commit: {rejection}") from None
        pairs = zip(validators.validators, commit.slots, strict=True)
        power = sum(validator.power for validator, slot in pairs if slot.flag is CommitFlag.COMMIT)
        if 3 * power <= 2 * sum(validator.power for validator in validators.validators):
            raise Violation(f"height {height} was decided by {power} of {validators.total_power}")
        self.decisions += 1

    def stored(self, node: int, block: Block, state_root: bytes) -> None:
        """An honest node has executed a block: same state for all, nobody honest accused, nobody twice."""
        height = block.header.height
        if self.roots.setdefault(height, state_root) != state_root:
            raise Violation(f"two states after height {height}")
        if self.honest & {name for item in block.evidence for name in offenders(item)}:
            raise Violation(f"an honest validator is accused in block {height}")
        if height not in self._executed:
            self._executed.add(height)
            ids = [evidence_id(item) for item in block.evidence]
            if len(set(ids)) != len(ids) or self._punished & set(ids):
                raise Violation(f"block {height} punishes an offence again")
            self._punished.update(ids)
            self._accused.update(name for item in block.evidence for name in offenders(item))
        for item in block.evidence:
            self._provable[node].pop(evidence_id(item), None)

    def received(self, node: int, vote: Vote, current_round: int) -> None:
        """An honest node was fed a vote of its height: a second one of one place must have made evidence."""
        if vote.round > current_round:
            return  # of rounds to come it keeps a bounded number
        place = (vote.validator, vote.height, vote.round, vote.kind)
        first = self._heard[node].setdefault(place, vote)
        if first.block_id == vote.block_id:
            return
        name = evidence_id(DuplicateVoteEvidence(first, vote))
        if name not in self._provable[node] and name not in self._punished:
            raise Violation(f"an honest node saw a double vote at {place[1:]} and kept no proof of it")

    def found(self, node: int, evidence: DuplicateVoteEvidence) -> None:
        """An honest node has proof of an offence."""
        if evidence.first.validator in self.honest:
            raise Violation("evidence against an honest validator")
        try:
            verify_evidence(CHAIN, self.sets[evidence.first.height], evidence, self.check)
        except Rejection as rejection:
            raise Violation(f"an honest node has evidence that proves nothing: {rejection}") from None
        self._provable[node][evidence_id(evidence)] = (evidence.first.height, evidence.first.validator)

    def built(self, node: int, block: Block) -> None:
        """A block that an honest node makes accuses everybody whom the node can prove guilty and no block accused."""
        accused = {name for item in block.evidence for name in offenders(item)} | self._accused
        height = block.header.height
        guilty = {validator for offence, validator in self._provable[node].values() if offence < height}
        if guilty - accused and len(block.evidence) < limits.EVIDENCE_PER_BLOCK_MAX:
            raise Violation(f"a block of height {height} leaves out an offence that its honest builder can prove")

    def crashed(self, node: int) -> None:
        """What only the memory of this node could prove is gone."""
        self._provable[node].clear()
        self._heard[node].clear()

    def height_over(self, node: int) -> None:
        """Votes of the height before are of no interest any more."""
        self._heard[node].clear()
