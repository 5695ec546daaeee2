"""This node's account: signs its transactions, one nonce after the other, and waits for what becomes of them."""

from __future__ import annotations

import trio

from consensus.ledger.fees import fee_for
from consensus.ledger.messages import Message, encode_transaction, sign_transaction
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.api import ChainApi, TransactionOutcome
from gensyn_node.roles.reasons import TRANSACTION_REFUSED

CONFIRMATION_TIMEOUT_S = 120.0
"""Long enough for several slow blocks; a duty that is still open afterwards is done again."""


class Unconfirmed(Exception):  # noqa: N818  (it names the event)
    """A transaction was sent and is not in a block yet; it may still come."""


class NodeAccount:
    """Sends messages from one key. Safe to use from several tasks at once."""

    def __init__(self, chain: ChainApi, key: SecretKey) -> None:
        self._chain = chain
        self._key = key
        self._turn = trio.Lock()

    @property
    def address(self) -> bytes:
        """The account's 20-byte address."""
        return self._key.address

    async def send(self, message: Message) -> TransactionOutcome:
        """Send and wait until it is applied.

        Raises `Rejection` when the node or the ledger refuses it, `Unconfirmed` when no block takes it in time.
        """
        chain, key = self._chain, self._key
        async with self._turn:
            nonce = chain.next_nonce(self.address)
            fee_nano = fee_for(chain.parameters, chain.chain_id, key, nonce, message)
            transaction = sign_transaction(key, chain.chain_id, nonce, fee_nano, message)
            identity = await chain.submit_transaction(encode_transaction(transaction))
        outcome = await chain.wait_transaction(identity, CONFIRMATION_TIMEOUT_S)
        name = type(message).__name__
        if outcome is None:
            raise Unconfirmed(f"{name} {identity.hex()[:12]} is in no block after {CONFIRMATION_TIMEOUT_S:.0f} s")
        if not outcome.accepted:
            raise Rejection(TRANSACTION_REFUSED, f"{name}: {outcome.code} {outcome.error}")
        return outcome
