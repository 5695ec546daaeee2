"""The ledger's promises, checked after every block from outside: from blocks, results, events and what is stored.

`LedgerChecks` follows one chain and keeps books of its own (nonces, clocks, traders' balances, stake, windows), so that
a mistake in the ledger's books cannot excuse itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consensus.ledger import keys, life, queries, staking
from consensus.ledger import messages as m
from consensus.ledger.block import BlockContext, BlockDelta, Event, Misbehaviour, TransactionResult
from consensus.ledger.fees import least_fee
from consensus.ledger.invariants import check_invariants
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from consensus.ledger.reasons import BAD_NONCE, BLOCK_FULL, FEE_TOO_LOW, INSUFFICIENT_FUNDS
from consensus.ledger.records import (
    DISPUTE_EVIDENCE,
    DISPUTE_MOOT,
    INSTALMENT_UNSERVED,
    INSTALMENT_UNVERIFIABLE,
    TASK_ENDED,
    TURN_CHALLENGER,
    TURN_DEFENDER,
    VERIFICATION_MISSED,
    Instalment,
)
from consensus.ledger.schedule import task_end_bound
from consensus.ledger.stake_records import Unbonding, ValidatorRecord
from consensus.ledger.view import State
from consensus.pool import account_of
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import Rejection
from proofs.sampling import draw_segments
from tests.simulator.application import require
from tests.simulator.ledger.dispute_checks import DisputeChecks
from tests.simulator.ledger.forced_checks import ForcedChecks
from tests.simulator.ledger.watch_checks import WatchChecks

FORCED = ("secret withheld", "approved a forced error")
"""Reasons that an honest party is slashed for only when it was kept from acting."""
MISSES = ("solver missed its time", "verifier missed its time", "challenge not revealed", "the states were not served")
"""Reasons of the small slash: nobody claims that the party lied."""


class Surroundings(Protocol):
    """What the checks ask of whoever runs the schedule."""

    def is_honest(self, provider: bytes) -> bool:
        """Whether this provider follows the protocol in everything."""

    def hindered(self, account: bytes, height: int) -> bool:
        """Whether its transactions were kept out for longer than the protocol's grace, or it slept."""

    def could_not(self, provider: bytes, task_id: bytes) -> bool:
        """Whether the provider asked for states of the task that nobody serves."""


def _applied(transactions: Sequence[bytes], delta: BlockDelta) -> list[tuple[bytes, m.Message]]:
    """(sender, message) of the block's messages that took effect."""
    found = []
    for data, result in zip(transactions, delta.results, strict=True):
        if result.applied:
            transaction = m.decode_transaction(data)
            found.append((transaction.sender_address, transaction.message))
    return found


@dataclass
class LedgerChecks:
    """One chain's books."""

    parameters: Parameters
    world: Surroundings
    balances: dict[bytes, int]
    """Accounts that only trade among themselves -> what they have by our own books."""
    seen: Counter[str] = field(default_factory=Counter)
    beacons: dict[int, bytes] = field(default_factory=dict)
    nonces: Counter[bytes] = field(default_factory=Counter)
    ended: set[bytes] = field(default_factory=set)
    settled: set[tuple[bytes, int]] = field(default_factory=set)
    windows: dict[tuple[bytes, int], int] = field(default_factory=dict)
    solvers: dict[bytes, set[bytes]] = field(default_factory=dict)
    tombstoned: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """Validator -> (height of its earliest known offence, height at which it was punished)."""
    powers: dict[bytes, int] = field(default_factory=dict)
    commitments: dict[tuple[bytes, ...], bytes] = field(default_factory=dict)
    shown: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    """(task, commitment) -> the verifier that showed what is behind it."""

    refused: dict[tuple[bytes, int, int], Counter[tuple[int, ...]]] = field(default_factory=dict)
    """(task, instalment, attempt) -> for drawn segments, how often verifiers said that their states cannot be had."""

    def __post_init__(self) -> None:
        self.disputes = DisputeChecks(self.parameters, self.seen)
        self.forced = ForcedChecks(self.parameters, self.seen)
        self.watch = WatchChecks(self.seen)

    def genesis(self, delta: BlockDelta, ledger: MemoryLedger) -> None:
        """The first state."""
        self._follow_powers(delta, ledger)

    def after_block(
        self,
        before: MemoryLedger,
        ledger: MemoryLedger,
        context: BlockContext,
        transactions: Sequence[bytes],
        delta: BlockDelta,
    ) -> None:
        """One block: the ledger before and after it, what it was made of, what it did."""
        height, state = context.height, State(ledger)
        self.beacons[height] = context.beacon
        check_invariants(ledger.items(), height)
        self._money(before, ledger, context, delta)
        for data, result in zip(transactions, delta.results, strict=True):
            self._transaction(ledger, before, data, result)
        for sender in self.nonces:
            stored = account_of(ledger, sender).nonce
            require(stored == self.nonces[sender], f"a nonce is {stored}, {self.nonces[sender]} were used")
        for account, balance in self.balances.items():
            stored = account_of(ledger, account).balance_nano
            require(stored == balance, f"a trader has {stored} nano, by its own books {balance}")
        self.disputes.begin_block()
        for event in delta.events:
            self._event(state, event, height)
            self.disputes.on_event(event, height)
        self._slashes(state, delta, height)
        self._escapes(state, delta)
        self.disputes.after_block(state, height)
        self.forced.after_block(before, state, height, self.beacons, _applied(transactions, delta), delta)
        self.watch.after_block(before, state, context.beacon, delta)
        self._tasks(state, height)
        self._follow_powers(delta, ledger)

    # --- money

    def _money(self, before: MemoryLedger, ledger: MemoryLedger, context: BlockContext, delta: BlockDelta) -> None:
        old, new = queries.supply(before), queries.supply(ledger)
        grown = new.minted_nano - old.minted_nano
        require(0 <= grown <= self.parameters.block_reward_nano, f"{grown} nano were minted in one block")
        taken = [int(event.get("amount_nano") or 0) for event in delta.events if event.kind == "slashed"]
        compensated = any(
            event.kind == "solver_slashed" or event.get("why") == "secret withheld" for event in delta.events
        )
        gone = new.burnt_nano - old.burnt_nano + new.jackpot_nano - old.jackpot_nano
        for event in delta.events:  # Taxes and jackpots go through the pool and are no part of what is slashed.
            amount = int(event.get("amount_nano") or 0)
            gone += amount * ((event.kind == "jackpot_paid") - (event.kind == "tax_paid"))
        share = self.parameters.jackpot_bps
        if not compensated:
            share = BASIS_POINTS - self.parameters.winner_bps
        least = sum(amount * share // BASIS_POINTS for amount in taken)
        require(gone >= least, f"of {sum(taken)} nano slashed only {gone} left the parties: self-dealing pays")
        for misbehaviour in context.misbehaviours:
            self._punished(State(before), delta, misbehaviour, context.height)
        self._paid_out(before, delta, context.height)
        self._share_prices(before, ledger, delta)

    def _punished(self, before: State, delta: BlockDelta, misbehaviour: Misbehaviour, height: int) -> None:
        """Whoever voted twice loses the share of its stake and its place, once."""
        validator = misbehaviour.validator
        record = before.find(keys.validator(validator), ValidatorRecord)
        if record is None:
            return
        found = [e for e in delta.events if e.kind == "validator_tombstoned" and e.subject == validator]
        offence, punished = self.tombstoned.get(validator, (misbehaviour.height, height))
        self.tombstoned[validator] = (min(offence, misbehaviour.height), punished)
        require(len(found) == (punished == height), "one offence was punished twice, or never")
        if found:
            self.seen["a validator was tombstoned"] += 1
            slashed = [
                int(event.get("amount_nano") or 0)
                for event in delta.events
                if event.kind == "stake_slashed"
                and event.subject == validator
                and event.get("why") == misbehaviour.kind
            ]
            expected = record.stake_nano * self.parameters.equivocation_slash_bps // BASIS_POINTS
            require(slashed == [expected], f"of {record.stake_nano} nano {slashed} were slashed for voting twice")

    def _paid_out(self, before: MemoryLedger, delta: BlockDelta, height: int) -> None:
        """Stake that left is paid out in full, less what it answers for."""
        expected: list[tuple[bytes, int]] = []
        for key, data in before.items():
            if key.startswith(b"unbonding/"):
                entry: Unbonding = decode(Unbonding, data, max_bytes=len(data))
                if entry.release_height == height:
                    expected.append((entry.owner, entry.amount_nano - self._owed(entry)))
        paid = [
            (event.subject, int(event.get("amount_nano") or 0)) for event in delta.events if event.kind == "paid_out"
        ]
        require(sorted(paid) == sorted(expected), "leaving stake was paid out as it should not have been")

    def _share_prices(self, before: MemoryLedger, ledger: MemoryLedger, delta: BlockDelta) -> None:
        """Who comes and goes takes nothing from who stays: only a slash makes a share worth less."""
        slashed = {event.subject for event in delta.events if event.kind == "stake_slashed"}
        old = {record.address: record for record in queries.validators(before)}
        for record in queries.validators(ledger):
            known = old.get(record.address)
            if known is not None and known.shares and record.shares and record.address not in slashed:
                fair = record.stake_nano * known.shares >= known.stake_nano * record.shares
                require(fair, "a share of a validator's stake lost worth without a slash")

    def _owed(self, entry: Unbonding) -> int:
        offence, punished = self.tombstoned.get(entry.validator, (0, 0))
        if not punished or entry.start_height >= punished or entry.start_height + 2 <= offence:
            return 0
        self.seen["leaving stake was slashed"] += 1
        return entry.amount_nano * self.parameters.equivocation_slash_bps // BASIS_POINTS

    def _transaction(self, ledger: MemoryLedger, before: MemoryLedger, data: bytes, result: TransactionResult) -> None:
        try:
            transaction = m.decode_transaction(data)
        except Rejection:
            require(result.fee_nano == 0 and not result.applied, "undecodable bytes were applied or charged")
            return
        sender = transaction.sender_address
        counts = transaction.nonce == self.nonces[sender] and result.code != BLOCK_FULL.code
        if counts and result.code == INSUFFICIENT_FUNDS.code and result.fee_nano == 0:
            have = self.balances.get(sender, 0)
            require(have < transaction.fee_nano, f"an account with {have} nano did not pay its fee")
            counts = False
        if counts and result.code == FEE_TOO_LOW.code:
            least = least_fee(transaction.message, len(data), queries.parameters(before))
            require(transaction.fee_nano < least, f"a fee of {transaction.fee_nano} is said to be below {least}")
            self.seen["a transaction came under a higher least fee"] += 1
            counts = False
        if not counts:
            require(result.fee_nano == 0 and not result.applied, f"nonce {transaction.nonce} took effect out of order")
            self.seen["a replayed transaction was refused"] += result.code == BAD_NONCE.code
            return
        require(result.fee_nano == transaction.fee_nano, f"the fee is {transaction.fee_nano}, paid {result.fee_nano}")
        self.nonces[sender] += 1
        if sender in self.balances:
            self.balances[sender] -= transaction.fee_nano
        message = transaction.message
        if result.applied:
            self._applied(sender, message)
        else:
            self.seen[f"refused {result.code}"] += 1

    def _applied(self, sender: bytes, message: m.Message) -> None:
        match message:
            case m.Transfer(to, amount) if sender in self.balances:
                self.balances[sender] -= amount
                self.balances[to] += amount
            case m.VerdictCommit(task_id, instalment, attempt, commitment):
                self.commitments[b"verdict", sender, task_id, b"%d/%d" % (instalment, attempt)] = commitment
            case m.VerdictReveal(task_id, instalment, attempt, findings, initial, salt):
                known = self.commitments[b"verdict", sender, task_id, b"%d/%d" % (instalment, attempt)]
                fields = (sender, task_id, instalment, attempt, findings, initial, salt)
                require(m.verdict_commitment(*fields) == known, "a verdict was shown that is not the one committed to")
                first = self.shown.setdefault((task_id, known), sender)
                require(first == sender, "a verdict counted that was copied from another verifier")
            case m.OpenChallengeCommit(task_id, instalment, commitment):
                self.commitments[b"challenge", sender, task_id, b"%d" % instalment] = commitment
            case m.OpenChallengeReveal(task_id, challenge, salt):
                number = 0 if isinstance(challenge, m.InitialChallenge) else challenge.instalment
                known = self.commitments[b"challenge", sender, task_id, b"%d" % number]
                shown = m.challenge_commitment(sender, task_id, challenge, salt)
                require(shown == known, "a challenge was shown that is not the one committed to")

    def _follow_powers(self, delta: BlockDelta, ledger: MemoryLedger) -> None:
        """What consensus was told is what the stakes are worth."""
        disputing = any(not clock.over for clock in self.disputes.clocks.values())
        self.seen["the validator set changed during a dispute"] += bool(delta.validator_updates) and disputing
        for update in delta.validator_updates:
            self.powers[update.public_key] = update.power
        state = State(ledger)
        able = 0
        for record in queries.validators(ledger):
            own = staking.own_nano(state, record)
            able += not (record.tombstoned or record.jailed_height or own < self.parameters.stake_min_nano)
        for record in queries.validators(ledger):
            told, own = self.powers.get(record.public_key, 0), staking.own_nano(state, record)
            out = record.tombstoned or record.jailed_height or own < self.parameters.stake_min_nano
            if able:
                power = 0 if out else record.stake_nano // self.parameters.power_unit_nano
                require(told == power, f"a validator's power is {told}, its stake is worth {power}")
        require(sum(self.powers.values()) > 0, "nobody has voting power")

    # --- tasks

    def _tasks(self, state: State, height: int) -> None:
        for task_id in self.solvers.keys() - self.ended:
            task = state.task(task_id)
            require(task.state not in TASK_ENDED, "a task ended without saying so")
            for number in life.unsettled(task):
                waits = state.instalment(task_id, number).state in (INSTALMENT_UNSERVED, INSTALMENT_UNVERIFIABLE)
                self.seen["an instalment waited for a dispute before it failed"] += waits
            bound = task_end_bound(state.spec(task_id), task.gas_per_step, self.parameters, task.fetch_blocks)
            require(
                height <= task.submitted_height + bound, f"a task is {task.state} after its bound of {bound} blocks"
            )

    def _event(self, state: State, event: Event, height: int) -> None:
        subject, kind = event.subject, event.kind
        number = event.get("instalment")
        place = (subject, number if isinstance(number, int) else -1)
        if kind.startswith("instalment_") or kind == "verifier_drawn":
            require(subject not in self.ended, f"{kind} after the task's end")
        match kind:
            case "task_submitted":
                self.solvers[subject] = set()
            case "task_assigned":
                self.seen["a solver was replaced"] += bool(self.solvers[subject])
                self.seen["a solver resumed after a settled instalment"] += state.task(subject).settled > 0
                self.solvers[subject].add(bytes(event.get("solver") or b""))  # type: ignore[arg-type]
                require(height > state.task(subject).submitted_height, "a solver was drawn by a beacon known before")
            case "task_ended":
                require(subject not in self.ended, "a task ended twice")
                self.ended.add(subject)
                self.seen[f"task {event.get('state')}"] += 1
            case "instalment_window":
                self.windows[place] = int(event.get("due_height") or 0)
            case "instalment_drawing":
                self.windows.pop(place, None)
                self.seen["all verifiers of an instalment missed"] += self._all_missed(state, place)
            case "instalment_settled":
                require(place not in self.settled, "an instalment was settled twice")
                require(height > self.windows.get(place, height), "an instalment was settled before its window ended")
                self.settled.add(place)
            case "verifier_drawn":
                self._drawn(state.instalment(*place), bytes(event.get("verifier") or b""), height)  # type: ignore[arg-type]
            case "states_unavailable":
                self.seen["others looked for states that could not be had"] += 1
                one = state.instalment(*place)
                refused = self.refused.setdefault((*place, one.attempt), Counter())
                refused.update({each.segments: 1 for each in one.refused})
            case "task_cancelled":
                task = state.task(subject)
                self.seen["a task was cancelled while it was verified"] += task.committed > task.settled
            case (
                "challenge_moot"
                | "task_unverifiable"
                | "provider_paused"
                | "dispute_joined"
                | "validator_jailed"
                | "validator_unjailed"
                | "delegated"
                | "undelegated"
                | "rewards_withdrawn"
                | "parameter_changed"
                | "proposal_enacted"
            ):
                self.seen[kind] += 1
            case "dispute_opened":
                task_id = bytes(event.get("task") or b"")  # type: ignore[arg-type]
                record = state.dispute(subject)
                self.seen[f"dispute over {event.get('kind')}"] += 1
                at_once = state.instalment(task_id, record.instalment).open_disputes
                self.seen["two disputes over one instalment at once"] += len(at_once) > 1
            case "dispute_moved":
                self.seen["a sample was opened"] += event.get("move") == "OpenSample"

    def _all_missed(self, state: State, place: tuple[bytes, int]) -> bool:
        slots = state.instalment(*place).verifications
        return bool(slots) and all(slot.state == VERIFICATION_MISSED for slot in slots)

    def _drawn(self, instalment: Instalment, verifier: bytes, height: int) -> None:
        """Who verifies, and what, comes from a beacon that nobody knew at the commit."""
        require(height > instalment.commit_height, "a verifier was drawn by a beacon known at the commit")
        require(verifier != instalment.solver, "a solver verifies itself")
        for slot in instalment.verifications:
            if slot.verifier == verifier and slot.drawn_height == height:
                count = len(instalment.segment_roots)
                fields = (self.beacons[height], instalment.task_id, verifier, len(slot.segments), count)
                drawn = tuple(instalment.first_segment + segment for segment in draw_segments(*fields))
                before = self.refused.get((instalment.task_id, instalment.number, instalment.attempt), Counter())
                again = 0 < slot.refusals <= before[slot.segments]
                require(
                    again or drawn == slot.segments,
                    "a verifier's segments are not those of the beacon after the commit",
                )
                self.seen["a verifier was redrawn"] += bool(instalment.missed)

    # --- who was slashed

    def _slashes(self, state: State, delta: BlockDelta, height: int) -> None:
        task_of_miss = {
            event.get("solver"): event.subject for event in delta.events if event.kind in ("solver_timed_out",)
        }
        for event in delta.events:
            if event.kind != "slashed":
                continue
            why, party = str(event.get("why")), event.subject
            self.seen[f"slashed: {why}"] += 1
            if not self.world.is_honest(party):
                continue
            if why in FORCED:
                excused = self.world.hindered(party, height) or self._could_not_open(state, party)
            elif why in MISSES:
                task_id = task_of_miss.get(party)
                excused = self.world.hindered(party, height) or (
                    task_id is not None and self.world.could_not(party, task_id)
                )
                excused = excused or (why == MISSES[3] and self._outvoted(state, delta, party))
            else:
                excused = self._lost_by_hindrance(state, party, height)
            require(excused, f"an honest party was slashed at height {height}: {why}")
            self.seen["an honest party that was kept from acting was slashed"] += 1

    def _could_not_open(self, state: State, solver: bytes) -> bool:
        """Whether the party is the solver of a task whose states it could not have."""
        return any(self.world.could_not(solver, task_id) for task_id in self.solvers)

    def _escapes(self, state: State, delta: BlockDelta) -> None:
        """A solver that an honest party holds to be wrong is not let go by anything but another one's proof."""
        slashed = {event.subject for event in delta.events if event.kind == "solver_slashed"}
        for event in delta.events:
            if event.kind == "dispute_resolved" and event.get("outcome") == DISPUTE_MOOT:
                record = state.dispute(event.subject)
                finders = [c.address for c in record.challengers if self.world.is_honest(c.address)]
                if record.kind != DISPUTE_EVIDENCE and finders:
                    require(record.task_id in slashed, "a solver that an honest party had challenged got away")

    def _outvoted(self, state: State, delta: BlockDelta, solver: bytes) -> bool:
        """Whether only dishonest verifiers said that the honest solver's states cannot be had."""
        for event in delta.events:
            if event.kind == "solver_failed" and event.get("solver") == solver:
                task = state.task(event.subject)
                for number in range(task.settled, task.instalments):
                    instalment = State.find(state, keys.instalment(event.subject, number), Instalment)
                    for verifier in instalment.refusers if instalment else ():
                        if self.world.is_honest(verifier):
                            return False
        return True

    def _lost_by_hindrance(self, state: State, party: bytes, height: int) -> bool:
        """Whether a game about the party's work was lost now by an honest one that was kept from moving."""
        for dispute_id, by_clock in self.disputes.ended_now.items():
            record = state.dispute(dispute_id)
            parties = {slot.verifier for slot in state.instalment(record.task_id, record.instalment).verifications}
            losers = {TURN_DEFENDER: record.defender}
            lost = [challenger.address for challenger in record.challengers if challenger.lost]
            if lost:
                losers[TURN_CHALLENGER] = lost[-1]
            loser = losers.get(by_clock)
            concerned = party in parties | set(losers.values())
            if concerned and loser and self.world.is_honest(loser) and self.world.hindered(loser, height):
                return True
        return False
