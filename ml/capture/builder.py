"""Growing a program node by node: types inferred, equal nodes shared, constants folded, trivial movements left out."""

from __future__ import annotations

import numpy as np

from proofs.program.operators import infer
from proofs.program.shapes import DTYPES
from proofs.program.types import F32, OPSET, BatchInput, Node, Program, StateEntry, TensorType
from proofs.tensors import NUMPY_DTYPES as NUMPY


def bits_of(dtype: str, value: float | int | bool) -> int:
    """The unsigned little-endian bits of one element; f32 rounds to nearest even."""
    element = np.array(value).astype(NUMPY[dtype])
    return int.from_bytes(element.tobytes(), "little")


class Builder:
    """A program under construction. Values are numbered as `Program` says."""

    def __init__(self, state: tuple[StateEntry, ...], batch_size: int, batch: tuple[BatchInput, ...]) -> None:
        self._state = state
        self._batch_size = batch_size
        self._batch = batch
        self.types = [entry.type for entry in state]
        self.types += [TensorType(entry.record.dtype, (batch_size, *entry.record.shape)) for entry in batch]
        self.types.append(TensorType("i64", ()))
        self._first = len(self.types)
        self._nodes: list[Node] = []
        self._known: dict[tuple[str, tuple[int, ...], tuple[int, ...]], int] = {}

    def node(self, operator: str, inputs: tuple[int, ...] = (), attributes: tuple[int, ...] = ()) -> int:
        """The value of an application; an equal one that exists already is reused."""
        trivial = self._trivial(operator, inputs, attributes)
        if trivial is not None:
            return trivial
        key = (operator, inputs, attributes)
        if key not in self._known:
            self.types.append(infer(operator, tuple(self.types[number] for number in inputs), attributes))
            self._nodes.append(Node(operator, inputs, attributes))
            self._known[key] = len(self.types) - 1
        return self._known[key]

    def constant(self, dtype: str, value: float | int | bool, shape: tuple[int, ...] = ()) -> int:
        """A tensor of one value."""
        return self.node("full", (), (DTYPES.index(dtype), bits_of(dtype, value), *shape))

    def constant_value(self, value: int) -> float | int | bool | None:
        """The element of a constant, or None when the value is not a constant."""
        made = self._made(value)
        if made is None or made.operator != "full":
            return None
        dtype = NUMPY[DTYPES[made.attributes[0]]]
        element = np.frombuffer(made.attributes[1].to_bytes(dtype.itemsize, "little"), dtype)[0]
        return element.item()  # type: ignore[no-any-return]

    def finish(self, state_outputs: tuple[int, ...], loss: int) -> Program:
        """The program with only what its outputs need, in the order of creation."""
        needed: set[int] = set()
        pending = [*state_outputs, loss]
        while pending:
            value = pending.pop()
            if value >= self._first and value not in needed:
                needed.add(value)
                pending.extend(self._nodes[value - self._first].inputs)
        number = {value: value for value in range(self._first)}
        nodes: list[Node] = []
        for value in sorted(needed):
            number[value] = self._first + len(nodes)
            node = self._nodes[value - self._first]
            nodes.append(Node(node.operator, tuple(number[item] for item in node.inputs), node.attributes))
        outputs = tuple(number[value] for value in state_outputs)
        return Program(OPSET, self._state, self._batch_size, self._batch, tuple(nodes), outputs, number[loss])

    def _made(self, value: int) -> Node | None:
        return self._nodes[value - self._first] if value >= self._first else None

    def _trivial(self, operator: str, inputs: tuple[int, ...], attributes: tuple[int, ...]) -> int | None:
        """The value that an application equals without a node of its own, if there is one."""
        if not inputs:
            return None
        first = inputs[0]
        type_ = self.types[first]
        made = self._made(first)
        if operator in ("reshape", "broadcast_to"):
            if type_.shape == attributes:
                return first
            if made is not None and made.operator == "full":
                return self.node("full", (), (*made.attributes[:2], *attributes))
            if operator == "reshape" and made is not None and made.operator == "reshape":
                return self.node("reshape", made.inputs, attributes)
        if operator == "permute":
            if attributes == tuple(range(len(attributes))):
                return first
            if made is not None and made.operator == "full":
                return self.node("full", (), (*made.attributes[:2], *(type_.shape[axis] for axis in attributes)))
            if made is not None and made.operator == "permute":
                return self.node("permute", made.inputs, tuple(made.attributes[axis] for axis in attributes))
        if operator == "slice" and all(
            attributes[3 * axis : 3 * axis + 3] == (0, size, 1) for axis, size in enumerate(type_.shape)
        ):
            return first
        if operator == "round_bf16" and made is not None:
            # Rounding and moving may change places: what is moved in two ways is rounded once.
            if made.operator == "round_bf16":
                return first
            if made.operator in ("reshape", "permute", "broadcast_to"):
                return self.node(made.operator, (self.node(operator, made.inputs),), made.attributes)
        if operator == "cast" and DTYPES[attributes[0]] == type_.dtype:
            return first
        if operator in ("mul", "div") and self.constant_value(inputs[1]) == 1 and type_.dtype == F32:
            return first if self._keeps_shape(inputs) else None
        return self._folded(operator, inputs, attributes)

    def _keeps_shape(self, inputs: tuple[int, ...]) -> bool:
        return infer("add", tuple(self.types[number] for number in inputs), ()) == self.types[inputs[0]]

    def _folded(self, operator: str, inputs: tuple[int, ...], attributes: tuple[int, ...]) -> int | None:
        """Exact operators on constants are done now."""
        if operator not in _FOLDED:
            return None
        values = [self.constant_value(number) for number in inputs]
        if any(value is None for value in values):
            return None
        types = tuple(self.types[number] for number in inputs)
        output = infer(operator, types, attributes)
        arrays = [np.array(value, NUMPY[type_.dtype]) for value, type_ in zip(values, types, strict=True)]
        with np.errstate(all="ignore"):
            result = _FOLDED[operator](*arrays)
        return self.constant(output.dtype, np.asarray(result).item(), output.shape)


_FOLDED = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_not": np.logical_not,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}
