"""Pure: ledger records and blocks as the shapes that the RPC server answers with."""

from __future__ import annotations

import math

from consensus.ledger import keys, queries, stake_queries
from consensus.ledger.block import Reader, TransactionResult
from consensus.ledger.duties import (
    DUTY_DISCLOSE,
    DUTY_OPEN,
    DUTY_SERVE,
    DUTY_START,
    DUTY_TRAIN,
    DUTY_UNSEAL,
    Duty,
)
from consensus.ledger.messages import ROLE_SOLVER, decode_transaction, transaction_id
from consensus.ledger.queries import Eligibility
from consensus.ledger.records import (
    DISPUTE_MOOT,
    DISPUTE_OPEN,
    INSTALMENT_INVALID,
    TASK_ENDED,
    DisputeRecord,
    MoveRecord,
    Task,
)
from consensus.ledger.schedule import segment_span
from consensus.ledger.view import State
from consensus.tendermint.types import Block, Commit, CommitFlag
from gensyn_node.app.chain import Chain
from gensyn_node.app.history import loss_of
from gensyn_node.app.instalment_words import instalment_texts
from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import backend as rpc
from gensyn_node.rpc.json_view import snake_case

WORDS = {
    "state": "it is not active",
    "role": "it does not offer this role",
    "memory": "it has too little memory",
    "price": "it asks more than the task pays",
    "bond": "its free bond is too small",
    "busy": "it has as much work as it may take",
    "removed": "it failed this task before",
    "submitter": "it submitted the task itself",
    "solver": "it is the task's solver",
    "drawn": "it is drawn already",
}
"""What the ledger's reasons for leaving a provider out of a draw mean."""


def transaction_view(data: bytes, height: int, index: int, result: TransactionResult) -> rpc.TransactionView:
    """A transaction of a block, with what became of it. One that does not decode shows as `malformed`."""
    try:
        transaction = decode_transaction(data)
    except Rejection:
        name = transaction_id(data)
        return rpc.TransactionView(
            transaction_id=name,
            height=height,
            index=index,
            sender=b"",
            nonce=0,
            fee_nano=0,
            kind="malformed",
            message=None,
            accepted=False,
            code=result.code,
            error=result.message,
        )
    return rpc.TransactionView(
        transaction_id=result.transaction_id,
        height=height,
        index=index,
        sender=transaction.sender_address,
        nonce=transaction.nonce,
        fee_nano=result.fee_nano,
        kind=snake_case(type(transaction.message).__name__),
        message=transaction.message,
        accepted=result.applied,
        code=result.code,
        error=result.message,
    )


def block_view(chain: Chain, height: int) -> rpc.BlockView | None:
    """A committed block; None for the genesis and heights to come."""
    block, commit, results = chain.block(height), chain.commit(height), chain.results(height)
    if block is None or commit is None or results is None:
        return None
    return rpc.BlockView(
        height=height,
        block_id=block.id,
        time_ms=block.header.time_ms,
        proposer=block.header.proposer,
        app_hash=block.header.app_hash,
        header=block.header,
        transactions=tuple(
            transaction_view(data, height, index, result)
            for index, (data, result) in enumerate(zip(block.transactions, results, strict=True))
        ),
        commit_round=commit.round,
        signatures=sum(slot.flag is CommitFlag.COMMIT for slot in commit.slots),
        bytes=_size(block, commit),
    )


def _size(block: Block, commit: Commit) -> int:
    return len(codec.encode(block)) + len(codec.encode(commit))


def account_view(reader: Reader, address: bytes, next_nonce: int) -> rpc.AccountView:
    """An account with what it has staked, bonded and locked."""
    account = queries.account(reader, address)
    provider = queries.provider(reader, address)
    stakes = sum(one.stake_nano for one in stake_queries.delegations(reader, address))
    return rpc.AccountView(
        address=address,
        balance_nano=account.balance_nano,
        nonce=next_nonce,
        bonded_nano=stakes + (provider.bond_nano if provider else 0),
        locked_nano=provider.locked_nano if provider else 0,
    )


def task_view(reader: Reader, task: Task, losses: tuple[tuple[int, float], ...]) -> rpc.TaskView:
    """A task with its spec and its loss curve: heartbeats that this node saw, and what was committed."""
    final = task.state in TASK_ENDED
    model = queries.final_state(reader, task.task_id) if final else None
    curve = loss_curve(reader, task.task_id, losses)
    return rpc.TaskView(
        task_id=task.task_id,
        state=task.state,
        final=final,
        submitter=task.submitter,
        solver=task.solver or None,
        record=_fields(task) | {"spec": queries.spec(reader, task.task_id)},
        step=task.step,
        losses=curve,
        diverged_step=next((step for step, loss in curve if not math.isfinite(loss)), None),
        deadline_height=task.deadline_height,
        model_blob=(model.blob or None) if model else None,
        instalments=instalment_texts(reader, task),
    )


def loss_curve(
    reader: Reader, task_id: bytes, heartbeats: tuple[tuple[int, float], ...]
) -> tuple[tuple[int, float], ...]:
    """(step, loss) by step: the last loss of every committed segment that stands, and heartbeats in between."""
    spec, points = queries.spec(reader, task_id), dict(heartbeats)
    for instalment in queries.instalments(reader, task_id):
        if spec is None or instalment.state == INSTALMENT_INVALID:
            continue
        for number, bits in enumerate(instalment.losses, instalment.first_segment):
            first, steps = segment_span(spec, number)
            points[first + steps] = loss_of(bits)
    return tuple(sorted(points.items()))


def dispute_view(reader: Reader, dispute: DisputeRecord) -> rpc.DisputeView:
    """A dispute with its moves; the operator is known once the game has found it."""
    over = dispute.state != DISPUTE_OPEN
    said = queries.disclosed(reader, dispute)
    return rpc.DisputeView(
        dispute_id=dispute.dispute_id,
        task_id=dispute.task_id,
        state=dispute.state,
        final=over,
        defender=dispute.defender,
        challenger=dispute.challengers[min(dispute.lead, len(dispute.challengers) - 1)].address,
        phase=dispute.phase,
        turn="" if over else dispute.turn,
        outcome=dispute.state if over and dispute.state != DISPUTE_MOOT else "",
        moves=tuple(_move(move) for move in dispute.moves),
        record=dispute,
        disclosed=said if said is not None and said.states else None,
    )


def _move(move: MoveRecord) -> rpc.DisputeMove:
    return rpc.DisputeMove(
        height=move.height,
        mover=move.turn,
        description=f"transaction {move.transaction_id.hex()[:16]}",
        bytes=move.bytes,
    )


_OF_SOLVER = (DUTY_START, DUTY_TRAIN, DUTY_SERVE, DUTY_DISCLOSE, DUTY_OPEN, DUTY_UNSEAL)


def duty_view(duty: Duty) -> rpc.DutyView:
    """A duty of this node."""
    return rpc.DutyView(
        task_id=duty.task_id,
        role="solver" if duty.kind in _OF_SOLVER else "verifier",
        state=duty.kind,
        explanation=f"instalment {duty.instalment}, due by block {duty.due_height}",
    )


def eligibility_view(entry: Eligibility) -> rpc.DutyView:
    """Whether a provider can be drawn for a task, and if not, why not."""
    role = "solver" if entry.role == ROLE_SOLVER else "verifier"
    if entry.eligible:
        return rpc.DutyView(entry.task_id, role, "eligible", f"{entry.provider.hex()} can be drawn")
    numbers = f": has {entry.have}, needs {entry.need}" if entry.need else ""
    return rpc.DutyView(
        task_id=entry.task_id,
        role=role,
        state="excluded",
        explanation=f"{entry.provider.hex()}: {WORDS.get(entry.why, entry.why)}{numbers}",
    )


def supply_view(reader: Reader) -> dict[str, int]:
    """Where all money is."""
    supply = queries.supply(reader)
    return {name.removesuffix("_nano"): int(getattr(supply, name)) for name in supply.__struct_fields__}


def program_bytes(reader: Reader, program_id: bytes) -> bytes | None:
    """A published program."""
    record = queries.program(reader, program_id)
    return None if record is None else record.program


def has_task(reader: Reader, task_id: bytes) -> bool:
    """Whether there is such a task."""
    return State(reader).find(keys.task(task_id), Task) is not None


def _fields(record: Struct) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
