"""Builds, checks and executes blocks on the chain's head: what the driver asks of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from consensus import beacon
from consensus.chain_state import execute_decided
from consensus.ledger.messages import transaction_id
from consensus.ledger.upgrades import KNOWN_UPGRADES, Upgrades, check_known
from consensus.tendermint import effects
from consensus.tendermint.block import ChainTip, build_block, validate_block, verify_commit
from consensus.tendermint.inputs import StartHeight
from consensus.tendermint.reasons import BAD_COMMIT, EVIDENCE_OUT_OF_REACH
from consensus.tendermint.types import Block, Commit, Evidence
from gensyn_node.app.chain import Chain, CommittedBlock
from gensyn_node.app.evidence_keeper import EvidenceKeeper
from gensyn_node.app.measures import Histogram
from gensyn_node.app.pool import Pool
from gensyn_node.app.room import Room
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage.chain_store import Head

BUSY_MS = 250
"""Usual shortest time between blocks: a round of four nodes on a small machine takes about as long."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How long after the previous block the next one is proposed. Only the proposer's clock is asked."""

    idle_ms: int
    """Without transactions."""
    busy_ms: int
    """With transactions: they gather this long."""


class Executor:
    """Implements the driver's `Ledger`. One task at a time changes the head; `on_commit` is told of each new one."""

    def __init__(
        self,
        *,
        chain: Chain,
        pool: Pool,
        key: SecretKey | None,
        pace: Pace,
        clock_ms: Callable[[], int],
        on_commit: Callable[[CommittedBlock], None],
        upgrades: Upgrades = KNOWN_UPGRADES,
        evidence_file: Path | None = None,
        room: Room | None = None,
    ) -> None:
        """`room`: of the disk that the chain is on; None when it is never full."""
        self._chain = chain
        self._pool = pool
        self._key = key
        self._pace = pace
        self._clock_ms = clock_ms
        self._on_commit = on_commit
        self.execute_seconds, self.write_seconds = Histogram(), Histogram()
        """How long executing and writing blocks took."""
        self._upgrades = upgrades
        self._room = room or Room(Path("/"), 0)
        self.evidence = EvidenceKeeper(chain, evidence_file)
        self.on_evidence: Callable[[Evidence], None] | None = None
        """Told of what our own core found and the pool did not have."""

    # --- what the driver asks

    def start_input(self) -> StartHeight:
        """The input that starts the height after the head.

        `Rejection` UPGRADE_NEEDED before anything of that height is signed or stored, when its rules are unknown here.
        """
        check_known(self._chain.view(), self._chain.head.height + 1, self._upgrades)
        return self._chain.start_input()

    async def build(self, request: effects.BuildValue) -> Block:
        """Wait for the block's time, then fill it from the mempool."""
        if self._key is None:
            raise InvariantViolation("a node that only follows was asked to propose")
        if request.round == 0:
            await self._wait_for_turn()
        tip = self._chain.tip()
        proof = beacon.prove(self._key.seed, beacon.beacon_input(tip.chain_id, tip.height, tip.beacon))
        return build_block(
            tip,
            proposer=self._key.address,
            time_ms=self._clock_ms(),
            transactions=self._pool.reap(limits.BLOCK_BYTES_MAX),
            last_commit=request.last_commit,
            evidence=self.evidence.pending(),
            beacon_proof=proof,
        )

    async def _wait_for_turn(self) -> None:
        """Idle: a block each `idle_ms`. As soon as a transaction waits: `busy_ms` after the previous block."""
        since_ms = self._clock_ms() - self._chain.state.time_ms
        if self._chain.head.height == 0 or since_ms < 0:
            since_ms = self._pace.busy_ms
        await trio.sleep(max(0, self._pace.busy_ms - since_ms) / 1000)
        left_ms = self._pace.idle_ms - max(since_ms, self._pace.busy_ms)
        with trio.move_on_after(max(0, left_ms) / 1000):
            await self._pool.wait_for_work()

    async def validate(self, block: Block) -> bool:
        """Whether a proposed block may follow the head."""
        try:
            await self.check(block)
        except Rejection as rejection:
            log.warning("block_refused", height=block.header.height, why=str(rejection))
            return False
        return True

    async def commit(self, block: Block, commit: Commit) -> None:
        """Execute a decided block and make it the head."""
        ids = tuple(transaction_id(data) for data in block.transactions)
        begun = trio.current_time()
        committed = await trio.to_thread.run_sync(execute, self._chain, block, self._pool.verified(ids), self._upgrades)
        self.execute_seconds.observe(trio.current_time() - begun)
        await self._append(committed, commit, ids)
        self.evidence.after_block(block)
        self._pool.after_block(committed)
        self._on_commit(committed)

    async def _append(self, committed: CommittedBlock, commit: Commit, ids: tuple[bytes, ...]) -> None:
        """Write the block; on a full disk, wait for room, open the database again, and write it unless it is there."""
        failures = 0
        while self._chain.head.height < committed.head.height:
            await self._room.wait()
            try:
                written = trio.current_time()
                await trio.to_thread.run_sync(self._chain.write, committed, commit, ids)
                self.write_seconds.observe(trio.current_time() - written)
            except OSError as error:
                failures = await self._room.after_failure(error, failures)
                await self._reopen()
            else:
                self._chain.adopt(committed)

    async def _reopen(self) -> None:
        failures = 0
        while True:
            await self._room.wait()
            try:
                self._chain.reopen()  # not on a thread: nobody here shall meet the view of before
                return
            except OSError as error:
                failures = await self._room.after_failure(error, failures)

    # --- what block sync and the evidence handler ask

    async def check(self, block: Block) -> None:
        """`Rejection` unless the block may follow the head; its execution is not part of it."""
        await trio.to_thread.run_sync(self._check, block)

    async def check_sealed(self, block: Block, commit: Commit) -> None:
        """`Rejection` unless the block follows the head and the commit seals it, every signature checked."""
        tip = self._chain.tip()
        if (commit.height, commit.block_id) != (tip.height, block.id):
            raise Rejection(BAD_COMMIT, f"the commit is not of block {tip.height}")
        await trio.to_thread.run_sync(self._check_sealed, tip, block, commit)

    def add_evidence(self, evidence: Evidence) -> None:
        """Keep proof that our own core found. Against somebody who is punished already there is nothing to prove."""
        try:
            kept = self.evidence.add(evidence)
        except Rejection as rejection:
            if rejection.reason is not EVIDENCE_OUT_OF_REACH:
                raise
            log.info("evidence_not_kept", why=str(rejection))
            return
        if kept is not None and self.on_evidence is not None:
            self.on_evidence(kept)

    # --- inside

    def _check_sealed(self, tip: ChainTip, block: Block, commit: Commit) -> None:
        """Both checks on one thread: while a node catches up, changing threads costs as much as either."""
        verify_commit(tip.chain_id, tip.validators, commit)
        self._check(block)

    def _check(self, block: Block) -> None:
        validate_block(
            self._chain.tip(),
            block,
            evidence_validators=self.evidence.validators,
            evidence_pool=self.evidence.pool,
            records=self.evidence,
        )


def execute(
    chain: Chain,
    block: Block,
    signatures_known: frozenset[bytes] = frozenset(),
    known_upgrades: Upgrades = KNOWN_UPGRADES,
) -> CommittedBlock:
    """What the next block makes of the chain; nothing is written. `InvariantViolation` unless it follows the head.

    `Rejection` UPGRADE_NEEDED when the block's rules are not known here.
    """
    header = block.header
    if header.height != chain.head.height + 1 or header.previous_block_id != chain.head.block_id:
        raise InvariantViolation(f"block {header.height} does not follow the head {chain.head.height}")
    if header.app_hash != chain.head.app_hash:
        raise InvariantViolation(f"block {header.height} was decided on another ledger than ours")
    check_known(chain.view(), header.height, known_upgrades)
    delta, state = execute_decided(
        chain.view(), chain.chain_id, chain.state, block, signatures_known, known_upgrades=known_upgrades
    )
    head = Head(header.height, block.id, delta.app_hash, codec.encode(state))
    return CommittedBlock(head, state, block, delta)
