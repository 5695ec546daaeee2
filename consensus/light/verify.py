"""One step of trust: from a trusted header to a later one (adjacent or not).

The rules are those of Tendermint's light client (spec `light-client/verification`, with the trusted *next* set for
skipping). Every signature of a commit is checked, also those beyond two thirds.
"""

from __future__ import annotations

from consensus.light import reasons
from consensus.light.types import LightBlock, LightOptions, Trusted, members_hash
from consensus.tendermint.light_attack import as_set, signed_power
from consensus.tendermint.types import Validator
from consensus.tendermint.validators import members_fault
from consensus.tendermint.verify import ROUND_MAX, SignatureCheck, verify_commit
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES


def check_shape(chain_id: str, block: LightBlock) -> None:
    """`Rejection` BAD_LIGHT_BLOCK unless header, commit and both sets belong together. No signature is looked at."""
    header, commit = block.header, block.commit
    if header.chain_id != chain_id:
        raise Rejection(reasons.BAD_LIGHT_BLOCK, f"a header of the chain {header.chain_id[:40]!r}")
    if header.height < 1 or header.time_ms < 0 or not 0 <= commit.round < ROUND_MAX:
        raise Rejection(reasons.BAD_LIGHT_BLOCK, f"height {header.height}, round {commit.round}")
    if commit.height != header.height or commit.block_id != header.id or len(commit.block_id) != HASH_BYTES:
        raise Rejection(reasons.BAD_LIGHT_BLOCK, f"the commit is not of header {header.height}")
    if len(commit.slots) != len(block.validators):
        raise Rejection(reasons.BAD_LIGHT_BLOCK, f"{len(commit.slots)} slots for {len(block.validators)} validators")
    check_members(block.validators)
    if (members_hash(block.validators), members_hash(block.next_validators)) != (
        header.validators_hash,
        header.next_validators_hash,
    ):
        raise Rejection(reasons.BAD_LIGHT_BLOCK, "a validator set is not the one that the header names")


def check_members(members: tuple[Validator, ...]) -> None:
    """`Rejection` BAD_LIGHT_BLOCK for a set that no chain can have."""
    if fault := members_fault(members):
        raise Rejection(reasons.BAD_LIGHT_BLOCK, fault)


def check_not_expired(trusted: Trusted, now_ms: int, options: LightOptions) -> None:
    """`Rejection` TRUST_EXPIRED when the trusted header is too old to judge others by."""
    left_ms = trusted.time_ms + options.trust_period_ms - now_ms
    if left_ms <= 0:
        raise Rejection(
            reasons.TRUST_EXPIRED,
            f"the trusted header {trusted.height} is {(now_ms - trusted.time_ms) // 1000} s old, "
            f"the trust period is {options.trust_period_ms // 1000} s",
        )


def verify_block(
    chain_id: str,
    trusted: Trusted,
    block: LightBlock,
    now_ms: int,
    options: LightOptions,
    check: SignatureCheck = crypto.verify,
) -> None:
    """Believe `block` because of `trusted`, or raise `Rejection`.

    NOT_ENOUGH_TRUST says that a header in between may help; TRUST_EXPIRED, BAD_LIGHT_BLOCK, DOES_NOT_FOLLOW,
    FROM_THE_FUTURE and BAD_COMMIT say that nothing will. The trusted header must have been checked for its own commit.
    """
    check_not_expired(trusted, now_ms, options)
    check_shape(chain_id, block)
    header = block.header
    if header.height <= trusted.height:
        raise Rejection(reasons.DOES_NOT_FOLLOW, f"header {header.height} after {trusted.height}")
    if header.time_ms <= trusted.time_ms:
        raise Rejection(reasons.DOES_NOT_FOLLOW, f"time {header.time_ms} does not rise above {trusted.time_ms}")
    if header.time_ms >= now_ms + options.clock_drift_ms:
        raise Rejection(
            reasons.FROM_THE_FUTURE, f"header {header.height} is {header.time_ms - now_ms} ms ahead of this clock"
        )
    if header.height == trusted.height + 1:
        if header.validators_hash != members_hash(trusted.next_validators):
            raise Rejection(reasons.DOES_NOT_FOLLOW, "the validators are not those that the trusted header names")
        if header.previous_block_id != trusted.block_id:
            raise Rejection(reasons.DOES_NOT_FOLLOW, "the header does not name the trusted block before it")
    else:
        _check_overlap(trusted, block, options)
    verify_sealed(chain_id, block, check)


def verify_sealed(chain_id: str, block: LightBlock, check: SignatureCheck = crypto.verify) -> None:
    """Every signature, more than two thirds of the block's own set, and a next set that a chain can go on with."""
    check_members(block.next_validators)
    verify_commit(chain_id, as_set(block.validators), block.commit, check)


def _check_overlap(trusted: Trusted, block: LightBlock, options: LightOptions) -> None:
    signed = signed_power(trusted.next_validators, block.validators, block.commit)
    total = sum(member.power for member in trusted.next_validators)
    if signed * options.trust_denominator <= total * options.trust_numerator:
        raise Rejection(
            reasons.NOT_ENOUGH_TRUST,
            f"power {signed} of the {total} trusted after {trusted.height} signed header {block.height}",
        )
