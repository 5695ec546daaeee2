"""Groups of elementwise operators, compiled to one loop each.

A group reads every input element once and writes only what is used outside it: fusing changes which values go through
memory, never how one is computed. A compiled loop is specialised to the operators and to which inputs repeat along the
innermost axis; sizes, strides and addresses come with each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from llvmlite import binding as llvm
from llvmlite import ir

from ml.kernels.call import Call, run
from ml.kernels.emit import BIT, BYTE, IN_MEMORY, WORD, Emitter
from ml.kernels.machine import machine_code
from proofs.program.types import BOOL, ITEM_BYTES

LINE_ITEMS = 64
"""Elements of a flat loop are shared out in whole cache lines."""
OPERATOR_NS = {"exp": 1.0, "log": 1.5, "tanh": 2.0, "erf": 3.0, "div": 0.3, "sqrt": 0.4, "reciprocal": 0.3}
"""Nanoseconds an element of the operators that take long, about."""

TORCH_DTYPES = {"f32": torch.float32, "i64": torch.int64, "bool": torch.bool, "u8": torch.uint8}


@dataclass(frozen=True)
class Operation:
    """One operator of a group."""

    operator: str
    inputs: tuple[int, ...]
    """Slots: the group's inputs first, then its constants, then its operations in order."""
    attributes: tuple[int, ...]
    dtype: str
    """Of the result."""


@dataclass(frozen=True)
class Group:
    """Operators over one common output shape."""

    inputs: tuple[str, ...]
    """Dtype of each input."""
    constants: tuple[tuple[str, int], ...]
    """(dtype, bits) of each constant."""
    operations: tuple[Operation, ...]
    outputs: tuple[int, ...]
    """Slots whose values are written."""
    shape: tuple[int, ...]

    def slot_dtypes(self) -> tuple[str, ...]:
        """The dtype of every slot."""
        return (*self.inputs, *(dtype for dtype, _ in self.constants), *(item.dtype for item in self.operations))


def compile_group(group: Group) -> Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]:
    """A function from the group's input tensors (any strides) to its outputs, each contiguous of `group.shape`."""
    dtypes = [TORCH_DTYPES[group.slot_dtypes()[slot]] for slot in group.outputs]
    shape = group.shape

    def compute(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        spread = [item.expand(shape).stride() for item in inputs]
        crossing = [crosses(strides, shape) for strides in spread]
        if any(crossing):
            return compute([item.contiguous() if bad else item for item, bad in zip(inputs, crossing, strict=True)])
        outputs = [torch.empty(shape, dtype=dtype) for dtype in dtypes]
        run(group_call(group, tuple(spread)), (*inputs, *outputs))
        return outputs

    return compute


def crosses(strides: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the innermost axis that moves is neither repeated nor contiguous."""
    inner = [stride for stride, size in zip(strides, shape, strict=True) if size > 1]
    return bool(inner) and inner[-1] not in (0, 1)


@dataclass(frozen=True)
class Loop:
    """What machine code is made for: all groups that differ in sizes and strides alone share it."""

    group: Group
    """Without a shape."""
    moves: tuple[bool, ...]
    """Whether an input moves along the innermost axis."""
    rank: int
    """Axes."""


def loop_of(group: Group, strides: tuple[tuple[int, ...], ...]) -> Loop:
    """The loop of `group_call` for the same arguments."""
    sizes, steps = _walk(group.shape, strides)
    bare = Group(group.inputs, group.constants, group.operations, group.outputs, ())
    return Loop(bare, tuple(step[-1] != 0 for step in steps), len(sizes))


def _walk(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> tuple[list[int], list[list[int]]]:
    """Sizes of the axes that are left when those that all inputs walk alike are collapsed, and each input's steps."""
    kept = [axis for axis, size in enumerate(shape) if size > 1]
    sizes = [shape[axis] for axis in kept] or [1]
    steps = [[item[axis] for axis in kept] or [0] for item in strides]
    axis = len(sizes) - 2
    while axis >= 0:
        if all(step[axis] == step[axis + 1] * sizes[axis + 1] for step in steps):
            sizes[axis : axis + 2] = [sizes[axis] * sizes[axis + 1]]
            for step in steps:
                del step[axis]
        axis -= 1
    return sizes, steps


@lru_cache(maxsize=4096)
def group_call(group: Group, strides: tuple[tuple[int, ...], ...]) -> Call:
    """The call for inputs that walk the group's shape by these strides (elements), none of which `crosses`."""
    sizes, steps = _walk(group.shape, strides)
    items = [ITEM_BYTES[dtype] for dtype in group.inputs]
    outer = [step * size for per_input, size in zip(steps, items, strict=True) for step in per_input[:-1]]
    dtypes = group.slot_dtypes()
    kernel = _compiled(loop_of(group, strides))
    tensors = len(group.inputs) + len(group.outputs)
    rows = [math.prod(sizes[place + 1 :]) for place in range(len(sizes) - 1)]
    written = [row * ITEM_BYTES[dtypes[slot]] for slot in group.outputs for row in rows]
    numbers = (*[0] * tensors, *sizes, *outer, *written)
    nanoseconds = math.prod(sizes) * _element_nanoseconds(group)
    return Call(kernel, numbers, tuple(range(tensors)), sizes[0], nanoseconds, LINE_ITEMS if len(sizes) == 1 else 1)


def _element_nanoseconds(group: Group) -> float:
    """What one element takes on one thread, about: memory streams, and the operators that are long."""
    streams = len(group.inputs) + len(group.outputs)
    return 0.15 * streams + sum(OPERATOR_NS.get(item.operator, 0.05) for item in group.operations)


@lru_cache(maxsize=4096)
def _compiled(loop: Loop) -> int:
    """The machine code of a loop."""
    module = ir.Module("group")
    module.triple = llvm.get_process_triple()
    inner = _inner(module, loop.group, loop.moves)
    _outer(module, inner, len(loop.group.inputs) + len(loop.group.outputs), loop.rank)
    return machine_code(str(module), "run")[0]


def _inner(module: ir.Module, group: Group, moves: tuple[bool, ...]) -> ir.Function:
    """The loop over the innermost axis: elements first … end - 1 from these addresses."""
    dtypes = group.slot_dtypes()
    memory = [IN_MEMORY[dtype].as_pointer() for dtype in group.inputs]
    memory += [IN_MEMORY[dtypes[slot]].as_pointer() for slot in group.outputs]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*memory, WORD, WORD]), "inner")
    function.attributes.add("alwaysinline")
    function.linkage = "internal"
    for argument in function.args[:-2]:
        argument.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    emitter = Emitter(builder)
    first, end = function.args[-2:]

    def load(number: int, index: ir.Value | None) -> ir.Value:
        pointer = function.args[number]
        item = builder.load(pointer if index is None else builder.gep(pointer, [index]))
        return builder.trunc(item, BIT) if group.inputs[number] == BOOL else item

    slots: list[ir.Value] = [None if moving else load(number, None) for number, moving in enumerate(moves)]
    slots += [emitter.constant(dtype, bits) for dtype, bits in group.constants]
    before = builder.block
    body, done = function.append_basic_block("body"), function.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", first, end), body, done)
    builder.position_at_end(body)
    index = builder.phi(WORD)
    index.add_incoming(first, before)
    for number, moving in enumerate(moves):
        if moving:
            slots[number] = load(number, index)
    for item in group.operations:
        kinds = tuple(dtypes[slot] for slot in item.inputs)
        slots.append(emitter.apply(item.operator, kinds, [slots[slot] for slot in item.inputs], item.attributes))
    for place, slot in enumerate(group.outputs, start=len(group.inputs)):
        result = builder.zext(slots[slot], BYTE) if dtypes[slot] == BOOL else slots[slot]
        builder.store(result, builder.gep(function.args[place], [index]))
    following = builder.add(index, ir.Constant(WORD, 1), flags=["nsw"])
    index.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, end), body, done)
    builder.position_at_end(done)
    builder.ret_void()
    return function


def _outer(module: ir.Module, inner: ir.Function, tensors: int, rank: int) -> None:
    """`run(numbers, first, end, scratch)`: the loops over all axes but the innermost; two bounds of the outermost."""
    kind = ir.FunctionType(ir.VoidType(), [WORD.as_pointer(), WORD, WORD, WORD])
    function = ir.Function(module, kind, "run")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    numbers, first, end, _ = function.args

    def number(place: int) -> ir.Value:
        return builder.load(builder.gep(numbers, [ir.Constant(WORD, place)]))

    bases = [number(place) for place in range(tensors)]
    sizes = [number(tensors + axis) for axis in range(rank)]
    steps = [[number(tensors + rank + item * (rank - 1) + axis) for axis in range(rank - 1)] for item in range(tensors)]
    zero, one = ir.Constant(WORD, 0), ir.Constant(WORD, 1)

    def nest(axis: int, addresses: list[ir.Value]) -> None:
        low, high = (first, end) if axis == 0 else (zero, sizes[axis])
        if axis == rank - 1:
            pointers = [
                builder.inttoptr(address, kind)
                for address, kind in zip(addresses, inner.function_type.args, strict=False)
            ]
            builder.call(inner, [*pointers, low, high])
            return
        before = builder.block
        body, done = function.append_basic_block(), function.append_basic_block()
        builder.cbranch(builder.icmp_signed("<", low, high), body, done)
        builder.position_at_end(body)
        index = builder.phi(WORD)
        index.add_incoming(low, before)
        moved = [builder.add(at, builder.mul(index, step[axis])) for at, step in zip(addresses, steps, strict=True)]
        nest(axis + 1, moved)
        following = builder.add(index, one)
        index.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, high), body, done)
        builder.position_at_end(done)

    nest(0, bases)
    builder.ret_void()


def single(
    operator: str, dtypes: tuple[str, ...], attributes: tuple[int, ...], output: str, shape: tuple[int, ...]
) -> Group:
    """A group of one operator."""
    operation = Operation(operator, tuple(range(len(dtypes))), attributes, output)
    return Group(dtypes, (), (operation,), (len(dtypes),), shape)
