"""Who may talk to the node: Host, Origin and token, decided from headers alone.

A web page can make a browser on this machine send requests here. Its name may even resolve to 127.0.0.1 (DNS
rebinding): then the request is same-origin and only its Host tells. So Host must be exactly one of ours, port included;
any Origin must be ours as well; and what writes needs a token that no page can read.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.keys.keystore import write_private
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons

Headers = Iterable[tuple[bytes, bytes]]
TOKEN_BYTES = 32
HEADER_BYTES_MAX = 16 << 10


@dataclass(frozen=True, slots=True)
class Policy:
    """What is accepted: `host:port` values, and the token for writes."""

    hosts: frozenset[str]
    token: str

    def __repr__(self) -> str:
        return f"Policy(hosts={sorted(self.hosts)})"


def loopback_hosts(host: str, port: int, further: Iterable[str] = ()) -> frozenset[str]:
    """Host values of a server bound to `host` and `port`, and the configured `further` ones."""
    names = {host, "127.0.0.1", "localhost"} if host.startswith("127.") or host == "localhost" else {host}
    if ":" in host:
        names = {f"[{host}]"} | ({"localhost"} if host == "::1" else set())
    return frozenset({f"{name}:{port}" for name in names} | {value.lower() for value in further})


def check_headers(policy: Policy, headers: Headers) -> None:
    """Refuse unless the request can only come from a local program or our own page, and has one clear length."""
    if sum(len(key) + len(value) + 4 for key, value in headers) > HEADER_BYTES_MAX:
        raise Rejection(reasons.BODY_TOO_LARGE, f"the headers have more than {HEADER_BYTES_MAX} bytes")
    if _values(headers, b"transfer-encoding") and _values(headers, b"content-length"):
        raise Rejection(reasons.BAD_REQUEST, "both Transfer-Encoding and Content-Length are given")
    hosts = _values(headers, b"host")
    if len(hosts) != 1 or hosts[0] not in policy.hosts:
        shown = ", ".join(repr(host[:80]) for host in hosts) or "none"
        raise Rejection(reasons.HOST_REFUSED, f"the Host header is {shown}")
    for origin in _values(headers, b"origin"):
        if origin not in {f"http://{host}" for host in policy.hosts}:
            raise Rejection(reasons.ORIGIN_REFUSED, f"the Origin is {origin[:80]!r}")
    for site in _values(headers, b"sec-fetch-site"):
        if site not in ("same-origin", "none"):
            raise Rejection(reasons.ORIGIN_REFUSED, f"Sec-Fetch-Site is {site[:40]!r}")


def check_token(policy: Policy, headers: Headers) -> None:
    """TOKEN_REFUSED unless the request carries the bearer token, exactly once."""
    given = _values(headers, b"authorization", lower=False)
    if len(given) != 1:
        raise Rejection(reasons.TOKEN_REFUSED, "exactly one Authorization header is needed")
    scheme, _, token = given[0].partition(" ")
    matches = hmac.compare_digest(token.encode("latin-1"), policy.token.encode("ascii"))
    if scheme.lower() != "bearer" or not matches:
        raise Rejection(reasons.TOKEN_REFUSED, "the bearer token is not this node's")


def check_content(headers: Headers, wanted: str) -> None:
    """BAD_CONTENT_TYPE unless the body is plain `wanted` (JSON may say charset=utf-8)."""
    types = _values(headers, b"content-type")
    if len(types) != 1 or types[0].replace(" ", "") not in (wanted, f"{wanted};charset=utf-8"):
        raise Rejection(reasons.BAD_CONTENT_TYPE, f"the Content-Type has to be {wanted}")
    if any(value not in ("", "identity") for value in _values(headers, b"content-encoding")):
        raise Rejection(reasons.BAD_CONTENT_TYPE, "a compressed body is not accepted")


def announced_length(headers: Headers) -> int | None:
    """The Content-Length, when there is one."""
    lengths = _values(headers, b"content-length")
    return int(lengths[0]) if lengths and lengths[0].isascii() and lengths[0].isdigit() else None


def read_or_make_token(path: Path) -> str:
    """The token in `path`; a fresh one, in a file of mode 0600, when there is none."""
    try:
        token = path.read_text("ascii").strip()
    except FileNotFoundError:
        token = ""
    if len(token) != 2 * TOKEN_BYTES:
        token = secrets.token_hex(TOKEN_BYTES)
        write_private(path, token.encode("ascii") + b"\n", replace=True)
    return token


def _values(headers: Headers, name: bytes, *, lower: bool = True) -> list[str]:
    found = [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]
    return [value.lower() for value in found] if lower else found
