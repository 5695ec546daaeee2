"""The driver's order of work, and its restart: log synced, then signed, then sent; a replay asks for the same again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from node_cluster import Cluster, eventually, make_cluster, run

from consensus import chain_state
from consensus.ledger.block import BlockContext, BlockDelta, LedgerView
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.types import ConsensusMessage, FullProposal, Vote, VoteType
from gensyn_node.app.chain import Chain, CommittedBlock
from gensyn_node.app.driver import Driver
from gensyn_node.app.executor import Executor, Pace
from gensyn_node.app.node import wall_clock_ms
from gensyn_node.app.pool import Pool
from gensyn_node.app.startup import Opened, open_home
from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.storage.signer import Signed, Signer, SignRequest, SignStep
from gensyn_node.storage.wal import WriteAheadLog, log_path


class Rig:
    """One validator's files and driver without a network; what it does is written down in order."""

    def __init__(self, cluster: Cluster, number: int = 0, on_commit: Callable[[CommittedBlock], None] | None = None):
        settings = cluster.settings[number]
        self.opened: Opened = open_home(settings)
        self.chain: Chain = self.opened.chain
        self.sent: list[ConsensusMessage] = []
        self.committed: list[int] = []
        self.executor = Executor(
            chain=self.chain,
            pool=Pool(self.chain),
            key=settings.consensus_key,
            pace=Pace(idle_ms=20, busy_ms=5),
            clock_ms=wall_clock_ms,
            on_commit=on_commit or (lambda block: self.committed.append(block.head.height)),
        )
        parameters = ConsensusParameters(propose_ms=60_000, vote_ms=60_000)
        self.driver = Driver(
            chain_id=cluster.genesis.chain_id,
            core=ConsensusCore(cluster.genesis.chain_id, parameters, settings.consensus_key.address),
            ledger=self.executor,
            wal=self.opened.wal,
            signer=self.opened.signer,
            broadcast=self.sent.append,
            clock_ms=wall_clock_ms,
        )

    def close(self) -> None:
        """Close the files, as the end of a process does."""
        self.opened.wal.close()
        self.chain.close()

    def votes(self, kind: VoteType) -> list[Vote]:
        """Own votes that left the driver."""
        return [message for message in self.sent if isinstance(message, Vote) and message.kind is kind]


def test_log_is_synced_before_signing_and_the_signature_before_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    append, sync, sign = WriteAheadLog.append, WriteAheadLog.sync, Signer.sign

    def seen_append(self: WriteAheadLog, payload: bytes) -> None:
        calls.append("log")
        append(self, payload)

    def seen_sync(self: WriteAheadLog) -> None:
        calls.append("sync")
        sync(self)

    def seen_sign(self: Signer, request: SignRequest) -> Signed:
        calls.append(f"sign {request.step.name} {request.height}")
        return sign(self, request)

    monkeypatch.setattr(WriteAheadLog, "append", seen_append)
    monkeypatch.setattr(WriteAheadLog, "sync", seen_sync)
    monkeypatch.setattr(Signer, "sign", seen_sign)

    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 1))
        rig.driver._broadcast = lambda message: calls.append(f"send {type(message).__name__}")
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: rig.committed[:1] == [1], "one block of a lone validator")
            nursery.cancel_scope.cancel()
        rig.close()

    run(scenario)
    first = calls[: calls.index("sign PROPOSAL 2")] if "sign PROPOSAL 2" in calls else calls
    for place, call in enumerate(first):
        if call.startswith("sign"):
            assert first[place - 1] == "sync", first
            assert first[place + 1] == "log", first
    wanted = ["sign PROPOSAL 1", "send FullProposal", "sign PREVOTE 1", "send Vote", "sign PRECOMMIT 1"]
    positions = [first.index(call) for call in wanted]
    assert positions == sorted(positions)


def test_a_restart_repeats_the_same_signatures_and_goes_on(tmp_path: Path) -> None:
    """Killed after its prevote: the log is fed again, the same vote leaves again, and no other is signed for it."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        proposer = cluster_proposer(cluster)
        rig = Rig(cluster, proposer)
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: len(rig.votes(VoteType.PREVOTE)) == 1, "proposed and prevoted")
            nursery.cancel_scope.cancel()
        rig.close()
        again = Rig(cluster, proposer)
        assert again.opened.records
        async with trio.open_nursery() as nursery:
            await nursery.start(again.driver.run, again.opened.records)
            own = again.driver.core.own_messages()
            nursery.cancel_scope.cancel()
        again.close()
        proposals = [message for message in rig.sent if isinstance(message, FullProposal)]
        assert rig.votes(VoteType.PREVOTE)[0] in own
        assert proposals[0] in own

    run(scenario)


def test_a_log_torn_at_any_record_never_leads_to_a_second_signature(tmp_path: Path) -> None:
    """Whatever part of the log a crash leaves, what was signed stays the only thing signed at its place."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        proposer = cluster_proposer(cluster)
        rig = Rig(cluster, proposer)
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: len(rig.votes(VoteType.PREVOTE)) == 1, "proposed and prevoted")
            nursery.cancel_scope.cancel()
        rig.close()
        signed = rig.votes(VoteType.PREVOTE)[0]
        path = log_path(cluster.settings[proposer].home.data / "wal", 1)
        whole = path.read_bytes()
        for length in range(len(whole), -1, -max(1, len(whole) // 6)):
            path.write_bytes(whole[:length])
            torn = Rig(cluster, proposer)
            async with trio.open_nursery() as nursery:
                await nursery.start(torn.driver.run, torn.opened.records)
                await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            torn.close()
            assert all(vote == signed for vote in torn.votes(VoteType.PREVOTE))
            assert torn.opened.signer is not None
            assert (torn.opened.signer.state.height, torn.opened.signer.state.step) == (1, SignStep.PREVOTE)

    run(scenario)


def test_a_bug_while_executing_halts_the_node_before_it_signs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = chain_state.execute_block

    def broken(view: LedgerView, context: BlockContext, *rest: object) -> BlockDelta:
        if context.height == 2:
            raise InvariantViolation("money appeared from nowhere")
        return real(view, context, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(chain_state, "execute_block", broken)

    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 1))
        with pytest.raises(BaseExceptionGroup, match="Trio nursery") as caught:
            async with trio.open_nursery() as nursery:
                await nursery.start(rig.driver.run, ())
                await eventually(lambda: False, "the driver must end")
        assert isinstance(innermost(caught.value), InvariantViolation)
        assert rig.committed == [1]
        assert rig.chain.head.height == 1
        assert rig.opened.signer is not None
        assert rig.opened.signer.state.height == 2
        rig.close()

    run(scenario)


def innermost(error: BaseException) -> BaseException:
    """The one error in nested groups."""
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


def test_a_corrupt_log_is_set_aside_and_the_height_is_sat_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        proposer = cluster_proposer(cluster)
        rig = Rig(cluster, proposer)
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: len(rig.votes(VoteType.PREVOTE)) == 1, "proposed and prevoted")
            nursery.cancel_scope.cancel()
        rig.close()
        path = log_path(cluster.settings[proposer].home.data / "wal", 1)
        content = bytearray(path.read_bytes())
        content[20] ^= 1
        path.write_bytes(content)
        again = Rig(cluster, proposer)
        assert again.opened.records == ()
        assert list(path.parent.glob("*.corrupt-0"))
        assert again.opened.signer is not None
        assert again.opened.signer.state.silent_through == 1
        async with trio.open_nursery() as nursery:
            await nursery.start(again.driver.run, ())
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        assert again.sent == []
        again.close()

    run(scenario)


def cluster_proposer(cluster: Cluster) -> int:
    """Number of the node that proposes at height 1, round 0."""
    opened = open_home(cluster.settings[0])
    proposer = opened.chain.state.validators.proposer
    opened.wal.close()
    opened.chain.close()
    return [settings.consensus_key.address for settings in cluster.settings].index(proposer)
