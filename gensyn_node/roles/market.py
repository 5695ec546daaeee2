"""What the chain says about work: what was paid lately, what is open, and how many others offer each role."""

from __future__ import annotations

from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.messages import ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER
from consensus.ledger.money import work_price
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.records import (
    DISPUTE_BOTH_WRONG,
    DISPUTE_DEFENDER_WRONG,
    PROVIDER_ACTIVE,
    TASK_ENDED,
    Task,
)
from consensus.ledger.schedule import segment_count, solver_bond, train_gas, watch_gas_max
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct

TASKS_LOOKED_AT = 64
"""The newest so many tasks stand for what work there is: a bound on reading, whatever the chain's age."""


class Market(Struct):
    """Work and workers at one height, without the node that asks."""

    solvers: int
    verifiers: int
    whistleblowers: int
    """Other active providers that offer the role."""
    tasks: int
    """Tasks looked at, the newest."""
    open_tasks: int
    """Of them, those not ended."""
    memory_least_bytes: int
    """Memory that the smallest of them needs."""
    bid_most_nano: int
    """The highest bid among them, a giga-gas."""
    paid_nano: int
    """What they paid to solvers and verifiers so far."""
    verify_gas_most: int
    """Gas of the largest verification that one verifier of them was drawn for."""
    segments: int
    """Segments of all of them."""
    segment_gas: int
    """Gas of one segment, the mean."""
    finds: int
    """Solvers and verifiers of them that were proven wrong."""
    bounty_nano: int
    """What the finder of a wrong segment gets, the mean."""
    watch_nano: int
    """What drawn watches are expected to be paid a segment of these tasks, by all who watch together."""
    train_gas_most: int = 0
    """Gas of the largest instalment of them."""


NO_MARKET = Market(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
"""A chain without providers or tasks."""


def market(reader: Reader, address: bytes) -> Market:
    """The market that the provider `address` sees."""
    state = State(reader)
    others = [one for one in queries.providers(reader) if one.address != address and one.state == PROVIDER_ACTIVE]
    tasks = queries.tasks(reader, TASKS_LOOKED_AT)
    counts = {role: sum(bool(one.roles & role) for one in others) for role in _ROLES}
    gas, segments, verify_gas, bounties, watches, train_gas_most = 0, 0, 0, 0, 0, 0
    for task in tasks:
        spec = state.spec(task.task_id)
        gas += train_gas(spec, task.gas_per_step)
        train_gas_most = max(train_gas_most, -(-train_gas(spec, task.gas_per_step) // spec.instalments))
        segments += segment_count(spec)
        verify_gas = max(verify_gas, min(spec.samples, segment_count(spec)) * spec.segment_steps * task.gas_per_step)
        bounties += _bounty(state, task)
        watches += _watches(state, task)
    return Market(
        solvers=counts[ROLE_SOLVER],
        verifiers=counts[ROLE_VERIFIER],
        whistleblowers=counts[ROLE_WHISTLEBLOWER],
        tasks=len(tasks),
        open_tasks=sum(task.state not in TASK_ENDED for task in tasks),
        memory_least_bytes=min((task.memory_bytes for task in tasks), default=0),
        bid_most_nano=max((task.bid_price_nano for task in tasks), default=0),
        paid_nano=sum(task.solver_paid_nano + task.verifiers_paid_nano for task in tasks),
        verify_gas_most=verify_gas,
        segments=segments,
        segment_gas=gas // max(1, segments),
        finds=sum(_finds(state, task) for task in tasks),
        bounty_nano=bounties // max(1, len(tasks)),
        watch_nano=watches // max(1, segments),
        train_gas_most=train_gas_most,
    )


_ROLES = (ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER)


def _bounty(state: State, task: Task) -> int:
    """The finder's share of what a wrong solver of the task loses; at its bid where nobody solves it now."""
    parameters, price = state.parameters, task.solver_price_nano or task.bid_price_nano
    bond = task.solver_bond_nano or solver_bond(state.spec(task.task_id), task.gas_per_step, price, parameters)
    return bond * parameters.winner_bps // BASIS_POINTS


def _watches(state: State, task: Task) -> int:
    """Expected pay of its drawn watches, at its solver's price: a segment of each instalment that has one."""
    spec = state.spec(task.task_id)
    gas = watch_gas_max(spec, task.gas_per_step, task.watch_bps)
    return work_price(gas, task.solver_price_nano) * task.watch_bps // BASIS_POINTS


def _finds(state: State, task: Task) -> int:
    """Disputes of the task in which a claim was proven wrong."""
    found = (state.dispute(dispute_id) for dispute_id in task.disputes)
    return sum(dispute.state in (DISPUTE_DEFENDER_WRONG, DISPUTE_BOTH_WRONG) for dispute in found)
