"""Pending transactions of this node: `consensus.pool` at the chain's head, refusals counted, and a sign of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import trio

from consensus.ledger.messages import decode_transaction, transaction_id, verify_signature
from consensus.mempool import KNOWN, PendingTransaction
from consensus.pool import CheckedMempool
from consensus.signatures import SignatureCache
from gensyn_node.app.admission import Admission
from gensyn_node.app.chain import Chain, CommittedBlock
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.mempool_journal import JournalEntry


class Pool:
    """The mempool at the chain's head."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._mempool = CheckedMempool()
        self._arrived = trio.Event()
        self._fresh: list[JournalEntry] = []
        self.admission = Admission(self.__len__)
        self.refusals: Counter[str] = Counter()
        """How many transactions were refused since the start, by reason name."""
        self.accepted = 0
        """Taken since the start."""
        self.already_received = 0
        """Came again while they waited: gossip brings the same one from several neighbours."""
        self.dropped = 0
        """Expired, or made impossible by a block."""

    def __len__(self) -> int:
        return len(self._mempool)

    @property
    def total_bytes(self) -> int:
        """Bytes of all pending transactions."""
        return self._mempool.pending.total_bytes

    @property
    def displaced(self) -> int:
        """Transactions replaced or pushed out by better paying ones since the start."""
        return self._mempool.pending.displaced

    @property
    def signatures(self) -> SignatureCache:
        """What is known of transactions' signatures."""
        return self._mempool.signatures

    def add(self, data: bytes, height: int | None = None) -> bytes:
        """Check an encoded transaction and keep it; its id. `Rejection` says what is wrong with it, and is counted.

        `height`: the chain's height when it came in, for one that comes back after a restart.
        """
        height = self._chain.head.height if height is None else min(height, self._chain.head.height)
        try:
            name = self._mempool.add(self._chain.view(), height, data)
        except Rejection as rejection:
            if rejection.reason == KNOWN:
                self.already_received += 1
            else:
                self.refusals[rejection.reason.name] += 1
            raise
        self.accepted += 1
        if len(self._fresh) < limits.MEMPOOL_TRANSACTIONS_MAX:
            self._fresh.append(JournalEntry(height, data))
        self._arrived.set()
        return name

    def check_signature(self, data: bytes) -> None:
        """`Rejection` unless an encoded transaction is signed by its sender, whatever the ledger says of it."""
        self._mempool.signatures.check(transaction_id(data), decode_transaction(data), verify_signature)

    def pending(self) -> tuple[PendingTransaction, ...]:
        """Everything that waits, in the order of arrival."""
        return self._mempool.pending.contents()

    def take_fresh(self) -> list[JournalEntry]:
        """What came in since the last call, for the journal."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def entries(self) -> list[JournalEntry]:
        """Everything that waits, for the journal."""
        return [JournalEntry(pending.height, pending.data) for pending in self._mempool.pending.contents()]

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
        included = {transaction_id(data) for data in committed.block.transactions}
        dropped = self._mempool.after_block(self._chain.view(), committed.head.height, committed.block.transactions)
        self.dropped += sum(pending.id not in included for pending in dropped)
        self.admission.after_block()
