"""Which values of a program belong to single records of the batch, and where: what can be done part by part.

A value *along* the batch has an axis of batch × each elements, of which record b has those from b·each to (b+1)·each,
and every element of it depends on its own record (and on what does not depend on the batch). An operator that sums over
such an axis in ascending order *accumulates*: after some records its sum so far is all that it needs to go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from proofs.program.operators import OPERATORS
from proofs.program.types import Node, Program, TensorType

Types = tuple[TensorType, ...]


class MixesRecords(Exception):  # noqa: N818  (it names what the program does)
    """A step of this program has no parts; the message names the node that forbids it."""


@dataclass(frozen=True, slots=True)
class Along:
    """The axis of the records, and its elements for each record."""

    axis: int
    each: int


@dataclass(frozen=True, slots=True)
class Accumulates:
    """The operator sums over the records, in ascending order."""


Mark = Along | None
"""Of a value: None when it does not depend on the batch, or on all of it at once."""


@dataclass(frozen=True, slots=True)
class Use:
    """An operator with at least one input along the batch."""

    node: Node
    types: Types
    marks: tuple[Mark, ...]
    output: TensorType

    def along(self) -> tuple[int, Along]:
        """The only input along the batch. Raises MixesRecords when there are several."""
        found = [(number, mark) for number, mark in enumerate(self.marks) if mark is not None]
        if len(found) > 1:
            raise MixesRecords("several inputs depend on the record")
        return found[0]


@dataclass(frozen=True)
class Records:
    """What is known of each value."""

    marks: tuple[Mark, ...]
    sums: frozenset[int]
    """Values of operators that accumulate."""
    totals: frozenset[int]
    """Values that are known only when every record was seen, sums among them."""


def find_records(program: Program, types: Types) -> Records:
    """Follow the records through the program. Raises MixesRecords."""
    if program.batch_size < 2 or not program.batch:
        raise MixesRecords("the batch has one record")
    marks: list[Mark] = [None] * program.first_node_value
    for number in range(len(program.state), program.step_index_value):
        marks[number] = Along(0, 1)
    sums, totals = set[int](), set[int]()
    for position, node in enumerate(program.nodes):
        value = program.first_node_value + position
        own = tuple(marks[item] for item in node.inputs)
        total = next((item for item in node.inputs if item in totals), None)
        mark: Mark = None
        if any(own):
            try:
                if total is not None:
                    raise MixesRecords(f"it needs value {total}, which is known only when all records were seen")
                found = RULES[node.operator](Use(node, tuple(types[item] for item in node.inputs), own, types[value]))
            except MixesRecords as why:
                raise MixesRecords(f"node {position}, {node.operator}: {why}") from None
            if isinstance(found, Accumulates):
                sums.add(value)
                totals.add(value)
            else:
                mark = found
        elif total is not None:
            totals.add(value)
        marks.append(mark)
    for entry, value in zip(program.state, program.state_outputs, strict=True):
        if marks[value] is not None:
            raise MixesRecords(f"{entry.name} becomes a value that has a place for each record")
    return Records(tuple(marks), frozenset(sums), frozenset(totals))


def aligned(axis: int, rank: int, output_rank: int) -> int:
    """The axis of the output that an input's axis is, when shapes are aligned at their ends."""
    return axis + output_rank - rank


def _elementwise(use: Use) -> Mark:
    places = {
        Along(aligned(mark.axis, len(type_.shape), len(use.output.shape)), mark.each)
        for mark, type_ in zip(use.marks, use.types, strict=True)
        if mark is not None
    }
    if len(places) > 1:
        raise MixesRecords("its inputs have the records on different axes")
    return places.pop()


def _reshape(use: Use) -> Mark:
    _, mark = use.along()
    return reshaped(use.types[0], mark, use.output)


def reshaped(before: TensorType, mark: Along, after: TensorType) -> Along:
    """Where the records are after a reshape: elements of a record stay together, as many apart as before."""
    batch = before.shape[mark.axis] // mark.each
    span = mark.each * prod(before.shape[mark.axis + 1 :])
    for axis, size in enumerate(after.shape):
        each = size // batch
        if size % batch == 0 and each * prod(after.shape[axis + 1 :]) == span:
            return Along(axis, each)
    raise MixesRecords("it joins the axis of the records with one before it")


def _permute(use: Use) -> Mark:
    _, mark = use.along()
    return Along(use.node.attributes.index(mark.axis), mark.each)


def _broadcast_to(use: Use) -> Mark:
    _, mark = use.along()
    return Along(aligned(mark.axis, len(use.types[0].shape), len(use.output.shape)), mark.each)


def _slice(use: Use) -> Mark:
    _, mark = use.along()
    if use.node.attributes[3 * mark.axis : 3 * mark.axis + 3] != (0, use.types[0].shape[mark.axis], 1):
        raise MixesRecords("it takes some of the records")
    return mark


def _concatenate(use: Use) -> Mark:
    places = {mark for mark in use.marks if mark is not None}
    if len(places) > 1:
        raise MixesRecords("its inputs have the records on different axes")
    mark = places.pop()
    if mark.axis == use.node.attributes[0]:
        raise MixesRecords("it puts records behind one another")
    return mark


def _pad(use: Use) -> Mark:
    _, mark = use.along()
    if any(use.node.attributes[3 * mark.axis : 3 * mark.axis + 3]):
        raise MixesRecords("it adds to the axis of the records")
    return mark


def _windows(use: Use) -> Mark:
    _, mark = use.along()
    if mark.axis >= len(use.types[0].shape) - len(use.node.attributes) // 6:
        raise MixesRecords("its windows go over records")
    return mark


def _matmul(use: Use) -> Mark | Accumulates:
    rank = len(use.output.shape)
    roles = set[tuple[str, int, int]]()
    for side, (mark, type_) in enumerate(zip(use.marks, use.types, strict=True)):
        if mark is None:
            continue
        from_end = len(type_.shape) - mark.axis
        if from_end == (1 if side == 0 else 2):
            roles.add(("terms", 0, mark.each))
        else:
            roles.add(("axis", rank - from_end, mark.each))
    if len(roles) > 1:
        raise MixesRecords("every record meets every other")
    kind, axis, each = roles.pop()
    return Accumulates() if kind == "terms" else Along(axis, each)


def _sum_last(use: Use) -> Mark | Accumulates:
    _, mark = use.along()
    return Accumulates() if mark.axis == len(use.types[0].shape) - 1 else mark


def _sum_first(use: Use) -> Mark | Accumulates:
    _, mark = use.along()
    shape = use.types[0].shape
    if mark.axis == len(shape) - 1:
        return Along(1, mark.each)
    if prod(shape[: mark.axis]) > 1:
        raise MixesRecords("rows of one record do not follow each other")
    return Accumulates()


def _row_by_row(use: Use) -> Mark:
    """Operators on each row by itself."""
    mark = _elementwise(Use(use.node, use.types, use.marks, use.types[0]))
    if mark is not None and mark.axis == len(use.types[0].shape) - 1:
        raise MixesRecords("it compares or looks up across records")
    return mark


def _embedding(use: Use) -> Mark:
    number, mark = use.along()
    if number == 0:
        raise MixesRecords("its table depends on the records")
    return mark


def _embedding_grad(use: Use) -> Accumulates:
    mark = _elementwise(Use(use.node, (use.types[0],), use.marks[:1], use.types[0])) if use.marks[0] else use.marks[1]
    if use.marks[1] not in (None, mark) or mark is None or mark.axis == len(use.types[0].shape) - 1:
        raise MixesRecords("gradients and ids have the records on different axes")
    if prod(use.types[0].shape[: mark.axis]) > 1:
        raise MixesRecords("rows of one record do not follow each other")
    return Accumulates()


def _no_input(use: Use) -> Mark:
    raise MixesRecords("randomness keyed by the records")


RULES: dict[str, Callable[[Use], Mark | Accumulates]] = {
    **{name: _elementwise for name, row in OPERATORS.items() if row.family == "elementwise"},
    "reshape": _reshape,
    "permute": _permute,
    "broadcast_to": _broadcast_to,
    "slice": _slice,
    "concatenate": _concatenate,
    "pad": _pad,
    "windows": _windows,
    "matmul": _matmul,
    "sum_last": _sum_last,
    "sum_first": _sum_first,
    "max_last": _row_by_row,
    "argmax_last": _row_by_row,
    "embedding": _embedding,
    "embedding_grad": _embedding_grad,
    "take_last": _row_by_row,
    "scatter_last": _row_by_row,
    "full": _no_input,
    "iota": _no_input,
    "uniform": _no_input,
}
"""Operator → where its output has the records."""
