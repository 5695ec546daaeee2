"""Forgets old blocks by the policy of the configuration: some with every new block, never in one long pause."""

from __future__ import annotations

import structlog
import trio

from gensyn_node.app.chain import Chain
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.reasons import STORE_UNREADABLE
from gensyn_node.storage.snapshots import SnapshotFolder

AT_ONCE = 16
"""Blocks forgotten with one new block: a policy that became stricter is followed within some hundreds of blocks."""
COMPACT_EVERY = 2_000
"""Forgotten blocks after which LevelDB is asked for the room that they took."""

log = structlog.get_logger()


def lowest_kept(chain: Chain, config: StorageSection, snapshots: SnapshotFolder) -> int:
    """The lowest height whose block must stay; 0 keeps all.

    Whatever the policy, evidence can name offences as old as stakes are locked, and whoever restores a snapshot asks
    for as many headers before it.
    """
    if config.keep_blocks == 0:
        return 0
    head = chain.head.height
    evidence_age = max(chain.parameters.unbonding_blocks, chain.genesis.parameters.unbonding_blocks)
    oldest_snapshot = min(snapshots.heights(), default=head)
    return max(0, min(head + 1 - config.keep_blocks, min(oldest_snapshot, head) - evidence_age))


class Pruner:
    """Prunes and compacts on a thread, one batch at a time."""

    def __init__(self, chain: Chain, config: StorageSection, snapshots: SnapshotFolder) -> None:
        self._chain = chain
        self._config = config
        self._snapshots = snapshots
        self._send, self._woken = trio.open_memory_channel[None](1)
        self._since_compaction = 0

    def after_block(self) -> None:
        """A block has become the head: perhaps others may go."""
        if self._config.keep_blocks:
            try:
                self._send.send_nowait(None)
            except trio.WouldBlock:
                log.debug("pruning_busy", head=self._chain.head.height)

    async def run(self) -> None:
        """Prune after each block until cancelled."""
        async for _ in self._woken:
            await self.prune_some()

    async def prune_some(self) -> int:
        """Forget a few blocks; how many."""
        below = lowest_kept(self._chain, self._config, self._snapshots)
        try:
            pruned = await trio.to_thread.run_sync(self._chain.prune, below, AT_ONCE)
            self._since_compaction += pruned
            if self._since_compaction >= COMPACT_EVERY:
                self._since_compaction = 0
                await trio.to_thread.run_sync(self._chain.store.compact_blocks, self._chain.base)
                log.info("compacted", lowest_block=self._chain.base)
        except OSError as error:
            log.error("pruning_failed", why=str(error))  # a full disk: consensus finds out and opens the database again
            return 0
        except Rejection as rejection:
            if rejection.reason is not STORE_UNREADABLE:
                raise
            log.error("pruning_failed", why=str(rejection))  # which it just does
            return 0
        return pruned
