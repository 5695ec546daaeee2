"""An account's transactions: nonces, least fees, what is on its way, and sending it again or with a higher fee."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from hashlib import sha256

from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.fees import least_fee
from consensus.ledger.messages import Message, Transaction, encode_transaction, signing_bytes, verify_signature
from consensus.ledger.parameters import Parameters
from consensus.pool import account_of
from gensyn_node.primitives import reasons
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection

RESEND_BLOCKS = 2
"""After so many blocks without inclusion a wallet sends again what is on its way."""
_KEYS: dict[str, SecretKey] = {}


def key_of(name: str) -> SecretKey:
    """The key of a named account."""
    if name not in _KEYS:
        _KEYS[name] = SecretKey(sha256(name.encode()).digest())
    return _KEYS[name]


def know(name: str, key: SecretKey) -> None:
    """Give a name to a key that others made."""
    _KEYS[name] = key


def stub_signature(transaction: Transaction) -> bytes:
    """A stand-in for ed25519, as good as real while nobody signs for another."""
    fields = (transaction.chain_id, transaction.sender, transaction.nonce, transaction.fee_nano, transaction.message)
    return hashlib.blake2b(signing_bytes(*fields), key=transaction.sender, digest_size=64).digest()


def check_stub_signature(transaction: Transaction) -> None:
    """As `verify_signature`, for the stand-in."""
    if stub_signature(transaction) != transaction.signature:
        raise Rejection(reasons.BAD_SIGNATURE, "the stand-in signature is another one")


check_real_signature = verify_signature


@dataclass
class Sent:
    """A transaction on its way."""

    purpose: object
    """What it is for; no second one is made for the same purpose while it is on its way."""
    message: Message
    data: bytes
    fee_nano: int
    first_height: int
    last_height: int


@dataclass
class Wallet:
    """One account's way to the chain."""

    name: str
    chain_id: str
    parameters: Parameters
    """As last read from the ledger: governance changes fees."""
    real_signatures: bool = False
    on_the_way: dict[int, Sent] = field(default_factory=dict)
    """By nonce."""
    used: int = 0
    """Nonces that were seen to be used, by whichever node was asked."""

    def __post_init__(self) -> None:
        self.key = key_of(self.name)
        self.address = self.key.address

    def refresh(self, reader: Reader) -> int:
        """Forget what was included (applied or not); the account's next nonce."""
        nonce = self.used = max(self.used, account_of(reader, self.address).nonce)
        self.parameters = queries.parameters(reader)
        for used in [number for number in self.on_the_way if number < nonce]:
            del self.on_the_way[used]
        return nonce

    def waits(self, purpose: object) -> Sent | None:
        """The transaction for this purpose that is on its way."""
        return next((sent for sent in self.on_the_way.values() if sent.purpose == purpose), None)

    def oldest_age(self, height: int) -> int:
        """For how many blocks the longest waiting transaction has been on its way."""
        return max((height - sent.first_height for sent in self.on_the_way.values()), default=0)

    def send(self, reader: Reader, height: int, purpose: object, message: Message, *, skip: int = 0) -> bytes:
        """Sign a message for the next free nonce; `skip` leaves a gap of so many nonces."""
        nonce = self.refresh(reader)
        while nonce in self.on_the_way:
            nonce += 1
        return self._put(height, nonce + skip, purpose, message, 0)

    def again(self, reader: Reader, height: int) -> list[bytes]:
        """What has waited for some blocks, once more."""
        self.refresh(reader)
        late = [sent for _, sent in sorted(self.on_the_way.items()) if height - sent.last_height >= RESEND_BLOCKS]
        for sent in late:
            sent.last_height = height
        return [sent.data for sent in late]

    def replace(self, height: int, nonce: int, message: Message) -> bytes:
        """Another message in the place of one on its way, for a fee a quarter higher."""
        old = self.on_the_way[nonce]
        return self._put(old.first_height, nonce, ("instead of", old.purpose), message, old.fee_nano * 5 // 4 + 1)

    def transaction(self, nonce: int, fee_nano: int, message: Message) -> bytes:
        """The signed transaction, encoded."""
        unsigned = Transaction(self.chain_id, self.key.public, nonce, fee_nano, message, bytes(64))
        if self.real_signatures:
            signature = self.key.sign(signing_bytes(self.chain_id, self.key.public, nonce, fee_nano, message))
        else:
            signature = stub_signature(unsigned)
        return encode_transaction(Transaction(self.chain_id, self.key.public, nonce, fee_nano, message, signature))

    def _put(self, height: int, nonce: int, purpose: object, message: Message, least_nano: int) -> bytes:
        fee = least_nano
        while True:
            size = len(encode_transaction(Transaction(self.chain_id, self.key.public, nonce, fee, message, bytes(64))))
            needed = least_fee(message, size, self.parameters)
            if needed <= fee:
                break
            fee = needed
        data = self.transaction(nonce, fee, message)
        self.on_the_way[nonce] = Sent(purpose, message, data, fee, height, height)
        return data
