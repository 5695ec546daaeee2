"""The chain on disk: one database, one synced write batch a block, so that block, ledger and head never disagree.

Keys are a one-letter table and a key in it; heights are 8 bytes, big endian, so that iteration goes by height.

    m   single values: the genesis hash, the head
    b   height → encoded block               c   height → the commit that sealed it
    r   height → its results                 v   height → the validator set that signs it
    i   block id → height                    t   transaction id → height and index
    s   ledger key → value                   n   state tree node's hash → height of its last writing, its encoding
    w   heights at which the validator set changes
    e   offence id → evidence                x   height → state tree nodes that this block made stale
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
_RECORD_BYTES_MAX = 64 * limits.MIB


class Head(Struct, frozen=True):
    """The last committed block and what must be known to go on from it."""

    height: int
    block_id: bytes
    app_hash: bytes
    """Root of the ledger's state tree after this block."""
    chain_state: bytes
    """The consensus side's own record, encoded (validator sets to come, times, the beacon)."""


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
        self._database = database
        self.genesis_hash = genesis_hash
        self._head = head

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
        changes: list[Change] = [(_GENESIS, genesis_hash), (_HEAD, codec.encode(head))]
        changes += [(b"v" + _height_key(height), encoded) for height, encoded in validators]
        changes += [(b"s" + key, value) for key, value in ledger_writes]
        changes += [(b"n" + key, _height_key(head.height) + value) for key, value in tree_nodes]
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

    @property
    def head(self) -> Head:
        """The last committed block."""
        return self._head

    def write_block(self, record: BlockRecord, *, keep_versions: int) -> None:
        """Append a block in one synced batch, and drop tree nodes that went stale `keep_versions` blocks ago."""
        height = record.head.height
        if height != self._head.height + 1:
            raise InvariantViolation(f"block {height} written after {self._head.height}")
        key = _height_key(height)
        changes: list[Change] = [
            (b"b" + key, record.block),
            (b"c" + key, record.commit),
            (b"r" + key, record.results),
            (b"v" + _height_key(height + 2), record.validators),
            (b"i" + record.head.block_id, key),
            (_HEAD, codec.encode(record.head)),
        ]
        changes += [
            (b"t" + transaction_id, codec.encode(Place(height, index)))
            for index, transaction_id in enumerate(record.transaction_ids)
        ]
        changes += [(b"s" + name, value) for name, value in record.ledger_writes]
        fresh = dict(record.tree_nodes)
        changes += [(b"n" + name, key + value) for name, value in fresh.items()]
        if record.stale_nodes:
            changes.append((b"x" + key, codec.encode(record.stale_nodes)))
        changes += [change for change in self._prune(height - keep_versions) if change[0][1:] not in fresh]
        if record.changes_set:
            changes.append((b"w" + key, b""))
        changes += [(b"e" + name, encoded) for name, encoded in record.evidence]
        self._database.write(changes)
        self._head = record.head

    def _prune(self, height: int) -> list[Change]:
        """Deletions of the tree nodes that block `height` made stale and no later block wrote again."""
        encoded = self._database.get(b"x" + _height_key(height)) if height > 0 else None
        if encoded is None:
            return []
        stale: tuple[bytes, ...] = codec.decode(tuple[bytes, ...], encoded, max_bytes=_RECORD_BYTES_MAX)
        changes: list[Change] = []
        for name in stale:
            stored = self._database.get(b"n" + name)
            if stored is not None and int.from_bytes(stored[:8], "big") <= height:
                changes.append((b"n" + name, None))
        changes.append((b"x" + _height_key(height), None))
        return changes

    def block(self, height: int) -> bytes | None:
        """The encoded block."""
        return self._database.get(b"b" + _height_key(height))

    def commit(self, height: int) -> bytes | None:
        """The encoded commit that sealed block `height`."""
        return self._database.get(b"c" + _height_key(height))

    def results(self, height: int) -> bytes | None:
        """The encoded results of block `height`."""
        return self._database.get(b"r" + _height_key(height))

    def validators(self, height: int) -> bytes | None:
        """The encoded set that signs block `height`; known up to two blocks after the head."""
        return self._database.get(b"v" + _height_key(height))

    def height_of(self, block_id: bytes) -> int | None:
        """Height of a block by its id."""
        key = self._database.get(b"i" + block_id)
        return None if key is None else int.from_bytes(key, "big")

    def place_of(self, transaction_id: bytes) -> Place | None:
        """Where a transaction is in the chain."""
        encoded = self._database.get(b"t" + transaction_id)
        if encoded is None:
            return None
        place: Place = codec.decode(Place, encoded)
        return place

    def evidence(self) -> Iterator[bytes]:
        """All evidence that blocks carried, encoded."""
        for _, encoded in self._database.items(b"e"):
            yield encoded

    def set_changes(self) -> Iterator[int]:
        """Heights of the headers that name another validator set for the next height, rising."""
        for key, _ in self._database.items(b"w"):
            yield int.from_bytes(key, "big")

    def snapshot(self) -> Snapshot:
        """The ledger at the head, which stays as it is when the head moves on."""
        return Snapshot(self._database.snapshot())

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _height_key(height: int) -> bytes:
    return height.to_bytes(8, "big")
