"""Blobs between peers: `api.Blobs` over a store, served and fetched on `/gensyn/<chain>/blob/1`.

A blob stream is a sequence of questions and answers (`download.Ask`): one for the chunk hashes, one for each chunk.
Who holds what is asked with the request `blob/has`; a name may be a blob id or an alias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import KIB
from gensyn_node.primitives.reasons import MALFORMED
from p2p import bounds, reasons
from p2p.api import (
    BlobProgress,
    BlobProgressCallback,
    BlobUnavailable,
    NetworkConfig,
    PeerId,
    RequestFailed,
    RequestRefused,
)
from p2p.blobstore import ID_BYTES, BlobStore
from p2p.download import MISSING, SENT, SUMMARY, Ask, Download, Line, decode_ask
from p2p.frames import read_frame, write_frame
from p2p.host import Host, Stream
from p2p.peers import PeerTable
from p2p.rates import Pacer
from p2p.requests import RequestService

HAS_METHOD = "blob/has"
LOOKUP_S = 5.0


class BlobService:
    """Serves the store's blobs and downloads others."""

    def __init__(
        self,
        config: NetworkConfig,
        host: Host,
        table: PeerTable,
        requests: RequestService,
        store: BlobStore,
        counters: Counter[str],
    ) -> None:
        self._table = table
        self._requests = requests
        self._store = store
        self._counters = counters
        protocol = requests.protocol("blob")
        pacer = Pacer(config.blob_bytes_per_second)
        self._slots: dict[PeerId, trio.Semaphore] = {}
        self._host = host
        self._protocol = protocol
        self._line = Line(self._open, table.report, pacer, counters)
        self._fetching: dict[bytes, trio.Lock] = {}
        self._serving: Counter[PeerId] = Counter()
        host.handle(protocol, self._serve)
        requests.serve(HAS_METHOD, self._answer_has, max_request_bytes=KIB, max_reply_bytes=KIB)

    # The local store ----------------------------------------------------------------------------------------------

    def has(self, blob_id: bytes) -> bool:
        return blob_id in self._store.ids

    def path(self, blob_id: bytes) -> Path:
        return self._store.path(blob_id)

    def ids(self) -> Sequence[bytes]:
        return sorted(self._store.ids)

    async def add_bytes(self, data: bytes) -> bytes:
        return await trio.to_thread.run_sync(self._store.add_bytes, data)

    async def add_file(self, source: Path, *, move: bool = False) -> bytes:
        return await trio.to_thread.run_sync(lambda: self._store.add_file(source, move=move))

    async def add_chunk(self, upload: str, number: int, data: bytes) -> None:
        await trio.to_thread.run_sync(self._store.add_chunk, upload, number, data)

    async def finish_upload(self, upload: str, *, expected_blob_id: bytes | None = None) -> bytes:
        return await trio.to_thread.run_sync(self._store.finish_upload, upload, expected_blob_id)

    async def read_chunk(self, blob_id: bytes, number: int) -> bytes:
        return await trio.to_thread.run_sync(self._store.read_chunk, blob_id, number)

    async def remove(self, blob_id: bytes) -> None:
        await trio.to_thread.run_sync(self._store.remove, blob_id)

    def add_alias(self, name: bytes, blob_id: bytes) -> None:
        self._store.add_alias(name, blob_id)

    def resolve(self, name: bytes) -> bytes | None:
        return self._store.resolve(name)

    # Serving ------------------------------------------------------------------------------------------------------

    async def _serve(self, stream: Stream) -> None:
        full = self._serving[stream.peer] >= bounds.BLOB_STREAMS_PER_PEER
        if full or self._serving.total() >= bounds.BLOB_STREAMS_MAX or not await self._table.admitted(stream.peer):
            self._counters["blob_streams_refused"] += 1
            await stream.reset()
            return
        self._serving[stream.peer] += 1
        try:
            while True:
                with trio.fail_after(bounds.BLOB_IDLE_S):
                    ask = decode_ask(await read_frame(stream, 64, reasons.REQUEST_TOO_LARGE))
                answer = await trio.to_thread.run_sync(self._answer, ask)
                with trio.fail_after(bounds.BLOB_CHUNK_S):
                    await write_frame(stream, answer)
                self._counters["blob_bytes_sent"] += len(answer)
        except Rejection as rejection:
            await self._table.report(stream.peer, rejection)
            await stream.reset()
        except (OSError, trio.TooSlowError):
            # The usual end: the peer has what it wanted and closes.
            return
        finally:
            self._serving[stream.peer] -= 1

    def _answer(self, ask: Ask) -> bytes:
        """In a thread."""
        try:
            if ask.number != SUMMARY:
                return SENT + self._store.read_chunk(ask.blob_id, ask.number)
            self._store.path(ask.blob_id)
            summary = self._store.summary(ask.blob_id)
            return MISSING if summary is None else SENT + encode(summary)
        except BlobUnavailable:
            return MISSING

    async def _answer_has(self, peer: PeerId, data: bytes) -> bytes:
        names: tuple[bytes, ...] = decode(tuple[bytes, ...], data)
        if len(names) > bounds.WANTED_NAMES_MAX or any(len(name) != ID_BYTES for name in names):
            raise Rejection(MALFORMED, f"at most {bounds.WANTED_NAMES_MAX} names of {ID_BYTES} bytes")
        return encode(tuple(self._store.resolve(name) or b"" for name in names))

    # Fetching -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _open(self, peer: PeerId) -> AsyncIterator[Stream]:
        """A blob stream, when it is our turn: the peer refuses more than a few."""
        slots = self._slots.setdefault(peer, trio.Semaphore(bounds.BLOB_STREAMS_WANTED_PER_PEER))
        async with slots, self._host.stream(peer, self._protocol) as stream:
            yield stream

    async def lookup(self, name: bytes, providers: Sequence[PeerId] | None = None) -> Mapping[bytes, Sequence[PeerId]]:
        """See `api.Blobs`."""
        found: dict[bytes, list[PeerId]] = {}

        async def ask(peer: PeerId) -> None:
            try:
                data = await self._requests.request(
                    peer, HAS_METHOD, encode((name,)), timeout_s=LOOKUP_S, max_reply_bytes=KIB
                )
                held: tuple[bytes, ...] = decode(tuple[bytes, ...], data, max_bytes=KIB)
                if len(held) != 1 or len(held[0]) not in (0, ID_BYTES):
                    raise Rejection(MALFORMED, "the answer is not one blob id")
                if held[0]:
                    found.setdefault(held[0], []).append(peer)
            except Rejection as rejection:
                await self._table.report(peer, rejection)
            except (RequestFailed, RequestRefused):
                self._counters["blob_lookups_failed"] += 1

        peers = [peer.peer for peer in self._table.ready()] if providers is None else providers
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ask, peer)
        ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
        return {blob_id: sorted(holders) for blob_id, holders in ranked}

    async def fetch(
        self,
        blob_id: bytes,
        providers: Sequence[PeerId] | None = None,
        *,
        progress: BlobProgressCallback | None = None,
    ) -> Path:
        """See `api.Blobs`."""
        async with self._fetching.setdefault(blob_id, trio.Lock()):
            if self.has(blob_id):
                size = self.path(blob_id).stat().st_size
                if progress is not None:
                    progress(BlobProgress(blob_id, size, size, 0))
                return self.path(blob_id)
            if providers is None:
                providers = (await self.lookup(blob_id)).get(blob_id, ())
            await Download(blob_id, self._store, self._line, progress).run(list(providers))
            self._counters["blobs_fetched"] += 1
        self._fetching.pop(blob_id, None)
        return self.path(blob_id)

    async def fetch_alias(
        self,
        name: bytes,
        providers: Sequence[PeerId] | None = None,
        *,
        accept: Callable[[Path], bool],
        progress: BlobProgressCallback | None = None,
    ) -> bytes:
        """See `api.Blobs`."""
        known = self.resolve(name)
        if known is not None:
            return known
        last_error = "no peer knows it"
        for blob_id, holders in (await self.lookup(name, providers)).items():
            was_here = self.has(blob_id)
            try:
                path = await self.fetch(blob_id, holders, progress=progress)
            except BlobUnavailable as error:
                last_error = str(error)
                continue
            if await trio.to_thread.run_sync(accept, path):
                self.add_alias(name, blob_id)
                return blob_id
            last_error = f"blob {blob_id.hex()} is not what the name stands for"
            if not was_here:
                await self.remove(blob_id)
        raise BlobUnavailable(f"{name.hex()}: {last_error}")
