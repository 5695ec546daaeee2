"""The structs of a step program, as they are encoded, hashed and published.

A program is `step(state, batch, step_index) -> (state', loss)`. Its *values* are numbered: first the state entries,
then the batch inputs, then the step index (one i64 scalar), then the nodes in list order. A node names its inputs by
value number, always smaller than its own. Types of nodes are not stored; they follow from `operators.infer`.
"""

from __future__ import annotations

from gensyn_node.primitives.codec import Struct, encode
from gensyn_node.primitives.hashing import tagged_hash

OPSET = 1

F32, I64, BOOL, U8 = "f32", "i64", "bool", "u8"
ITEM_BYTES = {F32: 4, I64: 8, BOOL: 1, U8: 1}
"""Every dtype of opset 1 and the bytes of one element (little-endian; bool is 0 or 1)."""


class TensorType(Struct):
    """Element type and shape; a scalar has the empty shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def matrix(self) -> tuple[int, int]:
        """The 2-D view that commitments use: product of the leading dimensions × last dimension; a scalar is 1 × 1."""
        columns = self.shape[-1] if self.shape else 1
        rows = 1
        for size in self.shape[:-1]:
            rows *= size
        return rows, columns


class Fill(Struct, tag=0):
    """Every element has this value."""

    bits: int
    """The little-endian bits of the element as an unsigned integer (f32: IEEE-754 bits)."""


class Uniform(Struct, tag=1):
    """f32 elements uniform in [-bound, bound), from Philox keyed by the task's seed and the entry's number."""

    bound_bits: int
    """IEEE-754 bits of the f32 bound."""


class Given(Struct, tag=2):
    """Taken from the task's initial checkpoint."""


class Seed(Struct, tag=3):
    """i64 of shape (2,): two 32-bit words of a key derived from the task's seed; the key input of `uniform`."""


class StateEntry(Struct):
    """One tensor of the state: parameter, optimizer moment, buffer or constant."""

    name: str
    """`parameter.<name>`, `buffer.<name>` (constant or not), `constant.<name>` or `optimizer.<slot>.<name>`."""
    type: TensorType
    initial: Fill | Uniform | Given | Seed


class BatchInput(Struct):
    """One tensor of the batch: `batch_size` records of one dataset tensor, drawn by the keyed permutation."""

    name: str
    """The dataset tensor's name, such as `x`, `y` or `tokens`."""
    record: TensorType
    """Dtype and shape of one record; the batch value has shape (batch_size, *record.shape)."""


class Node(Struct):
    """One operator application."""

    operator: str
    """A name of the opset's table."""
    inputs: tuple[int, ...]
    """Value numbers."""
    attributes: tuple[int, ...]
    """Integers whose meaning the operator fixes (axes, sizes, bits of constants)."""


class Program(Struct):
    """One training step."""

    opset: int
    state: tuple[StateEntry, ...]
    batch_size: int
    batch: tuple[BatchInput, ...]
    nodes: tuple[Node, ...]
    state_outputs: tuple[int, ...]
    """For each state entry in order, the value that it becomes; its type equals the entry's."""
    loss: int
    """The value that is the loss, an f32 scalar."""

    @property
    def step_index_value(self) -> int:
        """The value number of the step index."""
        return len(self.state) + len(self.batch)

    @property
    def first_node_value(self) -> int:
        """The value number of the first node."""
        return len(self.state) + len(self.batch) + 1

    @property
    def value_count(self) -> int:
        """Number of values."""
        return self.first_node_value + len(self.nodes)


def program_id(program: Program) -> bytes:
    """The 32-byte identity of a program: the hash of its canonical encoding."""
    return tagged_hash("gensyn/program/1", encode(program))
