"""The chain as roles and RPC see it: reads at the head, transactions in, blocks as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress

import trio

from consensus.ledger.parameters import Parameters
from gensyn_node.app.block_sync import BlockSync
from gensyn_node.app.broadcaster import Broadcaster
from gensyn_node.app.chain import Chain, CommittedBlock, HeadView
from gensyn_node.app.event_bus import EventBus, Feed
from gensyn_node.app.pool import Pool
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.roles.api import TransactionOutcome


class NodeChain:
    """Implements `gensyn_node.roles.api.ChainApi`, and more for the RPC server."""

    def __init__(
        self, *, chain: Chain, pool: Pool, sync: BlockSync, broadcaster: Broadcaster, account_key: SecretKey
    ) -> None:
        self._chain = chain
        self._pool = pool
        self._sync = sync
        self._broadcaster = broadcaster
        self.account_key = account_key
        self._bus: EventBus[CommittedBlock] = EventBus()

    @property
    def chain_id(self) -> str:
        """The chain's name."""
        return self._chain.chain_id

    @property
    def parameters(self) -> Parameters:
        """The protocol parameters in force for the next block."""
        return self._chain.parameters

    def head_height(self) -> int:
        """Height of the last committed block."""
        return self._chain.head.height

    def syncing(self) -> bool:
        """True while the node is far behind its peers."""
        return self._sync.syncing

    def view(self) -> HeadView:
        """The ledger at the head, as it is now and stays."""
        return self._chain.view()

    def next_nonce(self, address: bytes) -> int:
        """The nonce of this account's next transaction, those in the mempool counted."""
        return self._pool.next_nonce(address)

    async def submit_transaction(self, data: bytes) -> bytes:
        """Check, keep and spread an encoded transaction; its id. `Rejection` says what is wrong with it."""
        await trio.lowlevel.checkpoint()
        name = self._pool.add(data)
        self._broadcaster.transaction(data)
        return name

    async def wait_transaction(self, transaction_id: bytes, timeout_s: float) -> TransactionOutcome | None:
        """The outcome once it is in a block; None when `timeout_s` passes first."""
        async with self.committed() as blocks:
            with trio.move_on_after(timeout_s):
                while self.outcome(transaction_id) is None:
                    await blocks.receive()
        return self.outcome(transaction_id)

    def outcome(self, transaction_id: bytes) -> TransactionOutcome | None:
        """What became of a transaction; None while it is in no block."""
        place = self._chain.place_of(transaction_id)
        results = self._chain.results(place.height) if place else None
        if place is None or results is None:
            return None
        result = results[place.index]
        return TransactionOutcome(transaction_id, place.height, result.applied, result.code, result.message)

    def committed(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[CommittedBlock]]:
        """Every block from now on, with its results and events; a reader that falls behind loses the oldest."""
        return self._bus.subscribe()

    def committed_feed(self) -> AbstractContextManager[Feed[CommittedBlock]]:
        """`committed`, for a reader that is told how many it lost."""
        return self._bus.feed()

    @asynccontextmanager
    async def blocks(self) -> AsyncIterator[trio.MemoryReceiveChannel[int]]:
        """Heights as they are committed; a slow reader misses some and sees the newest."""
        send, receive = trio.open_memory_channel[int](1)
        async with trio.open_nursery() as nursery, self.committed() as blocks:
            nursery.start_soon(_newest_height, blocks, send, receive.clone())
            yield receive
            nursery.cancel_scope.cancel()

    def publish(self, committed: CommittedBlock) -> None:
        """Tell subscribers of a new head."""
        self._bus.publish(committed)


async def _newest_height(
    blocks: trio.MemoryReceiveChannel[CommittedBlock],
    send: trio.MemorySendChannel[int],
    drain: trio.MemoryReceiveChannel[int],
) -> None:
    """Keep only the newest height in a channel of one."""
    async with send, drain:
        async for committed in blocks:
            with suppress(trio.WouldBlock):
                drain.receive_nowait()
            send.send_nowait(committed.head.height)
