"""The promise in plain numbers, against counting; the full replay and the higher stake, on the ledger."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import msgspec
import pytest
from ledger_world import ASK, GSN, World, spec

from consensus.ledger.guarantee import PPM, caught, guarantee
from consensus.ledger.messages import SubmitTask
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.schedule import solver_bond, verifier_bond, verify_blocks
from consensus.ledger.tasks import SOLVER_BOND_BPS_MAX
from gensyn_node.primitives import limits

GAS = 12
ALL = limits.SEGMENTS_PER_INSTALMENT_MAX
CREW = ("alice", "bob", "carol", "dave")


@pytest.mark.parametrize(
    ("count", "samples", "bad", "verifiers"), [(6, 2, 1, 2), (5, 2, 2, 1), (4, 4, 1, 2), (5, 1, 1, 2)]
)
def test_the_chance_to_catch_is_what_counting_gives(count: int, samples: int, bad: int, verifiers: int) -> None:
    draws = list(combinations(range(count), samples))
    missing = sum(all(segment >= bad for segment in draw) for draw in draws)
    assert caught(count, samples, bad, verifiers) == 1 - Fraction(missing, len(draws)) ** verifiers


def test_bought_verifiers_make_the_chance_smaller() -> None:
    honest = guarantee(spec(), GAS, ASK, devnet_parameters())
    third = guarantee(spec(), GAS, ASK, devnet_parameters(), dishonest_bps=3_333)
    assert 0 < third.one_bad_ppm < honest.one_bad_ppm
    assert guarantee(spec(), GAS, ASK, devnet_parameters(), dishonest_bps=10_000).one_bad_ppm == 0


def test_the_largest_gain_is_where_cheating_breaks_even() -> None:
    promise = guarantee(spec(), GAS, ASK, devnet_parameters())
    chance = promise.one_bad_ppm / PPM
    assert promise.gain_max_nano is not None
    loss = chance * promise.solver_stake_nano
    assert abs((1 - chance) * promise.gain_max_nano - loss) < 1e-5 * loss
    assert (promise.segments, promise.checked_least, promise.checked_most, promise.full) == (6, 4, 6, False)


def test_a_full_replay_catches_everything() -> None:
    order = spec(samples=ALL)
    promise = guarantee(order, GAS, ASK, devnet_parameters())
    assert promise.full and promise.checked_least == promise.checked_most == promise.segments == 6
    assert promise.one_bad_ppm == promise.tenth_bad_ppm == PPM and promise.gain_max_nano is None


def test_a_full_replay_is_paid_for_every_segment_and_has_the_time_it_takes() -> None:
    world = World()
    world.crew(*CREW)
    order = spec(samples=ALL)
    assert verify_blocks(order, 10**9, world.parameters) == verify_blocks(spec(samples=3), 10**9, world.parameters)
    task_id = world.submit(order)
    task = world.finish(task_id)
    assert task.state == "finished"
    assert [len(slot.segments) for slot in world.instalment(task_id).verifications] == [3, 3]
    assert task.verifiers_paid_nano == 2 * task.solver_paid_nano


def test_a_full_replay_catches_one_wrong_step() -> None:
    world = World()
    world.crew(*CREW)
    task_id = world.submit(spec(samples=ALL, instalments=1, verifiers=1))
    solver = world.solver_of(task_id)
    solver.faults = (11,)
    assert world.finish(task_id).state == "finished"
    assert "solver_slashed" in world.kinds()


def test_a_task_s_own_stake_binds_solver_and_verifiers() -> None:
    world = World()
    world.crew(*CREW)
    task_id = world.submit(spec(solver_bond_bps=240_000, max_price_nano=9 * GSN))
    world.solver_of(task_id)
    task = world.task(task_id)
    price = solver_bond(
        spec(), task.gas_per_step, ASK, msgspec.structs.replace(world.parameters, solver_bond_min_nano=0)
    )
    expected = max(4 * price, world.parameters.solver_bond_min_nano)
    assert task.solver_bond_nano == expected
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).verifications)
    bond = world.instalment(task_id).verifications[0].bond_nano
    assert bond == verifier_bond(expected, world.parameters)
    assert world.finish(task_id).state == "finished"


@pytest.mark.parametrize("bps", [1, 59_999, SOLVER_BOND_BPS_MAX + 1])
def test_a_stake_below_the_chain_s_or_beyond_all_bounds_is_refused(bps: int) -> None:
    world = World()
    world.submit()
    assert world.refused("submitter", SubmitTask(spec(solver_bond_bps=bps))) == "E1308"
