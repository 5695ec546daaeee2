"""Gossip: nothing is lost in silence, nothing arrives twice, what is refused stops here."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest
import trio
from p2p_hosts import attacker, config_of, mesh, pair, run, until

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.reasons import MALFORMED
from p2p import bounds, pubsub
from p2p.api import PeerId
from p2p.network import LibP2PNetwork, open_network
from p2p.reasons import GOSSIP_TOO_LARGE

pytestmark = pytest.mark.integration


def accept(peer: PeerId, data: bytes) -> None:
    """A validator that lets everything pass."""


def test_burst_of_500_arrives_whole_at_two_hosts(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob), open_network(config_of(tmp_path, "carol")) as carol:
            await carol.peers.connect(alice.addresses[0])
            await carol.peers.connect(bob.addresses[0])
            channels = [await network.gossip.subscribe("tx", accept) for network in (alice, bob, carol)]
            await mesh(alice, bob, carol, topic="tx")
            sent = {b"message %d" % number for number in range(500)}
            for data in sorted(sent):
                await alice.gossip.publish("tx", data)
            for channel in channels[1:]:
                got = [(await channel.receive()).data for _ in range(500)]
                assert len(got) == len(set(got)) and set(got) == sent
            with pytest.raises(trio.WouldBlock):
                channels[0].receive_nowait()  # own messages do not come back

    run(test)


def test_what_was_published_to_nobody_may_be_published_again(tmp_path: Path) -> None:
    """A node that spreads something before it has neighbours would else be dumb about it for two minutes."""

    async def test() -> None:
        async with open_network(config_of(tmp_path, "alice")) as alice, open_network(config_of(tmp_path, "bob")) as bob:
            await alice.gossip.subscribe("tx", accept)
            received = await bob.gossip.subscribe("tx", accept)
            await alice.gossip.publish("tx", b"early")
            history = alice.gossip._pubsub.router.mcache  # type: ignore[attr-defined]
            for _ in range(history.history_size):
                history.shift()  # What the library offers newcomers by itself: it is too old for that.
            await bob.peers.connect(alice.addresses[0])
            await mesh(alice, bob, topic="tx")
            for _ in range(2):
                await alice.gossip.publish("tx", b"early")
            await alice.gossip.publish("tx", b"late")
            assert [(await received.receive()).data for _ in range(2)] == [b"early", b"late"]

    run(test)


def test_largest_message_arrives_and_a_larger_one_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            received = await alice.gossip.subscribe("tx", accept)
            await bob.gossip.subscribe("tx", accept)
            await mesh(alice, bob, topic="tx")
            largest = b"L" * bounds.GOSSIP_BYTES_MAX
            await bob.gossip.publish("tx", largest)
            message = await received.receive()
            assert message.data == largest and message.sender == bob.peer_id and message.topic == "tx"
            with pytest.raises(Rejection) as refused:
                await bob.gossip.publish("tx", largest + b"!")
            assert refused.value.reason is GOSSIP_TOO_LARGE

    run(test)


def test_refused_messages_score_their_sender_until_it_is_banned(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path, ban_seconds=30.0) as (alice, bob):

            def validate(peer: PeerId, data: bytes) -> None:
                if data.startswith(b"bad"):
                    raise Rejection(MALFORMED, "starts with bad")

            received = await alice.gossip.subscribe("tx", validate)
            await bob.gossip.subscribe("tx", accept)
            await mesh(alice, bob, topic="tx")
            await bob.gossip.publish("tx", b"bad 1")
            await bob.gossip.publish("tx", b"good")
            assert (await received.receive()).data == b"good"
            await until(lambda: alice.peers.connected()[0].score < 0, "a lower score")
            await bob.gossip.publish("tx", b"bad 2")
            await bob.gossip.publish("tx", b"bad 3")
            await until(alice.peers.bans, "a ban")
            await until(lambda: not alice.peers.connected(), "the disconnection")
            assert alice.peers.bans()[0].code == MALFORMED.code
            assert alice.counters()["rejected_malformed"] >= 2

    run(test)


def test_refused_messages_are_not_sent_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob), open_network(config_of(tmp_path, "carol")) as carol:
            await carol.peers.connect(alice.addresses[0])  # bob - alice - carol

            def validate(peer: PeerId, data: bytes) -> None:
                if data == b"bad":
                    raise Rejection(MALFORMED, "bad")

            await alice.gossip.subscribe("tx", validate)
            await bob.gossip.subscribe("tx", accept)
            received = await carol.gossip.subscribe("tx", accept)
            await mesh(alice, bob, topic="tx")
            await mesh(alice, carol, topic="tx")
            await bob.gossip.publish("tx", b"bad")
            await bob.gossip.publish("tx", b"good")
            message = await received.receive()
            assert (message.data, message.sender) == (b"good", alice.peer_id)

    run(test)


def test_slow_reader_loses_the_newest_and_it_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            received = await alice.gossip.subscribe("tx", accept, capacity=10)
            await bob.gossip.subscribe("tx", accept)
            await mesh(alice, bob, topic="tx")
            for number in range(30):
                await bob.gossip.publish("tx", b"%d" % number)
            await until(lambda: alice.counters().get("gossip_lost_slow_reader") == 20, "20 counted losses")
            assert received.statistics().current_buffer_used == 10

    run(test)


def test_neighbour_over_its_rate_is_cut_and_counted(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            received = await alice.gossip.subscribe("tx", accept, per_second=1.0)
            await bob.gossip.subscribe("tx", accept)
            await mesh(alice, bob, topic="tx")
            for number in range(40):
                await bob.gossip.publish("tx", b"%d" % number)
            await until(lambda: alice.counters().get("gossip_over_rate", 0) >= 30, "messages over the rate")
            assert received.statistics().current_buffer_used <= 10

    run(test)


def test_gossip_without_handshake_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "victim", handshake_timeout_s=0.5)) as victim,
            attacker(tmp_path) as mallory,
        ):
            received = await victim.gossip.subscribe("tx", accept)
            target = await mallory.host.dial(victim.addresses[0])
            stream = await mallory.raw_stream(target, pubsub.PROTOCOL)
            await stream.write(b"\x00")
            await until(lambda: not mallory.host.is_connected(target), "the disconnection")
            assert received.statistics().current_buffer_used == 0
            assert "no handshake from" in victim.peers.refused_handshakes()[0]

    run(test)


def test_topic_is_joined_once_and_named_for_its_chain(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "alice")) as alice:
            await alice.gossip.subscribe("tx", accept)
            with pytest.raises(InvariantViolation):
                await alice.gossip.subscribe("tx", accept)
            assert alice._gossip.wire_topic("tx") == "/gensyn/test-chain/tx/1"

    run(test)


def busy(network: LibP2PNetwork) -> bool:
    """Whether some gossip has come."""
    return network.counters().get("gossip_received", 0) >= 5


def test_closing_under_traffic_is_clean(tmp_path: Path) -> None:
    """In the library a message that arrives while pubsub ends finds a closed nursery and kills the process."""

    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            for network in (alice, bob):
                await network.gossip.subscribe("tx", accept, capacity=10, per_second=1e6)

            async def talk(network: LibP2PNetwork) -> None:
                for number in itertools.count():
                    await network.gossip.publish("tx", b"%s %d" % (network.peer_id.encode(), number))
                    await trio.sleep(0.005)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, alice)
                nursery.start_soon(talk, bob)
                for _ in range(4):
                    async with open_network(config_of(tmp_path, "carol")) as carol:
                        await carol.gossip.subscribe("tx", accept, capacity=10, per_second=1e6)
                        await carol.peers.connect(alice.addresses[0])
                        await carol.peers.connect(bob.addresses[0])
                        await until(partial(busy, carol), "traffic")
                nursery.cancel_scope.cancel()

    run(test)
