"""The rules of the native game: (game, mover, move) -> game. The challenger points, the defender shows.

In `rep-v1` two honest parties agree on every bit, and the game looks for the first where they do not. Here they agree
on none; but what an operator may give *on the defender's own inputs* is known: within its bound of the definition. So
the challenger names a step, a value and a tile of it, and the defender has to show that this one tile follows from its
inputs. Whoever posts something inconsistent loses at once. Five moves; seven when the tile takes several pieces, and
two more for each further level of a run of more than `pinpoint.types.FAN_OUT` pieces. One fewer when the solver has
disclosed its states before; then it is held to that, and to the values that it served to whoever suspected it.

An honest defender can always show any tile; a defender with one value outside its bound loses to whoever accuses it.
"""

from __future__ import annotations

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX, SEGMENT_STEPS_MAX
from proofs import merkle, tensors
from proofs.arithmetic.tiles import MissingTile
from proofs.merkle import split_hashes
from proofs.native import types as t
from proofs.native.evidence import TileEvidence, carried, proved_root, shown_tile
from proofs.native.reference import Tile
from proofs.pinpoint.context import Context
from proofs.pinpoint.game import FIRST_STEP_MAX
from proofs.pinpoint.types import CHALLENGER_WRONG, DEFENDER, DEFENDER_WRONG, MOVE_BYTES_MAX
from proofs.pinpoint.walk import part_count, part_size
from proofs.reasons import BAD_CLAIM, GAME_OVER, MOVE_TOO_LARGE, NOT_YOUR_TURN, WRONG_MOVE
from proofs.state import evidence_root

OUT_OF_BOUND = "out_of_bound"
"""Defender wrong: the tile is outside its bound of the reference."""
IN_BOUND = "in_bound"
"""Challenger wrong: the accused tile was shown to follow from its inputs."""
REFERENCE_WRONG = "reference_wrong"
"""Defender wrong: a posted piece of the reference is another."""
REFERENCE_RIGHT = "reference_right"
"""Challenger wrong: the named piece of the reference is right, and the tile keeps its bound of it."""
OUTPUT_RIGHT, OUTPUT_WRONG = "output_right", "output_wrong"
"""The accused output is, or is not, the value that the program says."""
BAD_LIST, BAD_STATES, BAD_EVIDENCE, BAD_ENTRIES = "bad_list", "bad_states", "bad_evidence", "bad_entries"
"""Defender wrong: lists of a wrong length; roots that do not lead from start to end, or to the evidence; entries that
are not those of the state."""
CONTRADICTION = "contradiction"
"""Defender wrong: it disclosed other values of this step."""
NOT_PROVED = "not_proved"
"""Defender wrong: what it supplied does not prove what it must."""
NOTHING_NAMED = "nothing_named"
"""Challenger wrong: there is no such step, value, tile, entry or piece."""
CLOCK = "clock"
"""The party's clock ran out."""


def open_game(claim: t.NativeClaim, context: Context) -> t.NativeGame:
    """A new game on `claim`, the defender to move. `Rejection` BAD_CLAIM when the claim makes no sense."""
    if not 1 <= claim.steps <= SEGMENT_STEPS_MAX or not 0 <= claim.first_step < FIRST_STEP_MAX:
        raise Rejection(BAD_CLAIM, f"{claim.steps} steps from step {claim.first_step}")
    lengths = (len(claim.start_root), len(claim.end_root), len(claim.evidence))
    if lengths not in ((HASH_BYTES, HASH_BYTES, 0), (HASH_BYTES, 0, HASH_BYTES)):
        raise Rejection(BAD_CLAIM, f"roots of {lengths} bytes")
    for batch_input in range(len(context.program.batch)):
        context.dataset_of(batch_input)
    if not claim.states:
        return t.NativeGame(claim, 0, t.AwaitStates())
    if _exactly(claim.values, claim.steps) is None or not isinstance(
        phase := _states_posted(claim, t.PostStates(claim.states)), t.NamingStep
    ):
        raise Rejection(BAD_CLAIM, "the disclosed roots do not make up the segment")
    return t.NativeGame(claim, 0, phase)


def play(game: t.NativeGame, mover: int, move: t.NativeMove, context: Context) -> t.NativeGame:
    """The game after `move` of the party `mover`.

    `Rejection` (no effect) when the game is over, the other party has to move, the phase needs another kind of move, or
    the move is too large. A move of the right kind that does not prove what it must loses the game for its author.
    """
    if game.turn is None:
        raise Rejection(GAME_OVER, f"outcome {game.outcome}: {game.why}")
    if mover != game.turn:
        raise Rejection(NOT_YOUR_TURN, "the other party has to move")
    most = ARBITRATION_BYTES_MAX if isinstance(move, t.Justify) else MOVE_BYTES_MAX
    if (size := len(encode(move))) > most:
        raise Rejection(MOVE_TOO_LARGE, f"{size} bytes, at most {most}")
    return t.NativeGame(game.claim, game.moves + 1, _answer(game.claim, game.phase, move, context))


def forfeit(game: t.NativeGame, loser: int) -> t.NativeGame:
    """The game after a party lost by the clock. `Rejection` GAME_OVER when there is an outcome already."""
    if game.turn is None:
        raise Rejection(GAME_OVER, f"outcome {game.outcome}: {game.why}")
    ended = _defender_lost(CLOCK) if loser == DEFENDER else _challenger_lost(CLOCK)
    return t.NativeGame(game.claim, game.moves, ended)


def _defender_lost(why: str) -> t.Ended:
    return t.Ended(DEFENDER_WRONG, why)


def _challenger_lost(why: str) -> t.Ended:
    return t.Ended(CHALLENGER_WRONG, why)


def _answer(claim: t.NativeClaim, phase: t.NativePhase, move: t.NativeMove, context: Context) -> t.NativePhase:
    match phase, move:
        case t.AwaitStates(), t.PostStates():
            return _states_posted(claim, move)
        case t.NamingStep(), t.NameStep():
            return _step_named(claim, phase, move)
        case t.AwaitTrace(), t.PostTrace():
            return _trace_posted(claim, phase, move, context)
        case t.Accusing(), t.AccuseTile():
            return _tile_accused(phase, move, context)
        case t.Accusing(), t.AccuseOutput():
            return _output_accused(phase, move, context)
        case t.AwaitOutput(), t.ShowOutput():
            return _output_shown(phase, move, context)
        case t.AwaitReference(), t.PostReference():
            return _reference_posted(phase, move, context)
        case t.AwaitPieces(), t.PostPieces():
            return _pieces_posted(phase, move)
        case t.NamingPiece(), t.NamePiece():
            return _piece_named(phase, move)
        case t.AwaitJustification(), t.Justify():
            return _justified(phase, move, context)
        case _:
            raise Rejection(WRONG_MOVE, f"{type(move).__name__} does not answer {type(phase).__name__}")


def _exactly(data: bytes, count: int) -> list[bytes] | None:
    return split_hashes(data) if len(data) == count * HASH_BYTES else None


def _states_posted(claim: t.NativeClaim, move: t.PostStates) -> t.NativePhase:
    roots = _exactly(move.roots, claim.steps + 1)
    if roots is None:
        return _defender_lost(BAD_LIST)
    if roots[0] != claim.start_root or (claim.end_root and roots[-1] != claim.end_root):
        return _defender_lost(BAD_STATES)
    if claim.evidence and evidence_root(roots) != claim.evidence:
        return _defender_lost(BAD_EVIDENCE)
    return t.NamingStep(move.roots)


def _step_named(claim: t.NativeClaim, phase: t.NamingStep, move: t.NameStep) -> t.NativePhase:
    if not 1 <= move.index <= claim.steps:
        return _challenger_lost(NOTHING_NAMED)
    roots = split_hashes(phase.roots)
    return t.AwaitTrace(claim.first_step + move.index - 1, roots[move.index - 1], roots[move.index])


def _trace_posted(claim: t.NativeClaim, phase: t.AwaitTrace, move: t.PostTrace, context: Context) -> t.NativePhase:
    entries = _exactly(move.entry_roots, len(context.program.state))
    outputs = _exactly(move.output_roots, len(context.program.state))
    if entries is None or outputs is None or len(move.values_root) != HASH_BYTES:
        return _defender_lost(BAD_LIST)
    if claim.values and split_hashes(claim.values)[phase.step - claim.first_step] != move.values_root:
        return _defender_lost(CONTRADICTION)
    if context.state_root(phase.step, entries) != phase.start_root:
        return _defender_lost(BAD_ENTRIES)
    if context.state_root(phase.step + 1, outputs) != phase.end_root:
        return _defender_lost(BAD_ENTRIES)
    for value, root in zip(context.program.state_outputs, outputs, strict=True):
        if context.list_index_of(value) is None and root != context.unlisted_root(phase.step, value, entries):
            return _defender_lost(OUTPUT_WRONG)
    return t.Accusing(t.Trace(phase.step, move.entry_roots, move.output_roots, move.values_root))


def _tile_accused(phase: t.Accusing, move: t.AccuseTile, context: Context) -> t.NativePhase:
    listed = 0 <= move.value < context.program.value_count and context.list_index_of(move.value) is not None
    if not listed or not 0 <= move.tile < tensors.tile_count(context.types[move.value]):
        return _challenger_lost(NOTHING_NAMED)
    if Tile(phase.trace.step, move.value, move.tile, context).pieces > 1:
        return t.AwaitReference(phase.trace, move.value, move.tile)
    return t.AwaitJustification(phase.trace, t.Run(move.value, move.tile, 0, 1, b"", b""))


def _output_accused(phase: t.Accusing, move: t.AccuseOutput, context: Context) -> t.NativePhase:
    outputs = context.program.state_outputs
    if not 0 <= move.entry < len(outputs) or context.list_index_of(outputs[move.entry]) is None:
        return _challenger_lost(NOTHING_NAMED)
    return t.AwaitOutput(phase.trace, move.entry)


def _output_shown(phase: t.AwaitOutput, move: t.ShowOutput, context: Context) -> t.NativePhase:
    root = split_hashes(phase.trace.output_roots)[phase.entry]
    value = context.program.state_outputs[phase.entry]
    if proved_root(t.ProvedRoot(root, move.path), value, phase.trace, context) is None:
        return _defender_lost(OUTPUT_WRONG)
    return _challenger_lost(OUTPUT_RIGHT)


def _reference_posted(phase: t.AwaitReference, move: t.PostReference, context: Context) -> t.NativePhase:
    tile = Tile(phase.trace.step, phase.value, phase.tile, context)
    claimed, run = shown_tile(move.shown, tile, phase.trace), t.Run(phase.value, phase.tile, 0, tile.pieces, b"", b"")
    hashes, reference = _exactly(move.hashes, part_count(run.count) - 1), carried(move.reference)
    if claimed is None or hashes is None or reference is None or reference.values.shape != claimed.shape:
        return _defender_lost(NOT_PROVED)
    if reference.values.dtype != claimed.dtype or (reference.magnitudes is None) == tile.bound.needs_magnitudes:
        return _defender_lost(NOT_PROVED)
    if reference.magnitudes is not None and reference.magnitudes.shape != claimed.shape:
        return _defender_lost(NOT_PROVED)
    if not tile.holds(reference, claimed):
        return _defender_lost(OUT_OF_BOUND)
    return t.NamingPiece(phase.trace, run, move.hashes + reference.hash)


def _pieces_posted(phase: t.AwaitPieces, move: t.PostPieces) -> t.NativePhase:
    if _exactly(move.hashes, part_count(phase.run.count) - 1) is None:
        return _defender_lost(BAD_LIST)
    return t.NamingPiece(phase.trace, phase.run, move.hashes + phase.run.after)


def _piece_named(phase: t.NamingPiece, move: t.NamePiece) -> t.NativePhase:
    hashes, run = split_hashes(phase.hashes), phase.run
    if not 0 <= move.index < len(hashes):
        return _challenger_lost(NOTHING_NAMED)
    size = part_size(run.count)
    first = move.index * size
    before = hashes[move.index - 1] if move.index else run.before
    count = min(size, run.count - first)
    part = t.Run(run.value, run.tile, run.first + first, count, before, hashes[move.index])
    return (t.AwaitPieces if count > 1 else t.AwaitJustification)(phase.trace, part)


def _justified(phase: t.AwaitJustification, move: t.Justify, context: Context) -> t.NativePhase:
    run = phase.run
    tile = Tile(phase.trace.step, run.value, run.tile, context)
    evidence = TileEvidence(tile, move.inputs, move.tiles, phase.trace)
    if not evidence.sound:
        return _defender_lost(NOT_PROVED)
    before = None
    if run.before:
        before = carried(move.before)
        if before is None or before.hash != run.before:
            return _defender_lost(NOT_PROVED)
    try:
        found = tile.piece(run.first, before, evidence)
    except (MissingTile, ValueError):
        # Too little was supplied, or what was carried is nothing that a piece leaves behind.
        return _defender_lost(NOT_PROVED)
    if run.after:
        return _challenger_lost(REFERENCE_RIGHT) if found.hash == run.after else _defender_lost(REFERENCE_WRONG)
    claimed = shown_tile(move.shown, tile, phase.trace)
    if claimed is None:
        return _defender_lost(NOT_PROVED)
    return _challenger_lost(IN_BOUND) if tile.holds(found, claimed) else _defender_lost(OUT_OF_BOUND)


def values_root(roots: list[bytes]) -> bytes:
    """The one root over the tensor roots of all batch values and nodes, in list order."""
    return merkle.root(roots)
