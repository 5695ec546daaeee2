"""Why a task finds nobody, and why a provider finds nothing: the rule of the draw, run for everybody, all of it.

What keeps one out is listed whole, in the rule's order; a change helps where it removes the only thing in the way. What
a submitter or a provider can change least, and how much that gains, follows from those.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from consensus.ledger import keys, queries, watching
from consensus.ledger.assignment import (
    Exclusion,
    Sortition,
    active_slots,
    profiler_candidates,
    profiler_exclusions,
    profiler_sortition,
    solver_exclusions,
    solver_sortition,
    verifier_exclusions,
    verifier_sortition,
    watch_sortition,
)
from consensus.ledger.block import Reader
from consensus.ledger.fields import Address, Count, Hash, Nano, Small, Text
from consensus.ledger.messages import OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER
from consensus.ledger.money import GIGA
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.profile_records import PROFILE_DRAWING
from consensus.ledger.profile_slots import active
from consensus.ledger.records import (
    INSTALMENT_DRAWING,
    INSTALMENT_VERIFYING,
    TASK_ENDED,
    TASK_PROFILING,
    TASK_WAITING,
    Provider,
    Task,
)
from consensus.ledger.schedule import profilers_of, work_gas_max
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct

TASKS_LOOKED_AT = 256
"""The newest so many tasks are looked at for a provider."""

OFFERS = ROLE_SOLVER | ROLE_VERIFIER | ROLE_WHISTLEBLOWER | OFFERS_NATIVE
"""What a provider can offer."""

RAISE_PRICE, LESS_MEMORY, WAIT, NEW_PROVIDERS = "raise_price", "less_memory", "wait", "new_providers"
LOWER_ASK, MORE_MEMORY, MORE_BOND, RESUME, OFFER_ROLE = (
    "lower_ask",
    "more_memory",
    "more_bond",
    "resume",
    "offer_role",
)


class Hindrance(Struct):
    """One thing in the way."""

    word: Text
    """state, role, memory, price, bond, busy, removed, submitter, solver or drawn."""
    have: Count
    need: Count
    """What there is and what there would have to be (bytes, nano, tasks, roles); zeros where nothing is counted."""


class Standing(Struct):
    """How one provider stands in one draw."""

    provider: Address
    name: Text
    role: Small
    """ROLE_SOLVER, ROLE_VERIFIER (profilers are drawn among verifiers) or ROLE_WHISTLEBLOWER (of a drawn watch)."""
    task_id: Hash
    instalment: Count
    hindrances: tuple[Hindrance, ...]
    """In the rule's order; empty: it can be drawn."""
    chance_bps: Small
    """Exact chance to be among those drawn now (of profilers: to be the next; of a watch: times the chance that one is
    drawn), in basis points, rounded down; 0 when it cannot."""


class Change(Struct):
    """A change and what it brings."""

    kind: Text
    """One of this module's words."""
    amount: Count
    """The least that suffices: nano, bytes, a block's height, roles; 0 where nothing is counted."""
    gains: Small
    """Providers, or draws, for which nothing else is in the way."""


class TaskWhy(Struct):
    """Why a task has nobody, or whom it waits for."""

    task_id: Hash
    state: Text
    due_height: Count
    """When the present state ends by itself, or the next draw is."""
    drawing: Text
    """solver, verifier, profiler; empty: nobody is drawn now."""
    wanted: Small
    """How many are drawn."""
    eligible: Small
    standings: tuple[Standing, ...]
    """Everybody who is registered."""
    changes: tuple[Change, ...]
    """What would help, the smallest first."""


class ProviderWhy(Struct):
    """Why a provider is drawn for nothing, or when it may be."""

    provider: Address
    draws: Small
    """Draws that are open, and those of a watch that come when the verdicts are bound."""
    eligible: Small
    """Of them, those that can take it."""
    standings: tuple[Standing, ...]
    changes: tuple[Change, ...]


class _Draw(Struct):
    """One draw that is open."""

    kind: str
    role: int
    instalment: int
    wanted: int
    due_height: int


def why_task(reader: Reader, task_id: bytes) -> TaskWhy:
    """For a task: who can be drawn now, what keeps out the others, what would help."""
    state = State(reader)
    task = state.task(task_id)
    everybody = [state.provider(address) for address in state.addresses(keys.PROVIDERS)]
    draw = next(_draws(state, task), None)
    if draw is None:
        due = 0 if task.state in TASK_ENDED else task.due_height
        return TaskWhy(task_id, task.state, due, "", 0, 0, (), ())
    standings = _standings(state, task, draw, everybody)
    eligible = sum(not one.hindrances for one in standings)
    short = eligible < draw.wanted
    changes = tuple(_of_submitter(state, task, draw, standings)) if short else ()
    return TaskWhy(task_id, task.state, draw.due_height, draw.kind, draw.wanted, eligible, standings, changes)


def why_provider(reader: Reader, address: bytes) -> ProviderWhy:
    """For a registered provider: how it stands in every open draw of the newest tasks, what would help."""
    state = State(reader)
    one = state.provider(address)
    everybody = [state.provider(other) for other in state.addresses(keys.PROVIDERS)]
    ids = queries.recent_ids(state, keys.tasks_page, state.counters.tasks, TASKS_LOOKED_AT)
    found: list[Standing] = []
    for task_id in reversed(ids):
        task = state.task(task_id)
        for draw in (*_draws(state, task), *_watches(state, task)):
            mine = _standing(state, task, draw, one)
            if not mine.hindrances:
                mine = next(s for s in _standings(state, task, draw, everybody) if s.provider == address)
            found.append(mine)
    eligible = sum(not standing.hindrances for standing in found)
    return ProviderWhy(address, len(found), eligible, tuple(found), tuple(_of_provider(found)))


def _draws(state: State, task: Task) -> Iterator[_Draw]:
    """The draws that a task waits for."""
    if task.state == TASK_WAITING:
        yield _Draw("solver", ROLE_SOLVER, 0, 1, task.due_height)
    elif task.state == TASK_PROFILING:
        profile = state.profile(task.task_id)
        if profile is not None and profile.state == PROFILE_DRAWING:
            yield _Draw("profiler", ROLE_VERIFIER, 0, profile.wanted - len(profile.slots), profile.due_height)
    for number in range(task.settled, task.committed):
        instalment = state.instalment(task.task_id, number)
        if instalment.state == INSTALMENT_DRAWING:
            wanted = state.spec(task.task_id).verifiers - len(active_slots(instalment))
            yield _Draw("verifier", ROLE_VERIFIER, number, max(1, wanted), instalment.due_height)


def _watches(state: State, task: Task) -> Iterator[_Draw]:
    """Where a watch may be drawn as soon as all verdicts are bound. No task waits for one."""
    for number in range(task.settled, task.committed):
        instalment = state.instalment(task.task_id, number)
        if instalment.state == INSTALMENT_VERIFYING and watching.may_be_drawn(state, instalment):
            yield _Draw("watch", ROLE_WHISTLEBLOWER, number, 1, instalment.due_height)


def _exclusions(state: State, task: Task, draw: _Draw, one: Provider) -> Iterator[Exclusion]:
    if draw.kind == "solver":
        return solver_exclusions(state, task, one)
    if draw.kind in ("verifier", "watch"):
        return verifier_exclusions(state, task, state.instalment(task.task_id, draw.instalment), one, draw.role)
    profile = state.profile(task.task_id)
    return profiler_exclusions(state, task, profile, one) if profile is not None else iter(())


def _standing(state: State, task: Task, draw: _Draw, one: Provider) -> Standing:
    found = tuple(Hindrance(each.word, each.have, each.need) for each in _exclusions(state, task, draw, one))
    return Standing(one.address, one.name, draw.role, task.task_id, draw.instalment, found, 0)


def _sortition(state: State, task: Task, draw: _Draw) -> Sortition:
    if draw.kind == "solver":
        return solver_sortition(state, task)
    if draw.kind == "verifier":
        return verifier_sortition(state, task, state.instalment(task.task_id, draw.instalment))
    if draw.kind == "watch":
        return watch_sortition(state, task, state.instalment(task.task_id, draw.instalment))
    profile = state.profile(task.task_id)
    seen = {slot.device_class for slot in active(profile)}
    return profiler_sortition(profiler_candidates(state, task, profile), seen)


def _standings(state: State, task: Task, draw: _Draw, everybody: list[Provider]) -> tuple[Standing, ...]:
    """Everybody's standing, with the chances of those who can be drawn."""
    sortition = _sortition(state, task, draw)
    happens_bps = task.watch_bps if draw.kind == "watch" else BASIS_POINTS
    chances = {
        one.address: part * happens_bps // whole
        for one, (part, whole) in zip(sortition.candidates, sortition.chances(), strict=True)
    }
    found = (_standing(state, task, draw, one) for one in everybody)
    return tuple(msgspec.structs.replace(one, chance_bps=chances.get(one.provider, 0)) for one in found)


def _only(standings: tuple[Standing, ...] | list[Standing], word: str) -> list[Hindrance]:
    """The hindrance of everybody who is kept out by it alone."""
    return [one.hindrances[0] for one in standings if [each.word for each in one.hindrances] == [word]]


def _of_submitter(state: State, task: Task, draw: _Draw, standings: tuple[Standing, ...]) -> Iterator[Change]:
    """What a submitter could do: wait, or submit again under other terms."""
    missing = draw.wanted - sum(not one.hindrances for one in standings)
    if busy := _only(standings, "busy"):
        yield Change(WAIT, draw.due_height, len(busy))
    asks = sorted(one.have for one in _only(standings, "price"))
    if asks:
        enough = asks[min(missing, len(asks)) - 1]
        spec, parameters = state.spec(task.task_id), state.parameters
        shares = (profilers_of(spec, parameters), task.forced_tax_bps, task.watch_bps)
        gas = work_gas_max(spec, task.gas_per_step, *shares)
        yield Change(RAISE_PRICE, -(-gas * enough // GIGA), sum(ask <= enough for ask in asks))
    memories = sorted((one.have for one in _only(standings, "memory")), reverse=True)
    if memories:
        enough = memories[min(missing, len(memories)) - 1]
        yield Change(LESS_MEMORY, enough, sum(memory >= enough for memory in memories))
    if missing > sum(len(_only(standings, word)) for word in ("busy", "price", "memory")):
        yield Change(NEW_PROVIDERS, missing, missing)


def _of_provider(standings: list[Standing]) -> Iterator[Change]:
    """What a provider could do, what is cheapest first."""
    if resumed := _only(standings, "state"):
        yield Change(RESUME, 0, len(resumed))
    if offered := _only(standings, "role"):
        roles = 0
        for one in offered:
            roles |= one.need & ~one.have
        yield Change(
            OFFER_ROLE, roles & (ROLE_SOLVER | ROLE_VERIFIER | ROLE_WHISTLEBLOWER | OFFERS_NATIVE), len(offered)
        )
    if priced := _only(standings, "price"):
        bid: Nano = max(one.need for one in priced)
        yield Change(LOWER_ASK, bid, sum(one.need >= bid for one in priced))
    for word, kind in (("memory", MORE_MEMORY), ("bond", MORE_BOND)):
        if short := _only(standings, word):
            least = min(one.need - one.have for one in short)
            yield Change(kind, least, sum(one.need - one.have <= least for one in short))
