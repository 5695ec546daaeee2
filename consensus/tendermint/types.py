"""The things validators sign, store and send: votes, proposals, headers, blocks, commits, validator sets.

All are codec structs: frozen, encoded as arrays, one encoding each. A *block id* is the hash of the header, 32 bytes;
nil, the vote for no block, is `NIL` (no bytes). Signatures cover *sign bytes*, which name the kind of message and the
chain, so no signature can be used as another kind or on another chain.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from typing import Annotated

from msgspec import Meta

from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct, encode
from gensyn_node.primitives.hashing import tagged_hash

BlockId = bytes
"""The hash of a header (32 bytes), or `NIL`."""
NIL: BlockId = b""
"""The block id of a vote for no block."""
NO_ROUND = -1
"""`valid_round` of a fresh proposal, and `locked_round` without a lock (the paper's -1)."""


class VoteType(IntEnum):
    """The two kinds of vote; numbers are part of the sign bytes."""

    PREVOTE = 1
    PRECOMMIT = 2


class Step(IntEnum):
    """The paper's `step_p`, and what a signer's record orders by within a round."""

    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3


class CommitFlag(IntEnum):
    """What a validator did in the round of a commit."""

    ABSENT = 0
    COMMIT = 1
    NIL = 2


class Vote(Struct, tag=1):
    """A prevote or precommit of one validator, for a block id or for nil."""

    kind: VoteType
    height: int
    round: int
    block_id: BlockId
    validator: bytes
    """Address, 20 bytes."""
    signature: bytes = b""


class Proposal(Struct, tag=2):
    """The signed part of a proposal: who proposes which block; the block travels beside it."""

    height: int
    round: int
    valid_round: int
    """`NO_ROUND`, or the earlier round in which this block gathered a polka."""
    block_id: BlockId
    proposer: bytes
    """Address of the proposer of this round; for a re-proposal not the one in the block's header."""
    signature: bytes = b""


class CommitSlot(Struct):
    """What the commit knows of the validator at this position of the set."""

    flag: CommitFlag
    signature: bytes


class Commit(Struct):
    """The precommits that decided a block: one slot per validator of the height, in the set's order."""

    height: int
    round: int
    block_id: BlockId
    slots: tuple[CommitSlot, ...]


class DuplicateVoteEvidence(Struct, tag=1):
    """Two different votes of one validator for one height, round and kind; the smaller block id comes first."""

    first: Vote
    second: Vote


class Header(Struct, dict=True):
    """What a block id hashes. Roots are of the block's own contents unless said otherwise."""

    chain_id: str
    height: int
    time_ms: int
    """Proposer's clock, strictly rising (proposer-based time)."""
    previous_block_id: BlockId
    """`NIL` at height 1."""
    last_commit_root: bytes
    data_root: bytes
    evidence_root: bytes
    app_hash: bytes
    """State root *after the previous* block."""
    results_root: bytes
    """Transaction results of the *previous* block."""
    validators_hash: bytes
    next_validators_hash: bytes
    proposer: bytes
    """Address of the validator that built this block."""
    beacon_proof: bytes
    """The builder's ECVRF proof over the previous beacon."""

    @cached_property
    def id(self) -> BlockId:
        """The block id."""
        return tagged_hash("gensyn/header", encode(self))


class Validator(Struct):
    """A member of a validator set."""

    address: bytes
    """20 bytes; names the validator in votes and in the ledger."""
    public_key: bytes
    """Ed25519 consensus key, 32 bytes; also its beacon (VRF) key."""
    power: int
    """Voting power, at least 1."""


class LightClientAttackEvidence(Struct, tag=2):
    """A header that contradicts what the chain's own history determines, sealed well enough to fool a light client.

    Everything in it is checked against the chain's own records; `byzantine` must be what they give (`light_attack`).
    """

    common_height: int
    """The last height at which the fooled client and the chain agree; 0 is the genesis."""
    header: Header
    commit: Commit
    validators: Annotated[tuple[Validator, ...], Meta(min_length=1, max_length=limits.VALIDATORS_MAX)]
    """The set that the false header names for its own height."""
    byzantine: Annotated[tuple[bytes, ...], Meta(max_length=limits.VALIDATORS_MAX)]
    """Addresses of those it accuses, rising: members of the true set after the common height that signed the header."""


Evidence = DuplicateVoteEvidence | LightClientAttackEvidence
"""What a block can accuse validators of."""


class Block(Struct):
    """A header and what its roots commit to. Transactions are opaque bytes here."""

    header: Header
    transactions: tuple[bytes, ...]
    last_commit: Commit | None
    """The commit of the previous block; None at height 1 only."""
    evidence: tuple[Evidence, ...]

    @property
    def id(self) -> BlockId:
        """The block id: the header's hash."""
        return self.header.id


class FullProposal(Struct, tag=3):
    """A proposal together with its block."""

    proposal: Proposal
    block: Block


class Certificate(Struct, tag=4):
    """Votes of more than two thirds of the power for one block id in one round: a polka or a commit, as a fact."""

    kind: VoteType
    height: int
    round: int
    block_id: BlockId
    signatures: tuple[tuple[int, bytes], ...]
    """(position in the validator set, signature), positions rising."""


class RoundStatus(Struct):
    """What a node has of one round: bit i of the integers is the validator at position i of the set."""

    round: int
    proposals: tuple[BlockId, ...]
    prevotes: bytes
    """Bit array, little-endian, ceil(validators / 8) bytes."""
    precommits: bytes
    polka: BlockId | None
    """The block id (or NIL) with a quorum of prevotes, None without one."""
    commit: BlockId | None
    """The block id (or NIL) with a quorum of precommits, None without one."""


class HeightStatus(Struct, tag=5):
    """What a node has of its height; peers answer it with what it lacks."""

    height: int
    round: int
    step: Step
    rounds: tuple[RoundStatus, ...]


ConsensusMessage = Vote | FullProposal | Certificate
"""What `ConsensusCore` broadcasts and answers with; `decode(ConsensusMessage, …)` reads it from the wire."""


class ValidatorSet(Struct, dict=True):
    """Validators in the order of power descending, address ascending, and the state of the proposer rotation."""

    validators: tuple[Validator, ...]
    priorities: tuple[int, ...]
    """Proposer priority of each validator (see `proposer`)."""
    proposer: bytes
    """Address of the proposer of round 0."""

    @cached_property
    def positions(self) -> dict[bytes, int]:
        """Position of each address."""
        return {validator.address: position for position, validator in enumerate(self.validators)}

    @cached_property
    def total_power(self) -> int:
        """Sum of all powers."""
        return sum(validator.power for validator in self.validators)

    @cached_property
    def hash(self) -> bytes:
        """Hash over addresses, keys and powers; priorities are not part of it."""
        return tagged_hash("gensyn/validators", *(encode(validator) for validator in self.validators))

    @property
    def rotation_hash(self) -> bytes:
        """Hash over everything, the proposer rotation included."""
        return tagged_hash("gensyn/rotation", encode(self))

    def by_address(self, address: bytes) -> Validator | None:
        """The validator with this address, or None."""
        position = self.positions.get(address)
        return None if position is None else self.validators[position]


def is_quorum(power: int, total: int) -> bool:
    """More than two thirds of the power (the paper's 2f + 1)."""
    return 3 * power > 2 * total


def has_honest(power: int, total: int) -> bool:
    """More than one third of the power: at least one honest validator is in it (the paper's f + 1)."""
    return 3 * power > total


def vote_sign_bytes(chain_id: str, vote: Vote) -> bytes:
    """What a vote's signature covers: domain, chain, height, round, kind and block id."""
    return encode(("gensyn/vote", chain_id, vote.height, vote.round, int(vote.kind), vote.block_id))


def proposal_sign_bytes(chain_id: str, proposal: Proposal) -> bytes:
    """What a proposal's signature covers: domain, chain, height, round, valid round and block id."""
    return encode(
        ("gensyn/proposal", chain_id, proposal.height, proposal.round, proposal.valid_round, proposal.block_id)
    )
