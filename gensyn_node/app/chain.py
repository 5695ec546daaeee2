"""The chain at its head: what is on disk, and what the next block must follow from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from consensus.chain_state import ChainState, tip_after
from consensus.ledger import queries
from consensus.ledger.block import BlockDelta, Event, TransactionResult
from consensus.ledger.genesis import genesis_hash
from consensus.ledger.messages import transaction_id
from consensus.ledger.parameters import Parameters
from consensus.ledger.records import Genesis
from consensus.statesync.reasons import NO_SNAPSHOT
from consensus.statesync.restore import PastBlock, without_rotation
from consensus.tendermint.block import ChainTip
from consensus.tendermint.evidence import evidence_id
from consensus.tendermint.inputs import StartHeight
from consensus.tendermint.types import Block, Commit, Evidence, Header, ValidatorSet
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import BlockNames, BlockRecord, ChainStore, Head, Place, Snapshot
from gensyn_node.storage.snapshots import SnapshotSource

KEEP_STATES = 256
"""Blocks for which the state tree is kept whole, unless configured: how old a proof can be, how far one can go back."""
VALUES_KEPT_MAX, VALUE_KEPT_BYTES_MAX = 4_096, 1_024
"""Of what was read at one head."""
STORED_BYTES_MAX = 64 * limits.MIB
"""What is read back from our own disk is bounded only against nonsense."""


class StoredEvent(Struct):
    """An event of the ledger; each field is (name, number, text, bytes) of which one is set."""

    kind: str
    subject: bytes
    fields: tuple[tuple[str, int | None, str | None, bytes | None], ...]


class StoredResults(Struct):
    """What a block did, for those who ask later."""

    results: tuple[TransactionResult, ...]
    events: tuple[StoredEvent, ...]


@dataclass(frozen=True, slots=True)
class CommittedBlock:
    """A block that has just become the head."""

    head: Head
    state: ChainState
    block: Block
    delta: BlockDelta


class HeadView:
    """The ledger after the head block, unchanged when the head moves on (a snapshot of the database)."""

    def __init__(self, root: bytes, snapshot: Snapshot) -> None:
        self._root = root
        self._snapshot = snapshot
        self._read: dict[bytes, bytes | None] = {}

    @property
    def root(self) -> bytes:
        """The app hash."""
        return self._root

    def get(self, key: bytes) -> bytes | None:
        """The value at a ledger key. What was read is kept: nothing changes here, and senders are asked for often."""
        try:
            return self._read[key]
        except KeyError:
            value = self._snapshot.ledger_value(key)
        if len(self._read) < VALUES_KEPT_MAX and (value is None or len(value) <= VALUE_KEPT_BYTES_MAX):
            self._read[key] = value
        return value

    def items(self, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values under a prefix, in order."""
        return self._snapshot.ledger_items(prefix, reverse=reverse)

    def read_node(self, digest: bytes) -> bytes:
        """A node of the state tree; it must exist."""
        node = self._snapshot.tree_node(digest)
        if node is None:
            raise InvariantViolation(f"tree node {digest.hex()} is missing")
        return node


class Chain:
    """Head, state and history. One task commits; everybody reads."""

    def __init__(self, store: ChainStore, genesis: Genesis, keep_states: int | None = None) -> None:
        self.store = store
        self._before: dict[bytes, Place] = {}
        """Where transactions of the block that is being written were before."""
        self.keep_states = KEEP_STATES if keep_states is None else keep_states
        self.genesis = genesis
        self._head = store.head
        self.state = _decode_state(store.head.chain_state)
        self._view = HeadView(store.head.app_hash, store.snapshot())
        self._parameters = queries.parameters(self._view)

    @classmethod
    def open(cls, path: Path, genesis: Genesis, keep_states: int | None = None) -> Chain:
        """The chain in an initialised home. Raises `Rejection` as `ChainStore.open` does."""
        return cls(ChainStore.open(path, genesis_hash(genesis)), genesis, keep_states)

    @property
    def chain_id(self) -> str:
        """The chain's name."""
        return self.genesis.chain_id

    @property
    def head(self) -> Head:
        """The last committed block; height 0 is the genesis."""
        return self._head

    @property
    def base(self) -> int:
        """The lowest height whose block is here."""
        return self.store.base

    def view(self) -> HeadView:
        """The ledger at the head, as a snapshot that stays as it is."""
        return self._view

    @property
    def parameters(self) -> Parameters:
        """The parameters in force for the block after the head: those that the ledger at the head holds."""
        return self._parameters

    def tip(self) -> ChainTip:
        """What the next block has to follow from."""
        head, state = self.head, self.state
        return tip_after(self.chain_id, head.height, head.block_id, head.app_hash, state)

    def committed_evidence(self) -> tuple[Evidence, ...]:
        """All evidence that blocks carried."""
        return tuple(codec.decode(Evidence, encoded) for encoded in self.store.evidence())

    def start_input(self) -> StartHeight:
        """The consensus input that starts the height after the head."""
        return StartHeight(
            self.head.height + 1, self.state.validators, self.commit(self.head.height), self.state.last_validators
        )

    def validators(self, height: int) -> ValidatorSet | None:
        """The set that signs block `height`; known up to two blocks after the head."""
        encoded = self.store.validators(height) if height <= self.head.height + 2 else None
        if encoded is None:
            return None
        found: ValidatorSet = codec.decode(ValidatorSet, encoded, max_bytes=STORED_BYTES_MAX)
        return found

    def set_changes(self) -> tuple[int, ...]:
        """Heights of the headers that name another validator set for the next height, rising."""
        return tuple(height for height in self.store.set_changes() if height <= self.head.height)

    def block(self, height: int) -> Block | None:
        """A committed block."""
        encoded = self.store.block(height) if height <= self.head.height else None
        if encoded is None:
            return None
        found: Block = codec.decode(Block, encoded, max_bytes=STORED_BYTES_MAX)
        return found

    def place_of(self, identifier: bytes) -> Place | None:
        """Where a transaction is in the chain; what is written but not adopted yet does not count.

        Whoever is told that a transaction is in a block reads the ledger next, and must find what it did there.
        """
        place = self.store.place_of(identifier)
        if place is not None and place.height > self.head.height:
            return self._before.get(identifier)
        return place

    def height_of(self, block_id: bytes) -> int | None:
        """The height of a committed block."""
        height = self.store.height_of(block_id)
        return height if height is not None and height <= self.head.height else None

    def header(self, height: int) -> Header | None:
        """The header of a committed block, also of one before the snapshot that the node began with."""
        past = self.past(height)
        return None if past is None else past.header

    def commit(self, height: int) -> Commit | None:
        """The commit that sealed block `height`."""
        encoded = self.store.commit(height) if height <= self.head.height else None
        if encoded is None:
            return None
        found: Commit = codec.decode(Commit, encoded, max_bytes=STORED_BYTES_MAX)
        return found

    def results(self, height: int) -> tuple[TransactionResult, ...] | None:
        """What became of the transactions of block `height`, in their order."""
        stored = self._stored_results(height)
        return None if stored is None else stored.results

    def events(self, height: int) -> tuple[Event, ...] | None:
        """What happened in block `height`."""
        stored = self._stored_results(height)
        return None if stored is None else tuple(_event(event) for event in stored.events)

    def _stored_results(self, height: int) -> StoredResults | None:
        encoded = self.store.results(height) if height <= self.head.height else None
        if encoded is None:
            return None
        found: StoredResults = codec.decode(StoredResults, encoded, max_bytes=STORED_BYTES_MAX)
        return found

    def append(self, committed: CommittedBlock, commit: Commit, transaction_ids: tuple[bytes, ...]) -> None:
        """Make an executed block the head, in one synced write."""
        self.write(committed, commit, transaction_ids)
        self.adopt(committed)

    def write(self, committed: CommittedBlock, commit: Commit, transaction_ids: tuple[bytes, ...]) -> None:
        """Store an executed block. May run on another thread: readers see nothing of it until `adopt`."""
        delta = committed.delta
        found = ((name, self.store.place_of(name)) for name in transaction_ids)
        self._before = {name: place for name, place in found if place is not None}
        self.store.write_block(
            BlockRecord(
                head=committed.head,
                block=codec.encode(committed.block),
                commit=codec.encode(commit),
                results=codec.encode(StoredResults(delta.results, tuple(map(_stored_event, delta.events)))),
                validators=codec.encode(committed.state.next_validators),
                transaction_ids=transaction_ids,
                uncharged=frozenset(index for index, result in enumerate(delta.results) if not result.charged),
                ledger_writes=delta.writes,
                tree_nodes=delta.new_nodes,
                stale_nodes=delta.stale_nodes,
                changes_set=committed.block.header.next_validators_hash != committed.block.header.validators_hash,
                evidence=tuple((evidence_id(item), codec.encode(item)) for item in committed.block.evidence),
            ),
            keep_versions=self.keep_states,
        )

    def adopt(self, committed: CommittedBlock) -> None:
        """Let readers see the block that was stored: head, state and view together, on their own thread."""
        self._head = committed.head
        self.state = committed.state
        self._view = HeadView(committed.head.app_hash, self.store.snapshot())
        self._parameters = queries.parameters(self._view)

    def past(self, height: int) -> PastBlock | None:
        """Header, evidence and signers of a block, also of one before the snapshot that the node began with."""
        block, validators = self.block(height), self.validators(height)
        if block is not None and validators is not None:
            return PastBlock(block.header, block.evidence, validators.validators)
        encoded = self.store.past(height)
        if encoded is None:
            return None
        past: PastBlock = codec.decode(PastBlock, encoded, max_bytes=STORED_BYTES_MAX)
        return past

    def reopen(self) -> None:
        """Open the database again after a failed write; the head is then whatever is on disk. Raises `OSError`.

        Views taken before must not be used any more.
        """
        self.store.reopen()
        self._head = self.store.head
        self.state = _decode_state(self.head.chain_state)
        self._view = HeadView(self.head.app_hash, self.store.snapshot())
        self._parameters = queries.parameters(self._view)

    def prune(self, below: int, at_most: int) -> int:
        """Forget blocks below a height, the lowest first; how many. May run beside `append` on another thread."""
        heights = range(self.base, min(below, self.base + at_most, self.head.height))
        kept = {height: codec.encode(self.past(height)) for height in heights if self.store.changes_set(height)}
        if heights:
            self.store.prune_blocks([self.names(height) for height in heights], kept)
        return len(heights) + self.store.prune_past(below, at_most)

    def names(self, height: int) -> BlockNames:
        """Under which names the store finds block `height`, which must be here."""
        block = self.block(height)
        if block is None:
            raise Rejection(reasons.HEADS_DISAGREE, f"block {height} is missing")
        ids = tuple(transaction_id(data) for data in block.transactions)
        return BlockNames(height, block.id, ids, tuple(evidence_id(item) for item in block.evidence))

    def snapshot_source(self) -> SnapshotSource:
        """The head's state as a snapshot is made of it; it stays as it is when the head moves on."""
        last = self.state.last_validators
        if last is None:
            raise Rejection(NO_SNAPSHOT, "the chain has no block yet")
        return SnapshotSource(
            chain_id=self.chain_id,
            height=self.head.height,
            entries=self._view.items(b""),
            last_validators=without_rotation(last.validators),
            validators=self.state.validators,
            next_validators=self.state.next_validators,
        )

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def _stored_event(event: Event) -> StoredEvent:
    fields = tuple(
        (
            name,
            value if isinstance(value, int) else None,
            value if isinstance(value, str) else None,
            value if isinstance(value, bytes) else None,
        )
        for name, value in event.fields
    )
    return StoredEvent(event.kind, event.subject, fields)


def _event(stored: StoredEvent) -> Event:
    fields: list[tuple[str, int | str | bytes]] = []
    for name, *values in stored.fields:
        fields += [(name, value) for value in values if value is not None]
    return Event(stored.kind, stored.subject, tuple(fields))


def _decode_state(encoded: bytes) -> ChainState:
    state: ChainState = codec.decode(ChainState, encoded, max_bytes=STORED_BYTES_MAX)
    return state
