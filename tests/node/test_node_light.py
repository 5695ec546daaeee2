"""A light client and nodes: what honest ones answer is proven, what liars answer is refused, forks are reported."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from node_cluster import FEE_NANO, Cluster, balance, eventually, key, make_cluster, run, transfer
from test_node_evidence import Line as NoLine
from test_node_evidence import exchange_of, false_header
from test_node_executor import Bench, commit_of
from test_node_sync_hostile import grow

from consensus.ledger import keys, tree
from consensus.ledger.messages import Transfer, transaction_id
from consensus.ledger.records import Account
from consensus.light.reasons import DIVERGENCE, TRUST_EXPIRED, WRONG_ANCHOR
from consensus.light.types import Anchor, LightBlock, LightOptions
from consensus.tendermint.evidence import offenders
from gensyn_node.app.broadcaster import Broadcaster
from gensyn_node.app.light_service import LightService, light_block
from gensyn_node.app.node import open_node, wall_clock_ms
from gensyn_node.light import reasons, transactions, wire
from gensyn_node.light.client import LightClient
from gensyn_node.light.peers import LightPeers
from gensyn_node.light.reads import read, read_account
from gensyn_node.light.session import LightSettings, open_light
from gensyn_node.light.trust import load_block, parse_anchor, save_block, start_of
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Reason, Rejection
from p2p.api import Direction, PeerInfo, Peers, RequestFailed, Requests

HOUR_MS = 3_600_000
Handler = Callable[[str, bytes], Awaitable[bytes]]


@dataclass
class Wire:
    """Stands for the network: peers by name, each with its handlers, and what each was reported for."""

    handlers: dict[str, dict[str, Handler]] = field(default_factory=dict)
    reported: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, bench: Bench, **other: Handler) -> LightService:
        """A peer that answers from a chain."""
        service = LightService(chain=bench.chain, pool=bench.pool, broadcaster=Broadcaster(None))
        exchange = exchange_of(bench.executor.evidence, NoLine())
        self.handlers[name] = {
            wire.METHOD_LIGHT: service.serve_light,
            wire.METHOD_PROOF: service.serve_proof,
            wire.METHOD_SUBMIT: service.serve_submit,
            wire.METHOD_INCLUSION: service.serve_inclusion,
            wire.METHOD_REPORT: exchange.serve_report,
        }
        return service

    def connected(self) -> list[PeerInfo]:
        """All of them, in the order of their names."""
        return [
            PeerInfo(name, "/ip4/1.2.3.4/tcp/1", Direction.INBOUND, "x", 1, 0, None, 0, 1)
            for name in sorted(self.handlers)
        ]

    async def request(self, peer: str, method: str, data: bytes, **_: Any) -> bytes:
        """Ask."""
        try:
            return await self.handlers[peer][method]("laptop", data)
        except Rejection as rejection:
            raise RequestFailed(str(rejection)) from None

    async def report(self, peer: str, rejection: Rejection) -> None:
        """Score."""
        await trio.lowlevel.checkpoint()
        self.reported.setdefault(peer, []).append(rejection.reason.name)


def client_of(cluster: Cluster, line: Wire, **changes: Any) -> LightClient:
    peers = LightPeers(cast(Requests, line), cast(Peers, line))
    arguments: dict[str, Any] = {
        "chain_id": cluster.genesis.chain_id,
        "peers": peers,
        "start": start_of(cluster.genesis, None, None),
        "options": LightOptions(HOUR_MS),
        "witnesses": 1,
        "clock_ms": wall_clock_ms,
    }
    return LightClient(**(arguments | changes))


async def refusal(call: Callable[[], Awaitable[object]]) -> Reason:
    with pytest.raises(Rejection) as caught:
        await call()
    return caught.value.reason


async def two_chains(tmp_path: Path, blocks: int = 3) -> tuple[Cluster, Bench, Bench, list[Any]]:
    """Two nodes with the same blocks."""
    cluster = make_cluster(tmp_path, 4)
    one, other = Bench(cluster.settings[0]), Bench(cluster.settings[1])
    sealed = await grow(cluster, one, blocks)
    for block in sealed:
        await other.executor.commit(block.block, block.commit)
    return cluster, one, other, sealed


def test_the_head_is_verified_with_one_header_and_a_witness(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        line.add("a", one)
        client = client_of(cluster, line)
        assert await refusal(client.sync) is reasons.NO_WITNESS
        line.add("b", other)
        kept: list[LightBlock] = []
        client = client_of(cluster, line, on_verified=kept.append)
        synced = await client.sync()
        assert synced.block.id == sealed[-1].block.id
        assert (synced.fetched, synced.primary, synced.witnesses) == (1, "a", ("b",))
        assert kept == [synced.block]
        again = await client.sync()
        assert (again.block, again.fetched) == (synced.block, 0)
        assert line.reported == {}
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_trust_is_kept_in_a_file_and_checked_when_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, _ = await two_chains(tmp_path)
        path = tmp_path / "light" / "trusted"
        block = light_block(one.chain, 2)
        assert block is not None
        assert load_block(path, cluster.genesis) is None
        save_block(path, cluster.genesis, block)
        assert load_block(path, cluster.genesis) == block
        line = Wire()
        line.add("a", one)
        line.add("b", other)
        client = client_of(cluster, line, start=start_of(cluster.genesis, block, None), stored=block)
        assert (await client.sync()).fetched == 1
        elsewhere = structs.replace(cluster.genesis, time_ms=1)
        for damage in (b"", path.read_bytes()[:-1], b"\x00" + path.read_bytes()):
            (tmp_path / "bad").write_bytes(damage)
            with pytest.raises(Rejection) as caught:
                load_block(tmp_path / "bad", cluster.genesis)
            assert caught.value.reason is reasons.BAD_TRUST_FILE
        with pytest.raises(Rejection):
            load_block(path, elsewhere)
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_expired_trust_asks_for_a_new_beginning_and_an_anchor_gives_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        line.add("a", one)
        line.add("b", other)
        late = wall_clock_ms() + 2 * HOUR_MS
        expired = client_of(cluster, line, clock_ms=lambda: late)
        assert await refusal(expired.sync) is TRUST_EXPIRED
        assert "--trusted" in TRUST_EXPIRED.remedy
        good = Anchor(2, sealed[1].block.id)
        synced = await client_of(cluster, line, start=good).sync()
        assert synced.block.height == 3
        assert synced.fetched == 2
        wrong = client_of(cluster, line, start=Anchor(2, b"x" * 32))
        with pytest.raises(Rejection, match=WRONG_ANCHOR.name) as caught:
            await wrong.sync()
        assert caught.value.reason is reasons.NO_PEER
        assert not line.reported, "the one who named the anchor may be wrong"
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


@pytest.mark.parametrize("text", ["", "5", "5:", "x:" + "0" * 64, "0:" + "0" * 64, "5:" + "0" * 63, "5:" + "g" * 64])
def test_an_anchor_has_a_height_and_a_hash(text: str) -> None:
    with pytest.raises(Rejection) as caught:
        parse_anchor(text)
    assert caught.value.reason is reasons.BAD_ANCHOR
    assert parse_anchor("7:" + "AB" * 32) == Anchor(7, b"\xab" * 32)


# --- liars


def test_a_peer_that_answers_garbage_is_reported_and_another_one_asked(tmp_path: Path) -> None:
    async def garbage(peer: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"\xc1" * 40

    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        line.add("a", one)
        line.handlers["a"][wire.METHOD_LIGHT] = garbage
        line.add("b", one)
        line.add("c", other)
        synced = await client_of(cluster, line).sync()
        assert synced.block.id == sealed[-1].block.id
        assert synced.primary == "b"
        assert synced.witnesses == ("c",)
        assert set(line.reported) == {"a"}
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


@pytest.mark.parametrize("joining", [False, True])
def test_a_fork_is_reported_to_those_who_can_punish_it(tmp_path: Path, joining: bool) -> None:
    """Three of four validators sign a false state; the client trusts nothing, and the honest node gets the proof."""

    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        honest = light_block(one.chain, 3)
        assert honest is not None
        header, commit, members = false_header(cluster, sealed[-1].block, 3, app_hash=b"z" * 32)
        forged = LightBlock(header, commit, members, members)
        forged = structs.replace(forged, validators=honest.validators, next_validators=honest.next_validators)

        line = Wire()
        service = line.add("a", one)

        async def lie(peer: str, request: bytes) -> bytes:
            query: wire.LightQuery = codec.decode(wire.LightQuery, request)
            if query.height in (0, 3):
                await trio.lowlevel.checkpoint()
                return codec.encode(wire.LightReply(3, forged))
            return await service.serve_light(peer, request)

        line.handlers["a"][wire.METHOD_LIGHT] = lie
        line.add("b", other)
        kept: list[LightBlock] = []
        client = client_of(cluster, line, on_verified=kept.append)
        assert await refusal(partial(client.header_of, 3, ("a",)) if joining else client.sync) is DIVERGENCE
        assert kept == []
        (evidence,) = other.executor.evidence.all()
        assert offenders(evidence) == tuple(sorted(cluster.settings[n].consensus_key.address for n in range(3)))
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_false_proofs_are_refused_and_blamed(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, _ = await two_chains(tmp_path)
        line = Wire()
        service = line.add("a", one)
        line.add("b", other)
        owner = key("account", 0).address
        rich = codec.encode(Account(10**18, 0))

        async def lie(peer: str, request: bytes) -> bytes:
            reply: wire.ProofReply = codec.decode(wire.ProofReply, await service.serve_proof(peer, request))
            first = structs.replace(reply.values[0], value=rich)
            return codec.encode(structs.replace(reply, values=(first, *reply.values[1:])))

        line.handlers["a"][wire.METHOD_PROOF] = lie
        found = await read_account(client_of(cluster, line), owner)
        assert found.account.balance_nano == balance_of(other, owner)
        assert line.reported == {"a": [reasons.BAD_PROOF.name]}

        async def short(peer: str, request: bytes) -> bytes:
            reply: wire.ProofReply = codec.decode(wire.ProofReply, await service.serve_proof(peer, request))
            return codec.encode(structs.replace(reply, values=reply.values[:1]))

        line.handlers = {"a": line.handlers["a"] | {wire.METHOD_PROOF: short}, "b": line.handlers["b"]}
        assert (await read_account(client_of(cluster, line), owner)).account == found.account
        del line.handlers["b"][wire.METHOD_PROOF]
        line.handlers["b"][wire.METHOD_PROOF] = lie
        assert await refusal(lambda: read_account(client_of(cluster, line), owner)) is reasons.NOT_PROVABLE
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def balance_of(bench: Bench, address: bytes) -> int:
    data = bench.chain.view().get(keys.account(address))
    return 0 if data is None else codec.decode(Account, data).balance_nano


def test_every_recent_state_is_proven_as_it_was(tmp_path: Path) -> None:
    """Values that changed since, that came later, that are absent: each under the next header's app hash."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        line = Wire()
        service = line.add("a", bench)
        target, payer = b"\x55" * 20, key("account", 1).address
        names = (keys.account(target), keys.account(payer), keys.PARAMETERS, keys.account(b"\x77" * 20))
        states = [tuple(bench.chain.view().get(name) for name in names)]
        commit = None
        for nonce in range(5):
            bench.pool.add(transfer(cluster, 1, nonce, 1_000, target))
            block = await bench.build(commit)
            commit = commit_of(cluster, bench.chain, block)
            await bench.executor.commit(block, commit)
            states.append(tuple(bench.chain.view().get(name) for name in names))
        for height, expected in enumerate(states[:-1]):
            query = codec.encode(wire.ProofQuery(height, names))
            reply: wire.ProofReply = codec.decode(wire.ProofReply, await service.serve_proof("x", query))
            assert tuple(one.value for one in reply.values) == expected
            header = bench.chain.header(height + 1)
            assert header is not None
            assert all(
                tree.verify(header.app_hash, name, one.value, one.proof)
                for name, one in zip(names, reply.values, strict=True)
            )
        for height in (5, 6, 1 << 40):
            query = codec.encode(wire.ProofQuery(height, names))
            reply = codec.decode(wire.ProofReply, await service.serve_proof("x", query))
            assert reply.values == ()
        bench.chain.close()

    run(scenario)


def test_a_transaction_is_handed_over_and_its_inclusion_proven(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, sealed = await two_chains(tmp_path)
        line = Wire()
        service = line.add("a", one)
        line.add("b", other)
        client = client_of(cluster, line)
        target = b"\x66" * 20
        included: list[transactions.Included] = []
        commit = sealed[-1].commit

        async def send() -> None:
            included.append(await transactions.send(client, key("account", 2), Transfer(target, 7), wait_s=20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await eventually(lambda: len(one.pool) == 1 and len(other.pool) == 1, "both have it")
            for _ in range(2):
                block = await one.build(commit)
                commit = commit_of(cluster, one.chain, block)
                for bench in (one, other):
                    await bench.executor.commit(block, commit)
            await eventually(lambda: bool(included), "it is proven")
        (found,) = included
        assert found.height == 4
        assert found.result.applied
        assert balance_of(other, target) == 7

        claim: wire.InclusionReply = codec.decode(
            wire.InclusionReply,
            await service.serve_inclusion("x", codec.encode(wire.InclusionQuery(found.transaction_id))),
        )
        assert claim.inclusion is not None
        at, after = light_block(one.chain, 4), light_block(one.chain, 5)
        block = one.chain.block(4)
        assert at is not None and after is not None and block is not None
        (data,) = block.transactions
        transactions.check(data, claim.inclusion, at, after)
        refused = structs.replace(claim.inclusion.result, code="E1201")
        another = transfer(cluster, 0, 9, 1, target)
        for wrong in (
            structs.replace(claim.inclusion, result=refused),
            structs.replace(claim.inclusion, index=1),
            structs.replace(claim.inclusion, size=2),
            structs.replace(claim.inclusion, data_path=(b"p" * 32,)),
        ):
            with pytest.raises(Rejection):
                transactions.check(data, wrong, at, after)
        with pytest.raises(Rejection):
            transactions.check(another, claim.inclusion, at, after)
        with pytest.raises(Rejection):
            transactions.check(data, claim.inclusion, after, at)
        unknown = codec.encode(wire.InclusionQuery(b"u" * 32))
        assert codec.decode(wire.InclusionReply, await service.serve_inclusion("x", unknown)).inclusion is None
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_a_refused_transaction_says_why_and_blames_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster, one, other, _ = await two_chains(tmp_path)
        line = Wire()
        line.add("a", one)
        line.add("b", other)
        client = client_of(cluster, line)
        wrong_nonce = transfer(cluster, 0, 0, 1, b"\1" * 20)[:-1] + b"\x00"
        with pytest.raises(Rejection) as caught:
            await transactions.hand_over(client, wrong_nonce)
        assert caught.value.reason.code.startswith("E1")
        assert line.reported == {}
        good = transfer(cluster, 0, 0, 1, b"\1" * 20)
        await transactions.hand_over(client, good)
        await transactions.hand_over(client, good)  # it is known there by now
        assert one.pool.get(transaction_id(good)) == good
        assert FEE_NANO > 0
        for bench in (one, other):
            bench.chain.close()

    run(scenario)


def test_mutated_requests_never_raise_anything_but_a_rejection(tmp_path: Path) -> None:
    async def prepare() -> tuple[Wire, Bench]:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        await grow(cluster, bench, 2)
        line = Wire()
        line.add("a", bench)
        return line, bench

    line, bench = trio.run(prepare)
    valid = [
        (wire.METHOD_LIGHT, codec.encode(wire.LightQuery(1))),
        (wire.METHOD_PROOF, codec.encode(wire.ProofQuery(1, (keys.SUPPLY, keys.account(b"a" * 20))))),
        (wire.METHOD_INCLUSION, codec.encode(wire.InclusionQuery(b"i" * 32))),
        (wire.METHOD_SUBMIT, b"\x95\x01\x02\x03\x04\x05"),
    ]

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(valid), st.integers(0, 200), st.binary(min_size=1, max_size=12))
    def mutate(chosen: tuple[str, bytes], at: int, patch: bytes) -> None:
        method, data = chosen
        at %= len(data)
        changed = data[:at] + patch + data[at + len(patch) :]

        async def serve() -> None:
            try:
                await line.handlers["a"][method]("fuzz", changed)
            except Rejection:
                return

        trio.run(serve)

    mutate()
    bench.chain.close()


# --- real nodes, real commands


@pytest.mark.integration
def test_a_laptop_without_a_node_verifies_reads_and_sends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cli.main import main
    from gensyn_node.keys.keyring import Keyring
    from gensyn_node.primitives.bech32 import encode_address

    home = tmp_path / "laptop"
    Keyring(home / "keys").add("account", key("account", 1), None)
    target = b"\x77" * 20

    def command(*arguments: str) -> Any:
        with pytest.raises(SystemExit):
            main([*arguments, "--home", str(home), "--json"])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 2)
        (home / "genesis.bin").write_bytes(codec.encode(cluster.genesis))
        known = [one for settings_ in cluster.settings for one in settings_.config.p2p.seeds]
        seeds = [part for one in known for part in ("--seeds", one)]
        light = [*seeds, "--trust-hours", "1"]
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(open_node(one)) for one in cluster.settings]
            await eventually(lambda: nodes[0].ledger.head.height >= 5, "some blocks")
            first = await trio.to_thread.run_sync(lambda: command("chain", "light", *light))
            assert first["trusted_height"] == 0
            assert first["headers_fetched"] == 1
            assert first["witnesses"] >= 1
            assert 3 * first["signed_power"] > 2 * first["total_power"]
            shown = nodes[0].ledger.header(first["height"])
            assert shown is not None
            assert shown.id.hex() == first["block_id"]
            sent = await trio.to_thread.run_sync(
                lambda: command("wallet", "send", encode_address(target), "3 GSN", "--light", "--yes", *light)
            )
            assert sent["height"] > first["height"], sent
            assert balance(nodes[1], target) == 3_000_000_000
            read_ = await trio.to_thread.run_sync(
                lambda: command("wallet", "balance", encode_address(target), "--light", *light)
            )
            assert read_["balance_nano"] == 3_000_000_000
            assert read_["proven_height"] >= sent["height"]

    run(scenario)


def test_without_a_seed_or_a_known_peer_it_is_said_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = LightSettings(make_cluster(tmp_path, 1).genesis, tmp_path / "light", ())
        with trio.fail_after(5):
            assert await refusal(lambda: open_light(settings).__aenter__()) is reasons.NO_PEER

    run(scenario)


def test_reads_need_a_verified_head(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        line = Wire()
        line.add("a", bench)
        assert await refusal(lambda: read(client_of(cluster, line, witnesses=0), (keys.SUPPLY,))) is reasons.NO_PEER
        await grow(cluster, bench, 1)
        found = await read(client_of(cluster, line, witnesses=0), (keys.SUPPLY,))
        assert found.height == 0
        assert found.values[0] is not None
        bench.chain.close()

    run(scenario)
