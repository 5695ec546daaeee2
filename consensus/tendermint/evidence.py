"""Evidence of misbehaviour: when it proves something, when it is too old, and the pool that offers it to blocks.

Nothing inside evidence is trusted beyond the two signatures: power and time come from our own records.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from consensus.tendermint import reasons
from consensus.tendermint.types import (
    NIL,
    DuplicateVoteEvidence,
    Evidence,
    LightClientAttackEvidence,
    ValidatorSet,
    Vote,
    vote_sign_bytes,
)
from consensus.tendermint.verify import ROUND_MAX, SignatureCheck
from gensyn_node.primitives import crypto, limits
from gensyn_node.primitives.codec import Struct, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES, tagged_hash


class EvidenceParameters(Struct):
    """Evidence expires when it is older than *both*; neither may exceed the time that stakes take to unbond."""

    max_age_blocks: int = 100_000
    max_age_ms: int = 48 * 3_600_000


PENDING_MAX = 1_024
"""Evidence waiting for a block."""
PENDING_PER_VALIDATOR_MAX = 64
"""Of these against one validator: its key can sign as many double votes as it likes, and the first one punishes it."""


def evidence_id(evidence: Evidence) -> bytes:
    """Names the offence, not the proof: other signatures or block ids of the same double vote have the same id.

    An attack is named by its header and whom it accuses: another commit of the header may accuse others.

    Of evidence that passed `check_place`; nobody can have voted anywhere else.
    """
    if isinstance(evidence, LightClientAttackEvidence):
        return tagged_hash("gensyn/light-attack", evidence.header.id, *evidence.byzantine)
    vote = evidence.first
    place = b"".join(number.to_bytes(8, "little") for number in (vote.height, vote.round, int(vote.kind)))
    return tagged_hash("gensyn/evidence", vote.validator, place)


def evidence_height(evidence: Evidence) -> int:
    """The height whose validators answer for the offence: by it evidence ages, and stake is slashed."""
    if isinstance(evidence, LightClientAttackEvidence):
        return evidence.common_height + 1
    return evidence.first.height


def offenders(evidence: Evidence) -> tuple[bytes, ...]:
    """Addresses of the validators that it accuses."""
    if isinstance(evidence, LightClientAttackEvidence):
        return evidence.byzantine
    return (evidence.first.validator,)


def verify_evidence(
    chain_id: str, validators: ValidatorSet, evidence: DuplicateVoteEvidence, check: SignatureCheck = crypto.verify
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
    if isinstance(evidence, LightClientAttackEvidence):
        if not 0 <= evidence.common_height < evidence.header.height:
            raise Rejection(
                reasons.BAD_EVIDENCE, f"a header {evidence.header.height} after height {evidence.common_height}"
            )
        return
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
        """Take verified evidence; False when it is known, was committed, or there is too much of its kind."""
        key = evidence_id(evidence)
        if key in self._pending or key in self._committed or len(self._pending) >= PENDING_MAX:
            return False
        named = set(offenders(evidence))
        if sum(not named.isdisjoint(offenders(other)) for other in self._pending.values()) >= PENDING_PER_VALIDATOR_MAX:
            return False
        self._pending[key] = evidence
        return True

    def is_committed(self, evidence: Evidence) -> bool:
        """Whether a block already carried this offence; such a block is invalid."""
        return evidence_id(evidence) in self._committed

    def all(self) -> tuple[Evidence, ...]:
        """Everything pending, oldest offence first."""
        ordered = sorted(self._pending.items(), key=lambda item: (evidence_height(item[1]), item[0]))
        return tuple(evidence for _, evidence in ordered)

    def pending(self, is_punishable: Callable[[bytes, int], bool] | None = None) -> tuple[Evidence, ...]:
        """What to put into the next block, oldest offence first, each validator named once.

        `is_punishable(validator, height)`: whether the ledger still has something to take for an offence of then.
        """
        accused: set[bytes] = set()
        chosen: list[Evidence] = []
        size = 0
        for item in self.all():
            height = evidence_height(item)
            left = tuple(
                name
                for name in offenders(item)
                if name not in accused and (is_punishable is None or is_punishable(name, height))
            )
            if not left:
                continue
            narrowed = structs.replace(item, byzantine=left) if isinstance(item, LightClientAttackEvidence) else item
            size += len(encode(narrowed))
            if len(chosen) == limits.EVIDENCE_PER_BLOCK_MAX or size > limits.EVIDENCE_BYTES_MAX:
                break
            chosen.append(narrowed)
            accused.update(left)
        return tuple(chosen)

    def drop_punished(self, is_punishable: Callable[[bytes, int], bool]) -> None:
        """Forget what the ledger takes nothing for any more."""
        self._pending = {
            key: item
            for key, item in self._pending.items()
            if any(is_punishable(name, evidence_height(item)) for name in offenders(item))
        }

    def commit(self, evidence: tuple[Evidence, ...], forget_below: int) -> None:
        """After a block: its evidence is committed; records of offences below this height are dropped."""
        for item in evidence:
            key = evidence_id(item)
            self._pending.pop(key, None)
            self._committed[key] = evidence_height(item)
        self._pending = {k: item for k, item in self._pending.items() if evidence_height(item) >= forget_below}
        self._committed = {k: height for k, height in self._committed.items() if height >= forget_below}
