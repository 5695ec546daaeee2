"""Pending transactions: ordered by nonce within an account, by fee per byte between accounts; everything bounded.

Pure: it knows transactions only by their metadata, so signatures, balances and meaning are checked before `insert` and
again by the caller's `still_valid` after each block. The caller stores `contents()` to survive a restart.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection, reason

KNOWN = reason("E1120", "transaction_known", "The transaction is already pending.", "Nothing to do; wait for a block.")
NONCE_USED = reason(
    "E1121", "nonce_used", "The account has already used this nonce.", "Sign again with the account's next nonce."
)
NONCE_TOO_FAR = reason(
    "E1122", "nonce_too_far", "The nonce is too far above the account's.", "Send the transactions in between first."
)
FEE_TOO_LOW_TO_REPLACE = reason(
    "E1123",
    "fee_too_low_to_replace",
    "Another transaction with this nonce is pending, and the fee is not a tenth higher.",
    "Raise the fee, or wait.",
)
MEMPOOL_FULL = reason(
    "E1124", "mempool_full", "The mempool is full of better paying transactions.", "Raise the fee, or try again later."
)
SENDER_FULL = reason(
    "E1125", "sender_full", "The account has too many pending transactions.", "Wait for some to be included."
)

NODE_BEHIND = reason(
    "E1126",
    "node_behind",
    "The next block is overdue and more waits for it than it can hold; the node takes no transactions until it comes.",
    "Send it again in a second.",
)


class PendingTransaction(Struct):
    """What the mempool knows of a transaction."""

    id: bytes
    sender: bytes
    nonce: int
    fee: int
    """Nano."""
    data: bytes
    """The encoded transaction."""
    height: int
    """The chain's height when it came in; it expires some blocks later."""

    @property
    def rate(self) -> int:
        """Fee per byte, scaled by 2^20 to keep it an integer: the order between accounts."""
        return (self.fee << 20) // max(len(self.data), 1)


@dataclass(frozen=True, slots=True)
class MempoolBounds:
    """How much may be pending, and for how long."""

    transactions: int = limits.MEMPOOL_TRANSACTIONS_MAX
    total_bytes: int = limits.MEMPOOL_BYTES_MAX
    per_sender: int = limits.MEMPOOL_PER_SENDER_MAX
    expiry_blocks: int = 600


class Mempool:
    """The pending transactions of one node."""

    def __init__(self, bounds: MempoolBounds | None = None) -> None:
        self.bounds = bounds or MempoolBounds()
        self.total_bytes = 0
        self.displaced = 0
        """Transactions replaced or pushed out since the start."""
        self._by_id: dict[bytes, PendingTransaction] = {}
        self._by_sender: dict[bytes, dict[int, PendingTransaction]] = {}
        self._next_nonce: dict[bytes, int] = {}
        self._fees: dict[bytes, int] = {}
        """Of all that a sender has pending."""
        self._cheapest: list[tuple[int, bytes]] = []
        """Heap of (rate, id) that holds every sender's last transaction, and stale entries."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._by_id

    def get(self, transaction_id: bytes) -> PendingTransaction | None:
        """The pending transaction with this id."""
        return self._by_id.get(transaction_id)

    def contents(self) -> tuple[PendingTransaction, ...]:
        """Everything, in the order of arrival."""
        return tuple(self._by_id.values())

    def senders(self) -> set[bytes]:
        """The accounts that have something pending."""
        return set(self._by_sender)

    def next_nonce(self, sender: bytes, account_nonce: int) -> int:
        """The first nonce, from the account's on, that no pending transaction of the sender has."""
        pending = self._by_sender.get(sender, {})
        while account_nonce in pending:
            account_nonce += 1
        return account_nonce

    def has_next(self) -> bool:
        """Whether some account's next transaction is here, so that a block could carry it."""
        return any(self._next_nonce[sender] in pending for sender, pending in self._by_sender.items())

    def insert(self, transaction: PendingTransaction, account_nonce: int) -> tuple[PendingTransaction, ...]:
        """Take a checked transaction; returns those it replaced or pushed out.

        `account_nonce` is the next nonce the sender's account expects. `Rejection` KNOWN, NONCE_USED, NONCE_TOO_FAR,
        FEE_TOO_LOW_TO_REPLACE, SENDER_FULL or MEMPOOL_FULL; then nothing has changed.
        """
        sender, nonce = transaction.sender, transaction.nonce
        pending = self._by_sender.get(sender, {})
        if transaction.id in self._by_id:
            raise Rejection(KNOWN, transaction.id.hex())
        if nonce < account_nonce:
            raise Rejection(NONCE_USED, f"nonce {nonce}, the account expects {account_nonce}")
        if nonce >= account_nonce + self.bounds.per_sender:
            raise Rejection(NONCE_TOO_FAR, f"nonce {nonce}, the account expects {account_nonce}")
        replaced = pending.get(nonce)
        if replaced is not None and transaction.fee * 10 < max(replaced.fee * 11, replaced.fee * 10 + 10):
            raise Rejection(FEE_TOO_LOW_TO_REPLACE, f"fee {transaction.fee}, pending {replaced.fee}")
        if replaced is None and len(pending) >= self.bounds.per_sender:
            raise Rejection(SENDER_FULL, f"{len(pending)} are pending")
        if replaced is None and self._crowded() and nonce > self.next_nonce(sender, account_nonce):
            raise Rejection(NONCE_TOO_FAR, f"nonce {nonce} leaves a gap, and the mempool is half full")
        pushed_out = self._make_room(transaction, replaced)
        if replaced is not None:
            self._remove(replaced)
        self._add(transaction)
        self._next_nonce[sender] = account_nonce
        self.displaced += len(pushed_out) + (replaced is not None)
        return (*((replaced,) if replaced else ()), *pushed_out)

    def _crowded(self) -> bool:
        """From here on nothing is taken that has to wait for another: what never pays could fill the pool for free."""
        return 2 * len(self._by_id) >= self.bounds.transactions or 2 * self.total_bytes >= self.bounds.total_bytes

    def fees_beside(self, sender: bytes, nonce: int) -> int:
        """Fees of all pending transactions of the sender except the one with this nonce."""
        same = self._by_sender.get(sender, {}).get(nonce)
        return self._fees.get(sender, 0) - (0 if same is None else same.fee)

    def _make_room(
        self, transaction: PendingTransaction, replaced: PendingTransaction | None
    ) -> tuple[PendingTransaction, ...]:
        """Push out the cheapest last transactions of other senders until this one fits, or refuse it."""
        count = len(self._by_id) + (replaced is None)
        size = self.total_bytes + len(transaction.data) - (len(replaced.data) if replaced else 0)
        pushed_out: list[PendingTransaction] = []
        nonces: dict[bytes, int] = {}
        while count > self.bounds.transactions or size > self.bounds.total_bytes:
            victim = self._pop_cheapest(transaction.sender)
            if victim is None or victim.rate >= transaction.rate:
                for other in (*reversed(pushed_out), *((victim,) if victim else ())):
                    self._restore(other)
                self._next_nonce.update(nonces)
                raise Rejection(MEMPOOL_FULL, f"a rate above {victim.rate if victim else 0} is needed")
            nonces.setdefault(victim.sender, self._next_nonce[victim.sender])
            self._remove(victim)
            pushed_out.append(victim)
            count, size = count - 1, size - len(victim.data)
        return tuple(pushed_out)

    def _restore(self, transaction: PendingTransaction) -> None:
        if transaction.id in self._by_id:
            heapq.heappush(self._cheapest, (transaction.rate, transaction.id))
        else:
            self._add(transaction)

    def _pop_cheapest(self, not_of: bytes) -> PendingTransaction | None:
        """The worst paying transaction that is its sender's last; the newcomer's own sender is spared."""
        spared: list[tuple[int, bytes]] = []
        found = None
        while self._cheapest and found is None:
            entry = heapq.heappop(self._cheapest)
            transaction = self._by_id.get(entry[1])
            if transaction is None or max(self._by_sender[transaction.sender]) != transaction.nonce:
                continue
            if transaction.sender == not_of:
                spared.append(entry)
            else:
                found = transaction
        for entry in spared:
            heapq.heappush(self._cheapest, entry)
        return found

    def _add(self, transaction: PendingTransaction) -> None:
        self._by_id[transaction.id] = transaction
        self._by_sender.setdefault(transaction.sender, {})[transaction.nonce] = transaction
        self._fees[transaction.sender] = self._fees.get(transaction.sender, 0) + transaction.fee
        self.total_bytes += len(transaction.data)
        heapq.heappush(self._cheapest, (transaction.rate, transaction.id))
        if len(self._cheapest) > 4 * len(self._by_id) + 64:
            self._cheapest = [(pending.rate, pending.id) for pending in self._by_id.values()]
            heapq.heapify(self._cheapest)

    def _remove(self, transaction: PendingTransaction) -> None:
        del self._by_id[transaction.id]
        self.total_bytes -= len(transaction.data)
        pending = self._by_sender[transaction.sender]
        del pending[transaction.nonce]
        self._fees[transaction.sender] -= transaction.fee
        if pending:
            last = pending[max(pending)]
            heapq.heappush(self._cheapest, (last.rate, last.id))
        else:
            del self._by_sender[transaction.sender]
            del self._fees[transaction.sender]
            self._next_nonce.pop(transaction.sender, None)

    def reap(self, max_bytes: int) -> list[PendingTransaction]:
        """Transactions for a block: best rate first, each account's in nonce order without gaps, within the bytes.

        An account whose next transaction does not fit is left out from there on; others still fill the block.
        """
        heads = []
        for sender, pending in self._by_sender.items():
            head = pending.get(self._next_nonce[sender])
            if head is not None:
                heads.append((-head.rate, head.id, head))
        heapq.heapify(heads)
        reaped: list[PendingTransaction] = []
        while heads:
            _, _, transaction = heapq.heappop(heads)
            if len(transaction.data) > max_bytes:
                continue
            max_bytes -= len(transaction.data)
            reaped.append(transaction)
            following = self._by_sender[transaction.sender].get(transaction.nonce + 1)
            if following is not None:
                heapq.heappush(heads, (-following.rate, following.id, following))
        return reaped

    def after_block(
        self,
        height: int,
        account_nonces: Mapping[bytes, int],
        still_valid: Callable[[PendingTransaction], bool] = lambda _: True,
    ) -> list[PendingTransaction]:
        """Drop what the block at `height` used up, expired or made invalid; returns the dropped.

        `account_nonces` holds the next nonce of (at least) every account that the block touched; `still_valid` is asked
        for the remaining transactions of those accounts, in nonce order.
        """
        dropped: list[PendingTransaction] = []
        for sender in sorted(account_nonces.keys() & self._by_sender.keys()):
            nonce = self._next_nonce[sender] = account_nonces[sender]
            pending = self._by_sender[sender]
            dropped += [t for _, t in sorted(pending.items()) if t.nonce < nonce or not still_valid(t)]
        known = {transaction.id for transaction in dropped}
        oldest = height - self.bounds.expiry_blocks
        dropped += [t for t in self._by_id.values() if t.height < oldest and t.id not in known]
        self._drop(dropped)
        return dropped

    def _drop(self, transactions: Iterable[PendingTransaction]) -> None:
        for transaction in transactions:
            self._remove(transaction)
