"""The memory of a step: places of values in an arena, and the blocks that hold what a step returns."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

LINE = 64
"""Every buffer begins at a cache line."""

Block = np.ndarray[Any, np.dtype[np.uint8]]


class Memory:
    """Aligned memory, and tensors over places in it."""

    def __init__(self, block: Block) -> None:
        self.address = -(-block.ctypes.data // LINE) * LINE
        start = self.address - block.ctypes.data
        self._raw = torch.from_numpy(block)[start : start + (len(block) - start) // LINE * LINE]
        self._by_dtype: dict[torch.dtype, torch.Tensor] = {}

    def tensor(
        self, dtype: torch.dtype, shape: Sequence[int], strides: Sequence[int], offset_bytes: int, elements: int = 0
    ) -> torch.Tensor:
        """A tensor that begins `elements` elements behind an offset."""
        flat = self._by_dtype.get(dtype)
        if flat is None:
            flat = self._by_dtype[dtype] = self._raw.view(dtype)
        begin = flat.storage_offset() + offset_bytes // dtype.itemsize + elements
        return flat.as_strided(tuple(shape), tuple(strides), begin)


@dataclass
class Buffer:
    """Memory of one value, and of its views."""

    size: int
    """Bytes."""
    kind: str
    """`arena`, `input` (a tensor that the caller gives), `output` (one that the step returns), `constant`, or `made`
    (a tensor that a kernel in Python gives)."""
    number: int
    """Of the input, the constant or the tensor made."""
    first: int = -1
    last: int = -1
    """Instructions that write it first and use it last."""
    offset: int = 0
    """In the arena, or in the block of outputs."""


@dataclass(frozen=True)
class Place:
    """Where a value lies: a buffer, and a meta tensor whose offset and strides say the rest."""

    buffer: Buffer
    view: torch.Tensor

    @property
    def strides(self) -> tuple[int, ...]:
        """In elements."""
        return self.view.stride()

    @property
    def offset(self) -> int:
        """Bytes from the buffer's start."""
        return int(self.view.storage_offset()) * self.view.element_size()


class Outputs:
    """What a step returns: values that are written into one block of memory, and inputs that are passed on.

    A block is used again as soon as no tensor over it is left.
    """

    KEPT = 3
    """Blocks held for use again: a state, the one that becomes it, and one that somebody still looks at."""

    def __init__(self, returned: Sequence[Place | int]) -> None:
        """`returned`: state' and the loss, each a place to be or the number of an input."""
        self.size = 0
        """Bytes of a block."""
        self._items: list[tuple[torch.dtype, tuple[int, ...], int] | int] = []
        """(dtype, shape, offset in bytes), or the number of the input that is passed on."""
        self._blocks: list[tuple[Block, weakref.ref[Block]]] = []
        for place in returned:
            if isinstance(place, int):
                self._items.append(place)
                continue
            place.buffer.offset = self.size
            self.size += -(-place.buffer.size // LINE) * LINE
            self._items.append((place.view.dtype, tuple(place.view.shape), place.buffer.offset))

    def block(self) -> Block:
        """Memory that nobody looks at."""
        for place, (memory, seen) in enumerate(self._blocks):
            if seen() is None:
                view = memory.view()
                self._blocks[place] = (memory, weakref.ref(view))
                return view
        memory = np.empty(self.size + 2 * LINE, np.uint8)
        view = memory.view()
        if len(self._blocks) < self.KEPT:
            self._blocks.append((memory, weakref.ref(view)))
        return view

    def tensors(self, block: Memory, inputs: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(state', loss) over a block."""
        made = []
        for item in self._items:
            if isinstance(item, int):
                made.append(inputs[item])
                continue
            dtype, shape, offset = item
            made.append(block.tensor(dtype, shape, _steps(shape), offset))
        return made[:-1], made[-1]


@lru_cache(maxsize=4096)
def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * max(shape[axis + 1], 1)
    return tuple(steps)
