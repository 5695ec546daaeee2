"""A client's own check that a block contains a transaction, from what a node showed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consensus.ledger.messages import transaction_id
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256
from gensyn_node.sdk import reasons
from proofs import merkle


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A proof that holds."""

    height: int
    index: int
    total: int
    """Transactions in the block."""
    data_root: str
    """Of the block's header, hexadecimal."""
    hashes: int
    """Length of the path."""


def check_inclusion(name: str, shown: dict[str, Any], header: dict[str, Any]) -> Inclusion:
    """Recompute a proof (RFC 6962 path) up to the data root of its header; nothing of the proof is believed.

    `shown` and `header` are a node's answers to `transaction_proof` and `header`. `Rejection` BAD_INCLUSION.
    """
    try:
        data, index, total = bytes.fromhex(shown["transaction"]), int(shown["index"]), int(shown["total"])
        path = [bytes.fromhex(one) for one in shown["path"]]
        height, root = int(header["header"]["height"]), bytes.fromhex(header["header"]["data_root"])
    except (KeyError, TypeError, ValueError) as error:
        raise Rejection(reasons.BAD_INCLUSION, f"the node's answer has another form: {error}") from None
    if transaction_id(data).hex() != name:
        raise Rejection(reasons.BAD_INCLUSION, f"it is about the transaction {transaction_id(data).hex()}")
    if height != shown["height"]:
        raise Rejection(reasons.BAD_INCLUSION, f"it is about block {shown['height']}, the header is {height}")
    leaf = merkle.SHA256.leaf(sha256(data))
    if not 0 <= index < total or not merkle.verify_inclusion(merkle.SHA256, root, leaf, index, total, path):
        raise Rejection(reasons.BAD_INCLUSION, f"the path does not lead to the data root of block {height}")
    return Inclusion(height, index, total, root.hex(), len(path))
