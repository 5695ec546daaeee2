"""Forced errors seen from outside: the draw by our own formula, every tax and jackpot by our own books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from consensus.ledger import messages as m
from consensus.ledger import queries
from consensus.ledger.block import BlockDelta, Event
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from consensus.ledger.records import OUTCOME_FORCED, Instalment
from consensus.ledger.view import State
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.hashing import tagged_hash
from tests.simulator.application import require

Place = tuple[bytes, int, int]
"""Task, instalment, attempt."""


@dataclass
class Draw:
    """One trial: an instalment of one attempt."""

    commit_height: int
    tax_nano: int
    approvers: tuple[bytes, ...] = ()
    """Who approved the error."""


@dataclass
class ForcedChecks:
    """All draws of a chain."""

    parameters: Parameters
    seen: Counter[str]
    draws: dict[Place, Draw] = field(default_factory=dict)
    taxes: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """(task, instalment) -> paid for a draw that has not been held."""
    slashed: set[tuple[bytes, bytes]] = field(default_factory=set)
    """(task, party) slashed for approving an error, or in a dispute."""

    def after_block(
        self,
        before: MemoryLedger,
        state: State,
        height: int,
        beacons: dict[int, bytes],
        applied: Sequence[tuple[bytes, m.Message]],
        delta: BlockDelta,
    ) -> None:
        """One block; `applied`: its messages that took effect, with their senders."""
        for event in delta.events:
            if event.kind == "tax_paid":
                self._taxed(event)
        for _, message in applied:
            if isinstance(message, m.CommitInstalment) and message.seal:
                self._sealed(state, message, height)
            elif isinstance(message, m.OpenInstalment) and message.instalment:
                pending = State(before).instalment(message.task_id, message.instalment - 1).secret_pending
                require(not pending, "an instalment was opened before the secret of the one before was known")
            elif isinstance(message, m.RevealSecret):
                self._shown(state, message, beacons)
        parties: Counter[bytes] = Counter()
        for event in delta.events:
            if event.kind == "slashed":
                parties[event.subject] += int(event.get("amount_nano") or 0)
        for event in delta.events:
            self._event(before, state, event, parties)
        self._jackpots(before, state, delta)

    # --- taxes and draws

    def _taxed(self, event: Event) -> None:
        place = (event.subject, int(event.get("instalment") or 0))
        self.taxes[place] = self.taxes.get(place, 0) + int(event.get("amount_nano") or 0)

    def _sealed(self, state: State, message: m.CommitInstalment, height: int) -> None:
        instalment = state.instalment(message.task_id, message.instalment)
        paid = self.taxes.pop((message.task_id, message.instalment), 0)
        require(
            instalment.tax_nano == paid, f"a draw counts {instalment.tax_nano} nano of tax, {paid} were paid for it"
        )
        self.draws[message.task_id, message.instalment, instalment.attempt] = Draw(height, paid)

    def _shown(self, state: State, message: m.RevealSecret, beacons: dict[int, bytes]) -> None:
        """Secret, and the beacon of the block after the commit, decide; nothing else does."""
        instalment = state.instalment(message.task_id, message.instalment)
        draw, segments = self.draws[_place(instalment)], len(instalment.segment_roots)
        place = encode((instalment.number, instalment.attempt))
        beacon = beacons[draw.commit_height + 1]
        drawn = tagged_hash("gensyn/forced-error/1", message.secret, beacon, message.task_id, place)
        rate = state.spec(message.task_id).forced_error_bps
        forced = int.from_bytes(drawn[:8], "little") * BASIS_POINTS < rate << 64
        position = int.from_bytes(drawn[8:24], "little") % segments
        outcome = (instalment.outcome, instalment.forced_segment - instalment.first_segment if forced else 0)
        require(
            outcome == ("forced" if forced else "right", position * forced),
            "a draw is not that of its secret and beacon",
        )
        self.seen[f"an instalment was drawn: {instalment.outcome}"] += 1
        if forced:
            draw.approvers = tuple(
                slot.verifier
                for slot in instalment.verifications
                for finding in slot.findings
                if (finding.segment, finding.verdict) == (instalment.forced_segment, m.APPROVED)
            )
            self.seen["a forced error was approved"] += bool(draw.approvers)

    # --- what follows

    def _event(self, before: MemoryLedger, state: State, event: Event, parties: Counter[bytes]) -> None:
        task_id, number = event.subject, event.get("instalment")
        if event.kind == "dispute_opened":
            record = state.dispute(event.subject)
            pending = state.instalment(record.task_id, record.instalment).secret_pending
            require(not pending, "a dispute opened before the secret was known")
        if event.kind == "slashed":
            self.slashed |= {
                (place[0], event.subject) for place, draw in self.draws.items() if event.subject in draw.approvers
            }
        if event.kind == "instalment_settled" and isinstance(number, int):
            instalment = state.instalment(task_id, number)
            if instalment.seal:
                require(instalment.outcome != "", "an instalment was settled without its secret")
                if instalment.outcome == OUTCOME_FORCED:
                    self._settled(instalment)
        if event.kind == "secret_withheld":
            self.seen["a secret was withheld"] += 1
        if event.kind == "solver_failed" and event.get("why") == "secret withheld":
            solver = bytes(event.get("solver") or b"")  # type: ignore[arg-type]
            lost, bond = parties.get(solver, 0), State(before).task(task_id).solver_bond_nano
            require(2 * lost >= bond, "a solver that withheld its secret kept most of its bond")

    def _settled(self, instalment: Instalment) -> None:
        require(instalment.second_round, "an instalment with a forced error was settled without a second look")
        for approver in self.draws[_place(instalment)].approvers:
            known = (instalment.task_id, approver) in self.slashed
            require(known, "a verifier that approved a forced error kept its bond")
            self.seen["who approved a forced error was slashed"] += 1

    def _jackpots(self, before: MemoryLedger, state: State, delta: BlockDelta) -> None:
        """J = a share of the draw's own tax over its chance, a third of the pool at most; J / 2^(n-1) each."""
        paid: dict[tuple[bytes, int], list[tuple[bytes, int]]] = {}
        for event in delta.events:
            if event.kind == "jackpot_paid":
                one = (bytes(event.get("claimant") or b""), int(event.get("amount_nano") or 0))  # type: ignore[arg-type]
                paid.setdefault((event.subject, int(event.get("instalment") or 0)), []).append(one)
        # What came into the pool within this block may have come before the payment.
        pool = queries.supply(before).jackpot_nano
        pool += sum(
            int(e.get("amount_nano") or 0) for e in delta.events if e.kind in ("slashed", "tax_paid", "stake_slashed")
        )
        for (task_id, number), shares in paid.items():
            instalment = state.instalment(task_id, number)
            draw, rate = self.draws[_place(instalment)], state.spec(task_id).forced_error_bps
            amounts = [amount for _, amount in shares]
            whole = draw.tax_nano * self.parameters.forced_payout_bps // rate
            tops = max(amounts) > whole >> (len(amounts) - 1)
            require(len(amounts) == 1 or not tops, "a share of a jackpot that several found is too large")
            most = f"the jackpots of one draw are {sum(amounts)} nano, its tax is worth {whole}"
            require(sum(amounts) <= whole, most)
            require(3 * sum(amounts) <= pool, f"jackpots of {sum(amounts)} nano out of a pool of {pool}")
            require(len({finder for finder, _ in shares}) == len(shares), "a finder was paid twice for one error")
            require(instalment.solver not in {finder for finder, _ in shares}, "a solver took its own jackpot")
            self.seen["a jackpot was paid"] += 1
            self.seen["a jackpot was shared"] += len(shares) > 1


def _place(instalment: Instalment) -> Place:
    return instalment.task_id, instalment.number, instalment.attempt
