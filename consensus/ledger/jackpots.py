"""The jackpot pool: the tax that every draw of a forced error is paid with beforehand, and what its finders get.

A draw's jackpot is worth at most `forced_payout_bps` of that draw's own tax divided by the chance of an error. However
submitter, solver, verifier and challenger deal among themselves, on average they get back less than they put in.
"""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.records import Instalment, Task
from consensus.ledger.schedule import instalment_steps
from consensus.ledger.view import State

POOL_SHARE = 3
"""All jackpots of one draw are at most this part of the pool (Truebit, section 5.3)."""


def pay_tax(state: State, task: Task, number: int) -> int:
    """The tax of an instalment's draw, from the escrow into the pool; what was paid for it.

    An instalment that fell and is committed anew was paid for by the solver that let it fall: see `restore_tax`.
    """
    before = state.find(keys.instalment(task.task_id, number), Instalment)
    if before is not None:
        return before.tax_nano
    gas = instalment_steps(state.spec(task.task_id), number)[1] * task.gas_per_step
    tax = money.work_price(gas, task.solver_price_nano) * task.forced_tax_bps // BASIS_POINTS
    money.transfer(state, money.escrow(task.task_id), money.JACKPOT, tax)
    state.change_task(task.task_id, taxed_nano=state.task(task.task_id).taxed_nano + tax)
    state.emit("tax_paid", task.task_id, instalment=number, payer=task.submitter, amount_nano=tax)
    return tax


def restore_tax(state: State, task_id: bytes, number: int) -> None:
    """The solver lets an instalment fall: it pays the tax of the next draw, as far as its bond goes.

    Else a solver could let fall what was drawn without an error, and have it drawn again, until the jackpot comes.
    """
    task, instalment = state.task(task_id), state.instalment(task_id, number)
    tax = min(instalment.tax_nano, task.solver_bond_nano)
    state.change_instalment(task_id, number, tax_nano=tax)
    if tax:
        take_from_solver(state, task, money.JACKPOT, tax)
        state.emit("tax_paid", task_id, instalment=number, payer=task.solver, amount_nano=tax)


def take_from_solver(state: State, task: Task, place: money.Place, amount_nano: int) -> None:
    """Move a part of the task's locked bond of its solver."""
    money.unlock(state, task.solver, amount_nano)
    money.transfer(state, money.bond(task.solver), place, amount_nano)
    record = state.provider(task.solver)
    state.change_provider(task.solver, slashed_nano=record.slashed_nano + amount_nano)
    state.change_task(task.task_id, solver_bond_nano=task.solver_bond_nano - amount_nano)


def claim(state: State, instalment: Instalment, claimant: bytes) -> None:
    """Note one who found the forced error."""
    claimants = state.instalment(instalment.task_id, instalment.number).claimants
    if claimant not in claimants:
        state.change_instalment(instalment.task_id, instalment.number, claimants=(*claimants, claimant))


def share_nano(pool_nano: int, tax_nano: int, error_bps: int, payout_bps: int, claimants: int) -> int:
    """What each of so many claimants gets: J / 2^(n-1), so that splitting into several never pays."""
    whole = min(tax_nano * payout_bps // error_bps, pool_nano // POOL_SHARE)
    return whole >> max(0, claimants - 1)


def pay(state: State, instalment: Instalment) -> None:
    """Pay everyone who found the forced error."""
    task_id, parameters = instalment.task_id, state.parameters
    rate = state.spec(task_id).forced_error_bps
    pool = state.supply.jackpot_nano
    share = share_nano(pool, instalment.tax_nano, rate, parameters.forced_payout_bps, len(instalment.claimants))
    for claimant in instalment.claimants:
        money.pay(state, money.JACKPOT, claimant, share)
        state.emit("jackpot_paid", task_id, instalment=instalment.number, claimant=claimant, amount_nano=share)
