"""What comes after decoding: messages that are well formed but altered, through the rules that judge them.

A mutation breaks a signature, and then no rule behind it is ever reached. So some targets sign the altered message
anew: that is what a validator, or an account with money, could send.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import trio
from msgspec import structs

from consensus.ledger import messages as m
from consensus.ledger.execute import execute_block
from consensus.ledger.invariants import check_invariants
from consensus.tendermint.block import check_roots
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.inputs import Timeout
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.types import (
    NO_ROUND,
    Block,
    Certificate,
    DuplicateVoteEvidence,
    FullProposal,
    HeightStatus,
    Proposal,
    Step,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.verify import verify_proposal, verify_vote
from gensyn_node.app import wire
from gensyn_node.app.broadcaster import compact
from gensyn_node.app.pool import Pool
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc.dispatch import answer_body
from gensyn_node.rpc.methods import METHODS
from gensyn_node.sdk.certificate import MAGIC, pack_certificate, unpack_certificate
from gensyn_node.sdk.verify import verify_certificate
from p2p.api import GossipMessage
from proofs.pinpoint import types as t
from proofs.pinpoint.game import open_game, play
from tests.fuzz import mutate
from tests.fuzz.table import JSON_SEEDS, Target
from tests.fuzz.values import encoded, value_of

for _folder in ("ledger", "node", "proofs", "rpc", "sdk"):
    sys.path.append(str(Path(__file__).parents[1] / _folder))

import ledger_world
import pinpoint_world
from node_cluster import make_cluster, transfer
from rpc_fake_node import FakeNode
from test_ledger_disputes import challenge, find
from test_node_executor import commit_of
from test_node_intake import Rig, block_with
from test_sdk_certificate import make as make_certificate

Seeds = Callable[[random.Random], Sequence[bytes]]


# --- the chain's messages, to a node of four at height 2


class Chain:
    """One home with a block, what honest peers would send it, and everybody's keys."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gensyn-fuzz-")
        self.cluster = make_cluster(Path(self._folder.name), 4)
        self.rig = Rig(self.cluster)
        self.chain_id = self.cluster.genesis.chain_id
        self.keys = {one.consensus_key.address: one.consensus_key for one in self.cluster.settings}
        self.first: Block
        self.block: Block
        trio.run(self._grow)
        self.start = self.rig.bench.executor.start_input()
        self.proposer = self.keys[self.start.validators.proposer]

    async def _grow(self) -> None:
        self.first = await block_with(self.rig, 3)
        commit = commit_of(self.cluster, self.rig.bench.chain, self.first)
        await self.rig.bench.executor.commit(self.first, commit)
        self.rig.bench.pool.add(transfer(self.cluster, 2, 0, 5, b"\3" * 20))
        self.block = await self.rig.bench.build(commit)
        self.sealed = wire.SealedBlock(self.block, commit_of(self.cluster, self.rig.bench.chain, self.block))

    def vote(self, number: int, kind: VoteType = VoteType.PREVOTE, block_id: bytes | None = None) -> Vote:
        """A vote at the height in progress."""
        address = self.start.validators.validators[number].address
        vote = Vote(kind, self.start.height, 0, self.block.id if block_id is None else block_id, address)
        return self.sign_vote(vote)

    def sign_vote(self, vote: Vote) -> Vote:
        """The vote with its validator's signature; of a stranger as it is."""
        key = self.keys.get(vote.validator)
        return vote if key is None else structs.replace(vote, signature=key.sign(vote_sign_bytes(self.chain_id, vote)))

    def proposal(self, block: Block) -> FullProposal:
        """The block, proposed in round 0 by whose turn it is."""
        return FullProposal(signed_proposal(self, block), block)

    def core(self) -> ConsensusCore:
        """A core that has entered the height in progress."""
        core = ConsensusCore(self.chain_id, ConsensusParameters(1_000, 500, 1_000, 500), None)
        core.step(self.start)
        return core


def signed_proposal(chain: Chain, block: Block) -> Proposal:
    """A signed proposal of a block for round 0."""
    proposal = Proposal(chain.start.height, 0, NO_ROUND, block.id, chain.proposer.address)
    signature = chain.proposer.sign(proposal_sign_bytes(chain.chain_id, proposal))
    return structs.replace(proposal, signature=signature)


@cache
def chain() -> Chain:
    """Made once a process."""
    return Chain()


def _vote_bundles(rng: random.Random) -> list[bytes]:
    votes = tuple(chain().vote(number) for number in range(4))
    nil = tuple(chain().vote(number, VoteType.PRECOMMIT, b"") for number in range(4))
    signatures = tuple((number, vote.signature) for number, vote in enumerate(votes))
    polka = Certificate(VoteType.PREVOTE, chain().start.height, 0, chain().block.id, signatures)
    return [codec.encode(wire.VoteBundle(votes)) for votes in (votes[:1], votes, nil, (polka,), (*nil, polka))]


def _check_votes(data: bytes) -> None:
    chain().rig.intake._check_votes("peer", data)


def _compacts(rng: random.Random) -> list[bytes]:
    return [codec.encode(compact(chain().proposal(chain().block)))]


def _take_compact(data: bytes) -> None:
    chain().rig.intake._check_compact("peer", data)
    refused: list[Rejection] = []

    async def take() -> None:
        async with trio.open_nursery() as nursery:
            try:
                await chain().rig.intake._take_compact(GossipMessage(wire.TOPIC_PROPOSALS, data, "peer"), nursery)
            except Rejection as rejection:
                refused.append(rejection)

    trio.run(take)
    for rejection in refused:
        raise rejection


def _status_replies(rng: random.Random) -> list[bytes]:
    whole = chain().proposal(chain().block)
    votes = tuple(chain().vote(number) for number in range(4))
    return [codec.encode(wire.StatusReply(1, (whole, *votes))), codec.encode(wire.StatusReply(1, (whole,)))]


def _take_status_reply(data: bytes) -> None:
    chain().rig.intake.verify(codec.decode(wire.StatusReply, data).messages)


def _blocks(rng: random.Random) -> list[bytes]:
    return [codec.encode(chain().block)] * 3 + [codec.encode(chain().first)]


def _check_block(data: bytes) -> None:
    chain().rig.bench.executor._check(codec.decode(Block, data))


def _sealed(rng: random.Random) -> list[bytes]:
    return [codec.encode(chain().sealed)]


def _check_sealed(data: bytes) -> None:
    sealed = codec.decode(wire.SealedBlock, data)
    trio.run(chain().rig.bench.executor.check_sealed, sealed.block, sealed.commit)


def _evidence(rng: random.Random) -> list[bytes]:
    found = []
    for number in range(4):
        votes = (chain().vote(number, block_id=b"\1" * 32), chain().vote(number, block_id=b"\2" * 32))
        found.append(codec.encode(DuplicateVoteEvidence(*votes)))
    return found


def _add_evidence(data: bytes, *, signed: bool) -> None:
    evidence = codec.decode(DuplicateVoteEvidence, data)
    if signed:
        evidence = DuplicateVoteEvidence(*(chain().sign_vote(vote) for vote in (evidence.first, evidence.second)))
    chain().rig.bench.executor.add_evidence(evidence)


def _statuses(rng: random.Random) -> list[bytes]:
    core = _busy_core()
    return [codec.encode(core.status()), *(encoded(HeightStatus, rng) for _ in range(4))]


@cache
def _busy_core() -> ConsensusCore:
    """A core with votes, a proposal and several rounds."""
    core, own = chain().core(), chain()
    schedule = own.start.validators
    core.step(verify_proposal(own.chain_id, schedule, signed_proposal(own, own.block), own.block, 0))
    for number in range(3):
        core.step(verify_vote(own.chain_id, schedule, own.vote(number, block_id=b"\7" * 32 if number else None)))
    core.step(Timeout(own.start.height, 0, Step.PREVOTE))
    return core


def _answer_status(data: bytes) -> None:
    for message in _busy_core().answer(codec.decode(HeightStatus, data)):
        codec.encode(message)


def _signed_votes(data: bytes) -> None:
    """What validators could sign, straight into a core."""
    core, own = chain().core(), chain()
    for vote in codec.decode(wire.VoteBundle, data).votes:
        if isinstance(vote, Vote):
            core.step(verify_vote(own.chain_id, own.start.validators, own.sign_vote(vote)))
    core.answer(None if core.height == 0 else core.status())


def _signed_proposals(data: bytes) -> None:
    """A block that its proposer altered after building it, and signed."""
    given = codec.decode(FullProposal, data)
    core, own = chain().core(), chain()
    key = own.keys.get(given.proposal.proposer)
    proposal = structs.replace(given.proposal, block_id=given.block.id)
    if key is not None:
        proposal = structs.replace(proposal, signature=key.sign(proposal_sign_bytes(own.chain_id, proposal)))
    verified = verify_proposal(own.chain_id, own.start.validators, proposal, given.block, 0)
    check_roots(given.block)
    core.step(verified)
    own.rig.bench.executor._check(given.block)


def _full_proposals(rng: random.Random) -> list[bytes]:
    return [codec.encode(chain().proposal(chain().block))]


def _queries(rng: random.Random) -> list[bytes]:
    names = tuple(m.transaction_id(data) for data in chain().block.transactions)
    return [codec.encode(query) for query in (wire.BlocksQuery(1, 3), wire.TransactionsQuery((*names, bytes(32))))]


def _serve_transactions(data: bytes) -> None:
    codec.decode(wire.TransactionsReply, trio.run(chain().rig.intake.serve_transactions, "peer", data))


# --- transactions


def _raw_transactions(rng: random.Random) -> list[bytes]:
    return [transfer(chain().cluster, sender, (sender == 1 and 3) or 0, 5, b"\2" * 20) for sender in range(4)]


def _add_transaction(data: bytes) -> None:
    pool = Pool(chain().rig.bench.chain)
    pool.add(data)
    assert pool.reap(1 << 20) == (data,)


class Recorder(ledger_world.World):
    """A world that keeps the ledger before each block, and what was said in it."""

    def __init__(self) -> None:
        self.stages: list[tuple[Any, int]] = []
        self.said: list[tuple[int, str, m.Message]] = []
        super().__init__()

    def block(self, *messages: tuple[str, m.Message]) -> Any:
        """One block."""
        if messages:
            self.said += [(len(self.stages), name, message) for name, message in messages]
            self.stages.append((self.ledger.copy(), self.height))
        return super().block(*messages)


class Story:
    """Bonds, a task whose solver cheats, lazy verifiers, a whistleblower, a dispute: at each block what was said."""

    def __init__(self) -> None:
        world = Recorder()
        world.crew("alice", "bob", "carol", "dave", "erin", patient=True, mute=("move",))
        task_id = world.submit(ledger_world.spec(instalments=1, verifiers=1, samples=6))
        solver = world.solver_of(task_id)
        solver.faults = (4,)
        for actor in world.actors.values():
            actor.lazy = True
        world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
        parties = (solver.address, world.instalment(task_id).verifications[0].verifier)
        for actor in world.actors.values():
            actor.lazy, actor.mute = False, ()
        finder = next(actor for actor in world.actors.values() if actor.address not in parties)
        challenge(world, finder, task_id, find(world, task_id))
        for _ in range(40):
            world.step()
        self.world, self.stages = world, world.stages
        self.names = ["submitter", *sorted(world.actors)]
        self.seeds = [codec.encode((stage, self.names.index(name), message)) for stage, name, message in world.said]

    def run(self, data: bytes) -> None:
        """Somebody's altered message, signed and paid for, in the next block: applied or refused with a code."""
        number, who, message = codec.decode(tuple[int, int, m.Message], data)
        ledger, height = self.stages[number % len(self.stages)]
        name = self.names[who % len(self.names)]
        nonce = ledger_world.queries.account(ledger, ledger_world.key(name).address).nonce
        fee = 20 * ledger_world.GSN
        signed = m.sign_transaction(ledger_world.key(name), ledger_world.CHAIN, nonce, fee, message)
        delta = execute_block(ledger, self.world.context(height + 1), [m.encode_transaction(signed)])
        if delta.results[0].applied:
            after = ledger.copy()
            after.apply(delta)
            for later in range(2, 6):  # what it set in motion must not stop the chain either
                after.apply(execute_block(after, self.world.context(height + later), []))
            check_invariants(after.items(), height + 5)
        elif not delta.results[0].code:
            raise AssertionError("refused without a code")


@cache
def story() -> Story:
    """Made once a process."""
    return Story()


def _message_seeds(rng: random.Random) -> list[bytes]:
    made = [codec.encode((rng.randrange(60), rng.randrange(6), value_of(m.Message, rng))) for _ in range(60)]
    return [*story().seeds, *made]


def _run_message(data: bytes) -> None:
    story().run(data)


def _run_raw(data: bytes) -> None:
    """Whatever stands in a block, its execution ends."""
    ledger, height = story().stages[0]
    results = execute_block(ledger, story().world.context(height + 1), [data, data]).results
    assert len(results) == 2


# --- disputes, certificates, the interface


class Games:
    """Games between an honest and a dishonest party, before each move."""

    def __init__(self) -> None:
        self.places: list[tuple[t.Game, Any]] = []
        self.seeds: list[bytes] = []
        for seed in range(30):
            world = pinpoint_world.random_world(seed)
            rng = pinpoint_world.np.random.default_rng(seed)
            good, bad = world.run(), world.run(pinpoint_world.random_fault(world, rng, 3))
            if good.state_root(3) == bad.state_root(3):
                continue  # rounded away
            claim = pinpoint_world.segment_claim(3, bad, good)
            players = [pinpoint_world.honest(world.oracle(run), world.context) for run in (bad, good)]
            game = open_game(claim, world.context)
            while game.turn is not None:
                move = players[game.turn](game)
                if move is None:
                    break
                self.seeds.append(codec.encode((len(self.places), move)))
                self.places.append((game, world.context))
                game = play(game, game.turn, move, world.context)

    def run(self, data: bytes) -> None:
        """An altered move by whose turn it is."""
        number, move = codec.decode(tuple[int, t.Move], data)
        game, context = self.places[number % len(self.places)]
        if game.turn is None:
            raise AssertionError("a finished game was kept")
        after = play(game, game.turn, move, context)
        codec.decode(t.Game, codec.encode(after))


@cache
def games() -> Games:
    """Made once a process."""
    return Games()


def _moves(rng: random.Random) -> list[bytes]:
    return games().seeds


def _play_move(data: bytes) -> None:
    games().run(data)


def _certificates(rng: random.Random) -> list[bytes]:
    return [pack_certificate(make_certificate())[len(MAGIC) :]]


def _verify_certificate(data: bytes) -> None:
    verify_certificate(unpack_certificate(MAGIC + data))


def _rpc_bodies(rng: random.Random) -> list[bytes]:
    made = [f'{{"jsonrpc":"2.0","id":1,"method":"{name}","params":{{}}}}'.encode() for name in METHODS]
    return [*JSON_SEEDS, *made]


def _answer_rpc(data: bytes) -> Any:
    return trio.run(answer_body, FakeNode(), data, lambda: None)


def targets() -> tuple[Target, ...]:
    """Every rule."""
    return (
        Target("rule:votes", _check_votes, _vote_bundles, mutate=mutate.altered, weight=2),
        Target("rule:compact proposal", _take_compact, _compacts, mutate=mutate.altered, weight=1),
        Target("rule:status reply", _take_status_reply, _status_replies, mutate=mutate.altered, weight=2),
        Target("rule:block", _check_block, _blocks, mutate=mutate.altered, weight=1),
        Target("rule:sealed block", _check_sealed, _sealed, mutate=mutate.altered, weight=1),
        Target("rule:evidence", partial(_add_evidence, signed=False), _evidence, mutate=mutate.altered, weight=1),
        Target("rule:signed evidence", partial(_add_evidence, signed=True), _evidence, mutate=mutate.altered, weight=1),
        Target("rule:status", _answer_status, _statuses, mutate=mutate.altered, weight=2),
        Target("rule:signed votes", _signed_votes, _vote_bundles, mutate=mutate.altered, weight=1),
        Target("rule:signed proposal", _signed_proposals, _full_proposals, mutate=mutate.altered, weight=1),
        Target("rule:transactions asked for", _serve_transactions, _queries, mutate=mutate.altered, weight=1),
        Target("rule:mempool", _add_transaction, _raw_transactions, mutate=mutate.altered, weight=2),
        Target("rule:message in a block", _run_message, _message_seeds, mutate=mutate.altered, weight=1),
        Target("rule:bytes in a block", _run_raw, _raw_transactions, mutate=mutate.altered, weight=1),
        Target(
            "rule:dispute move",
            lambda data: games().run(data),
            lambda rng: games().seeds,
            mutate=mutate.altered,
            weight=2,
        ),
        Target("rule:certificate", _verify_certificate, _certificates, mutate=mutate.altered, weight=1),
        Target("rule:rpc", _answer_rpc, _rpc_bodies, mutate=mutate.mutated_text, weight=1),
    )
