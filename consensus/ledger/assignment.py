"""Who gets the work: sortition by the beacon among eligible providers, weighted by bond and inversely by price.

Never first-come. The exclusions are the whole rule; `task why` and `node why` print them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from consensus.ledger import keys
from consensus.ledger.messages import ARITHMETIC_NATIVE, OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER
from consensus.ledger.profile_records import Profile
from consensus.ledger.records import (
    DISPUTE_BOTH_WRONG,
    DISPUTE_DEFENDER_WRONG,
    PROVIDER_ACTIVE,
    Instalment,
    Provider,
    Task,
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


def verifier_exclusions(state: State, task: Task, instalment: Instalment, provider: Provider) -> Iterator[Exclusion]:
    """Everything for which this provider cannot be drawn as a verifier of the instalment."""
    if provider.address in (task.solver, instalment.solver):
        yield Exclusion("solver")
    if provider.address in instalment.missed or any(
        slot.verifier == provider.address for slot in instalment.verifications
    ):
        yield Exclusion("drawn")
    if _proven_wrong(state, task, provider.address):
        yield Exclusion("removed")
    yield from _exclusions(state, task, provider, ROLE_VERIFIER)
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


def solver_candidates(state: State, task: Task) -> list[Provider]:
    """Everyone who can be drawn as solver, in order of address."""
    providers = (state.provider(address) for address in state.addresses(keys.PROVIDERS))
    return [provider for provider in providers if solver_exclusion(state, task, provider) is None]


def verifier_candidates(state: State, task: Task, instalment: Instalment) -> list[Provider]:
    """Everyone who can be drawn as verifier, in order of address."""
    providers = (state.provider(address) for address in state.addresses(keys.PROVIDERS))
    return [provider for provider in providers if verifier_exclusion(state, task, instalment, provider) is None]


def profiler_candidates(state: State, task: Task, profile: Profile) -> list[Provider]:
    """Everyone who can be drawn as profiler, in order of address."""
    providers = (state.provider(address) for address in state.addresses(keys.PROVIDERS))
    return [provider for provider in providers if profiler_exclusion(state, task, profile, provider) is None]


def weight(provider: Provider) -> int:
    """Chance in the draw: bond per nano of ask, at least 1."""
    return max(1, provider.bond_nano // max(1, provider.ask_price_nano))


def draw(candidates: Iterable[Provider], count: int, beacon: bytes, *purpose: bytes) -> list[Provider]:
    """Up to `count` distinct candidates, each drawn with a chance proportional to its weight among those left."""
    left = list(candidates)
    drawn: list[Provider] = []
    while left and len(drawn) < count:
        seed = tagged_hash("gensyn/sortition/1", beacon, len(drawn).to_bytes(4, "little"), *purpose)
        mark = int.from_bytes(seed, "little") % sum(weight(provider) for provider in left)
        for position, provider in enumerate(left):
            mark -= weight(provider)
            if mark < 0:
                drawn.append(left.pop(position))
                break
    return drawn
