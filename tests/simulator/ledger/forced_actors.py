"""What simulated solvers do about forced errors: seal, open, show the secret; rightly, or in their character."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from consensus.ledger import messages as m
from consensus.ledger import queries, sealed
from consensus.ledger.block import Reader
from consensus.ledger.duties import Duty
from consensus.ledger.messages import TaskSpec
from consensus.ledger.records import Instalment, Task
from consensus.ledger.schedule import instalment_segments, segment_span
from consensus.ledger.view import State
from tests.simulator.ledger.toy_program import execution

if TYPE_CHECKING:
    from tests.simulator.ledger.provider_actors import Intent, ProviderActor


def root_secret(actor: ProviderActor, task_id: bytes, attempt: int) -> bytes:
    """The last secret of the actor's chain for an attempt."""
    return sha256(actor.name.encode() + task_id + bytes([attempt])).digest()


def anchor(actor: ProviderActor, reader: Reader, task: Task) -> bytes:
    """What a start binds itself to; nothing without forced errors."""
    spec = queries.spec(reader, task.task_id)
    if spec is None or not spec.forced_error_bps:
        return b""
    return sealed.secret_at(root_secret(actor, task.task_id, task.attempt), spec.instalments, task.settled - 1)


def _secret(actor: ProviderActor, spec: TaskSpec, duty: Duty) -> bytes:
    return sealed.secret_at(root_secret(actor, duty.task_id, duty.attempt), spec.instalments, duty.instalment)


def sealed_commit(
    actor: ProviderActor, spec: TaskSpec, duty: Duty, initial: bytes, roots: tuple[bytes, ...]
) -> m.CommitInstalment:
    """The commit of what the actor says is right."""
    if actor.character.solver == "twisted":
        roots = tuple(sha256(root).digest() for root in roots)
    place = (duty.task_id, duty.instalment, duty.attempt)
    actor.sealed[duty.task_id, duty.attempt, duty.instalment] = roots
    seal = sealed.seal_of(actor.address, *place, roots, _secret(actor, spec, duty))
    return m.CommitInstalment(duty.task_id, duty.instalment, initial, (), (), (), (actor.name,), seal)


def answer(actor: ProviderActor, reader: Reader, task: Task, duty: Duty, purpose: object) -> Iterator[Intent]:
    """The opening or the secret, if its character gives it."""
    kind, spec = actor.character.solver, queries.spec(reader, duty.task_id)
    roots = actor.sealed.get((duty.task_id, duty.attempt, duty.instalment))
    if spec is None or roots is None or (kind, duty.kind) in (("secretive", "unseal"), ("unopened", "open")):
        return
    instalment = State(reader).instalment(duty.task_id, duty.instalment)
    secret, place = _secret(actor, spec, duty), (duty.task_id, duty.instalment, duty.attempt)
    drawn = sealed.forced_segment(secret, instalment.beacon, *place, len(roots), spec.forced_error_bps)
    if duty.kind == "unseal":
        right = b"" if drawn is None else roots[drawn]
        yield purpose, m.RevealSecret(duty.task_id, duty.instalment, secret, right, b"")
        return
    position = drawn
    if kind == "contrary":
        position = 0 if drawn is None else None
    if position is not None:
        wrong = _wrong_root(actor, task, spec, instalment, roots, position)
        roots = (*roots[:position], wrong, *roots[position + 1 :])
    yield purpose, m.OpenInstalment(duty.task_id, duty.instalment, roots, (), ())


def _wrong_root(
    actor: ProviderActor, task: Task, spec: TaskSpec, instalment: Instalment, roots: tuple[bytes, ...], position: int
) -> bytes:
    """The root of a state that is served and a little off; the true one for a solver that sealed garbage."""
    segment = instalment_segments(spec, instalment.number)[position]
    first, steps = segment_span(spec, segment)
    end = first + steps
    faults = actor.store.remember(roots[position]) or ()
    if actor.character.solver != "twisted":
        faults = (*faults, (end - 1, 0.25))
    run = execution(task.seed, faults)
    actor.store.serve(run.root(end), faults)
    return run.root(end)
