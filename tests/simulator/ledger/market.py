"""The ledger without consensus: one chain, blocks by a random proposer with what it likes, actors, and every check.

Many more ledger schedules a second than with the whole network; the same actors and checks ride on consensus too.
`run(seed)` draws a schedule from the seed, plays it until every task has ended, and raises `Violation`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from consensus.ledger import messages as m
from consensus.ledger import staking
from consensus.ledger.block import BlockContext, BlockDelta, BlockSignature, Misbehaviour
from consensus.ledger.execute import execute_block
from consensus.ledger.genesis import genesis_delta
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.records import Genesis, GenesisAccount, GenesisValidator
from consensus.ledger.schedule import task_end_bound
from consensus.ledger.view import State
from consensus.mempool import MempoolBounds
from consensus.pool import CheckedMempool
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.hashing import tagged_hash
from tests.simulator.application import Violation
from tests.simulator.ledger.characters import Character, draw_character
from tests.simulator.ledger.checks import LedgerChecks
from tests.simulator.ledger.other_actors import Staker, Submitter, Trader
from tests.simulator.ledger.provider_actors import ProviderActor
from tests.simulator.ledger.toy_program import GSN, StateStore
from tests.simulator.ledger.wallets import Wallet, check_real_signature, check_stub_signature, key_of

GRACE_BLOCKS = 4
"""An honest party whose transactions are included within so many blocks must never be slashed."""
BALANCE = 1_000 * GSN
FORCED_FROM_SEED = 100


@dataclass
class Schedule:
    """What one run is like, drawn from its seed."""

    characters: list[Character]
    parameters: Parameters
    validators: int = 4
    bad_proposers: int = 0
    """So many of the validators censor and fill blocks with replays and nonsense."""
    loss: float = 0.0
    """Chance that one mempool does not get a transaction at all."""
    slow: float = 0.0
    """Chance that a transaction reaches a mempool some blocks late."""
    stalls: float = 0.0
    """Chance that a time without any transaction in the blocks begins (a partition, as the ledger sees it)."""
    sleeps: float = 0.0
    """Chance that an actor falls asleep for a while."""
    submitters: int = 1
    tasks: int = 2
    fickle: bool = False
    traders: int = 3
    delegators: int = 2
    deadline_blocks: int = 60
    small_pools: bool = False
    equivocations: float = 0.0
    absent: float = 0.0
    """Chance that a validator signs next to nothing."""
    real_signatures: bool = False
    forced_error_bps: int = 0
    busy_blocks: int = 50
    """Until then traders trade, tasks come in and validators stake."""


def hasty_parameters(rng: random.Random) -> Parameters:
    """Deadlines so short that schedules run into all of them, yet above the grace."""
    return msgspec.structs.replace(
        devnet_parameters(),
        unbonding_blocks=rng.choice((12, 25)),
        task_deadline_blocks_min=5,
        start_blocks=rng.choice((6, 9)),
        heartbeat_blocks=rng.choice((7, 12)),
        train_blocks_base=rng.choice((12, 20)),
        verify_blocks_base=rng.choice((6, 10)),
        reveal_blocks=rng.choice((6, 8)),
        window_blocks=rng.choice((3, 6)),
        retry_blocks=rng.choice((1, 3)),
        move_clock_blocks=rng.choice((6, 12)),
        move_extension_blocks=rng.choice((6, 7)),
        game_moves_max=24,
        verifications_per_provider_max=2,
        solves_per_provider_max=2,
        challengers_per_dispute_max=rng.choice((1, 2, 4)),
        miss_slash_bps=rng.choice((0, 200, 500)),
        forced_open_blocks=8,
        forced_reveal_blocks=8,
        validators_min=rng.choice((1, 3)),
        downtime_window_blocks=8,
        downtime_slash_bps=rng.choice((1, 300)),
        jail_blocks=rng.choice((3, 10)),
        voting_blocks=rng.choice((6, 12)),
        enactment_blocks=2,
    )


def draw(seed: int) -> Schedule:
    """Every kind of fault is on in some seeds and off in others."""
    rng = random.Random(f"market schedule {seed}")
    cheats = rng.choice((0.0, 0.3, 0.6, 0.9))
    return Schedule(
        characters=[draw_character(rng, cheats) for _ in range(rng.choice((4, 5, 6, 8)))],
        parameters=hasty_parameters(rng),
        bad_proposers=rng.choice((0, 0, 1)),
        loss=rng.choice((0.0, 0.2, 0.5)),
        slow=rng.choice((0.0, 0.1, 0.4)),
        stalls=rng.choice((0.0, 0.0, 0.02, 0.05)),
        sleeps=rng.choice((0.0, 0.0, 0.01)),
        submitters=rng.choice((1, 2)),
        tasks=rng.choice((1, 2)),
        fickle=rng.random() < 0.3,
        deadline_blocks=rng.choice((30, 60, 90)),
        small_pools=rng.random() < 0.1,
        equivocations=rng.choice((0.0, 0.0, 0.02)),
        absent=rng.choice((0.0, 0.0, 0.4)),
        real_signatures=rng.random() < 0.02,
        # The first seeds are played without: they reach the rare states that the tests ask for.
        forced_error_bps=rng.choice((0, 0, 0, 3_000)) if seed >= FORCED_FROM_SEED else 0,
    )


@dataclass
class Proposer:
    """A validator as the ledger sees it: a mempool and a taste."""

    name: str
    pool: CheckedMempool
    bad: bool
    arriving: dict[int, list[bytes]] = field(default_factory=dict)
    """Height -> transactions that reach it then."""


class Market:
    """One chain and its actors."""

    provider_class = ProviderActor
    submitter_class = Submitter

    def __init__(
        self, seed: int, schedule: Schedule, chain_id: str = "market", stakes: dict[str, int] | None = None
    ) -> None:
        """`stakes`: validators' key names and what they begin with, in nano; as many as the schedule says otherwise."""
        self.seed, self.schedule, self.chain_id = seed, schedule, chain_id
        self.stakes = stakes or {f"validator {number}": 20 * GSN for number in range(schedule.validators)}
        self.rng = random.Random(f"market {seed}")
        self.parameters = schedule.parameters
        self.height = 0
        self.ledger = MemoryLedger()
        self.blocks: list[tuple[BlockContext, list[bytes], bytes]] = []
        self.check_signature = check_real_signature if schedule.real_signatures else check_stub_signature
        bounds = MempoolBounds(transactions=24, per_sender=8, expiry_blocks=20) if schedule.small_pools else None
        self.proposers = [
            Proposer(name, CheckedMempool(bounds), number < schedule.bad_proposers)
            for number, name in enumerate(self.stakes)
        ]
        self.store = StateStore()
        self._make_actors()
        self.sleeping: dict[bytes, int] = {}
        self.waited: dict[bytes, int] = {}
        """For how many blocks each account's longest waiting transaction has waited, this block's included."""
        self.stalled_until = 0
        self.history: list[bytes] = []
        self.checks = LedgerChecks(self.parameters, self, {trader.address: BALANCE for trader in self.traders})
        self.genesis = self._genesis()
        delta = genesis_delta(self.genesis)
        self.ledger.apply(delta)
        self.checks.genesis(delta, self.ledger)
        first = staking.active_powers(State(self.ledger))
        self.sets = [first, first, first]
        """By height: a block's stakes decide who signs two heights later."""
        self.absent = {key_of(p.name).address for p in self.proposers if self.rng.random() < schedule.absent}

    def _wallet(self, name: str) -> Wallet:
        return Wallet(name, self.chain_id, self.parameters, self.schedule.real_signatures)

    def _dice(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    def _make_actors(self) -> None:
        schedule = self.schedule
        self.providers: dict[bytes, ProviderActor] = {}
        for number, character in enumerate(schedule.characters):
            name = f"provider {number}"
            actor = self.provider_class(name, character, self._wallet(name), self.store, self._dice(name))
            self.providers[actor.address] = actor
        names = [f"trader {number}" for number in range(schedule.traders)]
        partners = [key_of(name).address for name in names]
        self.traders = [Trader(self._wallet(name), partners, self._dice(name), schedule.busy_blocks) for name in names]
        self.submitters = [
            self.submitter_class(
                self._wallet(name),
                self._dice(name),
                schedule.tasks,
                schedule.fickle,
                schedule.busy_blocks,
                schedule.deadline_blocks,
                schedule.forced_error_bps,
            )
            for name in (f"submitter {number}" for number in range(schedule.submitters))
        ]
        validators = [proposer.name for proposer in self.proposers]
        owners = {f"operator of {name}": name for name in validators}
        owners |= {f"delegator {number}": "" for number in range(schedule.delegators)}
        self.stakers = [
            Staker(self._wallet(name), validators, self._dice(name), schedule.busy_blocks, own)
            for name, own in owners.items()
        ]
        self.actors = [*self.providers.values(), *self.traders, *self.submitters, *self.stakers]

    def _genesis(self) -> Genesis:
        return Genesis(
            chain_id=self.chain_id,
            time_ms=0,
            validators=tuple(
                GenesisValidator(key_of(name).public, key_of(f"operator of {name}").address, stake, name)
                for name, stake in self.stakes.items()
                if stake
            ),
            accounts=tuple(GenesisAccount(actor.address, BALANCE) for actor in self.actors),
            parameters=self.parameters,
        )

    # --- what the checks ask

    def is_honest(self, provider: bytes) -> bool:
        """See `Surroundings`."""
        return provider in self.providers and self.providers[provider].character.honest

    def hindered(self, account: bytes, height: int) -> bool:
        """See `Surroundings`."""
        awake_since = self.providers[account].awake_since
        return self.waited[account] > GRACE_BLOCKS or 0 < awake_since > height - 2 * GRACE_BLOCKS

    def could_not(self, provider: bytes, task_id: bytes) -> bool:
        """See `Surroundings`."""
        return any(task == task_id for task, _ in self.providers[provider].could_not)

    # --- blocks

    def step(self) -> BlockDelta:
        """One block."""
        self._act()
        self.height += 1
        beacon = tagged_hash("simulator/beacon", b"%d/%d" % (self.seed, self.height))
        proposer = self._proposer()
        context = BlockContext(
            chain_id=self.chain_id,
            height=self.height,
            time_ms=1_000 * self.height,
            proposer=key_of(proposer.name).address,
            beacon=beacon,
            misbehaviours=self._misbehaviours(),
            signatures=self._signatures(),
        )
        transactions = self._fill(proposer)
        known = {m.transaction_id(data) for data in transactions if not self.schedule.real_signatures}
        delta = execute_block(self.ledger, context, transactions, known)
        before = self.ledger.copy()
        self.ledger.apply(delta)
        self.sets.append(staking.active_powers(State(self.ledger)))
        self.blocks.append((context, transactions, delta.app_hash))
        self.history += transactions
        for other in self.proposers:
            other.pool.after_block(self.ledger, self.height, transactions)
            self._check_pool(other.pool)
        included = {m.transaction_id(data) for data in transactions}
        for trader in self.traders:
            for sent in trader.wallet.on_the_way.values():
                instead = isinstance(sent.purpose, tuple) and m.transaction_id(sent.data) in included
                self.checks.seen["a replaced transaction was included"] += instead
        for actor in self.actors:
            self.waited[actor.address] = actor.wallet.oldest_age(self.height)
            actor.wallet.refresh(self.ledger)
        self.checks.after_block(before, self.ledger, context, transactions, delta)
        return delta

    def _act(self) -> None:
        schedule, rng = self.schedule, self.rng
        for actor in self.actors:
            if self.sleeping.get(actor.address, 0) > self.height:
                if isinstance(actor, ProviderActor):
                    actor.awake_since = self.height + 1
                continue
            if schedule.sleeps and rng.random() < schedule.sleeps:
                self.sleeping[actor.address] = self.height + rng.choice((2, 5, 15))
                self.checks.seen["an actor slept"] += 1
            for data in actor.act(self.ledger, self.height):
                self._spread(data)

    def _spread(self, data: bytes) -> None:
        for proposer in self.proposers:
            if self.rng.random() >= self.schedule.loss:
                late = self.rng.choice((1, 2, 6)) if self.rng.random() < self.schedule.slow else 0
                proposer.arriving.setdefault(self.height + late, []).append(data)

    def _proposer(self) -> Proposer:
        for proposer in self.proposers:
            for height in sorted(h for h in proposer.arriving if h < self.height):
                for data in proposer.arriving.pop(height):
                    try:
                        proposer.pool.add(self.ledger, self.height - 1, data, self.check_signature)
                    except Rejection as rejection:
                        self.checks.seen[f"a mempool refused: {rejection.reason.name}"] += 1
        members = self.sets[self.height]
        return self.rng.choice([one for one in self.proposers if key_of(one.name).address in members])

    def _signatures(self) -> tuple[BlockSignature, ...]:
        """Who signed the block before; those absent have less than a third of the power."""
        if self.height == 1:
            return ()
        members = self.sets[self.height - 1]
        left = (sum(members.values()) - 1) // 3
        signatures = []
        for address, power in members.items():
            absent = power <= left and address in self.absent and self.rng.random() < 0.9
            left -= power if absent else 0
            signatures.append(BlockSignature(address, power, not absent))
        return tuple(signatures)

    def _fill(self, proposer: Proposer) -> list[bytes]:
        """What the proposer puts into its block."""
        rng, schedule = self.rng, self.schedule
        if self.height < self.stalled_until:
            return []
        if schedule.stalls and rng.random() < schedule.stalls:
            self.stalled_until = self.height + rng.choice((3, 8, 20))
            self.checks.seen["blocks were empty for a while"] += 1
            return []
        reaped = list(proposer.pool.reap(self.parameters, limits.BLOCK_BYTES_MAX))
        if not proposer.bad:
            return reaped
        kept = [data for data in reaped if rng.random() < 0.5]
        for _ in range(rng.choice((0, 1, 3))):
            extra = rng.choice(self.history) if self.history and rng.random() < 0.8 else rng.randbytes(40)
            kept.insert(rng.randrange(len(kept) + 1), extra)
        return kept

    def _misbehaviours(self) -> tuple[Misbehaviour, ...]:
        if self.rng.random() >= self.schedule.equivocations:
            return ()
        culprit = self.proposers[self.rng.randrange(max(1, len(self.proposers) // 3))]
        return (Misbehaviour(key_of(culprit.name).address, max(1, self.height - self.rng.choice((1, 4, 12)))),)

    def _check_pool(self, pool: CheckedMempool) -> None:
        bounds = pool.pending.bounds
        if len(pool) > bounds.transactions or pool.pending.total_bytes > bounds.total_bytes:
            raise Violation("a mempool holds more than it may")
        per_sender = Counter(entry.sender for entry in pool.pending.contents())
        if per_sender and max(per_sender.values()) > bounds.per_sender:
            raise Violation("a mempool holds more of one sender than it may")

    # --- the run

    def run(self) -> LedgerChecks:
        """Until every task has ended, in the time the ledger promises."""
        limit = self.schedule.busy_blocks + 2
        while self.height < limit or self._unended():
            if self.height > limit + self._longest():
                raise Violation(f"tasks have not ended by height {self.height}")
            self.step()
        self._check_replay()
        return self.checks

    def take_over(self, ledger: MemoryLedger, height: int) -> None:
        """Go on from a ledger that others have brought to this height."""
        self.ledger, self.height = ledger.copy(), height
        self.sets = [staking.active_powers(State(self.ledger))] * (height + 3)

    def _unended(self) -> bool:
        return bool(self.checks.solvers.keys() - self.checks.ended)

    def _longest(self) -> int:
        state = State(self.ledger)
        tasks = [state.task(task_id) for task_id in self.checks.solvers]
        bounds = [task_end_bound(state.spec(t.task_id), t.gas_per_step, self.parameters, t.fetch_blocks) for t in tasks]
        return max(bounds, default=0)

    def _check_replay(self) -> None:
        """The same blocks from genesis give the same roots; what was taken over is checked by whoever made it."""
        if self.blocks and self.blocks[0][0].height > 1:
            return
        ledger = MemoryLedger()
        ledger.apply(genesis_delta(self.genesis))
        for context, transactions, app_hash in self.blocks:
            known = {m.transaction_id(data) for data in transactions if not self.schedule.real_signatures}
            ledger.apply(execute_block(ledger, context, transactions, known))
            if ledger.root != app_hash:
                raise Violation(f"a replay of block {context.height} gives another state root")

    def digest(self) -> str:
        """One hash over every state root."""
        return hashlib.sha256(b"".join(app_hash for _, _, app_hash in self.blocks)).hexdigest()


def run(seed: int, schedule: Schedule | None = None) -> LedgerChecks:
    """Play one seed; a `Violation` says how to play it again."""
    market = Market(seed, schedule or draw(seed))
    try:
        return market.run()
    except (Violation, InvariantViolation) as violation:
        again = f"python -m tests.simulator.ledger {seed}"
        raise Violation(f"{violation}\nseed {seed}, height {market.height}\nrepeat with: {again}") from violation
