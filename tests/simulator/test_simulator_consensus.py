"""Hundreds of faulty schedules against the production core, and planted bugs that the same schedules must find."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import ModuleType

import pytest

from consensus.tendermint import height, round, verify, votes
from gensyn_node.storage.signer import Signed
from tests.simulator.application import Violation
from tests.simulator.disk import Disk
from tests.simulator.schedule import Schedule, draw
from tests.simulator.simulation import Simulation, run

SEEDS = range(400)
CALM = Schedule([1, 1, 1, 1], {}, fault_ms=1_000)
LOSSY = Schedule([1, 1, 1, 1], {0: "twins"}, fault_ms=12_000, drop=0.4, slow=0.3, partition_every_ms=600)
SPLIT = Schedule([1, 1, 1, 1], {0: "twins"}, fault_ms=12_000, drop=0.05, partition_every_ms=300)
CRASHING = replace(LOSSY, byzantine={}, crash_probability=0.02, crash_every_ms=300)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 50))
def test_schedules(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS[first : first + 50]:
        seen.update(run(seed).seen)
    for reached in ("crashes", "evidence committed", "decisions above round 0", "round 3 or above"):
        assert seen[reached] > 0, f"no schedule reached: {reached}"


def test_one_seed_gives_one_history() -> None:
    def history() -> tuple[int, dict[int, bytes]]:
        network = Simulation(8, draw(8))
        network.run()
        return network.events, network.checks.decided

    assert history() == history()


def test_real_signatures() -> None:
    assert run(3, replace(draw(3), real_signatures=True)).seen["decisions"] > 0


def test_without_faults_every_height_takes_one_round() -> None:
    coverage = Simulation(0, CALM).run(heights_after_heal=20)
    assert coverage.seen["decisions"] >= 80
    assert coverage.seen["decisions above round 0"] == 0


def test_a_third_of_the_power_missing_stops_the_chain_without_forking_it() -> None:
    silent = replace(CALM, byzantine={0: "silent", 1: "silent"})
    with pytest.raises(Violation, match="no progress"):
        Simulation(0, silent).run(limit_ms=20_000)


def found_by(seeds: range, schedule: Schedule) -> str:
    """What the first of these seeds that finds a broken promise says."""
    for seed in seeds:
        try:
            run(seed, schedule)
        except Violation as violation:
            return str(violation)
    return ""


def test_planted_bug_half_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: tuple[ModuleType, ...] = (votes, verify)
    for module in modules:
        monkeypatch.setattr(module, "is_quorum", lambda power, total: 2 * power > total - 1)
    assert "was decided by 2 of 4" in found_by(range(40), LOSSY)


def test_planted_bug_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    step = round.step

    def forgetful(state: round.RoundState, event: round.Event) -> tuple[round.RoundState, tuple[round.Action, ...]]:
        return step(replace(state, locked_round=-1, locked_value=None), event)

    monkeypatch.setattr(height.machine, "step", forgetful)
    assert "prevoted another value" in found_by(range(200), SPLIT)


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
    monkeypatch.setattr(Disk, "sync", lambda disk: None)
    assert found_by(range(200), CRASHING)


def test_planted_bug_signing_without_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "sign", lambda disk, request, signer: Signed(signer(request.message), 0))
    monkeypatch.setattr(Disk, "sync", lambda disk: None)
    assert "an honest validator signed two values" in found_by(range(60), CRASHING)
