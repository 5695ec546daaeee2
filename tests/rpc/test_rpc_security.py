"""Hostile requests, as raw bytes over a real socket: each is refused, and the node did nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial

import pytest
import trio
from rpc_fake_node import TOKEN, FakeNode, serving
from structlog.testing import capture_logs

READ = b'{"jsonrpc":"2.0","id":1,"method":"status"}'
WRITE = b'{"jsonrpc":"2.0","id":1,"method":"submit_transaction","params":{"transaction":"00"}}'
BEARER = f"Authorization: Bearer {TOKEN}"
JSON = "Content-Type: application/json"


async def exchange(address: str, data: bytes, *, pause_s: float = 0.0, rest: bytes = b"") -> tuple[int, bytes]:
    """Send raw bytes; the status and the body (0 when the connection was closed without an answer)."""
    port = int(address.rsplit(":", 1)[1])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    answer = b""
    async with stream:
        with trio.move_on_after(20):
            try:
                await stream.send_all(data)
                if rest:
                    await trio.sleep(pause_s)
                    await stream.send_all(rest)
            except trio.BrokenResourceError:
                pass
            try:
                async for part in stream:
                    answer += part
                    if finished(answer):
                        break
            except trio.BrokenResourceError:
                pass
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


def finished(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 204"))


def post(
    body: bytes = READ, *headers: str, host: str | None = "{}", path: str = "/rpc", length: int | None = None
) -> bytes:
    """A POST with these extra headers; `{}` in them stands for our host:port."""
    lines = [f"POST {path} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += headers
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Case:
    """A request, the status it gets, and the reason's code in the answer (empty: refused before our code)."""

    name: str
    data: bytes
    status: int
    code: str = ""


def deep(levels: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"status","params":' + b"[" * levels + b"]" * levels + b"}"


def batch(count: int) -> bytes:
    return b"[" + b",".join([READ] * count) + b"]"


HOST, ORIGIN, UNAUTHORISED, TYPE = "E1701", "E1702", "E1703", "E1704"
CASES = [
    Case("no host", post(READ, JSON, host=None), 400),
    Case("two hosts", post(READ, JSON, "Host: evil.example"), 400),
    Case("rebound name", post(READ, JSON, host="evil.example"), 403, HOST),
    Case("rebound name with our port", post(READ, JSON, host="evil.example:{port}"), 403, HOST),
    Case("localhost as a prefix", post(READ, JSON, host="localhost.evil:{port}"), 403, HOST),
    Case("a name that resolves to loopback", post(READ, JSON, host="127.0.0.1.nip.io:{port}"), 403, HOST),
    Case("decimal address", post(READ, JSON, host="2130706433:{port}"), 403, HOST),
    Case("octal address", post(READ, JSON, host="0177.0.0.1:{port}"), 403, HOST),
    Case("short address", post(READ, JSON, host="127.1:{port}"), 403, HOST),
    Case("another loopback address", post(READ, JSON, host="127.0.0.2:{port}"), 403, HOST),
    Case("IPv6 loopback", post(READ, JSON, host="[::1]:{port}"), 403, HOST),
    Case("mapped IPv6", post(READ, JSON, host="[::ffff:127.0.0.1]:{port}"), 403, HOST),
    Case("trailing dot", post(READ, JSON, host="localhost.:{port}"), 403, HOST),
    Case("no port", post(READ, JSON, host="127.0.0.1"), 403, HOST),
    Case("another port", post(READ, JSON, host="127.0.0.1:1"), 403, HOST),
    Case("any address", post(READ, JSON, host="0.0.0.0:{port}"), 403, HOST),
    Case("user in host", post(READ, JSON, host="127.0.0.1:{port}@evil.example"), 403, HOST),
    Case("absolute URI with a foreign host", post(READ, JSON, host="evil.example", path="http://{}/rpc"), 404),
    Case("foreign origin", post(READ, JSON, "Origin: https://evil.example"), 403, ORIGIN),
    Case("null origin", post(READ, JSON, "Origin: null"), 403, ORIGIN),
    Case("origin with another scheme", post(READ, JSON, "Origin: https://{}"), 403, ORIGIN),
    Case("origin with another port", post(READ, JSON, "Origin: http://127.0.0.1:1"), 403, ORIGIN),
    Case("two origins", post(READ, JSON, "Origin: http://{}", "Origin: http://evil"), 403, ORIGIN),
    Case("cross-site fetch", post(READ, JSON, "Sec-Fetch-Site: cross-site"), 403, ORIGIN),
    Case("same-site fetch", post(READ, JSON, "Sec-Fetch-Site: same-site"), 403, ORIGIN),
    Case("form", post(b"a=b", "Content-Type: application/x-www-form-urlencoded"), 415, TYPE),
    Case("text", post(READ, "Content-Type: text/plain"), 415, TYPE),
    Case("multipart", post(READ, "Content-Type: multipart/form-data; boundary=x"), 415, TYPE),
    Case("no type", post(READ), 415, TYPE),
    Case("two types", post(READ, JSON, "Content-Type: text/plain"), 415, TYPE),
    Case("another charset", post(READ, "Content-Type: application/json; charset=utf-16"), 415, TYPE),
    Case("gzip", post(READ, JSON, "Content-Encoding: gzip"), 415, TYPE),
    Case("announced too large", post(READ, JSON, length=2 << 20), 413, "E1705"),
    Case("too large", post(b" " * ((1 << 20) + 1), JSON), 413, "E1705"),
    Case("length and chunks", post(READ, JSON, "Transfer-Encoding: chunked"), 400, "E1708"),
    Case("negative length", post(READ, JSON, length=-1), 400),
    Case("headers too large", post(READ, JSON, "X-Filler: " + "a" * 20_000), 413, "E1705"),
    Case("control characters in a header", post(READ, JSON, "X-Log: a\x1b[31mb\x00"), 400),
    Case("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    Case("write without token", post(WRITE, JSON), 200, UNAUTHORISED),
    Case("write with a wrong token", post(WRITE, JSON, "Authorization: Bearer " + "5b" * 32), 200, UNAUTHORISED),
    Case("write with the token cut", post(WRITE, JSON, BEARER[:-2]), 200, UNAUTHORISED),
    Case("write with an empty token", post(WRITE, JSON, "Authorization: Bearer "), 200, UNAUTHORISED),
    Case("write with two tokens", post(WRITE, JSON, BEARER, BEARER), 200, UNAUTHORISED),
    Case("token by basic scheme", post(WRITE, JSON, f"Authorization: Basic {TOKEN}"), 200, UNAUTHORISED),
    Case("token in the query", post(WRITE, JSON, path=f"/rpc?token={TOKEN}"), 200, UNAUTHORISED),
    Case("write with token, foreign origin", post(WRITE, JSON, BEARER, "Origin: http://evil"), 403, ORIGIN),
    Case("empty", post(b"", JSON), 200, "E1707"),
    Case("not JSON", post(b"{", JSON), 200, "E1707"),
    Case("not UTF-8", post(b'{"a":"\xff"}', JSON), 200, "E1707"),
    Case("byte order mark", post(b"\xef\xbb\xbf" + READ, JSON), 200, "E1707"),
    Case("NaN", post(b'{"a":NaN}', JSON), 200, "E1707"),
    Case("infinite by overflow", post(b'{"a":1e400}', JSON), 200, "E1707"),
    Case("huge integer", post(b'{"a":' + b"9" * 5000 + b"}", JSON), 200, "E1707"),
    Case("duplicate key", post(b'{"jsonrpc":"2.0","id":1,"method":"x","method":"status"}', JSON), 200, "E1707"),
    Case("lone surrogate", post(b'{"a":"\\ud800"}', JSON), 200, "E1707"),
    Case("too deep", post(deep(40), JSON), 200, "E1707"),
    Case("very deep", post(b"[" * 500_000, JSON), 200, "E1707"),
    Case("batch too long", post(batch(21), JSON), 200, "E1708"),
    Case("empty batch", post(b"[]", JSON), 200, "E1708"),
    Case("no version", post(b'{"id":1,"method":"status"}', JSON), 200, "E1708"),
    Case("unknown member", post(READ[:-1] + b',"extra":1}', JSON), 200, "E1708"),
    Case("object as id", post(b'{"jsonrpc":"2.0","id":{},"method":"status"}', JSON), 200, "E1708"),
    Case("unknown method", post(READ.replace(b"status", b"__class__"), JSON), 200, "E1709"),
    Case("parameters by position", post(READ[:-1] + b',"params":[1]}', JSON), 200, "E1710"),
    Case("unknown parameter", post(READ[:-1] + b',"params":{"x":1}}', JSON), 200, "E1710"),
]


def filled(data: bytes, address: str) -> bytes:
    """Put our host and port where the case left room."""
    host = address.removeprefix("http://")
    head, separator, body = data.partition(b"\r\n\r\n")
    head = head.replace(b"{port}", host.rsplit(":", 1)[1].encode()).replace(b"{}", host.encode())
    return head + separator + body


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case, node: FakeNode) -> None:
    async def main() -> tuple[int, bytes]:
        async with serving(node) as address:
            return await exchange(address, filled(case.data, address))

    status, body = trio.run(main)
    assert status == case.status
    if case.code:
        assert json.loads(body)["error"]["data"]["code"] == case.code
    assert node.submitted == []
    assert TOKEN.encode() not in body


@pytest.mark.parametrize("headers", [(), ("Origin: http://{}",), ("Sec-Fetch-Site: same-origin",)])
def test_accepted(headers: tuple[str, ...], node: FakeNode) -> None:
    async def main() -> tuple[int, bytes]:
        async with serving(node) as address:
            return await exchange(address, filled(post(WRITE, JSON, BEARER, *headers), address))

    status, body = trio.run(main)
    assert (status, json.loads(body)["result"]) == (200, {"transaction_id": "07" * 32})
    assert node.submitted == [b"\x00"]


def test_body_that_trickles_is_cut_off(node: FakeNode) -> None:
    async def main() -> tuple[int, bytes]:
        async with serving(node, body_timeout_s=0.3) as address:
            data = filled(post(READ, JSON), address)
            return await exchange(address, data[:-5])

    status, body = trio.run(main)
    assert status == 408
    assert json.loads(body)["error"]["data"]["code"] == "E1706"


def test_connections_over_the_bound_are_turned_away(node: FakeNode) -> None:
    async def main() -> tuple[int, int]:
        async with serving(node, connections_max=2) as address:
            port = int(address.rsplit(":", 1)[1])
            idle = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
            await trio.sleep(0.05)
            refused, _ = await exchange(address, filled(post(READ, JSON), address))
            for stream in idle:
                await stream.aclose()
            with trio.fail_after(20):
                while True:
                    served, _ = await exchange(address, filled(post(READ, JSON), address))
                    if served != 503:
                        return refused, served
                    await trio.sleep(0.05)

    assert trio.run(main) == (503, 200)


@pytest.mark.parametrize("headers", ["Host: evil.example", "Host: {}\r\nOrigin: http://evil.example"])
def test_foreign_websocket_is_refused(headers: str, node: FakeNode) -> None:
    request = (
        f"GET /events HTTP/1.1\r\n{headers}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def main() -> int:
        async with serving(node) as address:
            return (await exchange(address, filled(request.encode(), address)))[0]

    assert trio.run(main) == 403
    assert not node.senders


def test_failure_of_ours_tells_nothing_and_the_log_everything(node: FakeNode) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"dispute","params":{"dispute_id":"' + b"00" * 32 + b'"}}'

    async def main() -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        async with serving(node) as address:
            failed = await exchange(address, filled(post(body, JSON), address))
            return failed, await exchange(address, filled(post(READ, JSON), address))

    with capture_logs() as told:
        (status, answer), after = trio.run(main)
    assert [(one["event"], str(one["exc_info"])) for one in told] == [
        ("answer_failed", "the secret of the node is 1234")
    ]
    assert status == 500
    assert json.loads(answer)["error"]["data"]["code"] == "E1714"
    assert b"1234" not in answer
    assert after[0] == 200


def test_upload_needs_the_token(node: FakeNode) -> None:
    async def main(*headers: str) -> int:
        async with serving(node) as address:
            path = f"/blobs/{'ab' * 32}/0"
            data = post(b"x", "Content-Type: application/octet-stream", "X-Blob-Length: 1", *headers, path=path)
            return (await exchange(address, filled(data.replace(b"POST", b"PUT", 1), address)))[0]

    assert trio.run(main) == 401
    assert not node.chunks
    assert trio.run(partial(main, BEARER)) == 200
    assert node.chunks == {(b"\xab" * 32, 0): b"x"}
