"""Native tasks by the roles of whole nodes: profiled, trained, judged by distance and bounds, disputed, paid."""

from __future__ import annotations

from pathlib import Path

import pytest
from ledger_world import World, key
from native_village import NAMES, Village, perceptron
from native_world import native_parameters

from consensus.ledger import queries
from consensus.ledger.messages import APPROVED, OFFERS_NATIVE
from consensus.ledger.parameters import Parameters
from gensyn_node.roles import cheats as cheats_module
from gensyn_node.roles.cheats import Cheats
from ml.presets import Built
from ml.worker import native_service


@pytest.fixture(scope="module")
def built() -> Built:
    return perceptron()


def village(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    built: Built,
    cheats: Cheats = Cheats(),
    parameters: Parameters | None = None,
) -> Village:
    """Four nodes; all of them would cheat as solvers: whoever is drawn first does, and is then removed."""
    world = World(parameters or native_parameters(native_profilers=2))
    return Village(monkeypatch, folder, world, built, dict.fromkeys(NAMES, cheats))


def findings(place: Village, task_id: bytes) -> list[object]:
    record = queries.task_record(place.world.ledger, task_id)
    assert record is not None
    return [one for item in record.instalments for verdict in item.verdicts for one in verdict.findings]


def test_an_honest_task_is_profiled_trained_verified_and_paid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: Built
) -> None:
    place = village(monkeypatch, tmp_path, built)
    task_id = place.submit()
    task = place.finish(task_id)
    assert task.state == "finished", [runner.progress.failures for runner in place.runners.values()]
    assert task.solver_paid_nano and task.verifiers_paid_nano
    profile = queries.profile(place.world.ledger, task_id)
    assert profile is not None and [slot.state for slot in profile.slots] == ["paid", "paid"]
    assert {finding.verdict for finding in findings(place, task_id)} == {APPROVED}
    assert not {"slashed", "dispute_opened", "values_demanded"} & set(place.world.kinds())
    for name in NAMES:
        provider = queries.provider(place.world.ledger, key(name).address)
        assert provider is not None and provider.roles & OFFERS_NATIVE and provider.locked_nano == 0


@pytest.mark.parametrize(
    ("cheat", "how"), [(Cheats(skip_step=4), "move"), (Cheats(flip_bit_step=7), "arbitration")], ids=["skip", "flip"]
)
def test_a_cheating_solver_is_looked_at_accused_and_slashed(
    cheat: Cheats, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: Built
) -> None:
    place = village(monkeypatch, tmp_path, built, cheat)
    task_id = place.submit()
    task = place.finish(task_id, 200)
    kinds = place.world.kinds()
    assert "values_demanded" in kinds and "values_disclosed" in kinds
    first = queries.dispute(place.world.ledger, task.disputes[0])
    assert first is not None
    assert (first.state, first.how, first.kind) == ("defender_wrong", how, "segment")
    assert first.defender in task.removed_solvers
    assert len(first.moves) <= 6
    slashed = [dict(event.fields)["why"] for event in place.world.events if event.kind == "slashed"]
    assert "solver proven wrong" in slashed and "verdict proven wrong" not in slashed


def test_an_honest_solver_that_is_far_off_is_looked_at_and_paid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: Built
) -> None:
    """Off by eight units in the last place of one sum, where the profilers' kernels made the reference's bits."""
    monkeypatch.setattr(cheats_module, "FLIPPED_BIT", 3)
    monkeypatch.setattr(native_service, "profile", lambda run, *_: (0,) * len(run.program.state))
    strict = native_parameters(native_profilers=2, native_floor_parts=1, native_margin_bps=10_000)
    place = village(monkeypatch, tmp_path, built, Cheats(flip_bit_step=4), strict)
    task_id = place.submit()
    task = place.finish(task_id)
    assert task.state == "finished"
    assert "values_disclosed" in place.world.kinds()
    assert not {"slashed", "dispute_opened"} & set(place.world.kinds())
    assert {finding.verdict for finding in findings(place, task_id)} == {APPROVED}
    assert max(finding.excess_bps for finding in findings(place, task_id)) > 10_000


def test_a_solver_that_hides_its_values_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, built: Built
) -> None:
    hurried = native_parameters(native_profilers=2, verify_blocks_base=16)
    place = village(monkeypatch, tmp_path, built, Cheats(skip_step=4), hurried)
    place.blobs.hides = lambda path: path.name.startswith("values-")
    task_id = place.submit()
    task = place.finish(task_id, 400)
    assert "values_disclosed" in place.world.kinds() and "states_unavailable" in place.world.kinds()
    assert task.removed_solvers and not task.disputes
    slashed = [dict(event.fields)["why"] for event in place.world.events if event.kind == "slashed"]
    assert "the states were not served" in slashed and "verdict proven wrong" not in slashed
