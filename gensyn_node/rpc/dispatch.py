"""JSON-RPC 2.0: bodies in, answers out; knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from gensyn_node.primitives import reasons as primitive_reasons
from gensyn_node.primitives.errors import Reason, Rejection
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import NodeBackend
from gensyn_node.rpc.json_view import Json, to_json
from gensyn_node.rpc.methods import METHODS, call_method
from gensyn_node.rpc.strict_json import parse_json

BATCH_MAX = 20

_CODES: dict[Reason, int] = {
    reasons.BAD_JSON: -32700,
    reasons.BAD_REQUEST: -32600,
    reasons.NO_SUCH_METHOD: -32601,
    reasons.BAD_PARAMETERS: -32602,
    primitive_reasons.BAD_ADDRESS: -32602,
    reasons.INTERNAL: -32603,
    reasons.TOKEN_REFUSED: -32001,
    reasons.NOT_FOUND: -32004,
    reasons.CALL_TIMED_OUT: -32005,
}
"""JSON-RPC error codes; every other reason is -32000. The stable code is the reason's."""

Authorize = Callable[[], None]
"""Raises TOKEN_REFUSED unless the caller may write."""


def error_object(rejection: Rejection) -> dict[str, Json]:
    """A JSON-RPC error with the reason in `data`."""
    why = rejection.reason
    return {
        "code": _CODES.get(why, -32000),
        "message": rejection.message,
        "data": {"code": why.code, "name": why.name, "meaning": why.meaning, "remedy": why.remedy},
    }


async def answer_body(backend: NodeBackend, body: bytes, authorize: Authorize) -> Json | None:
    """The answer to a request or a batch; None when there is nothing to answer (notifications only)."""
    try:
        value = parse_json(body)
        if not isinstance(value, list):
            return await _answer(backend, value, authorize)
        if not 1 <= len(value) <= BATCH_MAX:
            raise Rejection(reasons.BAD_REQUEST, f"a batch has 1 to {BATCH_MAX} requests, not {len(value)}")
    except Rejection as rejection:
        return _failure(None, rejection)
    answers = [await _answer(backend, request, authorize) for request in value]
    return [answer for answer in answers if answer is not None] or None


async def _answer(backend: NodeBackend, request: Any, authorize: Authorize) -> Json | None:
    identifier, notification = None, False
    try:
        identifier, notification = _identifier(request)
        result = to_json(await _call(backend, request, authorize))
    except Rejection as rejection:
        return None if notification else _failure(identifier, rejection)
    return None if notification else {"jsonrpc": "2.0", "id": identifier, "result": result}


def _identifier(request: Any) -> tuple[str | int | None, bool]:
    """The request's id and whether it is a notification; BAD_REQUEST for a malformed envelope."""
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        raise Rejection(reasons.BAD_REQUEST, 'a request is an object with "jsonrpc": "2.0"')
    if unknown := sorted(set(request) - {"jsonrpc", "id", "method", "params"}):
        raise Rejection(reasons.BAD_REQUEST, f"unknown member {unknown[0][:40]!r}")
    if not isinstance(request.get("method"), str):
        raise Rejection(reasons.BAD_REQUEST, "the method is missing")
    identifier = request.get("id")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int | None):
        raise Rejection(reasons.BAD_REQUEST, "an id is a string, an integer or null")
    return identifier, "id" not in request


async def _call(backend: NodeBackend, request: dict[str, Any], authorize: Authorize) -> object:
    name = request["method"]
    method = METHODS.get(name)
    if method is None:
        raise Rejection(reasons.NO_SUCH_METHOD, f"there is no method {name[:40]!r}")
    if method.writes:
        authorize()
    given = request.get("params", {})
    if not isinstance(given, dict):
        raise Rejection(reasons.BAD_PARAMETERS, "parameters are given by name, in an object")
    with trio.move_on_after(method.timeout_s):
        return await call_method(method, backend, given)
    raise Rejection(reasons.CALL_TIMED_OUT, f"{name} took longer than {method.timeout_s:g} s")


def _failure(identifier: str | int | None, rejection: Rejection) -> dict[str, Json]:
    return {"jsonrpc": "2.0", "id": identifier, "error": error_object(rejection)}
