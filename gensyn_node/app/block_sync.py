"""Brings a node that is behind to the head of its peers, block by block.

Each block is taken only with a commit of more than two thirds of the set that our own chain names for its height, every
signature checked. A peer whose block does not stand that is banned; a peer that claims a height it cannot show is asked
last from then on.
"""

from __future__ import annotations

import structlog
import trio

from gensyn_node.app import wire
from gensyn_node.app.chain import Chain
from gensyn_node.app.driver import Driver, SealedByPeers
from gensyn_node.app.executor import Executor
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.reasons import STORE_UNREADABLE
from p2p.api import PeerEventKind, Peers, RequestFailed, RequestRefused, Requests

FAR_BEHIND_BLOCKS = 3
"""From this distance on the node calls itself syncing."""
REQUEST_TIMEOUT_S = 15.0
LOOK_INTERVAL_S = 2.0
"""How often the peers' claimed heights are compared with ours."""

log = structlog.get_logger()


class BlockSync:
    """Asks peers that are ahead for blocks; answers those that are behind."""

    def __init__(self, *, chain: Chain, driver: Driver, executor: Executor, requests: Requests, peers: Peers) -> None:
        self._chain = chain
        self._driver = driver
        self._executor = executor
        self._requests = requests
        self._peers = peers
        self._wake = trio.Event()
        self._failed: dict[str, int] = {}
        self._goal = 0

    @property
    def syncing(self) -> bool:
        """Whether peers have shown to be far ahead."""
        return self._goal >= self._chain.head.height + FAR_BEHIND_BLOCKS

    def wake(self) -> None:
        """Somebody is ahead of us: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Sync whenever a peer is ahead, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_peers)
            while True:
                with trio.move_on_after(LOOK_INTERVAL_S):
                    await self._wake.wait()
                asked = self._wake.is_set()
                self._wake = trio.Event()
                await self._sync(eager=asked)

    async def _watch_peers(self) -> None:
        """A new peer may be ahead."""
        while True:
            async for event in self._peers.events():
                if event.kind is PeerEventKind.CONNECTED:
                    self.wake()
                else:
                    self._failed.pop(event.peer, None)

    async def _sync(self, *, eager: bool) -> None:
        """Fetch from one peer after the other until none that answers is ahead.

        One block's lead is normal for a moment; only a node that stands still (`eager`) asks because of it.
        """
        tried: set[str] = set()
        while True:
            head = self._chain.head.height
            ahead = [
                info
                for info in self._peers.connected()
                if info.peer not in tried and (eager or info.head_height >= head + 2)
            ]
            if not ahead:
                self._goal = 0  # what was claimed beyond was not shown
                return
            best = min(ahead, key=lambda info: (self._failed.get(info.peer, 0), -info.head_height, info.peer))
            if not await self._fetch_from(best.peer, best.head_height):
                tried.add(best.peer)

    async def _fetch_from(self, peer: str, claimed: int) -> bool:
        """Whether the peer, whose head is at `claimed` it says, moved us on."""
        first = self._chain.head.height + 1
        query = codec.encode(wire.BlocksQuery(first, wire.REPLY_BLOCKS_MAX))
        try:
            data = await self._requests.request(peer, wire.METHOD_BLOCKS, query, timeout_s=REQUEST_TIMEOUT_S)
            reply: wire.BlocksReply = codec.decode(wire.BlocksReply, data)
        except Rejection as rejection:
            await self._peers.report(peer, rejection)
            return False
        except (RequestFailed, RequestRefused) as error:
            log.debug("blocks_unanswered", peer=peer, why=str(error))
            self._failed[peer] = self._failed.get(peer, 0) + 1
            return False
        news = 0
        for sealed in reply.blocks:
            news += sealed.block.header.height > self._chain.head.height
            if not await self._adopt(peer, sealed):
                return False
            if news > 1:
                self._goal = max(self._goal, reply.head_height)
        last = first + len(reply.blocks) - 1
        if len(reply.blocks) < wire.REPLY_BLOCKS_MAX and len(data) < wire.REPLY_BYTES_MAX // 2 and last < claimed:
            # Less than it has and a reply holds: whoever gives block by block, slowly, is outrun by the chain.
            self._failed[peer] = self._failed.get(peer, 0) + 1
        if not news:  # nothing came, or what consensus had brought meanwhile
            self._failed[peer] = self._failed.get(peer, 0) + 1
            return False
        return True

    async def _adopt(self, peer: str, sealed: wire.SealedBlock) -> bool:
        """Verify a block against our head and hand it to the driver; whether the chain is past its height."""
        height = self._chain.head.height + 1
        if sealed.block.header.height < height:
            return True
        try:
            await self._executor.check_sealed(sealed.block, sealed.commit)
        except Rejection as rejection:
            if self._chain.head.height >= height:
                return True  # consensus got there while we checked against the head before
            if rejection.reason is STORE_UNREADABLE:
                return False  # our disk was full and the database is opened again: not the peer's fault
            log.warning("lying_peer", peer=peer, height=height, why=str(rejection))
            await self._peers.ban(peer, f"sent a false block {height}: {rejection}")
            return False
        await self._driver.offer(SealedByPeers(sealed.block, sealed.commit))
        await self._driver.wait_height_after(height)
        return True

    async def serve_blocks(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_BLOCKS`."""
        query: wire.BlocksQuery = codec.decode(wire.BlocksQuery, request)
        reply: list[wire.SealedBlock] = []
        size = 0
        for height in range(query.first, query.first + query.count):
            await trio.lowlevel.checkpoint()
            block, commit = self._chain.block(height), self._chain.commit(height)
            if block is None or commit is None:
                break
            sealed = wire.SealedBlock(block, commit)
            size += len(codec.encode(sealed))
            if size > wire.REPLY_BYTES_MAX:
                break
            reply.append(sealed)
        return codec.encode(wire.BlocksReply(self._chain.head.height, tuple(reply)))
