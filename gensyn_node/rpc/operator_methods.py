"""Methods for operators and explorers: blocks in parts, the state of consensus, the mempool, proofs, evidence."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import NodeBackend
from gensyn_node.rpc.method import AtHeight, Hash, Method, OfTransaction, Parameters, found, hash_of

HEADERS_MAX = 50
PENDING_MAX = 100
EVIDENCE_BYTES_MAX = 256 * limits.KIB


class HeaderRange(Parameters, frozen=True):
    first: Annotated[int, Meta(ge=1, le=1 << 62)]
    limit: Annotated[int, Meta(ge=1, le=HEADERS_MAX)] = 20


class OfBlock(Parameters, frozen=True):
    block_id: Hash


class PendingRange(Parameters, frozen=True):
    offset: Annotated[int, Meta(ge=0, le=limits.MEMPOOL_TRANSACTIONS_MAX)] = 0
    limit: Annotated[int, Meta(ge=0, le=PENDING_MAX)] = 30


class Encoded(Parameters, frozen=True):
    transaction: Annotated[str, Meta(max_length=2 * limits.TRANSACTION_BYTES_MAX)]


class EncodedEvidence(Parameters, frozen=True):
    evidence: Annotated[str, Meta(max_length=2 * EVIDENCE_BYTES_MAX)]


async def _header(node: NodeBackend, p: AtHeight) -> object:
    return found(await node.header(p.height), f"there is no block {p.height}")


async def _height(node: NodeBackend, p: OfBlock) -> int:
    height = await node.height_of(hash_of(p.block_id))
    if height is None:
        raise Rejection(reasons.NOT_FOUND, f"there is no block {p.block_id}")
    return height


async def _header_by_id(node: NodeBackend, p: OfBlock) -> object:
    return found(await node.header(await _height(node, p)), f"there is no block {p.block_id}")


async def _block_by_id(node: NodeBackend, p: OfBlock) -> object:
    return found(await node.block(await _height(node, p)), f"there is no block {p.block_id}")


async def _block_results(node: NodeBackend, p: AtHeight) -> object:
    return found(await node.block_results(p.height), f"there are no results of block {p.height}")


async def _commit(node: NodeBackend, p: AtHeight) -> object:
    return found(await node.commit(p.height), f"there is no commit of block {p.height}")


async def _check_transaction(node: NodeBackend, p: Encoded) -> object:
    return await node.check_transaction(bytes_of(p.transaction))


async def _transaction_proof(node: NodeBackend, p: OfTransaction) -> object:
    proof = await node.transaction_proof(hash_of(p.transaction_id))
    return found(proof, f"no block here has the transaction {p.transaction_id}")


async def _submit_evidence(node: NodeBackend, p: EncodedEvidence) -> object:
    return {"new": await node.submit_evidence(bytes_of(p.evidence))}


def bytes_of(text: str) -> bytes:
    """What hexadecimal text stands for; BAD_PARAMETERS otherwise."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Rejection(reasons.BAD_PARAMETERS, "it is not hexadecimal") from None


async def _headers(node: NodeBackend, p: HeaderRange) -> object:
    return await node.headers(p.first, p.limit)


async def _pending(node: NodeBackend, p: PendingRange) -> object:
    return await node.unconfirmed_transactions(p.offset, p.limit)


def _health(node: NodeBackend, _: Any) -> Any:
    return node.health()


def _consensus_state(node: NodeBackend, _: Any) -> Any:
    return node.consensus_state()


OPERATOR_METHODS: dict[str, Method] = {
    "health": Method(Parameters, _health),
    "headers": Method(HeaderRange, _headers),
    "header": Method(AtHeight, _header),
    "header_by_id": Method(OfBlock, _header_by_id),
    "block_by_id": Method(OfBlock, _block_by_id),
    "block_results": Method(AtHeight, _block_results),
    "commit": Method(AtHeight, _commit),
    "consensus_state": Method(Parameters, _consensus_state),
    "unconfirmed_transactions": Method(PendingRange, _pending),
    "check_transaction": Method(Encoded, _check_transaction),
    "transaction_proof": Method(OfTransaction, _transaction_proof),
    "submit_evidence": Method(EncodedEvidence, _submit_evidence, writes=True),
}
"""Part of the table in `methods`."""
