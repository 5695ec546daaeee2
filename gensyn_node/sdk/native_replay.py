"""Play a native dispute again from the chain: who pointed at what, and whether it was within its bound."""

from __future__ import annotations

from typing import Any

from consensus.ledger.records import DISPUTE_EVIDENCE
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
from proofs.native import types as t
from proofs.pinpoint.context import Context

Json = dict[str, Any]
_HASH_BYTES = 32


def native_claim(
    record: Json, disclosed: Json | None, first_step: int, steps: int, first: t.NativeMove
) -> t.NativeClaim:
    """What the dispute is about. The agreed start is the first root that the defender disclosed or posted."""
    root = bytes.fromhex(record["defender_root"])
    if disclosed is not None:
        states, values = bytes.fromhex(disclosed["states"]), bytes.fromhex(disclosed["values"])
        return t.NativeClaim(first_step, steps, states[:_HASH_BYTES], root, b"", states, values)
    if not isinstance(first, t.PostStates):
        raise Rejection(reasons.NODE_ERROR, "the dispute's moves begin in the middle")
    start = first.roots[:_HASH_BYTES]
    if record["kind"] == DISPUTE_EVIDENCE:
        return t.NativeClaim(first_step, steps, start, b"", root)
    return t.NativeClaim(first_step, steps, start, root, b"")


def describe_native(move: t.NativeMove, game: t.NativeGame, context: Context, operator: str) -> str:
    """What a move says, in the situation it was made in. `operator`: of the accused value, once it is known."""
    claim = game.claim
    match move:
        case t.PostStates():
            return f"posts the state roots of steps {claim.first_step} to {claim.first_step + claim.steps}"
        case t.NameStep():
            return f"names step {claim.first_step + move.index - 1}: something in it does not follow from its inputs"
        case t.PostTrace():
            return f"commits to all {context.listed_values} values of the step, and to its start and end"
        case t.AccuseTile():
            return f"points at tile {move.tile} of value {move.value}, operator {operator}"
        case t.AccuseOutput():
            return f"says that {context.entry_names[move.entry]} is not the value that the program says"
        case t.ShowOutput():
            return "shows where the value lies among those of the step"
        case t.PostReference():
            return "shows the tile beside the definition's result, piece by piece"
        case t.PostPieces():
            return f"posts {len(move.hashes) // _HASH_BYTES} partial results of the definition"
        case t.NamePiece():
            return f"names part {move.index} of the definition's result as the first that is wrong"
        case t.Justify():
            return f"supplies {len(move.tiles)} input tiles; the chain computes the definition and its bound itself"
