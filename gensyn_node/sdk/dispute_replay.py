"""Play a dispute again from the chain, on this machine: what each move said, and whether the ruling was right.

Everything comes out of transactions: the moves, the program, the task. The claim's agreed start is the first root that
the defender posted (another one would have lost at once).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from consensus.ledger.messages import TaskSpec
from consensus.ledger.programs import decode_program
from consensus.ledger.records import DISPUTE_EVIDENCE, DISPUTE_INITIAL, TURN_DEFENDER
from consensus.ledger.schedule import segment_span
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
from gensyn_node.sdk.client import NodeClient
from gensyn_node.sdk.native_replay import describe_native, native_claim
from proofs.classes import NATIVE
from proofs.dataset import DatasetTensor
from proofs.native import game as native
from proofs.native import types as n
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context
from proofs.pinpoint.game import open_game, play
from proofs.program.types import TensorType

Json = dict[str, Any]
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class ReplayedMove:
    """One move, understood."""

    height: int
    mover: str
    description: str
    bytes: int
    arbitration: bool
    """Whether the referee had to compute."""
    referee_ms: float
    """What judging it took here."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A dispute as far as it was played."""

    moves: tuple[ReplayedMove, ...]
    step: int | None
    """Disputed step, once known."""
    operator: str
    """Operator whose result is disputed, once known; `batch` or `initial` for inputs, `sample` of an evidence."""
    outcome: str
    """`defender_wrong`, `challenger_wrong`, `both_wrong`, or empty: undecided, or decided by a clock."""
    why: str


_OUTCOMES = {
    None: "",
    t.DEFENDER_WRONG: "defender_wrong",
    t.CHALLENGER_WRONG: "challenger_wrong",
    t.BOTH_WRONG: "both_wrong",
}


def replay_dispute(client: NodeClient, dispute: Json) -> Replay:
    """Replay a dispute (as the RPC shows it)."""
    task = client.call("task", task_id=dispute["task_id"])
    context = _context(client, task)
    if task["record"]["spec"]["arithmetic"] == NATIVE and dispute["record"]["kind"] != DISPUTE_INITIAL:
        return _replay_native(client, dispute, task, context)
    game: t.Game | None = None
    moves: list[ReplayedMove] = []
    step, operator = None, ""
    for entry in dispute["record"]["moves"]:
        move = _move(client, entry["transaction_id"])
        if isinstance(move, t.PostStates | t.PostEntries):
            game = open_game(_claim(dispute["record"], task["record"]["spec"], move), context)
        if game is None:
            raise Rejection(reasons.NODE_ERROR, "the dispute's moves begin in the middle")
        description = describe(move, game, context)
        mover = t.DEFENDER if entry["turn"] == TURN_DEFENDER else t.CHALLENGER
        started = time.perf_counter()
        game = play(game, mover, move, context)
        taken_ms = (time.perf_counter() - started) * 1000
        arbitration = isinstance(move, t.Arbitrate | t.OpenSample)
        moves.append(
            ReplayedMove(entry["height"], entry["turn"], description, entry["bytes"], arbitration, round(taken_ms, 3))
        )
        if target := getattr(game.phase, "target", None):
            step, operator = target.step, operator_of(target.value, context)
        elif getattr(game.phase, "sample", None) is not None:
            step, operator = getattr(game.phase, "step", step), "sample"
    outcome = _OUTCOMES[game.outcome] if game else ""
    return Replay(tuple(moves), step, operator, outcome, game.why if game else "")


def _replay_native(client: NodeClient, dispute: Json, task: Json, context: Context) -> Replay:
    """The game of a native task: the challenger points, the defender shows."""
    record = dispute["record"]
    span = segment_span(spec_from_json(task["record"]["spec"]), record["segment"])
    game: n.NativeGame | None = None
    moves: list[ReplayedMove] = []
    step, operator = None, ""
    for entry in record["moves"]:
        move = _native_move(client, entry["transaction_id"])
        if game is None:
            game = native.open_game(native_claim(record, dispute["disclosed"], *span, move), context)
        if isinstance(move, n.NameStep):
            step = game.claim.first_step + move.index - 1
        if isinstance(move, n.AccuseTile):
            operator = operator_of(move.value, context)
        description = describe_native(move, game, context, operator)
        mover = t.DEFENDER if entry["turn"] == TURN_DEFENDER else t.CHALLENGER
        started = time.perf_counter()
        game = native.play(game, mover, move, context)
        taken_ms = round((time.perf_counter() - started) * 1000, 3)
        arbitration = isinstance(move, n.Justify)
        moves.append(ReplayedMove(entry["height"], entry["turn"], description, entry["bytes"], arbitration, taken_ms))
    outcome = _OUTCOMES[game.outcome] if game else ""
    return Replay(tuple(moves), step, operator, outcome, game.why if game else "")


def describe(move: t.Move, game: t.Game, context: Context) -> str:
    """What a move says, in the situation it was made in."""
    claim, phase = game.claim, game.phase
    match move, phase:
        case t.PostStates(), _:
            samples = " and the samples between them" if claim.kind == t.EVIDENCE else ""
            return f"posts the state roots of steps {claim.first_step} to {claim.first_step + claim.steps}{samples}"
        case t.NameSample(), _:
            return f"agrees up to step {claim.first_step + move.index}, but not on the sample of that step"
        case t.OpenSample(), _:
            return f"opens the {len(move.tiles)} tiles that the key draws there; the chain hashes them itself"
        case t.Name(), t.NameState():
            return f"agrees up to step {claim.first_step + move.index - 1}; what that step makes of the state is wrong"
        case t.PostValues(), t.AwaitValues():
            return f"posts the results of all {context.listed_values} operators and inputs of step {phase.step}"
        case t.PostChunks(), t.AwaitValues():
            return f"posts the results of step {phase.step} in {len(move.chunks) // _HASH_BYTES} chunks"
        case t.OpenChunk(), _:
            return f"opens the chunk: {len(move.value_roots) // _HASH_BYTES} results"
        case t.Name(), t.NameChunk():
            return f"names chunk {move.index} as the first that differs"
        case t.Name(), t.NameValue():
            value = context.value_of(phase.first + move.index)
            return f"names the first wrong result: value {value}, operator {operator_of(value, context)}"
        case t.PostEntries(), _:
            return f"posts the roots of the {len(move.entry_roots) // _HASH_BYTES} entries of the initial state"
        case t.Name(), t.NameEntry():
            return f"names the first wrong entry: {context.entry_names[move.index]}"
        case t.PostTiles(), _:
            return f"posts {len(move.hashes) // _HASH_BYTES} tile hashes of that result"
        case t.Name(), t.NameTile():
            return f"names tile {phase.span.first + move.index} as the first that differs"
        case t.PostPieces(), _:
            return f"posts {len(move.hashes) // _HASH_BYTES} partial sums of the tile"
        case t.Name(), t.NamePiece():
            return f"names partial sum {phase.span.first + move.index} as the first that differs"
        case t.Arbitrate(), _:
            return f"supplies {len(move.tiles)} input tiles; the chain computes the tile itself"
        case t.ShowContradiction(), _:
            return "shows that the agreed results contradict the claimed state"
    return type(move).__name__


def operator_of(value: int, context: Context) -> str:
    """Name of the operator that makes a value; `batch` for drawn records, `initial` for state entries."""
    node = context.node_of(value)
    if node is not None:
        return node.operator
    return "batch" if value >= len(context.program.state) else "initial"


def _native_move(client: NodeClient, transaction_id: str) -> n.NativeMove:
    message = client.call("transaction", transaction_id=transaction_id)["message"]
    move: n.NativeMove = decode(n.NativeMove, bytes.fromhex(message["move"]), max_bytes=limits.TRANSACTION_BYTES_MAX)
    return move


def _move(client: NodeClient, transaction_id: str) -> t.Move:
    message = client.call("transaction", transaction_id=transaction_id)["message"]
    move: t.Move = decode(t.Move, bytes.fromhex(message["move"]), max_bytes=limits.TRANSACTION_BYTES_MAX)
    return move


def _claim(record: Json, spec: Json, first: t.PostStates | t.PostEntries) -> t.Claim:
    defender_root, challenger_root = bytes.fromhex(record["defender_root"]), bytes.fromhex(record["challenger_root"])
    if isinstance(first, t.PostEntries) or record["kind"] == DISPUTE_INITIAL:
        return t.Claim(t.INITIAL, 0, 0, b"", defender_root, b"", challenger_root)
    first_step, steps = segment_span(spec_from_json(spec), record["segment"])
    start = first.roots[:_HASH_BYTES]
    if record["kind"] == DISPUTE_EVIDENCE:
        end = first.roots[-_HASH_BYTES:]
        key = bytes.fromhex(record["evidence_key"])
        return t.Claim(t.EVIDENCE, first_step, steps, start, end, defender_root, challenger_root, key)
    return t.Claim(t.SEGMENT, first_step, steps, start, defender_root, b"", challenger_root)


def spec_from_json(spec: Json) -> TaskSpec:
    """The specification, from JSON."""
    fields: Json = dict(spec)
    fields |= {name: bytes.fromhex(spec[name]) for name in _HASHES}
    fields |= {"dataset": _dataset(spec), "endpoints": tuple(spec["endpoints"])}
    return TaskSpec(**fields)


_HASHES = ("program_id", "dataset_manifest", "checkpoint_root", "checkpoint_blob")


def _dataset(spec: Json) -> tuple[DatasetTensor, ...]:
    return tuple(
        DatasetTensor(
            one["name"],
            TensorType(one["record"]["dtype"], tuple(one["record"]["shape"])),
            one["records"],
            bytes.fromhex(one["root"]),
        )
        for one in spec["dataset"]
    )


def _context(client: NodeClient, task: Json) -> Context:
    spec = task["record"]["spec"]
    program = decode_program(bytes.fromhex(client.call("program", program_id=spec["program_id"])))
    seed, checkpoint = bytes.fromhex(task["record"]["seed"]), bytes.fromhex(spec["checkpoint_root"])
    return Context(program, _dataset(spec), seed, checkpoint)
