"""A ledger held in memory: for tests, the simulator, and dry runs."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.ledger import tree
from consensus.ledger.block import BlockDelta
from consensus.ledger.tree import MapProof


class MemoryLedger:
    """A `LedgerView` that applies deltas to dictionaries."""

    def __init__(self) -> None:
        self.root = tree.EMPTY_ROOT
        self._values: dict[bytes, bytes] = {}
        self._nodes: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None."""
        return self._values.get(key)

    def read_node(self, digest: bytes) -> bytes:
        """The tree node with this hash; `KeyError` when there is none."""
        return self._nodes[digest]

    def apply(self, delta: BlockDelta) -> None:
        """Take over what a block changed."""
        for key, value in delta.writes:
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        for digest in delta.stale_nodes:
            self._nodes.pop(digest, None)
        self._nodes.update(delta.new_nodes)
        self.root = delta.app_hash

    def prove(self, key: bytes) -> MapProof:
        """The proof of what is at `key` under the present root."""
        return tree.prove(self.root, self.read_node, key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything stored, sorted by key."""
        yield from sorted(self._values.items())

    def copy(self) -> MemoryLedger:
        """An independent copy."""
        other = MemoryLedger()
        other.root, other._values, other._nodes = self.root, dict(self._values), dict(self._nodes)
        return other
