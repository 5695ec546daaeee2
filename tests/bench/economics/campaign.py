"""Tasks on the production ledger with a fifth of the providers dishonest, and what verifying them cost.

Each market is a calm chain of its own (`tests.simulator.ledger`): providers, a submitter, every check of the simulator
after every block, a replay at the end. All kinds of cheats take their turn. Counted are work (segments trained and
re-executed), messages and bytes, whether a task was left unfinished, and who lost a bond.
"""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from consensus.ledger import messages as m
from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.duties import Audit, Duty, SegmentWork
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.records import TASK_FINISHED, Task
from tests.simulator.ledger.characters import DISPUTANTS, HONEST, SOLVERS, VERIFIERS, Character
from tests.simulator.ledger.market import BALANCE, Market
from tests.simulator.ledger.other_actors import Submitter
from tests.simulator.ledger.provider_actors import ProviderActor
from tests.simulator.ledger.stories import CALM
from tests.simulator.ledger.toy_program import History, order

CHEATS = (
    *(Character(solver=kind) for kind in SOLVERS),
    *(Character(verifier=kind) for kind in VERIFIERS),
    *(Character(solver="wrong", disputant=kind) for kind in DISPUTANTS),
    *(Character(watcher=kind) for kind in ("false", "griefing", "thief")),
    Character("wrong", "lazy"),
    Character("wrong", "lying", "stalling", "false"),
)
"""Every kind, and two that hop between roles."""
PARAMETERS = msgspec.structs.replace(
    CALM.parameters,
    verifications_per_provider_max=devnet_parameters().verifications_per_provider_max,
    verify_blocks_base=30,
    miss_slash_bps=devnet_parameters().miss_slash_bps,
)
"""Short times, so that a market takes seconds; yet a crowd of tasks finds its verifiers as on a devnet."""
NODES = 10
DISHONEST_PERCENT = 20
TASKS_A_MARKET = 20


@dataclass
class Books:
    """What was done, in all."""

    tasks: int = 0
    finished: int = 0
    honest_slashed: int = 0
    dishonest_slashed: int = 0
    trained: int = 0
    """Segments whose roots were committed."""
    checked: int = 0
    """Segments that verifiers re-executed."""
    audited: int = 0
    """Segments that whistleblowers re-executed."""
    useful: int = 0
    """Segments of finished tasks."""
    fetched: int = 0
    """States fetched by verifiers."""
    messages: Counter[str] = field(default_factory=Counter)
    """Transactions in blocks, by kind; a bare name counts, `bytes` sums."""
    gain_nano: dict[str, list[int]] = field(default_factory=dict)
    """What providers of each kind gained, fees included."""

    def add(self, other: Books) -> None:
        """Put another market's books on top."""
        for name in ("tasks", "finished", "honest_slashed", "dishonest_slashed", "trained", "checked", "audited"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.useful, self.fetched = self.useful + other.useful, self.fetched + other.fetched
        self.messages.update(other.messages)
        for kind, gains in other.gain_nano.items():
            self.gain_nano.setdefault(kind, []).extend(gains)


class CountingActor(ProviderActor):
    """Counts what it executes."""

    books: Books = Books()

    def _commit(self, reader: Reader, task: Task, duty: Duty, start: History) -> m.CommitInstalment:
        made = super()._commit(reader, task, duty, start)
        self.books.trained += len(made.segment_roots)
        return made

    def _finding(self, task: Task, work: SegmentWork, kind: str) -> m.Finding:
        found = super()._finding(task, work, kind)
        looked = kind != "lazy" and found.verdict != m.UNAVAILABLE
        self.books.checked += looked
        self.books.fetched += looked and work.first_step > 0
        return found

    def _wrong(self, reader: Reader, task: Task, audit: Audit) -> m.Challenge | None:
        self.books.audited += len(audit.segments)
        return super()._wrong(reader, task, audit)


@dataclass(frozen=True)
class Plan:
    """One market."""

    seed: int
    tasks: int = TASKS_A_MARKET
    nodes: int = NODES
    dishonest_percent: int = DISHONEST_PERCENT
    segments: int = 6
    """0: sizes vary."""
    instalments: int = 2
    verifiers: int = 2
    samples: int = 2


class PlannedSubmitter(Submitter):
    """Submits the plan's tasks."""

    plan = Plan(0)

    def _order(self) -> m.TaskSpec:
        plan = self.plan
        return order(
            f"{self.wallet.name} {self.submitted}",
            steps=2 * plan.segments,
            segment_steps=2,
            instalments=plan.instalments,
            verifiers=plan.verifiers,
            samples=plan.samples,
            deadline_blocks=3_000,
        )


def play(plan: Plan) -> Books:
    """One market to the end of all its tasks."""
    rng = random.Random(f"economics {plan.seed}")
    cheats = plan.nodes * plan.dishonest_percent // 100
    turn = plan.seed * cheats
    characters = [CHEATS[(turn + number) % len(CHEATS)] for number in range(cheats)]
    characters += [Character(watcher=HONEST if number == 0 else "none") for number in range(plan.nodes - cheats)]
    rng.shuffle(characters)
    books = Books()
    actor = type("Actor", (CountingActor,), {"books": books})
    submitter = type("Submitter", (PlannedSubmitter,), {"plan": plan})
    market_class = type("PlannedMarket", (Market,), {"provider_class": actor, "submitter_class": submitter})
    schedule = replace(
        CALM,
        parameters=PARAMETERS,
        characters=characters,
        tasks=plan.tasks,
        traders=0,
        delegators=0,
        busy_blocks=4 * plan.tasks + 20,
    )
    market = market_class(plan.seed, schedule)
    checks = market.run()
    _count(market, books, plan)
    books.honest_slashed = checks.seen["an honest party that was kept from acting was slashed"]
    return books


def _count(market: Market, books: Books, plan: Plan) -> None:
    for _, transactions, _ in market.blocks:
        for data in transactions:
            transaction = m.decode_transaction(data)
            if isinstance(transaction.message, _OF_TASKS):
                name = type(transaction.message).__name__
                books.messages[name] += 1
                books.messages[f"{name} bytes"] += len(data)
    for task in queries.tasks(market.ledger, plan.tasks):
        books.tasks += 1
        books.finished += task.state == TASK_FINISHED
        books.useful += plan.segments if task.state == TASK_FINISHED else 0
    for actor in market.providers.values():
        record = queries.provider(market.ledger, actor.address)
        if record is not None:
            gain = queries.account(market.ledger, actor.address).balance_nano + record.bond_nano - BALANCE
            kind = HONEST if actor.character.honest else kind_of(actor.character)
            books.gain_nano.setdefault(kind, []).append(gain)
            books.dishonest_slashed += not actor.character.honest and record.slashed_nano > 0


_OF_TASKS = (
    m.SubmitTask,
    m.StartTask,
    m.Heartbeat,
    m.CommitInstalment,
    m.VerdictCommit,
    m.VerdictReveal,
    m.OpenChallengeCommit,
    m.OpenChallengeReveal,
    m.DisputeMove,
)


def kind_of(character: Character) -> str:
    """In a few words."""
    words = [
        f"{kind} {role}"
        for role, kind in zip(
            ("solver", "verifier", "disputant", "watcher"),
            (character.solver, character.verifier, character.disputant, character.watcher),
            strict=True,
        )
        if kind not in (HONEST, "none")
    ]
    return ", ".join(words)


def play_all(plans: list[Plan], jobs: int) -> Iterator[Books]:
    """Many markets, in processes."""
    if jobs == 1:
        yield from map(play, plans)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(play, plans)


def total(plans: list[Plan], jobs: int = 1) -> Books:
    """The books of many markets together."""
    books = Books()
    for one in play_all(plans, jobs):
        books.add(one)
    return books


def figures(books: Books) -> dict[str, Any]:
    """Overheads a task."""
    names = [name for name in books.messages if not name.endswith(" bytes")]
    size = sum(books.messages[f"{name} bytes"] for name in names)
    return {
        "tasks": books.tasks,
        "unfinished": books.tasks - books.finished,
        "honest_slashed": books.honest_slashed,
        "verification_per_training": round(books.checked / max(1, books.trained), 4),
        "audits_per_training": round(books.audited / max(1, books.trained), 4),
        "training_in_vain": round(1 - books.useful / max(1, books.trained), 4),
        "messages_per_task": round(sum(books.messages[name] for name in names) / max(1, books.tasks), 2),
        "chain_bytes_per_task": round(size / max(1, books.tasks), 1),
        "states_fetched_per_task": round(books.fetched / max(1, books.tasks), 2),
    }
