"""Asking a worker of one's own how much memory a program takes, from a program that has no event loop."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import psutil

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from ml.interpreter import Interpreter
from ml.memory import predict_memory
from ml.native.interpreter import NativeInterpreter
from ml.worker.frames import decode_reply, frame, read_frame
from ml.worker.kernels import compile_kernels, own_kernels
from ml.worker.messages import Failed, MemoryPredicted, PredictMemory, Reply
from ml.worker.process import worker_command, worker_environment
from proofs.classes import NATIVE, REP_V1
from proofs.program.types import Program

TIMEOUT_S = 900.0
"""For loading, compiling and a few steps."""
LAST_WORDS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """How much memory a training takes."""

    process_bytes: int
    reason: str
    """Empty when it was measured; why it is only predicted when it was not."""


def memory_need(
    program: Program, kernels: Path, threads: int = 1, available_bytes: int | None = None, arithmetic: str = REP_V1
) -> MemoryNeed:
    """Measured by a worker that trains a few steps on zeros; predicted where this machine is too small for that.

    `kernels`: the store of compiled kernels; `available_bytes`: by default what the system has free. Raises Rejection
    when the program is not valid.
    """
    interpreter = NativeInterpreter(program) if arithmetic == NATIVE else Interpreter(program)
    predicted = predict_memory(interpreter).process_bytes
    available = psutil.virtual_memory().available if available_bytes is None else available_bytes
    if predicted > available:
        return MemoryNeed(predicted, f"this machine has {available >> 20} MiB free, too little to try")
    compile_kernels(kernels)
    found, last_words = _ask_worker(
        PredictMemory(encode(program), threads, arithmetic, measure=True), kernels, available
    )
    match found:
        case MemoryPredicted():
            return MemoryNeed(found.measured_bytes, "")
        case Failed():
            return MemoryNeed(predicted, f"the dry run failed: {found.code} {found.message}")
        case _:
            return MemoryNeed(predicted, f"the dry run did not end: {last_words}")


def _ask_worker(request: PredictMemory, kernels: Path, memory_bytes: int) -> tuple[Reply | None, str]:
    """The answer of a worker of its own, which is ended afterwards; None and its last words when it gives none."""
    with tempfile.TemporaryDirectory(prefix="memory-") as folder, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            worker_command(memory_bytes, folders=(Path(folder),), file_bytes=memory_bytes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=worker_environment(request.threads, Path(folder), own_kernels(kernels, Path(folder))),
            cwd=folder,
            start_new_session=True,
        )
        timer = threading.Timer(TIMEOUT_S, process.kill)
        timer.start()
        try:
            reply = _converse(process, request)
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
        return reply, _last_line(errors)


def _converse(process: subprocess.Popen[bytes], request: PredictMemory) -> Reply | None:
    requests, replies = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
    try:
        if read_frame(replies) is None:  # It is up.
            return None
        requests.write(frame(request))
        requests.flush()
        data = read_frame(replies)
        return None if data is None else decode_reply(data)
    except (BrokenPipeError, Rejection):
        return None


def _last_line(errors: IO[bytes]) -> str:
    end = errors.seek(0, 2)
    errors.seek(max(0, end - LAST_WORDS_BYTES))
    lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "the worker ended without a word"
