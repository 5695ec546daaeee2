"""The simulation's rules are the ledger's: the same situations on the production ledger give the same money.

A market of simulated providers plays one task on the real ledger; who was drawn, what was drawn and who challenged are
read from its chain and given to `Play` as its fate. Then every account's gain, fees aside, must be equal to the unit.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import msgspec
import pytest

from consensus.ledger import messages as m
from consensus.ledger import queries
from consensus.ledger.block import Event
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.records import (
    DISPUTE_BOTH_WRONG,
    DISPUTE_DEFENDER_WRONG,
    DISPUTE_MOOT,
    OUTCOME_FORCED,
    Instalment,
    Verification,
)
from consensus.ledger.view import State
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.fate import BOTH_WRONG, LOSES, WINS, Work
from gensyn_node.economics.play import Play
from gensyn_node.economics.population import Population, provider
from gensyn_node.economics.shape import Shape
from gensyn_node.economics.strategies import OUTSIDER, SOLVER, TRUE, VERIFIER, Strategy
from gensyn_node.economics.table import Duty
from tests.simulator.ledger.characters import HONEST, Character
from tests.simulator.ledger.market import Market
from tests.simulator.ledger.other_actors import Submitter
from tests.simulator.ledger.stories import CALM
from tests.simulator.ledger.toy_program import ASK, execution, order

NEVER = 1 << 30
FREE = Assumptions(margin_bps=1 << 80, capital_bps_per_year=0, value_bps=0)
SEGMENTS = 6
CROWDS = {
    "honest": (Character(), "instalment_settled"),
    "wrong": (Character("wrong"), "solver proven wrong"),
    "wrong, and lazy": (Character("wrong", "lazy"), "instalment_settled"),
    "wrong, and lying": (Character("wrong", "lying"), "verdict proven wrong"),
    "lazy": (Character(verifier="lazy"), "evidence proven wrong"),
    "lying": (Character(verifier="lying"), "verdict proven wrong"),
    "withholding": (Character("withholding"), "the states were not served"),
    "idle": (Character("idle"), "solver missed its time"),
    "silent": (Character(verifier="silent"), "verifier missed its time"),
    "unrevealing": (Character(verifier="unrevealing"), "verifier missed its time"),
    "blind": (Character(verifier="blind"), "states_unavailable"),
    "false": (Character(watcher="false"), "challenger proven wrong"),
    "griefing": (Character(watcher="griefing"), "challenge not revealed"),
}
"""Three of these beside three honest ones, and what is to come to pass in some seed."""
FORCED = {
    "honest": "jackpot_paid",
    "wrong": "solver proven wrong",
    "lazy": "approved a forced error",
    "lying": "verdict proven wrong",
    "silent": "jackpot_paid",
    "idle": "jackpot_paid",
}
"""Of these, with forced errors in half of all instalments."""
FORCED_BPS = 5_000
WATCHED = ("lazy",)
"""Crowds among whose honest ones is a whistleblower."""
ACTS_OF_SOLVERS = {"idle": "idle"}
ACTS_OF_VERIFIERS = {"lying": "lie", "lazy": "lazy", "silent": "silent", "unrevealing": "unrevealing", "blind": "blind"}
ACTS_OF_WATCHERS = {"false": "false", "griefing": "announce"}


class OneTask(Submitter):
    """Submits tasks of one instalment."""

    def _order(self) -> m.TaskSpec:
        fields = {"steps": 2 * SEGMENTS, "segment_steps": 2, "instalments": 1, "samples": 2}
        fields["forced_error_bps"] = self.forced_error_bps
        return order(self.wallet.name, verifiers=self.rng.choice((1, 2, 3)), deadline_blocks=600, **fields)


class OneTaskMarket(Market):
    """A calm chain with one task."""

    submitter_class = OneTask


class Chain:
    """What happened to the one task of a market."""

    def __init__(self, seed: int, crowd: str, forced_error_bps: int = 0) -> None:
        parameters = msgspec.structs.replace(
            CALM.parameters, challengers_per_dispute_max=4, miss_slash_bps=300, watch_bps=0
        )
        cheat, _ = CROWDS[crowd]
        watched = crowd in WATCHED and not forced_error_bps
        characters = [Character(watcher=HONEST if watched else "none"), *[Character()] * 2, *[cheat] * 3]
        schedule = replace(CALM, characters=characters, tasks=1, traders=0, delegators=0, parameters=parameters)
        schedule = replace(schedule, forced_error_bps=forced_error_bps)
        self.market = OneTaskMarket(seed, schedule)
        self.actors = list(self.market.providers.values())
        self.attempts: dict[int, Instalment] = {}
        """The instalment at the end of each attempt."""
        self.slots: dict[int, dict[tuple[bytes, int], Verification]] = {}
        """Attempt -> by verifier and height of its draw, in the order of the draws."""
        self.watches: dict[int, dict[tuple[bytes, int], Verification]] = {}
        self.events: list[Event] = []
        self.pools: list[int] = []
        """What was in the jackpot pool each time that it was paid from."""
        self.fees: Counter[bytes] = Counter()
        self._run()
        self.task = queries.tasks(self.ledger, 1)[0]
        self.spec = queries.spec(self.ledger, self.task.task_id)
        self.verifiers = self.spec.verifiers if self.spec is not None else 0
        self.solvers = [self.agent(event.get("solver")) for event in self.events if event.kind == "task_assigned"]

    @property
    def ledger(self) -> MemoryLedger:
        """After the last block."""
        return self.market.ledger

    def agent(self, address: object) -> int:
        """Number of a provider."""
        return next(number for number, actor in enumerate(self.actors) if actor.address == address)

    def _run(self) -> None:
        market, ended = self.market, False
        while not ended or market.height < 30:
            before = queries.supply(market.ledger).jackpot_nano
            delta = market.step()
            if any(event.kind == "jackpot_paid" for event in delta.events):
                self.pools.append(before)
            self.events += delta.events
            for data, result in zip(market.blocks[-1][1], delta.results, strict=True):
                self.fees[m.decode_transaction(data).sender_address] += result.fee_nano
            for task in queries.tasks(market.ledger, 1):
                ended = bool(task.ended_height)
                for one in queries.instalments(market.ledger, task.task_id):
                    if one.verifications:
                        self.attempts[one.attempt] = one
                    slots = self.slots.setdefault(one.attempt, {})
                    watches = self.watches.setdefault(one.attempt, {})
                    for slot in one.verifications:
                        (watches if slot.watch else slots)[slot.verifier, slot.drawn_height] = slot

    def worth(self, agent: int) -> int:
        """What a provider gained, fees aside."""
        address = self.actors[agent].address
        record = queries.provider(self.ledger, address)
        assert record is not None
        balance = queries.account(self.ledger, address).balance_nano
        start = next(one.balance_nano for one in self.market.genesis.accounts if one.address == address)
        return balance + record.bond_nano - start + self.fees[address]

    def withheld(self, solver: bytes) -> bool:
        """Whether this solver serves no state."""
        return self.actors[self.agent(solver)].character.solver == "withholding"

    @property
    def partly(self) -> bool:
        """Whether a verifier had some states all the same (of others who had them, or the very first): no such thing
        is in the simulation, where states are served or not."""
        served = False
        for event in self.events:
            if event.kind == "task_assigned":
                served = not self.withheld(bytes(event.get("solver") or b""))  # type: ignore[arg-type]
            if event.kind == "verdict_revealed" and not served and event.get("approved"):
                return True
        return False

    def bad_segments(self, one: Instalment) -> frozenset[int]:
        """Segments whose claimed end does not follow from their claimed start."""
        bad, start = set(), one.start_root
        for position, end in enumerate(one.segment_roots):
            run = execution(self.task.seed, self.market.store.remember(start) or ())
            if run.root(2 * (position + 1)) != end:
                bad.add(position)
            start = end
        return frozenset(bad)


class Recorded:
    """The fate of a task, as it was on a chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain, self.attempt, self.height = chain, 0, 0
        self.heights: list[int] = []
        self.group: list[Verification] = []
        self.solvers = iter(chain.solvers)

    def solver(self, gone: Collection[int], cheat_first: bool) -> int | None:
        self.attempt += 1
        self.heights = sorted({height for _, height in self.chain.slots.get(self.attempt, {})})
        self.height = 0
        return next(self.solvers, None)

    def work(self, act: str, segments: int) -> Work:
        now = self.chain.attempts[self.attempt]
        hidden = frozenset(range(segments)) if self.chain.withheld(now.solver) else frozenset()
        return Work(self.chain.bad_segments(now), 0, hidden)

    def forced(self, segments: int, chance_bps: int) -> int | None:
        now = self.chain.attempts[self.attempt]
        return now.forced_segment - now.first_segment if now.outcome == OUTCOME_FORCED else None

    def verifiers(self, count: int, out: Collection[int], solver: int) -> list[int]:
        """In the order in which they were drawn. Who takes the place of others is of the same round as they are."""
        now, following = self.chain.attempts[self.attempt], next(iter(self.heights), NEVER)
        rounds = [slot.drawn_height for slot in now.verifications if now.second_round and not slot.watch]
        if self.height < min(rounds, default=0) <= following and count < self.chain.verifiers:
            return []
        self.heights, self.height = self.heights[1:], following
        slots = self.chain.slots.get(self.attempt, {})
        self.group = [slot for (_, drawn), slot in slots.items() if drawn == self.height]
        return [self.chain.agent(slot.verifier) for slot in self.group]

    def watch(self, taken: Collection[int], claimed: Sequence[int], chance_bps: int) -> tuple[int, int] | None:
        """The one that was drawn after these verifiers and before the next."""
        later = (height for _, height in self.chain.slots.get(self.attempt, {}) if height > self.height)
        following = min(later, default=NEVER)
        for slot in self.chain.watches.get(self.attempt, {}).values():
            agent = self.chain.agent(slot.verifier)
            if self.height < slot.drawn_height < following:
                assert chance_bps and slot.segments[0] in claimed and agent not in taken
                return agent, slot.segments[0]
        return None

    def rank(self, agent: int) -> tuple[int, int]:
        """The order of reveals, and before all that the order in which disputes were decided."""
        address = self.chain.actors[agent].address
        shown = [e.get("verifier") for e in self.chain.events if e.kind == "verdict_revealed"]
        ended = [e.subject for e in self.chain.events if e.kind == "dispute_resolved"]
        decided = [one for one in self._disputes() if one.state != DISPUTE_MOOT]
        own = [ended.index(one.dispute_id) for one in decided if one.challengers[0].address == address]
        return min(own, default=NEVER), shown.index(address) if address in shown else NEVER

    def segments(self, agent: int, segments: int, samples: int) -> tuple[int, ...]:
        address = self.chain.actors[agent].address
        return next(slot.segments for slot in self.group if slot.verifier == address)

    def compares(self, agent: int) -> bool:
        return False

    def lie(self, agent: int) -> str:
        """How the dispute went that it opened, or joined after another's lie about the same segment."""
        address = self.chain.actors[agent].address
        challengers = ((one, each) for one in self._disputes() for each in one.challengers)
        own, mine = next((one, each) for one, each in challengers if each.address == address)
        if own.state == DISPUTE_BOTH_WRONG and mine == own.challengers[own.lead]:
            return BOTH_WRONG
        return LOSES if mine.lost or own.state != DISPUTE_DEFENDER_WRONG else WINS

    def watcher(self, taken: Collection[int], approved: Sequence[int]) -> tuple[int, int] | None:
        """An honest challenger from outside."""
        for dispute in self._disputes():
            finder = self.chain.agent(dispute.challengers[0].address)
            if dispute.challengers[0].address != b"" and self.chain.actors[finder].character.watcher == HONEST:
                return finder, dispute.segment
        return None

    def griefers(self, taken: Collection[int]) -> list[int]:
        """False ones."""
        actors = [actor for actor in self.chain.actors if actor.character.watcher in ACTS_OF_WATCHERS]
        return [self.chain.agent(actor.address) for actor in actors if self._challenged(actor.address)]

    def _challenged(self, address: bytes) -> bool:
        sent = [e for e in self.chain.events if e.kind == "challenge_committed" and e.get("challenger") == address]
        return bool(sent)

    def _disputes(self) -> list[queries.DisputeRecord]:
        state = State(self.chain.ledger)
        found = (state.dispute(dispute_id) for dispute_id in self.chain.task.disputes)
        return [one for one in found if one.attempt == self.attempt]


class PlayWithPools(Play):
    """Pays jackpots out of what the chain had in its pool."""

    pools: Iterator[int]

    def _pay_jackpot(self, claimants: list[Duty]) -> None:
        if claimants:
            self.pool_nano = next(self.pools)
        super()._pay_jackpot(claimants)


def strategy_of(chain: Chain, agent: int) -> Strategy:
    """What the simulation calls what it does."""
    character = chain.actors[agent].character
    acts = Strategy(
        str(character),
        "",
        "",
        solver=ACTS_OF_SOLVERS.get(character.solver, HONEST),
        verifier=ACTS_OF_VERIFIERS.get(character.verifier, HONEST),
        outsider=ACTS_OF_WATCHERS.get(character.watcher, ""),
    )
    counts = {SOLVER: acts.solver != HONEST, VERIFIER: acts.verifier != HONEST, OUTSIDER: bool(acts.outsider)}
    return replace(acts, counts=next((role for role, does in counts.items() if does), "")) if acts != TRUE else acts


def check(seed: int, crowd: str, forced_error_bps: int = 0) -> Counter[str]:
    """One market and its simulation; what it reached."""
    chain = Chain(seed, crowd, forced_error_bps)
    if chain.partly:
        return Counter({"partly": 1})
    assert chain.spec is not None
    shape = Shape(chain.spec, chain.task.gas_per_step)
    agents = tuple(provider(number, 1, ASK) for number in range(len(chain.actors)))
    population = Population(agents, tuple(strategy_of(chain, agent) for agent in range(len(agents))))
    play = PlayWithPools(population, shape, chain.market.parameters, FREE, Recorded(chain))
    play.pools = iter(chain.pools)
    play.fees = type(play.fees)(*(0 for _ in play.fees.__slots__))
    result = play.task()
    simulated: Counter[int] = Counter()
    for duty in result.duties:
        simulated[duty.agent] += duty.profit_nano
    for agent in range(len(chain.actors)):
        shown = f"seed {seed} {crowd}: {chain.actors[agent].character}"
        assert simulated[agent] == chain.worth(agent), shown
    supply = queries.supply(chain.ledger)
    assert result.jackpot_nano == supply.jackpot_nano
    return Counter(event.kind for event in chain.events) + Counter(
        str(event.get("why")) for event in chain.events if event.kind == "slashed"
    )


@pytest.mark.parametrize("crowd", CROWDS)
def test_every_account_gains_on_the_ledger_what_the_simulation_says(crowd: str) -> None:
    wanted = CROWDS[crowd][1]
    assert any(check(seed, crowd)[wanted] for seed in range(20)), f"no seed reached: {wanted}"


@pytest.mark.parametrize("crowd", FORCED)
def test_with_forced_errors_too(crowd: str) -> None:
    assert any(check(seed, crowd, FORCED_BPS)[FORCED[crowd]] for seed in range(20)), f"no seed: {FORCED[crowd]}"


def test_a_lie_about_what_is_wrong_may_win_lose_or_take_the_solver_down_with_it() -> None:
    """A root that was made up need not be where the dispute ends."""
    met: dict[str, int] = {}
    for seed in range(100):
        chain = Chain(seed, "wrong, and lying")
        solvers = {chain.agent(one.solver) for one in chain.attempts.values() if chain.bad_segments(one)}
        for event in chain.events:
            if event.kind == "dispute_resolved" and solvers:
                met.setdefault(str(event.get("outcome")), seed)
        if {DISPUTE_BOTH_WRONG, DISPUTE_DEFENDER_WRONG} <= met.keys():
            break
    for seed in (met[DISPUTE_BOTH_WRONG], met[DISPUTE_DEFENDER_WRONG]):
        assert check(seed, "wrong, and lying")["solver proven wrong"]


@pytest.mark.soak
def test_many_situations_on_the_ledger_and_in_the_simulation() -> None:
    for seed in range(int(os.environ.get("ECONOMICS_SEEDS", "25"))):
        for crowd in CROWDS:
            check(seed, crowd)
            if crowd in FORCED:
                check(seed, crowd, FORCED_BPS)
