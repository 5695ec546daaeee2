"""A small chain in memory with actors that follow the ledger's list of duties; what the ledger's tests share."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np

from consensus.ledger import keys, queries, sealed, staking
from consensus.ledger.block import BlockContext, BlockDelta, BlockSignature, Event, TransactionResult
from consensus.ledger.duties import Duty, SegmentWork, duties, segment_work
from consensus.ledger.events import EVENTS
from consensus.ledger.execute import execute_block
from consensus.ledger.fees import fee_for
from consensus.ledger.genesis import genesis_delta
from consensus.ledger.invariants import check_invariants
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.messages import (
    APPROVED,
    DISAGREED,
    ROLES_ALL,
    UNAVAILABLE,
    CommitInstalment,
    ContestForcedError,
    DisputeMove,
    Finding,
    Message,
    OpenInstalment,
    PublishProgram,
    RegisterProvider,
    RevealSecret,
    StartTask,
    SubmitTask,
    TaskSpec,
    VerdictCommit,
    VerdictReveal,
    encode_transaction,
    sign_transaction,
    transaction_id,
    verdict_commitment,
)
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.records import DisputeRecord, Genesis, GenesisAccount, GenesisValidator, Instalment, Supply, Task
from consensus.ledger.schedule import instalment_segments, segment_span
from consensus.ledger.view import State
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.crypto import SecretKey, address_of
from gensyn_node.primitives.money import NANO_PER_GSN
from proofs import tensors
from proofs.arithmetic.whole import compute_value
from proofs.dataset import DatasetTensor
from proofs.pinpoint import strategy
from proofs.pinpoint.context import Context
from proofs.pinpoint.oracle import ArrayOracle
from proofs.program.initial import initial_tensor
from proofs.program.types import BatchInput, Node, Program, StateEntry, TensorType, Uniform, program_id
from proofs.sampling import batch_indices
from proofs.state import keyed_evidence_root
from proofs.tiled import TiledTensor, tiled
from tests.evidence_of_runs import made_up_samples, samples_of

CHAIN = "test-chain"
GSN = NANO_PER_GSN
ASK = 10**14
"""So that the tiny program's steps cost millions of nano."""
HALF = int(np.float32(0.5).view(np.uint32))

WRONG_ROOT = sha256(b"a forced error").digest()
"""Shown as the end of a segment with a forced error."""

_W = TensorType("f32", (2, 3))
PROGRAM = Program(
    opset=1,
    state=(StateEntry("parameter.w", _W, Uniform(HALF)),),
    batch_size=2,
    batch=(BatchInput("x", TensorType("f32", (3,))),),
    nodes=(
        Node("add", (0, 1), ()),
        Node("reshape", (3,), (1, 6)),
        Node("sum_last", (4,), ()),
        Node("reshape", (5,), ()),
    ),
    state_outputs=(3,),
    loss=6,
)
DATA = np.arange(30, dtype=np.float32).reshape(10, 3) / np.float32(7)
DATASET = (DatasetTensor("x", TensorType("f32", (3,)), 10, tensors.root_of(DATA)),)


def key(name: str) -> SecretKey:
    """The key of a named actor."""
    return SecretKey(sha256(name.encode()).digest())


def spec(**changes: Any) -> TaskSpec:
    """A valid task of 12 steps: 6 segments of 2 in 2 instalments, 2 verifiers with 2 samples."""
    base = TaskSpec(
        name="task",
        program_id=program_id(PROGRAM),
        dataset=DATASET,
        dataset_manifest=b"",
        checkpoint_root=b"",
        checkpoint_blob=b"",
        steps=12,
        segment_steps=2,
        instalments=2,
        arithmetic="rep-v1",
        verifiers=2,
        samples=2,
        max_price_nano=10 * GSN,
        deadline_blocks=2_000,
        memory_bytes=1 << 20,
        endpoints=(),
    )
    return msgspec.structs.replace(base, **changes)


@dataclass
class Run:
    """Executes the program; a fault adds `error` to the new state of a step (or, at -1, to the initial one)."""

    seed: bytes
    faults: tuple[int, ...] = ()
    error: float = 1.0
    told: bool = False
    """Its evidence has the right state roots, and samples that are made up."""
    steps: list[list[Any]] = field(default_factory=list)

    @property
    def context(self) -> Context:
        return Context(PROGRAM, DATASET, self.seed)

    def values(self, step: int) -> list[Any]:
        while len(self.steps) <= step:
            number = len(self.steps)
            values = [self.state(number), np.ascontiguousarray(DATA[batch_indices(self.seed, number, 2, 10)])]
            values.append(np.array(number, np.int64))
            for position, node in enumerate(PROGRAM.nodes):
                value = compute_value(node, [values[i] for i in node.inputs])
                values.append(value + np.float32(self.error) if position == 0 and number in self.faults else value)
            self.steps.append(values)
        return self.steps[step]

    def state(self, step: int) -> Any:
        if step:
            return self.values(step - 1)[3]
        initial = initial_tensor(PROGRAM.state[0], 0, self.seed)
        return initial + np.float32(self.error) if -1 in self.faults else initial

    def state_roots(self, first_step: int, steps: int) -> list[bytes]:
        roots = [tensors.root_of(self.state(step)) for step in range(first_step, first_step + steps + 1)]
        return [self.context.state_root(first_step + i, [root]) for i, root in enumerate(roots)]

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[list[bytes], list[bytes]]:
        samples = made_up_samples(first_step, steps, key) if self.told else samples_of(self, first_step, steps, key)
        return self.state_roots(first_step, steps), samples

    def evidence_root(self, work: SegmentWork) -> bytes:
        return keyed_evidence_root(*self.evidence(work.first_step, work.steps, work.evidence_key))

    def dataset(self, batch_input: int) -> TiledTensor:
        return tiled(DATA)


@dataclass
class Actor:
    """A provider that does what `duties` lists. A liar computes with faults; a lazy one approves without looking."""

    name: str
    faults: tuple[int, ...] = ()
    error: float = 1.0
    lazy: bool = False
    told: bool = False
    """As a verifier, the solver told it all state roots: it approves with made-up samples."""
    silent: bool = False
    patient: bool = False
    """Trains an instalment only when all before it are settled."""
    blind: bool = False
    """As a verifier, it cannot fetch any state."""
    mute: tuple[str, ...] = ()
    """Duties it never does."""
    roles: int = ROLES_ALL

    @property
    def key(self) -> SecretKey:
        return key(self.name)

    @property
    def address(self) -> bytes:
        return self.key.address

    def act(self, world: World) -> list[Message]:
        """Messages for the next block."""
        if self.silent:
            return []
        found = (self.answer(world, duty) for duty in duties(world.ledger, self.address, world.height))
        return [message for message in found if message is not None]

    def answer(self, world: World, duty: Duty) -> Message | None:
        task = world.task(duty.task_id)
        order = queries.spec(world.ledger, duty.task_id)
        run = Run(task.seed, self.faults, self.error, self.told)
        if duty.kind in self.mute or (self.patient and duty.kind == "train" and task.settled < duty.instalment):
            return None
        match duty.kind:
            case "start":
                anchor = sealed.secret_at(self.root_secret(duty), order.instalments, task.settled - 1)
                return StartTask(duty.task_id, anchor if order.forced_error_bps else b"")
            case "train":
                return self.commit(run, task, order, duty)
            case "open":
                return self.open(run, world, order, duty)
            case "unseal":
                return self.unseal(run, world, order, duty)
            case "contest":
                return None if self.lazy else ContestForcedError(duty.task_id, duty.instalment)
            case "verify":
                findings, initial = self.verdict(run, world, duty)
                salt = sha256(self.name.encode()).digest()
                commitment = verdict_commitment(
                    self.address, duty.task_id, duty.instalment, duty.attempt, findings, initial, salt
                )
                return VerdictCommit(duty.task_id, duty.instalment, duty.attempt, commitment)
            case "reveal":
                findings, initial = self.verdict(run, world, duty)
                salt = sha256(self.name.encode()).digest()
                return VerdictReveal(duty.task_id, duty.instalment, duty.attempt, findings, initial, salt)
            case "move":
                game = queries.game(world.ledger, duty.dispute_id)
                move = strategy.respond(game, ArrayOracle(PROGRAM, run), run.context)
                return None if move is None else DisputeMove(duty.dispute_id, encode(move))
            case _:
                return None

    def roots(self, run: Run, order: TaskSpec, number: int) -> tuple[bytes, ...]:
        """What it says the ends of an instalment's segments are."""
        ends = [sum(segment_span(order, segment)) for segment in instalment_segments(order, number)]
        return tuple(run.state_roots(end, 0)[0] for end in ends)

    def commit(self, run: Run, task: Task, order: TaskSpec, duty: Duty) -> CommitInstalment:
        number, roots, seal = duty.instalment, self.roots(run, order, duty.instalment), b""
        if order.forced_error_bps:
            secret = sealed.secret_at(self.root_secret(duty), order.instalments, number)
            seal = sealed.seal_of(self.address, task.task_id, number, duty.attempt, roots, secret)
        return CommitInstalment(
            task_id=task.task_id,
            instalment=number,
            initial_root=run.state_roots(0, 0)[0] if number == 0 else b"",
            segment_roots=() if seal else roots,
            state_blobs=(),
            losses=() if seal else tuple(range(len(roots))),
            endpoints=(self.name,),
            seal=seal,
        )

    # --- forced errors

    def root_secret(self, duty: Duty) -> bytes:
        return sha256(self.name.encode() + duty.task_id + bytes([duty.attempt])).digest()

    def forced(self, world: World, order: TaskSpec, duty: Duty) -> tuple[bytes, int | None]:
        """The secret of an instalment, and the place of its forced error."""
        instalment = world.instalment(duty.task_id, duty.instalment)
        secret = sealed.secret_at(self.root_secret(duty), order.instalments, duty.instalment)
        segments, place = len(instalment_segments(order, duty.instalment)), (duty.instalment, duty.attempt)
        rate = order.forced_error_bps
        return secret, sealed.forced_segment(secret, instalment.beacon, duty.task_id, *place, segments, rate)

    def open(self, run: Run, world: World, order: TaskSpec, duty: Duty) -> Message:
        roots, position = self.roots(run, order, duty.instalment), self.forced(world, order, duty)[1]
        if position is not None:
            roots = (*roots[:position], WRONG_ROOT, *roots[position + 1 :])
        return OpenInstalment(duty.task_id, duty.instalment, roots, (), ())

    def unseal(self, run: Run, world: World, order: TaskSpec, duty: Duty) -> Message:
        secret, position = self.forced(world, order, duty)
        right = b"" if position is None else self.roots(run, order, duty.instalment)[position]
        return RevealSecret(duty.task_id, duty.instalment, secret, right, b"")

    def verdict(self, run: Run, world: World, duty: Duty) -> tuple[tuple[Finding, ...], bytes]:
        findings = []
        for work in duty.segments:
            if self.blind:
                findings.append(Finding(work.segment, UNAVAILABLE, b""))
                continue
            if self.lazy:
                findings.append(Finding(work.segment, APPROVED, sha256(b"lazy").digest()))
                continue
            roots = run.state_roots(work.first_step, work.steps)
            if roots[-1] == work.end_root:
                findings.append(Finding(work.segment, APPROVED, run.evidence_root(work)))
            else:
                findings.append(Finding(work.segment, DISAGREED, roots[-1]))
        initial = b""
        if duty.check_initial and not self.lazy:
            own = run.state_roots(0, 0)[0]
            initial = b"" if own == world.task(duty.task_id).initial_root else own
        return tuple(findings), initial


def _without_fees(data: bytes) -> Supply:
    """A supply record in which a fee makes no difference."""
    supply: Supply = decode(Supply, data)
    fees = supply.balances_nano + supply.fees_nano + supply.rewards_nano + supply.treasury_nano
    return msgspec.structs.replace(supply, balances_nano=fees, fees_nano=0, rewards_nano=0, treasury_nano=0)


class World:
    """A chain with actors; every block is audited. `operators` have a validator each beside the first one.

    Without drawn watches, unless `watch_bps` says otherwise: stories name everybody who takes part.
    """

    def __init__(
        self, parameters: Parameters | None = None, operators: tuple[str, ...] = (), watch_bps: int = 0
    ) -> None:
        names = ["alice", "bob", "carol", "dave", "erin", "submitter", "operator"]
        genesis = Genesis(
            chain_id=CHAIN,
            time_ms=0,
            validators=(
                GenesisValidator(key("validator").public, key("operator").address, 100 * GSN, "v"),
                *(
                    GenesisValidator(key(f"{name}'s validator").public, key(name).address, 100 * GSN, name)
                    for name in operators
                ),
            ),
            accounts=tuple(GenesisAccount(key(name).address, 1_000 * GSN) for name in names),
            parameters=msgspec.structs.replace(parameters or devnet_parameters(), watch_bps=watch_bps),
        )
        self.parameters = genesis.parameters
        self.ledger = MemoryLedger()
        first = genesis_delta(genesis)
        self.ledger.apply(first)
        self.sets = {1: self._changed({}, first)}
        """Height → power by address of who signs it."""
        self.sets[2] = self.sets[1]
        self.absent: set[bytes] = set()
        """Addresses of validators that sign nothing at present."""
        self.height = 0
        self.actors: dict[str, Actor] = {}
        self.events: list[Event] = []
        self.deltas: list[BlockDelta] = []

    # --- blocks

    def context(self, height: int) -> BlockContext:
        beacon = sha256(b"beacon" + height.to_bytes(8, "big")).digest()
        members = sorted(self.sets.get(height - 1, {}).items())
        signatures = tuple(BlockSignature(one, power, one not in self.absent) for one, power in members)
        own, members = key("validator").address, self.sets.get(height, {})
        proposer = own if own in members or not members else min(members)
        return BlockContext(CHAIN, height, height * 1000, proposer, beacon, signatures=signatures)

    def _changed(self, before: dict[bytes, int], delta: BlockDelta) -> dict[bytes, int]:
        """The set that a block's updates make, which must be what the ledger's stakes say."""
        after = before | {address_of(update.public_key): update.power for update in delta.validator_updates}
        after = {address: power for address, power in after.items() if power}
        assert after == staking.active_powers(State(self.ledger))
        return after

    def block(self, *messages: tuple[str, Message]) -> list[TransactionResult]:
        """One block with these messages, signed by the named actors; the results."""
        nonces: dict[str, int] = {}
        data = []
        for name, message in messages:
            nonce = nonces.get(name, queries.account(self.ledger, key(name).address).nonce)
            nonces[name] = nonce + 1
            data.append(self.sign(name, message, nonce))
        return self.raw_block(*data)

    def raw_block(self, *data: bytes) -> list[TransactionResult]:
        return self.block_in(self.context(self.height + 1), *data)

    def block_in(self, context: BlockContext, *data: bytes) -> list[TransactionResult]:
        """One block of encoded transactions in a context of one's own."""
        self.height += 1
        delta = execute_block(self.ledger, context, data)
        self.ledger.apply(delta)
        self.sets[self.height + 2] = self._changed(self.sets[self.height + 1], delta)
        self.events += delta.events
        for event in delta.events:
            assert tuple(name for name, _ in event.fields) == EVENTS[event.kind][1], event
        self.deltas.append(delta)
        check_invariants(self.ledger.items(), self.height)
        return list(delta.results)

    def sign(self, name: str, message: Message, nonce: int) -> bytes:
        fee = fee_for(self.parameters, CHAIN, key(name), nonce, message)
        return encode_transaction(sign_transaction(key(name), CHAIN, nonce, fee, message))

    def do(self, name: str, message: Message) -> TransactionResult:
        """One block with one message that must be applied."""
        result = self.block((name, message))[0]
        assert result.applied, result
        return result

    def refused(self, name: str, message: Message) -> str:
        """One block with one message that must be refused; its code. Nothing but nonce and fee may change.

        The supply changes with the treasury's part of the fee; every block's audit says that it adds up.
        """
        without = execute_block(self.ledger, self.context(self.height + 1), [])
        result = self.block((name, message))[0]
        assert not result.applied
        delta, allowed = self.deltas[-1], {keys.account(key(name).address), keys.SUPPLY, keys.EARNINGS}
        assert delta.events == without.events
        books = [dict(each.writes).get(keys.SUPPLY) or self.ledger.get(keys.SUPPLY) for each in (without, delta)]
        assert _without_fees(books[0]) == _without_fees(books[1])
        assert {entry for entry in delta.writes if entry[0] not in allowed} == {
            entry for entry in without.writes if entry[0] not in allowed
        }
        return result.code

    # --- stories

    def register(self, *actors: Actor, bond: int = 300 * GSN, ask: int = ASK) -> None:
        for actor in actors:
            self.actors[actor.name] = actor
            offer = RegisterProvider(actor.roles, "cpu", 1 << 30, ask, bond, (actor.name,), actor.name)
            self.do(actor.name, offer)

    def submit(self, order: TaskSpec | None = None) -> bytes:
        """Publish the program if needed and submit a task; its id."""
        if queries.program(self.ledger, program_id(PROGRAM)) is None:
            self.do("submitter", PublishProgram(encode(PROGRAM)))
        return self.do("submitter", SubmitTask(order or spec())).transaction_id

    def step(self) -> list[TransactionResult]:
        """One block in which every actor does its duties."""
        messages = [(actor.name, message) for actor in self.actors.values() for message in actor.act(self)]
        return self.block(*messages)

    def until(self, condition: Any, limit: int = 600) -> None:
        """Blocks with duties until the condition holds."""
        for _ in range(limit):
            if condition():
                return
            self.step()
        raise AssertionError(f"not reached within {limit} blocks")

    def finish(self, task_id: bytes, limit: int = 600) -> Task:
        self.until(lambda: self.task(task_id).ended_height, limit)
        return self.task(task_id)

    # --- looking

    def task(self, task_id: bytes) -> Task:
        found = queries.task(self.ledger, task_id)
        assert found is not None
        return found

    def balance(self, name: str) -> int:
        return queries.account(self.ledger, key(name).address).balance_nano

    def worth(self, name: str) -> int:
        """Balance and bond."""
        provider = queries.provider(self.ledger, key(name).address)
        return self.balance(name) + (provider.bond_nano if provider else 0)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def crew(self, *names: str, **settings: Any) -> list[Actor]:
        """Register named actors with the same settings."""
        actors = [Actor(name, **settings) for name in names]
        self.register(*actors)
        return actors

    def solver_of(self, task_id: bytes) -> Actor:
        """The task's solver, once drawn."""
        self.until(lambda: self.task(task_id).solver)
        return self.actors[self.name_of(self.task(task_id).solver)]

    def instalment(self, task_id: bytes, number: int = 0) -> Instalment:
        """An instalment as it stands."""
        return next(found for found in queries.instalments(self.ledger, task_id) if found.number == number)

    def dispute(self, task_id: bytes, position: int = 0) -> DisputeRecord:
        """A dispute of the task, oldest first."""
        found = queries.dispute(self.ledger, self.task(task_id).disputes[position])
        assert found is not None
        return found

    def name_of(self, address: bytes) -> str:
        return next(name for name in self.actors if key(name).address == address)


def id_of(data: bytes) -> bytes:
    """Id of an encoded transaction."""
    return transaction_id(data)


def own_evidence(world: World, task_id: bytes, segment: int) -> bytes:
    """The evidence that a segment of instalment 0 has."""
    task, order, instalment = world.task(task_id), queries.spec(world.ledger, task_id), world.instalment(task_id)
    return Run(task.seed).evidence_root(segment_work(State(world.ledger), order, instalment, segment))
