"""Doing requests: each one becomes one final reply."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import msgspec
import torch

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Reason, Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from ml import reasons
from ml.checkpoint import load_state
from ml.devices.select import CPU, examine_devices
from ml.interpreter import Interpreter
from ml.kernels.threads import set_threads
from ml.memory import largest_fitting, measure_memory, predict_memory
from ml.microbatch.parts import PartsInterpreter
from ml.native.interpreter import NativeInterpreter
from ml.oracle import next_move
from ml.segment import verify_segment
from ml.trainer import Cancelled, mean_loss, open_run, train
from ml.worker.messages import (
    FRAME_BYTES_MAX,
    Compare,
    DevicesExamined,
    Disclose,
    Evaluate,
    Evaluated,
    ExamineDevices,
    ExamineNative,
    Failed,
    Look,
    MemoryPredicted,
    PredictMemory,
    Profile,
    Progress,
    Reply,
    Request,
    Respond,
    Responded,
    RespondNative,
    SegmentDone,
    Train,
    Trained,
    Verified,
    Verify,
)
from ml.worker.native_service import answer_native
from proofs.classes import NATIVE
from proofs.pinpoint import Game
from proofs.program.types import Program

Send = Callable[[Reply], None]


def versions() -> tuple[str, str]:
    """The version of this software and of torch."""
    try:
        # Of a folder whose metadata cannot be read the library says None.
        own: str | None = metadata.version("gensyn")
    except metadata.PackageNotFoundError:
        own = None
    return own or "source", f"{torch.__version__} on {platform.machine()}"


def answer(request: Request, send: Send, cancelled: threading.Event) -> Reply:
    """Do a request; whatever is wrong with it, or out of its reach, becomes `Failed`."""
    try:
        return _do(request, send, cancelled)
    except Rejection as refusal:
        return Failed(refusal.reason.code, refusal.message)
    except Cancelled:
        return _failed(reasons.CANCELLED, "cancelled between two steps")
    except MemoryError as error:
        return _failed(reasons.OUT_OF_MEMORY, str(error) or "out of memory")
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return _failed(reasons.OUT_OF_MEMORY, str(error)[:300])
    except OSError as error:
        return _failed(reasons.BAD_REQUEST, str(error))


def _failed(reason: Reason, message: str) -> Failed:
    return Failed(reason.code, message)


def _do(request: Request, send: Send, cancelled: threading.Event) -> Reply:
    match request:
        case Train():
            return _train(request, send, cancelled)
        case Verify():
            return _verify(request, send, cancelled)
        case Respond():
            game: Game = decode(Game, request.game, max_bytes=FRAME_BYTES_MAX)
            # Every value of a step is looked at: that is done where the values are wanted, with the same bits.
            job = msgspec.structs.replace(request.job, device=CPU)
            return Responded(encode(next_move(open_run(job), Path(request.states_directory), game)))
        case PredictMemory():
            return _predict(request)
        case Profile() | Compare() | Disclose() | Look() | RespondNative() | ExamineNative():
            return answer_native(request, _Reporter(send, cancelled, 1))
        case ExamineDevices():
            return DevicesExamined(examine_devices())
        case Evaluate():
            run = open_run(request.job)
            state, _ = load_state(Path(request.state_path), run.program.state)
            return Evaluated(mean_loss(run, state, request.first_step, request.steps))
        case _:
            return _failed(reasons.BAD_REQUEST, f"{type(request).__name__} is not a request by itself")


def _predict(request: PredictMemory) -> MemoryPredicted:
    set_threads(request.threads)
    program: Program = decode(Program, request.program, max_bytes=PROGRAM_BYTES_MAX)
    interpreter: Interpreter | NativeInterpreter
    if request.arithmetic == NATIVE:
        interpreter, why = NativeInterpreter(program), "vendor kernels take the batch whole"
    else:
        interpreter, why = largest_fitting(program, request.memory_bytes, request.records)
    told = predict_memory(interpreter)
    measured = measure_memory(interpreter) if request.measure else 0
    records = interpreter.records if isinstance(interpreter, PartsInterpreter) else program.batch_size
    return MemoryPredicted(told.state_bytes, told.step_bytes, told.process_bytes, measured, records, why)


class _Reporter:
    """Sends `Progress` every so many steps, and stops the work when it is cancelled."""

    def __init__(self, send: Send, cancelled: threading.Event, every: int) -> None:
        self._send, self._cancelled, self._every = send, cancelled, max(1, every)
        self._seconds, self._steps = 0.0, 0
        self._last_s = 0.0

    def timed(self, step: int, loss: float) -> None:
        """A step is done, timed here; the first counts no time: loading came before it."""
        now_s = time.perf_counter()
        self(step, loss, now_s - self._last_s if self._last_s else 0.0)
        self._last_s = now_s

    def __call__(self, step: int, loss: float, seconds: float = 0.0) -> None:
        """A step is done."""
        if self._cancelled.is_set():
            raise Cancelled
        self._seconds, self._steps = self._seconds + seconds, self._steps + 1
        if (step + 1) % self._every == 0:
            self._send(Progress(step, loss, self._seconds / self._steps))
            self._seconds, self._steps = 0.0, 0


def _train(request: Train, send: Send, cancelled: threading.Event) -> Trained:
    run = open_run(request.job)
    report = _Reporter(send, cancelled, request.progress_steps)
    roots, losses = [], []
    for segment in train(
        run, Path(request.states_directory), request.first_step, request.steps, request.segment_steps, report
    ):
        send(SegmentDone(segment.step, segment.root, str(segment.path), segment.loss))
        roots.append(segment.root)
        losses.append(segment.loss)
        if cancelled.is_set():
            raise Cancelled
    return Trained(request.first_step, request.steps, roots[0], roots[-1], tuple(losses[1:]))


def _verify(request: Verify, send: Send, cancelled: threading.Event) -> Verified:
    run = open_run(request.job)
    report = _Reporter(send, cancelled, 1)
    directory = Path(request.states_directory)
    if len(request.evidence_key) not in (0, HASH_BYTES):
        raise Rejection(reasons.BAD_REQUEST, f"a key of {len(request.evidence_key)} bytes")
    place = (directory, request.first_step, request.steps, request.start_root)
    found = verify_segment(run, *place, report.timed, request.evidence_key)
    agrees = found.end_root == request.claimed_end_root
    return Verified(agrees, found.step_roots, found.end_root, found.evidence_root)
