"""Building and checking blocks and commits, except for what executing the transactions shows.

`verify_commit` checks every signature, also those beyond two thirds: an unchecked signature that others rely on later
has cost other chains dearly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consensus import beacon
from consensus.tendermint import reasons
from consensus.tendermint.evidence import EvidencePool, check_place, evidence_id, verify_evidence
from consensus.tendermint.types import (
    NIL,
    Block,
    BlockId,
    Commit,
    CommitFlag,
    Evidence,
    Header,
    ValidatorSet,
    Vote,
    VoteType,
    is_quorum,
    vote_sign_bytes,
)
from consensus.tendermint.verify import SignatureCheck
from gensyn_node.primitives import crypto, limits
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256, tagged_hash
from proofs import merkle

BeaconCheck = Callable[[bytes, bytes, bytes], bytes]
"""(public key, input, proof) -> output; raises `Rejection`."""


@dataclass(frozen=True, slots=True)
class ChainTip:
    """What the block at `height` has to follow from."""

    chain_id: str
    height: int
    previous_block_id: BlockId
    previous_time_ms: int
    app_hash: bytes
    """After the previous block."""
    results_root: bytes
    """Of the previous block."""
    beacon: bytes
    """After the previous block."""
    validators: ValidatorSet
    next_validators_hash: bytes
    last_validators: ValidatorSet | None
    """The set that signed the previous block; None at height 1."""


def data_root(transactions: Sequence[bytes]) -> bytes:
    """RFC 6962 root; each leaf is the SHA-256 of a transaction, so that inclusion proofs stay small."""
    return merkle.root([sha256(transaction) for transaction in transactions])


def evidence_root(evidence: Sequence[Evidence]) -> bytes:
    """RFC 6962 root over the encoded evidence."""
    return merkle.root([encode(item) for item in evidence])


def commit_root(commit: Commit | None) -> bytes:
    """Hash of a commit with all its signatures; of nothing at height 1."""
    return tagged_hash("gensyn/commit", *(() if commit is None else (encode(commit),)))


def build_block(
    tip: ChainTip,
    *,
    proposer: bytes,
    time_ms: int,
    transactions: tuple[bytes, ...],
    last_commit: Commit | None,
    evidence: tuple[Evidence, ...],
    beacon_proof: bytes,
) -> Block:
    """The block that `proposer` proposes on this tip. Its time is raised above the previous block's if needed."""
    header = Header(
        chain_id=tip.chain_id,
        height=tip.height,
        time_ms=max(time_ms, tip.previous_time_ms + 1),
        previous_block_id=tip.previous_block_id,
        last_commit_root=commit_root(last_commit),
        data_root=data_root(transactions),
        evidence_root=evidence_root(evidence),
        app_hash=tip.app_hash,
        results_root=tip.results_root,
        validators_hash=tip.validators.hash,
        next_validators_hash=tip.next_validators_hash,
        proposer=proposer,
        beacon_proof=beacon_proof,
    )
    return Block(header, transactions, last_commit, evidence)


def check_roots(block: Block) -> None:
    """`Rejection` BAD_BLOCK unless the header commits to exactly these contents, within their bounds."""
    header = block.header
    if len(block.transactions) > limits.BLOCK_TRANSACTIONS_MAX:
        raise Rejection(reasons.BAD_BLOCK, f"{len(block.transactions)} transactions")
    if sum(map(len, block.transactions)) > limits.BLOCK_BYTES_MAX:
        raise Rejection(reasons.BAD_BLOCK, f"transactions of more than {limits.BLOCK_BYTES_MAX} bytes")
    if len(block.evidence) > limits.EVIDENCE_PER_BLOCK_MAX:
        raise Rejection(reasons.BAD_BLOCK, f"{len(block.evidence)} pieces of evidence")
    found = (data_root(block.transactions), evidence_root(block.evidence), commit_root(block.last_commit))
    if found != (header.data_root, header.evidence_root, header.last_commit_root):
        raise Rejection(reasons.BAD_BLOCK, "the contents do not hash to the header's roots")


def validate_block(
    tip: ChainTip,
    block: Block,
    *,
    evidence_validators: Callable[[Evidence], ValidatorSet | None],
    evidence_pool: EvidencePool,
    check: SignatureCheck = crypto.verify,
    check_beacon: BeaconCheck = beacon.verify,
) -> None:
    """Everything about a block that does not need its execution; `Rejection` BAD_HEADER, BAD_BLOCK and others.

    `evidence_validators` gives the set of an offence's height, None when the offence is too old or unknown.
    """
    header = block.header
    _check_header(tip, header)
    check_roots(block)
    proposer = tip.validators.by_address(header.proposer)
    if proposer is None:
        raise Rejection(reasons.BAD_HEADER, f"{header.proposer.hex()} is no validator")
    check_beacon(proposer.public_key, beacon.beacon_input(tip.chain_id, tip.height, tip.beacon), header.beacon_proof)
    _check_last_commit(tip, block.last_commit, check)
    for item in block.evidence:
        check_place(item)
    if len({evidence_id(item) for item in block.evidence}) != len(block.evidence):
        raise Rejection(reasons.BAD_EVIDENCE, "an offence is named twice")
    for item in block.evidence:
        validators = evidence_validators(item)
        if validators is None or evidence_pool.is_committed(item):
            raise Rejection(reasons.BAD_EVIDENCE, "the offence is too old, unknown or already punished")
        verify_evidence(tip.chain_id, validators, item, check)


def _check_header(tip: ChainTip, header: Header) -> None:
    expected = {
        "chain_id": tip.chain_id,
        "height": tip.height,
        "previous_block_id": tip.previous_block_id,
        "app_hash": tip.app_hash,
        "results_root": tip.results_root,
        "validators_hash": tip.validators.hash,
        "next_validators_hash": tip.next_validators_hash,
    }
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise Rejection(reasons.BAD_HEADER, f"{name} does not follow from the chain")
    if header.time_ms <= tip.previous_time_ms:
        raise Rejection(reasons.BAD_HEADER, f"time {header.time_ms} does not rise above {tip.previous_time_ms}")


def _check_last_commit(tip: ChainTip, commit: Commit | None, check: SignatureCheck) -> None:
    if tip.last_validators is None or commit is None:
        if tip.last_validators is not None or commit is not None:
            raise Rejection(reasons.BAD_COMMIT, "only the first block has no last commit")
        return
    if (commit.height, commit.block_id) != (tip.height - 1, tip.previous_block_id):
        raise Rejection(reasons.BAD_COMMIT, "the last commit is not of the previous block")
    verify_commit(tip.chain_id, tip.last_validators, commit, check)


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
