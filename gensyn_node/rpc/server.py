"""The HTTP server: starlette's routes on hypercorn's trio server, with bounds on connections, sizes and times.

POST /rpc            JSON-RPC 2.0
GET  /metrics        what Prometheus reads
GET  /v1/METHOD      a reading method; its parameters are the query's
GET  /openapi.json   what there is to read
GET  /ws             WebSocket: subscriptions by topic
GET  /events         WebSocket: one JSON object an event; all of them but headers, steps and votes
GET  /blobs/ID/N     chunk N of a blob
PUT  /blobs/ID/N     the same, upward (token; header X-Blob-Length)
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import guard, reasons
from gensyn_node.rpc.backend import NodeBackend
from gensyn_node.rpc.dispatch import answer_body, error_object
from gensyn_node.rpc.json_view import to_json
from gensyn_node.rpc.rest import answer_query, openapi
from gensyn_node.rpc.subscriptions import CONSENSUS_KINDS, Subscriptions

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger()

BODY_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 5.0
"""A subscriber that takes longer over an event is dropped with E1716; one that takes nothing in twice that is cut."""
_QUIET = frozenset({"header", *CONSENSUS_KINDS})
_STATUS = {
    reasons.HOST_REFUSED: 403,
    reasons.ORIGIN_REFUSED: 403,
    reasons.TOKEN_REFUSED: 401,
    reasons.BAD_CONTENT_TYPE: 415,
    reasons.BODY_TOO_LARGE: 413,
    reasons.BODY_TOO_SLOW: 408,
    reasons.NOT_FOUND: 404,
    reasons.NO_SUCH_METHOD: 404,
    reasons.CALL_TIMED_OUT: 504,
}
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """Where to listen and whom to answer."""

    token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    allowed_hosts: tuple[str, ...] = ()
    connections_max: int = 32
    """WebSockets not counted."""
    sockets_max: int = 16
    """WebSockets at once."""
    body_timeout_s: float = BODY_TIMEOUT_S
    send_timeout_s: float = SEND_TIMEOUT_S


@dataclass(slots=True)
class _Places:
    """How many connections there are of each kind, and how many there may be."""

    connections_max: int
    sockets_max: int
    connections: int = 0
    sockets: int = 0


@dataclass(slots=True)
class _Place:
    """One connection's place; it begins as one of HTTP."""

    places: _Places
    scope: trio.CancelScope
    """Of the connection."""
    socket: bool = False
    turned_away: bool = False
    """A WebSocket for which there was no place."""

    def become_socket(self) -> bool:
        """Move among the WebSockets; False, and nothing done, when they are as many as may be."""
        if self.places.sockets >= self.places.sockets_max:
            self.turned_away = True
            return False
        self.places.connections -= 1
        self.places.sockets += 1
        self.socket = True
        return True

    def leave(self) -> None:
        """Give it up."""
        if self.socket:
            self.places.sockets -= 1
        else:
            self.places.connections -= 1


_place: ContextVar[_Place] = ContextVar("_place")
"""Of the connection that a handler answers on; tasks inherit it."""


async def serve_rpc(
    backend: NodeBackend,
    settings: RpcSettings,
    *,
    task_status: TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; reports `http://host:port` when it listens. OSError when the port is taken."""
    (listener,) = await trio.open_tcp_listeners(settings.port, host=settings.host, backlog=64)
    port = listener.socket.getsockname()[1]
    policy = guard.Policy(guard.loopback_hosts(settings.host, port, settings.allowed_hosts), settings.token)
    application = wrap_app(make_application(backend, policy, settings), 0, "asgi")
    config = _server_config()
    places = _Places(settings.connections_max, settings.sockets_max)

    async def connection(stream: trio.SocketStream) -> None:
        if places.connections >= places.connections_max:
            await _refuse(stream)
            return
        places.connections += 1
        with trio.CancelScope() as scope:
            place = _Place(places, scope)
            _place.set(place)
            try:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                await _Connection(application, config, stream, place, 2 * settings.send_timeout_s).run()
            finally:
                place.leave()

    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    task_status.started(f"http://{shown}:{port}")
    await trio.serve_listeners(connection, [listener])


def make_application(backend: NodeBackend, policy: guard.Policy, settings: RpcSettings) -> Starlette:
    """The routes alone, without a socket."""
    server = _Server(backend, policy, settings.body_timeout_s, settings.send_timeout_s)
    return Starlette(
        routes=[
            Route("/rpc", server.rpc, methods=["POST"]),
            Route("/metrics", server.metrics, methods=["GET"]),
            Route("/openapi.json", server.openapi, methods=["GET"]),
            Route("/v1/{method}", server.read, methods=["GET"]),
            WebSocketRoute("/ws", server.subscriptions),
            Route("/blobs/{blob_id}/{chunk}", server.get_chunk, methods=["GET"]),
            Route("/blobs/{blob_id}/{chunk}", server.put_chunk, methods=["PUT"]),
            WebSocketRoute("/events", server.events),
        ],
        exception_handlers={Rejection: _refused, 500: _failed},
    )


def _server_config() -> Config:
    config = Config()
    config.h11_max_incomplete_size = guard.HEADER_BYTES_MAX
    config.keep_alive_timeout = BODY_TIMEOUT_S  # also what a client has to send its headers in
    config.websocket_max_message_size = 1 << 10
    config.websocket_ping_interval = 20.0
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None
    return config


class _Connection(TCPServer):  # type: ignore[misc]  # hypercorn is not typed
    """A connection that frees its slot when the client goes, and is cut when it takes nothing of what it is sent."""

    def __init__(
        self,
        app: Any,
        config: Config,
        stream: trio.SocketStream,
        place: _Place,
        stalled_s: float,
    ) -> None:
        super().__init__(app, config, WorkerContext(None), {}, stream)
        self._seat = place
        self._stalled_s = stalled_s

    async def protocol_send(self, event: Any) -> None:
        """Hypercorn shields what it sends: without an end of its own a client that never reads is never left."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.move_on_after(self._stalled_s) as sending:
                    sending.shield = True
                    await self.stream.send_all(event.data)
                if not sending.cancelled_caught:
                    return
                await trio.aclose_forcefully(self.stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()
        if self._seat.socket or self._seat.turned_away:
            # Hypercorn's task of pings sleeps on for its whole interval.
            self._seat.scope.cancel()


async def _refuse(stream: trio.SocketStream) -> None:
    """Tell a connection over the bound to go away; it gets a second to hear it."""
    async with stream:
        with trio.move_on_after(1.0), suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Rejection):
        raise error
    headers = {**_HEADERS, "Connection": "close"}
    return JSONResponse({"error": error_object(error)}, _STATUS.get(error.reason, 400), headers)


async def _failed(request: Request, error: Exception) -> Response:
    """A failure of ours: told without details; the log has them."""
    log.error("answer_failed", path=request.url.path, exc_info=error)
    rejection = Rejection(reasons.INTERNAL, "the node could not answer; its log says why")
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error_object(rejection)}, 500, _HEADERS)


@dataclass(frozen=True, slots=True)
class _Server:
    """The handlers of the routes."""

    backend: NodeBackend
    policy: guard.Policy
    body_timeout_s: float
    send_timeout_s: float

    async def rpc(self, request: Request) -> Response:
        guard.check_headers(self.policy, request.headers.raw)
        guard.check_content(request.headers.raw, "application/json")
        body = await self._body(request, limits.RPC_BODY_BYTES_MAX)
        authorize = partial(guard.check_token, self.policy, request.headers.raw)
        answer = await answer_body(self.backend, body, authorize)
        if answer is None:
            return Response(status_code=204, headers=_HEADERS)
        return JSONResponse(answer, headers=_HEADERS)

    async def metrics(self, request: Request) -> Response:
        guard.check_headers(self.policy, request.headers.raw)
        text = await self.backend.metrics()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8", headers=_HEADERS)

    async def openapi(self, request: Request) -> Response:
        guard.check_headers(self.policy, request.headers.raw)
        return JSONResponse(openapi((await self.backend.status()).version), headers=_HEADERS)

    async def read(self, request: Request) -> Response:
        guard.check_headers(self.policy, request.headers.raw)
        answer = await answer_query(self.backend, request.path_params["method"], request.query_params.multi_items())
        return JSONResponse(answer, headers=_HEADERS)

    async def subscriptions(self, websocket: WebSocket) -> None:
        """Answers requests and sends what they ask for. A reader that does not keep up is told so and dropped."""
        try:
            guard.check_headers(self.policy, websocket.headers.raw)
        except Rejection:
            await websocket.close(1008)
            return
        if not await _accept(websocket):
            return
        wanted, slow, sends = Subscriptions(), False, trio.Lock()
        async with self.backend.events() as channel, trio.open_nursery() as nursery:
            nursery.start_soon(_take_requests, websocket, wanted, sends, nursery.cancel_scope)
            async for event in channel:
                text = ""
                for number in wanted.of(event):
                    text = text or json.dumps(to_json(event))
                    began = trio.current_time()
                    async with sends:
                        await websocket.send_text(f'{{"id": {number}, "event": {text}}}')
                    slow = slow or trio.current_time() - began > self.send_timeout_s
                if slow:
                    break
            nursery.cancel_scope.cancel()
        await _close(websocket, slow)

    async def get_chunk(self, request: Request) -> Response:
        guard.check_headers(self.policy, request.headers.raw)
        blob_id, chunk = _chunk_of(request)
        data = await self.backend.blob_get(blob_id, chunk)
        if data is None:
            raise Rejection(reasons.NOT_FOUND, "this chunk is not here")
        return Response(data, media_type="application/octet-stream", headers=_HEADERS)

    async def put_chunk(self, request: Request) -> Response:
        guard.check_headers(self.policy, request.headers.raw)
        guard.check_token(self.policy, request.headers.raw)
        guard.check_content(request.headers.raw, "application/octet-stream")
        blob_id, chunk = _chunk_of(request)
        length = _natural(request.headers.get("x-blob-length", ""), limits.BLOB_BYTES_MAX)
        data = await self._body(request, limits.BLOB_CHUNK_BYTES)
        return JSONResponse(to_json(await self.backend.blob_put(blob_id, length, chunk, data)), headers=_HEADERS)

    async def events(self, websocket: WebSocket) -> None:
        try:
            guard.check_headers(self.policy, websocket.headers.raw)
        except Rejection:
            await websocket.close(1008)
            return
        if not await _accept(websocket):
            return
        slow = False
        async with self.backend.events() as channel, trio.open_nursery() as nursery:
            nursery.start_soon(_watch_close, websocket, nursery.cancel_scope)
            async for event in channel:
                if event.kind in _QUIET:
                    continue
                began = trio.current_time()
                await websocket.send_text(json.dumps(to_json(event)))
                slow = trio.current_time() - began > self.send_timeout_s
                if slow:
                    break
            nursery.cancel_scope.cancel()
        await _close(websocket, slow)

    async def _body(self, request: Request, bytes_max: int) -> bytes:
        """The body, within its bounds of size and time."""
        announced = guard.announced_length(request.headers.raw)
        if announced is not None and announced > bytes_max:
            raise Rejection(reasons.BODY_TOO_LARGE, f"{announced} bytes, at most {bytes_max} are accepted")
        body = bytearray()
        with trio.move_on_after(self.body_timeout_s):
            async for part in request.stream():
                body += part
                if len(body) > bytes_max:
                    raise Rejection(reasons.BODY_TOO_LARGE, f"at most {bytes_max} bytes are accepted")
            return bytes(body)
        raise Rejection(reasons.BODY_TOO_SLOW, f"the body took longer than {self.body_timeout_s:g} s")


async def _accept(websocket: WebSocket) -> bool:
    """Open it, unless there are as many as may be: then it is told so and closed."""
    place = _place.get(None)
    fits = place is None or place.become_socket()
    await websocket.accept()
    if not fits:
        await websocket.close(1013, reasons.TOO_BUSY.code)
    return fits


async def _close(websocket: WebSocket, slow: bool) -> None:
    """Say goodbye, unless the client went first."""
    if websocket.client_state is WebSocketState.CONNECTED:
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(1013 if slow else 1001, reasons.READER_TOO_SLOW.code if slow else None)


async def _take_requests(
    websocket: WebSocket, wanted: Subscriptions, sends: trio.Lock, scope: trio.CancelScope
) -> None:
    """Answer requests until the client goes."""
    try:
        while True:
            text = await websocket.receive_text()
            try:
                answer = wanted.handle(text)
            except Rejection as rejection:
                answer = {"error": error_object(rejection)}
            async with sends:
                await websocket.send_text(json.dumps(answer))
    except (WebSocketDisconnect, KeyError):
        scope.cancel()


async def _watch_close(websocket: WebSocket, scope: trio.CancelScope) -> None:
    """End the subscription when the client goes; it has nothing to say."""
    try:
        while True:
            await websocket.receive_text()
    except (WebSocketDisconnect, KeyError):
        scope.cancel()


def _chunk_of(request: Request) -> tuple[bytes, int]:
    text: Any = request.path_params["blob_id"]
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Rejection(reasons.BAD_PARAMETERS, "a blob is named by 64 hexadecimal digits")
    chunks_max = limits.BLOB_BYTES_MAX // limits.BLOB_CHUNK_BYTES
    return bytes.fromhex(text), _natural(request.path_params["chunk"], chunks_max)


def _natural(text: str, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12) or int(text) > maximum:
        raise Rejection(reasons.BAD_PARAMETERS, f"{text[:40]!r} is not a number from 0 to {maximum}")
    return int(text)
