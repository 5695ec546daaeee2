"""Reading over plain GET, its OpenAPI document, subscriptions; the same guard before all of them."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest
import trio
from rpc_fake_node import ADDRESS, FakeNode, serving
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc.backend import Event, TransactionView
from gensyn_node.rpc.methods import METHODS
from gensyn_node.rpc.rest import openapi
from gensyn_node.rpc.subscriptions import SUBSCRIPTIONS_MAX, Subscriptions

PATHS = ("/metrics", "/openapi.json", "/v1/health", "/v1/headers?first=1")


def get(node: FakeNode, *paths: str, **headers: str) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        async with serving(node) as address, httpx.AsyncClient() as client:
            return [await client.get(address + path, headers=headers) for path in paths]

    return trio.run(main)


def test_reading_methods_answer_to_get(node: FakeNode) -> None:
    health, headers, block, pending = get(
        node, "/v1/health", "/v1/headers?first=3&limit=2", f"/v1/block_by_id?block_id={'01' * 32}",
        "/v1/unconfirmed_transactions?offset=5",
    )  # fmt: skip
    assert health.json() == {"healthy": True, "height": 7, "syncing": False, "paused": ""}
    assert [one["transactions"] for one in headers.json()] == [3, 4]
    assert block.json()["height"] == 7
    assert pending.json()["total_bytes"] == 5
    assert health.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/nonsense", 404, "E1709"),
        ("/v1/submit_transaction?transaction=00", 404, "E1709"),
        ("/v1/set_role?role=solver", 404, "E1709"),
        ("/v1/header?height=8", 404, "E1711"),
        ("/v1/header?height=x", 400, "E1710"),
        ("/v1/header?height=1&height=2", 400, "E1710"),
        ("/v1/header?heigth=1", 400, "E1710"),
        ("/v1/headers?first=1&limit=51", 400, "E1710"),
        ("/v1/headers?first=0", 400, "E1710"),
        ("/v1/header_by_id?block_id=12", 400, "E1710"),
        ("/v1/check_transaction?transaction=xy", 400, "E1710"),
        ("/v1/transaction_proof?transaction_id=" + "00" * 32, 404, "E1711"),
    ],
)
def test_refusals_have_a_status_and_a_code(node: FakeNode, path: str, status: int, code: str) -> None:
    (answer,) = get(node, path)
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (status, code)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
def test_no_foreign_page_reads_anything(node: FakeNode, path: str, headers: dict[str, str]) -> None:
    (answer,) = get(node, path, **headers)
    assert answer.status_code == 403
    assert "evil" not in answer.headers.get("location", "")


def test_sets_come_in_pages(node: FakeNode) -> None:
    node.validators_listed = 5
    page, rest, none, whole = get(
        node, "/v1/validators?offset=1&limit=2", "/v1/validators?offset=3", "/v1/validators?offset=5", "/v1/validators"
    )
    assert [[one["power"] for one in answer.json()] for answer in (page, rest, none)] == [[9, 8], [7, 6], []]
    assert len(whole.json()) == 5
    (refused,) = get(node, "/v1/validators?limit=201")
    assert refused.json()["error"]["data"]["code"] == "E1710"


def test_numbers_beyond_64_bits_signed_are_exact(node: FakeNode) -> None:
    async def main() -> httpx.Response:
        body = {"jsonrpc": "2.0", "id": (1 << 64) - 1, "method": "unconfirmed_transactions", "params": {"limit": 1}}
        async with serving(node) as address, httpx.AsyncClient() as client:
            return await client.post(f"{address}/rpc", json=body)

    answer = trio.run(main).json()
    assert answer["id"] == answer["result"]["total"] == (1 << 64) - 1


def test_the_document_describes_every_reading_method_and_no_other() -> None:
    document = openapi("0.1.0")
    assert json.loads(json.dumps(document)) == document
    assert {path.removeprefix("/v1/") for path in document["paths"]} == {
        name for name, method in METHODS.items() if not method.writes
    }
    by_name = {one["name"]: one for one in document["paths"]["/v1/headers"]["get"]["parameters"]}
    assert by_name["first"]["required"] and not by_name["limit"]["required"]
    assert by_name["limit"]["schema"]["maximum"] == 50


def transaction(sender: bytes = ADDRESS, name: bytes = b"\7" * 32) -> Event:
    view = TransactionView(
        transaction_id=name, height=8, index=0, sender=sender, nonce=0, fee_nano=1, kind="transfer", message=None,
        accepted=True, code="", error="",
    )  # fmt: skip
    return Event("transaction", 8, view)


def test_subscriptions_choose_by_topic_id_and_account() -> None:
    wanted = Subscriptions()
    own = encode_address(ADDRESS)
    requests = [
        {"id": 1, "subscribe": "new_block"},
        {"id": 2, "subscribe": "transaction"},
        {"id": 3, "subscribe": "transaction", "transaction_id": "07" * 32},
        {"id": 4, "subscribe": "transaction", "account": own},
    ]
    for request in requests:
        assert wanted.handle(json.dumps(request)) == {"id": request["id"], "subscribed": request["subscribe"]}
    assert wanted.of(Event("block", 8, {})) == [1]
    assert wanted.of(transaction()) == [2, 3, 4]
    assert wanted.of(transaction(sender=rb"\9" * 20)) == [2, 3]
    assert wanted.of(transaction(sender=rb"\9" * 20, name=rb"\8" * 32)) == [2]
    assert wanted.handle('{"id": 2, "unsubscribe": true}') == {"id": 2, "unsubscribed": True}
    assert wanted.of(transaction(name=rb"\8" * 32)) == [4]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", "E1707"),
        ('{"id": 1}', "E1710"),
        ('{"id": 1, "subscribe": "everything"}', "E1710"),
        ('{"id": 1, "subscribe": "new_block", "unsubscribe": true}', "E1710"),
        ('{"id": -1, "subscribe": "new_block"}', "E1710"),
        ('{"id": 1, "subscribe": "new_block", "account": "gsn1x"}', "E1710"),
        ('{"id": 1, "subscribe": "transaction", "account": "gsn1x"}', "E1004"),
        ('{"id": 0, "subscribe": "new_block"}', "E1710"),
    ],
)
def test_requests_that_cannot_be_met(text: str, code: str) -> None:
    wanted = Subscriptions()
    wanted.handle('{"id": 0, "subscribe": "new_block"}')
    with pytest.raises(Rejection) as caught:
        wanted.handle(text)
    assert caught.value.reason.code == code


def test_subscriptions_are_bounded() -> None:
    wanted = Subscriptions()
    for number in range(SUBSCRIPTIONS_MAX):
        wanted.handle(json.dumps({"id": number, "subscribe": "new_block"}))
    with pytest.raises(Rejection) as caught:
        wanted.handle('{"id": 99, "subscribe": "new_block"}')
    assert caught.value.reason.name == "too_many_subscriptions"


def test_a_socket_gets_what_it_asked_for(node: FakeNode) -> None:
    async def main() -> list[Any]:
        async with (
            serving(node) as address,
            open_websocket_url(address.replace("http", "ws") + "/ws") as socket,
        ):
            await socket.send_message('{"id": 5, "subscribe": "transaction"}')
            answers = [json.loads(await socket.get_message())]
            await socket.send_message("nonsense")
            answers.append(json.loads(await socket.get_message()))
            while not node.senders:  # noqa: ASYNC110
                await trio.sleep(0.01)
            for sender in node.senders:
                await sender.send(Event("block", 8, {}))
                await sender.send(transaction())
            answers.append(json.loads(await socket.get_message()))
            return answers

    subscribed, refused, event = trio.run(main)
    assert subscribed == {"id": 5, "subscribed": "transaction"}
    assert refused["error"]["data"]["code"] == "E1707"
    assert (event["id"], event["event"]["data"]["transaction_id"]) == (5, "07" * 32)


def test_headers_steps_and_votes_are_topics_and_a_gap_is_told_to_those_it_concerns() -> None:
    wanted = Subscriptions()
    for number, topic in enumerate(("new_header", "round_step", "vote", "new_block")):
        wanted.handle(json.dumps({"id": number, "subscribe": topic}))
    assert wanted.of(Event("header", 8, None)) == [0]
    assert wanted.of(Event("round_step", 8, {})) == [1]
    assert wanted.of(Event("vote", 8, {})) == [2]
    assert wanted.of(Event("gap", 8, {"of": "consensus", "lost": 3})) == [1, 2]
    assert wanted.of(Event("gap", 8, {"of": "blocks", "lost": 3})) == [0, 3]


async def flood(node: FakeNode, kind: str) -> None:
    """Events of 256 KiB until the node has no subscriber any more."""
    with trio.fail_after(30), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while node.senders:
            for sender in list(node.senders):
                await sender.send(Event(kind, 8, {"text": "x" * (1 << 18)}))


@pytest.mark.parametrize("path", ["/ws", "/events"])
def test_a_reader_that_takes_nothing_is_cut(node: FakeNode, path: str) -> None:
    async def main() -> None:
        async with serving(node, send_timeout_s=0.2) as address:
            async with open_websocket_url(address.replace("http", "ws") + path, message_queue_size=1) as socket:
                if path == "/ws":
                    await socket.send_message('{"id": 5, "subscribe": "new_block"}')
                    assert json.loads(await socket.get_message()) == {"id": 5, "subscribed": "new_block"}
                while not node.senders:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                await flood(node, "block")
                with pytest.raises(ConnectionClosed), trio.fail_after(20):
                    while True:
                        await socket.get_message()
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"{address}/v1/health")).status_code == 200

    trio.run(main)


def test_a_reader_that_is_slow_is_told_so(node: FakeNode) -> None:
    """It reads on, yet an event took longer to go out than one may: it gets the code, in order, after that event."""

    async def main() -> ConnectionClosed:
        async with (
            serving(node, send_timeout_s=1.0) as address,
            open_websocket_url(
                address.replace("http", "ws") + "/events", message_queue_size=1, max_message_size=1 << 26
            ) as socket,
            trio.open_nursery() as nursery,
        ):
            while not node.senders:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.start_soon(flood, node, "block")
            await trio.sleep(1.5)
            try:
                with trio.fail_after(20):
                    while True:
                        await socket.get_message()
            except ConnectionClosed as closed:
                return closed
        raise AssertionError("still open")

    reason = trio.run(main).reason
    assert (reason.code, reason.reason) == (1013, "E1716")


def test_sockets_have_a_bound_of_their_own(node: FakeNode) -> None:
    async def main() -> tuple[int, int, str | None]:
        async with serving(node, connections_max=1, sockets_max=2) as address, AsyncExitStack() as stack:
            url = address.replace("http", "ws") + "/ws"
            for _ in range(2):
                await stack.enter_async_context(open_websocket_url(url))
            async with open_websocket_url(url) as third:
                with pytest.raises(ConnectionClosed) as caught:
                    await third.get_message()
            status = 503
            async with httpx.AsyncClient() as client:
                with trio.fail_after(10):
                    while status == 503:  # the third's connection is not yet gone
                        await trio.sleep(0.05)
                        status = (await client.get(f"{address}/v1/health")).status_code
            return status, caught.value.reason.code, caught.value.reason.reason

    assert trio.run(main) == (200, 1013, "E1713")


def test_a_foreign_page_opens_no_socket(node: FakeNode) -> None:
    async def main() -> None:
        async with serving(node) as address:
            url = address.replace("http", "ws") + "/ws"
            async with open_websocket_url(url, extra_headers=[(b"Origin", b"https://evil.example")]) as socket:
                await socket.get_message()

    with pytest.raises((HandshakeError, ConnectionClosed, BaseExceptionGroup)):
        trio.run(main)
