"""Containment of py-libp2p 0.8.1: nothing that a peer sends, and no handler of ours, ends the host.

In the library an exception that leaves a stream handler or a task of a service cancels the whole host, and some short
inputs raise one (bytes that are no protobuf on a gossip stream, two kinds of malformed public key). `install` runs
before any host is made; `StreamGuard` then stands between the host and every inbound stream.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from libp2p.tools.anyio_service.trio_manager import TrioManager

from gensyn_node.primitives.errors import InvariantViolation
from p2p.bounds import INBOUND_STREAMS_PER_PEER

log = structlog.get_logger("p2p.guard")

AsyncFunction = Callable[..., Awaitable[Any]]
_library_run_task: Callable[..., None] | None = None


def install() -> None:
    """Contain exceptions of the library's background tasks; daemons, which must run for ever, still end the host."""
    global _library_run_task
    if _library_run_task is not None:
        return
    _library_run_task = TrioManager.run_task
    TrioManager.run_task = _run_contained_task
    # The library logs what peers do wrong at ERROR with tracebacks; we count and score it instead.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)


def _run_contained_task(manager: Any, function: AsyncFunction, *args: Any, daemon: bool = False, **rest: Any) -> None:
    if _library_run_task is None:
        raise InvariantViolation("the guard runs before it is installed")
    _library_run_task(manager, function if daemon else _contained(function), *args, daemon=daemon, **rest)


def _contained(function: AsyncFunction) -> AsyncFunction:
    async def run(*args: Any) -> None:
        try:
            await function(*args)
        except InvariantViolation:
            raise
        except Exception as error:  # noqa: BLE001  (the point of the guard; trio.Cancelled passes)
            log.warning("task_failed", task=getattr(function, "__qualname__", repr(function)), error=repr(error))

    run.__name__ = getattr(function, "__name__", "task")
    return run


class StreamGuard:
    """Wraps a host's handler of inbound streams: counts them per peer, refuses the excess, contains exceptions."""

    def __init__(self, handle: Callable[[Any], Awaitable[None]], counters: Counter[str]) -> None:
        self._handle = handle
        self._counters = counters
        self._open: Counter[str] = Counter()

    async def __call__(self, stream: Any) -> None:
        """Handle one inbound stream of the library; returns when it is done, whatever happened."""
        peer = str(stream.muxed_conn.peer_id)
        if self._open[peer] >= INBOUND_STREAMS_PER_PEER:
            self._counters["streams_refused"] += 1
            await self._reset(stream)
            return
        self._open[peer] += 1
        try:
            await self._handle(stream)
        except Exception as error:  # noqa: BLE001  (the point of the guard)
            self._counters["stream_failures"] += 1
            log.info("stream_failed", peer=peer, error=repr(error))
            await self._reset(stream)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    @staticmethod
    async def _reset(stream: Any) -> None:
        try:
            await stream.reset()
        except Exception as error:  # noqa: BLE001  (it is gone already)
            log.debug("reset_failed", error=repr(error))
