"""Operators that only move elements: for output elements (linear, row-major numbers) the input elements they copy.

This is their whole definition: `source` says which element of one input each output element takes, -1 for none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gensyn_node.primitives.errors import InvariantViolation
from proofs.arithmetic.elementary import I64Array
from proofs.program.types import Node, TensorType


def unravel(linear: I64Array, shape: tuple[int, ...]) -> list[I64Array]:
    """Row-major index of every axis."""
    indices: list[I64Array] = []
    for size in reversed(shape):
        indices.append(linear % size)
        linear = linear // size
    return indices[::-1]


def ravel(indices: Sequence[I64Array], shape: tuple[int, ...], count: int) -> I64Array:
    """Row-major numbers of `count` elements; a scalar's element has number 0."""
    linear = np.zeros(count, np.int64)
    for index, size in zip(indices, shape, strict=True):
        linear = linear * size + index
    return linear


def broadcast_source(linear: I64Array, output: tuple[int, ...], shape: tuple[int, ...]) -> I64Array:
    """Elements of an input of `shape` that numpy-style broadcasting to `output` puts at `linear`."""
    if output == shape:
        return linear
    indices = unravel(linear, output)[len(output) - len(shape) :]
    kept = [np.zeros_like(index) if size == 1 else index for index, size in zip(indices, shape, strict=True)]
    return ravel(kept, shape, len(linear))


def source(node: Node, inputs: Sequence[TensorType], output: TensorType, number: int, linear: I64Array) -> I64Array:
    """For output elements `linear`, the elements of input `number` that they take; -1 where they take none."""
    shape = inputs[number].shape
    attributes = node.attributes
    match node.operator:
        case "reshape":
            return linear
        case "broadcast_to":
            return broadcast_source(linear, output.shape, shape)
        case "permute":
            indices = unravel(linear, output.shape)
            return ravel([indices[attributes.index(axis)] for axis in range(len(shape))], shape, len(linear))
        case "slice":
            indices = unravel(linear, output.shape)
            moved = [attributes[3 * axis] + index * attributes[3 * axis + 2] for axis, index in enumerate(indices)]
            return ravel(moved, shape, len(linear))
        case "concatenate":
            return _concatenate_source(attributes[0], inputs, output, number, linear)
        case "pad":
            return _pad_source(attributes, shape, output, linear)
        case operator:
            raise InvariantViolation(f"{operator} is not a movement operator")


def _concatenate_source(
    axis: int, inputs: Sequence[TensorType], output: TensorType, number: int, linear: I64Array
) -> I64Array:
    before = sum(type_.shape[axis] for type_ in inputs[:number])
    size, total = inputs[number].shape[axis], output.shape[axis]
    # Seen as (outer, axis, inner) whatever the rank: up to 64 inputs are asked for each piece.
    inner = math.prod(output.shape[axis + 1 :])
    row, within = np.divmod(linear, inner)
    outer, along = np.divmod(row, total)
    along = along - before
    if not ((along >= 0) & (along < size)).any():
        return np.full(len(linear), -1, np.int64)
    return np.where((along >= 0) & (along < size), (outer * size + along) * inner + within, np.int64(-1))


def _pad_source(attributes: tuple[int, ...], shape: tuple[int, ...], output: TensorType, linear: I64Array) -> I64Array:
    inside = np.ones(len(linear), np.bool_)
    moved: list[I64Array] = []
    for axis, index in enumerate(unravel(linear, output.shape)):
        low, _, interior = attributes[3 * axis : 3 * axis + 3]
        shifted = index - low
        moved.append(shifted // (interior + 1))
        inside &= (shifted >= 0) & (shifted % (interior + 1) == 0) & (moved[-1] < shape[axis])
    return np.where(inside, ravel(moved, shape, len(linear)), np.int64(-1))
