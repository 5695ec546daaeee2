"""Taking the tiles that an evidence's key draws, while a step runs: each is copied when its value was just made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.primitives.limits import TILE
from proofs import tensors
from proofs.arithmetic.jobs import element_numbers
from proofs.program.types import Program, TensorType
from proofs.samples import Point
from proofs.tensors import Array

Look = Callable[[int, torch.Tensor], None]
"""Sees a value by its number; its memory is another's later."""
_NAN = np.array(0x7FC00000, np.uint32).view(np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Take:
    """A tile to copy out of a value."""

    value: int
    top: int
    left: int
    """Row and column where it begins in the 2-D view."""
    target: Array
    """Where it goes: 2-D, of the tile's size and the value's dtype."""


class Collector:
    """The drawn tiles of one step."""

    def __init__(self, points: Sequence[Point], types: Sequence[TensorType]) -> None:
        self._points = points
        self._types = types
        self._found: dict[Point, Array] = {}
        self._missing: dict[Point, int] = {}
        """Of values that come in parts: elements that are still to come."""
        self.values = frozenset(point.value for point in points)

    def takes(self, values: Collection[int]) -> list[Take]:
        """What is to be copied of these values; whoever asks does it."""
        found = []
        for point in dict.fromkeys(self._points):
            if point.value in values:
                type_ = self._types[point.value]
                down, along = divmod(point.tile, tensors.tile_grid(type_)[1])
                target = np.empty(tensors.tile_shape(type_, point.tile), tensors.NUMPY_DTYPES[type_.dtype])
                self._found[point] = target
                found.append(Take(point.value, TILE * down, TILE * along, target))
        return found

    def whole(self, value: int, tensor: torch.Tensor) -> None:
        """A value was made."""
        rows, columns = self._types[value].matrix
        here = tensor.device.type == "cpu"
        # Of a device's tensor the tile alone is fetched; numpy is the quicker one where a step takes a millisecond.
        matrix = tensor.numpy().reshape(rows, columns) if here else tensor.reshape(rows, columns)
        for point in self._points:
            if point.value == value:
                top, left = (TILE * place for place in divmod(point.tile, -(-columns // TILE)))
                tile = matrix[top : top + TILE, left : left + TILE]
                self._found[point] = tile.copy() if isinstance(tile, np.ndarray) else tile.cpu().numpy()

    def part(self, value: int, tensor: torch.Tensor, axis: int, first: int) -> None:
        """A piece of a value was made, from index `first` of an axis on."""
        type_ = self._types[value]
        for point in dict.fromkeys(self._points):
            if point.value != value:
                continue
            places = np.unravel_index(element_numbers(type_, point.tile), type_.shape)
            along = places[axis] - first
            here = (along >= 0) & (along < tensor.shape[axis])
            if not here.any():
                continue
            if point not in self._found:
                self._found[point] = np.empty(len(here), tensors.NUMPY_DTYPES[type_.dtype])
                self._missing[point] = len(here)
            inside = tuple((along if number == axis else place)[here] for number, place in enumerate(places))
            self._found[point][here] = tensor.numpy()[inside]
            self._missing[point] -= int(here.sum())

    def results(self, program: Program, state: Sequence[torch.Tensor], loss: torch.Tensor) -> None:
        """What a step returned."""
        for value, tensor in zip((*program.state_outputs, program.loss), (*state, loss), strict=True):
            if value in self.values:
                self.whole(value, tensor)

    def tiles(self) -> list[bytes]:
        """The bytes of the tiles in the order of the points, NaNs canonical."""
        if set(self._found) != set(self._points) or any(self._missing.values()):
            raise InvariantViolation("a step did not make a value of which a tile is drawn")
        return [_bytes(self._found[point]) for point in self._points]


def _bytes(tile: Array) -> bytes:
    if tile.dtype == np.float32:
        tile = np.where(np.isnan(tile), _NAN, tile)
    return tensors.tile_bytes(tile)
