"""Pending transactions of this node: checked against the head, put in, taken out again by blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import trio

from consensus.ledger import keys
from consensus.ledger.execute import check_transaction
from consensus.ledger.fees import transaction_units
from consensus.ledger.messages import Transaction, decode_transaction, transaction_id, verify_signature
from consensus.ledger.reasons import INSUFFICIENT_FUNDS
from consensus.ledger.records import Account
from consensus.mempool import KNOWN, Mempool, PendingTransaction
from gensyn_node.app.chain import Chain, CommittedBlock
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.errors import Rejection


class Pool:
    """The mempool with the checks that need the ledger."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._mempool = Mempool()
        self._arrived = trio.Event()
        self.refusals: Counter[str] = Counter()
        """How many transactions were refused since the start, by reason name."""

    def __len__(self) -> int:
        return len(self._mempool)

    def add(self, data: bytes) -> bytes:
        """Check an encoded transaction and keep it; its id. `Rejection` says what is wrong with it, and is counted."""
        try:
            return self._add(data)
        except Rejection as rejection:
            if rejection.reason != KNOWN:  # gossip brings the same one from every neighbour
                self.refusals[rejection.reason.name] += 1
            raise

    def _add(self, data: bytes) -> bytes:
        name = transaction_id(data)
        if name in self._mempool:
            raise Rejection(KNOWN, name.hex())
        transaction = decode_transaction(data)
        view = self._chain.view()
        check_transaction(view, transaction, len(data))
        verify_signature(transaction)
        sender = transaction.sender_address
        account = self._account(sender)
        fees = transaction.fee_nano + self._mempool.fees_beside(sender, transaction.nonce)
        if fees > account.balance_nano:
            # One balance must not back a whole row of transactions of which it can pay one.
            raise Rejection(INSUFFICIENT_FUNDS, f"the balance is {account.balance_nano} nano, all fees {fees}")
        pending = PendingTransaction(
            name, sender, transaction.nonce, transaction.fee_nano, data, self._chain.head.height
        )
        self._mempool.insert(pending, account.nonce)
        self._arrived.set()
        return name

    def get(self, name: bytes) -> bytes | None:
        """A pending transaction's bytes."""
        pending = self._mempool.get(name)
        return None if pending is None else pending.data

    def next_nonce(self, address: bytes) -> int:
        """Nonce of the account's next transaction, pending ones counted."""
        return self._mempool.next_nonce(address, self._account_nonce(address))

    def reap(self, max_bytes: int) -> tuple[bytes, ...]:
        """What goes into the next block, best paying first, within bytes and the block's space in units."""
        parameters = self._chain.genesis.parameters
        units_left = parameters.block_units_max
        reaped: list[bytes] = []
        for pending in self._mempool.reap(max_bytes):
            message = decode_transaction(pending.data).message
            units_left -= transaction_units(message, len(pending.data), parameters)
            if units_left < 0 or len(reaped) == limits.BLOCK_TRANSACTIONS_MAX:
                break
            reaped.append(pending.data)
        return tuple(reaped)

    def verified(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """Those of the transactions whose signature was checked when they came in."""
        return frozenset(name for name in names if name in self._mempool)

    async def wait_for_work(self) -> None:
        """Return as soon as a transaction is pending that can go into the next block (its nonce is the next one)."""
        while not self._mempool.reap(limits.TRANSACTION_BYTES_MAX):
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()

    def after_block(self, committed: CommittedBlock) -> None:
        """Drop what the new head used up or made impossible. The chain is already at the new head."""
        senders = {decode_sender(data) for data in committed.block.transactions} - {None}
        nonces = {sender: self._account_nonce(sender) for sender in senders if sender is not None}
        view = self._chain.view()

        def still_valid(pending: PendingTransaction) -> bool:
            try:
                check_transaction(view, decode_transaction(pending.data), len(pending.data))
            except Rejection:
                return False
            return True

        self._mempool.after_block(committed.head.height, nonces, still_valid)

    def _account(self, address: bytes) -> Account:
        data = self._chain.view().get(keys.account(address))
        account: Account = Account() if data is None else codec.decode(Account, data)
        return account

    def _account_nonce(self, address: bytes) -> int:
        return self._account(address).nonce


def decode_sender(data: bytes) -> bytes | None:
    """The paying account of a transaction in a block; None when it does not decode."""
    try:
        transaction: Transaction = decode_transaction(data)
    except Rejection:
        return None
    return transaction.sender_address
