"""One download: several providers in parallel, two chunks asked ahead from each, every chunk verified as it arrives.

A provider that breaks gets another chance, one that lies or lacks the blob does not; its chunks go back to the others.
Near the end idle providers fetch what a slow one still owes.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import structlog
import trio

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from p2p import bounds, reasons
from p2p.api import BlobProgress, BlobProgressCallback, BlobUnavailable, PeerId
from p2p.blobstore import BlobStore, Partial, Summary, decode_summary
from p2p.frames import read_frame, write_frame
from p2p.host import Stream
from p2p.rates import Pacer
from proofs import blobs

log = structlog.get_logger("p2p.download")

SUMMARY = -1
"""Asked for instead of a chunk number: the chunk hashes."""
SENT, MISSING = b"\x00", b"\x01"
ASKED_AHEAD = 2
BREAKS_MAX = 3
PAUSE_AFTER_BREAK_S = 0.3
SLOW_S = 2.0
"""A chunk owed for longer is asked of an idle provider as well."""


class Ask(Struct, frozen=True):
    """One question on a blob stream; the answer is one frame: a status byte, then the bytes."""

    blob_id: bytes
    number: int


def decode_ask(data: bytes) -> Ask:
    """A peer's question; `Rejection` whatever the bytes."""
    return decode(Ask, data, max_bytes=64)


class _NotThereError(Exception):
    """The provider is no use for this blob."""


@dataclass(frozen=True, slots=True)
class Line:
    """How a download reaches peers."""

    open: Callable[[PeerId], AbstractAsyncContextManager[Stream]]
    report: Callable[[PeerId, Rejection], Awaitable[None]]
    pacer: Pacer
    counters: Counter[str]


class Download:
    """One blob from a set of providers; `run` ends with the blob whole, or raises `BlobUnavailable`."""

    def __init__(
        self, blob_id: bytes, store: BlobStore, line: Line, progress: BlobProgressCallback | None = None
    ) -> None:
        self._blob_id = blob_id
        self._store = store
        self._line = line
        self._progress = progress
        self._pending: deque[int] = deque()
        self._owed: Counter[int] = Counter()
        """Chunks asked for and not yet here, with the number of providers asked."""
        self._owed_since: dict[int, float] = {}
        self._missing: set[int] = set()
        self._missing_bytes = 0
        self._disk_error: OSError | None = None
        self._changed = trio.Event()
        self._working = 0
        self._last_error = "no provider"
        self.liars: set[PeerId] = set()

    async def run(self, providers: Sequence[PeerId]) -> None:
        """Fetch what is missing from these providers."""
        summary = await trio.to_thread.run_sync(self._store.summary, self._blob_id)
        for provider in providers if summary is None else ():
            summary = await self._ask_summary(provider)
            if summary is not None:
                break
        if summary is None:
            raise self._unavailable()
        partial = await trio.to_thread.run_sync(self._store.begin, self._blob_id, summary)
        try:
            self._pending.extend(partial.missing)
            self._missing.update(partial.missing)
            self._missing_bytes = sum(blobs.chunk_length(summary.length, number) for number in partial.missing)
            self._tell(partial)
            await self._work(partial, [provider for provider in providers if provider not in self.liars])
            if self._disk_error is not None:
                raise self._disk_error
            if self._missing:
                raise self._unavailable()
            await trio.to_thread.run_sync(self._store.complete, partial)
        finally:
            os.close(partial.descriptor)

    def _unavailable(self) -> BlobUnavailable:
        return BlobUnavailable(f"blob {self._blob_id.hex()} could not be fetched: {self._last_error}")

    async def _ask_summary(self, provider: PeerId) -> Summary | None:
        try:
            async with self._line.open(provider) as stream:
                with trio.fail_after(bounds.BLOB_CHUNK_S):
                    await write_frame(stream, encode(Ask(self._blob_id, SUMMARY)))
                    data = await self._answer(stream, bounds.BLOB_SUMMARY_BYTES_MAX)
            return decode_summary(self._blob_id, data)
        except Rejection as rejection:
            await self._lied(provider, rejection)
        except (_NotThereError, OSError, trio.TooSlowError) as error:
            self._last_error = f"{provider}: {error or 'too slow'}"
        return None

    async def _lied(self, provider: PeerId, rejection: Rejection) -> None:
        self._last_error = f"{provider}: {rejection}"
        self.liars.add(provider)
        await self._line.report(provider, rejection)

    @staticmethod
    async def _answer(stream: Stream, max_bytes: int) -> bytes:
        answer = await read_frame(stream, max_bytes + 1, reasons.REPLY_TOO_LARGE)
        if answer[:1] == MISSING:
            raise _NotThereError("does not hold the blob")
        if answer[:1] != SENT:
            raise Rejection(reasons.WRONG_FRAME, "a blob answer with an unknown status")
        return answer[1:]

    # Workers ------------------------------------------------------------------------------------------------------

    async def _work(self, partial: Partial, providers: Sequence[PeerId]) -> None:
        if not self._missing:
            return
        queue = deque(providers)
        async with trio.open_nursery() as nursery:

            async def worker() -> None:
                while queue and self._missing and self._disk_error is None:
                    await self._from_provider(queue.popleft(), partial)
                if not self._missing:
                    nursery.cancel_scope.cancel()

            for _ in range(min(len(queue), bounds.BLOB_PROVIDERS_MAX)):
                nursery.start_soon(worker)

    async def _from_provider(self, provider: PeerId, partial: Partial) -> None:
        """Fetch chunks from one provider until nothing is missing or the provider is no use."""
        self._working += 1
        try:
            for _ in range(BREAKS_MAX):
                asked: deque[int] = deque()
                try:
                    async with self._line.open(provider) as stream:
                        await self._drain(stream, partial, asked)
                    return
                except (OSError, trio.TooSlowError) as error:
                    self._last_error = f"{provider}: {error or 'too slow'}"
                    self._line.counters["blob_streams_broken"] += 1
                finally:
                    self._give_back(asked)
                await trio.sleep(PAUSE_AFTER_BREAK_S)
        except _NotThereError as error:
            self._last_error = f"{provider}: {error}"
        except Rejection as rejection:
            self._line.counters["blob_chunks_refused"] += 1
            await self._lied(provider, rejection)
        finally:
            self._working -= 1
            self._notify()

    async def _drain(self, stream: Stream, partial: Partial, asked: deque[int]) -> None:
        """Ask ahead, take answers in order."""
        while self._missing:
            # Never wait for the pacer while an answer is under way: a writer that is not read from is reset after 5 s.
            while len(asked) < ASKED_AHEAD and (not asked or self._line.pacer.is_free()):
                number = self._take(asked)
                if number is None:
                    break
                asked.append(number)
                await self._line.pacer.spend(BLOB_CHUNK_BYTES)
                with trio.fail_after(bounds.BLOB_CHUNK_S):
                    await write_frame(stream, encode(Ask(self._blob_id, number)))
            if not asked:
                with trio.move_on_after(SLOW_S / 2):
                    await self._changed.wait()
                continue
            with trio.fail_after(bounds.BLOB_CHUNK_S):
                chunk = await self._answer(stream, BLOB_CHUNK_BYTES)
            await self._keep(partial, asked[0], chunk)
            self._owe(asked.popleft(), -1)

    async def _keep(self, partial: Partial, number: int, chunk: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self._store.write, partial, number, chunk)
        except OSError as error:
            # Ours, not the provider's: a full disk must not look like a broken stream and be tried again.
            self._disk_error = error
            raise _NotThereError("our own disk failed") from error
        if number in self._missing:
            self._missing.discard(number)
            self._missing_bytes -= len(chunk)
            self._line.counters["blob_bytes_received"] += len(chunk)
            self._tell(partial)
        else:
            self._line.counters["blob_bytes_twice"] += len(chunk)
        self._notify()

    def _take(self, mine: Sequence[int]) -> int | None:
        """The next chunk to ask for: one nobody was asked for, else one that another provider owes for long."""
        while self._pending:
            number = self._pending.popleft()
            if number in self._missing:
                self._owe(number, 1)
                return number
        now = trio.current_time()
        for number, asked in self._owed.items():
            late = now - self._owed_since[number] > SLOW_S
            if late and asked == 1 and number not in mine and number in self._missing:
                self._owe(number, 1)
                return number
        return None

    def _owe(self, number: int, change: int) -> None:
        self._owed[number] += change
        self._owed_since.setdefault(number, trio.current_time())
        if not self._owed[number]:
            del self._owed[number], self._owed_since[number]

    def _give_back(self, asked: Sequence[int]) -> None:
        for number in asked:
            self._owe(number, -1)
            if number in self._missing and number not in self._owed:
                self._pending.append(number)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _tell(self, partial: Partial) -> None:
        if self._progress is None:
            return
        total = partial.summary.length
        self._progress(BlobProgress(self._blob_id, total - self._missing_bytes, total, self._working))
