"""Signing and sending: nonce, fee, wait until it is in a block."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from consensus.ledger.fees import fee_for
from consensus.ledger.messages import Message, encode_transaction, sign_transaction, transaction_id
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Reason, Rejection
from gensyn_node.sdk import reasons
from gensyn_node.sdk.client import NodeClient

WAIT_S = 90.0
_ONE_WAIT_S = 20.0
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """A transaction that took effect."""

    transaction_id: bytes
    height: int
    fee_nano: int


def sign(client: NodeClient, key: SecretKey, message: Message) -> bytes:
    """A signed transaction with the account's next nonce and the least fee, encoded."""
    chain_id = str(client.call("status")["chain_id"])
    nonce = int(client.call("account", address=encode_address(key.address))["nonce"])
    fee_nano = fee_for(client.parameters(), chain_id, key, nonce, message)
    return encode_transaction(sign_transaction(key, chain_id, nonce, fee_nano, message))


def send(client: NodeClient, key: SecretKey, message: Message, *, wait_s: float = WAIT_S) -> Outcome:
    """Sign, submit, and wait until a block has it.

    `Rejection`: the node's reason; TRANSACTION_FAILED or the ledger's own when the block refused it; NOT_INCLUDED.
    """
    data = sign(client, key, message)
    client.call("submit_transaction", transaction=data.hex())
    return wait(client, transaction_id(data), wait_s)


def wait(client: NodeClient, identifier: bytes, wait_s: float = WAIT_S) -> Outcome:
    """Wait for a transaction that was submitted."""
    end = time.monotonic() + wait_s
    while (left := end - time.monotonic()) > 0:
        found: dict[str, Any] | None = client.call(
            "wait_transaction", transaction_id=identifier.hex(), timeout_s=float(min(left, _ONE_WAIT_S))
        )
        if found:
            return _outcome(identifier, found)
        time.sleep(min(left, _PAUSE_S))
    raise Rejection(reasons.NOT_INCLUDED, f"the transaction {identifier.hex()} is in no block after {wait_s:g} s")


def _outcome(identifier: bytes, found: dict[str, Any]) -> Outcome:
    if not found["accepted"]:
        failed = reasons.TRANSACTION_FAILED
        why = Reason(found["code"] or failed.code, failed.name, failed.meaning, failed.remedy)
        raise Rejection(why, f"block {found['height']} refused it: {found['error']}")
    return Outcome(identifier, int(found["height"]), int(found["fee_nano"]))
