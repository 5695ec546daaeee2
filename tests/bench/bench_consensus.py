"""Consensus alone, in memory: inputs a second of the core, heights a minute of simulated networks, cost of checks.

`python tests/bench/bench_consensus.py`. Signatures are checked outside the core, so its figures are without them; the
simulated networks are shown with stand-in and with real ed25519 signatures (each node checks every message). Seconds
are of processor time, so that what else the machine does is left out.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from consensus import beacon
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.effects import Decide
from consensus.tendermint.inputs import Input, StartHeight, ValueValidated
from consensus.tendermint.proposer import rotate
from consensus.tendermint.types import NIL, Block, Header, Proposal, Validator, Vote, VoteType, vote_sign_bytes
from consensus.tendermint.validators import new_validator_set
from consensus.tendermint.verify import verify_proposal, verify_vote
from gensyn_node.primitives.crypto import SecretKey
from tests.simulator.application import CHAIN
from tests.simulator.node import PARAMETERS
from tests.simulator.schedule import Schedule
from tests.simulator.simulation import Simulation

VOTES = 20_000


def calm_inputs(validators: int) -> tuple[list[Input], int]:
    """Heights without faults, as one node hears them; about `VOTES` votes in all."""
    keys = [SecretKey(hashlib.sha256(b"%d" % i).digest()) for i in range(validators)]
    current = new_validator_set([Validator(key.address, key.public, 1) for key in keys])
    inputs: list[Input] = []
    heights = VOTES // (2 * validators)

    def accept(_: bytes, __: bytes, ___: bytes) -> bool:
        return True

    for height in range(1, heights + 1):
        header = Header(
            CHAIN, height, 1_000, NIL, b"", b"", b"", b"", b"", current.hash, current.hash, current.proposer, b""
        )
        block = Block(header, (), None, ())
        inputs.append(StartHeight(height, current))
        proposal = Proposal(height, 0, -1, block.id, current.proposer)
        inputs.append(verify_proposal(CHAIN, current, proposal, block, 1_000, accept))
        inputs.append(ValueValidated(height, block.id, True))
        for kind in VoteType:
            votes = [Vote(kind, height, 0, block.id, validator.address) for validator in current.validators]
            inputs += [verify_vote(CHAIN, current, vote, accept) for vote in votes]
        current = rotate(current, 1)
    return inputs, heights


def core_inputs_per_second(validators: int) -> int:
    inputs, heights = calm_inputs(validators)
    core = ConsensusCore(CHAIN, PARAMETERS, None)
    decisions = 0
    start = time.process_time()
    for given in inputs:
        decisions += sum(isinstance(effect, Decide) for effect in core.step(given))
    elapsed = time.process_time() - start
    if decisions != heights:
        raise SystemExit(f"{decisions} decisions in {heights} heights")
    return round(len(inputs) / elapsed)


def heights_per_minute(validators: int, heights: int, real_signatures: bool) -> int:
    network = Simulation(0, Schedule([1] * validators, {}, fault_ms=1, real_signatures=real_signatures))
    start = time.process_time()
    network.run(heights_after_heal=heights)
    return round(60 * network.nodes[0].application.height / (time.process_time() - start))


def microseconds(action: Callable[[], object], times: int = 500) -> float:
    start = time.process_time()
    for _ in range(times):
        action()
    return round(1e6 * (time.process_time() - start) / times, 1)


def main() -> None:
    figures: dict[str, float] = {}
    for validators in (4, 16, 64):
        figures[f"core inputs/s, {validators} validators"] = core_inputs_per_second(validators)
    for validators, heights in ((4, 200), (16, 20), (64, 2)):
        for real in (False, True):
            name = "ed25519" if real else "stand-in"
            figures[f"simulated heights/min, {validators} nodes, {name}"] = heights_per_minute(
                validators, heights, real
            )
    key = SecretKey(bytes(32))
    validators_ = new_validator_set([Validator(key.address, key.public, 1)])
    unsigned = Vote(VoteType.PREVOTE, 1, 0, NIL, key.address)
    vote = Vote(VoteType.PREVOTE, 1, 0, NIL, key.address, key.sign(vote_sign_bytes(CHAIN, unsigned)))
    proof = beacon.prove(key.seed, b"alpha")
    figures["verify a vote, us"] = microseconds(lambda: verify_vote(CHAIN, validators_, vote))
    figures["prove a beacon, us"] = microseconds(lambda: beacon.prove(key.seed, b"alpha"))
    figures["verify a beacon, us"] = microseconds(lambda: beacon.verify(key.public, b"alpha", proof))
    for name, figure in figures.items():
        print(f"{name:<48} {figure:>12,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
