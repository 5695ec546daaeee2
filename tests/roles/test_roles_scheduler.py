"""One job at a time: the most urgent first, at a segment's end, never in between."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from consensus.ledger.duties import DUTY_MOVE, DUTY_REVEAL, DUTY_TRAIN, DUTY_VERIFY, Duty
from gensyn_node.roles.scheduler import (
    AUDIT,
    CLAIM,
    DISPUTE,
    PREPARATION,
    TRAINING,
    VERIFICATION,
    Claim,
    Turnstile,
    Waiting,
    claim_of,
    first_of,
)


@pytest.mark.parametrize(
    ("waiting", "first"),
    [
        ([], None),
        ([(TRAINING, 5), (AUDIT, 1)], 0),
        ([(AUDIT, 0), (TRAINING, 5), (VERIFICATION, 900)], 2),
        ([(VERIFICATION, 900), (DISPUTE, 950)], 1),
        ([(VERIFICATION, 900), (VERIFICATION, 800)], 1),
        ([(TRAINING, 900), (TRAINING, 800)], 0),
        ([(TRAINING, 1), (PREPARATION, 900)], 1),
        ([(VERIFICATION, 7), (VERIFICATION, 7)], 0),
    ],
)
def test_who_is_next(waiting: list[tuple[int, int]], first: int | None) -> None:
    line = [Waiting(Claim(urgency, due), number) for number, (urgency, due) in enumerate(waiting)]
    assert first_of(line) == (None if first is None else line[first])


def test_claims_of_duties() -> None:
    urgencies = [claim_of(Duty(kind, bytes(32), 1, 0, 77), 5).urgency for kind in (DUTY_MOVE, DUTY_VERIFY, DUTY_TRAIN)]
    assert urgencies == [DISPUTE, VERIFICATION, TRAINING]
    assert claim_of(Duty(DUTY_REVEAL, bytes(32), 1, 0, 77), 5) == Claim(AUDIT, 77, 5)


async def _train(turnstile: Turnstile, segments: int, done: list[str], hold: dict[str, trio.Event]) -> None:
    for number in range(segments):
        async with turnstile.turn(Claim(TRAINING)):
            done.append(f"segment {number} begins")
            if number == 1:
                hold["training"].set()
                await hold["go on"].wait()
            done.append(f"segment {number} ends")


async def _once(turnstile: Turnstile, claim: Claim, name: str, done: list[str]) -> None:
    async with turnstile.turn(claim):
        done.append(name)


def test_a_verification_goes_before_the_next_segment_and_the_training_goes_on_from_there() -> None:
    done: list[str] = []

    async def main() -> None:
        turnstile, hold = Turnstile(), {"training": trio.Event(), "go on": trio.Event()}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_train, turnstile, 3, done, hold)
            await hold["training"].wait()
            for claim, name in (
                (Claim(AUDIT), "audit"),
                (Claim(VERIFICATION, 90), "due later"),
                (Claim(VERIFICATION, 80), "due sooner"),
                (Claim(DISPUTE, 500), "move"),
            ):
                nursery.start_soon(_once, turnstile, claim, name, done)
                await trio.testing.wait_all_tasks_blocked()
            assert turnstile.holder == "training"
            assert turnstile.queue == ("dispute", "verification", "verification", "audit")
            hold["go on"].set()
        assert (turnstile.busy, turnstile.holder, turnstile.queue) == (False, "", ())

    trio.run(main)
    assert done == [
        "segment 0 begins",
        "segment 0 ends",
        "segment 1 begins",
        "segment 1 ends",
        "move",
        "due sooner",
        "due later",
        "segment 2 begins",
        "segment 2 ends",
        "audit",
    ]


def test_who_gives_up_waiting_or_fails_inside_blocks_nobody() -> None:
    done: list[str] = []

    async def main() -> None:
        turnstile = Turnstile()
        with pytest.raises(ValueError, match="died"):
            async with turnstile.turn(Claim(TRAINING)):
                raise ValueError("the worker died")
        async with turnstile.turn(Claim(TRAINING)), trio.open_nursery() as nursery:
            nursery.start_soon(_once, turnstile, Claim(VERIFICATION), "given up", done)
            await trio.testing.wait_all_tasks_blocked()
            assert turnstile.queue == ("verification",)
            nursery.cancel_scope.cancel()
        assert turnstile.queue == ()
        await _once(turnstile, Claim(AUDIT), "after all", done)
        assert not turnstile.busy

    trio.run(main)
    assert done == ["after all"]


def test_let_in_and_cancelled_at_once_leaves_the_turn_to_the_next() -> None:
    done: list[str] = []

    async def main() -> None:
        turnstile = Turnstile()
        async with trio.open_nursery() as nursery, trio.open_nursery() as doomed, turnstile.turn(Claim(TRAINING)):
            doomed.start_soon(_once, turnstile, Claim(VERIFICATION), "doomed", done)
            nursery.start_soon(_once, turnstile, Claim(AUDIT), "next", done)
            await trio.testing.wait_all_tasks_blocked()
            doomed.cancel_scope.cancel()  # And nobody runs before the turn is passed on.
        assert not turnstile.busy

    trio.run(main)
    assert done == ["next"]


def test_tasks_started_for_a_piece_of_work_inherit_its_claim() -> None:
    found: list[Any] = []

    async def child() -> None:
        await trio.lowlevel.checkpoint()
        found.append(CLAIM.get())

    async def work(claim: Claim) -> None:
        CLAIM.set(claim)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, Claim(TRAINING, 1))
            nursery.start_soon(work, Claim(VERIFICATION, 2))
        found.append(CLAIM.get())

    trio.run(main)
    assert {found[0], found[1]} == {Claim(TRAINING, 1), Claim(VERIFICATION, 2)} and found[2] == Claim(AUDIT)
