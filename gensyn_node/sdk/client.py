"""One node's interface, as calls: JSON-RPC, blobs chunk by chunk. Synchronous; one connection, kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from consensus.ledger.parameters import Parameters
from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Reason, Rejection
from gensyn_node.sdk import reasons

CALL_TIMEOUT_S = 35.0
PAGE = 200
"""Entries asked for at once."""
Progress = Callable[[int, int], None]
"""progress(done, total)."""


@dataclass(slots=True)
class NodeClient:
    """A connection to a node. Every refusal is a `Rejection` with the node's reason."""

    address: str
    """Such as `http://127.0.0.1:26601`."""
    token: str = field(default="", repr=False)
    _http: httpx.Client = field(init=False, repr=False)
    _number: int = field(init=False, default=0, repr=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self._http = httpx.Client(base_url=self.address, headers=headers, timeout=CALL_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(self, method: str, /, *, timeout_s: float = CALL_TIMEOUT_S, **parameters: Any) -> Any:
        """The result of a method, as JSON."""
        self._number += 1
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters}
        response = self._send("POST", "/rpc", json=body, timeout=timeout_s)
        answer = _json(response)
        if error := answer.get("error"):
            raise _rejection(error)
        if "result" not in answer:
            raise Rejection(reasons.NODE_ERROR, f"{self.address} answered {method} with neither result nor error")
        return answer["result"]

    def find(self, method: str, /, **parameters: Any) -> Any | None:
        """Like `call`, None when the thing does not exist."""
        try:
            return self.call(method, **parameters)
        except Rejection as error:
            if error.reason.name == "not_found":
                return None
            raise

    def whole_list(self, method: str, /, **parameters: Any) -> list[Any]:
        """All pages of a list."""
        listed: list[Any] = []
        while page := self.call(method, offset=len(listed), limit=PAGE, **parameters):
            listed += page
            if len(page) < PAGE:
                break
        return listed

    def parameters(self) -> Parameters:
        """The chain's parameters."""
        given: dict[str, Any] = self.call("parameters")
        try:
            return Parameters(**given)
        except TypeError as error:
            raise Rejection(reasons.NODE_ERROR, f"the node has other parameters: {error}") from None

    def put_chunk(self, blob_id: bytes, length: int, chunk: int, data: bytes) -> dict[str, Any]:
        """Upload one chunk; what the node then has of the blob."""
        headers = {"Content-Type": "application/octet-stream", "X-Blob-Length": str(length)}
        return _json(self._send("PUT", f"/blobs/{blob_id.hex()}/{chunk}", content=data, headers=headers))

    def get_chunk(self, blob_id: bytes, chunk: int) -> bytes:
        """Download one chunk of a blob that the node has."""
        response = self._send("GET", f"/blobs/{blob_id.hex()}/{chunk}")
        if response.status_code != httpx.codes.OK:
            _json(response)
        return response.content

    def _send(self, verb: str, path: str, **arguments: Any) -> httpx.Response:
        """Send; once more when the node had closed the kept connection. Repeating any request of ours is harmless."""
        try:
            try:
                return self._http.request(verb, path, **arguments)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                return self._http.request(verb, path, **arguments)
        except httpx.TransportError as error:
            raise Rejection(reasons.NODE_UNREACHABLE, f"{self.address}: {error or type(error).__name__}") from None


def _json(response: httpx.Response) -> dict[str, Any]:
    """The object in a response; the node's rejection when it is one."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Rejection(reasons.NODE_ERROR, f"{response.url} answered {response.status_code} without a JSON object")
    if response.status_code != httpx.codes.OK and "error" in answer:
        raise _rejection(answer["error"])
    return answer


def _rejection(error: Any) -> Rejection:
    """The node's error as the rejection that it was there."""
    if isinstance(error, dict) and isinstance(data := error.get("data"), dict):
        parts = {name: str(data.get(name, "")) for name in ("code", "name", "meaning", "remedy")}
        return Rejection(Reason(**parts), str(error.get("message", "")))
    return Rejection(reasons.NODE_ERROR, str(error)[:500])


def connect(home: Home, address: str | None = None, token_file: Path | None = None) -> NodeClient:
    """A client of the node at `address`, or of the one that runs in `home`."""
    if address is None:
        try:
            address = home.endpoint.read_text("ascii").strip()
        except OSError:
            raise Rejection(reasons.NODE_UNREACHABLE, f"no node has run in {home.path} yet") from None
    token_path = token_file or home.token
    try:
        token = token_path.read_text("ascii").strip()
    except OSError:
        if token_file is not None:
            raise Rejection(reasons.NO_TOKEN, f"{token_file} cannot be read") from None
        token = ""
    if "://" not in address:
        address = f"http://{address}"
    return NodeClient(address.rstrip("/"), token)
