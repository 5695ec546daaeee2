"""The game of a dispute: `proofs.pinpoint` about values that are equal everywhere, `proofs.native` where they are not.

A native task's initial state is made from the seed by exact operators: a dispute over it is the exact game.
"""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.records import ENDED_BY_ARBITRATION, ENDED_BY_MOVE
from consensus.ledger.view import State
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import decode
from proofs.native import game as native
from proofs.native.types import Justify, NativeClaim, NativeGame, NativeMove
from proofs.pinpoint import Claim, Game, Move
from proofs.pinpoint import game as exact
from proofs.pinpoint.context import Context
from proofs.pinpoint.types import Arbitrate, OpenSample

AnyGame = Game | NativeGame


def start(claim: Claim | NativeClaim, context: Context) -> AnyGame:
    """A new game. `Rejection` when the claim makes no sense."""
    if isinstance(claim, NativeClaim):
        return native.open_game(claim, context)
    return exact.open_game(claim, context)


def load(state: State, dispute_id: bytes) -> AnyGame:
    """The present game of an open dispute."""
    found = state.find(keys.native_game(dispute_id), NativeGame)
    return state.need(keys.game(dispute_id), Game) if found is None else found


def store(state: State, dispute_id: bytes, game: AnyGame) -> None:
    """Keep a game in progress."""
    key = keys.native_game if isinstance(game, NativeGame) else keys.game
    state.put(key(dispute_id), game)


def forget(state: State, dispute_id: bytes) -> None:
    """The dispute is over."""
    state.put(keys.game(dispute_id), None)
    state.put(keys.native_game(dispute_id), None)


def play(game: AnyGame, mover: int, data: bytes, context: Context) -> tuple[AnyGame, Move | NativeMove]:
    """The game after an encoded move, and the move. `Rejection` when it cannot be made now."""
    if isinstance(game, NativeGame):
        pointed: NativeMove = decode(NativeMove, data, max_bytes=limits.TRANSACTION_BYTES_MAX)
        return native.play(game, mover, pointed, context), pointed
    move: Move = decode(Move, data, max_bytes=limits.TRANSACTION_BYTES_MAX)
    return exact.play(game, mover, move, context), move


def forfeit(game: AnyGame, loser: int, why: str) -> AnyGame:
    """The game after a party lost by the clock; `why` in words, where the game keeps words."""
    if isinstance(game, NativeGame):
        return native.forfeit(game, loser)
    return exact.forfeit(game, loser, why)


def how_ended(move: Move | NativeMove) -> str:
    """The word for how a game ended with this move."""
    return ENDED_BY_ARBITRATION if isinstance(move, Arbitrate | OpenSample | Justify) else ENDED_BY_MOVE
