"""The chain on disk: one database, one synced write batch a block, so that block, ledger and head never disagree.

Keys are a one-letter table and a key in it; heights are 8 bytes, big endian, so that iteration goes by height.

    m   single values: the genesis hash, the head, the height of the snapshot that the node began with
    b   height → encoded block               c   height → the commit that sealed it
    r   height → its results                 v   height → the validator set that signs it
    i   block id → height                    t   transaction id → height and index
    s   ledger key → value                   n   state tree node's hash → height of its last writing, its encoding
    w   heights at which the validator set changes
    e   offence id → evidence                x   height → state tree nodes that this block made stale
    h   height → header, evidence and signers of a block that is not here but still needed
    u   height → what the block replaced: the head and the ledger's values before it

Blocks below some height may have been pruned, and so may old states (`x`, `u`); both always from the bottom up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.leveldb import Database, Reader

Change = tuple[bytes, bytes | None]

_GENESIS = b"mgenesis"
_HEAD = b"mhead"
_BEGAN = b"mbegan"
_RECORD_BYTES_MAX = 64 * limits.MIB
STATES_PRUNED_MAX = 4
"""Old states dropped with one block, so that a smaller `keep_states` does not make a block slow."""


class Head(Struct, frozen=True):
    """The last committed block and what must be known to go on from it."""

    height: int
    block_id: bytes
    app_hash: bytes
    """Root of the ledger's state tree after this block."""
    chain_state: bytes
    """The consensus side's own record, encoded (validator sets to come, times, the beacon)."""


class Undo(Struct, frozen=True):
    """What a block replaced; the other tables it wrote are named by its height and its contents."""

    head: Head
    ledger: tuple[tuple[bytes, bytes | None], ...]
    """Key and value before the block, None where there was none."""


@dataclass(frozen=True, slots=True)
class BlockNames:
    """Under which names a block is found; whoever removes one reads them from the block."""

    height: int
    block_id: bytes
    transaction_ids: tuple[bytes, ...]
    evidence_ids: tuple[bytes, ...] = ()


class Place(Struct, frozen=True):
    """Where a transaction is."""

    height: int
    index: int


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """Everything that one block changes on disk. All bytes are encodings that the store does not look into."""

    head: Head
    block: bytes
    commit: bytes
    results: bytes
    validators: bytes
    """The set that signs the block at `head.height + 2`: known two heights ahead."""
    transaction_ids: tuple[bytes, ...] = ()
    uncharged: frozenset[int] = frozenset()
    """Positions of transactions that were refused without a fee: copies of others, perhaps, that did take effect."""
    ledger_writes: Iterable[Change] = ()
    tree_nodes: Iterable[tuple[bytes, bytes]] = ()
    stale_nodes: tuple[bytes, ...] = ()
    changes_set: bool = False
    """Whether its header names another validator set for the next height; those headers can be listed."""
    evidence: tuple[tuple[bytes, bytes], ...] = ()
    """Id and encoding of each offence that the block punishes."""


class Snapshot:
    """The ledger and its tree after one block."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def ledger_value(self, key: bytes) -> bytes | None:
        """The value at a ledger key."""
        return self._reader.get(b"s" + key)

    def ledger_items(self, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The ledger's keys (whole) and values under `prefix`, in order."""
        for rest, value in self._reader.items(b"s" + prefix, reverse=reverse):
            yield prefix + rest, value

    def tree_node(self, digest: bytes) -> bytes | None:
        """A node of the state tree; stale ones are kept for some versions."""
        stored = self._reader.get(b"n" + digest)
        return None if stored is None else stored[8:]


class ChainStore:
    """Reads from any thread; writes from one. `head` is what the last `write_block` left."""

    def __init__(self, database: Database, genesis_hash: bytes, head: Head) -> None:
        self.database = database
        """For the other modules of this package."""
        self.genesis_hash = genesis_hash
        self._head = head
        self._base = self._first(b"b")
        self._oldest_undo = self._first(b"u")

    @classmethod
    def create(
        cls,
        path: Path,
        genesis_hash: bytes,
        head: Head,
        *,
        validators: Iterable[tuple[int, bytes]],
        ledger_writes: Iterable[Change],
        tree_nodes: Iterable[tuple[bytes, bytes]],
    ) -> ChainStore:
        """A new chain at its genesis, in one batch. Raises `Rejection` (STORE_EXISTS)."""
        database = Database.create(path)
        changes: list[Change] = [genesis_change(genesis_hash), head_change(head)]
        changes += [(b"v" + height_key(height), encoded) for height, encoded in validators]
        changes += [(b"s" + key, value) for key, value in ledger_writes]
        changes += [(b"n" + key, height_key(head.height) + value) for key, value in tree_nodes]
        database.write(changes)
        return cls(database, genesis_hash, head)

    @classmethod
    def open(cls, path: Path, genesis_hash: bytes) -> ChainStore:
        """An existing chain. Raises `Rejection` (STORE_MISSING, STORE_CORRUPT, WRONG_CHAIN)."""
        database = Database.open(path)
        stored = database.get(_GENESIS)
        encoded = database.get(_HEAD)
        if stored is None or encoded is None:
            database.close()
            raise Rejection(reasons.STORE_CORRUPT, f"{path} has no head")
        if stored != genesis_hash:
            database.close()
            raise Rejection(reasons.WRONG_CHAIN, f"{path} belongs to genesis {stored.hex()}, not {genesis_hash.hex()}")
        head: Head = codec.decode(Head, encoded, max_bytes=_RECORD_BYTES_MAX)
        return cls(database, genesis_hash, head)

    def reopen(self) -> None:
        """Open the files again after a failed write, and read the head that is there. Raises `OSError`."""
        self.database.reopen()
        head: Head = codec.decode(Head, self.database.get(_HEAD) or b"", max_bytes=_RECORD_BYTES_MAX)
        self._head = head
        self._base, self._oldest_undo = self._first(b"b"), self._first(b"u")

    @property
    def head(self) -> Head:
        """The last committed block."""
        return self._head

    @property
    def began(self) -> int:
        """Height of the snapshot that the node began with; 0 when it has seen the chain from its genesis on."""
        stored = self.database.get(_BEGAN)
        return 0 if stored is None else int.from_bytes(stored, "big")

    @property
    def base(self) -> int:
        """The lowest height whose block is here; above the head when there is none."""
        return self._base

    @property
    def oldest_state(self) -> int:
        """The lowest height whose state can still be gone back to."""
        return self._oldest_undo - 1

    def _first(self, table: bytes) -> int:
        for key, _ in self.database.items(table):
            return int.from_bytes(key, "big")
        return self._head.height + 1

    def write_block(self, record: BlockRecord, *, keep_versions: int) -> None:
        """Append a block in one synced batch, and drop what is needed for states `keep_versions` blocks ago alone."""
        height = record.head.height
        if height != self._head.height + 1:
            raise InvariantViolation(f"block {height} written after {self._head.height}")
        key = height_key(height)
        changes: list[Change] = [
            (b"b" + key, record.block),
            (b"c" + key, record.commit),
            (b"r" + key, record.results),
            (b"v" + height_key(height + 2), record.validators),
            (b"i" + record.head.block_id, key),
            head_change(record.head),
        ]
        changes += [(b"t" + name, codec.encode(place)) for name, place in self._places(record).items()]
        writes = tuple(record.ledger_writes)
        replaced = tuple((name, self.database.get(b"s" + name)) for name, _ in writes)
        changes.append((b"u" + key, codec.encode(Undo(self._head, replaced))))
        changes += [(b"s" + name, value) for name, value in writes]
        fresh = dict(record.tree_nodes)
        changes += [(b"n" + name, key + value) for name, value in fresh.items()]
        if record.stale_nodes:
            changes.append((b"x" + key, codec.encode(record.stale_nodes)))
        forgotten = range(self._oldest_undo, min(height - keep_versions + 1, self._oldest_undo + STATES_PRUNED_MAX))
        for old in forgotten:
            changes += [change for change in self._prune(old) if change[0][1:] not in fresh]
        if record.changes_set:
            changes.append((b"w" + key, b""))
        changes += [(b"e" + name, encoded) for name, encoded in record.evidence]
        self.database.write(changes)
        self._head = record.head
        self._oldest_undo += len(forgotten)
        if height < self._base:  # the first block of all; else pruning, on another thread, moves it
            self._base = height

    def _places(self, record: BlockRecord) -> dict[bytes, Place]:
        """Where the block's transactions are found: a copy that paid nothing never hides one that is there already."""
        found: dict[bytes, Place] = {}
        for index, name in enumerate(record.transaction_ids):
            if index not in record.uncharged or (name not in found and self.place_of(name) is None):
                found[name] = Place(record.head.height, index)
        return found

    def _prune(self, height: int) -> list[Change]:
        """Deletions of the undo record and of the tree nodes that the block made stale and no later one wrote again."""
        changes: list[Change] = [(b"u" + height_key(height), None), (b"x" + height_key(height), None)]
        for name in self.stale_nodes(height):
            stored = self.database.get(b"n" + name)
            if stored is not None and int.from_bytes(stored[:8], "big") <= height:
                changes.append((b"n" + name, None))
        return changes

    def prune_blocks(self, blocks: Sequence[BlockNames], kept: Mapping[int, bytes]) -> None:
        """Forget the lowest blocks and who signed them, in one batch.

        Of the heights in `kept` the encoded header and its commit stay, and the set of the next height: certificates
        list them. The head's block can never be pruned.
        """
        changes: list[Change] = []
        for expected, block in enumerate(blocks, self._base):
            height, key = block.height, height_key(block.height)
            if height != expected or height >= self._head.height:
                raise InvariantViolation(f"block {height} pruned; the lowest is {expected}")
            changes += [(b"b" + key, None), (b"r" + key, None), (b"i" + block.block_id, None)]
            if height in kept:
                changes.append((b"h" + key, kept[height]))
            else:
                changes.append((b"c" + key, None))
            if not self.changes_set(height - 1):
                changes.append((b"v" + key, None))
            for name in block.transaction_ids:
                place = self.place_of(name)
                if place is not None and place.height == height:
                    changes.append((b"t" + name, None))
        self.database.write(changes)
        if blocks:
            self._base = blocks[-1].height + 1

    def prune_past(self, below: int, at_most: int) -> int:
        """Forget the lowest headers from before the snapshot that the node began with; how many."""
        changes: list[Change] = []
        if self.began:
            for count, (key, _) in enumerate(self.database.items(b"h")):
                if count == at_most or int.from_bytes(key, "big") >= below:
                    break
                changes += [(table + key, None) for table in (b"h", b"v", b"w")]
        if changes:
            self.database.write(changes)
        return len(changes) // 3

    def changes_set(self, height: int) -> bool:
        """Whether the header of that height names another validator set for the next."""
        return self.database.get(b"w" + height_key(height)) is not None if height > 0 else False

    def compact_blocks(self, below: int) -> None:
        """Give the room of pruned blocks back to the disk. Takes seconds: on a thread, never while a block waits."""
        for table in (b"b", b"c", b"h", b"r", b"u", b"v", b"x"):
            self.database.compact(table + height_key(0), table + height_key(below))

    def forget(self, block: BlockNames) -> list[Change]:
        """Deletions of all that the block wrote under its height and its names, for a rollback past it."""
        key = height_key(block.height)
        changes: list[Change] = [(table + key, None) for table in (b"b", b"c", b"r", b"w", b"x", b"u")]
        changes.append((b"v" + height_key(block.height + 2), None))
        changes.append((b"i" + block.block_id, None))
        for name in block.transaction_ids:
            place = self.place_of(name)
            if place is not None and place.height == block.height:
                changes.append((b"t" + name, None))
        changes += [(b"e" + name, None) for name in block.evidence_ids]
        return changes

    def undo(self, height: int) -> Undo | None:
        """What block `height` replaced; None when it was pruned."""
        encoded = self.database.get(b"u" + height_key(height))
        if encoded is None:
            return None
        undo: Undo = codec.decode(Undo, encoded, max_bytes=_RECORD_BYTES_MAX)
        return undo

    def stale_nodes(self, height: int) -> tuple[bytes, ...]:
        """Tree nodes that block `height` made stale, as far as they were not pruned."""
        encoded = self.database.get(b"x" + height_key(height))
        if encoded is None:
            return ()
        stale: tuple[bytes, ...] = codec.decode(tuple[bytes, ...], encoded, max_bytes=_RECORD_BYTES_MAX)
        return stale

    def block(self, height: int) -> bytes | None:
        """The encoded block."""
        return self.database.get(b"b" + height_key(height))

    def commit(self, height: int) -> bytes | None:
        """The encoded commit that sealed block `height`."""
        return self.database.get(b"c" + height_key(height))

    def results(self, height: int) -> bytes | None:
        """The encoded results of block `height`."""
        return self.database.get(b"r" + height_key(height))

    def validators(self, height: int) -> bytes | None:
        """The encoded set that signs block `height`; known up to two blocks after the head."""
        return self.database.get(b"v" + height_key(height))

    def past(self, height: int) -> bytes | None:
        """What is kept of block `height`, encoded, when the node began with a later snapshot."""
        return self.database.get(b"h" + height_key(height))

    def height_of(self, block_id: bytes) -> int | None:
        """Height of a block by its id."""
        key = self.database.get(b"i" + block_id)
        return None if key is None else int.from_bytes(key, "big")

    def place_of(self, transaction_id: bytes) -> Place | None:
        """Where a transaction is in the chain."""
        encoded = self.database.get(b"t" + transaction_id)
        if encoded is None:
            return None
        place: Place = codec.decode(Place, encoded)
        return place

    def evidence(self) -> Iterator[bytes]:
        """All evidence that blocks carried, encoded."""
        for _, encoded in self.database.items(b"e"):
            yield encoded

    def set_changes(self) -> Iterator[int]:
        """Heights of the headers that name another validator set for the next height, rising."""
        for key, _ in self.database.items(b"w"):
            yield int.from_bytes(key, "big")

    def snapshot(self) -> Snapshot:
        """The ledger at the head, which stays as it is when the head moves on."""
        return Snapshot(self.database.snapshot())

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def head_change(head: Head) -> Change:
    """What makes a block the head."""
    return (_HEAD, codec.encode(head))


def began_change(height: int) -> Change:
    """What says that the node began with a snapshot."""
    return (_BEGAN, height_key(height))


def genesis_change(genesis_hash: bytes) -> Change:
    """What names the store's chain."""
    return (_GENESIS, genesis_hash)


def height_key(height: int) -> bytes:
    """A height as a key: order of bytes is order of heights."""
    return height.to_bytes(8, "big")
