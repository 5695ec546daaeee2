"""How much memory a training needs, before it starts: refuse up front, never die half-way."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import torch

from ml.interpreter import Interpreter
from ml.kernels.elementwise import TORCH_DTYPES

LIBRARIES_BYTES = 700 << 20
"""torch, numba, the compiled kernels and the interpreter, generously."""
STATE_COPIES = 2
"""Beside the step itself, saving a state holds two more copies (canonical, and in the file's form)."""


@dataclass(frozen=True)
class MemoryPrediction:
    """Bytes."""

    state_bytes: int
    step_bytes: int
    process_bytes: int


def predict_memory(interpreter: Interpreter) -> MemoryPrediction:
    """From the program alone: values by liveness, plus half of that for packed operands and fragmentation."""
    info = interpreter.info
    step = info.memory_bytes + info.memory_bytes // 2
    return MemoryPrediction(info.state_bytes, step, LIBRARIES_BYTES + step + STATE_COPIES * info.state_bytes)


def measure_memory(interpreter: Interpreter) -> int:
    """Peak resident bytes of this process after one step on zeros: a dry run, for a process of its own."""
    types = interpreter.info.types
    entries, batch = len(interpreter.program.state), len(interpreter.program.batch)
    zeros = [torch.zeros(type_.shape, dtype=TORCH_DTYPES[type_.dtype]) for type_ in types[: entries + batch]]
    interpreter.step(zeros[:entries], zeros[entries:], 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
