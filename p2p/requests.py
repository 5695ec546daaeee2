"""One question, one answer, each on a stream of its own: `/gensyn/<chain>/<method>/1`.

A request is one frame. A reply is one frame: a status byte, then the reply or a refusal (code and message).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from p2p import bounds, reasons
from p2p.api import PeerId, RequestFailed, RequestHandler, RequestRefused
from p2p.frames import read_frame, write_frame
from p2p.host import Host, Stream, StreamBroken
from p2p.peers import PeerTable
from p2p.rates import RateLimiter

log = structlog.get_logger("p2p.requests")

_METHOD = re.compile(r"[a-z][a-z0-9/-]{0,63}")
_REPLY, _REFUSAL = b"\x00", b"\x01"


class Refusal(Struct, frozen=True):
    """Why there is no reply."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class _Served:
    method: str
    handler: RequestHandler
    max_request_bytes: int
    max_reply_bytes: int
    timeout_s: float
    rate: RateLimiter


class RequestService:
    """Asks and answers. `fatal` gets what must end the node (an `InvariantViolation` in a handler)."""

    def __init__(
        self,
        chain_id: str,
        host: Host,
        table: PeerTable,
        counters: Counter[str],
        fatal: Callable[[InvariantViolation], None],
    ) -> None:
        self._chain_id = chain_id
        self._host = host
        self._table = table
        self._counters = counters
        self._fatal = fatal
        self._methods: set[str] = set()
        self._outbound: dict[PeerId, trio.Semaphore] = {}

    def protocol(self, method: str) -> str:
        """The name of a method on the wire."""
        return f"/gensyn/{self._chain_id}/{method}/1"

    # Answering ----------------------------------------------------------------------------------------------------

    def serve(
        self,
        method: str,
        handler: RequestHandler,
        *,
        max_request_bytes: int = 64 * limits.KIB,
        max_reply_bytes: int = limits.MESSAGE_BYTES_MAX,
        per_second: float = 50.0,
        timeout_s: float = 10.0,
    ) -> None:
        """See `api.Requests`."""
        if not _METHOD.fullmatch(method) or method in self._methods:
            raise InvariantViolation(f"method {method!r} is no name or is served twice")
        self._methods.add(method)
        served = _Served(method, handler, max_request_bytes, max_reply_bytes, timeout_s, RateLimiter(per_second))

        async def answer(stream: Stream) -> None:
            await self._answer(served, stream)

        self._host.handle(self.protocol(method), answer)

    async def _answer(self, served: _Served, stream: Stream) -> None:
        self._counters["requests_received"] += 1
        try:
            reply = _REPLY + await self._reply(served, stream)
        except Rejection as rejection:
            self._counters["requests_refused"] += 1
            await self._table.report(stream.peer, rejection)
            reply = _REFUSAL + encode(Refusal(rejection.reason.code, rejection.message[:200]))
        # A reader that takes less than 256 KiB a second of a large reply is cut off.
        with trio.fail_after(bounds.READ_REQUEST_S + len(reply) / (256 * limits.KIB)):
            await write_frame(stream, reply)

    async def _reply(self, served: _Served, stream: Stream) -> bytes:
        """Let in, read, handle; `Rejection` for everything that is refused."""
        if not await self._table.admitted(stream.peer):
            raise Rejection(reasons.NO_HANDSHAKE, f"no handshake before {served.method}")
        if not served.rate.allow(stream.peer, trio.current_time()):
            raise Rejection(reasons.TOO_MANY_REQUESTS, f"too many requests of {served.method}")
        with trio.fail_after(bounds.READ_REQUEST_S):
            request = await read_frame(stream, served.max_request_bytes, reasons.REQUEST_TOO_LARGE)
        try:
            with trio.fail_after(served.timeout_s):
                reply = await _while_open(stream, served.handler, request)
        except (Rejection, StreamBroken):
            raise
        except InvariantViolation as error:
            self._fatal(error)
            raise Rejection(reasons.INTERNAL, f"{served.method} failed") from None
        except Exception as error:
            self._counters["handler_failures"] += 1
            log.error("handler_failed", method=served.method, peer=stream.peer, error=repr(error), exc_info=True)
            raise Rejection(reasons.INTERNAL, f"{served.method} failed") from error
        if len(reply) > served.max_reply_bytes:
            self._counters["handler_failures"] += 1
            log.error("reply_too_large", method=served.method, size=len(reply), bound=served.max_reply_bytes)
            raise Rejection(reasons.INTERNAL, f"{served.method}: the reply has {len(reply)} bytes")
        return reply

    # Asking -------------------------------------------------------------------------------------------------------

    async def request(
        self,
        peer: PeerId,
        method: str,
        data: bytes,
        *,
        timeout_s: float = 10.0,
        max_reply_bytes: int = limits.MESSAGE_BYTES_MAX,
    ) -> bytes:
        """See `api.Requests`."""
        self._counters["requests_sent"] += 1
        try:
            with trio.fail_after(timeout_s):
                if not await self._table.admitted(peer):
                    raise RequestFailed(f"{peer} is not connected")
                async with self._slot(peer):
                    answer = await self._exchange(peer, method, data, max_reply_bytes)
            if answer[:1] == _REPLY and len(answer) - 1 > max_reply_bytes:
                raise Rejection(reasons.REPLY_TOO_LARGE, f"{len(answer) - 1} bytes, at most {max_reply_bytes}")
        except trio.TooSlowError:
            self._counters["requests_timed_out"] += 1
            raise RequestFailed(f"{peer} did not answer {method} within {timeout_s:g} s") from None
        except Rejection as rejection:
            await self._table.report(peer, rejection)
            raise
        except RequestFailed:
            raise
        except OSError as error:
            raise RequestFailed(f"{method} to {peer}: {error}") from error
        return self._unwrap(peer, method, answer)

    async def _exchange(self, peer: PeerId, method: str, data: bytes, max_reply_bytes: int) -> bytes:
        async with self._host.stream(peer, self.protocol(method)) as stream:
            await write_frame(stream, data)
            bound = max(max_reply_bytes, bounds.REFUSAL_BYTES_MAX) + 1
            answer = await read_frame(stream, bound, reasons.REPLY_TOO_LARGE)
            self._counters[f"request_bytes:{method}"] += len(data) + len(answer)
            return answer

    @staticmethod
    def _unwrap(peer: PeerId, method: str, answer: bytes) -> bytes:
        if answer[:1] == _REPLY:
            return answer[1:]
        if answer[:1] != _REFUSAL:
            raise RequestFailed(f"{peer} answered {method} with an unknown status")
        try:
            refusal: Refusal = decode(Refusal, answer[1:], max_bytes=bounds.REFUSAL_BYTES_MAX)
        except Rejection as rejection:
            raise RequestFailed(f"{peer} refused {method} illegibly: {rejection.message}") from None
        raise RequestRefused(peer, refusal.code, refusal.message)

    def _slot(self, peer: PeerId) -> trio.Semaphore:
        if len(self._outbound) > bounds.BOOK_ENTRIES_MAX:
            idle = bounds.OUTBOUND_REQUESTS_PER_PEER
            self._outbound = {name: slots for name, slots in self._outbound.items() if slots.value < idle}
        return self._outbound.setdefault(peer, trio.Semaphore(bounds.OUTBOUND_REQUESTS_PER_PEER))


async def _while_open(stream: Stream, handler: RequestHandler, request: bytes) -> bytes:
    """Run the handler until it is done or the asker has given up; its stream counts against its limit until then."""
    replies: list[bytes] = []
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def handle() -> None:
            try:
                replies.append(await handler(stream.peer, request))
            except Exception as error:  # noqa: BLE001  (raised below, outside the nursery that would wrap it)
                failures.append(error)
            nursery.cancel_scope.cancel()

        async def watch() -> None:
            await stream.wait_closed()
            nursery.cancel_scope.cancel()

        nursery.start_soon(handle)
        nursery.start_soon(watch)
    if failures:
        raise failures[0]
    if not replies:
        raise StreamBroken(f"{stream.peer} gave up waiting")
    return replies[0]
