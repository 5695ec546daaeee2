"""Staying connected: seeds that are down, peers that restart, die or hang, bans that end, addresses that spread."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.pubsub.pb.rpc_pb2 import PeerInfo
from p2p_hosts import config_of, pair, run, until

from gensyn_node.primitives.errors import Rejection
from p2p.api import Direction, PeerEventKind, RequestFailed, SeedState
from p2p.network import open_network

pytestmark = pytest.mark.integration


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def address_of(directory: Path, name: str, port: int) -> str:
    """Where the host called `name` will be."""
    async with open_network(config_of(directory / "probe", name)) as network:
        return f"/ip4/127.0.0.1/tcp/{port}/p2p/{network.peer_id}"


CHILD = """
import sys, trio
from pathlib import Path
from p2p_hosts import config_of
from p2p.network import open_network
async def main():
    config = config_of(Path(sys.argv[1]), "child", listen=(f"/ip4/127.0.0.1/tcp/{sys.argv[2]}",))
    async with open_network(config) as network:
        print(network.addresses[0], flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@contextmanager
def child(directory: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A host in a process of its own, and its address; killed at the end."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", CHILD, str(directory), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_seed_that_is_down_is_shown_retried_and_then_connected(tmp_path: Path) -> None:
    async def test() -> None:
        port = free_port()
        address = await address_of(tmp_path, "seed", port)
        async with open_network(config_of(tmp_path, "bob", seeds=(address,))) as bob:
            await until(lambda: bob.peers.seeds()[0].attempts >= 3, "three attempts")
            await until(lambda: bob.peers.seeds()[0].state is SeedState.WAITING, "a pause")
            seed = bob.peers.seeds()[0]
            assert "refused" in seed.last_error.lower()
            assert seed.address == address and seed.next_retry_s is not None and seed.next_retry_s <= 0.4
            async with open_network(config_of(tmp_path, "seed", listen=(f"/ip4/127.0.0.1/tcp/{port}",))):
                await until(lambda: bob.peers.seeds()[0].state is SeedState.CONNECTED, "the connection")
                assert bob.peers.seeds()[0].attempts == 0
                assert [peer.direction for peer in bob.peers.connected()] == [Direction.OUTBOUND]
            await until(lambda: bob.peers.seeds()[0].attempts >= 1, "the seed down again")
            async with open_network(config_of(tmp_path, "seed", listen=(f"/ip4/127.0.0.1/tcp/{port}",))):
                await until(lambda: bob.peers.seeds()[0].state is SeedState.CONNECTED, "the second connection")

    run(test)


def test_seed_of_another_chain_is_shown_as_such(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "seed", chain_id="other-chain")) as seed,
            open_network(config_of(tmp_path, "bob", seeds=(seed.addresses[0],))) as bob,
        ):
            await until(lambda: "other-chain" in bob.peers.seeds()[0].last_error, "the reason")
            assert bob.peers.seeds()[0].state is not SeedState.CONNECTED

    run(test)


def test_killed_peer_is_noticed_and_found_again_after_its_restart(tmp_path: Path) -> None:
    async def test() -> None:
        with child(tmp_path, 0) as (process, address):
            port = int(address.split("/tcp/")[1].split("/")[0])
            async with open_network(config_of(tmp_path, "bob", seeds=(address,), ping_interval_s=60.0)) as bob:
                events = bob.peers.events()
                assert (await events.receive()).kind is PeerEventKind.CONNECTED
                process.send_signal(signal.SIGKILL)
                process.wait()
                # No ping helps here: the kernel closes the connection.
                assert (await events.receive()).kind is PeerEventKind.DISCONNECTED
                await until(lambda: bob.peers.seeds()[0].last_error, "the error")
                with child(tmp_path, port) as (_, again):
                    assert again == address
                    assert (await events.receive()).kind is PeerEventKind.CONNECTED

    run(test)


def test_stopped_peer_is_noticed_by_pings(tmp_path: Path) -> None:
    async def test() -> None:
        with child(tmp_path, 0) as (process, address):
            async with open_network(config_of(tmp_path, "bob", ping_interval_s=0.2, ping_timeout_s=0.5)) as bob:
                events = bob.peers.events()
                await bob.peers.connect(address)
                assert (await events.receive()).kind is PeerEventKind.CONNECTED
                process.send_signal(signal.SIGSTOP)
                event = await events.receive()
                assert event.kind is PeerEventKind.DISCONNECTED and "pings" in event.why
                assert bob.counters()["peers_silent"] == 1

    run(test)


def test_dialling_each_other_at_once_leaves_both_connected(tmp_path: Path) -> None:
    async def test() -> None:
        ports = free_port(), free_port()
        listen = [f"/ip4/127.0.0.1/tcp/{port}" for port in ports]
        first = await address_of(tmp_path, "first", ports[0])
        second = await address_of(tmp_path, "second", ports[1])
        async with (
            open_network(config_of(tmp_path, "first", listen=(listen[0],), seeds=(second,))) as one,
            open_network(config_of(tmp_path, "second", listen=(listen[1],), seeds=(first,))) as two,
        ):
            await until(lambda: one.peers.connected() and two.peers.connected(), "both connected")
            await trio.sleep(1.0)
            assert len(one.peers.connected()) == len(two.peers.connected()) == 1

    run(test)


def test_ban_keeps_a_peer_out_until_it_expires_and_survives_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "bob")) as bob:
            async with open_network(config_of(tmp_path, "alice")) as alice:
                await bob.peers.connect(alice.addresses[0])
                await until(alice.peers.connected, "the connection")
                await alice.peers.ban(bob.peer_id, "noisy", seconds=3.0)
                await until(lambda: not alice.peers.connected(), "the disconnection")
            async with open_network(config_of(tmp_path, "alice")) as alice:
                ban = alice.peers.bans()[0]
                assert (ban.peer, ban.message) == (bob.peer_id, "noisy") and 0 < ban.expires_in_s <= 3.0
                with pytest.raises(RequestFailed, match="E1610"):
                    await bob.peers.connect(alice.addresses[0])
                await until(lambda: not alice.peers.bans(), "the end of the ban")
                await bob.peers.connect(alice.addresses[0])
                await until(alice.peers.connected, "the connection")
                await alice.peers.ban(bob.peer_id, "again")
                alice.peers.unban(bob.peer_id)
                await until(lambda: not bob.peers.connected(), "the disconnection")
                await bob.peers.connect(alice.addresses[0])

    run(test)


def test_addresses_spread_and_are_remembered(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "alice")) as alice,
            open_network(config_of(tmp_path, "bob", seeds=(alice.addresses[0],))) as bob,
        ):
            # Bob dialled alice, alice dials bob's port back and may then give his address to carol.
            await until(lambda: any(entry.proven for entry in alice._keeper._book.entries()), "the dial back")
            async with open_network(config_of(tmp_path, "carol", seeds=(alice.addresses[0],))) as carol:
                await until(lambda: len(carol.peers.connected()) == 2, "carol finds bob through alice")
                assert {peer.peer for peer in carol.peers.connected()} == {alice.peer_id, bob.peer_id}
            # Without any seed, from the book alone.
            async with open_network(config_of(tmp_path, "carol")) as carol:
                await until(lambda: len(carol.peers.connected()) == 2, "carol finds both again")

    run(test)


def test_a_peer_whose_addresses_expired_may_be_dialled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library raises where it only has to forget, and the reconnection it came from took the node down."""

    async def test() -> None:
        async with open_network(config_of(tmp_path, "alice")) as alice, open_network(config_of(tmp_path, "bob")) as bob:
            store, known = alice._host.raw.get_peerstore(), ID.from_base58(bob.peer_id)
            store.add_addrs(known, [], 1)
            store.peer_record_map[known] = object()
            monkeypatch.setattr(store.peer_data_map[known], "is_expired", lambda: True)
            with pytest.raises(PeerStoreError):
                store.clear_addrs(known)
            monkeypatch.setattr(alice._host.raw, "connect", _connected)
            assert await alice._host.dial(bob.addresses[0]) == bob.peer_id

    run(test)


async def _connected(info: Any) -> None:
    await trio.lowlevel.checkpoint()


def test_host_does_not_dial_by_itself(tmp_path: Path) -> None:
    """The library redials known peers up to half its high watermark, and dials for streams and for gossip's PRUNE."""

    async def test() -> None:
        async with pair(tmp_path, peers_wanted=0) as (alice, bob):
            await bob.peers.disconnect(alice.peer_id, "test")
            await until(lambda: not alice.peers.connected(), "the disconnection")
            known = ID.from_base58(alice.peer_id)
            assert bob._host.raw.get_peerstore().addrs(known), "it knows where to dial"
            await bob._host._network.auto_connector.maybe_connect()
            with pytest.raises(SwarmException, match="only the node dials"):
                await bob._host.raw.new_stream(known, [TProtocol("/any/1")])
            with pytest.raises(SwarmException, match="only the node dials"):
                await bob._host.raw.connect(bob._host.raw.get_peerstore().peer_info(known))
            await bob._gossip._pubsub.router._do_px([PeerInfo(peerID=known.to_bytes())])
            await trio.sleep(0.5)
            assert not bob._host.is_connected(alice.peer_id)
            await bob.peers.connect(alice.addresses[0])

    run(test)


def test_dialling_nobody_oneself_and_nonsense_fails_by_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "alice")) as alice:
            with pytest.raises(RequestFailed, match="itself"):
                await alice.peers.connect(alice.addresses[0])
            with pytest.raises(Rejection):
                await alice.peers.connect("alice.example:7400")
            wrong = await address_of(tmp_path, "nobody", free_port())
            for _ in range(2):  # the library's negative cache would answer the second time
                with pytest.raises(RequestFailed, match="refused"):
                    await alice.peers.connect(wrong)

    run(test)


def test_port_that_is_taken_is_an_error_at_the_start(tmp_path: Path) -> None:
    async def test(**changes: Any) -> None:
        async with open_network(config_of(tmp_path, "alice")) as alice:
            taken = alice.addresses[0].split("/p2p/")[0]
            with pytest.raises(OSError, match="another node"):
                async with open_network(config_of(tmp_path, "bob", listen=(taken,))):
                    pass

    run(test)
