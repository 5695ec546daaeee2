"""What a laptop does without a node of its own, as plain calls: verify the head, read an account, send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from consensus.ledger.messages import Message
from gensyn_node.light.client import LightClient, Synced
from gensyn_node.light.reads import ProvenAccount, read_account
from gensyn_node.light.session import LightSettings, open_light
from gensyn_node.light.transactions import reason_of
from gensyn_node.light.transactions import send as send_message
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk.transactions import WAIT_S, Outcome

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Head:
    """A verified head, and how it was reached."""

    synced: Synced
    trusted_height: int
    """Where trust began; 0 is the genesis."""


def verified_head(settings: LightSettings) -> Head:
    """Verify the newest header over peers. `Rejection` as `LightClient.sync` and `open_light`."""

    async def sync(client: LightClient) -> Head:
        began = client.trusted_height
        return Head(await client.sync(), began)

    return _run(settings, sync)


def proven_account(settings: LightSettings, address: bytes) -> ProvenAccount:
    """An account's balance and next nonce, proven under a verified header."""

    async def read(client: LightClient) -> ProvenAccount:
        return await read_account(client, address)

    return _run(settings, read)


def send(settings: LightSettings, key: SecretKey, message: Message, *, wait_s: float = WAIT_S) -> Outcome:
    """Sign, hand over, and wait until two verified headers commit to the transaction and to its result.

    `Rejection` with the ledger's reason when the block refused the message.
    """

    async def send_(client: LightClient) -> Outcome:
        found = await send_message(client, key, message, wait_s=wait_s)
        why = reason_of(found.result)
        if why is not None:
            raise Rejection(why, f"block {found.height} refused it: {found.result.code}")
        return Outcome(found.transaction_id, found.height, found.result.fee_nano)

    return _run(settings, send_)


def _run(settings: LightSettings, use: Callable[[LightClient], Awaitable[T]]) -> T:
    async def main() -> T:
        async with open_light(settings) as client:
            return await use(client)

    return trio.run(main)
