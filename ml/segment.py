"""Re-executing one segment: what a verifier does, at a cost that does not depend on the length of the training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import SEGMENT_STEPS_MAX
from ml import reasons
from ml.checkpoint import State, StateRoots, load_verified_state, root_of_state
from ml.kernels.threads import a_core_is_free
from ml.trainer import Run, Stepper, initial_state
from ml.worker.messages import state_path
from proofs.program.types import Program
from proofs.state import evidence_root, keyed_evidence_root


@dataclass(frozen=True)
class Verification:
    """A re-executed segment."""

    step_roots: tuple[bytes, ...]
    """R_0 … R_k."""
    samples: tuple[bytes, ...] = ()
    """What the key drew in each step; empty without a key."""

    @property
    def end_root(self) -> bytes:
        """The root of the state at the segment's end."""
        return self.step_roots[-1]

    @property
    def evidence_root(self) -> bytes:
        """Binds all step roots and samples."""
        return keyed_evidence_root(self.step_roots, self.samples) if self.samples else evidence_root(self.step_roots)


class Rooting:
    """Makes the root of each step's state: while the next step runs, where a core is free, else between the steps.

    Roots made beside kernels that have every core would only take turns with them.
    """

    def __init__(self, program: Program) -> None:
        self._roots = StateRoots(program)
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="roots") if a_core_is_free() else None
        self._waiting: list[Future[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._beside is not None:
            self._beside.shutdown()

    def after(self, step: int, state: State) -> list[bytes]:
        """The roots that are known now, in order; one at a time is in the making, since a state is large."""
        if self._beside is None:
            return [self._roots.of(step, state, together=True)]
        made = self.last()
        self._waiting.append(self._beside.submit(self._roots.of, step, state))
        return made

    def last(self) -> list[bytes]:
        """What is in the making."""
        made = [one.result() for one in self._waiting]
        self._waiting.clear()
        return made


def verify_segment(
    run: Run,
    directory: Path,
    first_step: int,
    steps: int,
    start_root: bytes,
    on_step: Callable[[int, float], None],
    evidence_key: bytes = b"",
) -> Verification:
    """Re-execute a segment from the agreed state in `directory` (step 0: from the seed), with samples if a key says so.

    Raises Rejection BAD_CHECKPOINT when the state is not the agreed one.
    """
    if first_step < 0 or not 1 <= steps <= SEGMENT_STEPS_MAX:
        raise Rejection(reasons.BAD_REQUEST, f"a segment of {steps} steps from {first_step}")
    stepper = Stepper(run, start_state(run, directory, first_step, start_root), first_step)
    roots, samples = [start_root], list[bytes]()
    with Rooting(run.program) as rooting:
        for _ in range(steps):
            if evidence_key:
                loss, sample = stepper.advance_sampled(evidence_key)
                samples.append(sample)
            else:
                loss = stepper.advance()
            roots += rooting.after(stepper.step, stepper.state)
            on_step(stepper.step - 1, loss)
        roots += rooting.last()
    return Verification(tuple(roots), tuple(samples))


def start_state(run: Run, directory: Path, step: int, root: bytes) -> State:
    """The agreed state before a step, from `directory` (step 0: from the seed).

    Raises Rejection BAD_CHECKPOINT when it is another one.
    """
    path = state_path(directory, step)
    if step or path.is_file():
        return load_verified_state(path, run.program, step, root)
    state = initial_state(run)
    if root_of_state(run.program, 0, state) != root:
        raise Rejection(reasons.BAD_CHECKPOINT, "the seed gives another initial state than the committed one")
    return state
