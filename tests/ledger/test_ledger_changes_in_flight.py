"""Parameters change while tasks are trained, verified and disputed: every block is audited, and every task ends."""

from __future__ import annotations

import random

import msgspec
import pytest
from ledger_world import GSN, Actor, World, key, spec

from consensus.ledger import queries
from consensus.ledger.messages import Message, SubmitTask
from consensus.ledger.parameter_bounds import BOUNDS
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import YES, CastVote, ChangeParameters, NewValue, Propose
from consensus.ledger.view import State

NAMES = [
    name
    for name, bound in BOUNDS.items()
    if not bound.fixed and name not in ("voting_blocks", "enactment_blocks", "unbonding_blocks", "stake_min_nano")
]
TIMES_MAX = 60
"""Longest time in blocks that these changes make: so that the test ends, not so that the task does."""
QUICK = msgspec.structs.replace(
    devnet_parameters(),
    proposal_deposit_nano=GSN,
    voting_blocks=10,
    enactment_blocks=1,
    train_blocks_base=40,
    verify_blocks_base=20,
    reveal_blocks=10,
    move_clock_blocks=30,
    move_extension_blocks=5,
    heartbeat_blocks=30,
    start_blocks=10,
)


def random_change(rng: random.Random) -> ChangeParameters:
    changes = []
    for name in rng.sample(NAMES, rng.randint(1, 5)):
        bound, present = BOUNDS[name], getattr(QUICK, name)
        most = min(bound.most, TIMES_MAX if "blocks" in name and "deadline" not in name else bound.most)
        wanted = [bound.least, most, present, rng.randint(bound.least, max(bound.least, most))]
        changes.append(NewValue(name, min(rng.choice(wanted), bound.most)))
    return ChangeParameters(tuple(changes))


class Story(World):
    """Actors do their duties while the operator changes parameters again and again."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(QUICK)
        self.rng = rng
        self.enacted = 0

    def step_with(self, *more: tuple[str, Message]) -> None:
        """One block of duties and other messages, all at the fees in force."""
        self.parameters = queries.parameters(self.ledger)
        duties = [(actor.name, message) for actor in self.actors.values() for message in actor.act(self)]
        self.block(*more, *duties)

    def govern(self) -> tuple[tuple[str, Message], ...]:
        """A vote on what is open, or else a new proposal."""
        state = State(self.ledger)
        if not state.governance.voting:
            return (("operator", Propose("change", "", random_change(self.rng))),)
        last = state.governance.voting[-1]
        return (("operator", CastVote(last, key("validator").address, YES)),)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_changes_under_them_tasks_end_and_books_balance(seed: int) -> None:
    rng = random.Random(seed)
    world = Story(rng)
    for name in ("alice", "bob", "carol", "dave", "erin"):
        faults = (rng.randrange(12),) if rng.random() < 0.4 else ()
        world.register(Actor(name, faults=faults, lazy=rng.random() < 0.2, silent=False))
    submitted = [world.submit(spec(deadline_blocks=150, max_price_nano=20 * GSN)) for _ in range(2)]
    for _ in range(150):
        world.step_with(*world.govern())
    for actor in world.actors.values():
        actor.silent = rng.random() < 0.5
    for _ in range(1_500):
        if all(world.task(task_id).ended_height for task_id in submitted):
            break
        world.step_with()
    assert all(world.task(task_id).ended_height for task_id in submitted)
    assert world.kinds().count("proposal_enacted") >= 2
    later = SubmitTask(spec(deadline_blocks=queries.parameters(world.ledger).task_deadline_blocks_max))
    world.parameters = queries.parameters(world.ledger)
    assert world.block(("submitter", later))[0].code in ("", "E1204", "E1308", "E1310")
