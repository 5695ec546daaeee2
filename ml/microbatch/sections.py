"""A program cut in three: what does not depend on the batch, what is done for every part of it, and the rest.

The middle is the program with smaller shapes. What it needs of the first section it gets whole, or as the piece that
belongs to the part; constants, broadcasts and randomness are made for the part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from ml.fusion import Kernel
from ml.interpreter import canonical, makes_nan
from ml.kernels.table import kernel
from ml.microbatch.accumulate import ACCUMULATORS, Accumulator
from ml.microbatch.records import Along, Records, aligned
from ml.plan import Plan
from ml.samples import Look
from proofs.arithmetic.generators import uniform
from proofs.program.operators import OPERATORS
from proofs.program.types import BOOL, I64, Fill, Node, Program, StateEntry, TensorType
from proofs.samples import needed_values

DONE = torch.zeros((), dtype=torch.bool)
"""What a node gives that adds to a running sum."""
DEPTH_MAX = 16
"""Nodes that are made again for a part, one upon the other; beyond that the first section makes them."""
CHEAP = frozenset(("reshape", "permute", "broadcast_to", "slice", "full"))
"""Views and constants are made where they are needed."""


@dataclass(frozen=True, slots=True)
class Key:
    """A value inside a section: a whole value of the program, its `part`, a `slice` of it, or a `sum` so far."""

    kind: str
    value: int
    along: Along | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One node of a section."""

    key: Key
    node: Node
    """Its inputs are not used."""
    inputs: tuple[Key, ...]
    type: TensorType
    own: Kernel | None = None
    """A kernel that is not the operator's."""


class Section:
    """A straight line of nodes, run as a plan."""

    def __init__(self, items: list[Item], inputs: dict[Key, TensorType], outputs: Sequence[Key], strict: bool) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        numbers = {key: number for number, key in enumerate(self.inputs)}
        step_index = len(numbers)
        types = [*inputs.values(), TensorType(I64, ())]
        nodes = []
        own: dict[str, Kernel] = {}
        for item in items:
            taken = tuple(numbers[key] for key in item.inputs)
            run = item.own
            if run is None and strict:
                run = _strictly(item.node, tuple(types[number] for number in taken), item.type)
            numbers[item.key] = len(types)
            types.append(item.type)
            name = item.node.operator
            if run is not None:
                # A name of its own: nobody takes it for the operator, nothing is fused with it.
                name = f"part {len(types)}"
                own[name] = run
            nodes.append(Node(name, taken, item.node.attributes))
        entries = tuple(StateEntry(str(number), type_, Fill(0)) for number, type_ in enumerate(inputs.values()))
        results = tuple(numbers[key] for key in self.outputs)
        # A program in form only: any values may leave it, and some of its nodes have kernels of their own.
        program = Program(1, entries, 1, (), tuple(nodes), results, step_index)
        self.plan = Plan(program, tuple(types), own)
        self._step_index = torch.zeros((), dtype=torch.int64)
        self._numbers = numbers

    def makes(self, key: Key) -> bool:
        """Whether it writes a value to memory."""
        return key in self._numbers and self.plan.makes(self._numbers[key])

    def run(
        self, values: Callable[[Key], torch.Tensor], watched: Sequence[Key] = (), look: Look | None = None
    ) -> list[torch.Tensor]:
        """The outputs from the inputs. `look` sees each of `watched`, which it `makes`, by the value's number."""
        seen = {self._numbers[key]: key.value for key in watched}

        def see(number: int, value: torch.Tensor) -> None:
            if look is not None:
                look(seen[number], value)

        return self.plan.step([*(values(key) for key in self.inputs), self._step_index], seen, see)[0]


def _strictly(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Kernel:
    run = kernel(node, inputs, output)
    if makes_nan(node):
        return lambda tensors: (canonical(run(tensors)),)
    return lambda tensors: (run(tensors),)


class Cutter:
    """Makes the three sections of a program for parts of `rows` records."""

    def __init__(self, program: Program, types: tuple[TensorType, ...], records: Records, rows: int) -> None:
        self._program = program
        self._types = types
        self._records = records
        self._rows = rows
        self._first = program.first_node_value
        self.sums: dict[int, Accumulator] = {}
        self.place = [0]
        """The first record of the part under way; kernels look here."""
        self.before_outputs: dict[Key, TensorType] = {}
        """What the first section makes for the others."""

    def cut(self, strict: bool) -> tuple[Section, Section, Section]:
        """Before, for every part, after."""
        middle = _Line()
        needed = needed_values(self._program)
        for position, node in enumerate(self._program.nodes):
            value = self._first + position
            if value in self._records.sums and value in needed:
                self._sum(middle, value, node)
            elif self._records.marks[value] is not None and value in needed:
                self._part(middle, value)
        results = [*self._program.state_outputs, self._program.loss]
        after, before = _Line(), _Line()
        self._make(after, results, self.before_outputs)
        self._make(before, [key.value for key in self.before_outputs], {})
        return (
            Section(before.items, before.inputs, list(self.before_outputs), strict),
            Section(middle.items, middle.inputs, [], strict),
            Section(after.items, after.inputs, [Key("whole", value) for value in results], strict),
        )

    def _node(self, value: int) -> Node:
        return self._program.nodes[value - self._first]

    def _small(self, type_: TensorType, along: Along) -> TensorType:
        shape = list(type_.shape)
        shape[along.axis] = self._rows * along.each
        return TensorType(type_.dtype, tuple(shape))

    # The middle.

    def _sum(self, line: _Line, value: int, node: Node) -> None:
        output = self._types[value]
        inputs = tuple(self._types[item] for item in node.inputs)
        accumulator = self.sums[value] = ACCUMULATORS[node.operator](node, inputs, output)
        number, mark = next((n, self._mark(item)) for n, item in enumerate(node.inputs) if self._mark(item))
        each = _summed(node, inputs[number], mark) if mark is not None else 0
        keys = self._operands(line, value)
        running = line.input(Key("sum", value), accumulator.running)
        place, go_on = self.place, accumulator.go_on

        def run(tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
            go_on(tensors[:-1], tensors[-1], place[0] * each)
            return (DONE,)

        line.add(Item(Key("done", value), node, (*keys, running), TensorType(BOOL, ()), run))

    def _mark(self, value: int) -> Along | None:
        return self._records.marks[value]

    def _part(self, line: _Line, value: int) -> Key:
        mark = self._records.marks[value]
        key = Key("part", value)
        if mark is None or key in line.known:
            return key
        type_ = self._small(self._types[value], mark)
        if value < self._first:
            return line.input(key, type_)
        node = self._node(value)
        keys = self._operands(line, value)
        line.add(Item(key, _smaller(node, self._mark(node.inputs[0]), type_, self._rows), keys, type_))
        return key

    def _operands(self, line: _Line, value: int) -> tuple[Key, ...]:
        """The inputs of a node in the middle: parts, pieces of what does not depend on the batch, or all of it."""
        node = self._node(value)
        keys = []
        for number, item in enumerate(node.inputs):
            if self._records.marks[item] is not None:
                keys.append(self._part(line, item))
                continue
            along = self._place_in(node, number)
            size = self._types[item].shape[along.axis] if along is not None else 1
            keys.append(self._whole(line, item) if along is None or size == 1 else self._slice(line, item, along))
        return tuple(keys)

    def _place_in(self, node: Node, number: int) -> Along | None:
        """The axis of an input without records that runs beside the records of the others; None when there is none."""
        rank = len(self._types[node.inputs[number]].shape)
        others = [(n, item, self._mark(item)) for n, item in enumerate(node.inputs)]
        n, item, mark = next((n, item, mark) for n, item, mark in others if mark is not None)
        from_end = len(self._types[item].shape) - mark.axis
        if node.operator == "matmul":
            # Terms are the last axis of the left operand and the last but one of the right; rows and columns are one
            # operand's alone; axes before them are shared.
            terms = 1 if n == 0 else 2
            if from_end == terms:
                return Along(rank - (1 if number == 0 else 2), mark.each)
            axis = rank - from_end
            return Along(axis, mark.each) if from_end > 2 and axis >= 0 else None
        if node.operator == "embedding":
            return None
        if node.operator == "embedding_grad":
            return mark
        axis = rank - from_end
        return Along(axis, mark.each) if axis >= 0 else None

    def _slice(self, line: _Line, value: int, along: Along, depth: int = 0) -> Key:
        """The piece of a value without records that belongs to the part."""
        key = Key("slice", value, along)
        if key in line.known:
            return key
        type_ = self._small(self._types[value], along)
        node = self._node(value) if value >= self._first else None
        if node is None or depth > DEPTH_MAX:
            return self._sliced(line, key, type_)
        if node.operator == "full":
            line.add(Item(key, Node("full", (), (*node.attributes[:2], *type_.shape)), (), type_))
        elif node.operator == "uniform" and prod(type_.shape[: along.axis]) == 1:
            keys = tuple(self._whole(line, item) for item in node.inputs)
            line.add(Item(key, node, keys, type_, self._uniform(node, type_, along)))
        elif node.operator == "broadcast_to" or OPERATORS[node.operator].family == "elementwise":
            keys = tuple(self._aligned(line, item, along, len(type_.shape), depth + 1) for item in node.inputs)
            line.add(Item(key, _smaller(node, None, type_, self._rows), keys, type_))
        else:
            return self._sliced(line, key, type_)
        return key

    def _aligned(self, line: _Line, value: int, along: Along, output_rank: int, depth: int) -> Key:
        shape = self._types[value].shape
        axis = aligned(along.axis, output_rank, len(shape))
        if axis < 0 or shape[axis] == 1:
            return self._whole(line, value)
        return self._slice(line, value, Along(axis, along.each), depth)

    def _sliced(self, line: _Line, key: Key, type_: TensorType) -> Key:
        if key.value >= self._first:
            self.before_outputs[Key("whole", key.value)] = self._types[key.value]
        return line.input(key, type_)

    def _uniform(self, node: Node, type_: TensorType, along: Along) -> Kernel:
        span = along.each * prod(type_.shape[along.axis + 1 :])
        place, count = self.place, type_.elements

        def run(tensors: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
            first = place[0] * span
            numbers = np.arange(first, first + count, dtype=np.int64)
            made = uniform(tensors[0].numpy(), int(tensors[1]), node.attributes[0], numbers)
            return (torch.from_numpy(made).view(type_.shape),)

        return run

    # What does not depend on the batch, and what comes after.

    def _whole(self, line: _Line, value: int, depth: int = 0) -> Key:
        """A value without records, in the middle: made there when that is cheap, else by the first section."""
        key = Key("whole", value)
        if key in line.known:
            return key
        type_ = self._types[value]
        if value < self._first:
            return line.input(key, type_)
        node = self._node(value)
        if node.operator not in CHEAP or depth > DEPTH_MAX:
            self.before_outputs[key] = type_
            return line.input(key, type_)
        keys = tuple(self._whole(line, item, depth + 1) for item in node.inputs)
        line.add(Item(key, node, keys, type_))
        return key

    def _make(self, line: _Line, results: Sequence[int], given: Mapping[Key, TensorType]) -> None:
        """Everything that whole values come from, in the program's order, but for sums and what is `given`."""
        found, waiting = set(results), list(results)
        inputs = set[int]()
        while waiting:
            value = waiting.pop()
            if value < self._first or value in self._records.sums or Key("whole", value) in given:
                inputs.add(value)
                continue
            new = set(self._node(value).inputs) - found
            found |= new
            waiting.extend(new)
        for value in sorted(found):
            key = Key("whole", value)
            if value in inputs:
                line.input(key, self._types[value])
                continue
            node = self._node(value)
            line.add(Item(key, node, tuple(Key("whole", item) for item in node.inputs), self._types[value]))


class _Line:
    """A section under way."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.inputs: dict[Key, TensorType] = {}
        self.known: set[Key] = set()

    def input(self, key: Key, type_: TensorType) -> Key:
        self.inputs[key] = type_
        self.known.add(key)
        return key

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.known.add(item.key)


def _smaller(node: Node, mark: Along | None, type_: TensorType, rows: int) -> Node:
    """The node with the shape of a part in its attributes."""
    if node.operator in ("reshape", "broadcast_to"):
        return Node(node.operator, node.inputs, type_.shape)
    if node.operator == "slice" and mark is not None:
        attributes = list(node.attributes)
        attributes[3 * mark.axis + 1] = rows * mark.each
        return Node(node.operator, node.inputs, tuple(attributes))
    return node


def _summed(node: Node, type_: TensorType, mark: Along) -> int:
    """Elements of the summed axis for each record."""
    return mark.each * (prod(type_.shape[mark.axis + 1 : -1]) if node.operator == "sum_first" else 1)
