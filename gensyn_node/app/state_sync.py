"""Joins a chain by a snapshot: header by the light client, chunks from several peers, nothing believed unproven.

Each step can be repeated: chunks that are whole survive a kill, the chain is built beside the old one, and one rename
puts it in place. If no peer has a usable snapshot, the node goes on block by block.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable

import structlog
import trio

from consensus.ledger.records import ConsensusRecord, Genesis
from consensus.light.types import Anchor as LightAnchor
from consensus.light.types import LightBlock, LightOptions, Trusted, trusted_genesis
from consensus.statesync.fetch import ChunkPlan, Offer, choose
from consensus.statesync.manifest import Manifest
from consensus.statesync.reasons import BAD_MANIFEST, STATE_MISMATCH
from consensus.statesync.restore import PastBlock, RestoredSets, check_past
from consensus.tendermint.block import check_roots
from consensus.tendermint.types import Block, Header
from gensyn_node.app import sync_wire, wire
from gensyn_node.app.asker import Asker
from gensyn_node.app.restore import Anchor, check_restorable, finish, oldest_needed, restore, restored_block
from gensyn_node.app.room import free_bytes
from gensyn_node.app.settings import CHAIN_FOLDER, NodeSettings
from gensyn_node.app.snapshots import CHUNKS_PER_SECOND as SERVED_CHUNKS_PER_SECOND
from gensyn_node.app.startup import open_or_begin_again
from gensyn_node.config.genesis import genesis_validators
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import NodeConfig
from gensyn_node.light.client import LightClient
from gensyn_node.light.peers import LightPeers
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.files import sync_directory
from gensyn_node.storage.restore import StoreBuilder
from gensyn_node.storage.snapshots import ChunkFolder
from p2p.api import Network

CHUNK_FOLDER = "statesync"
BUILDING_FOLDER = "chain.restoring"
RESTORED_FOLDER = "chain.restored"
OFFERS_WAIT_S = 30.0
"""How long a newcomer waits for the first peer with a snapshot."""
LOOK_INTERVAL_S = 1.0
CHUNKS_PER_SECOND = 0.75 * SERVED_CHUNKS_PER_SECOND
TRIED_FIRST_BYTES = 256 * limits.MIB
"""Larger snapshots wait for all smaller ones: only at its end is a snapshot known to be false, whatever it cost."""
DISK_FACTOR = 3
"""Chunks, the database made of them, and its compaction."""

log = structlog.get_logger()


def wants_state_sync(settings: NodeSettings) -> bool:
    """Whether this home is to begin with a snapshot: it is asked to, and it has no block."""
    install_restored(settings.home)
    if not settings.config.statesync.enabled:
        return False
    opened = open_or_begin_again(settings)
    try:
        return opened.chain.head.height == 0
    finally:
        opened.chain.close()
        opened.wal.close()


async def join_by_snapshot(settings: NodeSettings, network: Network, clock_ms: Callable[[], int]) -> None:
    """Put a snapshot's chain in the place of the empty one, if peers have one. `Rejection` LIGHT_DIVERGENCE."""
    sync = StateSync(
        home=settings.home, genesis=settings.genesis, config=settings.config, network=network, clock_ms=clock_ms
    )
    height = await sync.run()
    if height is not None:
        install_restored(settings.home)
        log.info("snapshot_restored", height=height)


def install_restored(home: Home) -> None:
    """Rename a restored chain to its place; a kill in between is made good by the next start."""
    restored, chain = home.data / RESTORED_FOLDER, home.data / CHAIN_FOLDER
    if restored.exists():
        if chain.exists():
            shutil.rmtree(chain)  # the empty chain that this one was built to replace
        os.replace(restored, chain)
        sync_directory(home.data)
        shutil.rmtree(home.data / CHUNK_FOLDER, ignore_errors=True)


class StateSync:
    """One attempt of one home without blocks."""

    def __init__(
        self, *, home: Home, genesis: Genesis, config: NodeConfig, network: Network, clock_ms: Callable[[], int]
    ) -> None:
        self._home = home
        self._genesis = genesis
        self._low_water_bytes = config.storage.low_water_mib * limits.MIB
        self._asker = Asker(network.requests, network.peers)
        self._peers = network.peers
        trust = config.statesync
        start: Trusted | LightAnchor = trusted_genesis(genesis.time_ms, genesis_validators(genesis))
        if trust.trusted_height:
            start = LightAnchor(trust.trusted_height, bytes.fromhex(trust.trusted_hash))
        options = LightOptions(trust.trust_period_hours * 3_600_000)
        self._light = LightClient(
            chain_id=genesis.chain_id,
            peers=LightPeers(network.requests, network.peers),
            start=start,
            options=options,
            witnesses=0,  # a chain of few nodes has none to spare; whoever is there may contradict
            clock_ms=clock_ms,
        )
        self._refused: set[bytes] = set()
        self._short: Counter[str] = Counter()
        """How often a peer gave fewer headers than were asked for."""

    async def run(self) -> int | None:
        """The height that was restored; None when no snapshot could be used. `Rejection` LIGHT_DIVERGENCE."""
        deadline = trio.current_time() + OFFERS_WAIT_S
        while True:
            height = await self._try(choose(await self._offers(), refused=self._refused))
            if height is not None:
                return height
            if trio.current_time() >= deadline:
                log.warning("no_snapshot_usable", refused=len(self._refused))
                return None
            await trio.sleep(LOOK_INTERVAL_S)

    async def _offers(self) -> list[tuple[str, int, bytes]]:
        found: list[tuple[str, int, bytes]] = []
        for info in self._peers.connected():
            reply = await self._asker.ask(
                info.peer, sync_wire.METHOD_SNAPSHOTS, sync_wire.SnapshotsQuery(), sync_wire.SnapshotsReply
            )
            found += [(info.peer, one.height, one.manifest_id) for one in (reply.offers if reply else ())]
        return found

    async def _try(self, offers: list[Offer]) -> int | None:
        """The height of the first offer that is in place now; those that are large are tried last, by their size.

        So a liar costs at most `TRIED_FIRST_BYTES`, or twice what the true snapshot does, and then it is banned.
        """
        large: list[tuple[Offer, Manifest, Anchor]] = []
        for offer in offers:
            proven = await self._proven(offer)
            if proven is None:
                continue
            if proven[0].size > TRIED_FIRST_BYTES:
                large.append((offer, *proven))
            elif await self._fetch_and_restore(offer, *proven):
                return offer.height
        for offer, manifest, anchor in sorted(large, key=lambda one: one[1].size.bit_length()):
            if await self._fetch_and_restore(offer, manifest, anchor):
                return offer.height
        return None

    async def _proven(self, offer: Offer) -> tuple[Manifest, Anchor] | None:
        """What is known before a chunk is fetched. What is false about it is blamed on those who offered it."""
        following = await self._light.header_of(offer.height + 1, offer.peers)
        if following is None:
            return None
        anchor, manifest = await self._anchor(offer, following), await self._manifest(offer)
        if anchor is None or manifest is None:
            return None
        try:
            await trio.to_thread.run_sync(check_restorable, self._genesis, manifest, anchor)
        except Rejection as rejection:
            await self._blame(offer, rejection)
            return None
        return manifest, anchor

    async def _fetch_and_restore(self, offer: Offer, manifest: Manifest, anchor: Anchor) -> bool:
        free = free_bytes(self._home.data)
        if manifest.size * DISK_FACTOR + self._low_water_bytes > free:
            log.error("snapshot_too_large", height=manifest.height, bytes=manifest.size, free_bytes=free)
            self._refused.add(manifest.id)
            return False
        folder = ChunkFolder(self._home.data / CHUNK_FOLDER, manifest)
        plan = ChunkPlan(manifest, await trio.to_thread.run_sync(folder.here))
        log.info("snapshot_chosen", height=manifest.height, chunks=len(manifest.chunks), left=plan.left)
        for peer in offer.peers:
            plan.add_peer(peer)
        if not await Download(self._asker, offer, plan, folder).run():
            return False
        chunks = (folder.get(index) for index in range(len(manifest.chunks)))
        building = self._home.data / BUILDING_FOLDER
        try:
            builder, sets, record = await trio.to_thread.run_sync(
                restore, self._genesis, manifest, anchor, chunks, building
            )
        except Rejection as rejection:
            await self._blame(offer, rejection)
            await trio.to_thread.run_sync(folder.remove)
            return False
        return await self._finish(anchor, builder, sets, record)

    async def _finish(self, anchor: Anchor, builder: StoreBuilder, sets: RestoredSets, record: ConsensusRecord) -> bool:
        past = await self._history(anchor, oldest_needed(self._genesis, builder.value, anchor.block.header.height))
        if past is None:
            await trio.to_thread.run_sync(builder.discard)
            return False
        restored = restored_block(anchor, sets, record, past)
        place = self._home.data / RESTORED_FOLDER
        await trio.to_thread.run_sync(finish, builder, self._genesis, restored, place)
        return True

    async def _anchor(self, offer: Offer, following: LightBlock) -> Anchor | None:
        """The snapshot's block, and its commit as the verified header above names it, from any peer that has both."""
        query = wire.BlocksQuery(offer.height, 2)
        for peer in self._everybody(offer):
            reply = await self._asker.ask(peer, wire.METHOD_BLOCKS, query, wire.BlocksReply)
            if reply is None or len(reply.blocks) < query.count:
                continue
            try:
                return _checked_anchor(reply.blocks[0].block, reply.blocks[1].block, following)
            except Rejection as rejection:
                await self._peers.ban(peer, f"sent a false block {offer.height}: {rejection}")
        return None

    async def _manifest(self, offer: Offer) -> Manifest | None:
        for peer in offer.peers:
            query = sync_wire.SnapshotQuery(offer.height, offer.manifest_id)
            manifest = await self._asker.ask(peer, sync_wire.METHOD_SNAPSHOT, query, Manifest)
            if manifest is None:
                continue
            if (manifest.height, manifest.id) == (offer.height, offer.manifest_id):
                return manifest
            await self._peers.ban(peer, str(Rejection(BAD_MANIFEST, "it is not the one that was offered")))
        return None

    async def _history(self, anchor: Anchor, lowest: int) -> list[PastBlock] | None:
        """The blocks before, down to the lowest: highest first, proven by the hash chain."""
        past: list[PastBlock] = []
        above = anchor.block.header
        while above.height > lowest:
            more = await self._headers(above, min(above.height - lowest, sync_wire.HEADERS_MAX))
            if more is None:
                log.warning("history_unavailable", below=above.height)
                return None
            past += more
            above = more[-1].header
        return past

    async def _headers(self, above: Header, count: int) -> list[PastBlock] | None:
        query = sync_wire.HeadersQuery(above.height - 1, count)
        # Whoever gave less than was asked for comes later: one header at a time, and slowly, would take for ever.
        for peer in sorted((info.peer for info in self._peers.connected()), key=self._short.__getitem__):
            reply = await self._asker.ask(peer, sync_wire.METHOD_HEADERS, query, sync_wire.HeadersReply)
            self._short[peer] += reply is None or len(reply.headers) < count
            if reply is None or not reply.headers:
                continue
            try:
                return await trio.to_thread.run_sync(_checked_history, above, reply.headers[:count])
            except Rejection as rejection:
                await self._peers.ban(peer, f"sent false headers: {rejection}")
        return None

    async def _blame(self, offer: Offer, rejection: Rejection) -> None:
        self._refused.add(offer.manifest_id)
        for peer in offer.peers:
            log.warning("lying_peer", peer=peer, height=offer.height, why=str(rejection))
            await self._peers.ban(peer, f"offered a false snapshot of height {offer.height}: {rejection}")

    def _everybody(self, offer: Offer) -> list[str]:
        others = [info.peer for info in self._peers.connected() if info.peer not in offer.peers]
        return [*offer.peers, *others]


def _checked_anchor(block: Block, after: Block, following: LightBlock) -> Anchor:
    """`Rejection` unless both blocks are those of the verified header, with everything their roots name."""
    if after.id != following.id or block.id != following.header.previous_block_id or after.last_commit is None:
        raise Rejection(STATE_MISMATCH, f"they do not lead to the verified header {following.height}")
    check_roots(block)
    check_roots(after)
    return Anchor(block, after.last_commit, following.header)


def _checked_history(above: Header, headers: tuple[sync_wire.PastHeader, ...]) -> list[PastBlock]:
    """`Rejection` unless each is the one before the other, down from `above`."""
    members, found = None, []
    for entry in headers:
        members = entry.validators or members
        if members is None:
            raise Rejection(STATE_MISMATCH, "a header without those who signed it")
        past = PastBlock(entry.header, entry.evidence, members)
        check_past(past, above)
        found.append(past)
        above = past.header
    return found


class Download:
    """Fetches the chunks of one snapshot from all who offer it."""

    def __init__(self, asker: Asker, offer: Offer, plan: ChunkPlan, folder: ChunkFolder) -> None:
        self._asker = asker
        self._offer = offer
        self._plan = plan
        self._folder = folder
        self._changed = trio.Event()
        self._next_at: dict[str, float] = {}

    async def run(self) -> bool:
        """Whether every chunk is here; False when nobody is left to ask."""
        async with trio.open_nursery() as nursery:
            while not self._plan.done:
                for peer in self._plan.usable():
                    while (index := self._plan.next_for(peer)) is not None:
                        nursery.start_soon(self._fetch, peer, index)
                if not self._plan.usable() and not self._plan.under_way:
                    return False
                await self._changed.wait()
                self._changed = trio.Event()
        return True

    async def _fetch(self, peer: str, index: int) -> None:
        # Slower than peers allow: whoever asks too fast is refused, and would seem not to answer.
        due = max(trio.current_time(), self._next_at.get(peer, 0.0))
        self._next_at[peer] = due + 1 / CHUNKS_PER_SECOND
        await trio.sleep_until(due)
        query = sync_wire.ChunkQuery(self._offer.height, self._offer.manifest_id, index)
        reply = await self._asker.ask(
            peer,
            sync_wire.METHOD_CHUNK,
            query,
            sync_wire.ChunkReply,
            max_reply_bytes=sync_wire.CHUNK_REPLY_BYTES_MAX,
        )
        if reply is None:
            self._plan.failed(peer, index)
        else:
            try:
                self._plan.received(peer, index, reply.data)
            except Rejection as rejection:
                log.warning("lying_peer", peer=peer, chunk=index, why=str(rejection))
                await self._asker.peers.ban(peer, str(rejection))
            else:
                await trio.to_thread.run_sync(self._folder.put, index, reply.data)
        self._changed.set()
