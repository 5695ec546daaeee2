"""The pinpoint game: two parties that disagree on a root narrow it to one piece of arithmetic for the chain.

Pure and deterministic; Game, Claim and Move are codec structs. Reading order: `types`, `context` (what the chain knows
of the task), `walk` (levels over long lists), `game` (the rules), `arbitration` (the referee), `oracle` (what a party
must know), `strategy` (honest play).

    open_game(claim, context) -> Game                    Rejection BAD_CLAIM
    play(game, mover, move, context) -> Game             Rejection NOT_YOUR_TURN, GAME_OVER, WRONG_MOVE, MOVE_TOO_LARGE:
                                                         no effect; a move that does not prove what it must loses
    forfeit(game, loser, why) -> Game                    a clock ran out
    game.turn, game.outcome, game.why, game.moves
    strategy.respond(game, oracle, context) -> Move      honest play for whoever's turn it is
    strategy.expected_moves(claim, context, …)           how many moves the game has

Phases: states (k + 1 roots) → values (batch values and nodes, one level of chunks above 2,048) → tiles (1,024 children
a move) → pieces (accumulators, when a tile has several) → evidence. In each the defender posts a list that must lead to
what it stands for already, and the challenger names the first difference with its own hash there. Of an evidence the
first difference may be the sample of a step between agreed states: when its values are agreed, too, the drawn tiles are
opened (`proofs.samples`).
"""

from proofs.pinpoint.types import BOTH_WRONG, CHALLENGER, CHALLENGER_WRONG, DEFENDER, DEFENDER_WRONG, Claim, Game, Move

__all__ = ["BOTH_WRONG", "CHALLENGER", "CHALLENGER_WRONG", "DEFENDER", "DEFENDER_WRONG", "Claim", "Game", "Move"]
