"""Who gets the work: sortition by the beacon among eligible providers, weighted by bond and inversely by price.

Never first-come. The exclusions and the chances are the whole rule; `task why` and `node why` print them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consensus.ledger import keys, sortition
from consensus.ledger.messages import ARITHMETIC_NATIVE, OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER
from consensus.ledger.money import GIGA
from consensus.ledger.profile_records import Profile
from consensus.ledger.records import (
    DISPUTE_BOTH_WRONG,
    DISPUTE_DEFENDER_WRONG,
    PROVIDER_ACTIVE,
    VERIFICATION_COMMITTED,
    VERIFICATION_DRAWN,
    VERIFICATION_REVEALED,
    Instalment,
    Provider,
    Task,
    Verification,
)
from consensus.ledger.schedule import slot_bond, solver_bond
from consensus.ledger.view import State
from gensyn_node.primitives.hashing import tagged_hash


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a provider is not eligible, and the smallest change that would help."""

    word: str
    """state, role, memory, price, bond, busy, removed, submitter, solver, drawn."""
    have: int = 0
    need: int = 0
    """What it has and what it needs or may have at most (memory bytes, nano, tasks); zero where nothing is counted."""


def solver_exclusions(state: State, task: Task, provider: Provider) -> Iterator[Exclusion]:
    """Everything for which this provider cannot be drawn as the task's solver, in the order it is looked at."""
    if provider.address in task.removed_solvers:
        yield Exclusion("removed")
    yield from _exclusions(state, task, provider, ROLE_SOLVER)
    most = state.parameters.solves_per_provider_max
    if provider.solving >= most:
        yield Exclusion("busy", provider.solving, most)
    spec = state.spec(task.task_id)
    bond = solver_bond(spec, task.gas_per_step, provider.ask_price_nano, state.parameters)
    if provider.free_nano < bond:
        yield Exclusion("bond", provider.free_nano, bond)


def verifier_exclusions(
    state: State, task: Task, instalment: Instalment, provider: Provider, role: int = ROLE_VERIFIER
) -> Iterator[Exclusion]:
    """Everything for which this provider cannot be drawn as a verifier of the instalment, or as its watch."""
    if provider.address in (task.solver, instalment.solver):
        yield Exclusion("solver")
    if provider.address in instalment.missed or any(
        slot.verifier == provider.address for slot in instalment.verifications
    ):
        yield Exclusion("drawn")
    if _proven_wrong(state, task, provider.address):
        yield Exclusion("removed")
    yield from _exclusions(state, task, provider, role)
    spec, ask = state.spec(task.task_id), provider.ask_price_nano
    parameters = state.parameters
    bond = slot_bond(spec, task.gas_per_step, instalment.number, ask, task.solver_bond_nano, parameters)
    yield from _verifying(state, provider, bond)


def profiler_exclusions(state: State, task: Task, profile: Profile, provider: Provider) -> Iterator[Exclusion]:
    """Everything for which this provider cannot be drawn as a profiler of the task."""
    if provider.address in profile.missed or any(slot.profiler == provider.address for slot in profile.slots):
        yield Exclusion("drawn")
    yield from _exclusions(state, task, provider, ROLE_VERIFIER)
    yield from _verifying(state, provider, state.parameters.verifier_bond_min_nano)


def solver_exclusion(state: State, task: Task, provider: Provider) -> Exclusion | None:
    """The first reason why this provider cannot be drawn as the task's solver; None when it can."""
    return next(solver_exclusions(state, task, provider), None)


def verifier_exclusion(state: State, task: Task, instalment: Instalment, provider: Provider) -> Exclusion | None:
    """The first reason why this provider cannot be drawn as a verifier of the instalment; None when it can."""
    return next(verifier_exclusions(state, task, instalment, provider), None)


def profiler_exclusion(state: State, task: Task, profile: Profile, provider: Provider) -> Exclusion | None:
    """The first reason why this provider cannot be drawn as a profiler of the task; None when it can."""
    return next(profiler_exclusions(state, task, profile, provider), None)


def _proven_wrong(state: State, task: Task, address: bytes) -> bool:
    """Whether a dispute of this task was lost by this account; who merely missed a time may still verify."""
    disputes = (state.dispute(dispute_id) for dispute_id in task.disputes)
    lost = (DISPUTE_DEFENDER_WRONG, DISPUTE_BOTH_WRONG)
    return any(dispute.defender == address and dispute.state in lost for dispute in disputes)


def _exclusions(state: State, task: Task, provider: Provider, role: int) -> Iterator[Exclusion]:
    if state.spec(task.task_id).arithmetic == ARITHMETIC_NATIVE:
        role |= OFFERS_NATIVE
    if provider.state != PROVIDER_ACTIVE:
        yield Exclusion("state")
    if provider.roles & role != role:
        yield Exclusion("role", provider.roles, role)
    if provider.address == task.submitter:
        yield Exclusion("submitter")
    if provider.memory_bytes < task.memory_bytes:
        yield Exclusion("memory", provider.memory_bytes, task.memory_bytes)
    if provider.ask_price_nano > task.bid_price_nano:
        yield Exclusion("price", provider.ask_price_nano, task.bid_price_nano)


def _verifying(state: State, provider: Provider, bond_nano: int) -> Iterator[Exclusion]:
    most = state.parameters.verifications_per_provider_max
    if provider.verifying >= most:
        yield Exclusion("busy", provider.verifying, most)
    if provider.free_nano < bond_nano:
        yield Exclusion("bond", provider.free_nano, bond_nano)


@dataclass(frozen=True, slots=True)
class Sortition:
    """A draw before its beacon: who takes part, with what weight, and how many are drawn."""

    candidates: tuple[Provider, ...]
    """In order of address."""
    weights: tuple[int, ...]
    count: int

    def draw(self, beacon: bytes, *purpose: bytes) -> list[Provider]:
        """Up to `count` distinct ones, each with the chance that `chances` tells."""
        names = [one.address for one in self.candidates]
        seed = tagged_hash("gensyn/sortition/2", beacon, *purpose)
        return sortition.pick(self.candidates, names, self.weights, self.count, seed)

    def chances(self) -> list[tuple[int, int]]:
        """Of each candidate, exactly: numerator and denominator."""
        return sortition.chances(self.weights, self.count)


def weight(provider: Provider) -> int:
    """What it counts in a draw: the gas that its bond would pay for at its ask, at least 1."""
    return max(1, provider.bond_nano * GIGA // max(1, provider.ask_price_nano))


def _among(candidates: Sequence[Provider], count: int) -> Sortition:
    return Sortition(tuple(candidates), tuple(weight(one) for one in candidates), count)


def _everybody(state: State) -> Iterator[Provider]:
    return (state.provider(address) for address in state.addresses(keys.PROVIDERS))


def solver_sortition(state: State, task: Task) -> Sortition:
    """The draw of the task's solver."""
    return _among([one for one in _everybody(state) if solver_exclusion(state, task, one) is None], 1)


def verifier_sortition(state: State, task: Task, instalment: Instalment) -> Sortition:
    """The draw that fills the instalment's empty slots.

    Whoever could not have its states is asked again only where there are not enough others, who are to tell a dead
    link from a dead solver.
    """
    count = max(0, state.spec(task.task_id).verifiers - len(active_slots(instalment)))
    candidates = [one for one in _everybody(state) if verifier_exclusion(state, task, instalment, one) is None]
    others = [one for one in candidates if one.address not in instalment.refusers]
    candidates = others if len(others) >= count else candidates
    left_out = weight(state.provider(instalment.solver))
    weights = sortition.corrected([weight(one) for one in candidates], left_out)
    return Sortition(tuple(candidates), tuple(weights), count)


def active_slots(instalment: Instalment) -> list[Verification]:
    """Slots whose verifier is at work or has done it; the watch counts for nothing."""
    working = (VERIFICATION_DRAWN, VERIFICATION_COMMITTED, VERIFICATION_REVEALED)
    return [slot for slot in instalment.verifications if slot.state in working and not slot.watch]


def watch_sortition(state: State, task: Task, instalment: Instalment) -> Sortition:
    """The draw of the instalment's watch."""
    exclusions = (
        (one, verifier_exclusions(state, task, instalment, one, ROLE_WHISTLEBLOWER)) for one in _everybody(state)
    )
    return _among([one for one, why in exclusions if next(why, None) is None], 1)


def profiler_candidates(state: State, task: Task, profile: Profile) -> list[Provider]:
    """Everyone who can be drawn as profiler, in order of address."""
    return [one for one in _everybody(state) if profiler_exclusion(state, task, profile, one) is None]


def profiler_sortition(candidates: Sequence[Provider], seen: set[str]) -> Sortition:
    """The draw of one profiler, of a device class that is not among those seen, where there is any."""
    return _among([one for one in candidates if one.device_class not in seen] or candidates, 1)
