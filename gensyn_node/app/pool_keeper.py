"""Keeps the mempool on disk beside the node's work, and brings it back after a restart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
import trio

from gensyn_node.app.pool import Pool
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.mempool_journal import MempoolJournal

WRITE_INTERVAL_S = 1.0
CHECKED_AT_ONCE = 16
"""Restored transactions checked before other tasks get their turn."""

log = structlog.get_logger()


class PoolKeeper:
    """Writes what comes in once a second, in a thread; a full disk costs the journal, never a block."""

    def __init__(self, pool: Pool, journal: MempoolJournal, announce: Callable[[bytes], None]) -> None:
        """`announce` spreads a restored transaction: perhaps this node was the only one that had it."""
        self._pool = pool
        self._journal = journal
        self._announce = announce
        self._failed = False

    async def run(self) -> None:
        """Restore, then write until cancelled; what came last is written on the way out."""
        await self._restore()
        try:
            while True:
                await trio.sleep(WRITE_INTERVAL_S)
                await self._write()
        finally:
            self._try(partial(self._journal.rewrite, self._pool.entries()))

    async def _restore(self) -> None:
        """Every transaction is checked like one that comes in now; what is used up, expired or wrong is left out."""
        entries = await trio.to_thread.run_sync(self._journal.read)
        kept = 0
        for number, entry in enumerate(entries):
            try:
                self._pool.add(entry.transaction, entry.height)
            except Rejection as rejection:
                log.debug("transaction_not_restored", why=str(rejection))
            else:
                kept += 1
                self._announce(entry.transaction)
            if number % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        if entries:
            log.info("mempool_restored", transactions=kept, dropped=len(entries) - kept)
        self._pool.take_fresh()
        await self._store()

    async def _write(self) -> None:
        fresh = self._pool.take_fresh()
        if self._failed or self._journal.is_long(self._pool.total_bytes):
            await self._store()
        elif fresh:
            await trio.to_thread.run_sync(self._try, partial(self._journal.append, fresh))

    async def _store(self) -> None:
        await trio.to_thread.run_sync(self._try, partial(self._journal.rewrite, self._pool.entries()))

    def _try(self, write: Callable[[], None]) -> None:
        """After a failure the file is rewritten whole as soon as the disk takes it."""
        try:
            write()
        except OSError as error:
            if not self._failed:
                log.warning("mempool_not_stored", why=str(error))
            self._failed = True
        else:
            self._failed = False
