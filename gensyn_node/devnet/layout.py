"""The folder of a devnet: a home for each node, one for the client, and what was agreed on."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from consensus.ledger.parameters import Parameters
from consensus.ledger.records import Genesis
from gensyn_node.app.new_home import make_home
from gensyn_node.config import node_config
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import NodeConfig, Role, parse_config
from gensyn_node.config.template import render_config
from gensyn_node.devnet import reasons
from gensyn_node.devnet.genesis import SEED_BYTES, DevnetKeys, NodeKeys, derive_keys, make_genesis, patient_parameters
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.cheats import COLLUDER, SOLVES, parse_cheat

MANIFEST = "devnet.json"
FAUCET = "faucet"
NODES_MAX = 32
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What one node is to be."""

    role: Role = "auto"
    cheat: str = ""
    ask_nano_per_gigagas: int = 0
    bond_nano: int = 0


CHEAP_ASK_NANO = 1_000
DEAR_ASK_NANO = 10_000_000
"""Asks that make the draw of the one with the cheap ask all but certain, so that a cheater gets work to cheat on."""


def plans_with_cheats(nodes: int, cheats: tuple[str, ...]) -> tuple[NodePlan, ...]:
    """Plans of `nodes` nodes; the last ones cheat, one cheat each, and ask far less than the honest ones.

    A cheating verifier does not offer to solve: it could not verify what it trained itself. Of colluders the first
    solves and the others verify. One that votes twice is no provider.
    """
    if len(cheats) >= nodes:
        raise Rejection(reasons.BAD_DEVNET, f"{len(cheats)} cheats among {nodes} nodes; at least one has to be honest")
    honest = NodePlan(ask_nano_per_gigagas=DEAR_ASK_NANO if cheats else 0)
    return (honest,) * (nodes - len(cheats)) + tuple(
        NodePlan(_role_of(cheat, cheat in cheats[:number]), cheat, CHEAP_ASK_NANO)
        for number, cheat in enumerate(cheats)
    )


def _role_of(cheat: str, again: bool) -> Role:
    word = cheat.partition("@")[0]
    if parse_cheat(cheat).equivocates:
        return "none"
    if word in ("flip-bit", "skip-step"):
        return "auto"
    return "solver" if word in SOLVES or (word == COLLUDER and not again) else "verifier"


@dataclass(frozen=True, slots=True)
class Devnet:
    """A devnet on disk."""

    path: Path
    chain_id: str
    nodes: int

    @property
    def homes(self) -> tuple[Home, ...]:
        """One home a node."""
        return tuple(Home(self.path / f"node{number}") for number in range(self.nodes))

    @property
    def client(self) -> Home:
        """Home of the client: its account, the faucet's key, the genesis."""
        return Home(self.path / "client")


def create_devnet(
    path: Path,
    plans: tuple[NodePlan, ...],
    *,
    seed: bytes | None = None,
    parameters: Parameters | None = None,
    block_ms: int = 500,
    validators: int | None = None,
) -> Devnet:
    """Write genesis, homes and configurations; DEVNET_EXISTS when the folder has one.

    `validators`: so many of the first nodes validate; all when left out.
    """
    if (path / MANIFEST).exists():
        raise Rejection(reasons.DEVNET_EXISTS, f"{path} has a devnet")
    if not 1 <= len(plans) <= NODES_MAX:
        raise Rejection(reasons.BAD_DEVNET, f"a devnet has 1 to {NODES_MAX} nodes, not {len(plans)}")
    seed = seed or secrets.token_bytes(SEED_BYTES)
    keys = derive_keys(seed, len(plans))
    devnet = Devnet(path.absolute(), f"devnet-{hashlib.sha256(seed).hexdigest()[:8]}", len(plans))
    now_ms = int(time.time() * 1000)
    genesis = make_genesis(keys, devnet.chain_id, now_ms, parameters or patient_parameters(block_ms), validators)
    ports = free_ports(2 * len(plans))
    addresses = [
        f"/ip4/127.0.0.1/tcp/{ports[2 * number]}/p2p/{peer_id(node.p2p)}" for number, node in enumerate(keys.nodes)
    ]
    for number, (home, plan) in enumerate(zip(devnet.homes, plans, strict=True)):
        others = tuple(address for other, address in enumerate(addresses) if other != number)
        config = _config(number, plan, ports[2 * number], ports[2 * number + 1], others, block_ms)
        _write_home(home, config, genesis, keys.nodes[number])
    _write_client(devnet, genesis, keys)
    manifest = {"chain_id": devnet.chain_id, "nodes": devnet.nodes, "p2p": addresses}
    (path / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return devnet


def open_devnet(path: Path) -> Devnet:
    """The devnet in a folder; BAD_DEVNET when there is none."""
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        return Devnet(path.absolute(), str(manifest["chain_id"]), int(manifest["nodes"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise Rejection(reasons.BAD_DEVNET, f"{path} has no {MANIFEST}") from None


def remove_devnet(devnet: Devnet) -> None:
    """Delete everything that `create_devnet` and its nodes wrote."""
    for home in (*devnet.homes, devnet.client):
        shutil.rmtree(home.path, ignore_errors=True)
    (devnet.path / MANIFEST).unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def peer_id(key: SecretKey) -> str:
    """The libp2p name of an ed25519 key: base58 of the identity multihash of its protobuf form (`12D3Koo…`)."""
    data = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20)) + key.public
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _config(number: int, plan: NodePlan, p2p: int, rpc: int, seeds: tuple[str, ...], block_ms: int) -> NodeConfig:
    return NodeConfig(
        node=node_config.NodeSection(name=f"node{number}", role=plan.role),
        p2p=node_config.P2pSection(listen=(f"/ip4/127.0.0.1/tcp/{p2p}",), seeds=seeds),
        rpc=node_config.RpcSection(port=rpc),
        worker=node_config.WorkerSection(threads=1),
        provider=node_config.ProviderSection(
            register=plan.role != "none",
            bond_nano=plan.bond_nano,
            ask_nano_per_gigagas=plan.ask_nano_per_gigagas,
        ),
        consensus=node_config.ConsensusSection(commit_ms=block_ms),
        devnet=node_config.DevnetSection(cheat=plan.cheat),
    )


def _write_home(home: Home, config: NodeConfig, genesis: Genesis, keys: NodeKeys) -> None:
    text = render_config(config)
    parse_config(text, f"{home.path.name}/config.toml")
    make_home(home, genesis, {ACCOUNT: keys.account, CONSENSUS: keys.consensus, P2P: keys.p2p}, None, text)


def _write_client(devnet: Devnet, genesis: Genesis, keys: DevnetKeys) -> None:
    devnet.client.make()
    devnet.client.genesis.write_bytes(encode(genesis))
    ring = Keyring(devnet.client.keys)
    ring.add(ACCOUNT, keys.client, None)
    ring.add(FAUCET, keys.faucet, None)
