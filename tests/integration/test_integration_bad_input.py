"""Bad input against running nodes, as processes: refusals have reason and code, are counted, and kill nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgpack
import pytest
import trio
from integration_net import WAIT_S, wait_for
from msgspec import structs

from consensus.ledger.genesis import genesis_hash
from consensus.ledger.messages import (
    Message,
    PublishProgram,
    Transaction,
    Transfer,
    encode_transaction,
    sign_transaction,
    transaction_id,
)
from gensyn_node.app import wire
from gensyn_node.config.genesis import read_genesis
from gensyn_node.devnet.layout import MANIFEST, Devnet, NodePlan, create_devnet
from gensyn_node.devnet.processes import check_alive, running
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.primitives import limits
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk.client import NodeClient, connect
from gensyn_node.sdk.transactions import send, wait
from p2p.api import NetworkConfig, RequestFailed, RequestRefused
from p2p.network import open_network
from proofs.program.types import F32, OPSET, Fill, Node, Program, StateEntry, TensorType

pytestmark = pytest.mark.integration

FEE_NANO = 1_000_000
TARGET = b"\x55" * 20


@dataclass(frozen=True, slots=True)
class Net:
    """Two running nodes, a client of the first, and an account with money."""

    devnet: Devnet
    client: NodeClient
    key: SecretKey
    folder: Path

    @property
    def chain_id(self) -> str:
        return self.devnet.chain_id

    def count(self, reason: str) -> int:
        """How often the first node refused something for a reason."""
        return int(self.client.call("status")["rejections"].get(reason, 0))

    def nonce(self) -> int:
        return int(self.client.call("account", address=encode_address(self.key.address))["nonce"])

    def transfer(self, nonce: int, amount_nano: int = 1) -> Transaction:
        return self.signed(Transfer(TARGET, amount_nano), nonce)

    def signed(self, message: Message, nonce: int) -> Transaction:
        return sign_transaction(self.key, self.chain_id, nonce, FEE_NANO, message)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder = tmp_path_factory.mktemp("bad")
    devnet = create_devnet(folder / "net", (NodePlan(role="none"),) * 2, block_ms=200)
    key = Keyring(devnet.client.keys).open(ACCOUNT)
    with running(devnet), connect(devnet.homes[0]) as client:
        yield Net(devnet, client, key, folder)


@pytest.fixture(autouse=True)
def lives_on(net: Net) -> Iterator[None]:
    """After every test both nodes run, agree on new blocks, and take a payment."""
    yield
    check_alive(net.devnet)
    before = balance(net)
    height = send(net.client, net.key, Transfer(TARGET, 7)).height
    assert balance(net) == before + 7
    with connect(net.devnet.homes[1]) as other:
        wait_for(lambda: other.call("status")["height"] >= height, "the second node follows", net.devnet)
        assert other.call("block", height=height)["block_id"] == net.client.call("block", height=height)["block_id"]


def balance(net: Net) -> int:
    return int(net.client.call("account", address=encode_address(TARGET))["balance_nano"])


def refused(net: Net, data: bytes, code: str, name: str) -> None:
    """The node refuses these bytes as a transaction, for that reason, and counts it."""
    before = net.count(name)
    with pytest.raises(Rejection) as caught:
        net.client.call("submit_transaction", transaction=data.hex())
    assert (caught.value.reason.code, caught.value.reason.name) == (code, name)
    assert caught.value.message
    assert caught.value.reason.remedy
    assert net.count(name) == before + 1


def test_undecodable_transactions(net: Net) -> None:
    whole = encode_transaction(net.transfer(net.nonce()))
    refused(net, b"", "E1002", "malformed")
    refused(net, b"\xc1 no message pack", "E1002", "malformed")
    refused(net, whole[:-1], "E1002", "malformed")
    refused(net, whole + b"\x00", "E1002", "malformed")


def test_oversized_transactions(net: Net) -> None:
    with pytest.raises(Rejection) as caught:
        net.client.call("submit_transaction", transaction=bytes(limits.TRANSACTION_BYTES_MAX + 1).hex())
    assert caught.value.reason.code == "E1710"
    home = net.devnet.homes[0]
    headers = {"Authorization": f"Bearer {home.token.read_text().strip()}", "Content-Type": "application/json"}
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "' + b"x" * limits.RPC_BODY_BYTES_MAX + b'"}'
    reply = httpx.post(home.endpoint.read_text() + "/rpc", content=body, headers=headers, timeout=60)
    assert reply.status_code == 413
    assert reply.json()["error"]["data"]["name"] == "body_too_large"


def test_forged_replayed_and_foreign_transactions(net: Net) -> None:
    nonce = net.nonce()
    good = net.transfer(nonce)
    refused(net, encode(structs.replace(good, fee_nano=good.fee_nano + 1)), "E1005", "bad_signature")
    refused(net, encode(structs.replace(good, signature=bytes(64))), "E1005", "bad_signature")
    elsewhere = sign_transaction(net.key, "devnet-elsewhere", nonce, FEE_NANO, Transfer(TARGET, 1))
    refused(net, encode(elsewhere), "E1201", "signed_for_other_chain")
    data = encode_transaction(good)
    net.client.call("submit_transaction", transaction=data.hex())
    wait(net.client, transaction_id(data))
    refused(net, data, "E1202", "bad_nonce")


def test_programs_with_unknown_operators(net: Net) -> None:
    weight = StateEntry("parameter.w", TensorType(F32, (2, 2)), Fill(0))
    program = Program(OPSET, (weight,), 1, (), (Node("system", (0,), ()),), (2,), 2)
    data = encode_transaction(net.signed(PublishProgram(encode(program)), net.nonce()))
    net.client.call("submit_transaction", transaction=data.hex())
    with pytest.raises(Rejection, match="system") as caught:
        wait(net.client, transaction_id(data))
    assert caught.value.reason.code == "E1501"
    found = net.client.call("transaction", transaction_id=transaction_id(data).hex())
    assert (found["accepted"], found["code"]) == (False, "E1501")


# --- peers


def config(net: Net, name: str, **changes: object) -> NetworkConfig:
    """A peer of this test's own."""
    genesis = read_genesis(net.devnet.homes[0].genesis)
    settings: dict[str, object] = {
        "chain_id": genesis.chain_id,
        "genesis_hash": genesis_hash(genesis),
        "identity_seed": name.encode().ljust(32, b"."),
        "directory": net.folder / name,
        "listen": ("/ip4/127.0.0.1/tcp/0",),
    }
    return NetworkConfig(**(settings | changes))  # type: ignore[arg-type]


def address_of_first(net: Net) -> str:
    """Where the first node listens to peers."""
    return str(json.loads((net.devnet.path / MANIFEST).read_text())["p2p"][0])


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"chain_id": "devnet-elsewhere"}, "wrong_chain"), ({"genesis_hash": b"\x01" * 32}, "wrong_genesis")],
)
def test_peers_of_another_chain(net: Net, changes: dict[str, object], name: str) -> None:
    before, address = net.count(name), address_of_first(net)

    async def dial() -> str:
        async with open_network(config(net, name, **changes)) as stranger:
            with pytest.raises(RequestFailed) as caught:
                await stranger.peers.connect(address)
            return str(caught.value)

    told = trio.run(dial)
    assert "genesis" in told
    assert net.chain_id in told
    assert net.count(name) > before


def test_garbage_from_a_peer_on_the_right_chain(net: Net) -> None:
    """What does not decode, is too large or has a forged signature is counted; the honest peer stays connected."""
    forged = encode(wire.TransactionBatch((encode(structs.replace(net.transfer(net.nonce()), signature=bytes(64))),)))
    before = {name: net.count(name) for name in ("malformed", "bad_signature")}
    address = address_of_first(net)

    async def misbehave() -> None:
        async with open_network(config(net, "vandal")) as vandal:
            node = await vandal.peers.connect(address)
            for topic in (wire.TOPIC_TRANSACTIONS, wire.TOPIC_VOTES):
                await vandal.gossip.subscribe(topic, lambda sender, data: None)
            with pytest.raises(RequestRefused, match="E1002"):
                await vandal.requests.request(node, wire.METHOD_BLOCKS, b"no query")
            with trio.fail_after(WAIT_S):
                oversized = msgpack.packb([[bytes(limits.TRANSACTION_BYTES_MAX + 1)]])
                # A message may be lost before the topics' meshes have formed: publish until it has arrived.
                while net.count("malformed") < before["malformed"] + 2:
                    await vandal.gossip.publish(wire.TOPIC_TRANSACTIONS, oversized)
                    await trio.sleep(0.2)
                await vandal.gossip.publish(wire.TOPIC_VOTES, b"\xc1 these are no votes")

    async def forge() -> None:
        async with open_network(config(net, "forger")) as forger:
            await forger.peers.connect(address)
            await forger.gossip.subscribe(wire.TOPIC_TRANSACTIONS, lambda sender, data: None)
            with trio.fail_after(WAIT_S):
                while net.count("bad_signature") == before["bad_signature"]:
                    await forger.gossip.publish(wire.TOPIC_TRANSACTIONS, forged)
                    await trio.sleep(0.2)

    trio.run(misbehave)
    trio.run(forge)
    with connect(net.devnet.homes[1]) as other:
        honest = other.call("status")["node_id"]
    assert honest in [peer["peer_id"] for peer in net.client.call("peers") if peer["connected"]]
