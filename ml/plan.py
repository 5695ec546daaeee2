"""A program's step as a list of compiled tasks over planned memory: no allocation and almost no Python while it runs.

Every value has a place: a buffer, an offset and strides. Operators that only move data are views where strides allow
it. Buffers of the step share one arena by liveness, so that the same few megabytes stay in the caches; what leaves
the step is written where it will stay. Tasks that follow each other are one call of machine code (`ml.kernels.pool`);
a kernel that exists in Python only stands between two such calls.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from gensyn_node.primitives.errors import InvariantViolation
from ml.arena import assign
from ml.fusion import Kernel, Piece, fuse
from ml.kernels import lowering
from ml.kernels.budget import CompileBudget
from ml.kernels.call import Call
from ml.kernels.elementwise import TORCH_DTYPES, Group, crosses, group_call, loop_of, single
from ml.kernels.pool import TASK_WORDS, execute, helpers
from ml.kernels.recipe import Recipe
from ml.kernels.strided import ROWS_COPY, copy_call
from ml.kernels.table import full, kernel
from ml.plan_memory import LINE, Buffer, Memory, Outputs, Place
from ml.samples import Look, Take
from proofs.program.types import ITEM_BYTES, U8, Node, Program, TensorType

Words = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Task:
    """A compiled kernel on places (inputs, then outputs), or a kernel in Python whose outputs it makes itself."""

    places: tuple[Place, ...]
    call: Call | None = None
    kernel: Kernel | None = None
    made: tuple[Place, ...] = ()
    """Outputs of a kernel in Python."""


@dataclass
class _Stretch:
    """Compiled tasks that follow each other."""

    first: int
    count: int


@dataclass
class _Ready:
    """A plan with its memory: addresses are known but for inputs and outputs."""

    arena: Memory
    words: Words
    table: Words
    patched: Words
    """Places of addresses that differ from step to step."""
    patch_sources: Words
    patch_offsets: Words
    made: dict[int, list[tuple[int, int]]]
    """For each tensor that a kernel in Python gives, the places of addresses in it, with offsets."""
    frees: list[list[int]]
    """For each part, the tensors made that nothing needs after it."""
    stretches: list[_Stretch | Task]
    part_of: list[int]
    """For each task, the part of the step that it is in."""
    row_of: list[int]
    """For each task, the number of compiled tasks up to it."""
    threads: int = 0


def meta(type_: TensorType) -> torch.Tensor:
    """A contiguous meta tensor of a type."""
    return torch.empty(type_.shape, dtype=TORCH_DTYPES[type_.dtype], device="meta")


class _Listed:
    """Compiled tasks in memory, and others among them."""

    def __init__(self, table: Words, added: Sequence[int] = (), numbers: Words | None = None) -> None:
        """`added`: after how many of the plan's own tasks each other one comes, rising; `numbers`: what they read."""
        self._table, self._added, self._numbers = table, added, numbers
        self._address = table.ctypes.data

    def run(self, first: int, end: int) -> None:
        """Run the plan's tasks from `first` to before `end`, and what comes after each of them."""
        start, stop = (row + bisect_right(self._added, row) for row in (first, end))
        if stop > start:
            execute(self._address + start * TASK_WORDS * 8, stop - start)


class Plan:
    """A program's fused step."""

    def __init__(
        self, program: Program, types: tuple[TensorType, ...], own: Mapping[str, Kernel] | None = None
    ) -> None:
        """`own`: kernels in Python of operators that are in no table, by name; each has one output."""
        self.program = program
        self.types = types
        self._given = program.first_node_value
        self._tasks: list[Task] = []
        self._buffers: list[Buffer] = []
        self._constants: list[torch.Tensor] = []
        self._made = 0
        self._places: dict[int, Place] = {}
        for number in range(self._given):
            self._places[number] = Place(self._buffer(types[number], "input", number), meta(types[number]))
        self._own = own or {}
        self._budget = CompileBudget()
        self._finished: dict[int, int] = {}
        """Number of tasks after which a value has been made."""
        for piece in fuse(program, types):
            self._add(piece)
            for value in piece.outputs or piece.values:
                self._finished[value] = len(self._tasks)
                if value in self._places:  # until then it is there to be looked at, even if nothing needs it
                    buffer = self._places[value].buffer
                    buffer.last = max(buffer.last, len(self._tasks) - 1)
        self._outputs = Outputs(
            [
                value if value < self._given else self._as_output(value)
                for value in (*program.state_outputs, program.loss)
            ]
        )
        self._arena_bytes = self._assign()
        self._ready: _Ready | None = None
        self._lock = threading.Lock()

    def makes(self, value: int) -> bool:
        """Whether a step writes a value to memory, where it can be looked at."""
        return value in self._places and self._finished.get(value, 0) > 0

    def copies(self, value: int) -> bool:
        """Whether a step can take tiles of a value on its way: it lies in memory as it is, where kernels wrote it."""
        return (
            self.makes(value)
            and self._tasks[self._finished[value] - 1].call is not None
            and self._places[value].buffer.kind in ("arena", "output")
            and self._places[value].view.is_contiguous()
        )

    def step(
        self,
        inputs: Sequence[torch.Tensor],
        watched: Collection[int] = (),
        look: Look | None = None,
        takes: Sequence[Take] = (),
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(state', loss) from the state, the batch and the step index.

        `look` sees each value of `watched`, all of which the step `makes`, right after it was made; tiles in `takes`,
        of values that the step `copies`, are taken then too, without a stop.
        """
        addresses, held = [], []
        for item, type_ in zip(inputs, self.types, strict=False):
            if item.shape != type_.shape or item.dtype is not TORCH_DTYPES[type_.dtype] or item.device.type != "cpu":
                raise InvariantViolation(f"{item.dtype} {tuple(item.shape)} where the program has {type_}")
            whole = item if item.is_contiguous() else item.contiguous()
            held.append(whole)
            addresses.append(whole.data_ptr())
        with self._lock:
            ready = self._ready
            if ready is None:
                ready = self._ready = self._prepare()
            if ready.threads != helpers() + 1:
                self._cut(ready)
            block = Memory(self._outputs.block())
            bases = np.array([*addresses, block.address], np.int64)
            ready.words[ready.patched] = bases[ready.patch_sources] + ready.patch_offsets
            made: dict[int, torch.Tensor] = {}
            stops = self._stops(ready, watched)
            tasks = self._with_takes(ready, block, takes)
            for place, (part, freed) in enumerate(zip(ready.stretches, ready.frees, strict=True)):
                done = part.first if isinstance(part, _Stretch) else 0
                if not isinstance(part, _Stretch):
                    self._run(part, ready, held, block, made)
                for row, value in stops.get(place, ()):
                    if isinstance(part, _Stretch):
                        tasks.run(done, row)
                        done = row
                    if look is not None:
                        look(value, self._tensor(self._places[value], ready, held, block, made))
                if isinstance(part, _Stretch):
                    tasks.run(done, part.first + part.count)
                for number in freed:
                    del made[number]
            return self._outputs.tensors(block, held)

    def _stops(self, ready: _Ready, watched: Collection[int]) -> dict[int, list[tuple[int, int]]]:
        """For each part, after how many compiled tasks of the step there is something to look at, and which value."""
        stops: dict[int, list[tuple[int, int]]] = {}
        for value in sorted(watched, key=lambda value: (self._finished[value], value)):
            task = self._finished[value] - 1
            stops.setdefault(ready.part_of[task], []).append((ready.row_of[task], value))
        return stops

    def _with_takes(self, ready: _Ready, block: Memory, takes: Sequence[Take]) -> _Listed:
        """The compiled tasks, each take after the one that finishes its value."""
        if not takes:
            return _Listed(ready.table)
        takes = sorted(takes, key=lambda take: self._finished[take.value])
        numbers = np.empty((len(takes), 5), np.int64)
        tasks = np.empty((len(takes), TASK_WORDS), np.int64)
        for row, take in enumerate(takes):
            place, columns = self._places[take.value], self.types[take.value].matrix[1]
            memory = ready.arena if place.buffer.kind == "arena" else block
            size = place.view.dtype.itemsize
            base = memory.address + place.buffer.offset + place.offset
            height, width = take.target.shape
            source = base + (take.top * columns + take.left) * size
            numbers[row] = (source, columns * size, height, width * size, take.target.ctypes.data)
            tasks[row] = (ROWS_COPY, numbers.ctypes.data + row * numbers.strides[0], 1, 1, 1)
        rows = [ready.row_of[self._finished[take.value] - 1] for take in takes]
        return _Listed(np.insert(ready.table, rows, tasks, axis=0), rows, numbers)

    @property
    def step_bytes(self) -> int:
        """What a step holds beside its inputs: the arena and the block of what it returns."""
        return self._arena_bytes + self._outputs.size

    @property
    def memory_bytes(self) -> int:
        """Bytes that a step takes beside what comes in: the arena, what leaves, constants, what Python kernels make."""
        constants = sum(item.untyped_storage().nbytes() for item in self._constants)
        changes: dict[int, int] = {}
        for item in self._buffers:
            if item.kind == "made":
                changes[item.first] = changes.get(item.first, 0) + item.size
                changes[item.last + 1] = changes.get(item.last + 1, 0) - item.size
        alive = accumulate(changes[position] for position in sorted(changes))
        return self._arena_bytes + self._outputs.size + constants + max(alive, default=0)

    # Building: one task after the other, places of values.

    def _buffer(self, type_: TensorType, kind: str, number: int = 0) -> Buffer:
        buffer = Buffer(type_.elements * ITEM_BYTES[type_.dtype], kind, number)
        self._buffers.append(buffer)
        return buffer

    def _fresh(self, type_: TensorType) -> Place:
        return Place(self._buffer(type_, "arena"), meta(type_))

    def _emit(self, task: Task, made: Sequence[Place]) -> None:
        position = len(self._tasks)
        for place in task.places:
            place.buffer.last = position
        for place in made:
            if place.buffer.first < 0:
                place.buffer.first = position
        self._tasks.append(task)

    def _add(self, piece: Piece) -> None:
        if piece.group is not None:
            group = piece.group(self.types)
            outputs = [self._fresh(self.types[number]) for number in piece.outputs]
            self._add_group(group, [self._places[number] for number in piece.inputs], outputs)
            self._places.update(zip(piece.outputs, outputs, strict=True))
            return
        if piece.recipe is not None:
            self._add_recipe(piece.recipe, piece.inputs, piece.outputs)
            return
        (value,) = piece.values
        node = self.program.nodes[value - self._given]
        inputs = [self._places[number] for number in node.inputs]
        self._places[value] = self._add_node(node, inputs, self.types[value])

    def _add_group(self, group: Group, inputs: list[Place], outputs: list[Place]) -> None:
        shape = group.shape
        inputs = [
            self._contiguous(place) if crosses(place.view.expand(shape).stride(), shape) else place for place in inputs
        ]
        strides = tuple(place.view.expand(shape).stride() for place in inputs)
        if not self._budget.admits(loop_of(group, strides), group):
            self._add_apart(group, inputs, outputs)
            return
        self._emit(Task((*inputs, *outputs), group_call(group, strides)), outputs)

    def _add_apart(self, group: Group, inputs: list[Place], outputs: list[Place]) -> None:
        """A group operator by operator over whole contiguous values: one loop for each operator and its dtypes."""
        shape, dtypes = group.shape, group.slot_dtypes()
        constants = [self._constant(full(dtype, bits, ()).clone()) for dtype, bits in group.constants]
        slots = [self._contiguous(Place(place.buffer, place.view.expand(shape))) for place in (*inputs, *constants)]
        written = dict(zip(group.outputs, outputs, strict=True))
        for slot, item in enumerate(group.operations, start=len(slots)):
            output = written.get(slot) or self._fresh(TensorType(item.dtype, shape))
            taken = [slots[number] for number in item.inputs]
            alone = single(item.operator, tuple(dtypes[n] for n in item.inputs), item.attributes, item.dtype, shape)
            call = group_call(alone, tuple(place.view.stride() for place in taken))
            self._emit(Task((*taken, output), call), [output])
            slots.append(output)

    def _add_recipe(self, recipe: Recipe, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        made = [self._fresh(self.types[number]) for number in outputs]
        own = [self._fresh(TensorType(U8, (size,))) for size in recipe.temporaries]
        places = [*(self._contiguous(self._places[number]) for number in inputs), *made, *own]
        for call, operands in recipe.steps:
            taken = tuple(places[item] if isinstance(item, int) else self._constant(item) for item in operands)
            written = [places[item] for item in operands if isinstance(item, int) and item >= len(inputs)]
            self._emit(Task(taken, call), written)
        self._places.update(zip(outputs, made, strict=True))

    def _add_node(self, node: Node, inputs: list[Place], type_: TensorType) -> Place:
        if node.operator in self._own:
            return self._python(self._own[node.operator], tuple(inputs), [type_])[0]
        if node.operator in lowering.VIEWS:
            place = inputs[0]
            view = lowering.VIEWS[node.operator](place.view, node, type_)
            return Place(place.buffer, view) if view is not None else self._reshaped(place, type_)
        if node.operator in lowering.CONSTANTS:
            made = kernel(node, (), type_)(())
            self._constants.append(made)
            view = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype, device="meta")
            return Place(self._buffer(type_, "constant", len(self._constants) - 1), view)
        if node.operator in lowering.MOVES:
            output = self._fresh(type_)
            for source, target in lowering.MOVES[node.operator](node, [place.view for place in inputs], output.view):
                if isinstance(source, torch.Tensor):
                    fill = self._constant(source)
                    self._copy(Place(fill.buffer, fill.view.expand(target.shape)), Place(output.buffer, target), output)
                else:
                    number, view = source
                    self._copy(Place(inputs[number].buffer, view), Place(output.buffer, target), output)
            return output
        call = None
        if node.operator in lowering.CALLS:
            call = lowering.CALLS[node.operator](node, [place.view for place in inputs], type_)
            if call is None:
                inputs = [self._contiguous(place) for place in inputs]
                call = lowering.CALLS[node.operator](node, [place.view for place in inputs], type_)
        if call is None:
            run = kernel(node, tuple(self.types[number] for number in node.inputs), type_)
            return self._python(lambda tensors: (run(tensors),), tuple(inputs), [type_])[0]
        output = self._fresh(type_)
        self._emit(Task((*inputs, output), call), [output])
        return output

    def _python(self, run: Kernel, inputs: tuple[Place, ...], types: Sequence[TensorType]) -> list[Place]:
        made = [Place(self._buffer(type_, "made", self._made + n), meta(type_)) for n, type_ in enumerate(types)]
        self._made += len(made)
        self._emit(Task(inputs, None, run, tuple(made)), made)
        return made

    def _constant(self, value: torch.Tensor) -> Place:
        self._constants.append(value)
        buffer = Buffer(value.numel() * value.element_size(), "constant", len(self._constants) - 1)
        self._buffers.append(buffer)
        return Place(buffer, value.to("meta"))

    def _contiguous(self, place: Place) -> Place:
        if place.view.is_contiguous():
            return place
        output = Place(
            Buffer(place.view.numel() * place.view.element_size(), "arena", 0),
            torch.empty(place.view.shape, dtype=place.view.dtype, device="meta"),
        )
        self._buffers.append(output.buffer)
        self._copy(place, output, output)
        return output

    def _reshaped(self, place: Place, type_: TensorType) -> Place:
        whole = self._contiguous(place)
        return Place(whole.buffer, whole.view.view(type_.shape))

    def _copy(self, source: Place, target: Place, made: Place) -> None:
        view = source.view
        call = copy_call(tuple(view.shape), view.stride(), target.view.stride(), view.element_size())
        self._emit(Task((source, target), call), [made])

    def _as_output(self, value: int) -> Place:
        """The place of a value that the step returns: its own buffer where that holds nothing else, else a copy."""
        place = self._places[value]
        whole = place.view.is_contiguous() and place.view.numel() * place.view.element_size() == place.buffer.size
        if place.buffer.kind == "arena" and whole:
            place.buffer.kind = "output"
            return place
        output = Place(self._buffer(self.types[value], "output"), meta(self.types[value]))
        self._copy(place, output, output)
        return output

    # Memory: the arena by liveness, addresses in the tasks' numbers.

    def _assign(self) -> int:
        arena = [item for item in self._buffers if item.kind == "arena" and item.first >= 0]
        offsets, size = assign([(item.size, item.first, item.last) for item in arena])
        for item, offset in zip(arena, offsets, strict=True):
            item.offset = offset
        return size

    def _prepare(self) -> _Ready:
        arena = Memory(np.empty(self._arena_bytes + 2 * LINE, np.uint8))
        compiled = [task for task in self._tasks if task.call is not None]
        counts = [len(task.call.numbers) for task in compiled if task.call is not None]
        header = len(compiled) * TASK_WORDS
        words = np.zeros(header + sum(counts) + 1, np.int64)
        patched: list[tuple[int, int, int]] = []
        in_made: dict[int, list[tuple[int, int]]] = {}
        at = header
        for row, task in enumerate(compiled):
            call = task.call
            if call is None:
                continue
            words[at : at + len(call.numbers)] = call.numbers
            words[row * TASK_WORDS : row * TASK_WORDS + 3] = (call.kernel, words.ctypes.data + at * 8, call.items)
            for number, place in zip(call.addresses, task.places, strict=True):
                buffer = place.buffer
                if buffer.kind == "arena":
                    words[at + number] = arena.address + buffer.offset + place.offset
                elif buffer.kind == "constant":
                    words[at + number] = self._constants[buffer.number].data_ptr() + place.offset
                elif buffer.kind == "made":
                    in_made.setdefault(buffer.number, []).append((at + number, place.offset))
                elif buffer.kind == "input":
                    patched.append((at + number, buffer.number, place.offset))
                else:
                    patched.append((at + number, self._given, buffer.offset + place.offset))
            at += len(call.numbers)
        stretches: list[_Stretch | Task] = []
        part_of, row_of = list[int](), list[int]()
        row = 0
        for task in self._tasks:
            if task.call is None:
                stretches.append(task)
                part_of.append(len(stretches) - 1)
                row_of.append(row)
                continue
            if not stretches or not isinstance(stretches[-1], _Stretch):
                stretches.append(_Stretch(row, 0))
            last = stretches[-1]
            if isinstance(last, _Stretch):
                last.count += 1
            part_of.append(len(stretches) - 1)
            row += 1
            row_of.append(row)
        frees: list[list[int]] = [[] for _ in stretches]
        for item in self._buffers:
            if item.kind == "made":
                frees[part_of[item.last]].append(item.number)
        table = np.array(patched, np.int64).reshape(-1, 3).T.copy()
        rows = words[:header].reshape(-1, TASK_WORDS)
        return _Ready(
            arena,
            words,
            rows,
            table[0],
            table[1],
            table[2],
            in_made,
            frees,
            stretches,
            part_of,
            row_of,
        )

    def _cut(self, ready: _Ready) -> None:
        """Cut the tasks for the number of threads."""
        ready.threads = helpers() + 1
        calls = [task.call for task in self._tasks if task.call is not None]
        for row, call in enumerate(calls):
            ready.table[row, 3:5] = call.parts(ready.threads)

    def _run(
        self, task: Task, ready: _Ready, held: list[torch.Tensor], block: Memory, made: dict[int, torch.Tensor]
    ) -> None:
        """A kernel in Python on tensors over its places; what it gives is kept until nothing needs it."""
        if task.kernel is None:
            raise InvariantViolation("a task without a kernel")
        tensors = [self._tensor(place, ready, held, block, made) for place in task.places]
        memories = {item.untyped_storage().data_ptr() for item in tensors}
        for place, result in zip(task.made, task.kernel(tensors), strict=True):
            whole = result.contiguous()
            if whole.shape != place.view.shape or whole.dtype is not place.view.dtype:
                raise InvariantViolation(f"a kernel gave {whole.dtype} {tuple(whole.shape)} for {place.view}")
            # The memory of an input may be another value's later.
            own = whole.clone() if whole.untyped_storage().data_ptr() in memories else whole
            made[place.buffer.number] = own
            for at, offset in ready.made.get(place.buffer.number, ()):
                ready.words[at] = own.data_ptr() + offset

    def _tensor(
        self, place: Place, ready: _Ready, held: list[torch.Tensor], block: Memory, made: dict[int, torch.Tensor]
    ) -> torch.Tensor:
        buffer, view = place.buffer, place.view
        if buffer.kind in ("input", "constant", "made"):
            number = buffer.number
            kept = {"input": held, "constant": self._constants}.get(buffer.kind)
            whole = made[number] if kept is None else kept[number]
            return whole.as_strided(view.shape, view.stride(), whole.storage_offset() + view.storage_offset())
        memory = ready.arena if buffer.kind == "arena" else block
        return memory.tensor(view.dtype, view.shape, view.stride(), buffer.offset, int(view.storage_offset()))
