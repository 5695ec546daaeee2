"""How a planned step does each operator: as a view, as copies, or by a compiled kernel; the others run in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ml.kernels import rows
from ml.kernels.call import Call
from ml.kernels.matmul import matmul_call
from proofs.program.types import Node, TensorType

Views = Sequence[torch.Tensor]
"""Meta tensors: shapes and strides of values."""
Move = tuple[torch.Tensor | tuple[int, torch.Tensor], torch.Tensor]
"""A source (a scalar, or a view of an input with the input's number) and the view of the output that takes it."""


def _reshape(view: torch.Tensor, node: Node, type_: TensorType) -> torch.Tensor | None:
    try:
        return view.view(type_.shape)
    except RuntimeError:
        return None


def _triples(node: Node) -> list[tuple[int, ...]]:
    return [node.attributes[start : start + 3] for start in range(0, len(node.attributes), 3)]


VIEWS: dict[str, Callable[[torch.Tensor, Node, TensorType], torch.Tensor | None]] = {
    "reshape": _reshape,
    "permute": lambda view, node, type_: view.permute(node.attributes),
    "broadcast_to": lambda view, node, type_: view.expand(type_.shape),
    "slice": lambda view, node, type_: view[tuple(slice(*triple) for triple in _triples(node))],
}
"""Operators that only look at their input otherwise; None when that takes a copy."""

CONSTANTS = frozenset(("full", "iota"))
"""Operators without inputs: made once."""


def _concatenate(node: Node, inputs: Views, output: torch.Tensor) -> list[Move]:
    axis, at = node.attributes[0], 0
    moves: list[Move] = []
    for number, view in enumerate(inputs):
        moves.append(((number, view), output.narrow(axis, at, view.shape[axis])))
        at += view.shape[axis]
    return moves


def _pad(node: Node, inputs: Views, output: torch.Tensor) -> list[Move]:
    inside = tuple(
        slice(low, size - high, gap + 1) for (low, high, gap), size in zip(_triples(node), output.shape, strict=True)
    )
    return [(torch.zeros((), dtype=output.dtype), output), ((0, inputs[0]), output[inside])]


MOVES: dict[str, Callable[[Node, Views, torch.Tensor], list[Move]]] = {"concatenate": _concatenate, "pad": _pad}
"""Operators that are copies, one after the other."""


def _rows_of(view: torch.Tensor) -> tuple[int, int] | None:
    """Rows and columns of a contiguous f32 tensor."""
    if view.dtype != torch.float32 or not view.is_contiguous():
        return None
    columns = view.shape[-1] if view.ndim else 1
    return view.numel() // max(columns, 1), columns


def _along(call: Callable[[int, int], Call]) -> Callable[[Node, Views, TensorType], Call | None]:
    def lower(node: Node, inputs: Views, type_: TensorType) -> Call | None:
        shape = _rows_of(inputs[0])
        return call(*shape) if shape else None

    return lower


def _matmul(node: Node, inputs: Views, type_: TensorType) -> Call | None:
    left, right = inputs
    if left.ndim < right.ndim:
        left = left.expand(*right.shape[:-2], *left.shape[-2:])
    return matmul_call((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride()))


def _with_ids(
    call: Callable[[int, int, torch.Tensor, Node], Call],
) -> Callable[[Node, Views, TensorType], Call | None]:
    def lower(node: Node, inputs: Views, type_: TensorType) -> Call | None:
        shape = _rows_of(inputs[0])
        return call(*shape, inputs[1], node) if shape and inputs[1].is_contiguous() else None

    return lower


CALLS: dict[str, Callable[[Node, Views, TensorType], Call | None]] = {
    "matmul": _matmul,
    "sum_last": _along(rows.sum_last_call),
    "sum_first": _along(rows.sum_first_call),
    "max_last": _along(rows.max_last_call),
    "argmax_last": _along(rows.argmax_last_call),
    "embedding": _with_ids(lambda count, columns, ids, node: rows.embedding_call(count, columns, ids.numel())),
    "embedding_grad": _with_ids(
        lambda count, columns, ids, node: rows.embedding_grad_call(count, columns, node.attributes[0])
    ),
    "take_last": _with_ids(lambda count, columns, ids, node: rows.take_last_call(count, columns, ids.shape[-1])),
    "scatter_last": _with_ids(lambda count, columns, ids, node: rows.scatter_last_call(count, node.attributes[0])),
}
"""Operators with a compiled kernel: its call, or None for strides or dtypes that it does not take."""
