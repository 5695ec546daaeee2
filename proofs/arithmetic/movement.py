"""Operators that only move elements: for output elements (linear, row-major numbers) the input elements they copy.

This is their whole definition: `source` says which element of one input each output element takes, -1 for none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from proofs.arithmetic.elementary import I64Array
from proofs.program.types import Node, TensorType

Attributes = tuple[int, ...]
Types = Sequence[TensorType]


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
    return SOURCES[node.operator](node.attributes, inputs, output, number, linear)


def _reshape_source(
    attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array
) -> I64Array:
    return linear


def _broadcast_to_source(
    attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array
) -> I64Array:
    return broadcast_source(linear, output.shape, inputs[number].shape)


def _permute_source(
    attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array
) -> I64Array:
    shape, indices = inputs[number].shape, unravel(linear, output.shape)
    return ravel([indices[attributes.index(axis)] for axis in range(len(shape))], shape, len(linear))


def _slice_source(attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array) -> I64Array:
    indices = unravel(linear, output.shape)
    moved = [attributes[3 * axis] + index * attributes[3 * axis + 2] for axis, index in enumerate(indices)]
    return ravel(moved, inputs[number].shape, len(linear))


def _concatenate_source(
    attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array
) -> I64Array:
    axis = attributes[0]
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


def _pad_source(attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array) -> I64Array:
    shape = inputs[number].shape
    inside = np.ones(len(linear), np.bool_)
    moved: list[I64Array] = []
    for axis, index in enumerate(unravel(linear, output.shape)):
        low, _, interior = attributes[3 * axis : 3 * axis + 3]
        shifted = index - low
        moved.append(shifted // (interior + 1))
        inside &= (shifted >= 0) & (shifted % (interior + 1) == 0) & (moved[-1] < shape[axis])
    return np.where(inside, ravel(moved, shape, len(linear)), np.int64(-1))


def _windows_source(
    attributes: Attributes, inputs: Types, output: TensorType, number: int, linear: I64Array
) -> I64Array:
    shape, axes = inputs[number].shape, len(attributes) // 6
    lead = len(shape) - axes
    indices = unravel(linear, output.shape)
    inside = np.ones(len(linear), np.bool_)
    moved = indices[:lead]
    for axis, (within, at) in enumerate(zip(indices[lead : lead + axes], indices[lead + axes :], strict=True)):
        start, step, dilation, interior = attributes[3 + 6 * axis : 7 + 6 * axis]
        position, rest = np.divmod(start + step * at + dilation * within, interior)
        inside &= (rest == 0) & (position >= 0) & (position < shape[lead + axis])
        moved.append(np.where(inside, position, 0))
    return np.where(inside, ravel(moved, shape, len(linear)), np.int64(-1))


SOURCES: dict[str, Callable[[Attributes, Types, TensorType, int, I64Array], I64Array]] = {
    "reshape": _reshape_source,
    "permute": _permute_source,
    "broadcast_to": _broadcast_to_source,
    "slice": _slice_source,
    "concatenate": _concatenate_source,
    "pad": _pad_source,
    "windows": _windows_source,
}
"""Movement operator -> (attributes, input types, output type, input number, output elements) -> its elements, or -1."""
