"""How much memory a training needs, before it starts: refuse up front, never die half-way.

Two answers. The *prediction* follows from the program's plan: what a step takes, what saving a state takes, and what
this process has in memory already. The *measurement* is a training in small: the trainer itself, a few
steps on zeros of the right shapes, states saved and loaded; then the kernel says how much was resident at most.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from gensyn_node.primitives.errors import Rejection
from ml.data.dataset import Dataset
from ml.data.manifest import Manifest
from ml.interpreter import Interpreter
from ml.kernels.elementwise import TORCH_DTYPES
from ml.microbatch.parts import PartsInterpreter
from ml.native.interpreter import NativeInterpreter
from ml.native.segment import disclose, look
from ml.trainer import Run, train
from ml.worker.messages import values_path
from proofs.program.types import Given, Program, TensorType

STATE_COPIES = 2
"""Beside the state itself, saving one holds two more copies: by entry, and in the file's form."""
FIRST_USE_BYTES = 18 << 20
"""What the libraries load when they are first used: the compiler, the format of files (measured: 15 to 20 MiB)."""
DRY_STEPS, DRY_SEGMENT = 4, 2
"""Two segments: the second begins while the first one's end is still around, as every later one does."""


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes."""

    state_bytes: int
    step_bytes: int
    """State, batch and values alive at the worst moment of a step."""
    process_bytes: int
    """Peak of a process that is now as large as this one and then trains."""


def resident_peak() -> int:
    """The most bytes of this process that were ever in memory at once."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        # Also counts what this process was before it became this program; Linux, where that matters, has the table.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def predict_memory(interpreter: Interpreter | NativeInterpreter) -> MemoryPrediction:
    """From the plan of the program; the libraries and its machine code are measured: they are in this process."""
    state, step = interpreter.info.state_bytes, interpreter.memory_bytes()
    return MemoryPrediction(state, step, resident_peak() + FIRST_USE_BYTES + step + STATE_COPIES * state)


def largest_fitting(program: Program, memory_bytes: int, at_most: int = 0) -> tuple[Interpreter, str]:
    """An interpreter that takes as many records at a time as fit into so much memory, by prediction.

    `at_most` so many; 0: no bound, for either. When not even one record fits, or the program has no parts, the one that
    needs least, and in the second case why. Raises Rejection when the program is not valid.
    """
    batch = program.batch_size
    interpreter = Interpreter(program)
    most = min(at_most or batch, batch)
    if most == batch and not 0 < memory_bytes < predict_memory(interpreter).process_bytes:
        return interpreter, ""
    sizes = [size for size in range(1, min(most, batch - 1) + 1) if batch % size == 0]
    if not sizes:
        return interpreter, "the batch has one record"
    low, high = 0, len(sizes) - 1
    try:
        # More at a time takes more, so the largest that fits is found by halving.
        while low < high:
            middle = (low + high + 1) // 2
            need = predict_memory(PartsInterpreter(program, sizes[middle])).process_bytes
            low, high = (low, middle - 1) if 0 < memory_bytes < need else (middle, high)
        return PartsInterpreter(program, sizes[low]), ""
    except Rejection as refusal:
        return interpreter, refusal.message


def measure_memory(interpreter: Interpreter | NativeInterpreter) -> int:
    """Peak resident bytes of this process after a training in small; for a process that did nothing else before.

    States are written where temporary files go. Raises `MemoryError` or `RuntimeError` when memory is short, `OSError`
    when the disk is.
    """
    program = interpreter.program
    given = {entry.name: _zeros(entry.type) for entry in program.state if isinstance(entry.initial, Given)}
    run = Run(interpreter, _Zeros(Manifest(1, (), ()), {}), bytes(32), given)
    with tempfile.TemporaryDirectory(prefix="dry-run-") as folder:
        for _ in train(run, Path(folder), 0, DRY_STEPS, DRY_SEGMENT, lambda step, loss, seconds: None):
            pass
        if isinstance(interpreter, NativeInterpreter):
            _look_at_own_step(run, Path(folder))
    return resident_peak()


def _look_at_own_step(run: Run, folder: Path) -> None:
    """What a suspected solver and its verifier do, which takes more than training: all values of a step at once."""
    said = disclose(run, folder, folder, 0, 1, lambda step, loss: None)
    look(run, values_path(folder, 0), 0, said.state_roots[0], said.state_roots[1], said.values_roots[0])


class _Zeros(Dataset):
    """A data set whose every record is zeros."""

    def batch(self, program: Program, seed: bytes, step: int) -> list[torch.Tensor]:
        """A batch of its own for every step, as any data set gives it."""
        shapes = [TensorType(item.record.dtype, (program.batch_size, *item.record.shape)) for item in program.batch]
        return [_zeros(type_) for type_ in shapes]


def _zeros(type_: TensorType) -> torch.Tensor:
    # Written, not mapped: pages that nobody touched take no memory.
    return torch.empty(type_.shape, dtype=TORCH_DTYPES[type_.dtype]).fill_(0)
