"""Makes a snapshot every so many blocks, and answers those who join."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
import trio

from consensus.statesync.manifest import Manifest
from consensus.statesync.reasons import NO_SNAPSHOT
from gensyn_node.app import sync_wire, wire
from gensyn_node.app.chain import Chain
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.snapshots import SnapshotFolder, SnapshotSource
from p2p.api import Requests

CHUNKS_PER_SECOND = 32.0
"""To one peer: 32 MiB/s."""

log = structlog.get_logger()


class Snapshots:
    """The snapshots of a running node."""

    def __init__(self, *, chain: Chain, folder: SnapshotFolder, config: StorageSection) -> None:
        self._chain = chain
        self.folder = folder
        self._config = config
        self._send, self._due = trio.open_memory_channel[SnapshotSource](1)
        self._ids: dict[int, bytes] = {}

    def after_block(self) -> None:
        """A block has become the head: is a snapshot due? One that is still being made is not interrupted."""
        interval, head = self._config.snapshot_interval, self._chain.head.height
        if interval == 0 or head % interval:
            return
        try:
            self._send.send_nowait(self._chain.snapshot_source())
        except trio.WouldBlock:
            log.warning("snapshot_skipped", height=head, why="the one before is not finished")

    async def run(self) -> None:
        """Make what is due, until cancelled."""
        async for source in self._due:
            await self.create(source)

    async def create(self, source: SnapshotSource) -> None:
        """Write one snapshot on a thread."""
        try:
            manifest = await trio.to_thread.run_sync(self._create, source)
        except OSError as error:
            log.error("snapshot_failed", height=source.height, why=str(error))
            return
        except Rejection as rejection:
            if rejection.reason is not reasons.STORE_UNREADABLE:
                raise
            log.error("snapshot_failed", height=source.height, why=str(rejection))  # the disk was full meanwhile
            return
        log.info("snapshot_made", height=manifest.height, chunks=len(manifest.chunks), bytes=manifest.size)

    def _create(self, source: SnapshotSource) -> Manifest:
        return self.folder.create(source, keep=self._config.snapshots_kept)

    # --- answers

    def serve(self, requests: Requests) -> None:
        """Answer the questions of `sync_wire`."""
        requests.serve(sync_wire.METHOD_SNAPSHOTS, self._serve_offers, per_second=2.0)
        requests.serve(sync_wire.METHOD_SNAPSHOT, self._serve_manifest, per_second=2.0)
        requests.serve(sync_wire.METHOD_CHUNK, self._serve_chunk, per_second=CHUNKS_PER_SECOND, timeout_s=20.0)
        requests.serve(sync_wire.METHOD_HEADERS, self._serve_headers, per_second=25.0)

    async def _serve_offers(self, peer: str, request: bytes) -> bytes:
        codec.decode(sync_wire.SnapshotsQuery, request)
        await trio.lowlevel.checkpoint()
        return codec.encode(sync_wire.SnapshotsReply(tuple(self._offers())))

    def _offers(self) -> Iterator[sync_wire.SnapshotOffer]:
        """A damaged manifest does not keep the other snapshots from being offered."""
        for height in self._offered():
            try:
                yield sync_wire.SnapshotOffer(height, self._id_of(height))
            except Rejection as rejection:
                if rejection.reason is reasons.SNAPSHOT_CORRUPT:
                    self._remove(height, rejection)

    def _offered(self) -> list[int]:
        return self.folder.heights()[-sync_wire.OFFERS_MAX :]

    def _id_of(self, height: int) -> bytes:
        if height not in self._ids:
            self._ids[height] = self.folder.manifest(height).id
        return self._ids[height]

    async def _serve_manifest(self, peer: str, request: bytes) -> bytes:
        query: sync_wire.SnapshotQuery = codec.decode(sync_wire.SnapshotQuery, request)
        await trio.lowlevel.checkpoint()
        return codec.encode(self._manifest(query.height, query.manifest_id))

    def _manifest(self, height: int, manifest_id: bytes) -> Manifest:
        if height not in self._offered() or self._id_of(height) != manifest_id:
            raise Rejection(NO_SNAPSHOT, f"of height {height} and this id")
        return self.folder.manifest(height)

    async def _serve_chunk(self, peer: str, request: bytes) -> bytes:
        query: sync_wire.ChunkQuery = codec.decode(sync_wire.ChunkQuery, request)
        manifest = self._manifest(query.height, query.manifest_id)
        try:
            data = await trio.to_thread.run_sync(self.folder.chunk, manifest, query.index)
        except Rejection as rejection:
            if rejection.reason is reasons.SNAPSHOT_CORRUPT:
                self._remove(query.height, rejection)
                raise Rejection(NO_SNAPSHOT, f"of height {query.height}") from None
            raise
        return codec.encode(sync_wire.ChunkReply(data))

    def _remove(self, height: int, rejection: Rejection) -> None:
        log.error("snapshot_removed", height=height, why=rejection.message)
        self._ids.pop(height, None)
        self.folder.remove(height)

    async def _serve_headers(self, peer: str, request: bytes) -> bytes:
        query: sync_wire.HeadersQuery = codec.decode(sync_wire.HeadersQuery, request)
        found: list[sync_wire.PastHeader] = []
        size, above = 0, None
        for height in range(query.last, max(0, query.last - query.count), -1):
            await trio.lowlevel.checkpoint()
            past = self._chain.past(height)
            if past is None:
                break
            same = above is not None and past.header.validators_hash == above.validators_hash
            entry = sync_wire.PastHeader(past.header, past.evidence, None if same else past.validators)
            size += len(codec.encode(entry))
            if size > wire.REPLY_BYTES_MAX:
                break
            found.append(entry)
            above = past.header
        return codec.encode(sync_wire.HeadersReply(tuple(found)))
