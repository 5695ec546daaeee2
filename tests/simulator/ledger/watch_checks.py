"""The drawn watch from outside: its draw by our own formula, no majority that counts it, every fee by our books."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from consensus.ledger import messages as m
from consensus.ledger.block import BlockDelta, Event
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.money import work_price
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.records import VERIFICATION_COMMITTED, VERIFICATION_PAID, Instalment, Verification
from consensus.ledger.schedule import segment_span
from consensus.ledger.view import State
from gensyn_node.primitives.hashing import tagged_hash
from tests.simulator.application import require


@dataclass
class WatchChecks:
    """All watches of a chain."""

    seen: Counter[str]

    def after_block(self, before: MemoryLedger, state: State, beacon: bytes, delta: BlockDelta) -> None:
        """One block."""
        for event in delta.events:
            number = event.get("instalment")
            if not isinstance(number, int):
                continue
            instalment = state.instalment(event.subject, number)
            match event.kind:
                case "watch_drawn":
                    self._drawn(State(before), state, instalment, event, beacon)
                case "instalment_window":
                    self._counted(state, instalment)
                case "instalment_verifying":
                    at_work = [slot for slot in _others(instalment) if slot.state in ("drawn", "committed", "revealed")]
                    enough = 2 * len(at_work) > state.spec(event.subject).verifiers
                    require(enough or instalment.state != "verifying", "too few verifiers of an instalment are at work")
                case "instalment_settled":
                    self._paid(state, instalment, int(event.get("verifiers_nano") or 0))
                case "jackpot_paid":
                    before_it = State(before).instalment(event.subject, number)
                    drawn = {slot.verifier for slot in before_it.verifications}
                    require(event.get("claimant") in drawn, "a jackpot was paid to somebody who was not drawn")

    def _drawn(self, before: State, state: State, instalment: Instalment, event: Event, beacon: bytes) -> None:
        """By the beacon after all verdicts were bound, and before any was shown."""
        task_id, number = instalment.task_id, instalment.number
        known = before.instalment(task_id, number)
        bound = [slot for slot in _others(known) if slot.state == VERIFICATION_COMMITTED]
        require(bound != [], "a watch was drawn while nobody had bound a verdict")
        working = any(slot.state == "drawn" for slot in _others(known))
        require(not working, "a watch was drawn while a verdict was open")
        shown = {finding.segment for slot in known.verifications for finding in slot.findings}
        require(event.get("segment") not in shown, "a segment is watched over which a verdict was shown")
        require(not any(slot.watch for slot in known.verifications), "a set of verifiers has two watches")
        place = (instalment.attempt * 64 + number).to_bytes(8, "little")
        draw = tagged_hash("gensyn/watch/1", beacon, task_id, place)
        chance = int.from_bytes(draw[:8], "little") * BASIS_POINTS >> 64
        require(chance < state.task(task_id).watch_bps, "a watch was drawn against its chance")
        claimed = [segment for slot in bound for segment in slot.segments if segment not in shown]
        expected = claimed[int.from_bytes(draw[8:24], "little") % len(claimed)]
        require(event.get("segment") == expected, "a watch's segment is not that of the beacon after the verdicts")
        parties = {instalment.solver, *(slot.verifier for slot in known.verifications)}
        require(event.get("verifier") not in parties, "a party of the instalment watches it")
        self.seen["a watch was drawn"] += 1
        self.seen["a watch was drawn before a forced error was shown"] += instalment.secret_pending

    def _counted(self, state: State, instalment: Instalment) -> None:
        """The window opens when verifiers have spoken, and most of them had the states."""
        shown = [slot for slot in _others(instalment) if slot.findings]
        blind = [slot for slot in shown if any(finding.verdict == m.UNAVAILABLE for finding in slot.findings)]
        enough = 2 * len(shown) > state.spec(instalment.task_id).verifiers
        require(enough, "a window opened without the verdicts of most verifiers")
        stand = [slot for slot in blind if all(finding.verdict != m.DISAGREED for finding in slot.findings)]
        require(not stand, "a window opened over segments that a verifier could not look at")
        missed = any(slot.watch and slot.state == "missed" for slot in instalment.verifications)
        self.seen["an instalment went on without its watch"] += missed

    def _paid(self, state: State, instalment: Instalment, nano: int) -> None:
        """What an instalment's verifiers and watch got is the price of what each approved, once."""
        task, spec = state.task(instalment.task_id), state.spec(instalment.task_id)
        due = sum(owed.fee_nano for owed in instalment.owed)
        for slot in instalment.verifications:
            if slot.state == VERIFICATION_PAID:
                approved = [finding for finding in slot.findings if finding.verdict == m.APPROVED]
                steps = sum(segment_span(spec, finding.segment)[1] for finding in approved)
                due += work_price(steps * task.gas_per_step, slot.price_nano)
                self.seen["a watch was paid"] += slot.watch and bool(approved)
        require(nano == due, f"verifiers and watch of an instalment were paid {nano} nano, their work is worth {due}")


def _others(instalment: Instalment) -> list[Verification]:
    return [slot for slot in instalment.verifications if not slot.watch]
