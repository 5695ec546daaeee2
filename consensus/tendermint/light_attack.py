"""Attacks on light clients: who can be blamed for a false header, by the chain's own records alone.

Three kinds (CometBFT's names). *Lunatic*: the header contradicts what the chain before it determines, so no honest
validator can have signed it: `LightClientAttackEvidence`. *Equivocation*: a second header that the chain could have
had, signed in the round of the true one: whoever signed both has voted twice, which is `DuplicateVoteEvidence`.
*Amnesia*: a second header signed in another round: that is no offence by itself (a lock may have been released by the
rules), and without all validators' message logs nobody can be named, here as in CometBFT.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from consensus.tendermint import reasons
from consensus.tendermint.types import (
    Commit,
    CommitFlag,
    CommitSlot,
    DuplicateVoteEvidence,
    Header,
    LightClientAttackEvidence,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    has_honest,
)
from consensus.tendermint.validators import members_fault
from consensus.tendermint.verify import ROUND_MAX, SignatureCheck, verify_commit
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import Rejection

DETERMINED = ("validators_hash", "next_validators_hash", "app_hash", "results_root")
"""What a header says that its proposer had no choice about: the chain before it determines them."""


class ChainRecords(Protocol):
    """What a node's own chain says about the past."""

    def header(self, height: int) -> Header | None:
        """The chain's header of a height; None when this node does not have it."""

    def is_punishable(self, validator: bytes, height: int) -> bool:
        """Whether the ledger has something left to take from a validator for an offence at `height`."""


def is_lunatic(true: Header, false: Header) -> bool:
    """Whether no honest validator can have voted for `false`, given the chain's header of its height."""
    return any(getattr(true, name) != getattr(false, name) for name in DETERMINED)


def as_set(members: tuple[Validator, ...]) -> ValidatorSet:
    """The members as a set whose rotation is not known; only for hashes and for checking commits."""
    return ValidatorSet(members, (0,) * len(members), members[0].address if members else b"")


def signed_power(members: tuple[Validator, ...], validators: tuple[Validator, ...], commit: Commit) -> int:
    """Power, as `members` count it, of those of them whose keys signed a commit of the set `validators`."""
    power_of = {member.public_key: member.power for member in members}
    return sum(
        power_of.pop(validator.public_key, 0)
        for validator, slot in zip(validators, commit.slots, strict=True)
        if slot.flag is CommitFlag.COMMIT
    )


def verify_light_attack(
    chain_id: str,
    common: ValidatorSet,
    records: ChainRecords,
    evidence: LightClientAttackEvidence,
    check: SignatureCheck = crypto.verify,
    accused: Collection[bytes] = (),
) -> None:
    """`Rejection` BAD_EVIDENCE unless it proves a lunatic attack and accuses exactly those who can be punished for it.

    `common` is the chain's set of the height after the common one; `accused` are those whom the same block accuses
    before.
    """
    found = tuple(name for name in lunatic_offenders(chain_id, common, records, evidence, check) if name not in accused)
    if not found or found != evidence.byzantine:
        raise Rejection(
            reasons.BAD_EVIDENCE, f"it accuses {len(evidence.byzantine)}, the records give {len(found)} to punish"
        )


def lunatic_offenders(
    chain_id: str,
    common: ValidatorSet,
    records: ChainRecords,
    evidence: LightClientAttackEvidence,
    check: SignatureCheck = crypto.verify,
) -> tuple[bytes, ...]:
    """Addresses, rising, of those that a false header proves to have lied and that are not punished yet.

    `Rejection`: EVIDENCE_OUT_OF_REACH when this chain does not have the height; BAD_EVIDENCE when it proves nothing.
    """
    header, commit = evidence.header, evidence.commit
    check_sealed(chain_id, header, commit, evidence.validators)
    true = records.header(header.height)
    if true is None:
        raise Rejection(reasons.EVIDENCE_OUT_OF_REACH, f"there is no header {header.height} here")
    if not is_lunatic(true, header):
        raise Rejection(reasons.BAD_EVIDENCE, "the header contradicts nothing that the chain determines")
    signed = signed_power(common.validators, evidence.validators, commit)
    if not has_honest(signed, common.total_power):
        raise Rejection(reasons.BAD_EVIDENCE, f"power {signed} of {common.total_power} could fool nobody")
    keys = {
        validator.public_key
        for validator, slot in zip(evidence.validators, commit.slots, strict=True)
        if slot.flag is CommitFlag.COMMIT
    }
    height = evidence.common_height + 1
    found = sorted(
        member.address
        for member in common.validators
        if member.public_key in keys and records.is_punishable(member.address, height)
    )
    if found:  # the chain carries what was punished: anybody could have its signatures checked again and again
        verify_commit(chain_id, as_set(evidence.validators), commit, check)
    return tuple(found)


def check_sealed(chain_id: str, header: Header, commit: Commit, validators: tuple[Validator, ...]) -> None:
    """`Rejection` BAD_EVIDENCE unless header, commit and set belong together. No signature is looked at."""
    if header.chain_id != chain_id or (commit.height, commit.block_id) != (header.height, header.id):
        raise Rejection(reasons.BAD_EVIDENCE, "the commit is not of this header, or it is of another chain")
    if not 0 <= commit.round < ROUND_MAX or len(commit.slots) != len(validators):
        raise Rejection(reasons.BAD_EVIDENCE, f"round {commit.round}, {len(commit.slots)} slots")
    if (fault := members_fault(validators)) or as_set(validators).hash != header.validators_hash:
        raise Rejection(reasons.BAD_EVIDENCE, fault or "the set is not the one that the header names")


def double_votes(
    validators: ValidatorSet, true: Commit, header: Header, false: Commit
) -> tuple[DuplicateVoteEvidence, ...]:
    """The double votes in two commits of one height, round and set; none for commits of two rounds (amnesia)."""
    if true.height != false.height or true.round != false.round or true.block_id == false.block_id:
        return ()
    if header.validators_hash != validators.hash or len(true.slots) != len(false.slots):
        return ()
    found = []
    for validator, ours, theirs in zip(validators.validators, true.slots, false.slots, strict=True):
        if ours.flag is CommitFlag.COMMIT and theirs.flag is CommitFlag.COMMIT:
            votes = [_precommit(true, validator, ours), _precommit(false, validator, theirs)]
            found.append(DuplicateVoteEvidence(*sorted(votes, key=lambda vote: vote.block_id)))
    return tuple(found)


def _precommit(commit: Commit, validator: Validator, slot: CommitSlot) -> Vote:
    return Vote(VoteType.PRECOMMIT, commit.height, commit.round, commit.block_id, validator.address, slot.signature)
