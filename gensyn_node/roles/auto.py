"""`--role auto`: which roles a machine offers, by what it is, what is paid, and how many others do it. Pure.

Solving and verifying cost nothing while nobody is drawn, so a machine offers them as long as it can do them in time and
somebody pays what it asks. A whistleblower works before it is paid: it joins where few watch, or where what is found
pays for the looking, and leaves when others dilute that. Thresholds to join lie above those to leave, a choice stands
for a while, and every machine looks at heights of its own, so that a crowd neither flutters nor moves at once.
"""

from __future__ import annotations

from consensus.ledger.messages import ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER
from consensus.ledger.money import work_price
from consensus.ledger.parameters import Parameters
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.limits import MIB
from gensyn_node.primitives.money import format_amount
from gensyn_node.roles.market import Market

LOOK_BLOCKS = 20
"""A machine thinks its choice over every so many blocks, at heights that its address decides."""
DWELL_BLOCKS = 100
"""A choice stands for so many blocks, unless the machine itself changed (power, memory)."""
PRICED_OUT_TASKS = 8
"""Tasks that must have paid too little before a machine takes its offer back."""
SPEED_JOIN_PERCENT, SPEED_STAY_PERCENT = 125, 100
"""Of the speed that the chain waits for: to offer solving, and to go on offering it."""
LAPTOP_SPEED_PERCENT = 200
"""Of that speed, for a machine with a battery and without an accelerator: it is used, gets hot, and is closed."""
TRAIN_TIME_PERCENT = 50
"""Of a solver's time that training the largest instalment seen may take a machine that is slower than asked."""
VERIFY_TIME_PERCENT = 50
"""Of a verifier's time that its computing may take; the rest is for downloads."""
FEW_WATCHERS, ENOUGH_WATCHERS = 2, 4
"""A whistleblower joins unpaid below the first number of others, and stays unpaid below the second."""
PAY_JOIN_PERCENT, PAY_LEAVE_PERCENT = 125, 80
"""Expected pay of an audit, of its cost: to join as whistleblower, and to leave."""
PRIOR_FINDS, PRIOR_SEGMENTS = 1, 512
"""What is believed of a chain without history: one wrong segment in so many."""

SOLVING, VERIFYING, WATCHING = "solver", "verifier", "whistleblower"
ROLE_BITS = {SOLVING: ROLE_SOLVER, VERIFYING: ROLE_VERIFIER, WATCHING: ROLE_WHISTLEBLOWER}


class Machine(Struct):
    """What a node knows of the machine it runs on, and what its owner asks."""

    memory_bytes: int
    """What training may use."""
    device: str
    """Where exact arithmetic runs: cpu, cuda or mps."""
    has_battery: bool
    on_battery: bool
    gas_per_block: int
    """Measured in its own work; 0: not measured yet."""
    ask_price_nano: int
    """Per giga-gas; what an own audit is taken to cost, too."""


class RoleReason(Struct):
    """Why a role is offered, or not."""

    role: str
    offered: bool
    why: str


class Choice(Struct):
    """The roles that a machine offers."""

    mask: int
    height: int
    """Since which block it stands."""
    reasons: tuple[RoleReason, ...]


def looks_at(address: bytes, height: int) -> bool:
    """Whether this machine thinks its choice over at this height."""
    return (height + int.from_bytes(address[:4], "little")) % LOOK_BLOCKS == 0


def choose(machine: Machine, seen: Market, parameters: Parameters, before: Choice | None, height: int) -> Choice:
    """The choice at a height, after `before` (None: the first). What stands keeps its height."""
    held = before.mask if before else 0
    reasons = (
        _solving(machine, seen, parameters, bool(held & ROLE_SOLVER)),
        _verifying(machine, seen, parameters, bool(held & ROLE_VERIFIER)),
        _watching(machine, seen, bool(held & ROLE_WHISTLEBLOWER)),
    )
    mask = sum(ROLE_BITS[one.role] for one in reasons if one.offered)
    if before is None or mask == before.mask:
        return Choice(mask, before.height if before else height, reasons)
    if height - before.height < DWELL_BLOCKS and not _must_change(machine, before):
        return before
    return Choice(mask, height, reasons)


def words_of(mask: int) -> str:
    """The roles of a mask, in words."""
    return ", ".join(role for role, bit in ROLE_BITS.items() if mask & bit) or "none"


def audit_pay(seen: Market) -> int:
    """What one more whistleblower is expected to earn a segment, by finds and by drawn watches, in nano."""
    chance = (seen.finds + PRIOR_FINDS, seen.segments + PRIOR_SEGMENTS)
    return (seen.bounty_nano * chance[0] // chance[1] + seen.watch_nano) // (1 + seen.whistleblowers)


def _must_change(machine: Machine, before: Choice) -> bool:
    """A machine that lost its power, or got it back, does not wait."""
    return machine.on_battery == bool(before.mask)


def _hardware(machine: Machine, seen: Market) -> str:
    """What forbids training of any kind; empty when nothing does."""
    if machine.on_battery:
        return "the machine runs on its battery"
    if seen.tasks >= PRICED_OUT_TASKS and seen.memory_least_bytes > machine.memory_bytes:
        least, have = -(-seen.memory_least_bytes // MIB), machine.memory_bytes // MIB
        return f"the smallest of {seen.tasks} tasks needs {least} MiB, worker.memory_mib gives {have}"
    return ""


def _priced_out(machine: Machine, seen: Market) -> str:
    if seen.tasks >= PRICED_OUT_TASKS and seen.bid_most_nano < machine.ask_price_nano:
        bid, ask = format_amount(seen.bid_most_nano), format_amount(machine.ask_price_nano)
        return f"the best of {seen.tasks} tasks paid {bid} a giga-gas, provider.ask_nano_per_gigagas asks {ask}"
    return ""


def _solving(machine: Machine, seen: Market, parameters: Parameters, held: bool) -> RoleReason:
    if why := _hardware(machine, seen) or _priced_out(machine, seen):
        return RoleReason(SOLVING, False, why)
    laptop = machine.has_battery and machine.device == "cpu"
    percent = SPEED_STAY_PERCENT if held else SPEED_JOIN_PERCENT
    percent = LAPTOP_SPEED_PERCENT if laptop else percent
    needed = parameters.train_gas_per_block * percent // 100
    slow = machine.gas_per_block and machine.gas_per_block < needed
    if slow and (laptop or not _trains_in_time(machine, seen, parameters, held)):
        return RoleReason(SOLVING, False, f"it trains {machine.gas_per_block} gas a block; {needed} are asked of it")
    if laptop and not machine.gas_per_block:
        return RoleReason(SOLVING, False, "a laptop without an accelerator shows its speed as verifier first")
    return RoleReason(SOLVING, True, f"{_offers(seen.solvers, 'solves', 'solve')}; {seen.open_tasks} tasks are open")


def _trains_in_time(machine: Machine, seen: Market, parameters: Parameters, held: bool) -> bool:
    """Whether a machine below the speed asked is fast enough for what there is: a small task is given as long as any.

    Where all machines are busy at once each of them measures itself slow; nobody would be left for tasks of seconds.
    """
    blocks = parameters.train_blocks_base + seen.train_gas_most // parameters.train_gas_per_block
    percent = 100 if held else TRAIN_TIME_PERCENT
    return 0 < seen.train_gas_most * 100 <= machine.gas_per_block * blocks * percent


def _verifying(machine: Machine, seen: Market, parameters: Parameters, held: bool) -> RoleReason:
    if why := _hardware(machine, seen) or _priced_out(machine, seen):
        return RoleReason(VERIFYING, False, why)
    blocks = parameters.verify_blocks_base + seen.verify_gas_most // parameters.train_gas_per_block
    percent = VERIFY_TIME_PERCENT if not held else 100
    if machine.gas_per_block and seen.verify_gas_most * 100 > machine.gas_per_block * blocks * percent:
        took = -(-seen.verify_gas_most // machine.gas_per_block)
        return RoleReason(VERIFYING, False, f"a verification takes it {took} blocks of the {blocks} that it may take")
    return RoleReason(
        VERIFYING, True, f"{_offers(seen.verifiers, 'verifies', 'verify')}; {seen.open_tasks} tasks are open"
    )


def _watching(machine: Machine, seen: Market, held: bool) -> RoleReason:
    if why := _hardware(machine, seen):
        return RoleReason(WATCHING, False, why)
    pay, cost = audit_pay(seen), work_price(seen.segment_gas, machine.ask_price_nano)
    others = _offers(seen.whistleblowers, "watches", "watch")
    if seen.whistleblowers < (ENOUGH_WATCHERS if held else FEW_WATCHERS):
        return RoleReason(WATCHING, True, f"{others}: too few to rely on")
    bar = cost * (PAY_LEAVE_PERCENT if held else PAY_JOIN_PERCENT) // 100
    told = f"{others}; an audit is expected to earn {format_amount(pay)} and costs {format_amount(cost)}"
    return RoleReason(WATCHING, seen.segments > 0 and pay >= bar, told)


def _offers(count: int, one: str, many: str) -> str:
    return f"1 other {one}" if count == 1 else f"{count} others {many}"
