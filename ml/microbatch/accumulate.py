"""Sums that go on where the part before left them: the same additions in the same order as over the whole batch.

A running sum is all that an operator needs of earlier records: the output so far (products, gradients of lookups), or
its 32 lanes with the number of elements seen (sums). Folding the lanes comes last, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from gensyn_node.primitives.errors import InvariantViolation
from ml.kernels.call import run, run_parts
from ml.kernels.compiler import njit
from ml.kernels.matmul import matmul_call
from ml.kernels.rows import matrix
from proofs.program.types import F32, Node, TensorType

LANES = 32
PARALLEL_ELEMENTS = 1 << 15
Continue = Callable[[Sequence[torch.Tensor], torch.Tensor, int], None]
"""(inputs of this part, running sum, elements of the summed axis seen before): adds to the running sum."""


@dataclass(frozen=True, slots=True)
class Accumulator:
    """How an operator's sum goes on."""

    running: TensorType
    """Type of the running sum; it starts at zeros."""
    go_on: Continue
    finish: Callable[[torch.Tensor], torch.Tensor]
    """The operator's output from the running sum after the last part."""


@njit("void(float32[:,::1], float32[:,::1], intp, intp, intp)", nogil=True, error_model="numpy")
def _lanes_of_columns(x, lanes, seen, first, end):  # type: ignore[no-untyped-def]
    for row in range(x.shape[0]):
        lane = (seen + row) % 32
        for column in range(first, end):
            lanes[lane, column] += x[row, column]


@njit("void(float32[:,::1], float32[:,::1], intp, intp, intp)", nogil=True, error_model="numpy")
def _lanes_of_rows(x, lanes, seen, first, end):  # type: ignore[no-untyped-def]
    for row in range(first, end):
        for column in range(x.shape[1]):
            lanes[row, (seen + column) % 32] += x[row, column]


@njit("void(float32[:,::1], int64[::1], float32[:,::1], intp, intp)", nogil=True, error_model="numpy")
def _rows_by_id(gradient, ids, out, first, end):  # type: ignore[no-untyped-def]
    for row in range(gradient.shape[0]):
        chosen = ids[row]
        if 0 <= chosen < out.shape[0]:
            for column in range(first, end):
                out[chosen, column] += gradient[row, column]


def _matmul(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Accumulator:
    def go_on(tensors: Sequence[torch.Tensor], running: torch.Tensor, seen: int) -> None:
        left, right = tensors
        if left.ndim < right.ndim:
            left = left.expand(*right.shape[:-2], *left.shape[-2:])
        call = matmul_call((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride()), seen > 0)
        if call is None:
            left, right = left.contiguous(), right.contiguous()
            call = matmul_call((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride()), seen > 0)
        if call is None:
            raise InvariantViolation(f"no call for {tuple(left.shape)} @ {tuple(right.shape)}")
        run(call, (left, right, running))

    return Accumulator(output, go_on, lambda running: running)


def _sum_first(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Accumulator:
    if output.dtype != F32:
        return Accumulator(output, lambda tensors, running, _: _add(running, matrix(tensors[0]).sum(0)), lambda x: x)
    columns = output.shape[-1]

    def go_on(tensors: Sequence[torch.Tensor], running: torch.Tensor, seen: int) -> None:
        rows = matrix(tensors[0])
        x, lanes = rows.numpy(), running.numpy()
        run_parts(
            columns, rows.numel(), PARALLEL_ELEMENTS, lambda first, end: _lanes_of_columns(x, lanes, seen, first, end)
        )

    return Accumulator(TensorType(F32, (LANES, columns)), go_on, lambda running: _folded(running).view(output.shape))


def _sum_last(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Accumulator:
    if output.dtype != F32:
        return Accumulator(output, lambda tensors, running, _: _add(running, tensors[0].sum(-1)), lambda x: x)

    def go_on(tensors: Sequence[torch.Tensor], running: torch.Tensor, seen: int) -> None:
        rows = matrix(tensors[0])
        x, lanes = rows.numpy(), running.numpy()
        run_parts(
            len(x), rows.numel(), PARALLEL_ELEMENTS, lambda first, end: _lanes_of_rows(x, lanes, seen, first, end)
        )

    running = TensorType(F32, (output.elements, LANES))
    return Accumulator(running, go_on, lambda lanes: _folded(lanes.t()).view(output.shape))


def _embedding_grad(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Accumulator:
    def go_on(tensors: Sequence[torch.Tensor], running: torch.Tensor, seen: int) -> None:
        gradient, ids = matrix(tensors[0]), tensors[1].contiguous().view(-1)
        arrays = gradient.numpy(), ids.numpy(), running.numpy()
        columns = gradient.shape[1]
        run_parts(columns, gradient.numel(), PARALLEL_ELEMENTS, lambda first, end: _rows_by_id(*arrays, first, end))

    return Accumulator(output, go_on, lambda running: running)


def _add(running: torch.Tensor, part: torch.Tensor) -> None:
    running += part.view(running.shape)


def _folded(lanes: torch.Tensor) -> torch.Tensor:
    """lanes[:h] + lanes[h:2h] for h = 16, 8, 4, 2, 1."""
    half = LANES // 2
    while half:
        lanes = lanes[:half] + lanes[half : 2 * half]
        half //= 2
    return lanes[0].contiguous()


ACCUMULATORS: dict[str, Callable[[Node, tuple[TensorType, ...], TensorType], Accumulator]] = {
    "matmul": _matmul,
    "sum_first": _sum_first,
    "sum_last": _sum_last,
    "embedding_grad": _embedding_grad,
}
"""Operators that may sum over the records."""
