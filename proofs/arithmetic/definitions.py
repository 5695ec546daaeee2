"""The definition of every operator on whole tensors, which tile rules, kernels and references equal bit for bit.

Each takes (node, inputs, output type) and returns an array with the output's elements, in any shape that `whole` can
bring into the output's. Slow where exactness asks for a loop; made for tests and small tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import elementwise, generators
from proofs.arithmetic.elementary import F32Array, I64Array, canonical
from proofs.program.types import Node, TensorType
from proofs.tensors import matrix_view

Array = npt.NDArray[Any]
Inputs = Sequence[Array]


def elementwise_value(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Every elementwise operator, on inputs broadcast together."""
    flat = [np.ravel(array) for array in np.broadcast_arrays(*inputs)]
    return elementwise.apply(node.operator, flat, node.attributes)


def reshape(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """The same elements."""
    return inputs[0].reshape(node.attributes)


def permute(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Output axis i is input axis axes[i]."""
    return inputs[0].transpose(node.attributes)


def broadcast_to(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Repeated along axes of size 1 and new ones."""
    return np.broadcast_to(inputs[0], node.attributes)


def _triples(node: Node) -> list[tuple[int, ...]]:
    return [node.attributes[start : start + 3] for start in range(0, len(node.attributes), 3)]


def slice_(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """x[start:stop:step] on every axis."""
    return inputs[0][tuple(slice(*triple) for triple in _triples(node))]


def concatenate(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """One after another along the axis."""
    return np.concatenate(list(inputs), axis=node.attributes[0])


def pad(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Zeros before, after and between."""
    x, padded = inputs[0], np.zeros(output.shape, inputs[0].dtype)
    inside = (
        slice(low, low + (size - 1) * (gap + 1) + 1, gap + 1)
        for size, (low, _, gap) in zip(x.shape, _triples(node), strict=True)
    )
    padded[tuple(inside)] = x
    return padded


def windows(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Axis by axis: take the elements that the windows show, put the bits where they show none."""
    x, attributes = inputs[0], node.attributes
    axes = len(attributes) // 6
    lead = x.ndim - axes
    outside = generators.filled(output.dtype, attributes[0], 1)[0]
    for axis in range(axes):
        size, count, start, step, dilation, interior = attributes[1 + 6 * axis : 7 + 6 * axis]
        place = start + step * np.arange(count) + dilation * np.arange(size)[:, None]
        position, rest = np.divmod(place, interior)
        # Axes done before have become two: the place within the window, and the window.
        at = lead + 2 * axis
        inside = (rest == 0) & (position >= 0) & (position < x.shape[at])
        taken = np.take(x, np.where(inside, position, 0), axis=at)
        x = np.where(inside.reshape(inside.shape + (1,) * (axes - axis - 1)), taken, outside)
    return x.transpose(*range(lead), *range(lead, x.ndim, 2), *range(lead + 1, x.ndim, 2))


def matmul(left: F32Array, right: F32Array) -> F32Array:
    """Every element starts at +0 and for k ascending becomes fl(acc + fl(a * b)); a left operand may repeat."""
    lead = right.shape[:-2] or left.shape[:-2]
    result = np.zeros((*lead, left.shape[-2], right.shape[-1]), np.float32)
    for k in range(left.shape[-1]):
        result = result + left[..., :, k : k + 1] * right[..., k : k + 1, :]
    return canonical(result)


def matmul_value(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """`matmul` of the two inputs."""
    return matmul(inputs[0], inputs[1])


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


def sum_last(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """`sum_rows` along the last axis."""
    return sum_rows(matrix_view(inputs[0]).T)


def sum_first(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """`sum_rows` over the rows of the 2-D view."""
    return sum_rows(matrix_view(inputs[0]))


def argmax_last(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """The first NaN, else the first greatest element (numpy's own rule)."""
    return np.asarray(np.argmax(inputs[0], axis=-1))


def max_last(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """The element at argmax_last."""
    x = matrix_view(inputs[0])
    best = x[np.arange(len(x)), np.argmax(x, axis=1)]
    return canonical(best) if x.dtype == np.float32 else best


def full(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Every element has the bits."""
    return generators.filled(output.dtype, node.attributes[1], output.elements)


def iota(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """The index along the axis."""
    return generators.index_along(node.attributes[0], output, np.arange(output.elements, dtype=np.int64))


def uniform(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """`generators.uniform` of every element."""
    linear = np.arange(output.elements, dtype=np.int64)
    return generators.uniform(inputs[0], int(inputs[1]), node.attributes[0], linear)


def embedding(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """table[ids], zeros where an id is out of range."""
    table, ids = inputs
    inside = (ids >= 0) & (ids < len(table))
    return np.where(inside[..., None], table[np.where(inside, ids, 0)], table.dtype.type(0))


def add_rows(gradient: F32Array, ids: I64Array, rows: int) -> F32Array:
    """Rows of the gradient (N, D) added in order to the rows that their ids name."""
    result = np.zeros((rows, gradient.shape[1]), np.float32)
    for row, chosen in zip(gradient, ids.reshape(-1), strict=True):
        if 0 <= chosen < rows:
            result[chosen] += row
    return canonical(result)


def embedding_grad(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """`add_rows` of the gradient's 2-D view."""
    return add_rows(matrix_view(inputs[0]), inputs[1], node.attributes[0])


def take_last(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """x[…, ids[…]], zero where an id is out of range."""
    x, ids = matrix_view(inputs[0]), inputs[1].reshape(-1)
    inside = (ids >= 0) & (ids < x.shape[1])
    return np.where(inside, x[np.arange(len(x)), np.where(inside, ids, 0)], x.dtype.type(0))


def scatter_last(node: Node, inputs: Inputs, output: TensorType) -> Array:
    """Zeros, except the value at its id's column."""
    columns = np.arange(node.attributes[0])
    return np.where(inputs[1] == columns, inputs[0], inputs[0].dtype.type(0))
