"""Doing the requests about native tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.native.dispute import next_native_move
from ml.native.segment import compare, disclose, look, profile
from ml.native.self_test import failing_operators
from ml.trainer import Run, open_run
from ml.worker.messages import (
    FRAME_BYTES_MAX,
    Accused,
    Compare,
    Compared,
    Disclose,
    Disclosed,
    ExamineNative,
    Job,
    Look,
    Looked,
    NativeExamined,
    Profile,
    Profiled,
    Reply,
    Responded,
    RespondNative,
    values_path,
)
from proofs.classes import NATIVE
from proofs.native.strategy import Accusation
from proofs.native.types import NativeGame

OnStep = Callable[[int, float], None]


def answer_native(
    request: Profile | Compare | Disclose | Look | RespondNative | ExamineNative, on_step: OnStep
) -> Reply:
    """The final reply. Raises Rejection."""
    match request:
        case Profile():
            return Profiled(profile(_run(request.job), request.steps, on_step))
        case Compare():
            places = (_run(request.job), Path(request.states_directory), request.first_step, request.steps)
            found = compare(*places, request.start_root, request.end_root, on_step)
            return Compared(found.own.end_root, found.own.evidence_root, found.distances)
        case Disclose():
            states, values = Path(request.states_directory), Path(request.values_directory)
            made = disclose(_run(request.job), states, values, request.first_step, request.steps, on_step)
            return Disclosed(made.state_roots, made.values_roots)
        case Look():
            path = values_path(request.values_directory, request.step)
            roots = (request.start_root, request.end_root, request.values_root)
            seen = look(_run(request.job), path, request.step, *roots)
            return Looked(seen.served, _told(seen.accusation))
        case RespondNative():
            game: NativeGame = decode(NativeGame, request.game, max_bytes=FRAME_BYTES_MAX)
            folders = (Path(request.states_directory), Path(request.values_directory))
            return Responded(encode(next_native_move(_run(request.job), *folders, game, _meant(request.accused))))
        case ExamineNative():
            return NativeExamined(tuple(failing_operators(request.threads)))


def _run(job: Job) -> Run:
    if job.arithmetic != NATIVE:
        raise Rejection(reasons.BAD_REQUEST, f"arithmetic {job.arithmetic[:20]!r} where {NATIVE} is asked about")
    return open_run(job)


def _told(accusation: Accusation | None) -> Accused | None:
    if accusation is None:
        return None
    return Accused(accusation.step, accusation.value, accusation.tile, accusation.is_output)


def _meant(accused: Accused | None) -> Accusation | None:
    return None if accused is None else Accusation(**msgspec.structs.asdict(accused))
