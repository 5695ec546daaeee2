"""What goes into and comes out of `execute_block`."""

from __future__ import annotations

from typing import Protocol

from consensus.ledger.fields import Address, Count, Hash, Nano, OptionalHash, Small, Text
from gensyn_node.primitives.codec import Struct, encode


class Reader(Protocol):
    """Anything that reads the ledger by key; queries need no more."""

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""


class LedgerView(Reader, Protocol):
    """The ledger after some block, with the nodes of its authenticated map."""

    @property
    def root(self) -> bytes:
        """The app hash (32 bytes); `tree.EMPTY_ROOT` before genesis."""

    def read_node(self, digest: bytes) -> bytes:
        """The encoding of the tree node with this hash; it must exist."""


DUPLICATE_VOTE = "duplicate vote"
"""A kind of misbehaviour: two votes for one height, round and step."""
LIGHT_CLIENT_ATTACK = "light client attack"
"""A kind of misbehaviour: sealing a header that the chain does not have."""


class Misbehaviour(Struct):
    """A validator's proven offence; consensus has checked the evidence."""

    validator: Address
    height: Count
    kind: Text = DUPLICATE_VOTE


class BlockSignature(Struct):
    """What a validator's place in a block's last commit says."""

    validator: Address
    power: Count
    """Its power in the set that was to sign the previous block."""
    signed: bool
    """Whether its precommit, for the block or for nil, is there."""


class BlockContext(Struct):
    """What a block's rules may depend on besides transactions and state."""

    chain_id: Text
    height: Count
    time_ms: Count
    proposer: Address
    """Address of the proposer's consensus key."""
    beacon: Hash
    """Randomness after this block's proof."""
    misbehaviours: tuple[Misbehaviour, ...] = ()
    rotation: OptionalHash = b""
    """Hash of the next height's validator set with its proposer priorities; empty where no rotation is kept."""
    signatures: tuple[BlockSignature, ...] = ()
    """Every member of the set that was to sign the previous block; empty at height 1."""


class Event(Struct):
    """Something that happened; for roles, streams and people. Not part of the app hash."""

    kind: Text
    """Such as `task_assigned`; `events.py` lists them."""
    subject: bytes
    """Task, dispute, provider or account concerned."""
    fields: tuple[tuple[str, int | str | bytes], ...]

    def get(self, name: str) -> int | str | bytes | None:
        """The value of a field, or None."""
        return dict(self.fields).get(name)


class TransactionResult(Struct):
    """What became of one transaction of a block; the results root commits to it, except for the message."""

    transaction_id: Hash
    code: Text
    """Empty when it was applied, else the reason's code such as `E1201`."""
    message: str
    """Empty, or what exactly was wrong, for people: libraries' words in it change with their versions."""
    fee_nano: Nano
    """Fee charged: a refused message still pays, a transaction whose envelope is refused does not."""
    units: Small

    @property
    def applied(self) -> bool:
        """Whether the message took effect."""
        return self.code == ""

    @property
    def charged(self) -> bool:
        """Whether the sender's nonce was used: at most one copy of a transaction ever is."""
        return self.applied or self.fee_nano > 0

    @property
    def committed(self) -> bytes:
        """The part that every node must agree on: all but the message."""
        return encode((self.transaction_id, self.code, self.fee_nano, self.units))


class ValidatorUpdate(Struct):
    """New voting power of a consensus key; 0 removes it. Consensus applies it two heights later."""

    public_key: Hash
    power: Count


class BlockDelta(Struct):
    """All that a block changes. Apply writes and nodes in one batch."""

    height: Count
    writes: tuple[tuple[bytes, bytes | None], ...]
    """(key, new value or None for deletion), sorted by key."""
    new_nodes: tuple[tuple[bytes, bytes], ...]
    """(hash, encoding) of tree nodes to store."""
    stale_nodes: tuple[bytes, ...]
    """Nodes the new root no longer reaches. A later delta may bring one back: prune only what is still stale then."""
    app_hash: Hash
    results: tuple[TransactionResult, ...]
    results_root: Hash
    events: tuple[Event, ...]
    validator_updates: tuple[ValidatorUpdate, ...]
