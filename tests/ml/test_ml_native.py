"""The native class: steps by vendor kernels, how far apart two of them are, every operator within its bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ml_jobs import run_of

from gensyn_node.primitives.errors import Rejection
from ml.native.audit import audit_step, first_fault
from ml.native.distance import distance, distances
from ml.presets import Built
from ml.trainer import Run, Stepper, initial_state
from ml.worker.messages import Fault
from proofs.classes import NATIVE, REP_V1
from proofs.native.profile import DISTANCE_MAX, PARTS


def after(run: Run, steps: int) -> Stepper:
    """The run after so many steps from its start."""
    stepper = Stepper(run, initial_state(run), 0)
    for _ in range(steps):
        stepper.advance()
    return stepper


@pytest.fixture
def cases(
    mlp_sgd: Built, mlp_adamw: Built, gpt_adamw: Built, table_data: Path, token_data: Path
) -> dict[str, tuple[Built, Path]]:
    return {"mlp_sgd": (mlp_sgd, table_data), "mlp_adamw": (mlp_adamw, table_data), "gpt": (gpt_adamw, token_data)}


@pytest.mark.parametrize("name", ["mlp_sgd", "mlp_adamw", "gpt"])
def test_a_native_step_is_the_exact_one_up_to_rounding(name: str, cases: dict[str, tuple[Built, Path]]) -> None:
    built, data = cases[name]
    native, exact = run_of(built, data, arithmetic=NATIVE), run_of(built, data)
    one, other = after(native, 5), after(exact, 5)
    assert [item.dtype for item in one.state] == [item.dtype for item in other.state]
    found = dict(
        zip(
            [entry.name for entry in built.program.state],
            distances(initial_state(exact), other.state, one.state),
            strict=True,
        )
    )
    noisy = {entry for entry, parts in found.items() if parts > PARTS // 1_000}
    assert all("key.bias" in entry for entry in noisy), found
    assert any(found.values())


def test_a_native_run_repeats_itself(mlp_adamw: Built, table_data: Path) -> None:
    first, again = (after(run_of(mlp_adamw, table_data, arithmetic=NATIVE), 4) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.state, again.state, strict=True))


@pytest.mark.parametrize("name", ["mlp_sgd", "mlp_adamw", "gpt"])
def test_every_operator_of_an_honest_native_step_keeps_its_bound(
    name: str, cases: dict[str, tuple[Built, Path]]
) -> None:
    built, data = cases[name]
    run = run_of(built, data, arithmetic=NATIVE)
    stepper = after(run, 3)
    batch = run.dataset.batch(built.program, run.seed, 3)
    audited = audit_step(built.program, stepper.values(), batch)
    assert len(audited) == len(built.program.nodes) + len(built.program.batch)
    assert [item for item in audited if item.outside] == []
    assert 0 < max(item.used for item in audited) < 0.5


def operators(built: Built) -> list[str]:
    return [node.operator for node in built.program.nodes]


@pytest.mark.parametrize("operator", ["matmul", "sum_first", "exp", "sub", "mul", "permute", "batch"])
def test_a_fault_is_found_at_its_operator_and_tile(operator: str, mlp_sgd: Built, table_data: Path) -> None:
    program = mlp_sgd.program
    value = len(program.state) if operator == "batch" else program.first_node_value + operators(mlp_sgd).index(operator)
    run = run_of(mlp_sgd, table_data, arithmetic=NATIVE, fault=Fault(2, value, 3, 29))
    batch = run.dataset.batch(program, run.seed, 2)
    fault = first_fault(audit_step(program, after(run, 2).values(), batch))
    assert fault == (value, 0)


def test_an_unknown_class_is_refused(mlp_sgd: Built, table_data: Path) -> None:
    with pytest.raises(Rejection, match="E1903"):
        run_of(mlp_sgd, table_data, arithmetic="rep-v2")
    assert run_of(mlp_sgd, table_data, arithmetic=REP_V1).program == mlp_sgd.program


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda x: x, 0),
        (lambda x: x * 1.5, PARTS // 2),
        (lambda x: x * 3, DISTANCE_MAX),
        (lambda x: x * float("nan"), DISTANCE_MAX),
    ],
)
def test_distance_is_a_share_of_the_update(change: Callable[[torch.Tensor], torch.Tensor], parts: int) -> None:
    start, update = torch.ones(8), torch.full((8,), 2.0)
    assert distance(start, start + update, start + change(update)) == parts


def test_distance_rounds_up_and_compares_what_is_not_f32() -> None:
    start, own = torch.zeros(1), torch.ones(1)
    claimed = torch.tensor([1.0 + 2.0**-23])
    assert distance(start, own, claimed) == PARTS >> 23
    assert distance(start, torch.full((1,), 3.0), torch.full((1,), 3.0) * claimed) == -(-(PARTS >> 21) // 3)
    assert distance(start, start, claimed) == DISTANCE_MAX
    count = torch.tensor([3])
    assert distance(count, count, count.clone()) == 0
    assert distance(count, count, count + 1) == DISTANCE_MAX
