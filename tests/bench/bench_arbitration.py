"""Arbitrations of every operator in layers of 8,192 columns: the largest evidence, and the referee's time on it.

The parties are lazy: they make the tiles that the game asks for and no other. For each layer three tiles of the output
(two corners, the middle), of each the first, middle and last pieces; the worst is shown. Each layer's dispute is also
played from the first move to the last, by an honest defender and by an honest challenger. The time of an arbitration is
the median of several, on the clock and on the processor; a loaded machine shows in the difference.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from proofs.pinpoint import types as t
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.strategy import expected_moves, respond
from tests.disputes.lazy_parties import Dispute, LazyOracle, arbitrations
from tests.disputes.wide_layers import CASES, pieces_of, tiles_of, without_a_case

REPEATS = 5


def arbitration(dispute: Dispute) -> dict[str, float]:
    """The worst pieces of some tiles of one operator: bytes, and milliseconds of the referee."""
    worst: dict[str, float] = {"pieces": 0, "evidence_bytes": 0, "referee_ms": 0.0, "referee_cpu_ms": 0.0}
    for tile in tiles_of(dispute):
        here = replace(dispute, tile=tile)
        oracle = LazyOracle(here)
        for _, game in arbitrations(here, pieces_of(here)):
            move = respond(game, oracle, here.context)
            if not isinstance(move, t.Arbitrate):
                raise SystemExit(f"{dispute.operator}: no evidence")
            clock, processor = [], []
            for _ in range(REPEATS):
                started, used = time.perf_counter(), time.process_time()
                ended = play(game, t.CHALLENGER, move, here.context)
                clock.append(time.perf_counter() - started)
                processor.append(time.process_time() - used)
            if ended.outcome != t.DEFENDER_WRONG:
                raise SystemExit(f"{dispute.operator}, tile {tile}: {ended.why}")
            worst["evidence_bytes"] = max(worst["evidence_bytes"], len(encode(move)))
            worst["referee_ms"] = max(worst["referee_ms"], round(statistics.median(clock) * 1000, 2))
            worst["referee_cpu_ms"] = max(worst["referee_cpu_ms"], round(statistics.median(processor) * 1000, 2))
        worst["pieces"] = max(worst["pieces"], here.pieces)
    return worst


def whole_game(dispute: Dispute, solver_lies: bool) -> int:
    """Moves of a dispute from claim to outcome; ends the program when a liar wins or they are not as computed."""
    honest, liar = LazyOracle(dispute), LazyOracle(dispute, (5, 3))
    parties = (liar, honest) if solver_lies else (honest, liar)
    claim = parties[0].claim_against(parties[1])
    game = open_game(claim, dispute.context)
    while game.turn is not None:
        move = respond(game, parties[game.turn], dispute.context)
        if move is None:
            raise SystemExit(f"{dispute.operator}: a party had nothing to say")
        game = play(game, game.turn, move, dispute.context)
    moves = expected_moves(claim, dispute.context, 0, dispute.value, dispute.tile, dispute.pieces - 1)
    if game.outcome != (t.DEFENDER_WRONG if solver_lies else t.CHALLENGER_WRONG) or game.moves != moves:
        raise SystemExit(f"{dispute.operator}: {game.why}, {game.moves} moves for {moves}")
    return game.moves


def main() -> None:
    """Print a table, and the figures as one line of JSON."""
    if without_a_case():
        raise SystemExit(f"no layer for {sorted(without_a_case())}")
    columns = ("moves", "pieces", "evidence_bytes", "referee_ms", "referee_cpu_ms")
    print(f"{'':<68}" + "".join(f"{column:>16}" for column in columns))
    figures: dict[str, dict[str, float]] = {}
    for name, operator, inputs, attributes in CASES:
        dispute = Dispute(operator, inputs, attributes)
        found = arbitration(dispute)
        last = replace(dispute, tile=tiles_of(dispute)[-1])
        found["moves"] = max(whole_game(last, lies) for lies in (True, False))
        if found["evidence_bytes"] > ARBITRATION_BYTES_MAX:
            raise SystemExit(f"{name}: {found['evidence_bytes']} bytes of evidence")
        figures[f"{operator}: {name}"] = found
        print(f"{operator + ': ' + name:<68}" + "".join(f"{found[column]:>16}" for column in columns), flush=True)
    largest = {column: max(found[column] for found in figures.values()) for column in columns}
    print(f"{'largest':<68}" + "".join(f"{largest[column]:>16}" for column in columns))
    print(json.dumps({"arbitration": figures, "largest": largest}))


if __name__ == "__main__":
    main()
