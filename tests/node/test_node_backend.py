"""What the RPC server is told, by a running node."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from node_cluster import FEE_NANO, eventually, key, make_cluster, run, transfer

from consensus.ledger import keys, tree
from consensus.ledger.genesis import genesis_hash
from consensus.ledger.messages import RegisterProvider, encode_transaction, sign_transaction, transaction_id
from consensus.ledger.records import Genesis
from consensus.ledger.tree import MapProof
from gensyn_node.app.backend import Backend
from gensyn_node.app.node import open_node
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.rpc.json_view import to_json
from proofs import merkle
from proofs.blobs import blob_id_of

pytestmark = pytest.mark.integration
TARGET = b"\x44" * 20


async def operators_see(backend: Backend, name: bytes, height: int) -> None:
    """The same block in parts, with a proof of its transaction that holds by itself."""
    header = await backend.header(height)
    assert header is not None
    assert await backend.height_of(header.block_id) == height
    assert [one.block_id for one in await backend.headers(height, 1)] == [header.block_id]
    results, sealed = await backend.block_results(height), await backend.commit(height)
    assert results is not None and sealed is not None
    assert len(results.results) == 1
    assert sealed.commit.block_id == header.block_id  # type: ignore[attr-defined]
    proof = await backend.transaction_proof(name)
    assert proof is not None
    assert transaction_id(proof.transaction) == name
    assert proof.leaf_hash == merkle.SHA256.leaf(sha256(proof.transaction))
    assert merkle.verify_inclusion(
        merkle.SHA256, proof.data_root, proof.leaf_hash, proof.index, proof.total, proof.path
    )
    assert proof.data_root == header.header.data_root  # type: ignore[attr-defined]
    assert (await backend.health()).healthy
    state = await backend.consensus_state()
    assert state.height > height
    assert state.rounds and all(one.proposer for one in state.rounds if one.round <= state.round)
    assert state.step in ("propose", "prevote", "precommit", "new_round")
    assert (await backend.unconfirmed_transactions(0, 30)).total == 0
    assert not (await backend.check_transaction(proof.transaction)).applied  # its nonce is used
    assert not (await backend.check_transaction(b"nonsense")).applied
    assert to_json(state) and to_json(results) and to_json(sealed)
    for unknown in (await backend.header(10_000), await backend.block_results(10_000), await backend.commit(10_000)):
        assert unknown is None
    with pytest.raises(Rejection):
        await backend.submit_evidence(b"nonsense")


def test_chain_and_ledger_as_the_interface_shows_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(open_node(cluster.settings[0]))
            backend = Backend(node)
            events = await stack.enter_async_context(backend.events())
            own = key("account", 0).address
            assert (await backend.account(own)).nonce == 0
            name = await backend.submit_transaction(transfer(cluster, 0, 0, 9, TARGET))
            found = await backend.wait_transaction(name, 60)
            assert found is not None
            assert (found.kind, found.accepted, found.sender, found.fee_nano) == ("transfer", True, own, FEE_NANO)
            assert (await backend.account(TARGET)).balance_nano == 9
            account = await backend.account(own)
            assert (account.nonce, account.bonded_nano) == (1, 100 * NANO_PER_GSN)
            block = await backend.block(found.height)
            assert block is not None
            assert [one.transaction_id for one in block.transactions] == [name]
            assert block.signatures == 1
            assert await backend.block(10_000) is None
            assert await backend.transaction(b"\1" * 32) is None
            status = await backend.status()
            assert (status.chain_id, status.validator, status.role) == ("devnet-test", True, "none")
            assert status.genesis_hash == genesis_hash(cluster.genesis)
            assert [one.power for one in await backend.validators(None)] == [100]
            with pytest.raises(Rejection):
                await backend.validators(10_000)
            await operators_see(backend, name, found.height)
            supply = await backend.supply()
            assert supply["minted"] == sum(amount for place, amount in supply.items() if place != "minted")
            genesis: Genesis = codec.decode(Genesis, await backend.genesis(), max_bytes=1 << 24)
            assert genesis == cluster.genesis
            kinds = set()
            with trio.fail_after(60):
                while not {"block", "header", "transaction", "task", "round_step", "vote"} <= kinds:
                    event = await events.receive()
                    kinds.add(event.kind)
                    json.dumps(to_json(event))
            answers = (status, block, found, account, await backend.seeds(), await backend.peers(), supply)
            json.dumps(to_json([*answers, await backend.parameters()]))

    run(scenario)


def test_proofs_of_the_interface_verify_against_signed_headers(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(open_node(cluster.settings[0]))
            backend = Backend(node)
            name = await backend.submit_transaction(transfer(cluster, 0, 0, 9, TARGET))
            found = await backend.wait_transaction(name, 60)
            assert found is not None
            await eventually(lambda: node.ledger.head.height > found.height, "a block that signs the result")
            signing = await backend.block(found.height + 1)
            encoded = await backend.proof(keys.account(TARGET), found.height)
            assert signing is not None
            assert encoded is not None
            proof: MapProof = codec.decode(MapProof, encoded)
            value = node.ledger.view().get(keys.account(TARGET))
            assert tree.verify(signing.app_hash, keys.account(TARGET), value, proof)
            assert not tree.verify(signing.app_hash, keys.account(TARGET), None, proof)
            assert await backend.proof(keys.account(TARGET), 10_000) is None

    run(scenario)


def test_providers_duties_and_reasons(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(open_node(cluster.settings[0]))
            backend = Backend(node)
            assert [duty.state for duty in await backend.duties()] == ["not registered"]
            offer = RegisterProvider(7, "cpu", 1 << 30, 1_000, 50 * NANO_PER_GSN, (), "n0")
            data = encode_transaction(sign_transaction(key("account", 0), "devnet-test", 0, FEE_NANO * 10, offer))
            found = await backend.wait_transaction(await backend.submit_transaction(data), 60)
            assert found is not None
            assert found.accepted, found.error
            assert len(await backend.providers()) == 1
            assert await backend.duties() == ()
            assert (await backend.account(key("account", 0).address)).bonded_nano == 150 * NANO_PER_GSN
            assert await backend.tasks(0, 10) == ()
            assert await backend.task(b"\1" * 32) is None
            assert await backend.disputes(None) == ()
            assert await backend.dispute(b"\1" * 32) is None
            assert await backend.certificate(b"\1" * 32) is None
            assert await backend.program(b"\1" * 32) is None
            for refused in (backend.why(b"\1" * 32), backend.set_role("solver")):
                with pytest.raises(Rejection):
                    await refused

    run(scenario)


def test_blobs_go_up_in_chunks_and_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(open_node(cluster.settings[0]))
            backend = Backend(node)
            data = bytes(range(256)) * 6_000
            name = blob_id_of(data)
            chunks = [data[at : at + BLOB_CHUNK_BYTES] for at in range(0, len(data), BLOB_CHUNK_BYTES)]
            assert await backend.blob_info(name) is None
            for number, chunk in enumerate(chunks):
                info = await backend.blob_put(name, len(data), number, chunk)
                assert (info.received, info.complete) == (number + 1, number + 1 == len(chunks))
            assert b"".join([await backend.blob_get(name, n) or b"" for n in range(len(chunks))]) == data
            found = await backend.blob_fetch(name)
            assert found is not None
            assert found.complete
            assert await backend.blob_get(b"\1" * 32, 0) is None
            with pytest.raises(Rejection):
                await backend.blob_put(b"\2" * 32, 3, 0, b"abc")

    run(scenario)
