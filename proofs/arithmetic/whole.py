"""Every operator on whole tensors: the short definition that tile rules, kernels and references must equal bit for bit.

Slow where exactness asks for a loop; made for tests and small tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import elementwise, generators
from proofs.arithmetic.elementary import F32Array, I64Array, canonical
from proofs.program.operators import OPERATORS, infer
from proofs.program.types import Node
from proofs.tensors import matrix_view, type_of

Array = npt.NDArray[Any]


def compute_value(node: Node, inputs: Sequence[Array]) -> Array:
    """The output of a node on whole input arrays, C-contiguous. Rejection when the operator is not defined on them."""
    output = infer(node.operator, tuple(type_of(array) for array in inputs), node.attributes)
    with np.errstate(all="ignore"):
        match OPERATORS[node.operator].family:
            case "elementwise":
                flat = [np.ravel(array) for array in np.broadcast_arrays(*inputs)]
                result = elementwise.apply(node.operator, flat, node.attributes)
            case "movement":
                result = _move(node.operator, inputs, node.attributes)
            case "matmul":
                result = matmul(inputs[0], inputs[1])
            case _:
                result = _special(node, inputs, output.elements)
    return np.ascontiguousarray(result).reshape(output.shape)


def _move(operator: str, inputs: Sequence[Array], attributes: tuple[int, ...]) -> Array:
    x = inputs[0]
    triples = [attributes[3 * axis : 3 * axis + 3] for axis in range(x.ndim)]
    match operator:
        case "reshape":
            return x.reshape(attributes)
        case "permute":
            return x.transpose(attributes)
        case "broadcast_to":
            return np.broadcast_to(x, attributes)
        case "slice":
            return x[tuple(slice(*triple) for triple in triples)]
        case "concatenate":
            return np.concatenate(inputs, axis=attributes[0])
    sizes = [low + size + (size - 1) * gap + high for size, (low, high, gap) in zip(x.shape, triples, strict=True)]
    padded = np.zeros(sizes, x.dtype)
    inside = (
        slice(low, low + (size - 1) * (gap + 1) + 1, gap + 1)
        for size, (low, _, gap) in zip(x.shape, triples, strict=True)
    )
    padded[tuple(inside)] = x
    return padded


def matmul(left: F32Array, right: F32Array) -> F32Array:
    """Every element starts at +0 and for k ascending becomes fl(acc + fl(a * b))."""
    result = np.zeros((*left.shape[:-1], right.shape[-1]), np.float32)
    for k in range(left.shape[-1]):
        result = result + left[..., :, k : k + 1] * right[..., k : k + 1, :]
    return canonical(result)


def sum_rows(x: Array) -> Array:
    """Sum over the first axis of a 2-D array, (n, D) -> (1, D): 32 lanes, then halves added."""
    lanes = np.zeros((32, x.shape[1]), x.dtype)
    for start in range(0, x.shape[0], 32):
        block = x[start : start + 32]
        lanes[: len(block)] += block
    return halve(lanes)


def halve(lanes: Array) -> Array:
    """(32, D) -> (1, D): lanes[:h] += lanes[h:2h] for h = 16, 8, 4, 2, 1; canonical NaNs."""
    for half in (16, 8, 4, 2, 1):
        lanes = lanes[:half] + lanes[half : 2 * half]
    return canonical(lanes) if lanes.dtype == np.float32 else lanes


def _special(node: Node, inputs: Sequence[Array], elements: int) -> Array:
    match node.operator:
        case "sum_last":
            return sum_rows(matrix_view(inputs[0]).T)
        case "sum_first":
            return sum_rows(matrix_view(inputs[0]))
        case "argmax_last":
            return np.asarray(np.argmax(inputs[0], axis=-1))
        case "max_last":
            x = matrix_view(inputs[0])
            best = x[np.arange(len(x)), np.argmax(x, axis=1)]
            return canonical(best) if x.dtype == np.float32 else best
        case "uniform":
            linear = np.arange(elements, dtype=np.int64)
            return generators.uniform(inputs[0], int(inputs[1]), node.attributes[0], linear)
        case "embedding":
            return rows_at(inputs[0], inputs[1])
        case "embedding_grad":
            return embedding_grad(matrix_view(inputs[0]), inputs[1], node.attributes[0])
        case "take_last":
            x, ids = matrix_view(inputs[0]), inputs[1].reshape(-1)
            inside = (ids >= 0) & (ids < x.shape[1])
            return np.where(inside, x[np.arange(len(x)), np.where(inside, ids, 0)], x.dtype.type(0))
        case "scatter_last":
            columns = np.arange(node.attributes[0])
            return np.where(inputs[1] == columns, inputs[0], inputs[0].dtype.type(0))
    output = infer(node.operator, (), node.attributes)
    return generators.generate(node, output, np.arange(elements, dtype=np.int64))


def rows_at(table: Array, ids: I64Array) -> Array:
    """table[ids], zeros where an id is out of range."""
    inside = (ids >= 0) & (ids < len(table))
    return np.where(inside[..., None], table[np.where(inside, ids, 0)], table.dtype.type(0))


def embedding_grad(gradient: F32Array, ids: I64Array, rows: int) -> F32Array:
    """Rows of the gradient (N, D) added in order to the rows that their ids name."""
    result = np.zeros((rows, gradient.shape[1]), np.float32)
    for row, chosen in zip(gradient, ids.reshape(-1), strict=True):
        if 0 <= chosen < rows:
            result[chosen] += row
    return canonical(result)
