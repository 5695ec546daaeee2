"""What a party must know to play: the `Oracle`, and one made from a re-execution that keeps a step's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from gensyn_node.primitives.limits import PROGRAM_VALUES_MAX
from proofs import tensors
from proofs.pinpoint.context import Context
from proofs.program.types import Program
from proofs.tensors import Array
from proofs.tiled import TiledTensor


class Oracle(Protocol):
    """One party's knowledge, by re-execution. Steps are absolute; value numbers are the program's."""

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        """The steps + 1 state roots before `first_step` … after the last step."""
        ...

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Those state roots, and the sample that the key draws in each of the steps."""
        ...

    def entry_roots(self, step: int) -> Sequence[bytes]:
        """The tensor root of each state entry before `step`."""
        ...

    def value_roots(self, step: int) -> Sequence[bytes]:
        """The tensor roots of the batch values and the nodes of `step`, in list order."""
        ...

    def tile_leaves(self, step: int, value: int) -> Sequence[bytes]:
        """The leaf hash of every tile of a value (of a state entry: before `step`)."""
        ...

    def tile(self, step: int, value: int, index: int) -> Array:
        """One tile of a value, 2-D."""
        ...

    def dataset_paths(self, batch_input: int, indices: tuple[int, ...]) -> Sequence[tuple[bytes, ...]]:
        """The Merkle path of tiles of the whole dataset tensor behind a batch input (0 is the first)."""
        ...

    def dataset_tile(self, batch_input: int, index: int) -> Array:
        """One tile of that dataset tensor, 2-D."""
        ...


class Execution(Protocol):
    """A re-execution that can give every value of any step of the disputed segment."""

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        """As `Oracle.state_roots`."""
        ...

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """As `Oracle.evidence`."""
        ...

    def values(self, step: int) -> Sequence[Array]:
        """Every value of `step` by value number: state entries before it, batch values, step index, nodes."""
        ...

    def dataset(self, batch_input: int) -> TiledTensor:
        """The whole dataset tensor behind a batch input, which may be larger than memory."""
        ...


class ArrayOracle:
    """An `Oracle` over an `Execution`: hashes the arrays of the step that is asked for, and keeps the last ones."""

    def __init__(self, program: Program, execution: Execution) -> None:
        self._program = program
        self._types = Context(program, (), b"").types
        self._execution = execution
        self._values = lru_cache(maxsize=1)(execution.values)
        self._leaves = lru_cache(maxsize=8)(self._hash_value)
        # Small, and asked for in three moves by either party.
        self._root = lru_cache(maxsize=4 * PROGRAM_VALUES_MAX)(self._hash_tree)
        self.dataset_paths = lru_cache(maxsize=4)(self._prove_in_dataset)

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        """See `Oracle`."""
        return self._execution.state_roots(first_step, steps)

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """See `Oracle`."""
        return self._execution.evidence(first_step, steps, key)

    def entry_roots(self, step: int) -> Sequence[bytes]:
        """See `Oracle`."""
        return [self._root(step, value) for value in range(len(self._program.state))]

    def value_roots(self, step: int) -> Sequence[bytes]:
        """See `Oracle`."""
        values, index = range(self._program.value_count), self._program.step_index_value
        return [self._root(step, value) for value in (*values[len(self._program.state) : index], *values[index + 1 :])]

    def tile_leaves(self, step: int, value: int) -> Sequence[bytes]:
        """See `Oracle`."""
        return self._leaves(step, value)

    def tile(self, step: int, value: int, index: int) -> Array:
        """See `Oracle`."""
        return tensors.tile_of(self._values(step)[value], index)

    def dataset_tile(self, batch_input: int, index: int) -> Array:
        """See `Oracle`."""
        return self._execution.dataset(batch_input).tile(index)

    def _hash_tree(self, step: int, value: int) -> bytes:
        """The root under the program's type: numpy likes to turn a scalar into one dimension."""
        return tensors.tensor_root(self._types[value], tensors.tile_leaves(self._values(step)[value]))

    def _hash_value(self, step: int, value: int) -> list[bytes]:
        return tensors.tile_leaves(self._values(step)[value])

    def _prove_in_dataset(self, batch_input: int, indices: tuple[int, ...]) -> Sequence[tuple[bytes, ...]]:
        return self._execution.dataset(batch_input).paths(indices)
