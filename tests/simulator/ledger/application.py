"""The production chain as an application of the simulated network: block rules, ledger, mempool, beacon; with actors.

Each node has its own ledger in memory and its own mempool. Actors are clients of random nodes: they act on whatever
that node knows at every new head. A `Market` holds them and their checks; when the network's run is over, it goes on
alone until every task has ended.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from consensus import beacon
from consensus.chain_state import ChainState, execute_decided, first_state, signatures_of, tip_after
from consensus.ledger import messages as m
from consensus.ledger import queries
from consensus.ledger.block import BlockContext, BlockDelta, Misbehaviour
from consensus.ledger.genesis import genesis_delta
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.parameters import Parameters
from consensus.pool import CheckedMempool
from consensus.tendermint.block import build_block, validate_block
from consensus.tendermint.effects import BuildValue
from consensus.tendermint.evidence import EvidencePool, evidence_height, offenders, verify_evidence
from consensus.tendermint.inputs import StartHeight
from consensus.tendermint.reasons import BAD_BEACON, BAD_BLOCK, BAD_EVIDENCE
from consensus.tendermint.types import NIL, Block, BlockId, Commit, DuplicateVoteEvidence, Evidence, ValidatorSet
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.hashing import tagged_hash
from tests.simulator.application import BAD, CHAIN, Surroundings, Violation, require
from tests.simulator.ledger.characters import draw_character
from tests.simulator.ledger.market import Market, Schedule, hasty_parameters
from tests.simulator.ledger.provider_actors import ProviderActor
from tests.simulator.ledger.toy_program import GSN
from tests.simulator.ledger.wallets import know
from tests.simulator.signatures import Key

STAKE = 1_000 * GSN
"""Behind a unit of the schedule's power: so much that what actors stake never makes the Byzantine too strong."""
GOSSIPED = 40
"""Pending transactions that a node tells the others at a time."""
TOLD = 3
"""Nodes that a client sends its transaction to."""
TELLING_GAP = 3
"""An actor whose node is further behind than this, or that heard nothing for so many blocks, counts as asleep."""


def network_parameters(rng: random.Random) -> Parameters:
    """As the market's, with a little more time: clients hear of a block when their node does."""
    return msgspec.structs.replace(
        hasty_parameters(rng),
        start_blocks=10,
        heartbeat_blocks=14,
        train_blocks_base=24,
        verify_blocks_base=12,
        reveal_blocks=10,
        move_clock_blocks=12,
        move_extension_blocks=8,
        downtime_window_blocks=2_000,
    )


def network_schedule(rng: random.Random, real_signatures: bool) -> Schedule:
    """The actors of one run."""
    cheats = rng.choice((0.0, 0.4, 0.8))
    return Schedule(
        characters=[draw_character(rng, cheats) for _ in range(5)],
        parameters=network_parameters(rng),
        tasks=rng.choice((1, 2)),
        fickle=rng.random() < 0.2,
        deadline_blocks=rng.choice((30, 60)),
        busy_blocks=25,
        real_signatures=real_signatures,
    )


class LedgerSetting:
    """Shared by the nodes of a run: genesis, actors, checks, and executions that several nodes do alike."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.check, self.rng = surroundings.check, surroundings.rng
        self.real = surroundings.schedule.real_signatures
        stakes = {}
        for position, (key, power) in enumerate(zip(surroundings.keys, surroundings.schedule.powers, strict=True)):
            name = f"network validator {position}"
            know(name, key.secret)
            stakes[name] = power * STAKE
        schedule = network_schedule(self.rng, self.real)
        self.market = Market(self.rng.randrange(1 << 32), schedule, CHAIN, stakes)
        self.applications: list[LedgerApplication] = []
        self.checked = 0
        """Height up to which the ledger's checks have seen the chain."""
        self._executed: dict[tuple[BlockId, bytes], tuple[BlockDelta, ChainState]] = {}
        self._heard: dict[bytes, int] = {}
        self._acted = 0

    def application(self, number: int, key: Key, salt: bytes) -> LedgerApplication:
        """A node at genesis."""
        made = LedgerApplication(self, number, key, salt)
        self.applications.append(made)
        return made

    # --- beacon and signatures

    def prove(self, key: Key, alpha: bytes) -> bytes:
        """The proposer's proof: real in some runs, a stand-in in most."""
        if self.real:
            return beacon.prove(key.secret.seed, alpha)
        return tagged_hash("simulator/proof", key.public, alpha)

    def check_beacon(self, public_key: bytes, alpha: bytes, proof: bytes) -> bytes:
        """What checks `prove`."""
        if self.real:
            return beacon.verify(public_key, alpha, proof)
        if proof != tagged_hash("simulator/proof", public_key, alpha):
            raise Rejection(BAD_BEACON, "the stand-in proof is another one")
        return proof

    def next_beacon(self, previous: bytes, proof: bytes) -> bytes:
        """The beacon after a block."""
        return beacon.next_beacon(previous, proof) if self.real else tagged_hash("simulator/beacon", previous, proof)

    def known(self, transactions: tuple[bytes, ...]) -> frozenset[bytes]:
        """Ids of the transactions with a good stand-in signature; with real ones the ledger checks by itself."""
        good = set()
        for data in () if self.real else transactions:
            try:
                self.market.check_signature(m.decode_transaction(data))
            except Rejection:
                continue
            good.add(m.transaction_id(data))
        return frozenset(good)

    def execute(self, node: LedgerApplication, block: Block) -> tuple[BlockDelta, ChainState]:
        """Execute a decided block; every node does some by itself, and takes the others from who was first."""
        place = (block.id, node.ledger.root)
        if place not in self._executed or (block.header.height + node.number) % 4 == 0:
            done = execute_decided(
                node.ledger,
                CHAIN,
                node.state,
                block,
                self.known(block.transactions),
                self.next_beacon,
            )
            first = self._executed.setdefault(place, done)
            require(first == done, f"two executions of block {block.header.height} differ")
        return self._executed[place]

    # --- what the run tells

    def executed(self, number: int, block: Block) -> None:
        """An honest node has executed a block; the first to do so shows it to the checks, then the actors act."""
        node, height, market = self.applications[number], block.header.height, self.market
        if height <= self.checked:
            return
        require(height == self.checked + 1, "an honest node executed a block without the one before it")
        before, delta, last = node.last
        context = BlockContext(
            chain_id=CHAIN,
            height=height,
            time_ms=block.header.time_ms,
            proposer=block.header.proposer,
            beacon=node.state.beacon,
            misbehaviours=tuple(
                Misbehaviour(name, evidence_height(item)) for item in block.evidence for name in offenders(item)
            ),
            signatures=signatures_of(last.last_validators, block.last_commit),
        )
        for actor in market.actors:
            market.waited[actor.address] = actor.wallet.oldest_age(height)
        market.checks.after_block(before, node.ledger, context, block.transactions, delta)
        self.checked = height
        self._actors_act()

    def act(self, now_ms: int) -> None:
        """When no block has come since the last time, clients still knock."""
        if self._acted == self.checked:
            self._actors_act()
        self._acted = self.checked

    def _actors_act(self) -> None:
        for actor in self.market.actors:
            node = self.rng.choice(self.applications)
            if isinstance(actor, ProviderActor):
                heard = self._heard.get(actor.address, 0)
                if self.checked - node.height > TELLING_GAP or self.checked - heard > TELLING_GAP:
                    actor.awake_since = self.checked
                self._heard[actor.address] = max(heard, node.height)
            for data in actor.act(node.ledger, node.height):
                for told in self.rng.sample(self.applications, min(TOLD, len(self.applications))):
                    told.submit(data)

    def finish(self, honest: list[int]) -> None:
        """The chain again from genesis, then on without consensus until every task has ended."""
        tallest = max((self.applications[number] for number in honest), key=lambda node: node.height)
        again = LedgerApplication(self, tallest.number, tallest.key, b"")
        for block, commit in tallest.chain:
            self._executed.pop((block.id, again.ledger.root), None)
            again.execute(block, commit)
            require(again.block_id == block.id, "a replay leads elsewhere")
        require(again.state_root == tallest.state_root, "a replay from genesis gives another state root")
        self.market.take_over(tallest.ledger, tallest.height)
        self.market.run()

    def seen(self) -> dict[str, int]:
        """Of the checks."""
        return dict(self.market.checks.seen)


class LedgerApplication:
    """One node's chain, ledger and mempool."""

    def __init__(self, setting: LedgerSetting, number: int, key: Key, salt: bytes) -> None:
        self.setting, self.number, self.key, self.salt = setting, number, key, salt
        genesis = setting.market.genesis
        delta = genesis_delta(genesis)
        self.ledger = MemoryLedger()
        self.ledger.apply(delta)
        self.state = first_state(genesis, delta)
        self.block_id: BlockId = NIL
        self.chain: list[tuple[Block, Commit]] = []
        self.sets = [self.state.validators, self.state.validators, self.state.next_validators]
        self.evidence = EvidencePool()
        self.pool = CheckedMempool()
        self.last: tuple[MemoryLedger, BlockDelta, ChainState] = (self.ledger, delta, self.state)
        """Of the last block: the ledger and the state before it, and what it changed."""

    @property
    def height(self) -> int:
        """Of the last block."""
        return len(self.chain)

    @property
    def state_root(self) -> bytes:
        """The app hash."""
        return self.ledger.root

    def start_input(self) -> StartHeight:
        """Starts the height after the last block."""
        commit = self.chain[-1][1] if self.chain else None
        return StartHeight(self.height + 1, self.state.validators, commit, self.state.last_validators)

    def validators(self, height: int) -> ValidatorSet | None:
        """By height, up to two after the last block."""
        return self.sets[height] if 0 < height < len(self.sets) else None

    def sealed(self, height: int) -> tuple[Block, Commit] | None:
        """By height."""
        return self.chain[height - 1] if 0 < height <= len(self.chain) else None

    # --- blocks

    def build(self, request: BuildValue, now_ms: int) -> Block:
        """The mempool's best and all evidence; twins differ by a transaction that is none."""
        tip = tip_after(CHAIN, self.height, self.block_id, self.ledger.root, self.state)
        transactions = self.pool.reap(queries.parameters(self.ledger), limits.BLOCK_BYTES_MAX)
        return build_block(
            tip,
            proposer=self.key.address,
            time_ms=now_ms,
            transactions=(*transactions, self.salt) if self.salt else transactions,
            last_commit=request.last_commit,
            evidence=tuple(item for item in self.evidence.pending() if evidence_height(item) < request.height),
            beacon_proof=self.setting.prove(self.key, beacon.beacon_input(CHAIN, tip.height, tip.beacon)),
        )

    def validate(self, block: Block) -> bool:
        """The production rules, and no transaction that the simulator calls bad."""
        tip = tip_after(CHAIN, self.height, self.block_id, self.ledger.root, self.state)
        try:
            validate_block(
                tip,
                block,
                evidence_validators=lambda item: self.validators(evidence_height(item)),
                evidence_pool=self.evidence,
                check=self.setting.check,
                check_beacon=self.setting.check_beacon,
            )
            if any(BAD in transaction for transaction in block.transactions):
                raise Rejection(BAD_BLOCK, "a bad transaction")
        except Rejection:
            return False
        return True

    def execute(self, block: Block, commit: Commit) -> None:
        """Ledger, state, block and commit in one step."""
        header = block.header
        if header.height != self.height + 1 or header.previous_block_id != self.block_id:
            raise InvariantViolation(f"block {header.height} does not follow {self.height}")
        if header.app_hash != self.ledger.root:
            raise InvariantViolation(f"block {header.height} was decided on another ledger than ours")
        delta, state = self.setting.execute(self, block)
        if header.height > self.setting.checked:
            self.last = (self.ledger.copy(), delta, self.state)
        self.ledger.apply(delta)
        self.state, self.block_id = state, block.id
        self.chain.append((block, commit))
        self.sets.append(state.next_validators)
        self.evidence.commit(block.evidence, forget_below=0)
        self.pool.after_block(self.ledger, self.height, block.transactions)

    # --- evidence

    def add_evidence(self, evidence: DuplicateVoteEvidence) -> None:
        """Into the pool, once it is proof."""
        validators = self.validators(evidence.first.height)
        if validators is None:
            raise Rejection(BAD_EVIDENCE, "of a height to come")
        verify_evidence(CHAIN, validators, evidence, self.setting.check)
        self.evidence.add(evidence)

    def pending_evidence(self) -> tuple[Evidence, ...]:
        """The pool."""
        return self.evidence.pending()

    # --- transactions

    def submit(self, data: bytes) -> None:
        """A client's transaction; one that is refused is lost."""
        try:
            if BAD not in data:
                self.pool.add(self.ledger, self.height, data, self.setting.market.check_signature)
        except Rejection as rejection:
            self.setting.market.checks.seen[f"a mempool refused: {rejection.reason.name}"] += 1
        bounds = self.pool.pending.bounds
        if len(self.pool) > bounds.transactions or self.pool.pending.total_bytes > bounds.total_bytes:
            raise Violation("a mempool holds more than it may")

    def receive(self, sender: int, message: Any) -> None:
        """Another node's pending transactions."""
        for data in message:
            self.submit(data)

    def gossip(self, now_ms: int) -> list[Any]:
        """Ours."""
        pending = self.pool.pending.contents()[:GOSSIPED]
        return [tuple(entry.data for entry in pending)] if pending else []

    def crash(self) -> None:
        """Mempool and evidence pool are memory; what blocks carried is on disk."""
        self.pool = CheckedMempool()
        self.evidence = EvidencePool()
        for block, _ in self.chain:
            self.evidence.commit(block.evidence, forget_below=0)
