"""Which operators of a program are convolutions and poolings: graphs around `windows` that one kernel computes.

A match names a value, what it is computed from, and the values between that nobody else uses: those are never made.
Kernels compute what the graph says, chain by chain; a graph that is written otherwise runs operator by operator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ml.kernels import pooling
from ml.kernels.convolution import correlate, gather_product
from ml.kernels.recipe import Recipe
from proofs.program.types import F32, Node, Program, TensorType

ONE_BITS, MINUS_INFINITY_BITS = 0x3F800000, 0xFF800000
_SINGLE_ROW = (1, 1, 0, 1, 1, 1)
"""Numbers of `windows` for the height of a line."""


@dataclass(frozen=True)
class Match:
    """A graph that one kernel computes."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    between: tuple[int, ...]
    """Values that do not need to be made."""
    recipe: Recipe


@dataclass(frozen=True)
class _Seen:
    """A `windows` node over the last axes of (batch, channels, *sizes), one or two."""

    value: int
    source: int
    shape: tuple[int, ...]
    """Of the source."""
    attributes: tuple[int, ...]
    """For height and width."""
    kernel: int
    """Elements of a window."""
    places: int
    """Windows of an image."""


class WindowFusion:
    """Finds the matches of a program."""

    def __init__(self, program: Program, types: Sequence[TensorType], users: Mapping[int, set[int]]) -> None:
        self._nodes = program.nodes
        self._first = program.first_node_value
        self._types = types
        self._users = users
        self._kept = {*program.state_outputs, program.loss}

    def find(self) -> tuple[dict[int, Match], set[int]]:
        """Matches by their outputs, and the values that need not be made."""
        matches: dict[int, Match] = {}
        if not any(node.operator == "windows" for node in self._nodes):
            return matches, set()
        for value, node in enumerate(self._nodes, start=self._first):
            if node.operator == "matmul":
                found = self._max_gradient(node, value) or self._gather(node, value) or self._correlate(node, value)
            elif node.operator in ("max_last", "argmax_last") and value not in matches:
                found = self._maximum(node)
            else:
                continue
            if found is not None:
                matches |= dict.fromkeys(found.outputs, found)
        unmade: set[int] = set()
        for value in sorted({value for match in matches.values() for value in match.between}, reverse=True):
            if value not in self._kept and all(
                user in unmade or (user in matches and value not in matches[user].inputs)
                for user in self._users.get(value, ())
            ):
                unmade.add(value)
        return matches, unmade

    def _node(self, value: int, operator: str) -> Node | None:
        node = self._nodes[value - self._first] if value >= self._first else None
        return node if node is not None and node.operator == operator else None

    def _shape(self, value: int) -> tuple[int, ...]:
        return self._types[value].shape

    def _windows(self, value: int, bits: int) -> _Seen | None:
        node = self._node(value, "windows")
        if node is None or node.attributes[0] != bits:
            return None
        shape, axes = self._shape(node.inputs[0]), len(node.attributes) // 6
        if axes not in (1, 2) or len(shape) != axes + 2:
            return None
        numbers = node.attributes[1:] if axes == 2 else (*_SINGLE_ROW, *node.attributes[1:])
        seen = self._shape(value)
        size, places = math.prod(seen[2 : 2 + axes]), math.prod(seen[2 + axes :])
        return _Seen(value, node.inputs[0], shape, (bits, *numbers), size, places)

    def _flat_windows(self, value: int, bits: int = 0) -> _Seen | None:
        """Windows in the form (batch, [groups,] terms, places)."""
        node = self._node(value, "reshape")
        seen = None if node is None else self._windows(node.inputs[0], bits)
        if seen is None:
            return None
        shape = self._shape(value)
        good = len(shape) in (3, 4) and shape[0] == seen.shape[0] and shape[-1] == seen.places
        return seen if good else None

    def _gather(self, node: Node, value: int) -> Match | None:
        """Weights @ windows, and a bias after it."""
        left, right = node.inputs
        seen = self._flat_windows(right)
        if seen is None or self._types[seen.source].dtype != F32:
            return None
        groups = self._shape(right)[1] if len(self._shape(right)) == 4 else 1
        own = self._shape(left)
        if len(own) > 3 or (len(own) == 3 and len(self._shape(right)) == 3):
            return None
        bias = self._bias(value)
        output = bias.output if bias is not None else value
        weights = (groups, own[-2], own[-1])
        recipe = gather_product(_image_shape(seen), seen.attributes, weights, len(own) == 2, bias is not None)
        if bias is None:
            return Match((left, seen.source), (value,), (right, seen.value), recipe)
        return Match((left, seen.source, bias.amounts), (output,), (*bias.between, right, seen.value), recipe)

    def _bias(self, product: int) -> _Bias | None:
        """One number a channel, added to the product and to nothing else."""
        reshaped = self._only_user(product, "reshape")
        added = None if reshaped is None else self._only_user(reshaped, "add")
        if reshaped is None or added is None:
            return None
        pair = self._nodes[added - self._first].inputs
        other = pair[1] if pair[0] == reshaped else pair[0]
        shape, amounts = self._shape(reshaped), self._shape(other)
        channels = shape[1] if len(shape) > 1 else 0
        fits = pair[0] != pair[1] and amounts == (channels, *[1] * (len(shape) - 2))
        whole = self._shape(product)[0] == shape[0] and math.prod(self._shape(product)[1:-1]) == channels
        return _Bias(other, added, (product, reshaped)) if fits and whole else None

    def _only_user(self, value: int, operator: str) -> int | None:
        users = self._users.get(value, set())
        if len(users) != 1 or value in self._kept:
            return None
        (user,) = users
        return user if self._node(user, operator) is not None else None

    def _correlate(self, node: Node, value: int) -> Match | None:
        """Gradients, images and places together, @ windows likewise."""
        parts = []
        for operand in node.inputs:
            joined = self._node(operand, "reshape")
            moved = None if joined is None else self._node(joined.inputs[0], "permute")
            if joined is None or moved is None:
                return None
            parts.append((operand, joined.inputs[0], moved))
        (left, left_moved, before), (right, right_moved, after) = parts
        flow, flat = before.inputs[0], after.inputs[0]
        seen = self._flat_windows(flat)
        if seen is None or self._types[seen.source].dtype != F32:
            return None
        grouped = len(self._shape(flat)) == 4
        orders = ((1, 2, 0, 3), (1, 0, 3, 2)) if grouped else ((1, 0, 2), (0, 2, 1))
        if (before.attributes, after.attributes) != orders or len(self._shape(flow)) != len(orders[0]):
            return None
        (batch, *_, places), lead = self._shape(flow), self._shape(flat)[1:-2]
        groups = lead[0] if grouped else 1
        count, terms = self._shape(flow)[-2], self._shape(flat)[-2]
        fits = (
            (batch, places) == (seen.shape[0], seen.places)
            and self._shape(left) == (*lead, count, batch * places)
            and self._shape(right) == (*lead, batch * places, terms)
            and seen.shape[1] % groups == 0
        )
        if not fits:
            return None
        recipe = correlate(_image_shape(seen), seen.attributes, (groups, count))
        between = (left, left_moved, right, right_moved, flat, seen.value)
        return Match((flow, seen.source), (value,), between, recipe)

    def _maximum(self, node: Node) -> Match | None:
        """Greatest elements of windows, and which they are."""
        joined = self._node(node.inputs[0], "reshape")
        moved = None if joined is None else self._node(joined.inputs[0], "permute")
        seen = None if moved is None else self._windows(moved.inputs[0], MINUS_INFINITY_BITS)
        if joined is None or moved is None or seen is None or self._types[seen.source].dtype != F32:
            return None
        axes, rows = len(seen.shape) - 2, self._shape(node.inputs[0])
        order = (0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes))
        if moved.attributes != order or rows[-1] != seen.kernel or (seen.attributes[6], seen.attributes[12]) != (1, 1):
            return None
        roots = {self._nodes[user - self._first].operator: user for user in sorted(self._users[node.inputs[0]])}
        names = tuple(name for name in ("max_last", "argmax_last") if name in roots)
        recipe = pooling.greatest(_image_shape(seen), seen.attributes, names)
        outputs = tuple(roots[name] for name in names)
        return Match((seen.source,), outputs, (node.inputs[0], joined.inputs[0], seen.value), recipe)

    def _max_gradient(self, node: Node, value: int) -> Match | None:
        """Ones @ the windows of a gradient where those of the chosen places name their own element."""
        ones, chosen = self._node(node.inputs[0], "full"), self._node(node.inputs[1], "where")
        if ones is None or chosen is None or ones.attributes[1] != ONE_BITS:
            return None
        condition, flows, zero = chosen.inputs
        here, nothing = self._node(condition, "eq"), self._node(zero, "full")
        if here is None or nothing is None or nothing.attributes[1] != 0:
            return None
        seen, marks = self._flat_windows(flows), self._flat_windows(here.inputs[0], (1 << 64) - 1)
        index = self._node(here.inputs[1], "iota")
        if seen is None or marks is None or index is None or index.attributes != (0, seen.kernel, 1):
            return None
        shape = self._shape(flows)
        same = seen.attributes[1:] == marks.attributes[1:] and seen.shape == marks.shape
        # The kernel goes through the windows from the last one: then elements come in the order of the chain.
        backwards = all(seen.attributes[at] == 1 and seen.attributes[at + 1] < 0 for at in _moving(seen))
        if (
            not same
            or not backwards
            or self._shape(here.inputs[0]) != shape
            or shape[:3] != (*seen.shape[:2], seen.kernel)
        ):
            return None
        if self._shape(node.inputs[0]) != (1, seen.kernel):
            return None
        big = self._shape(value)[-1]
        wide = seen.attributes[8]
        recipe = pooling.spread(_image_shape(seen), seen.attributes, (big // wide, wide))
        between = (node.inputs[1], condition, flows, here.inputs[0], here.inputs[1], seen.value, marks.value)
        return Match((seen.source, marks.source), (value,), between, recipe)


def _moving(seen: _Seen) -> list[int]:
    """Where the steps of the axes are, for axes along which windows have several elements."""
    return [at + 3 for at in (1, 7) if seen.attributes[at] > 1]


@dataclass(frozen=True)
class _Bias:
    amounts: int
    output: int
    between: tuple[int, int]


def _image_shape(seen: _Seen) -> tuple[int, ...]:
    """(batch, channels, height, width); a line is one row high."""
    return seen.shape if len(seen.shape) == 4 else (*seen.shape[:2], 1, seen.shape[2])
