"""What submitters and solvers do: submit, cancel, start, heartbeat, commit."""

from __future__ import annotations

from consensus.ledger import jackpots, keys, life, money, profiling
from consensus.ledger.call import Call
from consensus.ledger.messages import (
    ARITHMETIC_NATIVE,
    ARITHMETIC_REP_V1,
    CancelTask,
    CommitInstalment,
    Heartbeat,
    StartTask,
    SubmitTask,
    TaskSpec,
)
from consensus.ledger.parameters import Parameters
from consensus.ledger.phases import enter, give_up_height
from consensus.ledger.programs import program_record
from consensus.ledger.providers import did_duty
from consensus.ledger.reasons import (
    BAD_COMMIT,
    BAD_SPEC,
    BAD_TASK_STATE,
    CLASS_CLOSED,
    DATASET_MISMATCH,
    NOT_SOLVER,
    NOT_SUBMITTER,
    PRICE_TOO_LOW,
    TOO_LATE,
)
from consensus.ledger.records import (
    INSTALMENT_DRAWING,
    INSTALMENT_SEALED,
    TASK_ASSIGNED,
    TASK_CANCELLED,
    TASK_ENDED,
    TASK_EXPIRED,
    TASK_TRAINING,
    TASK_VERIFYING,
    TASK_WAITING,
    Instalment,
    ProgramRecord,
    Task,
)
from consensus.ledger.schedule import (
    bid_price,
    fetch_blocks,
    instalment_segments,
    instalment_steps,
    profilers_of,
    segment_count,
    tax_bps_of,
    train_blocks,
    verify_blocks,
    watch_bps_of,
    work_gas_max,
)
from consensus.ledger.view import State
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from proofs.dataset import ELEMENTS_MAX
from proofs.sampling import RECORDS_MAX

# --- submission

SOLVER_BOND_BPS_MAX = 1_000_000
"""A solver's bond is at most a hundred times its price: beyond, nobody could take the task."""


def check_spec(spec: TaskSpec, record: ProgramRecord, parameters: Parameters) -> None:
    """Everything a task must satisfy; `Rejection` names the field. The command line calls it offline as well."""
    size = len(encode(spec))
    _require(size <= limits.TASK_SPEC_BYTES_MAX, f"spec: {size} bytes, at most {limits.TASK_SPEC_BYTES_MAX}")
    _require(spec.steps >= 1, "steps: at least 1")
    most = limits.SEGMENT_STEPS_MAX
    _require(1 <= spec.segment_steps <= most, f"segment_steps: {spec.segment_steps} is not in 1 … {most}")
    most = min(limits.INSTALMENTS_MAX, segment_count(spec))
    _require(1 <= spec.instalments <= most, f"instalments: {spec.instalments} is not in 1 … {most}")
    longest = max(len(instalment_segments(spec, number)) for number in range(spec.instalments))
    most = limits.SEGMENTS_PER_INSTALMENT_MAX
    _require(longest <= most, f"instalments: {longest} segments in one, at most {most}; use more or longer segments")
    _check_arithmetic(spec, parameters)
    most = limits.VERIFIERS_PER_TASK_MAX
    _require(1 <= spec.verifiers <= most, f"verifiers: {spec.verifiers} is not in 1 … {most}")
    most = limits.SEGMENTS_PER_INSTALMENT_MAX
    _require(1 <= spec.samples <= most, f"samples: {spec.samples} is not in 1 … {most}")
    least, most = parameters.solver_bond_bps, SOLVER_BOND_BPS_MAX
    own = spec.solver_bond_bps
    _require(own == 0 or least <= own <= most, f"solver_bond_bps: {own} is not in {least} … {most}, nor 0")
    low, high = parameters.task_deadline_blocks_min, parameters.task_deadline_blocks_max
    _require(low <= spec.deadline_blocks <= high, f"deadline_blocks: {spec.deadline_blocks} is not in {low} … {high}")
    for name in ("dataset_manifest", "checkpoint_root", "checkpoint_blob"):
        _require(len(getattr(spec, name)) in (0, 32), f"{name}: 32 bytes, or empty")
    _check_forced_errors(spec, parameters)
    _check_inputs(spec, record)
    fetching = fetch_blocks(spec, record.state_bytes, parameters)
    blocks = verify_blocks(spec, record.gas_per_step, parameters) + fetching
    _require(blocks <= high, f"samples: {blocks} blocks to verify an instalment, at most {high}; use shorter segments")
    shares = (profilers_of(spec, parameters), tax_bps_of(spec, parameters), watch_bps_of(spec, parameters))
    bid, least = bid_price(spec, record.gas_per_step, *shares), parameters.ask_min_nano
    if bid < least:
        gas = work_gas_max(spec, record.gas_per_step, *shares)
        needed = -(-gas * least // money.GIGA)
        raise Rejection(PRICE_TOO_LOW, f"max_price_nano: {spec.max_price_nano}, the work costs at least {needed} nano")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Rejection(BAD_SPEC, message)


def _check_arithmetic(spec: TaskSpec, parameters: Parameters) -> None:
    """A class that the chain takes; native segments are short, because noise grows along them."""
    if spec.arithmetic == ARITHMETIC_NATIVE and not parameters.native_profilers:
        raise Rejection(CLASS_CLOSED, "arithmetic: native_profilers is 0")
    known = (ARITHMETIC_REP_V1, ARITHMETIC_NATIVE)
    _require(spec.arithmetic in known, f"arithmetic: {spec.arithmetic[:20]!r} is none of {', '.join(known)}")
    if spec.arithmetic == ARITHMETIC_NATIVE:
        most = limits.NATIVE_SEGMENT_STEPS_MAX
        _require(spec.segment_steps <= most, f"segment_steps: {spec.segment_steps}, at most {most} in native tasks")


def _check_forced_errors(spec: TaskSpec, parameters: Parameters) -> None:
    """A chance that the chain takes, in tasks whose right results are the same on every machine."""
    if spec.forced_error_bps:
        low, high = parameters.forced_error_min_bps, parameters.forced_error_max_bps
        _require(high > 0, "forced_error_bps: the chain takes no tasks with forced errors")
        _require(low <= spec.forced_error_bps <= high, f"forced_error_bps: not in {low} … {high}, nor 0")
        _require(spec.arithmetic == ARITHMETIC_REP_V1, f"forced_error_bps: only in {ARITHMETIC_REP_V1} tasks")


def _check_inputs(spec: TaskSpec, record: ProgramRecord) -> None:
    """The dataset fits the program's batches and the checkpoint its given entries."""
    wanted = [(batch.name, batch.record) for batch in record.batch]
    offered = [(tensor.name, tensor.record) for tensor in spec.dataset]
    if wanted != offered:
        raise Rejection(DATASET_MISMATCH, f"dataset: the program's batches are {[name for name, _ in wanted]}"[:300])
    counts = {tensor.records for tensor in spec.dataset}
    if len(counts) > 1 or any(not 1 <= count <= RECORDS_MAX for count in counts):
        raise Rejection(DATASET_MISMATCH, "dataset: all tensors have the same number of records, at least 1")
    if any(tensor.type.elements > ELEMENTS_MAX for tensor in spec.dataset):
        raise Rejection(DATASET_MISMATCH, f"dataset: more than {ELEMENTS_MAX} elements in one tensor")
    if any(len(tensor.root) != 32 for tensor in spec.dataset):
        raise Rejection(DATASET_MISMATCH, "dataset: a root has 32 bytes")
    _require(bool(spec.checkpoint_root) == record.given, "checkpoint_root: there is one just when the program needs it")


def submit_task(state: State, call: Call, message: SubmitTask) -> None:
    """Escrow the price and wait for the next block's draw."""
    spec, parameters = message.spec, state.parameters
    program = program_record(state, spec.program_id)
    check_spec(spec, program, parameters)
    task_id = call.transaction_id
    task = Task(
        task_id=task_id,
        name=spec.name,
        submitter=call.sender,
        program_id=spec.program_id,
        state=TASK_WAITING,
        closing="",
        submitted_height=call.height,
        deadline_height=call.height + spec.deadline_blocks,
        ended_height=0,
        due_height=0,
        train_due_height=0,
        steps=spec.steps,
        instalments=spec.instalments,
        gas_per_step=program.gas_per_step,
        memory_bytes=max(spec.memory_bytes, program.memory_bytes),
        bid_price_nano=bid_price(
            spec,
            program.gas_per_step,
            profilers_of(spec, parameters),
            tax_bps_of(spec, parameters),
            watch_bps_of(spec, parameters),
        ),
        price_nano=spec.max_price_nano,
        escrow_nano=0,
        solver_paid_nano=0,
        verifiers_paid_nano=0,
        refunded_nano=0,
        attempt=0,
        seed=b"",
        solver=b"",
        solver_price_nano=0,
        solver_bond_nano=0,
        removed_solvers=(),
        committed=0,
        settled=0,
        initial_root=b"",
        settled_root=b"",
        step=0,
        loss_bits=0,
        heartbeat_height=0,
        disputes=(),
        forced_tax_bps=tax_bps_of(spec, parameters),
        fetch_blocks=fetch_blocks(spec, program.state_bytes, parameters),
        watch_bps=watch_bps_of(spec, parameters),
    )
    state.put(keys.task(task_id), task)
    state.put(keys.spec(task_id), spec)
    money.transfer(state, money.balance(call.sender), money.escrow(task_id), spec.max_price_nano)
    number = state.counters.tasks
    state.count(tasks=number + 1)
    state.append_id(keys.tasks_page, number, task_id)
    state.schedule(task.deadline_height + 1, life.DEADLINE, task_id)
    state.emit("task_submitted", task_id, submitter=call.sender, name=spec.name, escrow_nano=spec.max_price_nano)
    if spec.arithmetic == ARITHMETIC_NATIVE:
        profiling.begin(state, call.height, task_id)
    else:
        life.wait_for_solver(state, call.height, task_id)


def cancel_task(state: State, call: Call, message: CancelTask) -> None:
    """Begin no further instalment; pay what was committed and proves right; refund the rest.

    The instalment in training may still be committed in its time: its commit names the trained states before it is in a
    block, and who reads it there could else have them for the fee of a cancellation.
    """
    task = state.task(message.task_id)
    if task.submitter != call.sender:
        raise Rejection(NOT_SUBMITTER, "only its submitter cancels a task")
    if task.state in TASK_ENDED or task.closing in (TASK_CANCELLED, TASK_EXPIRED):
        raise Rejection(BAD_TASK_STATE, f"the task is {task.closing or task.state} already")
    state.emit("task_cancelled", message.task_id)
    if task.state == TASK_TRAINING:
        state.change_task(message.task_id, closing=TASK_CANCELLED)
    else:
        life.wind_down(state, call.height, message.task_id, TASK_CANCELLED)


# --- the solver's work


def _own_task(state: State, call: Call, task_id: bytes, needed: str) -> Task:
    task = state.task(task_id)
    if task.solver != call.sender:
        raise Rejection(NOT_SOLVER, f"the task's solver is {task.solver.hex() or 'not drawn yet'}")
    if task.state != needed:
        raise Rejection(BAD_TASK_STATE, f"the task is {task.closing or task.state}, not {needed}")
    if call.height > min(task.due_height, task.deadline_height):
        raise Rejection(TOO_LATE, f"it was due by height {min(task.due_height, task.deadline_height)}")
    return task


def start_task(state: State, call: Call, message: StartTask) -> None:
    """The drawn solver accepts."""
    task = _own_task(state, call, message.task_id, TASK_ASSIGNED)
    if len(message.anchor) != (32 if state.spec(message.task_id).forced_error_bps else 0):
        raise Rejection(BAD_COMMIT, "the anchor of a chain of secrets belongs to tasks with forced errors")
    state.change_task(message.task_id, secret_link=message.anchor)
    did_duty(state, call.sender)
    state.emit("task_started", message.task_id, solver=call.sender, attempt=task.attempt)
    _train_next(state, call.height, message.task_id)


def _train_next(state: State, height: int, task_id: bytes) -> None:
    """Start the clocks of the next instalment; with none left, only verification remains."""
    task, parameters = state.task(task_id), state.parameters
    if task.committed == task.instalments or task.closing:
        state.change_task(task_id, state=TASK_VERIFYING, due_height=0, train_due_height=0)
        return
    blocks = train_blocks(state.spec(task_id), task.gas_per_step, task.committed, parameters)
    train_due = height + blocks + task.fetch_blocks
    due = min(height + parameters.heartbeat_blocks, train_due)
    task = state.change_task(
        task_id, state=TASK_TRAINING, heartbeat_height=height, train_due_height=train_due, due_height=due
    )
    state.schedule(due + 1, life.DUTY, task_id, life.duty_number(task))


def heartbeat(state: State, call: Call, message: Heartbeat) -> None:
    """Progress, and a sign of life that moves the time-out as far as the instalment's own limit."""
    task = _own_task(state, call, message.task_id, TASK_TRAINING)
    if message.step > task.steps:
        raise Rejection(BAD_COMMIT, f"step {message.step} of {task.steps}")
    due = min(call.height + state.parameters.heartbeat_blocks, task.train_due_height)
    state.change_task(
        message.task_id, step=message.step, loss_bits=message.loss_bits, heartbeat_height=call.height, due_height=due
    )
    state.emit("heartbeat", message.task_id, step=message.step, loss_bits=message.loss_bits, solver=call.sender)


def commit_instalment(state: State, call: Call, message: CommitInstalment) -> None:
    """Claim the next instalment; its verifiers are drawn when the next block begins."""
    task = _own_task(state, call, message.task_id, TASK_TRAINING)
    spec, number = state.spec(message.task_id), message.instalment
    _check_commit(task, spec, message)
    start_root = message.initial_root
    if number:
        start_root = state.instalment(message.task_id, number - 1).end_root
    segments = instalment_segments(spec, number)
    tax = 0
    if message.seal:  # beforehand: nobody may know the draw of a trial that is not paid for
        tax = jackpots.pay_tax(state, task, number)
    instalment = Instalment(
        task_id=message.task_id,
        number=number,
        attempt=task.attempt,
        solver=call.sender,
        state=INSTALMENT_DRAWING,
        first_segment=segments.start,
        start_root=start_root,
        segment_roots=message.segment_roots,
        state_blobs=message.state_blobs,
        losses=message.losses,
        endpoints=message.endpoints,
        commit_height=call.height,
        due_height=call.height,
        draws=0,
        give_up_height=give_up_height(state, call.height, message.task_id),
        verifications=(),
        missed=(),
        open_disputes=(),
        pending_challengers=(),
        challenges=0,
        solver_paid_nano=0,
        seal=message.seal,
        tax_nano=tax,
    )
    state.put(keys.instalment(message.task_id, number), instalment)
    first, steps = instalment_steps(spec, number)
    state.change_task(
        message.task_id,
        committed=number + 1,
        initial_root=message.initial_root or task.initial_root,
        step=first + steps,
        loss_bits=message.losses[-1] if message.losses else task.loss_bits,
    )
    did_duty(state, call.sender)
    state.emit("instalment_committed", message.task_id, instalment=number, solver=call.sender)
    enter(state, instalment, INSTALMENT_SEALED if message.seal else INSTALMENT_DRAWING, call.height)
    _train_next(state, call.height, message.task_id)


def _check_commit(task: Task, spec: TaskSpec, message: CommitInstalment) -> None:
    number = message.instalment
    if number != task.committed:
        raise Rejection(BAD_COMMIT, f"instalment {task.committed} is due, not {number}")
    forced = bool(spec.forced_error_bps)
    if len(message.seal) != (32 if forced else 0):
        raise Rejection(BAD_COMMIT, "a seal belongs to tasks with forced errors")
    count = 0 if forced else len(instalment_segments(spec, number))
    if len(message.segment_roots) != count:
        raise Rejection(BAD_COMMIT, f"{len(message.segment_roots)} segment roots, {count} are to be shown now")
    for name in ("state_blobs", "losses"):
        if len(getattr(message, name)) not in (0, count):
            raise Rejection(BAD_COMMIT, f"{name}: one a segment, or none")
    if len(message.initial_root) != (0 if number else 32):
        raise Rejection(BAD_COMMIT, "the initial root belongs to instalment 0, and only there")
