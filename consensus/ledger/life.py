"""A task's life between its messages: draw a solver, time it out, wind down, end. Every path ends paid or refunded."""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.assignment import solver_sortition
from consensus.ledger.block import BlockContext
from consensus.ledger.certificate import task_record
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.profile_slots import release_all
from consensus.ledger.providers import add_duty, end_duty, missed
from consensus.ledger.records import (
    TASK_ASSIGNED,
    TASK_CANCELLED,
    TASK_ENDED,
    TASK_EXPIRED,
    TASK_FINISHED,
    TASK_REPLACING,
    TASK_TRAINING,
    TASK_VERIFYING,
    TASK_WAITING,
    Task,
)
from consensus.ledger.schedule import instalment_steps, solver_bond
from consensus.ledger.view import State
from proofs.dataset import dataset_root
from proofs.sampling import task_seed

DRAW_SOLVER = "draw_solver"
DUTY = "duty"
DEADLINE = "deadline"
"""Due items."""
RETRY_SHARE = 16
"""A draw that found nobody is repeated after this part of the task's age: tasks that wait for long cost little."""
RETRIES_PER_HEIGHT_MAX = 100
"""A height that holds so much gets no repeated draw: each looks at every provider."""


def duty_number(task: Task) -> int:
    """Names the solver's present duty; a due item of an earlier duty does nothing."""
    return (task.attempt * 64 + task.committed) * 2 + (task.state == TASK_TRAINING)


def wait_for_solver(state: State, height: int, task_id: bytes) -> None:
    """Draw a solver when the next block begins: its beacon is not known to anybody who acts in this one."""
    state.change_task(task_id, state=TASK_WAITING, due_height=height + 1)
    state.schedule(height + 1, DRAW_SOLVER, task_id, state.task(task_id).attempt)


def draw_solver(state: State, context: BlockContext, task_id: bytes, attempt: int) -> None:
    """Draw among the eligible; try again later when there is none."""
    task = state.task(task_id)
    if task.state != TASK_WAITING or task.attempt != attempt:
        return
    purpose = (b"solver", task_id, task.attempt.to_bytes(4, "little"))
    drawn = solver_sortition(state, task).draw(context.beacon, *purpose)
    if not drawn:
        waited = context.height - task.submitted_height
        retry = context.height + max(state.parameters.retry_blocks, waited // RETRY_SHARE)
        retry = state.schedule(retry, DRAW_SOLVER, task_id, attempt, RETRIES_PER_HEIGHT_MAX)
        state.change_task(task_id, due_height=retry)
        return
    solver, spec = drawn[0], state.spec(task_id)
    bond = solver_bond(spec, task.gas_per_step, solver.ask_price_nano, state.parameters)
    money.lock(state, solver.address, bond)
    add_duty(state, solver.address, task_id, solving=1)
    seed = task.seed or task_seed(task_id, dataset_root(spec.dataset), solver.address, context.beacon)
    task = state.change_task(
        task_id,
        state=TASK_ASSIGNED,
        attempt=task.attempt + 1,
        seed=seed,
        solver=solver.address,
        solver_price_nano=solver.ask_price_nano,
        solver_bond_nano=bond,
        secret_link=b"",
        due_height=context.height + state.parameters.start_blocks + task.fetch_blocks,
    )
    state.schedule(task.due_height + 1, DUTY, task_id, duty_number(task))
    state.emit("task_assigned", task_id, solver=solver.address, attempt=task.attempt, due_height=task.due_height)


def duty_due(state: State, context: BlockContext, task_id: bytes, number: int) -> None:
    """The solver's time is over, unless a heartbeat moved it."""
    task = state.task(task_id)
    if task.state not in (TASK_ASSIGNED, TASK_TRAINING) or duty_number(task) != number:
        return
    if task.due_height >= context.height:
        state.schedule(task.due_height + 1, DUTY, task_id, number)
        return
    if task.closing:
        wind_down(state, context.height, task_id, task.closing)  # cancelled: the solver need not go on
        return
    solver, answers = task.solver, task.solver_bond_nano
    if task.state == TASK_ASSIGNED:  # the submitter may be to blame: its data could not be fetched
        answers = min(answers, state.parameters.solver_bond_min_nano)
    penalise(state, solver, answers, "solver missed its time")
    state.change_task(task_id, solver_bond_nano=task.solver_bond_nano - penalty(state, answers))
    state.emit("solver_timed_out", task_id, solver=solver, was=task.state)
    wind_down(state, context.height, task_id, TASK_REPLACING)


def penalty(state: State, bond_nano: int) -> int:
    """What a missed duty costs."""
    return bond_nano * state.parameters.miss_slash_bps // BASIS_POINTS


def penalise(state: State, address: bytes, bond_nano: int, why: str) -> None:
    """Take the small slash for a missed duty; the rest of the lock stays."""
    money.slash(state, address, penalty(state, bond_nano), None, why)
    missed(state, address)


def deadline_reached(state: State, context: BlockContext, task_id: bytes) -> None:
    """No more work is accepted."""
    task = state.task(task_id)
    if task.state not in TASK_ENDED:
        closing = TASK_CANCELLED if task.closing == TASK_CANCELLED else TASK_EXPIRED
        wind_down(state, context.height, task_id, closing)


def wind_down(state: State, height: int, task_id: bytes, closing: str) -> None:
    """Accept no more commits; end (or draw another solver) once what was committed is settled."""
    state.change_task(task_id, closing=closing, state=TASK_VERIFYING)
    advance(state, height, task_id)


def advance(state: State, height: int, task_id: bytes) -> None:
    """Go on after an instalment was settled or the task began to wind down."""
    task = state.task(task_id)
    if task.state in TASK_ENDED:
        return
    if task.settled == task.instalments:
        end(state, height, task_id, TASK_FINISHED)
    elif task.closing and task.state == TASK_VERIFYING and task.settled == task.committed:
        if task.closing == TASK_REPLACING:
            replace_solver(state, height, task_id)
        else:
            end(state, height, task_id, task.closing)


def release_solver(state: State, height: int, task_id: bytes) -> None:
    """Free the solver's bond and duty."""
    task = state.task(task_id)
    if not task.solver:
        return
    money.unlock(state, task.solver, task.solver_bond_nano)
    state.change_task(task_id, solver=b"", solver_bond_nano=0)
    end_duty(state, height, task.solver, task_id, solving=1)


def replace_solver(state: State, height: int, task_id: bytes) -> None:
    """Let the solver go for good and draw another; it resumes at the last settled instalment."""
    task = state.task(task_id)
    release_solver(state, height, task_id)
    removed = (*task.removed_solvers, task.solver) if task.solver else task.removed_solvers
    resumes_at, _ = instalment_steps(state.spec(task_id), task.settled)
    state.change_task(task_id, removed_solvers=removed, committed=task.settled, closing="", step=resumes_at)
    if height >= task.deadline_height:
        end(state, height, task_id, TASK_EXPIRED)
    else:
        wait_for_solver(state, height, task_id)


def end(state: State, height: int, task_id: bytes, how: str) -> None:
    """Refund what is left, free solver and profilers, and write the record that a certificate shows."""
    release_solver(state, height, task_id)
    release_all(state, height, task_id)
    task = state.task(task_id)
    money.transfer(state, money.escrow(task_id), money.balance(task.submitter), task.escrow_nano)
    refunded = task.refunded_nano + task.escrow_nano
    state.change_task(task_id, state=how, closing="", ended_height=height, refunded_nano=refunded, due_height=0)
    state.put(keys.record(task_id), task_record(state, task_id))
    state.emit("task_ended", task_id, state=how, refunded_nano=refunded)


def unsettled(task: Task) -> range:
    """Numbers of the instalments committed and not settled."""
    return range(task.settled, task.committed)
