"""Signature checks, the only makers of `Verified…` inputs. Stateless: the driver may run them on other threads.

Every function raises `Rejection` and returns only what was signed. `verify_commit` checks every signature, also those
beyond two thirds: an unchecked signature that others rely on later has cost other chains dearly. `check` is the
signature scheme: PyNaCl's ed25519 in production (its verdicts are the protocol's), a cheap stand-in in most of the
simulator.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.tendermint import reasons
from consensus.tendermint.inputs import VerifiedCertificate, VerifiedProposal, VerifiedVote
from consensus.tendermint.proposer import ProposerSchedule
from consensus.tendermint.types import (
    NIL,
    NO_ROUND,
    Block,
    Certificate,
    Commit,
    CommitFlag,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    is_quorum,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES

SignatureCheck = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> valid?"""

ROUND_MAX = 1 << 31
PROPOSAL_ROUND_MAX = 10_000
"""Finding a round's proposer takes as many turns; no height gets anywhere near."""


def _member(validators: ValidatorSet, address: bytes) -> Validator:
    validator = validators.by_address(address)
    if validator is None:
        raise Rejection(reasons.UNKNOWN_VALIDATOR, f"{address.hex()} is not in the set")
    return validator


def verify_vote(
    chain_id: str, validators: ValidatorSet, vote: Vote, check: SignatureCheck = crypto.verify
) -> VerifiedVote:
    """Check a vote against its height's set. `Rejection` BAD_VOTE, UNKNOWN_VALIDATOR, BAD_VOTE_SIGNATURE."""
    if vote.height < 1 or not 0 <= vote.round < ROUND_MAX or len(vote.block_id) not in (len(NIL), HASH_BYTES):
        raise Rejection(reasons.BAD_VOTE, f"height {vote.height}, round {vote.round}, id of {len(vote.block_id)} bytes")
    validator = _member(validators, vote.validator)
    if not check(validator.public_key, vote_sign_bytes(chain_id, vote), vote.signature):
        raise Rejection(reasons.BAD_VOTE_SIGNATURE, f"of {vote.validator.hex()} at {vote.height}/{vote.round}")
    return VerifiedVote(vote, validator.public_key)


def verify_proposal(
    chain_id: str,
    validators: ValidatorSet | ProposerSchedule,
    proposal: Proposal,
    block: Block,
    received_ms: int,
    check: SignatureCheck = crypto.verify,
) -> VerifiedProposal:
    """Check a proposal and that it names this block and comes from the proposer of its round.

    `Rejection` BAD_PROPOSAL, WRONG_PROPOSER, BAD_PROPOSAL_SIGNATURE. The block's contents are for `ValidateValue`.
    """
    schedule = validators if isinstance(validators, ProposerSchedule) else ProposerSchedule(validators)
    if not (NO_ROUND <= proposal.valid_round < proposal.round <= PROPOSAL_ROUND_MAX):
        raise Rejection(reasons.BAD_PROPOSAL, f"round {proposal.round}, valid round {proposal.valid_round}")
    if block.header.height != proposal.height or block.header.chain_id != chain_id or block.id != proposal.block_id:
        raise Rejection(reasons.BAD_PROPOSAL, "it names another block than the one beside it")
    validator = _member(schedule.validators, proposal.proposer)
    if not check(validator.public_key, proposal_sign_bytes(chain_id, proposal), proposal.signature):
        raise Rejection(reasons.BAD_PROPOSAL_SIGNATURE, f"of {proposal.proposer.hex()}")
    if schedule.of(proposal.round) != proposal.proposer:  # last: a high round costs turns, and only members get here
        raise Rejection(reasons.WRONG_PROPOSER, f"{proposal.proposer.hex()} in round {proposal.round}")
    return VerifiedProposal(proposal, block, validator.public_key, received_ms)


def verify_certificate(
    chain_id: str, validators: ValidatorSet, certificate: Certificate, check: SignatureCheck = crypto.verify
) -> VerifiedCertificate:
    """Check every signature of a certificate, and its quorum. `Rejection` BAD_CERTIFICATE."""
    positions = [position for position, _ in certificate.signatures]
    if positions != sorted(set(positions)) or any(not 0 <= p < len(validators.validators) for p in positions):
        raise Rejection(reasons.BAD_CERTIFICATE, "positions are not rising or out of the set")
    if certificate.height < 1 or not 0 <= certificate.round < ROUND_MAX:
        raise Rejection(reasons.BAD_CERTIFICATE, f"height {certificate.height}, round {certificate.round}")
    if len(certificate.block_id) not in (len(NIL), HASH_BYTES):
        raise Rejection(reasons.BAD_CERTIFICATE, f"block id of {len(certificate.block_id)} bytes")
    if not is_quorum(sum(validators.validators[p].power for p in positions), validators.total_power):
        raise Rejection(reasons.BAD_CERTIFICATE, "not more than two thirds of the power signed")
    message = vote_sign_bytes(
        chain_id, Vote(certificate.kind, certificate.height, certificate.round, certificate.block_id, b"")
    )
    for position, signature in certificate.signatures:
        if not check(validators.validators[position].public_key, message, signature):
            raise Rejection(reasons.BAD_CERTIFICATE, f"the signature at position {position} does not verify")
    return VerifiedCertificate(certificate, validators.hash)


def verify_commit(
    chain_id: str, validators: ValidatorSet, commit: Commit, check: SignatureCheck = crypto.verify
) -> None:
    """`Rejection` BAD_COMMIT unless more than two thirds committed and *every* signature in it is good."""
    if len(commit.slots) != len(validators.validators) or not commit.block_id or commit.round < 0:
        raise Rejection(reasons.BAD_COMMIT, f"{len(commit.slots)} slots for {len(validators.validators)} validators")
    vote = Vote(VoteType.PRECOMMIT, commit.height, commit.round, commit.block_id, b"")
    messages = {
        CommitFlag.COMMIT: vote_sign_bytes(chain_id, vote),
        CommitFlag.NIL: vote_sign_bytes(chain_id, Vote(vote.kind, vote.height, vote.round, NIL, b"")),
    }
    power = 0
    for validator, slot in zip(validators.validators, commit.slots, strict=True):
        if slot.flag is CommitFlag.ABSENT:
            if slot.signature:
                raise Rejection(reasons.BAD_COMMIT, "a signature of an absent validator")
            continue
        if not check(validator.public_key, messages[slot.flag], slot.signature):
            raise Rejection(reasons.BAD_COMMIT, f"the signature of {validator.address.hex()} does not verify")
        power += validator.power if slot.flag is CommitFlag.COMMIT else 0
    if not is_quorum(power, validators.total_power):
        raise Rejection(reasons.BAD_COMMIT, f"power {power} of {validators.total_power} committed")
