"""What the server answers when all is well: methods, batches, notifications, blobs, events; and JSON itself."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from rpc_fake_node import ADDRESS, TOKEN, FakeNode, serving
from trio_websocket import open_websocket_url

from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc.backend import Event
from gensyn_node.rpc.json_view import to_json
from gensyn_node.rpc.methods import METHODS
from gensyn_node.rpc.strict_json import parse_json


def ask(node: FakeNode, body: Any, token: str = "") -> httpx.Response:
    async def main() -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with serving(node) as address, httpx.AsyncClient() as client:
            return await client.post(f"{address}/rpc", json=body, headers=headers)

    return trio.run(main)


def test_status_has_addresses_as_text(node: FakeNode) -> None:
    answer = ask(node, {"jsonrpc": "2.0", "id": "a", "method": "status"}).json()
    assert answer["id"] == "a"
    assert answer["result"]["address"] == encode_address(ADDRESS)
    assert answer["result"]["app_hash"] == "02" * 32


def test_batch_answers_each_and_skips_notifications(node: FakeNode) -> None:
    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "role"},
        {"jsonrpc": "2.0", "method": "role"},
        {"jsonrpc": "2.0", "id": 2, "method": "nonsense"},
        5,
    ]
    answers = ask(node, requests).json()
    assert [answer["id"] for answer in answers] == [1, 2, None]
    assert answers[0]["result"] == "auto"
    assert [answer["error"]["code"] for answer in answers[1:]] == [-32601, -32600]


def test_notification_alone_has_no_answer(node: FakeNode) -> None:
    body = {"jsonrpc": "2.0", "method": "set_role", "params": {"role": "none"}}
    response = ask(node, body, TOKEN)
    assert (response.status_code, response.content, node.current_role) == (204, b"", "none")


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("block", {"height": 99}, "E1711"),
        ("block", {"height": -1}, "E1710"),
        ("block", {"height": "7"}, "E1710"),
        ("task", {"task_id": "00" * 31}, "E1710"),
        ("task", {"task_id": "AB" * 32}, "E1710"),
        ("task", {"task_id": "00" * 32}, "E1711"),
        ("account", {"address": "gsn1nonsense"}, "E1004"),
        ("tasks", {"limit": 201}, "E1710"),
        ("wait_transaction", {"transaction_id": "00" * 32, "timeout_s": 1e9}, "E1710"),
        ("proof", {"key": "0"}, "E1710"),
        ("certificate", {"task_id": "00" * 32}, "E1711"),
    ],
)
def test_errors_are_stable(node: FakeNode, method: str, params: dict[str, Any], code: str) -> None:
    error = ask(node, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()["error"]
    assert error["data"]["code"] == code
    assert error["data"]["remedy"]


def test_only_these_methods_write() -> None:
    assert {name for name, method in METHODS.items() if method.writes} == {
        "submit_transaction",
        "submit_evidence",
        "set_role",
        "blob_fetch",
    }


def test_blob_chunk_comes_back(node: FakeNode) -> None:
    async def main() -> tuple[bytes, int]:
        async with serving(node) as address, httpx.AsyncClient() as client:
            headers = {
                "Authorization": f"Bearer {TOKEN}",
                "Content-Type": "application/octet-stream",
                "X-Blob-Length": "3",
            }
            await client.put(f"{address}/blobs/{'cd' * 32}/0", content=b"abc", headers=headers)
            found = await client.get(f"{address}/blobs/{'cd' * 32}/0")
            missing = await client.get(f"{address}/blobs/{'cd' * 32}/1")
            return found.content, missing.status_code

    assert trio.run(main) == (b"abc", 404)


def test_events_arrive_and_the_subscription_ends(node: FakeNode) -> None:
    async def main() -> dict[str, Any]:
        async with serving(node) as address:
            async with open_websocket_url(address.replace("http", "ws") + "/events") as socket:
                while not node.senders:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                for sender in node.senders:
                    await sender.send(Event(kind="block", height=8, data={"id": b"\x01"}))
                received: dict[str, Any] = json.loads(await socket.get_message())
            with trio.fail_after(20):
                while node.senders:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            return received

    assert trio.run(main) == {"kind": "block", "height": 8, "data": {"id": "01"}}


class Colour(Enum):
    DARK_RED = 1


class Inner(Struct, frozen=True, tag=3):
    """A member of a union."""

    root: bytes


def test_json_view_of_everything() -> None:
    value = {"a": (Inner(b"\xff"), None, True, 1.5, float("inf"), Colour.DARK_RED), 3: b""}
    assert to_json(value) == {
        "a": [{"type": "inner", "root": "ff"}, None, True, 1.5, "inf", "dark_red"],
        "3": "",
    }


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES)
@settings(max_examples=60, deadline=None)
def test_strict_json_reads_what_json_writes(value: Any) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) is not Ellipsis
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=60) | st.text('[]{}",:0123456789eE.-+truefalsn\\u', max_size=60).map(str.encode))
@settings(max_examples=150, deadline=None)
def test_strict_json_refuses_or_reads_any_bytes(data: bytes) -> None:
    try:
        parse_json(data)
    except Rejection as error:
        assert error.reason.code == "E1707"
