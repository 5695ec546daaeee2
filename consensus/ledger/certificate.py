"""The record of an ended task: everything a certificate shows, at one key under the app hash."""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.messages import TaskSpec
from consensus.ledger.profile_records import Profile
from consensus.ledger.records import (
    DisputeRecord,
    DisputeSummary,
    Instalment,
    InstalmentSummary,
    TaskRecord,
    VerdictSummary,
)
from consensus.ledger.schedule import instalment_steps
from consensus.ledger.view import State
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.hashing import tagged_hash
from proofs.dataset import dataset_root


def spec_hash(spec: TaskSpec) -> bytes:
    """Identity of what was ordered."""
    return tagged_hash("gensyn/task-spec/1", encode(spec))


def task_record(state: State, task_id: bytes) -> TaskRecord:
    """The record of a task as it stands."""
    task, spec = state.task(task_id), state.spec(task_id)
    profile = state.find(keys.profile(task_id), Profile)
    settled = [state.instalment(task_id, number) for number in range(task.settled)]
    return TaskRecord(
        task_id=task_id,
        spec_hash=spec_hash(spec),
        program_id=spec.program_id,
        dataset_root=dataset_root(spec.dataset),
        state=task.state,
        submitter=task.submitter,
        seed=task.seed,
        initial_root=task.initial_root if settled else b"",
        final_root=task.settled_root,
        steps_settled=sum(instalment_steps(spec, number)[1] for number in range(task.settled)),
        instalments=tuple(_instalment(instalment) for instalment in settled),
        disputes=tuple(_dispute(state.dispute(dispute_id)) for dispute_id in task.disputes),
        solver_paid_nano=task.solver_paid_nano,
        verifiers_paid_nano=task.verifiers_paid_nano,
        refunded_nano=task.refunded_nano,
        ended_height=task.ended_height,
        arithmetic=spec.arithmetic,
        limits=profile.limits if profile else (),
        taxed_nano=task.taxed_nano,
    )


def _instalment(instalment: Instalment) -> InstalmentSummary:
    return InstalmentSummary(
        number=instalment.number,
        attempt=instalment.attempt,
        solver=instalment.solver,
        start_root=instalment.start_root,
        segment_roots=instalment.segment_roots,
        verdicts=tuple(
            VerdictSummary(slot.verifier, slot.state, slot.findings, slot.fee_nano, slot.watch)
            for slot in instalment.verifications
        ),
        solver_paid_nano=instalment.solver_paid_nano,
    )


def _dispute(dispute: DisputeRecord) -> DisputeSummary:
    return DisputeSummary(
        dispute_id=dispute.dispute_id,
        kind=dispute.kind,
        instalment=dispute.instalment,
        attempt=dispute.attempt,
        segment=dispute.segment,
        defender=dispute.defender,
        finder=dispute.challengers[0].address,
        outcome=dispute.state,
        moves=len(dispute.moves),
    )
