"""Going back to an earlier block: ledger, tree, head and indexes exactly as they were, in one batch.

The flat ledger comes back from the undo records. Tree nodes carry the height of their last writing: a node written
above the target goes, unless the target's tree or an older state that is kept still has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.ledger import tree
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import BlockNames, ChainStore, Change, Head, head_change


def rollback(store: ChainStore, target: int, blocks: Sequence[BlockNames]) -> Head:
    """Make block `target` the head; `blocks` are all above it, highest first. The store must be opened again after.

    `Rejection` CANNOT_ROLL_BACK when the states to the target are not kept. A crash leaves the old head or the new.
    """
    head = store.head
    if not store.oldest_state <= target < head.height:
        raise Rejection(
            reasons.CANNOT_ROLL_BACK,
            f"height {target}: states are kept from {store.oldest_state} on, and the head is {head.height}",
        )
    changes: list[Change] = []
    values: dict[bytes, bytes | None] = {}
    for height, block in zip(range(head.height, target, -1), blocks, strict=True):
        undo = store.undo(height)
        if undo is None or block.height != height:
            raise InvariantViolation(f"no undo record of block {height}")
        values.update(undo.ledger)  # the lowest block's come last: they are the target's
        changes += store.forget(block)
        head = undo.head
    if head.height != target:
        raise InvariantViolation(f"the undo records lead to {head.height}, not {target}")
    changes += [(b"s" + key, value) for key, value in sorted(values.items())]
    changes += _node_changes(store, head)
    changes.append(head_change(head))
    store.database.write(changes)
    return head


def _node_changes(store: ChainStore, head: Head) -> list[Change]:
    """Nodes written above the head to be: deleted, or given the height at which they count as written."""
    snapshot = store.snapshot()

    def read_node(digest: bytes) -> bytes:
        node = snapshot.tree_node(digest)
        if node is None:
            raise InvariantViolation(f"tree node {digest.hex()} is missing")
        return node

    stale_at = {
        name: height for height in range(store.oldest_state + 1, head.height + 1) for name in store.stale_nodes(height)
    }
    changes: list[Change] = []
    for name, stored in store.database.items(b"n"):
        if int.from_bytes(stored[:8], "big") <= head.height:
            continue
        if tree.reaches(head.app_hash, read_node, name):
            changes.append((b"n" + name, head.height.to_bytes(8, "big") + stored[8:]))
        elif name in stale_at:
            changes.append((b"n" + name, stale_at[name].to_bytes(8, "big") + stored[8:]))
        else:
            changes.append((b"n" + name, None))
    return changes
