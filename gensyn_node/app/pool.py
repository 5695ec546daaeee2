"""Pending transactions of this node: `consensus.pool` at the chain's head, refusals counted, and a sign of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import trio

from consensus.mempool import KNOWN
from consensus.pool import CheckedMempool
from gensyn_node.app.chain import Chain, CommittedBlock
from gensyn_node.primitives.errors import Rejection


class Pool:
    """The mempool at the chain's head."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._mempool = CheckedMempool()
        self._arrived = trio.Event()
        self.refusals: Counter[str] = Counter()
        """How many transactions were refused since the start, by reason name."""

    def __len__(self) -> int:
        return len(self._mempool)

    def add(self, data: bytes) -> bytes:
        """Check an encoded transaction and keep it; its id. `Rejection` says what is wrong with it, and is counted."""
        try:
            name = self._mempool.add(self._chain.view(), self._chain.head.height, data)
        except Rejection as rejection:
            if rejection.reason != KNOWN:  # gossip brings the same one from every neighbour
                self.refusals[rejection.reason.name] += 1
            raise
        self._arrived.set()
        return name

    def get(self, name: bytes) -> bytes | None:
        """A pending transaction's bytes."""
        return self._mempool.get(name)

    def next_nonce(self, address: bytes) -> int:
        """Nonce of the account's next transaction, pending ones counted."""
        return self._mempool.next_nonce(self._chain.view(), address)

    def reap(self, max_bytes: int) -> tuple[bytes, ...]:
        """What goes into the next block, best paying first, within bytes and the block's space in units."""
        return self._mempool.reap(self._chain.parameters, max_bytes)

    def verified(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """Those of the transactions whose signature was checked when they came in."""
        return self._mempool.verified(names)

    async def wait_for_work(self) -> None:
        """Return as soon as a transaction is pending that can go into the next block (its nonce is the next one)."""
        while not self._mempool.has_work():
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()

    def after_block(self, committed: CommittedBlock) -> None:
        """Drop what the new head used up or made impossible. The chain is already at the new head."""
        self._mempool.after_block(self._chain.view(), committed.head.height, committed.block.transactions)
