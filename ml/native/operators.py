"""The table of the native class: opset operator → vendor operator. Every output is contiguous.

Layout is semantics in vendor kernels: a transposed view or a slice gives other bits than its copy. So every kernel gets
contiguous inputs and hands on a contiguous output, views included: what is computed depends on the values alone.
Operators whose result is exact anyway (movement, comparisons, integers, random bits) and have no vendor counterpart
with the opset's meaning are run by the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ml.reference.operators import compute
from proofs.program.types import Node, TensorType

Kernel = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Contiguous inputs → contiguous output."""

ELEMENTWISE: dict[str, Callable[..., torch.Tensor]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "floor": torch.floor,
    "sqrt": torch.sqrt,
    "round_bf16": lambda x: x.to(torch.bfloat16).to(torch.float32),
    "reciprocal": torch.reciprocal,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "logical_not": torch.logical_not,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "where": torch.where,
}
"""Elementwise operators by torch's own functions of the same meaning."""


def _embedding_grad(gradient: torch.Tensor, ids: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows added to the rows that their ids name; ids out of range land in a row that is cut off."""
    flat = ids.reshape(-1)
    places = torch.where((flat >= 0) & (flat < rows), flat, rows)
    out = torch.zeros((rows + 1, gradient.shape[-1]), dtype=gradient.dtype, device=gradient.device)
    return out.index_add_(0, places, gradient.reshape(-1, gradient.shape[-1]))[:rows]


def kernel(node: Node, output: TensorType) -> Kernel:
    """The vendor's kernel of a node with this output, or the reference's."""
    name, attributes, shape = node.operator, node.attributes, output.shape
    if name in ELEMENTWISE:
        function = ELEMENTWISE[name]
        return lambda inputs: function(*inputs).contiguous()
    match name:
        case "matmul":
            return lambda inputs: torch.matmul(inputs[0], inputs[1]).contiguous()
        case "sum_last":
            return lambda inputs: inputs[0].sum(-1).reshape(shape).contiguous()
        case "sum_first":
            return lambda inputs: inputs[0].reshape(-1, inputs[0].shape[-1]).sum(0).reshape(shape).contiguous()
        case "max_last":
            return lambda inputs: inputs[0].amax(-1).reshape(shape).contiguous()
        case "embedding_grad":
            return lambda inputs: _embedding_grad(inputs[0], inputs[1], attributes[0]).contiguous()
    return lambda inputs: compute(node, inputs, shape, inputs[0].device if inputs else torch.device("cpu"))
