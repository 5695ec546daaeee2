"""Small chains for tests: a genesis with a few validators and accounts, homes on a temporary folder, one node each."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from msgspec import structs

from consensus.ledger import keys
from consensus.ledger.messages import Transfer, encode_transaction, sign_transaction
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.records import Account, Genesis, GenesisAccount, GenesisValidator
from gensyn_node.app.node import Node
from gensyn_node.app.settings import NodeSettings
from gensyn_node.app.startup import init_storage
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import ConsensusSection, NodeConfig, NodeSection, P2pSection, RpcSection
from gensyn_node.primitives import codec
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.money import NANO_PER_GSN

WAIT_S = 60.0
"""Generous: a loaded machine runs four nodes on one core."""
FEE_NANO = 100_000


def key(name: str, number: int) -> SecretKey:
    """A fixed key for tests."""
    return SecretKey(name.encode().ljust(31, b".") + bytes([number]))


def peer_id(identity: SecretKey) -> str:
    """The network's name for a p2p key."""
    return str(ID.from_pubkey(create_new_key_pair(identity.seed).public_key))


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass(frozen=True, slots=True)
class Cluster:
    """The settings of some nodes that know each other's addresses."""

    genesis: Genesis
    settings: tuple[NodeSettings, ...]

    def without_gossip(self) -> Cluster:
        """The same nodes, which only ask."""
        return replace(self, settings=tuple(replace(one, gossip=False) for one in self.settings))


def make_cluster(
    directory: Path,
    nodes: int,
    *,
    validators: int | None = None,
    accounts: tuple[GenesisAccount, ...] = (),
    parameters: Parameters | None = None,
    **times: int,
) -> Cluster:
    """Homes of `nodes` nodes of which the first `validators` have equal stakes; `accounts` have money as well."""
    members = nodes if validators is None else validators
    genesis = Genesis(
        "devnet-test",
        int(time.time() * 1000) - 1000,
        tuple(
            GenesisValidator(key("consensus", n).public, key("account", n).address, 100 * NANO_PER_GSN, f"v{n}")
            for n in range(members)
        ),
        (*(GenesisAccount(key("account", n).address, 1_000_000 * NANO_PER_GSN) for n in range(nodes)), *accounts),
        parameters or devnet_parameters(),
    )
    ports = free_ports(nodes)
    addresses = [f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id(key('p2p', n))}" for n, port in enumerate(ports)]
    consensus = structs.replace(ConsensusSection(commit_ms=300, propose_ms=1500), **times)
    settings = []
    for n in range(nodes):
        home = Home(directory / f"node{n}")
        init_storage(home, genesis, key("consensus", n))
        p2p = P2pSection(listen=(f"/ip4/127.0.0.1/tcp/{ports[n]}",), seeds=tuple(addresses[:n] + addresses[n + 1 :]))
        roles = NodeSection(role="none")
        config = NodeConfig(node=roles, p2p=p2p, consensus=consensus, rpc=RpcSection(port=0))
        settings.append(NodeSettings(home, config, genesis, key("account", n), key("consensus", n), key("p2p", n)))
    return Cluster(genesis, tuple(settings))


def transfer(cluster: Cluster, sender: int, nonce: int, amount_nano: int, to: bytes) -> bytes:
    """A signed transfer of the account of node `sender`."""
    message = Transfer(to, amount_nano)
    return encode_transaction(
        sign_transaction(key("account", sender), cluster.genesis.chain_id, nonce, FEE_NANO, message)
    )


def balance(node: Node, address: bytes) -> int:
    """Spendable money at the node's head."""
    data = node.ledger.view().get(keys.account(address))
    account: Account = Account() if data is None else codec.decode(Account, data)
    return account.balance_nano


async def eventually(condition: Callable[[], bool], what: str, *, within_s: float = WAIT_S) -> None:
    """Wait for a condition; fail with its name when it does not come."""
    with trio.move_on_after(within_s):
        while not condition():  # noqa: ASYNC110  (the condition is anything a test can ask)
            await trio.sleep(0.02)
        return
    raise AssertionError(f"did not happen within {within_s} s: {what}")


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an async test."""
    trio.run(test)
