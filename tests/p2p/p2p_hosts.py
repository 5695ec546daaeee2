"""Shared parts of the network tests: hosts on loopback, an attacker that has shaken hands, waiting with a bound."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from p2p import handshake, host
from p2p.api import NetworkConfig
from p2p.frames import read_frame, write_frame
from p2p.network import LibP2PNetwork, open_network
from p2p.reasons import WRONG_FRAME

T = TypeVar("T")
CHAIN = "test-chain"
GENESIS = hashlib.sha256(b"genesis").digest()


def config_of(directory: Path, name: str, **changes: Any) -> NetworkConfig:
    """A configuration with its own identity and folder, quick to retry."""
    settings: dict[str, Any] = {
        "chain_id": CHAIN,
        "genesis_hash": GENESIS,
        "identity_seed": hashlib.sha256(name.encode()).digest(),
        "directory": directory / name,
        "listen": ("/ip4/127.0.0.1/tcp/0",),
        "retry_first_s": 0.1,
        "retry_max_s": 0.4,
    }
    return NetworkConfig(**(settings | changes))


def run(test: Callable[[], Awaitable[T]], limit_s: float = 60.0) -> T:
    """Run an asynchronous test; the limit only ends one that hangs."""

    async def bounded() -> T:
        with trio.fail_after(limit_s):
            return await test()

    return trio.run(bounded)


async def until(condition: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
    """Poll until true; an assertion error that says what did not happen."""
    with trio.move_on_after(limit_s):
        while not condition():  # noqa: ASYNC110  (conditions of several hosts, none has an event for all)
            await trio.sleep(0.02)
        return
    raise AssertionError(f"did not happen: {what}")


@asynccontextmanager
async def pair(directory: Path, **changes: Any) -> AsyncIterator[tuple[LibP2PNetwork, LibP2PNetwork]]:
    """Two hosts, connected, hands shaken."""
    async with (
        open_network(config_of(directory, "alice", **changes)) as alice,
        open_network(config_of(directory, "bob", **changes)) as bob,
    ):
        await bob.peers.connect(alice.addresses[0])
        await until(lambda: alice.peers.connected() and bob.peers.connected(), "a handshake")
        yield alice, bob


async def mesh(*networks: LibP2PNetwork, topic: str) -> None:
    """Wait until every host of the fully connected `networks` has the others in its mesh."""
    others = len(networks) - 1

    def joined(network: LibP2PNetwork) -> bool:
        pubsub, name = network._gossip._pubsub, network._gossip.wire_topic(topic)
        return len(pubsub.peer_topics.get(name, ())) >= others and len(pubsub.router.mesh.get(name, ())) >= min(
            others, 4
        )

    await until(lambda: all(map(joined, networks)), "a mesh")


class Attacker:
    """A host of the library with our handshake and nothing else: it sends what it likes."""

    def __init__(self, made: host.Host) -> None:
        self.host = made
        self.peer_id = made.peer_id

    async def shake_hands(self, address: str, config: NetworkConfig) -> str:
        """Connect and say a proper hello."""
        victim = await self.host.dial(address)
        async with self.host.stream(victim, handshake.PROTOCOL) as stream:
            await write_frame(stream, handshake.encode_hello(handshake.hello_of(config, 0, ())))
            reply = handshake.decode_reply(await read_frame(stream, 1024, WRONG_FRAME))
        assert reply.refusal_code == ""
        return victim

    async def raw_stream(self, victim: str, protocol: str) -> Any:
        """A stream of the library, with no limits of ours."""
        return await self.host.raw.new_stream(ID.from_base58(victim), [TProtocol(protocol)])


@asynccontextmanager
async def attacker(directory: Path, name: str = "mallory") -> AsyncIterator[Attacker]:
    """An attacker's host."""
    made = host.make(config_of(directory, name), Counter())
    async with made.running():
        yield Attacker(made)
