"""A party's knowledge in a dispute, by re-execution: the `Execution` that `proofs.pinpoint` plays from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.checkpoint import StateRoots
from ml.trainer import Run, checkpoint_of, start_of
from proofs.pinpoint import Game, Move
from proofs.pinpoint.context import Context
from proofs.pinpoint.oracle import ArrayOracle
from proofs.pinpoint.strategy import respond
from proofs.tensors import Array
from proofs.tiled import TiledTensor


class Reexecution:
    """Every value of any step, from the states in a directory; a run's fault is repeated faithfully."""

    def __init__(self, run: Run, directory: Path) -> None:
        self._run = run
        self._directory = directory

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        """See `Execution`."""
        stepper = start_of(self._run, self._directory, first_step)
        state_roots = StateRoots(self._run.program)
        roots = [state_roots.of(stepper.step, stepper.state)]
        for _ in range(steps):
            stepper.advance()
            roots.append(state_roots.of(stepper.step, stepper.state))
        return roots

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """See `Execution`."""
        stepper = start_of(self._run, self._directory, first_step)
        state_roots, samples = StateRoots(self._run.program), list[bytes]()
        roots = [state_roots.of(stepper.step, stepper.state)]
        for _ in range(steps):
            samples.append(stepper.advance_sampled(key)[1])
            roots.append(state_roots.of(stepper.step, stepper.state))
        return roots, samples

    def values(self, step: int) -> Sequence[Array]:
        """See `Execution`. Holds all values of the step in memory."""
        values = start_of(self._run, self._directory, step).values()
        return [value.contiguous().numpy() for value in values]

    def dataset(self, batch_input: int) -> TiledTensor:
        """See `Execution`."""
        return self._run.dataset.tensor(self._run.program.batch[batch_input].name)


def dispute_context(run: Run) -> Context:
    """What the chain knows of the task."""
    return Context(run.program, run.dataset.manifest.dataset, run.seed, checkpoint_of(run))


def next_move(run: Run, directory: Path, game: Game) -> Move:
    """The move of the party whose turn it is and whose run this is.

    Raises Rejection BAD_REQUEST when the game is over or this party agrees with everything that was posted.
    """
    move = respond(game, ArrayOracle(run.program, Reexecution(run, directory)), dispute_context(run))
    if move is None:
        raise Rejection(reasons.BAD_REQUEST, "this run has nothing to answer: the game is over, or it agrees")
    return move
