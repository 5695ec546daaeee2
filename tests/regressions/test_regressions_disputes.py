"""Mistakes that others published about dispute games, as far as `tests/ledger/test_ledger_disputes.py` has them not."""

from __future__ import annotations

import msgspec
from ledger_world import World
from test_ledger_disputes import SALT, challenge, cheated, find, play, wrong

from consensus.ledger.messages import OpenChallengeCommit, OpenChallengeReveal, challenge_commitment
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.schedule import game_blocks_max


def settled_after(accounts: int, rounds: int) -> int:
    """Blocks from false claims against an honest solver to its task's end; the claimants never move.

    In each round every account announces and shows another claim of its own.
    """
    world, task_id, solver, others = cheated(segment_step=99)
    began = world.height
    for turn in range(rounds):
        claims = [(who, wrong(turn, who.name.encode())) for who in others[:accounts]]
        bound = [challenge_commitment(who.address, task_id, claim, SALT) for who, claim in claims]
        world.block(
            *[(who.name, OpenChallengeCommit(task_id, 0, one)) for (who, _), one in zip(claims, bound, strict=True)]
        )
        shown = world.block(*[(who.name, OpenChallengeReveal(task_id, claim, SALT)) for who, claim in claims])
        assert all(result.applied for result in shown)
    assert len(world.task(task_id).disputes) == accounts * rounds
    play(world, solver)
    until_over(world, task_id)
    assert world.task(task_id).state == "finished"
    return world.height - began


def until_over(world: World, task_id: bytes) -> None:
    world.until(lambda: world.task(task_id).ended_height, limit=3_000)


def test_false_claims_of_many_accounts_delay_no_longer_than_one() -> None:
    """Dave, BoLD, 'Fraud proofs are broken': attackers that queue up, one game after the other, delay without end."""
    one, many = settled_after(1, 1), settled_after(3, 3)
    assert one <= many <= one + 4, "nine are played in parallel; two more rounds of announcing took four blocks"


def test_accomplices_that_let_their_clocks_run_out_in_turn_delay_no_longer_than_computed() -> None:
    """Chess clocks that begin anew with each party (reported of OP's game) add up: their sum is bounded, and known."""
    few = msgspec.structs.replace(devnet_parameters(), challengers_per_dispute_max=3, move_clock_blocks=40)
    world, task_id, solver, others = cheated(parameters=few)
    what = find(world, task_id)
    for accomplice in others:
        challenge(world, accomplice, task_id, what)
    assert len(world.task(task_id).disputes) == 1
    opened = world.height
    play(world, solver)
    while world.dispute(task_id).state == "open":
        world.step()
        assert world.height - opened <= len(others) * (game_blocks_max(few) + 2)
    assert world.dispute(task_id).state == "challenger_wrong"
    assert all(challenger.lost for challenger in world.dispute(task_id).challengers)
