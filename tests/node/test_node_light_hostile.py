"""Liars cannot keep a light client, or a node that asks as one, from the honest peers beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from msgspec import structs
from node_cluster import run, transfer
from test_node_executor import Bench, commit_of
from test_node_light import HOUR_MS, Handler, Wire, client_of, refusal, two_chains

from consensus.light.reasons import FROM_THE_FUTURE
from consensus.light.types import LightBlock
from consensus.tendermint.types import CommitFlag
from gensyn_node.app.light_service import light_block
from gensyn_node.app.node import wall_clock_ms
from gensyn_node.light import transactions, wire
from gensyn_node.primitives import codec

FAR = 1 << 40


def unsigned(block: LightBlock, height: int, **fields: object) -> LightBlock:
    """A header that nobody signed, in the shape of a true one."""
    header = structs.replace(block.header, height=height, **fields)
    return structs.replace(
        block, header=header, commit=structs.replace(block.commit, height=height, block_id=header.id)
    )


def liar(bench: Bench, invent: Callable[[LightBlock, int], LightBlock], answers: int = 1 << 30) -> Handler:
    """Answers with invented headers, `answers` times; then it holds the question."""
    left = [answers]

    async def lie(peer: str, request: bytes) -> bytes:
        query: wire.LightQuery = codec.decode(wire.LightQuery, request)
        if left[0] == 0:
            await trio.sleep_forever()
        left[0] -= 1
        await trio.lowlevel.checkpoint()
        true = light_block(bench.chain, bench.chain.head.height)
        assert true
        return codec.encode(wire.LightReply(FAR, invent(true, query.height or FAR)))

    return lie


def without_enough_signatures(block: LightBlock, height: int) -> LightBlock:
    """Not signed by enough of those who are trusted: a header in between is asked for."""
    absent = tuple(structs.replace(slot, flag=CommitFlag.ABSENT, signature=b"") for slot in block.commit.slots)
    return unsigned(structs.replace(block, commit=structs.replace(block.commit, slots=absent)), height)


def from_the_future(block: LightBlock, height: int) -> LightBlock:
    return unsigned(block, height, time_ms=wall_clock_ms() + HOUR_MS)


def test_a_forger_of_far_headers_that_takes_its_time_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensyn_node.light.client.PATIENCE_S", 0.5)

    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        line.add("b", one)
        line.add("c", other)
        line.handlers["a"] = {wire.METHOD_LIGHT: liar(one, without_enough_signatures, answers=4)}
        with trio.fail_after(30):
            assert (await client_of(cluster, line).sync()).block.id == sealed[-1].block.id
        line.handlers["a"] = {wire.METHOD_LIGHT: liar(one, without_enough_signatures, answers=4)}
        with trio.fail_after(30):
            assert await client_of(cluster, line).header_of(FAR, ("a",)) is None
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_an_unsigned_header_from_the_future_does_not_stop_the_client(tmp_path: Path) -> None:
    """Only when no peer has another head is the own clock to blame."""

    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        line.handlers["a"] = {wire.METHOD_LIGHT: liar(one, from_the_future)}
        assert await refusal(client_of(cluster, line).sync) is FROM_THE_FUTURE
        line.add("b", one)
        line.add("c", other)
        assert (await client_of(cluster, line).sync()).block.id == sealed[-1].block.id
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_a_slow_liar_about_a_transaction_s_place_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensyn_node.light.transactions.CLAIM_PATIENCE_S", 2.0)

    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        data = transfer(cluster, 1, 0, 5, b"\2" * 20)
        one.pool.add(data)
        commit = sealed[-1].commit
        for _ in range(2):
            block = await one.build(commit)
            commit = commit_of(cluster, one.chain, block)
            for bench in (one, other):
                await bench.executor.commit(block, commit)
        line = Wire()
        service = line.add("a", one)
        line.add("b", other)

        async def at_the_first_block(peer: str, request: bytes) -> bytes:
            reply: wire.InclusionReply = codec.decode(wire.InclusionReply, await service.serve_inclusion(peer, request))
            assert reply.inclusion
            return codec.encode(wire.InclusionReply(structs.replace(reply.inclusion, height=1)))

        async def no_older_header(peer: str, request: bytes) -> bytes:
            query: wire.LightQuery = codec.decode(wire.LightQuery, request)
            if 0 < query.height < one.chain.head.height:
                await trio.sleep_forever()
            return await service.serve_light(peer, request)

        line.handlers["a"] |= {wire.METHOD_INCLUSION: at_the_first_block, wire.METHOD_LIGHT: no_older_header}
        with trio.fail_after(30):
            found = await transactions.wait(client_of(cluster, line), data)
        assert (found.height, found.result.applied) == (4, True)
        for bench in (one, other):
            bench.chain.close()

    run(scenario)
