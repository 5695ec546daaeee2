"""What a task costs and who could do it: the ledger's own rules, applied to the providers of the moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from consensus.ledger import schedule
from consensus.ledger.guarantee import Guarantee, guarantee
from consensus.ledger.messages import OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER, TaskSpec
from consensus.ledger.money import work_price
from consensus.ledger.parameters import Parameters
from consensus.ledger.reasons import CLASS_CLOSED
from consensus.ledger.records import PROVIDER_ACTIVE
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
from proofs.classes import NATIVE


@dataclass(frozen=True, slots=True)
class Quote:
    """An estimate before any money moves."""

    arithmetic: str
    """The task's arithmetic class."""
    gas_per_step: int
    train_gas: int
    verify_gas: int
    """At most; verifiers are paid for what they repeat, native tasks pay profilers as well.

    With forced errors twice as much as without one: what was shown wrong is verified once more. Drawn watches included.
    """
    tax_gas: int
    """Forced-error tax, as gas at the solver's ask; 0 without forced errors."""
    forced_error_bps: int
    """Chance that an instalment is shown with an error; 0: never."""
    bid_price_nano: int
    """Highest ask per giga-gas that the maximum price covers."""
    low_nano: int | None
    """Whole price if the cheapest eligible providers are drawn; None when nobody is eligible."""
    high_nano: int | None
    max_price_nano: int
    solvers: int
    """Eligible now."""
    verifiers: int
    profilers: int
    """Who could measure a native task's noise; whoever verifies can."""
    profilers_least: int
    """As many are needed: a majority of those that the chain draws; 0 in other classes."""
    solver_bond_nano: int
    """What the dearest eligible solver puts at stake."""
    end_bound_blocks: int
    """Whatever happens, the task is paid or refunded within this many blocks."""
    excluded: dict[str, int]
    """Why providers are not eligible, and how many."""
    guarantee: Guarantee
    """What its verification promises if the cheapest eligible solver is drawn; at the bid when nobody is."""

    @property
    def problem(self) -> str:
        """Why this task would not start now; empty when it would."""
        if self.solvers == 0:
            return "no eligible solver: " + _shown(self.excluded)
        if self.verifiers == 0:
            return "no eligible verifier besides the solver: " + _shown(self.excluded)
        if self.profilers < self.profilers_least:
            need = f"{self.profilers} can measure its noise, at least {self.profilers_least} are needed"
            return f"{need}: " + _shown(self.excluded)
        return ""


def make_quote(
    spec: TaskSpec, gas_per_step: int, parameters: Parameters, providers: list[dict[str, Any]], state_bytes: int = 0
) -> Quote:
    """The quote of a task with these providers (their records as JSON)."""
    check_class(spec, parameters)
    train, profilers = schedule.train_gas(spec, gas_per_step), schedule.profilers_of(spec, parameters)
    tax_bps = schedule.tax_bps_of(spec, parameters)
    tax = schedule.tax_gas(train, tax_bps)
    watch_bps = schedule.watch_bps_of(spec, parameters)
    verify = schedule.work_gas_max(spec, gas_per_step, profilers, tax_bps, watch_bps) - train - tax
    once = schedule.work_gas_max(spec, gas_per_step, profilers, tax_bps) - train - tax
    least = once - (schedule.verify_gas_max(spec, gas_per_step) if spec.forced_error_bps else 0)
    bid = schedule.bid_price(spec, gas_per_step, profilers, tax_bps, watch_bps)
    excluded: Counter[str] = Counter()
    solvers, verifiers = [], []
    for provider in providers:
        ask = int(provider["ask_price_nano"])
        why = _exclusion(spec, bid, provider)
        if why:
            excluded[why] += 1
            continue
        free = int(provider["bond_nano"]) - int(provider["locked_nano"])
        bond = schedule.solver_bond(spec, gas_per_step, ask, parameters)
        if int(provider["roles"]) & ROLE_SOLVER and free >= bond:
            solvers.append((ask, bond))
        elif int(provider["roles"]) & ROLE_SOLVER:
            excluded["bond"] += 1
        at_stake = schedule.slot_bond(spec, gas_per_step, 0, ask, bond, parameters)
        if int(provider["roles"]) & ROLE_VERIFIER and free >= at_stake:
            verifiers.append(ask)
    asks = [ask for ask, _ in solvers]
    others = max(0, len(verifiers) - 1) if len(solvers) == 1 else len(verifiers)
    return Quote(
        arithmetic=spec.arithmetic,
        gas_per_step=gas_per_step,
        train_gas=train,
        verify_gas=verify,
        tax_gas=tax,
        forced_error_bps=spec.forced_error_bps,
        bid_price_nano=bid,
        low_nano=_price(train + tax, least, min(asks), min(verifiers, default=0)) if asks else None,
        high_nano=_price(train + tax, verify, max(asks), max(verifiers, default=0)) if asks else None,
        max_price_nano=spec.max_price_nano,
        solvers=len(solvers),
        verifiers=others,
        profilers=len(verifiers),
        profilers_least=profilers // 2 + 1 if profilers else 0,
        solver_bond_nano=max((bond for _, bond in solvers), default=0),
        end_bound_blocks=schedule.task_end_bound(
            spec, gas_per_step, parameters, schedule.fetch_blocks(spec, state_bytes, parameters)
        ),
        excluded=dict(sorted(excluded.items())),
        guarantee=guarantee(spec, gas_per_step, min(asks, default=bid), parameters),
    )


def check_class(spec: TaskSpec, parameters: Parameters) -> None:
    """CLASS_CLOSED when the chain takes no such tasks."""
    if spec.arithmetic == NATIVE and not parameters.native_profilers:
        raise Rejection(CLASS_CLOSED, "arithmetic: this chain draws no profilers for native tasks")


def check_quote(quote: Quote) -> None:
    """PRICE_ABOVE_MAXIMUM or NOBODY_ELIGIBLE when the task could not start now."""
    if quote.solvers == 0 and set(quote.excluded) == {"price"}:
        raise Rejection(
            reasons.PRICE_ABOVE_MAXIMUM,
            f"{quote.max_price_nano} nano pay at most {quote.bid_price_nano} nano a giga-gas; everybody asks more",
        )
    if quote.problem:
        raise Rejection(reasons.NOBODY_ELIGIBLE, quote.problem)


def _exclusion(spec: TaskSpec, bid: int, provider: dict[str, Any]) -> str:
    if provider["state"] != PROVIDER_ACTIVE:
        return "state"
    if int(provider["memory_bytes"]) < spec.memory_bytes:
        return "memory"
    if int(provider["ask_price_nano"]) > bid:
        return "price"
    if spec.arithmetic == NATIVE and not int(provider["roles"]) & OFFERS_NATIVE:
        return "class"
    return ""


def _price(train: int, verify: int, solver_ask: int, verifier_ask: int) -> int:
    return work_price(train, solver_ask) + work_price(verify, verifier_ask)


def _shown(excluded: dict[str, int]) -> str:
    return ", ".join(f"{count} by {why}" for why, count in excluded.items()) or "nobody is registered"
