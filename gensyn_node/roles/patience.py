"""How long a verifier goes on fetching before it says that it could not: in blocks, as the chain counts its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.api import ChainApi

LOOK_S = 0.5
T = TypeVar("T")


def fetch_patience(drawn_height: int, due_height: int, fetch_blocks: int) -> int:
    """Until which height it fetches: half of its time, or what the chain gives for fetching where that is more.

    The rest is for computing and for the verdict: whoever says in time what it could not fetch loses nothing, whoever
    says nothing loses a part of its bond.
    """
    whole = due_height - drawn_height
    return drawn_height + max(whole // 2, min(fetch_blocks + 1, whole * 9 // 10))  # Given are whole blocks.


async def within(chain: ChainApi, height: int, action: Callable[[], Awaitable[T]]) -> T | None:
    """What the action gives; None when the chain reaches `height` first: then it is given up where it is."""
    result: T | None = None
    refused: Rejection | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_give_up_at, chain, height, nursery.cancel_scope)
        try:
            result = await action()
        except Rejection as refusal:
            refused = refusal  # Raised outside: a nursery would wrap it.
        nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return result


async def _give_up_at(chain: ChainApi, height: int, scope: trio.CancelScope) -> None:
    while True:
        if chain.head_height() >= height:
            scope.cancel()
        await trio.sleep(LOOK_S)
