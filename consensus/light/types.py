"""What a light client reads, remembers and is told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.light import reasons
from consensus.tendermint.light_attack import as_set
from consensus.tendermint.types import BlockId, Commit, Header, Validator, ValidatorSet
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection

Members = Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=limits.VALIDATORS_MAX)]
"""A validator set without its proposer rotation, in the order that its hash covers."""


class LightBlock(Struct):
    """A header, what sealed it, and the two validator sets that it names by hash."""

    header: Header
    commit: Commit
    validators: Members
    """Those that sign this height."""
    next_validators: Members
    """Those that sign the next height."""

    @property
    def height(self) -> int:
        """The header's height."""
        return self.header.height

    @property
    def id(self) -> BlockId:
        """The block id."""
        return self.header.id


class Trusted(Struct):
    """A header that is believed, as far as the next one is judged by it; the genesis counts as height 0."""

    height: int
    block_id: BlockId
    """`NIL` for the genesis."""
    time_ms: int
    next_validators: Members
    """The set that signs the height after this one."""


class Anchor(Struct):
    """A height and block id that the user got from somebody they trust (weak subjectivity)."""

    height: int
    block_id: BlockId


class LightOptions(Struct):
    """How much a client believes. Times in milliseconds."""

    trust_period_ms: int
    """A header is of use for this long after its time. It must be shorter than stakes take to unbond."""
    clock_drift_ms: int = 10_000
    """How far ahead of our clock a header's time may be."""
    trust_numerator: int = 1
    trust_denominator: int = 3
    """More than this share of a trusted set must have signed a header that does not follow at once."""


def check_options(options: LightOptions) -> LightOptions:
    """The options; `Rejection` BAD_LIGHT_OPTIONS when they make no sense."""
    numerator, denominator = options.trust_numerator, options.trust_denominator
    if not (denominator > 0 and denominator <= 3 * numerator and numerator <= denominator):
        raise Rejection(reasons.BAD_LIGHT_OPTIONS, f"a trust level of {numerator}/{denominator}")
    if options.trust_period_ms <= 0 or options.clock_drift_ms < 0:
        raise Rejection(
            reasons.BAD_LIGHT_OPTIONS,
            f"a trust period of {options.trust_period_ms} ms, a clock drift of {options.clock_drift_ms} ms",
        )
    return options


def trusted_of(block: LightBlock) -> Trusted:
    """What is remembered of a block that has been verified."""
    return Trusted(block.height, block.id, block.header.time_ms, block.next_validators)


def trusted_genesis(time_ms: int, validators: ValidatorSet, block_id: BlockId = b"") -> Trusted:
    """Trust begins at the genesis: its time, and the set of the first height."""
    return Trusted(0, block_id, time_ms, validators.validators)


def members_hash(members: tuple[Validator, ...]) -> bytes:
    """The hash by which headers name this set."""
    return as_set(members).hash
