"""The library's traps: three short inputs that kill a stock host, exceptions in handlers and validators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libp2p.pubsub.gossipsub as gossipsub_module
import libp2p.pubsub.pubsub as pubsub_module
import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2
from p2p_hosts import CHAIN, attacker, config_of, mesh, pair, run, until

from gensyn_node.primitives.errors import InvariantViolation
from p2p import pubsub
from p2p.api import PeerId, RequestRefused
from p2p.network import open_network

pytestmark = pytest.mark.integration


def framed(payload: bytes) -> bytes:
    """A varint length in front, as gossip streams have it."""
    prefix, size = b"", len(payload)
    while size >= 0x80:
        prefix, size = prefix + bytes([size & 0x7F | 0x80]), size >> 7
    return prefix + bytes([size]) + payload


def message(author: bytes, key: bytes) -> bytes:
    """A gossip frame with one message on a joined topic."""
    inside = rpc_pb2.Message(
        from_id=author, data=b"x", seqno=b"1", topicIDs=[f"/gensyn/{CHAIN}/tx/1"], signature=b"s" * 64, key=key
    )
    return framed(rpc_pb2.RPC(publish=[inside]).SerializeToString())


HASHED_ID = b"\x12\x20" + b"h" * 32
CRASHES: dict[str, Callable[[], bytes]] = {
    "no protobuf": lambda: framed(b"\xff\xff\xff\xffnot protobuf"),
    "garbage key": lambda: message(HASHED_ID, b"garbage"),
    "short ed25519 key": lambda: message(HASHED_ID, b"\x08\x01\x12\x05short"),
    "truncated length": lambda: b"\xff",
    "announced too large": lambda: b"\xff\xff\xff\xff\x7f",
    "no author": lambda: message(b"", b""),
    "no topic": lambda: framed(
        rpc_pb2.RPC(publish=[rpc_pb2.Message(from_id=HASHED_ID, data=b"x")]).SerializeToString()
    ),
    "junk sender record": lambda: framed(rpc_pb2.RPC(senderRecord=b"junk").SerializeToString()),
}


@pytest.mark.parametrize("name", sorted(CRASHES))
def test_crash_input_leaves_the_victim_serving(name: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "victim")) as victim,
            open_network(config_of(tmp_path, "friend")) as friend,
            attacker(tmp_path) as mallory,
        ):
            received = await victim.gossip.subscribe("tx", lambda peer, data: None)
            await friend.gossip.subscribe("tx", lambda peer, data: None)
            await friend.peers.connect(victim.addresses[0])
            await mallory.shake_hands(victim.addresses[0], config_of(tmp_path, "mallory"))
            stream = await mallory.raw_stream(victim.peer_id, pubsub.PROTOCOL)
            await stream.write(CRASHES[name]())
            await trio.sleep(0.1)
            await mesh(friend, victim, topic="tx")
            await friend.gossip.publish("tx", b"still there?")
            assert (await received.receive()).data == b"still there?"

    run(test)


def test_bytes_that_are_no_gossip_ban_their_sender_unless_it_was_one_torn_frame(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "victim")) as victim, attacker(tmp_path) as mallory:
            await mallory.shake_hands(victim.addresses[0], config_of(tmp_path, "mallory"))
            for torn in range(1, 4):
                assert not victim.peers.bans(), "a frame torn by a reset happens to honest peers"
                stream = await mallory.raw_stream(victim.peer_id, pubsub.PROTOCOL)
                await stream.write(CRASHES["no protobuf"]())
                await until(lambda torn=torn: victim.counters().get("rejected_malformed_gossip") == torn, "a refusal")
            await until(victim.peers.bans, "a ban")
            assert victim.peers.bans()[0].peer == mallory.peer_id
            assert victim.peers.bans()[0].code == "E1621"
            await until(lambda: not victim.peers.connected(), "the disconnection")

    run(test)


def test_handler_exception_is_an_answer_not_a_crash(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):

            async def broken(peer: PeerId, data: bytes) -> bytes:
                raise ValueError("secret detail")

            async def fine(peer: PeerId, data: bytes) -> bytes:
                return data

            alice.requests.serve("broken", broken)
            alice.requests.serve("fine", fine)
            for _ in range(3):
                with pytest.raises(RequestRefused) as refused:
                    await bob.requests.request(alice.peer_id, "broken", b"")
                assert refused.value.code == "E1614"
                assert "secret" not in refused.value.message
            assert await bob.requests.request(alice.peer_id, "fine", b"ok") == b"ok"
            assert alice.counters()["handler_failures"] == 3
            assert alice.peers.connected()[0].score == 0

    run(test)


def test_validator_exception_drops_the_message_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):

            def validate(peer: PeerId, data: bytes) -> None:
                if data == b"bad":
                    raise ZeroDivisionError

            received = await alice.gossip.subscribe("tx", validate)
            await bob.gossip.subscribe("tx", lambda peer, data: None)
            await mesh(alice, bob, topic="tx")
            await bob.gossip.publish("tx", b"bad")
            await bob.gossip.publish("tx", b"good")
            assert (await received.receive()).data == b"good"
            assert alice.counters()["validator_failures"] == 1
            assert alice.peers.connected()

    run(test)


def test_a_topic_joined_while_the_hello_is_on_its_way_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library then never tells the neighbour: no gossip of that topic comes, for as long as they are connected."""
    hello, hellos = pubsub.GuardedPubsub.get_hello_packet, []

    def too_early(self: pubsub.GuardedPubsub) -> object:
        hellos.append(self)
        return rpc_pb2.RPC() if hellos.count(self) == 1 else hello(self)

    monkeypatch.setattr(pubsub.GuardedPubsub, "get_hello_packet", too_early)

    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "alice")) as alice,
            open_network(config_of(tmp_path, "bob")) as bob,
        ):
            await alice.gossip.subscribe("tx", lambda peer, data: None)
            await bob.gossip.subscribe("tx", lambda peer, data: None)
            await bob.peers.connect(alice.addresses[0])
            await mesh(alice, bob, topic="tx")

    run(test)


def test_invariant_violation_in_a_handler_ends_the_context(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "bob")) as bob:
            with pytest.raises(InvariantViolation, match="ledger is broken"):
                async with open_network(config_of(tmp_path, "alice")) as alice:

                    async def broken(peer: PeerId, data: bytes) -> bytes:
                        raise InvariantViolation("ledger is broken")

                    alice.requests.serve("broken", broken)
                    await bob.peers.connect(alice.addresses[0])
                    with pytest.raises(RequestRefused):
                        await bob.requests.request(alice.peer_id, "broken", b"")
                    await trio.sleep_forever()

    run(test)


def test_private_names_of_the_library_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pubsub.check_library()
    monkeypatch.delattr(pubsub_module, "env_to_send_in_RPC")
    with pytest.raises(InvariantViolation, match="env_to_send_in_RPC"):
        pubsub.check_library()


def test_queues_are_ours(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            await alice.gossip.subscribe("tx", lambda peer, data: None)
            await bob.gossip.subscribe("tx", lambda peer, data: None)
            await mesh(alice, bob, topic="tx")
            queues = list(alice._gossip._pubsub.peer_queues.values())
            assert [type(queue) for queue in queues] == [pubsub.BoundedQueue]
            assert pubsub_module.env_to_send_in_RPC is gossipsub_module.env_to_send_in_RPC

    run(test)
