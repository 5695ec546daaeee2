"""What a whistleblower looks at: finished verifications, segments that nobody re-executed or evidence that nobody did.

Pure. The machine's own secret numbers decide, weighted by what a look is expected to earn above its cost; nobody can
foresee which segments are looked at. Looks that are not expected to pay are rationed by the machine's time.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.ledger.block import Reader
from consensus.ledger.duties import Audit, SegmentWork
from consensus.ledger.messages import APPROVED, ARITHMETIC_REP_V1, DISAGREED
from consensus.ledger.money import work_price
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.records import INSTALMENT_WINDOW, VERIFICATION_REVEALED, Instalment, Task
from consensus.ledger.schedule import verifier_bond
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct
from gensyn_node.roles.auto import PRIOR_FINDS, PRIOR_SEGMENTS, Machine
from gensyn_node.roles.market import Market

UNPAID_TIME_PERCENT = 10
"""Of the time that paid drawn watches took, that looks may take which are not expected to pay."""
UNPAID_START_S = 600.0
"""Of that time, given at once: a machine that has just begun may look a few times."""
TIME_SHARE_PERCENT = 50
"""Of the blocks left in the window, that re-executing may take; the rest is for downloads and the challenge."""

OTHER_SEGMENT, EVIDENCE = "other segment", "evidence"


class Look(Struct):
    """One segment that may be looked at."""

    audit: Audit
    work: SegmentWork
    kind: str
    """OTHER_SEGMENT: nobody re-executed it; EVIDENCE: somebody says that it did."""
    gas: int
    cost_nano: int
    pay_nano: int
    """Expected."""

    @property
    def pays(self) -> bool:
        """Whether it is expected to earn what it costs."""
        return self.pay_nano >= self.cost_nano


def looks(reader: Reader, audits: Sequence[Audit], machine: Machine, seen: Market, height: int) -> list[Look]:
    """Every look that this machine can finish in time and in its memory."""
    state, found = State(reader), []
    for audit in audits:
        task = state.task(audit.task_id)
        if not _fits(state, task, audit, machine):
            continue
        instalment = state.instalment(audit.task_id, audit.instalment)
        looked_at = _looked_at(instalment)
        left = (audit.due_height - height) * TIME_SHARE_PERCENT // 100
        for work in audit.segments:
            gas = work.steps * task.gas_per_step
            if machine.gas_per_block and gas > left * machine.gas_per_block:
                continue
            kind = EVIDENCE if work.segment in looked_at else OTHER_SEGMENT
            pay = _pay(state, task, seen, kind, looked_at.get(work.segment, 0))
            found.append(Look(audit, work, kind, gas, work_price(gas, machine.ask_price_nano), pay))
    return found


def _fits(state: State, task: Task, audit: Audit, machine: Machine) -> bool:
    spec = state.spec(task.task_id)
    return (
        audit.state == INSTALMENT_WINDOW
        and spec.arithmetic == ARITHMETIC_REP_V1
        and task.memory_bytes <= machine.memory_bytes
    )


def _looked_at(instalment: Instalment) -> dict[int, int]:
    """Segments that were re-executed, by their word, and by how many. What is disputed already is no find any more."""
    counts: dict[int, int] = {}
    for slot in instalment.verifications:
        for finding in slot.findings if slot.state == VERIFICATION_REVEALED else ():
            if finding.verdict in (APPROVED, DISAGREED):
                counts[finding.segment] = counts.get(finding.segment, 0) + 1
    return counts


def _pay(state: State, task: Task, seen: Market, kind: str, approvals: int) -> int:
    """Expected pay of one look: what a find brings, times how often segments were found wrong, shared with others.

    Behind evidence stand as many claims as verifiers, each with its own bond; the solver's, whom all of them passed, is
    worth an equal chance for each that had to be wrong, too.
    """
    parameters = state.parameters
    chance, sharers = (seen.finds + PRIOR_FINDS, seen.segments + PRIOR_SEGMENTS), 1 + seen.whistleblowers
    bond = task.solver_bond_nano
    if kind == EVIDENCE:
        bond = approvals * verifier_bond(task.solver_bond_nano, parameters) + bond // (1 + approvals)
    return bond * parameters.winner_bps * chance[0] // (BASIS_POINTS * chance[1] * sharers)


def pick(found: Sequence[Look], draw: int) -> Look | None:
    """One of them by a secret number: each with a chance by what it is expected to leave, and nobody with none."""
    if not found:
        return None
    least = max(1, max(one.cost_nano for one in found) // 10)
    weights = [max(least, one.pay_nano - one.cost_nano + least) for one in found]
    mark = draw % sum(weights)
    for one, each in zip(found, weights, strict=True):
        mark -= each
        if mark < 0:
            return one
    return found[-1]


def may_look(look: Look, spent_s: float, watched_s: float) -> bool:
    """Whether the machine may do it now: what pays, always; what does not, within the time that is given away.

    That is a share of its paid watches: whatever others do, what it gives away stays below what they leave it.
    """
    return look.pays or spent_s * 100 < (watched_s + UNPAID_START_S) * UNPAID_TIME_PERCENT
