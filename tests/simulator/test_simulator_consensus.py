"""Hundreds of faulty schedules against the production core, and planted bugs that the same schedules must find."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import ModuleType

import pytest
import simulation
from simulated_node import Crash, SimulatedNode
from simulation import Schedule, Violation, run

from consensus.tendermint import block, height, round, verify, votes
from consensus.tendermint.types import Step

SEEDS = range(600)
CALM = Schedule([1, 1, 1, 1], {}, fault_ms=1_000)
LOSSY = Schedule([1, 1, 1, 1], {0: "twins"}, fault_ms=12_000, drop=0.4, slow=0.3, partition_every_ms=600)
SPLIT = Schedule([1, 1, 1, 1], {0: "twins"}, fault_ms=12_000, drop=0.05, partition_every_ms=300)
# Each once broke a promise. 287: a vote signed before the log was synced could not be rebuilt after a crash, and the
# round waited for it for ever. 1493: messages that came before their height took effect without being in its log.
REGRESSIONS = (287, 311, 405, 1493, 2168, 2568, 4700, 5163)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 50))
def test_schedules(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS[first : first + 50]:
        seen.update(run(seed).seen)
    for reached in ("crashes", "evidence", "decisions above round 0", "decisions above round 2"):
        assert seen[reached] > 0, f"no schedule reached: {reached}"


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_schedules_that_once_failed(seed: int) -> None:
    run(seed, replace(simulation.draw(seed), filter=0.0))


def test_one_seed_gives_one_history() -> None:
    def history() -> tuple[int, dict[int, bytes]]:
        network = simulation.Simulation(8, simulation.draw(8))
        network.run()
        return network.events, network.checks.decided

    assert history() == history()


def test_real_signatures() -> None:
    assert run(3, replace(simulation.draw(3), real_signatures=True)).seen["decisions"] > 0


def test_without_faults_every_height_takes_one_round() -> None:
    checks = simulation.Simulation(0, CALM).run(heights_after_heal=20)
    assert checks.seen["decisions"] >= 80
    assert checks.seen["decisions above round 0"] == 0


def test_a_third_of_the_power_missing_stops_the_chain_without_forking_it() -> None:
    silent = replace(CALM, byzantine={0: "silent", 1: "silent"})
    with pytest.raises(Violation, match="no progress"):
        simulation.Simulation(0, silent).run(limit_ms=20_000)


def found_by(seeds: range, schedule: Schedule) -> str:
    """What the first of these seeds that finds a broken promise says."""
    for seed in seeds:
        try:
            run(seed, schedule)
        except Violation as violation:
            return str(violation)
    return ""


def is_fork(found: str) -> bool:
    """Whether the network's checkers, or a node's own, saw two blocks at one height."""
    return "two blocks were decided" in found or "two different blocks are committed" in found


def test_planted_bug_half_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: tuple[ModuleType, ...] = (votes, verify, block)
    for module in modules:
        monkeypatch.setattr(module, "is_quorum", lambda power, total: 2 * power > total - 1)
    assert is_fork(found_by(range(40), LOSSY))


def test_planted_bug_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    step = round.step

    def forgetful(state: round.RoundState, event: round.Event) -> tuple[round.RoundState, tuple[round.Action, ...]]:
        return step(replace(state, locked_round=-1, locked_value=None), event)

    monkeypatch.setattr(height.machine, "step", forgetful)
    assert is_fork(found_by(range(200), SPLIT))


def test_planted_bug_equivocators_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    add = votes.VoteKeeper.add

    def careless(
        keeper: votes.VoteKeeper,
        kind: votes.VoteType,
        round: int,
        position: int,
        value: bytes,
        sig: bytes,
        current: int,
    ) -> tuple[bool, votes.Conflict | None]:
        counted, conflict = add(keeper, kind, round, position, value, sig, current)
        if conflict is not None:
            vote_set = keeper.rounds[round].of(kind)
            keeper._count(vote_set, position, conflict.first[0], conflict.first[1])
        return counted, conflict

    monkeypatch.setattr(votes.VoteKeeper, "add", careless)
    assert found_by(range(60), LOSSY)


def test_planted_bug_signing_before_the_log_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(node: SimulatedNode, height: int, round: int, step: Step, message: bytes) -> bytes | None:
        signature = node.disk.sign(height, round, step, message, node.sign)
        if node.world.roll(node.crash_probability):
            raise Crash
        node.disk.sync()
        return signature

    monkeypatch.setattr(SimulatedNode, "_signed", signed)
    assert "no progress" in found_by(range(287, 288), replace(simulation.draw(287), filter=0.0))


def test_planted_bug_signing_without_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def sign(disk: object, height: int, round: int, step: int, message: bytes, signer: object) -> bytes:
        return signer(message)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr("simulated_node.Disk.sign", sign)
    monkeypatch.setattr("simulated_node.Disk.sync", lambda disk: None)
    crashing = replace(LOSSY, byzantine={}, crash_probability=0.02, crash_every_ms=300)
    assert "an honest validator signed two values" in found_by(range(60), crashing)
