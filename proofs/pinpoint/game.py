"""The rules of the pinpoint game: (game, mover, move) -> game. Every arm of `_answer` is one rule.

The defender's lists must lead to what it stands for already, the challenger's hashes must differ from them: whoever
posts something inconsistent loses at once. Lies that are consistent end in an arbitration.
"""

from __future__ import annotations

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX, SEGMENT_STEPS_MAX
from proofs import merkle, tensors
from proofs.dataset import ELEMENTS_MAX
from proofs.pinpoint import arbitration, walk
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context
from proofs.program.types import Given
from proofs.reasons import BAD_CLAIM, GAME_OVER, MOVE_TOO_LARGE, NOT_YOUR_TURN, WRONG_MOVE
from proofs.sampling import RECORDS_MAX
from proofs.state import keyed_evidence_root

FIRST_STEP_MAX = 1 << 40
"""With the largest batch, positions in the data stay below 2^63."""


def open_game(claim: t.Claim, context: Context) -> t.Game:
    """A new game on `claim`, the defender to move. `Rejection` BAD_CLAIM when the claim makes no sense."""
    initial, evidence = claim.kind == t.INITIAL, claim.kind == t.EVIDENCE
    if claim.kind not in (t.SEGMENT, t.EVIDENCE, t.INITIAL) or not 0 <= claim.first_step < FIRST_STEP_MAX:
        raise Rejection(BAD_CLAIM, f"kind {claim.kind}, first step {claim.first_step}")
    if (claim.steps, claim.first_step) != (0, 0) if initial else not 1 <= claim.steps <= SEGMENT_STEPS_MAX:
        raise Rejection(BAD_CLAIM, f"{claim.steps} steps from step {claim.first_step}")
    lengths = [len(root) for root in (claim.start_root, claim.end_root, claim.evidence, claim.challenger_root)]
    if lengths != [0 if initial else HASH_BYTES, HASH_BYTES, HASH_BYTES if evidence else 0, HASH_BYTES]:
        raise Rejection(BAD_CLAIM, f"roots of {lengths} bytes")
    if len(claim.key) != (HASH_BYTES if evidence else 0):
        raise Rejection(BAD_CLAIM, f"a key of {len(claim.key)} bytes")
    if claim.challenger_root == (claim.evidence if evidence else claim.end_root):
        raise Rejection(BAD_CLAIM, "both parties claim the same")
    if initial and not context.checkpoint and any(isinstance(entry.initial, Given) for entry in context.program.state):
        raise Rejection(BAD_CLAIM, "entries are given, but the task has no checkpoint")
    for batch_input in range(len(context.program.batch)):
        tensor = context.dataset_of(batch_input)
        if not 0 < tensor.records <= RECORDS_MAX or tensor.type.elements > ELEMENTS_MAX:
            raise Rejection(BAD_CLAIM, "the dataset has too few or too many records")
    return t.Game(claim, 0, t.AwaitEntries() if initial else t.AwaitStates())


def play(game: t.Game, mover: int, move: t.Move, context: Context) -> t.Game:
    """The game after `move` of the party `mover`.

    `Rejection` (no effect) when the game is over, the other party has to move, the phase needs another kind of move, or
    the move is too large. A move of the right kind that does not prove what it must loses the game for its author.
    """
    if game.turn is None:
        raise Rejection(GAME_OVER, f"outcome {game.outcome}: {game.why}")
    if mover != game.turn:
        raise Rejection(
            NOT_YOUR_TURN, "the defender has to move" if game.turn == t.DEFENDER else "the challenger has to move"
        )
    opens = isinstance(move, t.Arbitrate | t.OpenSample)
    size, limit = len(encode(move)), ARBITRATION_BYTES_MAX if opens else t.MOVE_BYTES_MAX
    if size > limit:
        raise Rejection(MOVE_TOO_LARGE, f"{size} bytes, at most {limit}")
    return t.Game(game.claim, game.moves + 1, _answer(game.claim, game.phase, move, context))


def forfeit(game: t.Game, loser: int, why: str) -> t.Game:
    """The game after a party lost by the clock. `Rejection` GAME_OVER when there is an outcome already."""
    if game.turn is None:
        raise Rejection(GAME_OVER, f"outcome {game.outcome}: {game.why}")
    return t.Game(game.claim, game.moves, _lost(loser, why))


def _lost(loser: int, why: str) -> t.Finished:
    return t.Finished(t.DEFENDER_WRONG if loser == t.DEFENDER else t.CHALLENGER_WRONG, why)


def _defender_lost(why: str) -> t.Finished:
    return _lost(t.DEFENDER, why)


def _challenger_lost(why: str) -> t.Finished:
    return _lost(t.CHALLENGER, why)


def _answer(claim: t.Claim, phase: t.Phase, move: t.Move, context: Context) -> t.Phase:
    match phase, move:
        case t.AwaitStates(), t.PostStates():
            return _states_posted(claim, move)
        case t.NameState(), t.Name():
            return _state_named(claim, phase, move)
        case t.NameState(), t.NameSample() if claim.kind == t.EVIDENCE:
            return _sample_named(claim, phase, move)
        case ((t.NameValue() | t.NameChunk()), t.OpenSample()) if phase.sample is not None:
            return arbitration.rule_on_sample(claim.key, phase, phase.sample, move, context)
        case t.AwaitValues(), t.PostValues() if context.listed_values <= t.VALUES_PER_MOVE_MAX:
            return _values_posted(phase, move, context)
        case t.AwaitValues(), t.PostChunks() if context.listed_values > t.VALUES_PER_MOVE_MAX:
            return _chunks_posted(phase, move, context)
        case t.NameChunk(), t.Name():
            return _chunk_named(phase, move)
        case t.NameChunk(), t.ShowContradiction():
            return _contradiction_shown(phase, move, context)
        case t.AwaitChunk(), t.OpenChunk():
            return _chunk_opened(phase, move, context)
        case t.NameValue(), t.Name():
            return _value_named(phase, move, context)
        case t.AwaitEntries(), t.PostEntries():
            return _entries_posted(claim, move, context)
        case t.NameEntry(), t.Name():
            return _entry_named(phase, move, context)
        case t.AwaitTiles(), t.PostTiles():
            return _tiles_posted(phase, move, context)
        case t.NameTile(), t.Name():
            return _tile_named(claim, phase, move, context)
        case t.AwaitPieces(), t.PostPieces():
            return _pieces_posted(phase, move)
        case t.NamePiece(), t.Name():
            return _piece_named(phase, move)
        case t.AwaitEvidence(), t.Arbitrate():
            return arbitration.rule(claim, phase, move, context)
        case _:
            raise Rejection(WRONG_MOVE, f"{type(move).__name__} does not answer {type(phase).__name__}")


def _differs(move: t.Name | t.NameSample, posted: list[bytes]) -> bool:
    """Whether the move names an item that exists, with another hash than the posted one."""
    return 0 <= move.index < len(posted) and len(move.hash) == HASH_BYTES and move.hash != posted[move.index]


def _states_posted(claim: t.Claim, move: t.PostStates) -> t.Phase:
    roots = walk.exactly(move.roots, claim.steps + 1)
    if roots is None:
        return _defender_lost("the list of state roots has a wrong length")
    if roots[0] != claim.start_root or roots[-1] != claim.end_root:
        return _defender_lost("the state roots do not lead from the agreed start to the claimed end")
    samples = walk.exactly(move.samples, claim.steps if claim.kind == t.EVIDENCE else 0)
    if samples is None:
        return _defender_lost("the list of samples has a wrong length")
    if claim.kind == t.EVIDENCE and keyed_evidence_root(roots, samples) != claim.evidence:
        return _defender_lost("the state roots and samples are not those of the evidence")
    return t.NameState(move.roots, move.samples)


def _state_named(claim: t.Claim, phase: t.NameState, move: t.Name) -> t.Phase:
    roots = merkle.split_hashes(phase.roots)
    if move.index < 1 or not _differs(move, roots):
        return _challenger_lost("no differing state root was named")
    if claim.kind == t.SEGMENT and move.index == claim.steps and move.hash != claim.challenger_root:
        return _challenger_lost("the end root that was named is not the one that was claimed")
    return t.AwaitValues(claim.first_step + move.index - 1, roots[move.index - 1], roots[move.index])


def _sample_named(claim: t.Claim, phase: t.NameState, move: t.NameSample) -> t.Phase:
    roots, samples = merkle.split_hashes(phase.roots), merkle.split_hashes(phase.samples)
    if not _differs(move, samples):
        return _challenger_lost("no differing sample was named")
    sample = t.DisputedSample(samples[move.index], move.hash)
    return t.AwaitValues(claim.first_step + move.index, roots[move.index], roots[move.index + 1], sample)


def _values_posted(phase: t.AwaitValues, move: t.PostValues, context: Context) -> t.Phase:
    entries = walk.exactly(move.entry_roots, len(context.program.state))
    values = walk.exactly(move.value_roots, context.listed_values)
    if entries is None or values is None:
        return _defender_lost("the lists of roots have a wrong length")
    if context.state_root(phase.step, entries) != phase.start_root:
        return _defender_lost("the entries are not those of the agreed start state")
    outputs = []
    for value in context.program.state_outputs:
        index = context.list_index_of(value)
        outputs.append(context.unlisted_root(phase.step, value, entries) if index is None else values[index])
    if context.state_root(phase.step + 1, outputs) != phase.end_root:
        return _defender_lost("the values do not produce the claimed next state")
    return t.NameValue(phase.step, move.entry_roots, b"", 0, move.value_roots, phase.sample)


def _chunks_posted(phase: t.AwaitValues, move: t.PostChunks, context: Context) -> t.Phase:
    entries = walk.exactly(move.entry_roots, len(context.program.state))
    outputs = walk.exactly(move.output_roots, len(context.program.state))
    chunks = walk.exactly(move.chunks, -(-context.listed_values // t.VALUES_PER_MOVE_MAX))
    if entries is None or outputs is None or chunks is None:
        return _defender_lost("the lists of roots have a wrong length")
    if context.state_root(phase.step, entries) != phase.start_root:
        return _defender_lost("the entries are not those of the agreed start state")
    if context.state_root(phase.step + 1, outputs) != phase.end_root:
        return _defender_lost("the outputs are not those of the claimed next state")
    for value, root in zip(context.program.state_outputs, outputs, strict=True):
        if context.list_index_of(value) is None and root != context.unlisted_root(phase.step, value, entries):
            return _defender_lost("an entry that the step leaves as it is has changed")
    return t.NameChunk(phase.step, move.entry_roots, move.output_roots, move.chunks, phase.sample)


def _chunk_named(phase: t.NameChunk, move: t.Name) -> t.Phase:
    if not _differs(move, merkle.split_hashes(phase.chunks)):
        return _challenger_lost("no differing chunk was named")
    return t.AwaitChunk(phase.step, phase.entry_roots, phase.output_roots, phase.chunks, move.index)


def _contradiction_shown(phase: t.NameChunk, move: t.ShowContradiction, context: Context) -> t.Phase:
    outputs = merkle.split_hashes(phase.output_roots)
    index = None
    if 0 <= move.entry < len(outputs):
        index = context.list_index_of(context.program.state_outputs[move.entry])
    if index is None or not arbitration.chunk_holds(phase.chunks, index, move.root, move.path, context.listed_values):
        return _challenger_lost("the value is not in an agreed chunk")
    if move.root == outputs[move.entry]:
        return _challenger_lost("there is no contradiction")
    return _defender_lost("the values contradict the claimed next state")


def _chunk_opened(phase: t.AwaitChunk, move: t.OpenChunk, context: Context) -> t.Phase:
    first = phase.chunk * t.VALUES_PER_MOVE_MAX
    values = walk.exactly(move.value_roots, min(t.VALUES_PER_MOVE_MAX, context.listed_values - first))
    if values is None or merkle.root(values) != merkle.split_hashes(phase.chunks)[phase.chunk]:
        return _defender_lost("the values are not those of the chunk")
    outputs = merkle.split_hashes(phase.output_roots)
    for value, root in zip(context.program.state_outputs, outputs, strict=True):
        index = context.list_index_of(value)
        if index is not None and first <= index < first + len(values) and values[index - first] != root:
            return _defender_lost("the values contradict the claimed next state")
    return t.NameValue(phase.step, phase.entry_roots, phase.chunks, first, move.value_roots)


def _value_named(phase: t.NameValue, move: t.Name, context: Context) -> t.Phase:
    values = merkle.split_hashes(phase.value_roots)
    if not _differs(move, values):
        return _challenger_lost("no differing value was named")
    value = context.value_of(phase.first + move.index)
    entries = merkle.split_hashes(phase.entry_roots)
    node, inputs = context.node_of(value), []
    for number in node.inputs if node else ():
        index = context.list_index_of(number)
        if index is None:
            inputs.append(context.unlisted_root(phase.step, number, entries))
        else:
            inputs.append(values[index - phase.first] if index >= phase.first else b"")
    target = t.Target(phase.step, value, tuple(inputs), phase.chunks)
    tiles = tensors.tile_count(context.types[value])
    return t.AwaitTiles(target, t.Span(0, tiles, values[move.index], move.hash))


def _entries_posted(claim: t.Claim, move: t.PostEntries, context: Context) -> t.Phase:
    entries = walk.exactly(move.entry_roots, len(context.program.state))
    if entries is None or context.state_root(0, entries) != claim.end_root:
        return _defender_lost("the entries are not those of the claimed initial state")
    return t.NameEntry(move.entry_roots)


def _entry_named(phase: t.NameEntry, move: t.Name, context: Context) -> t.Phase:
    entries = merkle.split_hashes(phase.entry_roots)
    if not _differs(move, entries):
        return _challenger_lost("no differing entry was named")
    entry = context.program.state[move.index]
    target = t.Target(0, move.index, (), b"")
    span = t.Span(0, tensors.tile_count(entry.type), entries[move.index], move.hash)
    if isinstance(entry.initial, Given):
        return t.AwaitEvidence(target, 0, b"", span)
    return t.AwaitTiles(target, span)


def _tiles_posted(phase: t.AwaitTiles, move: t.PostTiles, context: Context) -> t.Phase:
    hashes = walk.exactly(move.hashes, walk.part_count(phase.span.count))
    if hashes is None:
        return _defender_lost("the list of tile hashes has a wrong length")
    type_ = context.types[phase.target.value]
    folded = merkle.fold(tensors.TILES, hashes)
    whole = phase.span.count == tensors.tile_count(type_)
    if (tensors.bind(type_, folded) if whole else folded) != phase.span.defender:
        return _defender_lost("the tile hashes do not lead to the root above them")
    return t.NameTile(phase.target, phase.span, move.hashes)


def _tile_named(claim: t.Claim, phase: t.NameTile, move: t.Name, context: Context) -> t.Phase:
    hashes = merkle.split_hashes(phase.hashes)
    if not _differs(move, hashes):
        return _challenger_lost("no differing tile was named")
    span = walk.part_of(phase.span, move.index, hashes[move.index], move.hash)
    if span.count > 1:
        return t.AwaitTiles(phase.target, span)
    tile = span.first
    pieces = arbitration.pieces_of(claim, phase.target, tile, context)
    run = t.Span(0, pieces, span.defender, span.challenger)
    return _run_of_pieces(phase.target, tile, b"", run)


def _run_of_pieces(target: t.Target, tile: int, agreed: bytes, run: t.Span) -> t.Phase:
    return (t.AwaitPieces if run.count > 1 else t.AwaitEvidence)(target, tile, agreed, run)


def _pieces_posted(phase: t.AwaitPieces, move: t.PostPieces) -> t.Phase:
    if walk.exactly(move.hashes, walk.part_count(phase.span.count) - 1) is None:
        return _defender_lost("the list of accumulator hashes has a wrong length")
    return t.NamePiece(phase.target, phase.tile, phase.agreed, phase.span, move.hashes)


def _piece_named(phase: t.NamePiece, move: t.Name) -> t.Phase:
    hashes = merkle.split_hashes(phase.hashes)
    ends = [*hashes, phase.span.defender]
    if not _differs(move, ends):
        return _challenger_lost("no differing accumulator was named")
    if move.index == len(hashes) and move.hash != phase.span.challenger:
        return _challenger_lost("the hash that was named is not the one that was claimed")
    run = walk.part_of(phase.span, move.index, ends[move.index], move.hash)
    agreed = ends[move.index - 1] if move.index else phase.agreed
    return _run_of_pieces(phase.target, phase.tile, agreed, run)
