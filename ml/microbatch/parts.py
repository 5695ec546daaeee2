"""A step in parts of the batch, one after the other, with the bits of the whole step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.interpreter import Interpreter, canonical
from ml.kernels.elementwise import TORCH_DTYPES
from ml.microbatch.records import Along, MixesRecords, find_records
from ml.microbatch.sections import Cutter, Key
from ml.samples import Collector
from proofs.program.types import ITEM_BYTES, Program, TensorType


class PartsInterpreter(Interpreter):
    """An interpreter whose steps take `rows` records at a time; observed steps are whole."""

    def __init__(self, program: Program, rows: int) -> None:
        """Raises Rejection when the program is not valid, or has no parts of so many records."""
        super().__init__(program)
        if rows < 1 or program.batch_size % rows:
            raise Rejection(reasons.NO_PARTS, f"parts of {rows} records of a batch of {program.batch_size}")
        self.records = rows
        try:
            self._found = find_records(program, self.info.types)
        except MixesRecords as why:
            raise Rejection(reasons.NO_PARTS, str(why)) from None
        self._cuts: dict[bool, _Cut] = {}

    def step(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int, strict: bool = False
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """See `Interpreter.step`: the same bits."""
        return self._cut(strict).step(state, batch, step_index)

    def sampled_step(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int, collector: Collector
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """See `Interpreter.sampled_step`."""
        cut = self._cut(strict=False)
        if not cut.makes(collector):
            return self._observed_sample(state, batch, step_index, collector)
        after, loss = cut.step(state, batch, step_index, collector)
        collector.results(self.program, after, loss)
        return after, loss

    def memory_bytes(self) -> int:
        """What comes in, what leaves, sums, and the memory of the sections."""
        given = sum(bytes_of(type_) for type_ in self.info.types[: self.program.first_node_value])
        return given + self._cut(strict=False).memory_bytes()

    def _cut(self, strict: bool) -> _Cut:
        if strict not in self._cuts:
            cutter = Cutter(self.program, self.info.types, self._found, self.records)
            self._cuts[strict] = _Cut(cutter, self.program, self.records, strict, self._found.marks)
        return self._cuts[strict]


class _Cut:
    def __init__(
        self, cutter: Cutter, program: Program, rows: int, strict: bool, marks: Sequence[Along | None]
    ) -> None:
        self._program = program
        self._rows = rows
        self._strict = strict
        self._place = cutter.place
        self._before, self._middle, self._after = cutter.cut(strict)
        self._sums = cutter.sums
        self._marks = marks
        self._results = {*program.state_outputs, program.loss}

    def memory_bytes(self) -> int:
        sections = (self._before, self._middle, self._after)
        running = sum(bytes_of(item.running) for item in self._sums.values())
        return running + sum(section.plan.memory_bytes for section in sections)

    def makes(self, collector: Collector) -> bool:
        """Whether everything that is to be sampled is written to memory somewhere."""
        whole, parts = self._watched(collector)
        before = all(self._before.makes(key) or self._after.makes(key) for key in whole)
        return before and all(self._middle.makes(key) for key in parts)

    def _watched(self, collector: Collector) -> tuple[list[Key], list[Key]]:
        """What is to be looked at outside the middle section, and in it; sums and results are at hand without."""
        watched = collector.values - self._results - self._sums.keys()
        whole = [Key("whole", value) for value in sorted(watched) if self._marks[value] is None]
        return whole, [Key("part", value) for value in sorted(watched) if self._marks[value] is not None]

    def step(
        self,
        state: Sequence[torch.Tensor],
        batch: Sequence[torch.Tensor],
        step_index: int,
        collector: Collector | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        program, first_batch = self._program, len(self._program.state)
        whole = {Key("whole", number): value for number, value in enumerate([*state, *batch])}
        whole[Key("whole", program.step_index_value)] = torch.tensor(step_index, dtype=torch.int64)
        outside, inside = self._watched(collector) if collector is not None else ([], [])
        look = collector.whole if collector is not None else None
        early = [key for key in outside if self._before.makes(key)]
        if self._before.outputs:
            whole |= zip(self._before.outputs, self._before.run(whole.__getitem__, early, look), strict=True)
        running = {
            value: torch.zeros(item.running.shape, dtype=TORCH_DTYPES[item.running.dtype])
            for value, item in self._sums.items()
        }

        def value_of(key: Key) -> torch.Tensor:
            if key.kind == "sum":
                return running[key.value]
            if key.kind == "part":
                return batch[key.value - first_batch].narrow(0, self._place[0], self._rows)
            value = whole[Key("whole", key.value)]
            if key.along is None:
                return value
            each = key.along.each
            return value.narrow(key.along.axis, self._place[0] * each, self._rows * each)

        def look_at_part(value: int, tensor: torch.Tensor) -> None:
            mark = self._marks[value]
            if collector is not None and mark is not None:
                collector.part(value, tensor, mark.axis, self._place[0] * mark.each)

        for start in range(0, program.batch_size, self._rows):
            self._place[0] = start
            self._middle.run(value_of, inside, look_at_part)
        for value, item in self._sums.items():
            total = item.finish(running.pop(value))
            whole[Key("whole", value)] = canonical(total) if self._strict else total
            if collector is not None and value in collector.values - self._results:
                collector.whole(value, total)
        late = [key for key in outside if key not in early]
        results = self._after.run(whole.__getitem__, late, look)
        return results[:-1], results[-1]


def bytes_of(type_: TensorType) -> int:
    """Bytes of a tensor."""
    return type_.elements * ITEM_BYTES[type_.dtype]


def interpreter_of(program: Program, records: int) -> Interpreter:
    """Steps of so many records at a time, or of the whole batch when it has no more."""
    return PartsInterpreter(program, records) if 0 < records < program.batch_size else Interpreter(program)
