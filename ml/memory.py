"""How much memory a training needs, before it starts: refuse up front, never die half-way.

Two answers. The *prediction* follows from the program: what is alive at the worst moment of a step, what saving a state
takes, and what this process has in memory already. The *measurement* is a training in small: the trainer itself, a few
steps on zeros of the right shapes, states saved and loaded; then the kernel says how much was resident at most.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from ml.data.dataset import Dataset
from ml.data.manifest import Manifest
from ml.fusion import fuse
from ml.interpreter import Interpreter
from ml.kernels.elementwise import TORCH_DTYPES
from ml.liveness import peak_bytes
from ml.native.interpreter import NativeInterpreter
from ml.trainer import Run, train
from proofs.program.types import Given, Program, TensorType

STATE_COPIES = 2
"""Beside the state itself, saving one holds two more copies: by entry, and in the file's form."""
LOOP_BYTES = 48 << 10
"""Machine code of one fused loop, and what the compiler keeps of it (measured: 30 to 60 KiB)."""
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
    """From the program alone; the libraries are measured: they are this process."""
    program, info = interpreter.program, interpreter.info
    pieces = fuse(program)
    step = peak_bytes(program, info.types, pieces)
    loops = sum(piece.group is not None for piece in pieces)
    training = max(step, (1 + STATE_COPIES) * info.state_bytes)
    libraries = resident_peak() + FIRST_USE_BYTES + loops * LOOP_BYTES
    return MemoryPrediction(info.state_bytes, step, libraries + training)


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
    return resident_peak()


class _Zeros(Dataset):
    """A data set whose every record is zeros."""

    def batch(self, program: Program, seed: bytes, step: int) -> list[torch.Tensor]:
        """A batch of its own for every step, as any data set gives it."""
        shapes = [TensorType(item.record.dtype, (program.batch_size, *item.record.shape)) for item in program.batch]
        return [_zeros(type_) for type_ in shapes]


def _zeros(type_: TensorType) -> torch.Tensor:
    # Written, not mapped: pages that nobody touched take no memory.
    return torch.empty(type_.shape, dtype=TORCH_DTYPES[type_.dtype]).fill_(0)
