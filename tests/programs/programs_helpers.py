"""Small programs and readers that the tests of programs and arithmetic share."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from proofs.program.types import F32, I64, BatchInput, Fill, Given, Node, Program, Seed, StateEntry, TensorType, Uniform
from proofs.tensors import matrix_view

Array = NDArray[Any]

ONE_BITS = 0x3F800000


def node(operator: str, *attributes: int, inputs: tuple[int, ...] = ()) -> Node:
    """A node; tile rules and definitions do not look at its inputs."""
    return Node(operator, inputs, attributes)


class ArrayReader:
    """Gives tiles of whole arrays and remembers which, with their bytes."""

    def __init__(self, arrays: list[Array]) -> None:
        self.matrices = [matrix_view(array) for array in arrays]
        self.bytes_read: dict[tuple[int, int, int], int] = {}

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """One 32×32 tile; an IndexError outside the grid."""
        rows, columns = self.matrices[input_number].shape
        if not (0 <= tile_row * 32 < rows and 0 <= tile_column * 32 < columns):
            raise IndexError(f"no tile ({tile_row}, {tile_column}) in a {rows}×{columns} matrix")
        part = self.matrices[input_number][tile_row * 32 : tile_row * 32 + 32, tile_column * 32 : tile_column * 32 + 32]
        self.bytes_read[input_number, tile_row, tile_column] = part.nbytes
        return part


def same_bits(left: Array, right: Array) -> bool:
    """Equal dtype, shape and bytes."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def linear_regression() -> Program:
    """One SGD step of y = x w + b with squared loss: every structural feature in 17 nodes."""
    state = (
        StateEntry("parameter.weight", TensorType(F32, (3, 1)), Uniform(ONE_BITS)),
        StateEntry("parameter.bias", TensorType(F32, (1, 1)), Fill(0)),
        StateEntry("constant.seed", TensorType(I64, (2,)), Seed()),
        StateEntry("constant.rate", TensorType(F32, ()), Given()),
    )
    batch = (BatchInput("x", TensorType(F32, (3,))), BatchInput("y", TensorType(F32, (1,))))
    # Values: 0 weight, 1 bias, 2 seed, 3 rate, 4 x (8,3), 5 y (8,1), 6 step, 7… nodes.
    nodes = (
        Node("matmul", (4, 0), ()),  # 7 (8,1)
        Node("add", (7, 1), ()),  # 8
        Node("sub", (8, 5), ()),  # 9 error
        Node("mul", (9, 9), ()),  # 10
        Node("sum_first", (10,), ()),  # 11 (1,1)
        Node("reshape", (11,), ()),  # 12 loss
        Node("permute", (4,), (1, 0)),  # 13 (3,8)
        Node("matmul", (13, 9), ()),  # 14 (3,1)
        Node("mul", (14, 3), ()),  # 15
        Node("sub", (0, 15), ()),  # 16 new weight
        Node("sum_first", (9,), ()),  # 17
        Node("mul", (17, 3), ()),  # 18
        Node("sub", (1, 18), ()),  # 19 new bias
    )
    return Program(1, state, 8, batch, nodes, (16, 19, 2, 3), 12)
