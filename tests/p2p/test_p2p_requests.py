"""Requests: bounded in size, time and number; a refusal says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from p2p_hosts import CHAIN, attacker, config_of, pair, run, until

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.reasons import MALFORMED
from p2p import bounds
from p2p.api import PeerId, RequestFailed, RequestRefused
from p2p.network import open_network
from p2p.reasons import REPLY_TOO_LARGE

pytestmark = pytest.mark.integration


async def echo(peer: PeerId, data: bytes) -> bytes:
    """Gives back what came."""
    return data


def test_answers_name_the_asker_and_refusals_say_why(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):

            async def who(peer: PeerId, data: bytes) -> bytes:
                if data == b"no":
                    raise Rejection(MALFORMED, "not like this")
                return peer.encode()

            alice.requests.serve("who", who)
            assert (await bob.requests.request(alice.peer_id, "who", b"")).decode() == bob.peer_id
            with pytest.raises(RequestRefused) as refused:
                await bob.requests.request(alice.peer_id, "who", b"no")
            assert (refused.value.code, refused.value.message) == ("E1002", "not like this")
            assert alice.peers.connected()[0].score < 0

    run(test)


def test_sizes_are_bounded_both_ways(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            alice.requests.serve("echo", echo, max_request_bytes=1000, max_reply_bytes=900)

            async def large(peer: PeerId, data: bytes) -> bytes:
                return b"x" * 50_000

            alice.requests.serve("large", large)
            assert await bob.requests.request(alice.peer_id, "echo", b"e" * 900) == b"e" * 900
            with pytest.raises(RequestRefused) as refused:  # our own reply is over our own bound: our fault
                await bob.requests.request(alice.peer_id, "echo", b"e" * 950)
            assert refused.value.code == "E1614"
            with pytest.raises(RequestRefused) as refused:
                await bob.requests.request(alice.peer_id, "echo", b"e" * 1001)
            assert refused.value.code == "E1602"
            with pytest.raises(Rejection) as rejected:
                await bob.requests.request(alice.peer_id, "large", b"", max_reply_bytes=1000)
            assert rejected.value.reason is REPLY_TOO_LARGE
            assert [ban.peer for ban in bob.peers.bans()] == [alice.peer_id]

    run(test)


def test_announced_gigabytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "victim")) as victim, attacker(tmp_path) as mallory:
            victim.requests.serve("echo", echo)
            target = await mallory.shake_hands(victim.addresses[0], config_of(tmp_path, "mallory"))
            stream = await mallory.raw_stream(target, f"/gensyn/{CHAIN}/echo/1")
            await stream.write(b"\xff\xff\xff\xff")
            assert b"E1602" in await stream.read(200)

    run(test)


def test_unknown_peer_and_unknown_method_fail_by_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            with pytest.raises(RequestFailed, match="nowhere"):
                await bob.requests.request(alice.peer_id, "nowhere", b"")
            with pytest.raises(RequestFailed, match="not connected"):
                await bob.requests.request("12D3KooWPcfGdBCrdxX9nqGAdPAdkPMqfKEDjbZWGA4UFBJuY4rP", "echo", b"")
            with pytest.raises(InvariantViolation):
                alice.requests.serve("UPPER", echo)

    run(test)


def test_silent_handler_times_out_and_frees_its_slot(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):

            async def silent(peer: PeerId, data: bytes) -> bytes:
                await trio.sleep(3600)
                return b""

            alice.requests.serve("silent", silent, timeout_s=60.0)
            alice.requests.serve("echo", echo)

            async def ask() -> None:
                with pytest.raises(RequestFailed, match="did not answer"):
                    await bob.requests.request(alice.peer_id, "silent", b"", timeout_s=0.3)

            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(bounds.OUTBOUND_REQUESTS_PER_PEER):
                        nursery.start_soon(ask)
            # 24 silent ones would have filled the inbound cap if their streams had stayed.
            assert await bob.requests.request(alice.peer_id, "echo", b"ok") == b"ok"

    run(test)


def test_three_hundred_at_once_all_get_their_answer(tmp_path: Path) -> None:
    """Yamux blocks for ever at 256 open streams; ours wait their turn."""

    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            alice.requests.serve("echo", echo, per_second=1000.0)
            answers: list[bytes] = []

            async def ask(number: int) -> None:
                answers.append(await bob.requests.request(alice.peer_id, "echo", b"%d" % number, timeout_s=30.0))

            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(ask, number)
            assert set(answers) == {b"%d" % number for number in range(300)}

    run(test)


def test_inbound_streams_of_one_peer_are_capped_and_others_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "victim")) as victim,
            open_network(config_of(tmp_path, "friend")) as friend,
            attacker(tmp_path) as mallory,
        ):
            victim.requests.serve("echo", echo)
            await friend.peers.connect(victim.addresses[0])
            target = await mallory.shake_hands(victim.addresses[0], config_of(tmp_path, "mallory"))
            opened, refused = [], 0
            for _ in range(bounds.INBOUND_STREAMS_PER_PEER + 10):
                try:
                    opened.append(await mallory.raw_stream(target, f"/gensyn/{CHAIN}/echo/1"))  # and says nothing
                except BaseLibp2pError:
                    refused += 1
            assert refused >= 8
            assert len(opened) <= bounds.INBOUND_STREAMS_PER_PEER
            assert victim.counters()["streams_refused"] >= 8
            assert await friend.requests.request(victim.peer_id, "echo", b"ok") == b"ok"
            # Once some are closed there is room again.
            for stream in opened:
                await stream.reset()
            await until(lambda: victim._host._network.get_connections(), "the connection stays")
            with trio.fail_after(10):
                while True:
                    try:
                        await mallory.raw_stream(target, f"/gensyn/{CHAIN}/echo/1")
                        break
                    except BaseLibp2pError:
                        await trio.sleep(0.05)

    run(test)


def test_request_without_handshake_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "victim", handshake_timeout_s=0.3)) as victim,
            attacker(tmp_path) as mallory,
        ):
            calls = []

            async def count(peer: PeerId, data: bytes) -> bytes:
                calls.append(peer)
                return b""

            victim.requests.serve("count", count)
            target = await mallory.host.dial(victim.addresses[0])
            stream = await mallory.raw_stream(target, f"/gensyn/{CHAIN}/count/1")
            await stream.write(b"\x00\x00\x00\x00")
            await until(lambda: not mallory.host.is_connected(target), "the disconnection")
            assert calls == [] and not victim.peers.connected()

    run(test)


def test_more_than_the_rate_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            alice.requests.serve("echo", echo, per_second=1.0)
            codes = []
            for _ in range(12):
                try:
                    await bob.requests.request(alice.peer_id, "echo", b"")
                except RequestRefused as refused:
                    codes.append(refused.code)
            assert len(codes) >= 6 and set(codes) == {"E1605"}

    run(test)


def test_byte_a_second_sender_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "READ_REQUEST_S", 0.3)

    async def test() -> None:
        async with open_network(config_of(tmp_path, "victim")) as victim, attacker(tmp_path) as mallory:
            victim.requests.serve("echo", echo)
            target = await mallory.shake_hands(victim.addresses[0], config_of(tmp_path, "mallory"))
            stream = await mallory.raw_stream(target, f"/gensyn/{CHAIN}/echo/1")
            await stream.write(b"\x00\x00\x00\x64half")
            with pytest.raises(BaseLibp2pError):  # cut off, not answered
                await stream.read(1)
            await until(lambda: victim.counters().get("stream_failures") == 1, "the cut")

    run(test)


def test_stalled_reader_does_not_hold_up_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "victim")) as victim,
            open_network(config_of(tmp_path, "friend")) as friend,
            attacker(tmp_path) as mallory,
        ):

            async def large(peer: PeerId, data: bytes) -> bytes:
                return b"x" * (4 << 20)

            victim.requests.serve("large", large)
            await friend.peers.connect(victim.addresses[0])
            target = await mallory.shake_hands(victim.addresses[0], config_of(tmp_path, "mallory"))
            for _ in range(4):  # asks for megabytes and never reads them
                stream = await mallory.raw_stream(target, f"/gensyn/{CHAIN}/large/1")
                await stream.write(b"\x00\x00\x00\x00")
            for _ in range(3):
                assert len(await friend.requests.request(victim.peer_id, "large", b"")) == 4 << 20

    run(test)
