"""Proposing and voting through a node's interface."""

from __future__ import annotations

from typing import Any

from consensus.ledger.proposal_messages import CastVote, Propose
from consensus.ledger.reasons import NO_VOTING_STAKE
from gensyn_node.primitives.bech32 import decode_address, encode_address
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
from gensyn_node.sdk.client import NodeClient
from gensyn_node.sdk.transactions import Outcome, send

LOOKED_THROUGH = 50
"""Newest proposals among which one's own is looked for."""


def propose(client: NodeClient, key: SecretKey, message: Propose) -> tuple[Outcome, int]:
    """Send a proposal and wait for its block; what became of it, and its number."""
    outcome = send(client, key, message)
    proposer = encode_address(key.address)
    mine = [
        int(one["number"])
        for one in client.call("proposals", limit=LOOKED_THROUGH)
        if (one["proposer"], one["submitted_height"], one["title"]) == (proposer, outcome.height, message.title)
    ]
    if not mine:
        raise Rejection(reasons.NODE_ERROR, f"the node does not show the proposal of block {outcome.height}")
    return outcome, max(mine)


def cast_votes(
    client: NodeClient, key: SecretKey, number: int, choice: int, validators: list[str] | None = None
) -> list[dict[str, Any]]:
    """Vote with all stake of a key, or with that at the validators named; one entry a vote, with its block.

    `Rejection` NO_VOTING_STAKE when there is none.
    """
    places = client.call("voting_places", number=number, address=encode_address(key.address))
    if validators is not None:
        wanted = {encode_address(decode_address(text)) for text in validators}
        places = [place for place in places if place["validator"] in wanted]
    if not places:
        raise Rejection(NO_VOTING_STAKE, f"{encode_address(key.address)} has no stake to vote with")
    cast = []
    for place in places:
        outcome = send(client, key, CastVote(number, decode_address(place["validator"]), choice))
        cast.append({**place, "height": outcome.height, "transaction_id": outcome.transaction_id.hex()})
    return cast
