"""The kernels of rep-v1 on this CPU by operator name, for everything that is not fused into elementwise loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ml.kernels import rows
from ml.kernels.elementwise import TORCH_DTYPES, compile_group, single
from ml.kernels.emit import FUSIBLE
from ml.kernels.matmul import matmul
from proofs.arithmetic.whole import compute_value
from proofs.program.shapes import DTYPES
from proofs.program.types import Node, TensorType

Kernel = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""A node's inputs → its output; inputs may have any strides, outputs may be views of inputs."""


def full(dtype: str, bits: int, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor whose every element has these bits (one element in memory)."""
    kind = TORCH_DTYPES[dtype]
    if dtype == "bool":
        return torch.full((), bool(bits)).expand(shape)
    raw = np.frombuffer(bits.to_bytes(kind.itemsize, "little"), np.uint8).copy()
    return torch.from_numpy(raw).view(kind).view(()).expand(shape)


def _move(operator: str, attributes: tuple[int, ...], output: TensorType) -> Kernel:
    triples = [attributes[start : start + 3] for start in range(0, len(attributes), 3)]
    match operator:
        case "reshape":
            return lambda inputs: inputs[0].reshape(output.shape)
        case "permute":
            return lambda inputs: inputs[0].permute(attributes)
        case "broadcast_to":
            return lambda inputs: inputs[0].expand(output.shape)
        case "slice":
            cut = tuple(slice(*triple) for triple in triples)
            return lambda inputs: inputs[0][cut]
        case "concatenate":
            return lambda inputs: torch.cat(list(inputs), attributes[0])
    inside = tuple(
        slice(low, size - high, gap + 1) for (low, high, gap), size in zip(triples, output.shape, strict=True)
    )

    def pad(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        out = torch.zeros(output.shape, dtype=inputs[0].dtype)
        out[inside] = inputs[0]
        return out

    return pad


def _numpy(node: Node) -> Kernel:
    """The definition itself, for operators too rare to need a kernel."""

    def run(inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.from_numpy(compute_value(node, [item.contiguous().numpy() for item in inputs]))

    return run


def kernel(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Kernel:
    """The kernel of one node of these types."""
    name, attributes = node.operator, node.attributes
    if name in FUSIBLE:
        run = compile_group(single(name, tuple(item.dtype for item in inputs), attributes, output.dtype, output.shape))
        return lambda values: run(values)[0]
    match name:
        case "matmul":
            return lambda values: matmul(values[0], values[1])
        case "sum_last":
            return lambda values: rows.sum_last(values[0])
        case "sum_first":
            return lambda values: rows.sum_first(values[0])
        case "max_last":
            return lambda values: rows.max_last(values[0])
        case "argmax_last":
            return lambda values: rows.argmax_last(values[0])
        case "embedding":
            return lambda values: rows.embedding(values[0], values[1])
        case "embedding_grad":
            return lambda values: rows.embedding_grad(values[0], values[1], attributes[0])
        case "take_last":
            return lambda values: rows.take_last(values[0], values[1])
        case "scatter_last":
            return lambda values: rows.scatter_last(values[0], values[1], attributes[0])
        case "full":
            filled = full(DTYPES[attributes[0]], attributes[1], output.shape)
            return lambda _: filled
        case "iota":
            index = torch.from_numpy(compute_value(node, []))
            return lambda _: index
        case "reshape" | "permute" | "broadcast_to" | "slice" | "concatenate" | "pad":
            return _move(name, attributes, output)
    return _numpy(node)
