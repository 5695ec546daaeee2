"""This node's account: signs its transactions, one nonce after the other, and waits for what becomes of them."""

from __future__ import annotations

import trio

from consensus.ledger.execute import least_fee
from consensus.ledger.messages import Message, encode_transaction, sign_transaction
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.api import ChainApi, TransactionOutcome
from gensyn_node.roles.reasons import TRANSACTION_REFUSED

CONFIRMATION_TIMEOUT_S = 120.0
"""Long enough for several slow blocks; a duty that is still open afterwards is done again."""
FEE_FIELD_BYTES = 9
"""The fee itself is part of the transaction: its longest encoding."""


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
        async with self._turn:
            identity = await self._chain.submit_transaction(self._encode(message))
        outcome = await self._chain.wait_transaction(identity, CONFIRMATION_TIMEOUT_S)
        name = type(message).__name__
        if outcome is None:
            raise Unconfirmed(f"{name} {identity.hex()[:12]} is in no block after {CONFIRMATION_TIMEOUT_S:.0f} s")
        if not outcome.accepted:
            raise Rejection(TRANSACTION_REFUSED, f"{name}: {outcome.code} {outcome.error}")
        return outcome

    def _encode(self, message: Message) -> bytes:
        nonce = self._chain.next_nonce(self.address)
        unpriced = encode_transaction(sign_transaction(self._key, self._chain.chain_id, nonce, 0, message))
        fee_nano = least_fee(message, len(unpriced) + FEE_FIELD_BYTES, self._chain.parameters)
        return encode_transaction(sign_transaction(self._key, self._chain.chain_id, nonce, fee_nano, message))
