"""The full audit of a ledger: it reads everything, so it is for tests and the simulator.

What every block checks is `money.check_supply`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from consensus.ledger import keys, stake_invariants
from consensus.ledger.messages import TaskSpec
from consensus.ledger.parameters import Parameters
from consensus.ledger.profile_records import Profile
from consensus.ledger.proposal_records import (
    PROPOSAL_VOTING,
    Ballot,
    DelegatorVote,
    Governance,
    Proposal,
)
from consensus.ledger.records import (
    DISPUTE_OPEN,
    INSTALMENT_INVALID,
    INSTALMENT_SETTLED,
    TASK_ENDED,
    TASK_PROFILING,
    Account,
    ConsensusRecord,
    Disclosure,
    DisputeRecord,
    DueItem,
    Instalment,
    PendingChallenge,
    ProgramRecord,
    Provider,
    Supply,
    Task,
    TaskRecord,
)
from consensus.ledger.stake_records import Delegation, Earning, MissedBlocks, Unbonding, ValidatorRecord
from consensus.ledger.view import Counters
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import InvariantViolation
from proofs.native.types import NativeGame
from proofs.pinpoint import Game

_TYPES: dict[bytes, Any] = {
    b"account": Account,
    b"validator": ValidatorRecord,
    b"delegation": Delegation,
    b"delegations": tuple[bytes, ...],
    b"unbonding": Unbonding,
    b"provider": Provider,
    b"program": ProgramRecord,
    b"task": Task,
    b"spec": TaskSpec,
    b"instalment": Instalment,
    b"profile": Profile,
    b"disclosure": Disclosure,
    b"challenge": PendingChallenge,
    b"dispute": DisputeRecord,
    b"game": Game,
    b"nativegame": NativeGame,
    b"record": TaskRecord,
    b"due": tuple[DueItem, ...],
    b"tasks": tuple[bytes, ...],
    b"disputes": tuple[bytes, ...],
    b"proposal": Proposal,
    b"ballot": Ballot,
    b"vote": DelegatorVote,
    b"votes": tuple[bytes, ...],
}
_SINGLE: dict[bytes, Any] = {
    keys.SUPPLY: Supply,
    keys.PARAMETERS: Parameters,
    keys.CHAIN: str,
    keys.VALIDATORS: tuple[bytes, ...],
    keys.PROVIDERS: tuple[bytes, ...],
    keys.COUNTERS: Counters,
    keys.CONSENSUS: ConsensusRecord,
    keys.GOVERNANCE: Governance,
    keys.EARNINGS: tuple[Earning, ...],
    keys.MISSED: tuple[MissedBlocks, ...],
}


def check_invariants(items: Iterable[tuple[bytes, bytes]], height: int) -> None:
    """`InvariantViolation` when the stored ledger after block `height` contradicts itself."""
    records: dict[bytes, list[Any]] = {kind: [] for kind in _TYPES}
    single: dict[bytes, Any] = {}
    numbered: dict[int, Unbonding] = {}
    indexes: dict[bytes, tuple[bytes, ...]] = {}
    for key, data in items:
        if key in _SINGLE:
            single[key] = decode(_SINGLE[key], data, max_bytes=len(data))
            continue
        kind, _, rest = key.partition(b"/")
        record = decode(_TYPES[kind], data, max_bytes=len(data))
        records[kind].append(record)
        if kind == b"unbonding":
            numbered[int(rest)] = record
        if kind == b"delegations":
            indexes[rest] = record
        if kind == b"due" and int(rest) <= height:
            raise InvariantViolation(f"something due at {int(rest)} was not handled by {height}")
    supply = single[keys.SUPPLY]
    _check_money(records, supply)
    validators, delegations = records[b"validator"], records[b"delegation"]
    stake_invariants.check_shares(validators, delegations)
    stake_invariants.check_rewards(validators, delegations, single.get(keys.EARNINGS, ()), supply)
    stake_invariants.check_entries(numbered, delegations, indexes)
    stake_invariants.check_missed(single.get(keys.MISSED, ()))
    _check_locks(records)
    _check_tasks(records)
    _check_governance(records, single.get(keys.GOVERNANCE, Governance()), height)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantViolation(message)


def _check_money(records: dict[bytes, list[Any]], supply: Supply) -> None:
    sums = {
        "balances_nano": [account.balance_nano for account in records[b"account"]],
        "stakes_nano": [validator.stake_nano for validator in records[b"validator"]],
        "unbonding_nano": [entry.amount_nano for entry in records[b"unbonding"]],
        "bonds_nano": [provider.bond_nano for provider in records[b"provider"]],
        "deposits_nano": [proposal.deposit_nano for proposal in records[b"proposal"]],
        "escrows_nano": [task.escrow_nano for task in records[b"task"]],
    }
    for name, amounts in sums.items():
        _require(all(amount >= 0 for amount in amounts), f"a negative amount in {name}")
        _require(sum(amounts) == getattr(supply, name), f"{name}: {sum(amounts)}, the supply says otherwise: {supply}")
    everything = sum(getattr(supply, name) for name in supply.__struct_fields__ if name != "minted_nano")
    _require(everything == supply.minted_nano, f"money is not conserved: {supply}")


def _check_locks(records: dict[bytes, list[Any]]) -> None:
    """What is locked of every bond is exactly what its duties lock, and every duty is listed."""
    locked: Counter[bytes] = Counter()
    for task in records[b"task"]:
        locked[task.solver] += task.solver_bond_nano
    for instalment in records[b"instalment"]:
        for slot in instalment.verifications:
            locked[slot.verifier] += slot.bond_nano
    for profile in records[b"profile"]:
        for measurement in profile.slots:
            locked[measurement.profiler] += measurement.bond_nano
    for pending in records[b"challenge"]:
        locked[pending.challenger] += pending.bond_nano
    for dispute in records[b"dispute"]:
        for challenger in dispute.challengers:
            locked[challenger.address] += challenger.bond_nano
    providers = {provider.address: provider for provider in records[b"provider"]}
    for address, amount in locked.items():
        _require(amount == 0 or address in providers, f"{address.hex()} has locked bond and is no provider")
    for provider in providers.values():
        _require(provider.locked_nano == locked[provider.address], f"{provider.name}: locked bond does not add up")
        _require(provider.locked_nano <= provider.bond_nano, f"{provider.name}: more is locked than bonded")
        _require(len(provider.work) >= provider.solving + provider.verifying, f"{provider.name}: unlisted duties")
        _require(bool(provider.work) or provider.locked_nano == 0, f"{provider.name}: locked without a duty")


def _check_tasks(records: dict[bytes, list[Any]]) -> None:
    ended = {task.task_id for task in records[b"task"] if task.state in TASK_ENDED}
    for task in records[b"task"]:
        _require(task.settled <= task.committed <= task.instalments, "instalments out of order")
        moved = task.solver_paid_nano + task.verifiers_paid_nano + task.refunded_nano + task.taxed_nano
        _require(task.escrow_nano + moved == task.price_nano, f"escrow and payments of {task.name!r} do not add up")
        if task.task_id in ended:
            _require(task.escrow_nano == 0 and task.solver == b"", f"an ended task holds {task.escrow_nano} nano")
    profiling = {task.task_id for task in records[b"task"] if task.state == TASK_PROFILING}
    for profile in records[b"profile"]:
        at_stake = any(slot.bond_nano for slot in profile.slots)
        _require(not at_stake or profile.task_id in profiling, "a profiler answers for a task that is not profiled")
    recorded = {record.task_id for record in records[b"record"]}
    _require(recorded == ended, "the ended tasks are not those with a record")
    for instalment in records[b"instalment"]:
        over = instalment.state in (INSTALMENT_SETTLED, INSTALMENT_INVALID)
        _require(not (over and instalment.open_disputes), "a dispute is open over what is settled or invalid")
        _require(over or instalment.task_id not in ended, "an ended task has an open instalment")
    open_ids = {dispute.dispute_id for dispute in records[b"dispute"] if dispute.state == DISPUTE_OPEN}
    listed = {dispute_id for instalment in records[b"instalment"] for dispute_id in instalment.open_disputes}
    _require(open_ids == listed, "the open disputes are not those of open instalments")
    games = len(records[b"game"]) + len(records[b"nativegame"])
    _require(games == len(open_ids), "games without an open dispute")


def _check_governance(records: dict[bytes, list[Any]], governance: Governance, height: int) -> None:
    """Each open vote is on the agenda, nothing on it is late, and only open votes hold a deposit."""
    voting = tuple(proposal.number for proposal in records[b"proposal"] if proposal.state == PROPOSAL_VOTING)
    _require(set(voting) == set(governance.voting), "the open votes are not those of the governance record")
    listed = {item.number for item in governance.agenda}
    _require(listed.issuperset(voting), "a vote that nobody will count")
    _require(all(item.height > height for item in governance.agenda), "governance missed its agenda")
    for proposal in records[b"proposal"]:
        held = proposal.deposit_nano > 0
        _require(held == (proposal.state == PROPOSAL_VOTING), f"proposal {proposal.number} holds a deposit wrongly")
    stored = len(records[b"ballot"]) + len(records[b"vote"])
    _require(stored == sum(proposal.votes for proposal in records[b"proposal"]), "votes that no proposal counts")
