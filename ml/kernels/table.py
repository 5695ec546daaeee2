"""The kernels of rep-v1 on this CPU by operator name; elementwise operators may be fused into loops instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ml.kernels import rows
from ml.kernels.elementwise import TORCH_DTYPES, compile_group, single
from ml.kernels.emit import FUSIBLE
from ml.kernels.matmul import matmul
from ml.kernels.windows import windows
from proofs.arithmetic.whole import compute_value
from proofs.program.shapes import DTYPES
from proofs.program.types import Node, TensorType

Kernel = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""A node's inputs → its output; inputs may have any strides, outputs may be views of inputs."""
Types = tuple[TensorType, ...]


def full(dtype: str, bits: int, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor whose every element has these bits (one element in memory)."""
    kind = TORCH_DTYPES[dtype]
    if dtype == "bool":
        return torch.full((), bool(bits)).expand(shape)
    raw = np.frombuffer(bits.to_bytes(kind.itemsize, "little"), np.uint8).copy()
    return torch.from_numpy(raw).view(kind).view(()).expand(shape)


def _triples(node: Node) -> list[tuple[int, ...]]:
    return [node.attributes[start : start + 3] for start in range(0, len(node.attributes), 3)]


def _slice(node: Node, types: Types, output: TensorType) -> Kernel:
    cut = tuple(slice(*triple) for triple in _triples(node))
    return lambda inputs: inputs[0][cut]


def _pad(node: Node, types: Types, output: TensorType) -> Kernel:
    inside = tuple(
        slice(low, size - high, gap + 1) for (low, high, gap), size in zip(_triples(node), output.shape, strict=True)
    )

    def pad(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        out = torch.zeros(output.shape, dtype=inputs[0].dtype)
        out[inside] = inputs[0]
        return out

    return pad


def _windows(node: Node, types: Types, output: TensorType) -> Kernel:
    outside = full(output.dtype, node.attributes[0], ())
    return lambda inputs: windows(inputs[0], node.attributes, outside)


def _elementwise(node: Node, types: Types, output: TensorType) -> Kernel:
    dtypes = tuple(item.dtype for item in types)
    run = compile_group(single(node.operator, dtypes, node.attributes, output.dtype, output.shape))
    return lambda values: run(values)[0]


def _full(node: Node, types: Types, output: TensorType) -> Kernel:
    filled = full(DTYPES[node.attributes[0]], node.attributes[1], output.shape)
    return lambda _: filled


def _iota(node: Node, types: Types, output: TensorType) -> Kernel:
    index = torch.from_numpy(compute_value(node, []))
    return lambda _: index


def _definition(node: Node, types: Types, output: TensorType) -> Kernel:
    """The definition itself, for operators too rare to need a kernel."""

    def run(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.from_numpy(compute_value(node, [item.contiguous().numpy() for item in inputs]))

    return run


KERNELS: dict[str, Callable[[Node, Types, TensorType], Kernel]] = {
    **dict.fromkeys(FUSIBLE, _elementwise),
    **dict.fromkeys(("sin", "cos", "remainder", "floor_divide", "uniform"), _definition),
    "reshape": lambda node, types, output: lambda inputs: inputs[0].reshape(output.shape),
    "permute": lambda node, types, output: lambda inputs: inputs[0].permute(node.attributes),
    "broadcast_to": lambda node, types, output: lambda inputs: inputs[0].expand(output.shape),
    "slice": _slice,
    "concatenate": lambda node, types, output: lambda inputs: torch.cat(list(inputs), node.attributes[0]),
    "pad": _pad,
    "windows": _windows,
    "matmul": lambda node, types, output: lambda inputs: matmul(inputs[0], inputs[1]),
    "sum_last": lambda node, types, output: lambda inputs: rows.sum_last(inputs[0]),
    "sum_first": lambda node, types, output: lambda inputs: rows.sum_first(inputs[0]),
    "max_last": lambda node, types, output: lambda inputs: rows.max_last(inputs[0]),
    "argmax_last": lambda node, types, output: lambda inputs: rows.argmax_last(inputs[0]),
    "embedding": lambda node, types, output: lambda inputs: rows.embedding(inputs[0], inputs[1]),
    "embedding_grad": lambda node, types, output: (
        lambda inputs: rows.embedding_grad(inputs[0], inputs[1], node.attributes[0])
    ),
    "take_last": lambda node, types, output: lambda inputs: rows.take_last(inputs[0], inputs[1]),
    "scatter_last": lambda node, types, output: (
        lambda inputs: rows.scatter_last(inputs[0], inputs[1], node.attributes[0])
    ),
    "full": _full,
    "iota": _iota,
}
"""Operator -> (node, input types, output type) -> its kernel."""


def kernel(node: Node, inputs: Types, output: TensorType) -> Kernel:
    """The kernel of one node of these types."""
    return KERNELS[node.operator](node, inputs, output)
