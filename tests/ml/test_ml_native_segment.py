"""What is done about a native segment, by the worker's requests: measured, compared, disclosed, looked at, disputed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ml_jobs import job_of

from gensyn_node.primitives.codec import decode, encode
from ml.kernels.threads import set_threads
from ml.native.dispute import Disclosures
from ml.native.operators import ELEMENTWISE
from ml.native.self_test import failing_operators
from ml.oracle import dispute_context
from ml.presets import Built
from ml.trainer import open_run
from ml.worker.messages import (
    Accused,
    Compare,
    Compared,
    Disclose,
    Disclosed,
    ExamineNative,
    Failed,
    Fault,
    Job,
    Look,
    Looked,
    NativeExamined,
    Profile,
    Profiled,
    Reply,
    Request,
    Respond,
    Responded,
    RespondNative,
    SegmentDone,
    Train,
    state_path,
    values_path,
)
from ml.worker.service import answer
from proofs.classes import NATIVE
from proofs.native.game import open_game, play
from proofs.native.strategy import AN_OUTPUT, expected_moves
from proofs.native.types import AwaitTrace, NativeClaim, NativeGame, NativeMove, PostTrace
from proofs.pinpoint.oracle import ArrayOracle
from proofs.pinpoint.types import CHALLENGER, CHALLENGER_WRONG, DEFENDER, DEFENDER_WRONG
from proofs.state import evidence_root

K = 5


def ask(request: Request) -> Reply:
    """The worker's final reply."""
    return answer(request, lambda _: None, threading.Event())


@dataclass
class Solver:
    """A solver that trained two segments."""

    job: Job
    folder: Path
    roots: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        reports: list[Reply] = []
        answer(Train(self.job, str(self.folder), 0, 2 * K, K, 100), reports.append, threading.Event())
        self.roots = [item.state_root for item in reports if isinstance(item, SegmentDone)]

    def disclosed(self) -> Disclosed:
        """What it stands for in the second segment."""
        found = ask(Disclose(self.job, str(self.folder), str(self.folder / "values"), K, K))
        assert isinstance(found, Disclosed), found
        return found

    def looked(self, job: Job) -> tuple[Disclosed, list[Looked]]:
        """What a verifier says of each disclosed step."""
        said = self.disclosed()
        seen = []
        for number in range(K):
            roots = (said.state_roots[number], said.state_roots[number + 1], said.values_roots[number])
            found = ask(Look(job, str(self.folder / "values"), K + number, *roots))
            assert isinstance(found, Looked), found
            seen.append(found)
        return said, seen


def solver(built: Built, data: Path, folder: Path, fault: Fault | None = None, threads: int = 1) -> Solver:
    return Solver(job_of(built, data, arithmetic=NATIVE, fault=fault, threads=threads), folder)


def node_outputs(built: Built, operator: str) -> list[int]:
    first = built.program.first_node_value
    return [first + number for number, node in enumerate(built.program.nodes) if node.operator == operator]


def played(claim: NativeClaim, honest: Job, cheat: Solver, accused: Accused) -> NativeGame:
    """The dispute to its end: the solver from its folder, the verifier from the values that it fetched."""
    context = dispute_context(open_run(honest))
    game = open_game(claim, context)
    places = (str(cheat.folder), str(cheat.folder / "values"))
    while game.outcome is None:
        defends = game.turn == DEFENDER
        request = RespondNative(cheat.job if defends else honest, *places, encode(game), None if defends else accused)
        made = ask(request)
        assert isinstance(made, Responded), made
        move: NativeMove = decode(NativeMove, made.move)
        game = play(game, DEFENDER if defends else CHALLENGER, move, context)
    return game


def claim_of(cheat: Solver, said: Disclosed) -> NativeClaim:
    states, values = b"".join(said.state_roots), b"".join(said.values_roots)
    return NativeClaim(K, K, cheat.roots[1], cheat.roots[2], b"", states, values)


@pytest.mark.parametrize(("name", "threads"), [("gpt", 1), ("mlp", 2)])
def test_a_solver_makes_the_bits_again_that_it_committed_to(
    name: str, threads: int, gpt_adamw: Built, mlp_adamw: Built, token_data: Path, table_data: Path, tmp_path: Path
) -> None:
    """From a state in a file, observed value by value: the roots are those of the training that went straight on."""
    built, data = (gpt_adamw, token_data) if name == "gpt" else (mlp_adamw, table_data)
    try:
        one = solver(built, data, tmp_path / "own", threads=threads)
        said, seen = one.looked(job_of(built, data, arithmetic=NATIVE))
    finally:
        set_threads(1)
    assert (said.state_roots[0], said.state_roots[-1]) == (one.roots[1], one.roots[2])
    assert seen == [Looked(served=True, accused=None)] * K


def test_the_noise_is_measured_and_an_honest_end_is_near(mlp_adamw: Built, table_data: Path, tmp_path: Path) -> None:
    job = job_of(mlp_adamw, table_data, arithmetic=NATIVE)
    noise = ask(Profile(job, K))
    assert isinstance(noise, Profiled)
    assert len(noise.distances) == len(mlp_adamw.program.state)
    assert 0 < max(noise.distances) < 1 << 22
    own, cheat = (
        solver(mlp_adamw, table_data, tmp_path / name, fault)
        for name, fault in (("own", None), ("cheat", Fault(K + 1, 0, 0, 0, skip=True)))
    )
    near = ask(Compare(job, str(own.folder), K, K, own.roots[1], own.roots[2]))
    far = ask(Compare(job, str(cheat.folder), K, K, cheat.roots[1], cheat.roots[2]))
    assert isinstance(near, Compared) and isinstance(far, Compared)
    assert not any(near.distances) and near.end_root == own.roots[2]
    assert max(far.distances) > 1 << 28
    said = own.disclosed()
    assert near.evidence_root == evidence_root(said.state_roots)


@pytest.mark.parametrize("operator", ["matmul", "sum_first", "sub", "batch"])
def test_a_wrong_value_is_seen_in_what_is_disclosed_and_loses_the_dispute(
    operator: str, mlp_sgd: Built, table_data: Path, tmp_path: Path
) -> None:
    value = len(mlp_sgd.program.state) if operator == "batch" else node_outputs(mlp_sgd, operator)[-1]
    cheat = solver(mlp_sgd, table_data, tmp_path / "cheat", Fault(K + 2, value, 40, 29))
    honest = job_of(mlp_sgd, table_data, arithmetic=NATIVE)
    said, seen = cheat.looked(honest)
    accused = seen[2].accused
    assert [item.accused is None for item in seen] == [True, True, False, True, True]
    assert accused is not None and (accused.step, accused.value) == (K + 2, value)
    game = played(claim_of(cheat, said), honest, cheat, accused)
    assert game.outcome == DEFENDER_WRONG, game.why
    assert game.moves == expected_moves(1, disclosed=True)


def test_a_skipped_step_is_an_output_that_its_values_do_not_give(
    mlp_sgd: Built, table_data: Path, tmp_path: Path
) -> None:
    cheat = solver(mlp_sgd, table_data, tmp_path / "cheat", Fault(K + 3, 0, 0, 0, skip=True))
    honest = job_of(mlp_sgd, table_data, arithmetic=NATIVE)
    said, seen = cheat.looked(honest)
    accused = seen[3].accused
    assert accused == Accused(K + 3, AN_OUTPUT, 0, is_output=True)
    assert [item.accused for item in seen].count(None) == K - 1
    claim = claim_of(cheat, said)
    game = played(claim, honest, cheat, accused)
    assert (game.outcome, game.why) == (DEFENDER_WRONG, "bad_entries")
    # A solver that stands by the state that it claims does not fare better.
    run = open_run(honest)
    context, places = dispute_context(run), (str(cheat.folder), str(cheat.folder / "values"))
    oracle = ArrayOracle(run.program, Disclosures(run, cheat.folder, cheat.folder / "values"))
    kept = b"".join(oracle.entry_roots(K + 3))
    game = open_game(claim, context)
    for mover in (CHALLENGER, DEFENDER, CHALLENGER, DEFENDER):
        if isinstance(game.phase, AwaitTrace):
            move: NativeMove = PostTrace(kept, kept, said.values_roots[3])
        else:
            made = ask(RespondNative(honest, *places, encode(game), accused))
            assert isinstance(made, Responded), made
            move = decode(NativeMove, made.move)
        game = play(game, mover, move, context)
    assert (game.outcome, game.why) == (DEFENDER_WRONG, "output_wrong")


def test_an_honest_solver_that_is_accused_wins(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    own = solver(mlp_sgd, table_data, tmp_path / "own")
    honest, value = job_of(mlp_sgd, table_data, arithmetic=NATIVE), node_outputs(mlp_sgd, "matmul")[0]
    game = played(claim_of(own, own.disclosed()), honest, own, Accused(K, value, 0, is_output=False))
    assert (game.outcome, game.why) == (CHALLENGER_WRONG, "in_bound")


def test_a_verifier_defends_its_own_evidence_by_running_the_segment_again(
    mlp_sgd: Built, table_data: Path, tmp_path: Path
) -> None:
    """It has no disclosed values, only the solver's states: another's segment ends lie in the same folder."""
    own = solver(mlp_sgd, table_data, tmp_path / "own")
    job, value = job_of(mlp_sgd, table_data, arithmetic=NATIVE), node_outputs(mlp_sgd, "matmul")[0]
    made = ask(Compare(job, str(own.folder), K, K, own.roots[1], own.roots[2]))
    assert isinstance(made, Compared)
    claim = NativeClaim(K, K, own.roots[1], b"", made.evidence_root)
    game = played(claim, job, own, Accused(K, value, 0, is_output=False))
    assert game.outcome == CHALLENGER_WRONG
    assert game.moves == expected_moves(1)


def test_a_file_that_is_not_what_was_disclosed_is_not_served(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    own = solver(mlp_sgd, table_data, tmp_path / "own")
    job, said = own.job, own.disclosed()
    values = own.folder / "values"
    roots = (said.state_roots[0], said.state_roots[1], said.values_roots[0])

    def look() -> Reply:
        return ask(Look(job, str(values), K, *roots))

    assert look() == Looked(served=True, accused=None)
    assert ask(Look(job, str(values), K, roots[1], *roots[1:])) == Looked(served=False, accused=None)
    assert ask(Look(job, str(values), K, *roots[:2], bytes(32))) == Looked(served=False, accused=None)
    path = values_path(values, K)
    data = path.read_bytes()
    for spoiled in (data[:-1], data + b"\0", data[:8] + b"[" + data[9:], b""):
        path.write_bytes(spoiled)
        assert look() == Looked(served=False, accused=None)
    path.unlink()
    assert look() == Looked(served=False, accused=None)


def test_native_requests_about_other_tasks_are_refused(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    exact = job_of(mlp_sgd, table_data)
    found = ask(Profile(exact, 2))
    assert isinstance(found, Failed) and "rep-v1" in found.message
    own = solver(mlp_sgd, table_data, tmp_path / "own")
    other = ask(Compare(own.job, str(own.folder), K, K, own.roots[1], own.roots[1]))
    assert isinstance(other, Failed) and "root" in other.message
    assert isinstance(ask(Respond(own.job, str(own.folder), b"\x90")), Failed)
    assert state_path(own.folder, K).is_file()


def test_this_machine_may_offer_the_class_and_one_with_a_wrong_kernel_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ask(ExamineNative(2)) == NativeExamined(())
    set_threads(1)
    monkeypatch.setitem(ELEMENTWISE, "exp", lambda x: ELEMENTWISE["log"](x))
    assert failing_operators(1) == ["exp"]
