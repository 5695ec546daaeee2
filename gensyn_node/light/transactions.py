"""Sending without a node: nonce, fee and outcome are proven, no peer is believed."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from consensus.ledger.block import TransactionResult
from consensus.ledger.fees import fee_for
from consensus.ledger.messages import Message, encode_transaction, sign_transaction, transaction_id
from consensus.light.backwards import Backwards
from consensus.light.skipping import Fetch, Verified
from consensus.light.types import LightBlock
from gensyn_node.light import reasons, wire
from gensyn_node.light.client import LightClient
from gensyn_node.light.reads import read_account
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import REASONS, Reason, Rejection
from gensyn_node.primitives.hashing import sha256
from proofs import merkle

SUBMITTED_TO = 3
"""Peers that a transaction is handed to: one alone could keep it to itself."""
POLL_S = 0.5
CLAIM_PATIENCE_S = 10.0
"""For the proof of one claim: a peer can name a block far below the head, and show the headers between them slowly."""


@dataclass(frozen=True, slots=True)
class Included:
    """A transaction that is proven to be in a block, with its result."""

    transaction_id: bytes
    height: int
    result: TransactionResult


async def send(client: LightClient, key: SecretKey, message: Message, *, wait_s: float) -> Included:
    """Sign with the proven nonce and fee, hand over, and wait until its inclusion is proven.

    `Rejection`: the reason of the peers when nobody took it, NOT_SEEN when no block had it in time, else as for `sync`.
    """
    state = await read_account(client, key.address)
    fee_nano = fee_for(state.parameters, client.chain_id, key, state.account.nonce, message)
    signed = sign_transaction(key, client.chain_id, state.account.nonce, fee_nano, message)
    data = encode_transaction(signed)
    await hand_over(client, data)
    with trio.move_on_after(wait_s):
        return await wait(client, data)
    raise Rejection(reasons.NOT_SEEN, f"the transaction {transaction_id(data).hex()} is in no block after {wait_s:g} s")


async def hand_over(client: LightClient, data: bytes) -> None:
    """Give an encoded transaction to some peers; the first refusal's reason when nobody takes it."""
    refusals: list[Rejection] = []
    taken = 0
    for peer in client.peers.by_height():
        reply = await client.peers.submit(peer, data)
        if reply is None:
            continue
        if reply.code:
            refusals.append(Rejection(REASONS.get(reply.code, reasons.REFUSED), reply.message))
            continue
        taken += 1
        if taken == SUBMITTED_TO:
            return
    if not taken:
        raise refusals[0] if refusals else Rejection(reasons.NO_PEER, "nobody took the transaction")


async def wait(client: LightClient, data: bytes) -> Included:
    """Until a peer proves where the transaction went; whoever proves wrongly is blamed, and others are asked."""
    name = transaction_id(data)
    while True:
        for peer in client.peers.by_height():
            reply = await client.peers.inclusion(peer, name)
            if reply is None or reply.inclusion is None:
                continue
            found = None
            try:
                with trio.move_on_after(CLAIM_PATIENCE_S):
                    found = await _proven(client, peer, data, reply.inclusion)
            except Rejection as rejection:
                if rejection.reason is not reasons.BAD_PROOF:
                    raise
                await client.peers.report(peer, rejection)
                continue
            if found is not None:
                return found
        await trio.sleep(POLL_S)


async def _proven(client: LightClient, peer: str, data: bytes, claim: wire.Inclusion) -> Included | None:
    """The claim, if two verified headers commit to it; None while there is no verified header after it."""
    try:
        head = (await client.sync(claim.height + 1)).block
    except Rejection as rejection:
        if rejection.reason is reasons.NO_PEER:
            return None  # the height is a claim: perhaps nobody has a header after it, or not yet
        raise
    headers = {head.height: head}
    if claim.height < head.height:
        for block in await _back_to(client, peer, head, claim.height):
            headers[block.height] = block
    if claim.height not in headers or claim.height + 1 not in headers:
        return None
    check(data, claim, headers[claim.height], headers[claim.height + 1])
    return Included(transaction_id(data), claim.height, claim.result)


async def _back_to(client: LightClient, peer: str, head: LightBlock, height: int) -> tuple[LightBlock, ...]:
    """The blocks below a verified head down to a height, by the hash chain."""
    machine = Backwards(client.chain_id, head, height)
    effect = machine.start()
    while isinstance(effect, Fetch):
        effect = machine.step(await client.peers.light_block(peer, effect.height))
    return effect.trace if isinstance(effect, Verified) else ()


def check(data: bytes, claim: wire.Inclusion, block: LightBlock, following: LightBlock) -> None:
    """`Rejection` BAD_PROOF unless the block has the transaction, and the next one's header its result."""
    scheme = merkle.SHA256
    places = (
        (block.header.data_root, scheme.leaf(sha256(data)), claim.data_path),
        (following.header.results_root, scheme.leaf(claim.result.committed), claim.results_path),
    )
    for root, leaf, path in places:
        if not merkle.verify_inclusion(scheme, root, leaf, claim.index, claim.size, path):
            raise Rejection(reasons.BAD_PROOF, f"of the transaction's place in block {claim.height}")
    if claim.result.transaction_id != transaction_id(data):
        raise Rejection(reasons.BAD_PROOF, "the result is another transaction's")


def reason_of(result: TransactionResult) -> Reason | None:
    """Why the block refused the message, by the code that the chain committed to; None when it took effect."""
    return None if result.applied else REASONS.get(result.code, reasons.REFUSED)
