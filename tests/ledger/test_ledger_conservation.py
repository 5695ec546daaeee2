"""Random sequences of valid and invalid messages: money is conserved, every task ends, nothing stays locked."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import ASK, CHAIN, GSN, Actor, World, key, spec

from consensus.ledger import queries
from consensus.ledger.messages import (
    Bond,
    CancelTask,
    CommitInstalment,
    DisputeMove,
    EvidenceChallenge,
    Finding,
    Heartbeat,
    InitialChallenge,
    Message,
    OpenChallengeCommit,
    OpenChallengeReveal,
    PauseProvider,
    RegisterProvider,
    ResumeProvider,
    SegmentChallenge,
    StartTask,
    SubmitTask,
    Transfer,
    Unbond,
    UpdateProvider,
    VerdictCommit,
    VerdictReveal,
    WithdrawProvider,
    challenge_commitment,
    validator_key_proof_bytes,
)
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.schedule import task_end_bound
from gensyn_node.primitives.codec import encode
from proofs.pinpoint.types import Name, PostStates

NAMES = ("alice", "bob", "carol", "dave", "erin")
SALT = bytes(32)


def hasty() -> Parameters:
    """Deadlines so short that random schedules run into all of them."""
    return msgspec.structs.replace(
        devnet_parameters(),
        unbonding_blocks=7,
        task_deadline_blocks_min=5,
        start_blocks=4,
        heartbeat_blocks=6,
        train_blocks_base=12,
        verify_blocks_base=5,
        reveal_blocks=3,
        window_blocks=4,
        move_clock_blocks=6,
        move_extension_blocks=2,
        game_moves_max=20,
        verifications_per_provider_max=2,
        solves_per_provider_max=2,
    )


def random_message(world: World, rng: random.Random, who: str) -> Message:
    """Any message, about things that exist more often than not."""
    tasks = queries.tasks(world.ledger, 5)
    task_id = rng.choice(tasks).task_id if tasks else bytes(32)
    number, segment = rng.randrange(3), rng.randrange(7)
    root = sha256(bytes([rng.randrange(3)])).digest()
    disputes = queries.disputes(world.ledger, 3)
    dispute_id = rng.choice(disputes).dispute_id if disputes else bytes(32)
    attempt = rng.choice([1, 1, 1, 2, 3])
    verifier = key(rng.choice(NAMES)).address
    challenge = rng.choice(
        [
            SegmentChallenge(number, attempt, segment, root),
            InitialChallenge(attempt, root),
            EvidenceChallenge(number, attempt, segment, verifier, root),
        ]
    )
    findings = tuple(Finding(n, rng.randrange(3), root) for n in range(2))
    commitment = challenge_commitment(key(who).address, task_id, challenge, SALT)
    own = key("validator of " + who)
    proof = own.sign(validator_key_proof_bytes(CHAIN, key(who).address))
    ask = rng.choice([ASK, ASK // 100, 10**18])
    choices: list[Callable[[], Message]] = [
        lambda: Transfer(verifier, rng.choice([0, 1, GSN, 10_000 * GSN])),
        lambda: Bond(own.public, rng.choice([0, GSN, 3 * GSN]), proof),
        lambda: Unbond(own.address, rng.choice([0, 1, GSN, 9 * GSN])),
        lambda: RegisterProvider(7, "cpu", 1 << 30, ask, rng.choice([GSN, 200 * GSN]), (), who),
        lambda: UpdateProvider(7, "cpu", 1 << 30, ask, rng.choice([0, GSN]), (), who),
        PauseProvider,
        ResumeProvider,
        WithdrawProvider,
        lambda: SubmitTask(
            spec(name=str(rng.random()), verifiers=rng.choice([1, 2, 3]), instalments=rng.choice([1, 2, 3, 9]))
        ),
        lambda: CancelTask(task_id),
        lambda: StartTask(task_id),
        lambda: Heartbeat(task_id, rng.randrange(14), 0, b""),
        lambda: CommitInstalment(task_id, number, b"" if number else root, (root,) * rng.choice([2, 3, 6]), (), (), ()),
        lambda: VerdictCommit(task_id, number, attempt, root),
        lambda: VerdictReveal(task_id, number, attempt, findings, b"", SALT),
        lambda: OpenChallengeCommit(task_id, number, commitment),
        lambda: OpenChallengeReveal(task_id, challenge, SALT),
        lambda: DisputeMove(dispute_id, encode(rng.choice([PostStates(root * 3), Name(1, root), Name(0, root)]))),
    ]
    return rng.choice(choices)()


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_money_is_conserved_and_every_task_ends(seed: int) -> None:
    rng = random.Random(seed)
    world = World(hasty())
    for name in NAMES:
        settings_ = {"lazy": rng.random() < 0.2, "blind": rng.random() < 0.1, "patient": rng.random() < 0.5}
        faults = (rng.randrange(-1, 12),) if rng.random() < 0.4 else ()
        world.register(Actor(name, faults, **settings_), bond=rng.choice([20, 300]) * GSN)
    world.submit(spec(deadline_blocks=40, samples=3))
    for _ in range(60):
        messages = [(actor.name, m) for actor in world.actors.values() if rng.random() < 0.7 for m in actor.act(world)]
        for _ in range(rng.randrange(3)):
            who = rng.choice(NAMES)
            messages.append((who, random_message(world, rng, who)))
        rng.shuffle(messages)
        world.block(*messages)
    for actor in world.actors.values():
        actor.silent = rng.random() < 0.5
    for task in queries.tasks(world.ledger, 50):
        bound = task_end_bound(
            queries.spec(world.ledger, task.task_id), task.gas_per_step, world.parameters, task.fetch_blocks
        )
        if task.steps:
            world.until(lambda task=task: world.task(task.task_id).ended_height, bound)
        ended = world.task(task.task_id)
        assert ended.ended_height - ended.submitted_height <= bound
    for provider in queries.providers(world.ledger):
        assert (provider.locked_nano, provider.work, provider.solving, provider.verifying) == (0, (), 0, 0)
    assert queries.supply(world.ledger).escrows_nano == 0


def story() -> str:
    """App hashes, results and events of a story with a cheat, as one hash."""
    world = World()
    world.crew("alice", "bob", "carol", "dave", patient=True)
    task_id = world.submit(spec(samples=3))
    world.solver_of(task_id).faults = (9,)
    world.finish(task_id)
    digest = sha256()
    for delta in world.deltas:
        digest.update(encode(delta))
    return digest.hexdigest()


def test_two_processes_with_different_hash_seeds_agree_on_every_byte() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", "from test_ledger_conservation import story; print(story())"]
    outputs = set()
    for seed in ("1", "4242"):
        path = os.pathsep.join([str(root), str(Path(__file__).parent)])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        outputs.add(done.stdout.strip())
    assert outputs == {story()}
