"""Several compiled kernels that make one value together, with memory of their own in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ml.kernels.call import Call, run

Operand = int | torch.Tensor
"""A number counts inputs, then outputs, then temporaries; a tensor is a constant."""


@dataclass(frozen=True)
class Recipe:
    """Calls in order, each with its operands. Inputs are contiguous, outputs become so."""

    temporaries: tuple[int, ...]
    """Bytes."""
    steps: tuple[tuple[Call, tuple[Operand, ...]], ...]


def perform(recipe: Recipe, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> None:
    """Run a recipe now."""
    held = [torch.empty(size, dtype=torch.uint8) for size in recipe.temporaries]
    tensors = [*(item.contiguous() for item in inputs), *outputs, *held]
    for call, operands in recipe.steps:
        run(call, [tensors[item] if isinstance(item, int) else item for item in operands])
