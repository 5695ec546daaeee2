"""Building and checking blocks, except for what executing the transactions shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consensus import beacon
from consensus.tendermint import reasons
from consensus.tendermint.evidence import EvidencePool, check_place, offenders, verify_evidence
from consensus.tendermint.light_attack import ChainRecords, verify_light_attack
from consensus.tendermint.types import (
    Block,
    BlockId,
    Commit,
    DuplicateVoteEvidence,
    Evidence,
    Header,
    ValidatorSet,
)
from consensus.tendermint.verify import SignatureCheck
from consensus.tendermint.verify import verify_commit as verify_commit
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
    if sum(len(encode(item)) for item in block.evidence) > limits.EVIDENCE_BYTES_MAX:
        raise Rejection(reasons.BAD_BLOCK, f"evidence of more than {limits.EVIDENCE_BYTES_MAX} bytes")
    found = (data_root(block.transactions), evidence_root(block.evidence), commit_root(block.last_commit))
    if found != (header.data_root, header.evidence_root, header.last_commit_root):
        raise Rejection(reasons.BAD_BLOCK, "the contents do not hash to the header's roots")


def validate_block(
    tip: ChainTip,
    block: Block,
    *,
    evidence_validators: Callable[[Evidence], ValidatorSet | None],
    evidence_pool: EvidencePool,
    records: ChainRecords | None = None,
    check: SignatureCheck = crypto.verify,
    check_beacon: BeaconCheck = beacon.verify,
) -> None:
    """Everything about a block that does not need its execution; `Rejection` BAD_HEADER, BAD_BLOCK and others.

    `evidence_validators` gives the set of an offence's height, None when the offence is too old, unknown or punished.
    `records` is what attacks on light clients are judged by; without it a block must not carry any.
    """
    header = block.header
    _check_header(tip, header)
    check_roots(block)
    proposer = tip.validators.by_address(header.proposer)
    if proposer is None:
        raise Rejection(reasons.BAD_HEADER, f"{header.proposer.hex()} is no validator")
    check_beacon(proposer.public_key, beacon.beacon_input(tip.chain_id, tip.height, tip.beacon), header.beacon_proof)
    _check_last_commit(tip, block.last_commit, check)
    _check_evidence(tip.chain_id, block.evidence, evidence_validators, evidence_pool, records, check)


def _check_evidence(
    chain_id: str,
    evidence: Sequence[Evidence],
    evidence_validators: Callable[[Evidence], ValidatorSet | None],
    evidence_pool: EvidencePool,
    records: ChainRecords | None,
    check: SignatureCheck,
) -> None:
    """Each item proves an offence that is not punished yet, and nobody is accused twice in one block."""
    accused: set[bytes] = set()
    for item in evidence:
        check_place(item)
        named = offenders(item)
        if not accused.isdisjoint(named) or len(set(named)) < len(named):
            raise Rejection(reasons.BAD_EVIDENCE, "a validator is accused twice")
        validators = evidence_validators(item)
        if validators is None or evidence_pool.is_committed(item):
            raise Rejection(reasons.BAD_EVIDENCE, "the offence is too old, unknown or already punished")
        if isinstance(item, DuplicateVoteEvidence):
            verify_evidence(chain_id, validators, item, check)
        elif records is None:
            raise Rejection(reasons.BAD_EVIDENCE, "there are no records to judge an attack by")
        else:
            verify_light_attack(chain_id, validators, records, item, check, accused)
        accused.update(named)


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
