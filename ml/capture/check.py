"""Does the captured program compute what PyTorch computes? One real batch, loss and updated state compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.optimizers import Optimizer, Tensors
from ml.capture.precision import FULL, eager_precision
from ml.capture.step import LossFunction, make_step
from ml.interpreter import Interpreter
from proofs.program.types import Program

LOSS_TOLERANCE = 1e-4
"""Relative difference of the losses."""
UPDATE_TOLERANCE = 3e-4
"""Root mean square of a tensor's difference over that of its update."""
IN_BF16 = 10.0
"""Both tolerances at that precision: a sum whose last bit differs may round to another bfloat16."""
NOISE = 1e-5
"""What rounding may do, relative to the largest update of the same kind of entry: gradients that are zero in exact
arithmetic consist of it."""


@dataclass(frozen=True)
class Comparison:
    """How far program and PyTorch are apart."""

    loss: float
    eager_loss: float
    worst_entry: str
    worst_ratio: float
    """Difference over what is allowed; above 1 is a mismatch."""


def check_against_eager(
    program: Program,
    module: torch.nn.Module,
    loss: LossFunction,
    optimizer: Optimizer,
    batch: Tensors,
    precision: str = FULL,
) -> Comparison:
    """Run the second step both ways on a real batch, from the module's present values. Raises Rejection NOT_EAGER.

    The second, so that moments count. AdamW's second moments start at one for this check: near zero it divides noise by
    noise.
    """
    step = make_step(module, loss, optimizer)
    state = {
        name: torch.ones_like(value) if name.startswith("optimizer.second.") else value.clone()
        for name, value in step.state.items()
    }
    if "optimizer.beta1_power" in state:
        state |= {name: torch.full((), 0.5) for name in ("optimizer.beta1_power", "optimizer.beta2_power")}
    first, second = torch.tensor(0), torch.tensor(1)
    with eager_precision(precision):
        state, _ = step.run(state, batch, first)
        eager_state, eager_loss = step.run(state, batch, second)
    names = [entry.name for entry in program.state]
    moved, own_loss = Interpreter(program).step([state[name] for name in names], list(batch.values()), 1)
    pairs = [(name, state[name], eager_state[name], value) for name, value in zip(names, moved, strict=True)]
    looser = 1.0 if precision == FULL else IN_BF16
    worst_entry, worst_ratio = _worst(pairs)
    worst_ratio /= looser
    comparison = Comparison(float(own_loss), float(eager_loss), worst_entry, worst_ratio)
    if not abs(comparison.loss - comparison.eager_loss) <= looser * LOSS_TOLERANCE * max(
        1.0, abs(comparison.eager_loss)
    ):
        raise Rejection(reasons.NOT_EAGER, f"loss {comparison.loss}, PyTorch {comparison.eager_loss}")
    if not worst_ratio <= 1:
        raise Rejection(
            reasons.NOT_EAGER, f"{worst_entry} differs {worst_ratio:.3g} times as much as rounding explains"
        )
    return comparison


def _worst(pairs: Sequence[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]) -> tuple[str, float]:
    """The entry with the largest difference relative to what is allowed."""

    def size(value: torch.Tensor) -> float:
        return float(value.double().square().mean().sqrt())

    def kind(name: str) -> str:
        return name.split(".")[1] if name.startswith("optimizer.") else name.split(".")[0]

    largest: dict[str, float] = {}
    for name, start, eager, _ in pairs:
        largest[kind(name)] = max(largest.get(kind(name), 0.0), size(eager - start))
    worst, ratio = "", 0.0
    for name, start, eager, own in pairs:
        rounding = 2.0**-23 * size(eager)
        allowed = UPDATE_TOLERANCE * size(eager - start) + NOISE * largest[kind(name)] + rounding
        apart = size(own - eager)
        # Written so that a NaN on one side counts as a mismatch.
        share = 0.0 if apart == 0 else apart / allowed if allowed > 0 else math.inf
        if not share <= ratio:
            worst, ratio = name, share if share == share else math.inf
    return worst, ratio
