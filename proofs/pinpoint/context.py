"""What the chain knows of the disputed task, and the numbering of values that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gensyn_node.primitives.errors import Rejection
from proofs import tensors
from proofs.dataset import DatasetTensor
from proofs.program.operators import infer
from proofs.program.types import I64, Given, Node, Program, TensorType, program_id
from proofs.reasons import BAD_CLAIM
from proofs.samples import Point, points, sampled_values
from proofs.state import state_root


@dataclass(frozen=True)
class Context:
    """The referee's knowledge: everything here is on the chain, and agreed."""

    program: Program
    """Validated when it was published."""
    dataset: tuple[DatasetTensor, ...]
    seed: bytes
    """The task's seed."""
    checkpoint: bytes = b""
    """`state.checkpoint_root` of the entries that are `Given`; empty when there are none."""

    @cached_property
    def program_id(self) -> bytes:
        """The program's identity."""
        return program_id(self.program)

    @cached_property
    def entry_names(self) -> tuple[str, ...]:
        """The names of the state entries, in order."""
        return tuple(entry.name for entry in self.program.state)

    @cached_property
    def types(self) -> tuple[TensorType, ...]:
        """The type of every value, by value number."""
        program = self.program
        types = [entry.type for entry in program.state]
        types += [batch_type(program.batch_size, batch.record) for batch in program.batch]
        types.append(STEP_INDEX_TYPE)
        for node in program.nodes:
            types.append(infer(node.operator, tuple(types[value] for value in node.inputs), node.attributes))
        return tuple(types)

    @cached_property
    def sampled_values(self) -> tuple[int, ...]:
        """The values of which an evidence's key draws tiles."""
        return sampled_values(self.program)

    def points(self, key: bytes, step: int) -> tuple[Point, ...]:
        """The tiles that the key draws in a step."""
        return points(key, step, self.sampled_values, self.types)

    @property
    def listed_values(self) -> int:
        """Length of the list of a step's values: batch values and nodes."""
        return len(self.program.batch) + len(self.program.nodes)

    def state_root(self, step: int, entry_roots: Sequence[bytes]) -> bytes:
        """The root of the state before `step`."""
        return state_root(self.program_id, step, self.entry_names, entry_roots)

    def value_of(self, list_index: int) -> int:
        """The value number of an item of the list."""
        value = len(self.program.state) + list_index
        return value if value < self.program.step_index_value else value + 1

    def list_index_of(self, value: int) -> int | None:
        """The list index of a value; None for state entries and the step index."""
        entries = len(self.program.state)
        if value < entries or value == self.program.step_index_value:
            return None
        return value - entries - (1 if value > self.program.step_index_value else 0)

    def unlisted_root(self, step: int, value: int, entry_roots: Sequence[bytes]) -> bytes:
        """The root of a value that is not in the list: a state entry or the step index."""
        if value == self.program.step_index_value:
            return step_index_root(step)
        return entry_roots[value]

    def node_of(self, value: int) -> Node | None:
        """The node that computes a value; None for inputs."""
        number = value - self.program.first_node_value
        return self.program.nodes[number] if number >= 0 else None

    def dataset_of(self, batch_input: int) -> DatasetTensor:
        """The dataset tensor behind a batch input; `Rejection` BAD_CLAIM when the dataset lacks it."""
        batch = self.program.batch[batch_input]
        for tensor in self.dataset:
            if tensor.name == batch.name and tensor.record == batch.record:
                return tensor
        raise Rejection(BAD_CLAIM, f"the dataset has no tensor {batch.name!a} of the batch's record type")

    def given_position(self, entry: int) -> tuple[int, int]:
        """Position of a `Given` entry among all of them, and their number."""
        given = [number for number, other in enumerate(self.program.state) if isinstance(other.initial, Given)]
        return given.index(entry), len(given)


STEP_INDEX_TYPE = TensorType(I64, ())


def batch_type(batch_size: int, record: TensorType) -> TensorType:
    """The type of a batch value."""
    return TensorType(record.dtype, (batch_size, *record.shape))


def step_index_array(step: int) -> tensors.Array:
    """The step index as a value."""
    return np.array(step, np.int64)


def step_index_root(step: int) -> bytes:
    """The tensor root of the step index."""
    return tensors.root_of(step_index_array(step), STEP_INDEX_TYPE)
