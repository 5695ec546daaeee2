"""Why a node is idle and why a task waits, in sentences: every cause in order, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from consensus.ledger import why
from consensus.ledger.messages import OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER
from consensus.ledger.records import (
    PROVIDER_PAUSED,
    PROVIDER_WITHDRAWING,
    TASK_ASSIGNED,
    TASK_CANCELLED,
    TASK_EXPIRED,
    TASK_FINISHED,
    TASK_TRAINING,
    Instalment,
    Provider,
    Task,
)
from gensyn_node.app.instalment_words import instalment_text
from gensyn_node.primitives.limits import MIB
from gensyn_node.primitives.money import format_amount
from gensyn_node.rpc.backend import Cause, ChangeText, StandingText
from gensyn_node.rpc.view import View

AUTO, NONE = "auto", "none"
FAILURES_SHOWN = 3
_ROLES = ((ROLE_SOLVER, "solver"), (ROLE_VERIFIER, "verifier"), (ROLE_WHISTLEBLOWER, "whistleblower"))
_DRAWN_AS = {ROLE_SOLVER: "solver", ROLE_VERIFIER: "verifier", ROLE_WHISTLEBLOWER: "watch"}


class NodeFacts(View, frozen=True):
    """What a node knows of itself."""

    syncing: bool
    peers: int
    disk_tight: bool
    role: str
    """The owner's word."""
    offered: int
    """Mask of the roles offered now."""
    auto_why: str
    register: bool
    """Whether the configuration lets it register."""
    provider: Provider | None
    balance_nano: int
    needed_nano: int
    """Bond and fees of a registration."""
    jailed_until: int
    """Height at which its validator may return; 0: it is not in jail."""
    failures: tuple[str, ...]
    found: why.ProviderWhy | None
    """How it stands in the open draws; None while it is not registered."""
    open_tasks: int


def causes(facts: NodeFacts) -> Iterator[Cause]:
    """What keeps a node from work, what has to be solved first first. None: it only waits for its luck."""
    if facts.syncing:
        yield Cause("syncing", "it catches up with the chain", "wait: gensyn node status shows the height")
    if not facts.peers:
        yield Cause("no_peers", "it has no peers", "check the network and p2p.seeds: gensyn node peers")
    if facts.disk_tight:
        yield Cause("disk", "the disk is nearly full; it takes no task", "free some space, or move the home")
    if facts.role == NONE:
        yield Cause("role", "its role is none", "gensyn node role auto")
    elif not facts.offered:
        yield Cause("auto", f"auto offers nothing now: {facts.auto_why}", "gensyn node role solver, or change that")
    if facts.provider is None:
        yield from _not_registered(facts)
    elif facts.provider.state == PROVIDER_PAUSED and facts.offered:
        missed = f" after {facts.provider.misses} missed duties" if facts.provider.misses else ""
        yield Cause("paused", f"the provider is paused{missed}", f"gensyn node role {facts.role} resumes it")
    elif facts.provider.state == PROVIDER_WITHDRAWING:
        yield Cause("withdrawing", "the provider is leaving; its bond comes back when its duties are done", "wait")
    if facts.jailed_until:
        yield Cause(
            "jailed", f"its validator is in jail until block {facts.jailed_until}", "gensyn stake unjail, from then on"
        )
    for failure in facts.failures[-FAILURES_SHOWN:]:
        yield Cause("failed", f"it failed lately: {failure}", "see log/node.log and log/worker.log in its home")
    if facts.found is not None:
        yield from _of_draws(facts.found, facts.open_tasks)


def _not_registered(facts: NodeFacts) -> Iterator[Cause]:
    if facts.balance_nano < facts.needed_nano:
        short = format_amount(facts.needed_nano - facts.balance_nano)
        need = format_amount(facts.needed_nano)
        yield Cause("balance", f"bond and fees of {need} are more than its balance, by {short}", f"send it {short}")
    if not facts.register:
        yield Cause("not_registered", "it is not registered", "set provider.register = true in config.toml and restart")
    elif facts.balance_nano >= facts.needed_nano:
        yield Cause("not_registered", "it is not registered yet", "wait a few blocks")


def _of_draws(found: why.ProviderWhy, open_tasks: int) -> Iterator[Cause]:
    if not found.draws:
        yield Cause("no_draw", f"no task draws anybody now; {open_tasks} are under way", "wait")
    elif not found.eligible:
        words = ", ".join(dict.fromkeys(one.word for each in found.standings for one in each.hindrances))
        yield Cause("excluded", f"{found.draws} draws are open and it can be in none: {words}", "see the changes below")


def node_sentence(facts: NodeFacts, working: str) -> str:
    """The one sentence."""
    found = facts.found
    first = next(causes(facts), None)
    if working and not working.startswith("idle"):
        return f"It works: {working}."
    if first is not None:
        return f"No work: {first.text}. Next: {first.next}."
    if found is not None and found.eligible:
        best = max(one.chance_bps for one in found.standings)
        return f"It can be drawn in {found.eligible} of {found.draws} draws; its best chance is {best / 100:.1f} %."
    return "Nothing is in the way."


def task_sentence(found: why.TaskWhy, task: Task, instalments: list[Instalment]) -> str:
    """What a task waits for, or how it ended."""
    if found.drawing:
        who = found.drawing if found.wanted == 1 else f"{found.wanted} {found.drawing}s"
        if found.eligible >= found.wanted:
            return f"It draws {who} in block {found.due_height}; {found.eligible} can be drawn."
        many = f"only {found.eligible}" if found.eligible else "nobody"
        return f"It draws {who} in block {found.due_height}, and {many} of {len(found.standings)} can be drawn."
    match task.state:
        case state if state == TASK_ASSIGNED:
            return f"A solver was drawn and has to start by block {task.due_height}."
        case state if state == TASK_TRAINING:
            return f"Its solver trains (step {task.step} of {task.steps}); a sign of life is due by {task.due_height}."
        case state if state == TASK_FINISHED:
            return f"It is finished: {task.settled} of {task.instalments} instalments are settled."
        case state if state in (TASK_CANCELLED, TASK_EXPIRED):
            back = format_amount(task.refunded_nano)
            settled = f"{task.settled} of {task.instalments} instalments were settled and paid"
            why_ended = "by its submitter" if task.state == TASK_CANCELLED else "at a deadline, or nobody could verify"
            return f"It is {task.state} ({why_ended}): {settled}, {back} came back."
    phases = [f"instalment {one.number} is {one.state}: {instalment_text(one).explanation}" for one in instalments]
    return f"It is {task.state}: {'; '.join(phases) or 'nothing is open'}."


def standing_text(one: why.Standing) -> StandingText:
    """How somebody stands, with every reason."""
    reasons = tuple(_hindrance(each) for each in one.hindrances)
    return StandingText(
        provider=one.provider,
        name=one.name,
        role=_DRAWN_AS[one.role],
        task_id=one.task_id,
        instalment=one.instalment,
        eligible=not reasons,
        chance_bps=one.chance_bps,
        reasons=reasons,
    )


def _hindrance(one: why.Hindrance) -> str:
    match one.word:
        case "memory":
            return f"its memory is {_mib(one.need - one.have)} short: it has {_mib(one.have)} of {_mib(one.need)}"
        case "price":
            over = format_amount(one.have - one.need)
            return f"it asks {format_amount(one.have)} a giga-gas, {over} more than the bid"
        case "bond":
            short = format_amount(one.need - one.have)
            return f"its free bond of {format_amount(one.have)} is {short} short"
        case "busy":
            return f"it has {one.have} such jobs, as many as it may"
        case "role":
            return f"it does not offer: {roles_text(one.need & ~one.have)}"
        case word:
            return _WORDS.get(word, word)


_WORDS = {
    "state": "it is paused or leaving",
    "removed": "it failed this task before",
    "submitter": "it submitted the task itself",
    "solver": "it solves the task",
    "drawn": "it was drawn already",
}


def roles_text(mask: int) -> str:
    """The roles of a mask."""
    named = (*_ROLES, (OFFERS_NATIVE, "native tasks"))
    return ", ".join(name for bit, name in named if mask & bit) or "none"


def change_text(one: why.Change) -> ChangeText:
    """A change, what it brings and how it is made."""
    gains = f"{one.gains} more" if one.gains != 1 else "one more"
    text, how = _CHANGES[one.kind]
    amount = {
        why.RAISE_PRICE: format_amount,
        why.LOWER_ASK: format_amount,
        why.MORE_BOND: format_amount,
        why.LESS_MEMORY: _mib,
        why.MORE_MEMORY: _mib,
        why.OFFER_ROLE: roles_text,
    }.get(one.kind, str)(one.amount)
    return ChangeText(one.kind, one.amount, one.gains, text.format(amount=amount, gains=gains), how)


def _mib(count: int) -> str:
    return f"{-(-count // MIB)} MiB"


_CHANGES = {
    why.WAIT: ("wait for block {amount}: {gains} may be free by then", "gensyn task watch"),
    why.RAISE_PRICE: ("a price of {amount} in all reaches {gains}", "cancel it, set [price] max, submit again"),
    why.LESS_MEMORY: (
        "a task of at most {amount} fits {gains}",
        "a smaller model or batch; gensyn task validate tells its memory",
    ),
    why.NEW_PROVIDERS: ("{gains} providers are needed that are not registered", "wait, or invite some"),
    why.RESUME: ("resuming makes it eligible in {gains} draws", "gensyn node role auto"),
    why.OFFER_ROLE: ("offering {amount} makes it eligible in {gains} draws", "gensyn node role auto"),
    why.LOWER_ASK: (
        "asking {amount} a giga-gas makes it eligible in {gains} draws",
        "set provider.ask_nano_per_gigagas and restart",
    ),
    why.MORE_MEMORY: ("{amount} more memory makes it eligible in {gains} draws", "raise worker.memory_mib and restart"),
    why.MORE_BOND: ("{amount} more bond makes it eligible in {gains} draws", "raise provider.bond_nano and restart"),
}
