"""Proving a snapshot: the root of its entries, and every field of the chain's state that comes with it.

What a header does not name (the beacon, the proposer rotation) the ledger does, in its `consensus` record under the app
hash. Priorities taken from a peer on trust once split another chain: its header hash leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.ledger import tree
from consensus.ledger.records import ConsensusRecord
from consensus.statesync.manifest import Manifest
from consensus.statesync.reasons import STATE_MISMATCH
from consensus.statesync.stream import Entry
from consensus.tendermint.block import evidence_root
from consensus.tendermint.types import Evidence, Header, Validator, ValidatorSet
from consensus.tendermint.validators import next_validator_set
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection


@dataclass(frozen=True, slots=True)
class Grown:
    """What one batch of entries adds to a state tree under construction."""

    new_nodes: dict[bytes, bytes]
    stale_nodes: frozenset[bytes]


class TreeBuilder:
    """Grows the state tree batch by batch; nodes are read back from where the caller stored them."""

    def __init__(self, read_node: tree.ReadNode) -> None:
        self._read_node = read_node
        self.root = tree.EMPTY_ROOT

    def add(self, entries: Sequence[Entry]) -> Grown:
        """Put entries into the tree. Store the new nodes and drop the stale ones before the next call."""
        grown = tree.update(self.root, self._read_node, dict(entries))
        self.root = grown.root
        return Grown(grown.new_nodes, grown.stale_nodes)


class PastBlock(Struct):
    """What evidence about a block is judged by, kept without the block."""

    header: Header
    evidence: tuple[Evidence, ...]
    """What it punished: the same offence must not be punished again."""
    validators: tuple[Validator, ...]
    """Those that signed it."""


def check_past(past: PastBlock, above: Header) -> None:
    """`Rejection` STATE_MISMATCH unless this is the block before the verified `above`; no signature is needed."""
    header = past.header
    if header.height != above.height - 1 or header.id != above.previous_block_id:
        raise Rejection(STATE_MISMATCH, f"header {header.height} is not the one before {above.height}")
    if evidence_root(past.evidence) != header.evidence_root:
        raise Rejection(STATE_MISMATCH, f"the evidence of block {header.height} is another")
    if _members_hash(past.validators) != header.validators_hash:
        raise Rejection(STATE_MISMATCH, f"the set that signed block {header.height} is another")


@dataclass(frozen=True, slots=True)
class RestoredSets:
    """The validator sets around a snapshot, proven."""

    last: ValidatorSet
    """Signed the snapshot's block; its rotation is over and is set to zero."""
    validators: ValidatorSet
    following: ValidatorSet


def check_anchor(manifest: Manifest, header: Header, following: Header) -> None:
    """`Rejection` STATE_MISMATCH unless the headers are those of the snapshot's block and of the block after it.

    `following` must have been verified by the light client; `header` is proven by it.
    """
    if (header.height, following.height) != (manifest.height, manifest.height + 1):
        raise Rejection(STATE_MISMATCH, f"headers {header.height} and {following.height} for {manifest.height}")
    if following.previous_block_id != header.id:
        raise Rejection(STATE_MISMATCH, f"header {header.height} is not the one before the verified header")
    named = (
        (manifest.last_validators.hash, header.validators_hash, "signed the block"),
        (manifest.validators.hash, following.validators_hash, "signs the next block"),
        (_members_hash(manifest.next_validators), following.next_validators_hash, "comes after that"),
    )
    for found, expected, which in named:
        if found != expected:
            raise Rejection(STATE_MISMATCH, f"the validator set that {which} is not the header's")


def restored_sets(manifest: Manifest, record: ConsensusRecord) -> RestoredSets:
    """The sets of a manifest whose anchor was checked, against the restored ledger's record. STATE_MISMATCH."""
    validators = manifest.validators
    if validators.rotation_hash != record.rotation:
        raise Rejection(STATE_MISMATCH, "the proposer rotation is not the one that the ledger names")
    following = next_validator_set(validators, _changes(validators.validators, manifest.next_validators))
    if following.validators != manifest.next_validators:
        raise Rejection(STATE_MISMATCH, "the set after the next is in another order")
    return RestoredSets(without_rotation(manifest.last_validators.validators), validators, following)


def without_rotation(members: tuple[Validator, ...]) -> ValidatorSet:
    """A set that signed and will not propose again: members are proven by a header, priorities by nothing."""
    return ValidatorSet(members, (0,) * len(members), members[0].address)


def _members_hash(members: tuple[Validator, ...]) -> bytes:
    return ValidatorSet(members, (), b"").hash


def _changes(before: tuple[Validator, ...], after: tuple[Validator, ...]) -> list[Validator]:
    """What the block changed: the same list that every other node applied, since the ledger names only differences."""
    known, left = {one.address: one for one in before}, {one.address for one in after}
    changed = [one for one in after if known.get(one.address) != one]
    return changed + [Validator(one.address, one.public_key, 0) for one in before if one.address not in left]
