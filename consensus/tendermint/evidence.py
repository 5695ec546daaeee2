"""Evidence of misbehaviour: when it proves something, when it is too old, and the pool that offers it to blocks.

Nothing inside evidence is trusted beyond the two signatures: power and time come from our own records.
"""

from __future__ import annotations

from consensus.tendermint import reasons
from consensus.tendermint.types import NIL, DuplicateVoteEvidence, Evidence, ValidatorSet, Vote, vote_sign_bytes
from consensus.tendermint.verify import ROUND_MAX, SignatureCheck
from gensyn_node.primitives import crypto, limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES, tagged_hash


class EvidenceParameters(Struct):
    """Evidence expires when it is older than *both*; neither may exceed the time that stakes take to unbond."""

    max_age_blocks: int = 100_000
    max_age_ms: int = 48 * 3_600_000


def evidence_id(evidence: Evidence) -> bytes:
    """Names the offence, not the proof: other signatures or block ids of the same double vote have the same id.

    Of evidence that passed `check_place`; nobody can have voted anywhere else.
    """
    vote = evidence.first
    place = b"".join(number.to_bytes(8, "little") for number in (vote.height, vote.round, int(vote.kind)))
    return tagged_hash("gensyn/evidence", vote.validator, place)


def verify_evidence(
    chain_id: str, validators: ValidatorSet, evidence: Evidence, check: SignatureCheck = crypto.verify
) -> None:
    """`Rejection` BAD_EVIDENCE unless it proves a double vote of a member of the set of its height."""
    check_place(evidence)
    first, second = evidence.first, evidence.second
    if _place(first) != _place(second):
        raise Rejection(reasons.BAD_EVIDENCE, "the two votes are not of one validator, height, round and kind")
    if not first.block_id < second.block_id:
        raise Rejection(reasons.BAD_EVIDENCE, "the votes are for the same block or in the wrong order")
    validator = validators.by_address(first.validator)
    if validator is None:
        raise Rejection(reasons.BAD_EVIDENCE, f"{first.validator.hex()} was no validator at {first.height}")
    for vote in (first, second):
        if len(vote.block_id) not in (len(NIL), HASH_BYTES):
            raise Rejection(reasons.BAD_EVIDENCE, f"a block id of {len(vote.block_id)} bytes")
        if not check(validator.public_key, vote_sign_bytes(chain_id, vote), vote.signature):
            raise Rejection(reasons.BAD_EVIDENCE, "a signature does not verify")


def check_place(evidence: Evidence) -> None:
    """`Rejection` BAD_EVIDENCE unless its height and round are possible. `evidence_id` needs that: ask this first."""
    vote = evidence.first
    if vote.height < 1 or not 0 <= vote.round < ROUND_MAX:
        raise Rejection(reasons.BAD_EVIDENCE, f"an offence at height {vote.height}, round {vote.round}")


def is_expired(
    parameters: EvidenceParameters, evidence_height: int, evidence_time_ms: int, height: int, time_ms: int
) -> bool:
    """Whether evidence of a block of then is too old for a block of now."""
    too_many_blocks = height - evidence_height > parameters.max_age_blocks
    return too_many_blocks and time_ms - evidence_time_ms > parameters.max_age_ms


def _place(vote: Vote) -> tuple[bytes, int, int, int]:
    return vote.validator, vote.height, vote.round, vote.kind


class EvidencePool:
    """Verified evidence that no block carries yet. Committed evidence never comes back."""

    def __init__(self) -> None:
        self._pending: dict[bytes, Evidence] = {}
        self._committed: dict[bytes, int] = {}

    def add(self, evidence: Evidence) -> bool:
        """Take verified evidence; False when it is known or was committed."""
        key = evidence_id(evidence)
        if key in self._pending or key in self._committed:
            return False
        self._pending[key] = evidence
        return True

    def is_committed(self, evidence: Evidence) -> bool:
        """Whether a block already carried this offence; such a block is invalid."""
        return evidence_id(evidence) in self._committed

    def pending(self) -> tuple[Evidence, ...]:
        """What to put into the next block, oldest offence first."""
        ordered = sorted(self._pending.items(), key=lambda item: (item[1].first.height, item[0]))
        return tuple(evidence for _, evidence in ordered[: limits.EVIDENCE_PER_BLOCK_MAX])

    def commit(self, evidence: tuple[DuplicateVoteEvidence, ...], forget_below: int) -> None:
        """After a block: its evidence is committed; records of offences below this height are dropped."""
        for item in evidence:
            key = evidence_id(item)
            self._pending.pop(key, None)
            self._committed[key] = item.first.height
        self._pending = {k: item for k, item in self._pending.items() if item.first.height >= forget_below}
        self._committed = {k: height for k, height in self._committed.items() if height >= forget_below}
