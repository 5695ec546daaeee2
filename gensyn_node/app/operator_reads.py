"""What operators and explorers ask of a node: blocks in parts, the state of consensus, what waits, proofs."""

from __future__ import annotations

import trio

from consensus.ledger.block import BlockContext
from consensus.ledger.execute import dry_run
from consensus.tendermint.types import NO_ROUND, Evidence, ValidatorSet, VoteType
from consensus.tendermint.votes import VoteSet
from gensyn_node.app.node import Node, wall_clock_ms
from gensyn_node.primitives import codec
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.hashing import sha256
from gensyn_node.rpc import operator_backend as rpc
from proofs import merkle

NIL = "nil"
ROUNDS_SHOWN_MAX = 8
DISK_FULL = "the disk is full: nothing is signed or committed until there is room"


class OperatorReads:
    """Implements `gensyn_node.rpc.operator_backend.OperatorBackend`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def health(self) -> rpc.Health:
        """Whether the node does its work."""
        syncing, paused = self._node.sync.syncing, DISK_FULL if self._node.room.paused else ""
        return rpc.Health(
            healthy=not syncing and not paused, height=self._node.ledger.head.height, syncing=syncing, paused=paused
        )

    def _height(self, height: int | None) -> int:
        return self._node.ledger.head.height if height is None else height

    async def headers(self, first: int, limit: int) -> tuple[rpc.HeaderView, ...]:
        """Committed headers from a height on."""
        found = []
        for height in range(first, min(first + limit, self._node.ledger.head.height + 1)):
            await trio.lowlevel.checkpoint()
            view = await self.header(height)
            if view is not None:
                found.append(view)
        return tuple(found)

    async def header(self, height: int | None) -> rpc.HeaderView | None:
        """One committed header."""
        block = self._node.ledger.block(self._height(height))
        return None if block is None else rpc.HeaderView(block.id, block.header, len(block.transactions))

    async def height_of(self, block_id: bytes) -> int | None:
        """Height of a committed block."""
        return self._node.ledger.height_of(block_id)

    async def block_results(self, height: int | None) -> rpc.BlockResultsView | None:
        """What became of a block."""
        chain, height = self._node.ledger, self._height(height)
        results, events = chain.results(height), chain.events(height)
        return None if results is None or events is None else rpc.BlockResultsView(height, results, events)

    async def commit(self, height: int | None) -> rpc.CommitView | None:
        """Header and commit of a block."""
        chain, height = self._node.ledger, self._height(height)
        header, commit = chain.header(height), chain.commit(height)
        return None if header is None or commit is None else rpc.CommitView(header, commit)

    async def consensus_state(self) -> rpc.ConsensusView:
        """The round machine, as it stands."""
        driver = self._node.driver
        core, state = driver.core, driver.core.machine.state
        known = core.machine.votes.rounds.keys() | core.machine.proposals.keys()
        rounds = sorted(known | ({state.round} - {NO_ROUND}))[-ROUNDS_SHOWN_MAX:]
        return rpc.ConsensusView(
            height=core.height,
            round=state.round,
            step=state.step.name.lower(),
            locked_round=state.locked_round,
            locked_block=state.locked_value or b"",
            valid_round=state.valid_round,
            valid_block=state.valid_value or b"",
            rounds=tuple(self._round(number) for number in rounds),
            seconds_since_progress=round(trio.current_time() - driver.moved_at, 3),
        )

    def _round(self, number: int) -> rpc.RoundView:
        core = self._node.driver.core
        votes = core.machine.votes.rounds.get(number)
        prevotes, precommits = (VoteSet(), VoteSet()) if votes is None else map(votes.of, VoteType)
        return rpc.RoundView(
            round=number,
            proposer=core.proposers.of(number) if number <= core.machine.state.round else b"",
            proposals=tuple(core.machine.proposals.get(number, ())),
            prevotes=_votes(prevotes, core.validators),
            precommits=_votes(precommits, core.validators),
            prevote_quorum="" if prevotes.quorum is None else prevotes.quorum.hex() or NIL,
            precommit_quorum="" if precommits.quorum is None else precommits.quorum.hex() or NIL,
        )

    async def unconfirmed_transactions(self, offset: int, limit: int) -> rpc.PendingPage:
        """What waits, in the order of arrival."""
        pool = self._node.pool
        page = pool.pending()[offset : offset + limit]
        return rpc.PendingPage(
            total=len(pool),
            total_bytes=pool.total_bytes,
            transactions=tuple(
                rpc.PendingView(one.id, one.sender, one.nonce, one.fee, len(one.data), one.height) for one in page
            ),
        )

    async def check_transaction(self, data: bytes) -> rpc.DryRunView:
        """What would become of it if it came next. In a thread: it may publish a program."""
        chain = self._node.ledger
        state = chain.state
        proposer = state.validators.proposer
        context = BlockContext(chain.chain_id, chain.head.height + 1, max(wall_clock_ms(), 0), proposer, state.beacon)
        result = await trio.to_thread.run_sync(dry_run, chain.view(), context, data)
        return rpc.DryRunView(result.applied, result.code, result.message, result.fee_nano, result.units)

    async def transaction_proof(self, transaction_id: bytes) -> rpc.TransactionProofView | None:
        """That a block contains a transaction."""
        chain = self._node.ledger
        place = chain.place_of(transaction_id)
        block = chain.block(place.height) if place else None
        if place is None or block is None:
            return None
        leaves = [merkle.SHA256.leaf(sha256(data)) for data in block.transactions]
        return rpc.TransactionProofView(
            height=place.height,
            index=place.index,
            total=len(leaves),
            transaction=block.transactions[place.index],
            leaf_hash=leaves[place.index],
            path=merkle.inclusion_path(merkle.SHA256, leaves, place.index),
            data_root=block.header.data_root,
        )

    async def submit_evidence(self, data: bytes) -> bool:
        """Judge evidence, keep it and spread it; whether it is new."""
        evidence: Evidence = codec.decode(Evidence, data)
        kept = self._node.executor.evidence.add(evidence)
        if kept is not None:
            self._node.evidence.announce(kept)
        return kept is not None


def _votes(votes: VoteSet, validators: ValidatorSet) -> dict[str, str]:
    members = validators.validators
    return {encode_address(members[at].address): value.hex() or NIL for at, value in sorted(votes.first.items())}
