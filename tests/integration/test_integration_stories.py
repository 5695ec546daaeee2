"""The stories of the demonstration, each on a fresh network of four real nodes: how they have to end, to the nano.

What a network of strangers trained is, bit for bit, what anybody gets alone: by a plain loop over the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from integration_net import Told, gensyn_alone, recompute

from consensus.ledger.parameters import devnet_parameters
from gensyn_node.devnet.scenario import scenario_names
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX, PROGRAM_BYTES_MAX
from gensyn_node.roles.cheats import fault_for, parse_cheat
from proofs.pinpoint.arbitration import pieces_of
from proofs.pinpoint.context import Context
from proofs.pinpoint.strategy import expected_moves
from proofs.pinpoint.types import SEGMENT, Claim, Target
from proofs.program.types import Program

pytestmark = pytest.mark.integration

Tell = Callable[[str], Told]
ACCURACY = 0.95
REWARD_NANO = devnet_parameters().block_reward_nano


def check_success(told: Told) -> None:
    """What holds at the end of every story."""
    ending = told.ending
    assert ending.failures == ()
    assert ending.state == "finished"
    assert ending.accuracy >= ACCURACY
    assert ending.certificate_valid
    assert ending.money_conserved
    for book in (ending.before, ending.after):
        assert book.total_nano == book.supply["minted"]
    blocks, rest = divmod(ending.after.total_nano - ending.before.total_nano, REWARD_NANO)
    assert blocks > 0 and rest == 0, "new money is so many block rewards and nothing else"
    assert ending.after.supply["escrows"] == 0
    record, spec = told.certificate.record, told.certificate.spec
    assert record.steps_settled == spec.steps >= 600
    assert record.solver_paid_nano > 0
    assert record.verifiers_paid_nano > 0
    paid = record.solver_paid_nano + record.verifiers_paid_nano + record.refunded_nano
    assert paid == spec.max_price_nano, "every nano of the escrow is paid out or back"
    assert told.last("verified").model_checked


def test_strangers_train_verify_and_are_paid(story: Tell) -> None:
    told = story("honest")
    check_success(told)
    ending = told.ending
    assert ending.disputes == ()
    assert ending.slashed == ()
    assert ending.verdicts >= 4, "two verifiers in each of two instalments"
    assert ending.segments_verified > 0
    assert ending.before.supply["bonds"] == ending.after.supply["bonds"]
    for solver in ending.solvers:
        assert ending.after.accounts[solver] > ending.before.accounts[solver]
    assert ending.after.accounts["client"] < ending.before.accounts["client"]


def test_the_final_state_is_that_of_a_plain_loop_whatever_the_processor(story: Tell) -> None:
    told = story("honest")
    root = told.certificate.record.final_root.hex()
    assert told.last("task")["record"]["settled_root"] == root
    data = told.folder / "digits.npz"
    runs = [
        recompute(told.certificate_path, data, "reference", threads=1),
        recompute(told.certificate_path, data, "reference", threads=2, ATEN_CPU_CAPABILITY="default"),
        recompute(told.certificate_path, data, "kernels", threads=1, ATEN_CPU_CAPABILITY="default"),
        recompute(told.certificate_path, data, "kernels", threads=2),
    ]
    for run in runs:
        print(run)
    assert runs[1]["processor"] == runs[2]["processor"] == "DEFAULT"
    assert [run["root"] for run in runs] == [root] * len(runs)


def test_another_seed_gives_another_state(story: Tell) -> None:
    """The comparison above can fail: the two stories trained the same task from different seeds."""
    honest, cheated = story("honest").certificate.record, story("flip-bit").certificate.record
    assert honest.program_id == cheated.program_id
    assert honest.dataset_root == cheated.dataset_root
    assert honest.seed != cheated.seed
    assert honest.final_root != cheated.final_root


def test_a_flipped_bit_is_narrowed_down_to_its_operator_and_slashed(story: Tell) -> None:
    told = story("flip-bit")
    check_success(told)
    ending = told.ending
    assert ending.slashed == ending.cheaters == ("node3",)
    assert not set(ending.solvers) & set(ending.cheaters)
    program: Program = decode(Program, told.certificate.program, max_bytes=PROGRAM_BYTES_MAX)
    fault = fault_for(parse_cheat("flip-bit@step=37"), program)
    assert fault is not None
    assert ending.disputes
    for dispute in ending.disputes:
        assert dispute.outcome == dispute.replayed_outcome == "defender_wrong"
        assert dispute.step == fault.step == 37
        assert dispute.operator == program.nodes[fault.value - program.first_node_value].operator
        assert dispute.moves == moves_by_formula(told, program)
        assert 0 < dispute.arbitration_bytes <= ARBITRATION_BYTES_MAX
    bond_nano = told.last("quote").solver_bond_nano
    before, after = ending.before.supply, ending.after.supply
    assert before["bonds"] - after["bonds"] == bond_nano, "the whole bond of the task, and nobody else's"
    lost = ending.before.accounts["node3"] - ending.after.accounts["node3"]
    assert bond_nano <= lost < bond_nano * 1.01, "the bond and some fees"
    assert after["burnt"] > before["burnt"]


def moves_by_formula(told: Told, program: Program) -> int:
    """Moves of a dispute over the scenario's flipped bit: it is in the first tile, whose last piece differs."""
    spec, record = told.certificate.spec, told.certificate.record
    fault = fault_for(parse_cheat("flip-bit@step=37"), program)
    assert fault is not None
    first_step = fault.step // spec.segment_steps * spec.segment_steps
    claim = Claim(SEGMENT, first_step, spec.segment_steps, bytes(32), bytes(32), b"", bytes(32))
    context = Context(program, spec.dataset, record.seed)
    pieces = pieces_of(claim, Target(fault.step, fault.value, (), b""), 0, context)
    return expected_moves(claim, context, fault.step, fault.value, 0, pieces - 1)


@pytest.mark.soak
@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_ends_as_it_should(name: str) -> None:
    """By the command."""
    told = gensyn_alone("devnet", "scenario", name)
    assert told["failures"] == []
    assert told["lines"] and all(line["slashed_nano"] == line["noted_nano"] for line in told["lines"])
