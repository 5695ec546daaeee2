"""What goes into `ConsensusCore.step`. The driver logs each input before it feeds it.

Feeding a log again repeats it all. Signed messages enter only in their `Verified…` wrapping,
which only the functions of `verify` make (a test holds this).
Inputs are codec structs, so that the log can store them.
"""

from __future__ import annotations

from consensus.tendermint.types import (
    Block,
    BlockId,
    Certificate,
    Commit,
    Proposal,
    Step,
    ValidatorSet,
    Vote,
)
from gensyn_node.primitives.codec import Struct


class StartHeight(Struct, tag=1):
    """Work on this height now. The previous height, if any, is decided, executed and stored."""

    height: int
    validators: ValidatorSet
    """The set of this height, rotated to its round 0."""
    last_commit: Commit | None = None
    """A commit of the previous height, None at height 1; late precommits the core saw are added to it."""
    last_validators: ValidatorSet | None = None
    """The set that made `last_commit`; needed after a restart, to accept late precommits."""


class VerifiedVote(Struct, tag=2):
    """A vote whose signature was checked under `public_key`."""

    vote: Vote
    public_key: bytes


class VerifiedProposal(Struct, tag=3):
    """A proposal whose signature was checked under `public_key`, with the block it names."""

    proposal: Proposal
    block: Block
    public_key: bytes
    received_ms: int
    """The receiver's clock on arrival; decides whether a fresh proposal is timely."""


class VerifiedCertificate(Struct, tag=4):
    """A certificate whose every signature was checked, by a quorum of the set with this hash."""

    certificate: Certificate
    validators_hash: bytes


class Timeout(Struct, tag=5):
    """A time-out that the core scheduled has passed."""

    height: int
    round: int
    step: Step


class ValueBuilt(Struct, tag=6):
    """The answer to `BuildValue`."""

    height: int
    round: int
    block: Block


class ValueValidated(Struct, tag=7):
    """The answer to `ValidateValue`."""

    height: int
    block_id: BlockId
    valid: bool


Input = StartHeight | VerifiedVote | VerifiedProposal | VerifiedCertificate | Timeout | ValueBuilt | ValueValidated
