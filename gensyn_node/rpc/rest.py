"""The reading methods as `GET /v1/METHOD?name=value`, and the OpenAPI document of them, both out of one table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import trio

from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import NodeBackend
from gensyn_node.rpc.json_view import Json, to_json
from gensyn_node.rpc.methods import METHODS

PATH = "/v1/"
_NOTES = (
    "Integers are exact and may exceed 2^53: read them with a parser that keeps them. Addresses are bech32, other "
    "bytes hexadecimal. Every refusal has a stable code. Writing goes through POST /rpc (JSON-RPC 2.0) with the "
    "node's token."
)


async def answer_query(backend: NodeBackend, name: str, query: Iterable[tuple[str, str]]) -> Json:
    """The answer to a reading method. `Rejection` NO_SUCH_METHOD, BAD_PARAMETERS, CALL_TIMED_OUT or its own."""
    method = METHODS.get(name)
    if method is None or method.writes:
        raise Rejection(reasons.NO_SUCH_METHOD, f"there is nothing to read under {name[:40]!r}")
    pairs = list(query)
    given = dict(pairs)
    if len(given) != len(pairs):
        raise Rejection(reasons.BAD_PARAMETERS, "a parameter is given twice")
    try:
        parameters = msgspec.convert(given, method.parameters, strict=False)
    except msgspec.ValidationError as error:
        raise Rejection(reasons.BAD_PARAMETERS, str(error)) from None
    with trio.move_on_after(method.timeout_s):
        return to_json(await method.call(backend, parameters))
    raise Rejection(reasons.CALL_TIMED_OUT, f"{name} took longer than {method.timeout_s:g} s")


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    readable = {name: method for name, method in sorted(METHODS.items()) if not method.writes}
    kinds = {method.parameters for method in readable.values()}
    _, components = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    error = {
        "type": "object",
        "properties": {"error": {"type": "object", "required": ["code", "message", "data"]}},
        "required": ["error"],
    }
    refused = {"description": "Refused, with a stable code.", "content": {"application/json": {"schema": error}}}
    paths = {}
    for name, method in readable.items():
        schema = components[method.parameters.__name__]
        required = set(schema.get("required", ()))
        parameters = [
            {"name": field, "in": "query", "required": field in required, "schema": kind}
            for field, kind in schema["properties"].items()
        ]
        answer = {"description": "The answer.", "content": {"application/json": {"schema": {}}}}
        responses = {"200": answer, "400": refused, "403": refused, "404": refused, "504": refused}
        paths[PATH + name] = {"get": {"operationId": name, "parameters": parameters, "responses": responses}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "gensyn node", "version": version, "description": _NOTES},
        "paths": paths,
        "components": {"schemas": components},
    }
