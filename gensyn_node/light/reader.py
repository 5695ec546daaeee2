"""The ledger over a light client, record by record, for the ledger's own pure functions."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

import structlog
import trio

from gensyn_node.light import reasons
from gensyn_node.light.client import LightClient, Synced
from gensyn_node.light.reads import read_under
from gensyn_node.light.session import LightSettings, open_light
from gensyn_node.primitives.errors import Rejection

PAUSE_S = 0.25
"""Between two questions: nodes prove 5 records a second to one asker."""

T = TypeVar("T")

log = structlog.get_logger()


class Runs(Protocol):
    """Runs an asynchronous call elsewhere, and waits for it."""

    def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the call returned, or raised."""


class ProvenReader:
    """A `Reader` of proven records: under one verified header until `forget`, or until nobody can prove its state.

    `get` raises Rejection as `reads.read`.
    """

    def __init__(self, client: LightClient, run: Runs) -> None:
        self._client = client
        self._run = run
        self._synced: Synced | None = None
        self._seen: dict[bytes, bytes | None] = {}

    @property
    def height(self) -> int:
        """Records are of the state after this block; -1 before anything was read."""
        return -1 if self._synced is None else self._synced.block.header.height - 1

    def get(self, key: bytes) -> bytes | None:
        """The record at a key, None when it is proven that there is none."""
        if key not in self._seen:
            self._seen[key] = self._run(partial(self._read, key))
        return self._seen[key]

    def forget(self) -> None:
        """Ask again for everything from now on: the chain went on."""
        self._synced = None
        self._seen.clear()

    async def _read(self, key: bytes) -> bytes | None:
        await trio.sleep(PAUSE_S)
        self._synced, proven = await read_under(self._client, self._synced, (key,))
        return proven.values[0]


@contextmanager
def proven_reader(settings: LightSettings) -> Iterator[ProvenReader]:
    """A reader for plain code; the client lives in a thread of its own until the end of the block.

    Raises Rejection as `open_light`.
    """
    opened: list[tuple[LightClient, trio.lowlevel.TrioToken]] = []
    failed: list[BaseException] = []
    ready, over = threading.Event(), trio.Event()

    async def session() -> None:
        async with open_light(settings) as client:
            opened.append((client, trio.lowlevel.current_trio_token()))
            ready.set()
            await over.wait()

    def live() -> None:
        try:
            trio.run(session)
        except BaseException as error:  # noqa: BLE001  (raised where the reader is used)
            failed.append(_single(error))
        finally:
            ready.set()

    thread = threading.Thread(target=live, name="light-client", daemon=True)
    thread.start()
    ready.wait()
    if not opened:
        thread.join()
        raise failed[0]
    client, token = opened[0]

    def run(call: Callable[[], Awaitable[T]]) -> T:
        try:
            return trio.from_thread.run(call, trio_token=token)
        except (trio.RunFinishedError, trio.Cancelled):
            raise failed[0] if failed else Rejection(reasons.NO_PEER, "the light client has ended") from None

    try:
        yield ProvenReader(client, run)
    finally:
        try:
            trio.from_thread.run_sync(over.set, trio_token=token)
        except trio.RunFinishedError:
            log.warning("light_client_ended_early", why=str(failed[0]) if failed else "")
        thread.join()
    if failed:
        raise failed[0]


def _single(error: BaseException) -> BaseException:
    """The one error in groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
