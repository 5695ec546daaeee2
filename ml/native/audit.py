"""Every value of one step held against its bound, at the speed of the exact kernels: what a challenger looks for.

From the values that a solver stands for, each node is recomputed by `rep-v1` on the solver's own inputs. A value
outside its bound is a fault that the game proves; no honest kernel has one, whatever its order of adding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gensyn_node.primitives.limits import TILE
from ml.kernels.table import kernel
from proofs.native.bounds import EXACT, Bound, bound_of, limits, within
from proofs.program.types import Node, Program, TensorType
from proofs.program.validate import validate_program
from proofs.tensors import Array, matrix_view


@dataclass(frozen=True)
class Audited:
    """One value of a step against its bound."""

    value: int
    operator: str
    bound: Bound
    elements: int
    outside: int
    """Elements beyond their bound."""
    tile: int
    """The first tile that has one; -1 when there is none."""
    used: float
    """Largest distance as a share of its limit, where the limit is neither 0 nor infinite."""


def audit_step(
    program: Program, values: Sequence[torch.Tensor], batch: Sequence[torch.Tensor] | None = None
) -> list[Audited]:
    """Batch values (against the `batch` that is right, when it is given) and nodes, in list order."""
    types = validate_program(program).types
    first = len(program.state)
    found = [
        _audited(first + number, "batch", Bound(EXACT), right.numpy(), None, values[first + number])
        for number, right in enumerate(batch or ())
    ]
    for position, node in enumerate(program.nodes):
        number = program.first_node_value + position
        found.append(_audit_node(number, node, types, [values[item] for item in node.inputs], values[number]))
    return found


def first_fault(audited: Sequence[Audited]) -> tuple[int, int] | None:
    """(value, tile) of the first value outside its bound: what to accuse."""
    return next(((item.value, item.tile) for item in audited if item.outside), None)


def _audit_node(
    number: int, node: Node, types: Sequence[TensorType], inputs: list[torch.Tensor], claimed: torch.Tensor
) -> Audited:
    input_types = tuple(types[item] for item in node.inputs)
    bound = bound_of(node, input_types, types[number])
    run = kernel(node, input_types, types[number])
    reference = run(inputs).contiguous().numpy()
    magnitudes = None
    if bound.needs_magnitudes:
        absolute = [item.abs() if item.dtype == torch.float32 else item for item in inputs]
        magnitudes = run(absolute).contiguous().numpy()
    return _audited(number, node.operator, bound, reference, magnitudes, claimed)


def _audited(
    number: int, operator: str, bound: Bound, reference: Array, magnitudes: Array | None, claimed: torch.Tensor
) -> Audited:
    own = claimed.contiguous().numpy()
    outside = ~within(bound, reference, magnitudes, own)
    tile = -1
    if outside.any():
        rows, columns = np.nonzero(matrix_view(outside))
        across = -(-matrix_view(outside).shape[1] // TILE)
        tile = int((rows // TILE * across + columns // TILE).min())
    return Audited(
        number, operator, bound, own.size, int(outside.sum()), tile, _used(bound, reference, magnitudes, own)
    )


def _used(bound: Bound, reference: Array, magnitudes: Array | None, claimed: Array) -> float:
    if bound.kind == EXACT or not claimed.size:
        return 0.0
    most = limits(bound, reference, magnitudes)
    with np.errstate(invalid="ignore", over="ignore"):
        share = np.abs(claimed.astype(np.float64) - reference.astype(np.float64)) / most
    share = share[np.isfinite(share) & np.isfinite(most)]
    return float(share.max()) if share.size else 0.0
