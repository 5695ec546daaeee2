"""What a verifier's evidence shows of the work in each step: tiles of values that only the drawn key names.

The key follows from the beacon that draws the verifiers, so it is known only when the solver is bound; all verifiers
of a segment have the same, so that their evidence stays comparable. Drawn are outputs of matrix products (convolutions
among them): a step's work is there, and every way of running a program has them in memory. Several a step, since up
to the latest of them the step must have been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.hashing import tagged_hash
from proofs.program.types import Node, Program, TensorType
from proofs.tensors import tile_count

SAMPLED_TILES = 4
"""Tiles of a step, each at most 8 KiB (of a matrix product 4 KiB)."""


class Point(NamedTuple):
    """One tile of one value."""

    value: int
    """Value number."""
    tile: int


def evidence_key(beacon: bytes, task_id: bytes, instalment: int, attempt: int, segment: int) -> bytes:
    """What a segment's evidence is drawn by, 32 bytes."""
    return tagged_hash("gensyn/evidence-key/1", beacon, task_id, encode((instalment, attempt, segment)))


def sampled_values(program: Program) -> tuple[int, ...]:
    """The values of which tiles are drawn: the matrix products that something comes from which leaves the step.

    Not the product of a convolution with a bias, which is added before anything is written. A program without any:
    what leaves the step.
    """
    needed, users = needed_values(program), _users(program)
    found = []
    for value, node in enumerate(program.nodes, program.first_node_value):
        if node.operator == "matmul" and value in needed and not _awaits_a_bias(program, users, value, node):
            found.append(value)
    return tuple(found) if found else tuple(dict.fromkeys((*program.state_outputs, program.loss)))


def needed_values(program: Program) -> set[int]:
    """Values that something comes from that leaves the step."""
    needed = {*program.state_outputs, program.loss}
    for value in range(program.value_count - 1, program.first_node_value - 1, -1):
        if value in needed:
            needed.update(program.nodes[value - program.first_node_value].inputs)
    return needed


def _users(program: Program) -> dict[int, list[int]]:
    users: dict[int, list[int]] = {}
    for value, node in enumerate(program.nodes, program.first_node_value):
        for read in dict.fromkeys(node.inputs):
            users.setdefault(read, []).append(value)
    return users


def _awaits_a_bias(program: Program, users: dict[int, list[int]], value: int, node: Node) -> bool:
    """Whether a product with windows is reshaped for a sum, and for nothing else."""
    unrolled = _node(program, node.inputs[1], "reshape")
    if unrolled is None or _node(program, unrolled.inputs[0], "windows") is None:
        return False
    for operator in ("reshape", "add"):
        if len(users.get(value, ())) != 1:
            return False
        (value,) = users[value]
        if _node(program, value, operator) is None:
            return False
    return True


def _node(program: Program, value: int, operator: str) -> Node | None:
    number = value - program.first_node_value
    node = program.nodes[number] if number >= 0 else None
    return node if node is not None and node.operator == operator else None


def points(key: bytes, step: int, values: Sequence[int], types: Sequence[TensorType]) -> tuple[Point, ...]:
    """The tiles that a key draws in a step, out of `sampled_values`."""
    drawn = []
    for number in range(SAMPLED_TILES):
        seed = tagged_hash("gensyn/sample-point/1", key, step.to_bytes(8, "little"), number.to_bytes(4, "little"))
        value = values[int.from_bytes(seed[:8], "little") % len(values)]
        drawn.append(Point(value, int.from_bytes(seed[8:16], "little") % tile_count(types[value])))
    return tuple(drawn)


def sample_of(key: bytes, step: int, tiles: Sequence[bytes]) -> bytes:
    """The hash of a step's drawn tiles, NaNs canonical, in the order of `points`."""
    return tagged_hash("gensyn/sample/1", key, step.to_bytes(8, "little"), *tiles)
