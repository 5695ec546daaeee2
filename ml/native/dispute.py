"""A party's moves in a native dispute: from the values that were disclosed, or by running the own steps again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.native.values_file import load_values
from ml.oracle import Reexecution, dispute_context
from ml.trainer import Run
from ml.worker.messages import values_path
from proofs.native.strategy import Accusation, accuse, defend
from proofs.native.types import NativeGame, NativeMove
from proofs.pinpoint.oracle import ArrayOracle
from proofs.pinpoint.types import DEFENDER
from proofs.tensors import Array


class Disclosures(Reexecution):
    """Steps whose values lie in a folder are read from there; any other is run again."""

    def __init__(self, run: Run, states: Path, values: Path) -> None:
        super().__init__(run, states)
        self._program, self._values = run.program, values

    def values(self, step: int) -> Sequence[Array]:
        """See `Execution`."""
        path = values_path(self._values, step)
        if not path.is_file():
            return super().values(step)
        return [value.contiguous().numpy() for value in load_values(path, self._program, step)]


def next_native_move(
    run: Run, states: Path, values: Path, game: NativeGame, accusation: Accusation | None
) -> NativeMove:
    """The move of the party in turn: the defender shows its values, the challenger accuses what it found in them.

    Raises Rejection BAD_REQUEST when there is none to make.
    """
    oracle, context = ArrayOracle(run.program, Disclosures(run, states, values)), dispute_context(run)
    move: NativeMove | None = None
    if game.turn == DEFENDER:
        move = defend(game, oracle, context)
    elif accusation is not None:
        move = accuse(game, accusation, oracle, context)
    if move is None:
        raise Rejection(reasons.BAD_REQUEST, "this run has nothing to answer: the game is over, or it agrees")
    return move
