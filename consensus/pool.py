"""The mempool with the checks that need the ledger: what a node lets wait, proposes, and drops after a block.

Pure: the caller passes the ledger as it is after the head, and the head's height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from consensus.ledger import keys
from consensus.ledger.block import Reader
from consensus.ledger.execute import check_transaction
from consensus.ledger.fees import transaction_units
from consensus.ledger.messages import Transaction, decode_transaction, transaction_id, verify_signature
from consensus.ledger.parameters import Parameters
from consensus.ledger.reasons import INSUFFICIENT_FUNDS
from consensus.ledger.records import Account
from consensus.mempool import KNOWN, Mempool, MempoolBounds, PendingTransaction
from consensus.signatures import SignatureCache
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.errors import Rejection


class CheckedMempool:
    """Pending transactions, each checked against the head when it comes in and again when its account changes."""

    def __init__(self, bounds: MempoolBounds | None = None) -> None:
        self.pending = Mempool(bounds)
        self.signatures = SignatureCache()
        self._parameters: bytes | None = None
        """Under which everything that waits was last checked, as the ledger holds them."""

    def __len__(self) -> int:
        return len(self.pending)

    def add(
        self, view: Reader, height: int, data: bytes, check_signature: Callable[[Transaction], None] = verify_signature
    ) -> bytes:
        """Check an encoded transaction and keep it; its id. `Rejection` says what is wrong with it."""
        name = transaction_id(data)
        if name in self.pending:
            raise Rejection(KNOWN, name.hex())
        transaction = decode_transaction(data)
        account = check_transaction(view, transaction, len(data))
        if self._parameters is None:
            self._parameters = view.get(keys.PARAMETERS)
        self.signatures.check(name, transaction, check_signature)
        sender = transaction.sender_address
        fees = transaction.fee_nano + self.pending.fees_beside(sender, transaction.nonce)
        if fees > account.balance_nano:
            # One balance must not back a whole row of transactions of which it can pay one.
            raise Rejection(INSUFFICIENT_FUNDS, f"the balance is {account.balance_nano} nano, all fees {fees}")
        entry = PendingTransaction(name, sender, transaction.nonce, transaction.fee_nano, data, height)
        self.pending.insert(entry, account.nonce)
        return name

    def get(self, name: bytes) -> bytes | None:
        """A pending transaction's bytes."""
        found = self.pending.get(name)
        return None if found is None else found.data

    def next_nonce(self, view: Reader, address: bytes) -> int:
        """Nonce of the account's next transaction, pending ones counted."""
        return self.pending.next_nonce(address, account_of(view, address).nonce)

    def reap(self, parameters: Parameters, max_bytes: int) -> tuple[bytes, ...]:
        """What goes into the next block, best paying first, within bytes and the block's space in units."""
        units_left = parameters.block_units_max
        reaped: list[bytes] = []
        for entry in self.pending.reap(max_bytes):
            message = decode_transaction(entry.data).message
            units_left -= transaction_units(message, len(entry.data), parameters)
            if units_left < 0 or len(reaped) == limits.BLOCK_TRANSACTIONS_MAX:
                break
            reaped.append(entry.data)
        return tuple(reaped)

    def has_work(self) -> bool:
        """Whether some pending transaction can go into the next block (its nonce is the next one)."""
        return self.pending.has_next()

    def verified(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """Those of the transactions whose signature was checked when they came in."""
        return self.signatures.verified(names)

    def after_block(self, view: Reader, height: int, transactions: Sequence[bytes]) -> list[PendingTransaction]:
        """Drop what the block at `height` used up or made impossible; `view` is the ledger after it. The dropped.

        A change of the parameters can make anything impossible (a fee too low): then everything is checked again.
        Otherwise balances are looked at: with thousands pending a whole check of each would outlast the block.
        """
        before, self._parameters = self._parameters, view.get(keys.PARAMETERS)
        changed = before != self._parameters
        senders = {decode_sender(data) for data in transactions} | (self.pending.senders() if changed else set())
        accounts = {sender: account_of(view, sender) for sender in senders if sender is not None}

        def still_valid(entry: PendingTransaction) -> bool:
            if not changed:
                return entry.fee <= accounts[entry.sender].balance_nano
            try:
                check_transaction(view, decode_transaction(entry.data), len(entry.data))
            except Rejection:
                return False
            return True

        nonces = {sender: account.nonce for sender, account in accounts.items()}
        return self.pending.after_block(height, nonces, still_valid)


def account_of(view: Reader, address: bytes) -> Account:
    """The account, empty where there is none."""
    data = view.get(keys.account(address))
    account: Account = Account() if data is None else codec.decode(Account, data)
    return account


def decode_sender(data: bytes) -> bytes | None:
    """The paying account of a transaction in a block; None when it does not decode."""
    try:
        transaction: Transaction = decode_transaction(data)
    except Rejection:
        return None
    return transaction.sender_address
