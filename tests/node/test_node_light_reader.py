"""The ledger's own functions over a light client: every record is proven, and of one block until it is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import structs
from node_cluster import key, make_cluster, run, transfer
from test_node_executor import commit_of
from test_node_light import Wire, client_of, refusal, two_chains

from consensus.ledger import keys, queries
from gensyn_node.light import reader as reader_module
from gensyn_node.light import reasons, wire
from gensyn_node.light.reader import ProvenReader, proven_reader
from gensyn_node.light.session import LightSettings
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "PAUSE_S", 0)


def asks(reader: ProvenReader, question: Callable[[ProvenReader], Any]) -> Callable[[], Any]:
    """Plain code in a thread of its own, as a command is."""

    async def ask() -> Any:
        return await trio.to_thread.run_sync(question, reader)

    return ask


def test_records_are_those_of_one_proven_block(tmp_path: Path) -> None:
    """Also while the chain goes on; then of the next look; and when nobody can prove the old state any more."""

    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        line.add("a", one)
        line.add("b", other)
        reader = ProvenReader(client_of(cluster, line), trio.from_thread.run)
        payer, target = key("account", 1).address, b"\x55" * 20
        before = queries.account(one.chain.view(), payer)
        assert reader.height == -1
        assert await asks(reader, lambda it: queries.account(it, payer))() == before
        assert reader.height == 2

        commit = sealed[-1].commit
        one.pool.add(transfer(cluster, 1, 0, 1_000, target))
        for count in range(1, 21):
            block = await one.build(commit)
            commit = commit_of(cluster, one.chain, block)
            for bench in (one, other):
                await bench.executor.commit(block, commit)
            if count == 3:
                assert await asks(reader, lambda it: it.get(keys.account(target)))() is None, "still the old block"
                assert reader.height == 2
                reader.forget()
                assert (await asks(reader, lambda it: queries.account(it, target))()).balance_nano == 1_000
                assert reader.height == 5
        assert await asks(reader, lambda it: queries.parameters(it))() == queries.parameters(one.chain.view())
        assert reader.height == 22, "the state after block 5 is proven by nobody any more"
        one.chain.close()
        other.chain.close()

    run(scenario)


def test_a_record_that_is_not_proven_is_not_believed(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, _ = await two_chains(tmp_path)
        line = Wire()
        service = line.add("a", one)
        line.add("b", other)

        async def richer(peer: str, request: bytes) -> bytes:
            reply: wire.ProofReply = codec.decode(wire.ProofReply, await service.serve_proof(peer, request))
            account = queries.account(one.chain.view(), key("account", 1).address)
            forged = codec.encode(structs.replace(account, balance_nano=account.balance_nano + 1))
            return codec.encode(structs.replace(reply, values=(structs.replace(reply.values[0], value=forged),)))

        line.handlers["a"][wire.METHOD_PROOF] = richer
        reader = ProvenReader(client_of(cluster, line), trio.from_thread.run)
        payer = key("account", 1).address
        found = await asks(reader, lambda it: queries.account(it, payer))()
        assert found == queries.account(one.chain.view(), payer)
        assert line.reported == {"a": ["light_bad_proof"]}
        line.handlers["b"][wire.METHOD_PROOF] = richer
        assert await refusal(asks(reader, lambda it: it.get(keys.PARAMETERS))) is reasons.NOT_PROVABLE
        one.chain.close()
        other.chain.close()

    run(scenario)


def test_without_a_network_it_is_said_and_no_thread_is_left(tmp_path: Path) -> None:
    settings = LightSettings(make_cluster(tmp_path, 1).genesis, tmp_path / "light", ())
    with pytest.raises(Rejection) as caught, proven_reader(settings):
        raise AssertionError("nobody to ask")
    assert caught.value.reason is reasons.NO_PEER
    assert "light-client" not in {thread.name for thread in threading.enumerate()}
