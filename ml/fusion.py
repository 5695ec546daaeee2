"""Which operators of a program share a loop.

Elementwise operators of one output shape wait in a pending group until a value of theirs is needed elsewhere: by
another kind of operator, by another shape, or at the end. A group's inputs are always made before it, so the order is
valid; fusing changes which values are written to memory and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ml.kernels.elementwise import Group, Operation
from ml.kernels.emit import FUSIBLE
from ml.kernels.recipe import Recipe
from ml.window_fusion import Match, WindowFusion
from proofs.program.operators import infer
from proofs.program.shapes import DTYPES
from proofs.program.types import Program, TensorType
from proofs.program.validate import input_types

OPERATORS_MAX = 48
"""Operators of one loop: beyond it registers spill and compiling slows."""
INPUTS_MAX = 16
"""Streams of one loop."""

Types = tuple[TensorType, ...]
Kernel = Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]
"""Inputs → outputs."""


@dataclass(frozen=True)
class Piece:
    """One instruction: a single node, or a group with what it reads and writes."""

    values: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    group: Callable[[Types], Group] | None = None
    recipe: Recipe | None = None
    """Of a graph that has kernels of its own."""


def fuse(program: Program, types: Types | None = None, recipes: bool = True) -> list[Piece]:
    """The program's nodes as pieces in a valid order; constants that only loops use disappear into them.

    `types` of all values, where they do not follow from the operators. `recipes`: whether graphs may have kernels of
    their own, which this processor runs.
    """
    return _Fusion(program, types, recipes).run()


class _Fusion:
    def __init__(self, program: Program, types: Types | None, recipes: bool) -> None:
        self.program = program
        self.first = program.first_node_value
        self.types = list(types) if types is not None else input_types(program)
        for node in program.nodes[len(self.types) - self.first :]:
            self.types.append(infer(node.operator, tuple(self.types[item] for item in node.inputs), node.attributes))
        self.users: dict[int, set[int]] = {}
        for value, node in enumerate(program.nodes, start=self.first):
            for item in node.inputs:
                self.users.setdefault(item, set()).add(value)
        self.results = {*program.state_outputs, program.loss}
        self.matches: dict[int, Match] = {}
        self.unmade: set[int] = set()
        if recipes:
            self.matches, self.unmade = WindowFusion(program, self.types, self.users).find()
        self.pending: dict[int, list[int]] = {}
        """Value → the pending group that makes it (shared list)."""
        self.pieces: list[Piece] = []
        self.made: set[int] = set()

    def run(self) -> list[Piece]:
        for value, node in enumerate(self.program.nodes, start=self.first):
            if node.operator == "full" or value in self.unmade:
                continue
            match = self.matches.get(value)
            if match is not None:
                if value == min(match.outputs):
                    for item in match.inputs:
                        self._need(item)
                    self.pieces.append(Piece(match.outputs, match.inputs, match.outputs, recipe=match.recipe))
                continue
            if node.operator in FUSIBLE:
                self._add(value)
                continue
            for item in node.inputs:
                self._need(item)
            self.pieces.append(Piece((value,)))
        for value in sorted(self.results):
            self._need(value)
        for value in list(self.pending):
            if value in self.pending:
                self._flush(self.pending[value])
        return self.pieces

    def _is_constant(self, value: int) -> bool:
        return value >= self.first and self.program.nodes[value - self.first].operator == "full"

    def _need(self, value: int) -> None:
        """Make a value now, if it is pending or a constant."""
        if value in self.pending:
            self._flush(self.pending[value])
        elif self._is_constant(value) and value not in self.made:
            self.made.add(value)
            self.pieces.append(Piece((value,)))

    def _add(self, value: int) -> None:
        """Put an elementwise node into the group of its inputs, or into a new one."""
        shape = self.types[value].shape
        node = self.program.nodes[value - self.first]
        group: list[int] = []
        for item in node.inputs:
            made_by = self.pending.get(item)
            if made_by is None or made_by is group:
                continue
            if self.types[item].shape != shape or len(group) + len(made_by) >= OPERATORS_MAX:
                self._flush(made_by)
                continue
            if self._streams([*group, *made_by, value]) > INPUTS_MAX:
                self._flush(made_by)
                continue
            group = sorted([*group, *made_by])
        if any(item in self.made for item in group):
            group = []
        group = [*group, value]
        for item in group:
            self.pending[item] = group

    def _streams(self, members: list[int]) -> int:
        inside = set(members)
        read = {item for member in members for item in self.program.nodes[member - self.first].inputs}
        return len({item for item in read - inside if not self._is_constant(item)})

    def _flush(self, members: list[int]) -> None:
        inside = set(members)
        for member in members:
            self.pending.pop(member, None)
            self.made.add(member)
        read = [item for member in members for item in self.program.nodes[member - self.first].inputs]
        inputs = tuple(dict.fromkeys(item for item in read if item not in inside and not self._is_constant(item)))
        constants = tuple(dict.fromkeys(item for item in read if self._is_constant(item)))
        outputs = tuple(
            member for member in members if member in self.results or not self.users.get(member, set()) <= inside
        )
        self.pieces.append(
            Piece(
                tuple(members),
                inputs,
                outputs,
                lambda types: _group(self.program, types, members, inputs, constants, outputs),
            )
        )


def _group(
    program: Program,
    types: Types,
    members: list[int],
    inputs: tuple[int, ...],
    constants: tuple[int, ...],
    outputs: tuple[int, ...],
) -> Group:
    slots = {value: slot for slot, value in enumerate((*inputs, *constants, *members))}
    first = program.first_node_value
    bits = [program.nodes[value - first].attributes[:2] for value in constants]
    operations = []
    for member in members:
        node = program.nodes[member - first]
        taken = tuple(slots[item] for item in node.inputs)
        operations.append(Operation(node.operator, taken, node.attributes, types[member].dtype))
    return Group(
        tuple(types[value].dtype for value in inputs),
        tuple((DTYPES[code], number) for code, number in bits),
        tuple(operations),
        tuple(slots[value] for value in outputs),
        types[members[0]].shape,
    )
