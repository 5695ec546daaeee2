"""One task from its draw to its end: who gets, pays and loses what, by the ledger's rules (see the cross-check test).

Money is counted for each duty (one training, one verification, one challenge), costs included. The rules that are
called are the ledger's own: prices, bonds, penalties, the shares of a slashed bond. The order of events follows
`consensus.ledger`: verdicts by commit and reveal, disputes, the window, settlement; a solver that fails is replaced.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from consensus.ledger import schedule
from consensus.ledger.money import split_slash, work_price
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.costs import Fees, fees_of
from gensyn_node.economics.population import Population
from gensyn_node.economics.shape import Shape
from gensyn_node.economics.strategies import COALITION, HONEST, OUTSIDER, SOLVER, VERIFIER, Strategy

ATTEMPTS_MAX = 50
"""Solvers of one task, after which it is given up; with bad shares up to a third it never comes to that."""


@dataclass(slots=True)
class Duty:
    """What somebody earned by one thing that it did."""

    label: str
    agent: int
    profit_nano: int = 0
    harm_nano: int = 0
    """What it cost honest others."""


@dataclass(slots=True)
class Slot:
    """One verifier of an instalment."""

    duty: Duty
    act: str
    ask_nano: int
    bond_nano: int
    segments: tuple[int, ...]
    worked: bool = False
    approved: bool = False
    """It stands behind all its segments."""
    disagreed: int | None = None
    unavailable: bool = False
    revealed: bool = True
    slashed: bool = False
    fakes: frozenset[int] = frozenset()
    """Segments approved with evidence that is not the right one."""


@dataclass(slots=True)
class Work:
    """What a solver claims of one instalment."""

    bad: frozenset[int]
    done_bps: int
    """Of the cost of honest training."""
    served: bool = True


@dataclass(slots=True)
class Result:
    """How a task ended."""

    duties: list[Duty] = field(default_factory=list)
    settled: int = 0
    wrong: int = 0
    """Settled instalments that hold a bad segment."""
    attempts: int = 0
    submitter_nano: int = 0
    burnt_nano: int = 0
    jackpot_nano: int = 0
    work_gas: int = 0
    """Spent on training that counted."""
    check_gas: int = 0
    """Spent on re-executing, whoever paid for it."""


class Play:
    """One task after the other, with one crowd of agents and one set of rules."""

    def __init__(
        self,
        population: Population,
        shape: Shape,
        parameters: Parameters,
        assumptions: Assumptions,
        rng: random.Random,
    ) -> None:
        self.population, self.shape, self.parameters = population, shape, parameters
        self.assumptions, self.rng = assumptions, rng
        self.fees: Fees = fees_of(shape, parameters)
        self.cheating_solvers = [i for i, one in enumerate(population.strategies) if one.counts in (SOLVER, COALITION)]
        self.griefers = [i for i, one in enumerate(population.strategies) if one.counts == OUTSIDER]
        self.result = Result()

    # --- helpers

    def _strategy(self, agent: int) -> Strategy:
        return self.population.strategies[agent]

    def _ask(self, agent: int) -> int:
        return self.population.providers[agent].ask_price_nano

    def _segment_cost(self, agent: int) -> int:
        return self.assumptions.cost_of(self.shape.segment_price(self._ask(agent)))

    def _check_cost(self, agent: int, segments: int) -> int:
        self.result.check_gas += segments
        return segments * self._segment_cost(agent) * self.assumptions.verify_cost_bps // BASIS_POINTS

    def _duty(self, agent: int, role: str, solver: Duty | None = None) -> Duty:
        """A new duty. What a coalition does for others' tasks counts as honest where it is."""
        strategy = self._strategy(agent)
        alone = (
            solver is not None and strategy.verifier in (HONEST, "collude", "leak") and solver.label != strategy.name
        )
        if strategy.counts == role or (strategy.counts == COALITION and not alone):
            label = strategy.name
        else:
            label = f"honest {'whistleblower' if role == OUTSIDER else role}"
        duty = Duty(label, agent)
        self.result.duties.append(duty)
        return duty

    def _slash(self, loser: Duty, amount: int, winner: Duty | None, wanted: tuple[tuple[Duty, int], ...] = ()) -> None:
        split = split_slash(
            self.parameters, amount, has_winner=winner is not None, wanted=tuple(nano for _, nano in wanted)
        )
        loser.profit_nano -= amount
        if winner is not None:
            winner.profit_nano += split.winner_nano
        for (duty, _), nano in zip(wanted, split.compensated_nano, strict=True):
            duty.profit_nano += nano
        self.result.jackpot_nano += split.jackpot_nano
        self.result.burnt_nano += split.burnt_nano

    def _penalty(self, bond_nano: int) -> int:
        return bond_nano * self.parameters.miss_slash_bps // BASIS_POINTS

    def _dispute_cost(self, agent: int) -> int:
        return self.assumptions.moves * self.fees.move + self._check_cost(agent, 1)

    def _locked(self, bond_nano: int) -> int:
        verifiers = self.shape.verifiers * schedule.verifier_bond(bond_nano, self.parameters)
        return bond_nano + verifiers + self.shape.spec.max_price_nano

    # --- a task

    def task(self, cheat_first: bool = False) -> Result:
        """Play one task. `cheat_first`: its first solver is drawn among those who cheat as solvers, if any do."""
        result = self.result = Result()
        shape = self.shape
        gone: set[int] = set()
        while result.settled < shape.instalments and result.attempts < ATTEMPTS_MAX:
            among = self.cheating_solvers if cheat_first and not gone else None
            drawn = self.population.draw(1, gone, self.rng, among)
            result.attempts += 1
            if not drawn:
                break
            gone.add(drawn[0])
            self._attempt(drawn[0], gone)
        paid = result.submitter_nano
        value = shape.price_nano * self.assumptions.value_bps // BASIS_POINTS
        worth = value * (result.settled - result.wrong) // shape.instalments
        blocks = shape.instalments * self._instalment_blocks()
        result.submitter_nano = worth + paid - self.fees.submit
        result.submitter_nano -= self.assumptions.capital(shape.spec.max_price_nano, blocks)
        result.work_gas = result.settled * shape.segments // shape.instalments
        return result

    def _instalment_blocks(self) -> int:
        gas = schedule.train_gas(self.shape.spec, self.shape.gas_per_step) // self.shape.instalments
        return gas // self.parameters.train_gas_per_block + self.parameters.window_blocks

    def _attempt(self, solver: int, gone: set[int]) -> None:
        shape, parameters, result = self.shape, self.parameters, self.result
        act = self._strategy(solver).solver
        duty = self._duty(solver, SOLVER)
        bond = schedule.solver_bond(shape.spec, shape.gas_per_step, self._ask(solver), parameters)
        if act == "idle":
            self._slash(duty, self._penalty(min(bond, parameters.solver_bond_min_nano)), None)
            duty.harm_nano += self.assumptions.capital(shape.spec.max_price_nano, parameters.start_blocks)
            return
        duty.profit_nano -= self.fees.start
        for number in range(result.settled, shape.instalments):
            if act == "desert":
                self._slash(duty, self._penalty(bond), None)
                blocks = shape.train_blocks(parameters)
                duty.harm_nano += self.assumptions.capital(shape.spec.max_price_nano, blocks)
                return
            segments = len(schedule.instalment_segments(shape.spec, number))
            work = self._work(act, segments)
            duty.profit_nano -= segments * self._segment_cost(solver) * work.done_bps // BASIS_POINTS
            duty.profit_nano -= self.fees.commit + self.assumptions.capital(bond, self._instalment_blocks())
            if not self._instalment(number, segments, duty, bond, work, gone):
                return
            price = schedule.instalment_steps(shape.spec, number)[1] * shape.gas_per_step
            paid = work_price(price, self._ask(solver))
            duty.profit_nano += paid
            result.submitter_nano -= paid
            result.settled += 1
            result.wrong += bool(work.bad)

    def _work(self, act: str, segments: int) -> Work:
        everything, rng = frozenset(range(segments)), self.rng
        saving = self.assumptions
        match act:
            case "one" | "self":
                return Work(frozenset((rng.randrange(segments),)), BASIS_POINTS - BASIS_POINTS // segments)
            case "tenth":
                count = max(1, segments // 10)
                return Work(
                    frozenset(rng.sample(range(segments), count)), BASIS_POINTS - BASIS_POINTS * count // segments
                )
            case "stale":
                return Work(frozenset(range(segments // 2, segments)), BASIS_POINTS * (segments // 2) // segments)
            case "all" | "copy":
                return Work(everything, 0)
            case "data":
                return Work(everything, BASIS_POINTS - saving.wrong_data_saving_bps)
            case "precision":
                return Work(everything, BASIS_POINTS - saving.low_precision_saving_bps)
            case "withhold":
                return Work(everything, 0, served=False)
            case _:
                return Work(frozenset(), BASIS_POINTS)

    # --- an instalment

    def _instalment(self, number: int, segments: int, solver: Duty, bond: int, work: Work, gone: set[int]) -> bool:
        """Verify, challenge, settle the verifiers; whether the instalment stands."""
        out = set(gone)
        for _ in range(2):
            slots = self._drawn(number, segments, solver, bond, out)
            for slot in slots:
                self._examine(slot, solver, work)
            revealed = [slot for slot in slots if slot.revealed]
            blind = sum(slot.unavailable for slot in revealed)
            if 2 * blind <= len(revealed) and revealed:
                break
            for slot in revealed:  # released without pay; a second set tries
                self._blame_blind(slots, slot, work)
        else:
            self._slash(solver, self._penalty(bond), None)
            solver.harm_nano += 0 if work.served else 2 * len(slots) * self.fees.verdict + self._delay(bond)
            if work.served:
                lost = segments * self._segment_cost(solver.agent) + self._penalty(bond)
                liars = [slot.duty for slot in slots if slot.act == "blind"]
                for duty in liars[:1]:
                    duty.harm_nano += lost
            return False
        return self._verdicts(number, segments, solver, bond, work, revealed)

    def _blame_blind(self, slots: list[Slot], slot: Slot, work: Work) -> None:
        """An honest verifier whose set is released for nothing worked in vain."""
        liars = [other.duty for other in slots if other.act == "blind"]
        if slot.worked and liars:
            liars[0].harm_nano += self._segment_cost(slot.duty.agent) * len(slot.segments)

    def _drawn(self, number: int, segments: int, solver: Duty, bond: int, out: set[int]) -> list[Slot]:
        """The verifiers; who stays silent is replaced."""
        parameters, shape, slots = self.parameters, self.shape, list[Slot]()
        verifier_bond = schedule.verifier_bond(bond, parameters)
        samples = schedule.samples_of(shape.spec, number)
        for _ in range(parameters.verifier_draws_max):
            silent = 0
            for agent in self.population.draw(shape.verifiers - len(slots), out, self.rng):
                out.add(agent)
                duty = self._duty(agent, VERIFIER, solver)
                if self._strategy(agent).verifier == "silent":
                    silent += 1
                    self._slash(duty, self._penalty(verifier_bond), None)
                    blocks = schedule.verify_blocks(shape.spec, shape.gas_per_step, parameters)
                    duty.harm_nano += self.assumptions.capital(self._locked(bond), blocks)
                    continue
                drawn = tuple(self.rng.sample(range(segments), samples))
                slots.append(Slot(duty, self._strategy(agent).verifier, self._ask(agent), verifier_bond, drawn))
            if not silent:
                break
        return slots

    def _friends(self, one: Duty, other: Duty) -> bool:
        return one.label == other.label and self._strategy(one.agent).counts == COALITION

    def _examine(self, slot: Slot, solver: Duty, work: Work) -> None:
        """What the verifier does and says."""
        duty, act = slot.duty, slot.act
        duty.profit_nano -= self.fees.verdict
        duty.profit_nano -= self.assumptions.capital(slot.bond_nano, self.parameters.window_blocks)
        friend = self._friends(duty, solver)
        if act in ("copy", "unrevealing"):
            duty.profit_nano += self.fees.verdict - self.fees.verdict_commit
            slot.revealed = False
            self._slash(duty, self._penalty(slot.bond_nano), None)
        elif act == "lazy":
            slot.approved, slot.fakes = True, frozenset(slot.segments)
        elif act == "blind":
            slot.unavailable = True
        elif act == "lie":
            slot.disagreed = slot.segments[0]
        elif act == "collude" and friend:
            slot.approved, slot.fakes = True, work.bad & frozenset(slot.segments)
        elif act == "leak" and friend:
            slot.approved = True
        elif not work.served:
            slot.unavailable = True
        else:
            slot.worked = True
            duty.profit_nano -= self._check_cost(duty.agent, len(slot.segments))
            found = [segment for segment in slot.segments if segment in work.bad]
            slot.disagreed = min(found) if found else None
            slot.approved = not found

    def _verdicts(self, number: int, segments: int, solver: Duty, bond: int, work: Work, slots: list[Slot]) -> bool:
        for slot in slots:
            if slot.disagreed is None:
                continue
            slot.duty.profit_nano -= self.assumptions.moves * self.fees.move
            solver.profit_nano -= self._dispute_cost(solver.agent) if slot.disagreed not in work.bad else 0
            if slot.disagreed in work.bad:
                self._solver_wrong(solver, bond, work.bad, slot.disagreed, slot.duty, slots)
                return False
            slot.duty.harm_nano += self._dispute_cost(solver.agent) + self._delay(bond)
            slot.slashed = True
            self._slash(slot.duty, slot.bond_nano, solver)
        return self._window(number, segments, solver, bond, work, slots)

    def _delay(self, bond: int) -> int:
        """What a dispute's usual length costs those whose money waits."""
        return self.assumptions.capital(self._locked(bond), self.parameters.move_clock_blocks)

    def _solver_wrong(
        self,
        solver: Duty,
        bond: int,
        bad: frozenset[int],
        segment: int,
        winner: Duty,
        slots: list[Slot],
        doubted: tuple[Slot, ...] = (),
    ) -> None:
        """The ledger's `settlement.solver_wrong`: who was right is compensated, who approved the claim is not paid."""
        owed = []
        for slot in slots:
            if slot in doubted or slot.slashed or (slot.approved and segment in slot.segments):
                continue
            right = len(slot.segments) if slot.approved else 0
            if slot.disagreed is not None:
                right = sum(s == segment or s not in bad for s in slot.segments)
            owed.append((slot.duty, right * self.shape.segment_price(slot.ask_nano)))
        self._slash(solver, bond, winner, tuple(owed))

    # --- the window

    def _window(self, number: int, segments: int, solver: Duty, bond: int, work: Work, slots: list[Slot]) -> bool:
        approving = [slot for slot in slots if slot.approved and not slot.slashed]
        accused = self._cross_check(approving)
        finder, segment = self._challenged(solver, work, approving, segments)
        if finder is not None and segment in work.bad:
            finder.profit_nano -= self.fees.challenge + self.assumptions.moves * self.fees.move
            self._solver_wrong(solver, bond, work.bad, segment, finder, slots, tuple(slot for slot, _ in accused))
            return False
        for slot, challenger in accused:
            self._evidence_wrong(slot, challenger)
        if finder is not None:
            for slot in approving:
                if segment in slot.fakes and not slot.slashed:
                    self._evidence_wrong(slot, finder)
                    break
        self._outsiders(solver, bond, approving)
        for slot in slots:
            if slot.approved and not slot.slashed:
                fee = work_price(
                    len(slot.segments) * self.shape.spec.segment_steps * self.shape.gas_per_step, slot.ask_nano
                )
                slot.duty.profit_nano += fee
                self.result.submitter_nano -= fee
        return True

    def _evidence_wrong(self, slot: Slot, challenger: Duty) -> None:
        challenger.profit_nano -= self.fees.challenge + self.assumptions.moves * self.fees.move
        if not slot.slashed:
            slot.slashed = True
            self._slash(slot.duty, slot.bond_nano, challenger)

    def _cross_check(self, slots: list[Slot]) -> list[tuple[Slot, Duty]]:
        """(accused, challenger) of every honest verifier that drew a segment for which another made evidence up."""
        accused = []
        for slot in slots:
            if not slot.worked:
                continue
            for other in slots:
                if other is not slot and other.fakes & frozenset(slot.segments):
                    accused.append((other, slot.duty))
                    break
        return accused

    def _challenged(self, solver: Duty, work: Work, approving: list[Slot], segments: int) -> tuple[Duty | None, int]:
        """Who looks from outside, and at which segment."""
        if self._strategy(solver.agent).solver == "self":
            accomplice = Duty(solver.label, solver.agent)
            self.result.duties.append(accomplice)
            return accomplice, min(work.bad)
        if self.rng.randrange(BASIS_POINTS) >= self.assumptions.audit_bps:
            return None, -1
        approved = sorted({segment for slot in approving for segment in slot.segments})
        taken = {solver.agent, *(slot.duty.agent for slot in approving)}
        watcher = self.population.draw(1, taken, self.rng)[0]
        if not approved or self._strategy(watcher).counts:
            return None, -1
        duty = self._duty(watcher, OUTSIDER)
        duty.profit_nano -= self._check_cost(watcher, 1)
        return duty, self.rng.choice(approved)

    def _outsiders(self, solver: Duty, bond: int, approving: list[Slot]) -> None:
        """False challenges against right work, by griefers or by the solver's own accomplice."""
        if self._strategy(solver.agent).outsider == "own":
            accomplice = Duty(solver.label, solver.agent)
            self.result.duties.append(accomplice)
            self._false_challenge(accomplice, "own", solver, bond)
        elif self.griefers and self._strategy(solver.agent).counts != OUTSIDER:
            griefer = self.rng.choice(self.griefers)
            if all(slot.duty.agent != griefer for slot in approving):
                self._false_challenge(self._duty(griefer, OUTSIDER), self._strategy(griefer).outsider, solver, bond)

    def _false_challenge(self, challenger: Duty, act: str, solver: Duty, bond: int) -> None:
        challenge_bond, locked = schedule.verifier_bond(bond, self.parameters), self._locked(bond)
        if act == "announce":
            challenger.profit_nano -= self.fees.announce
            self._slash(challenger, self._penalty(challenge_bond), None)
            challenger.harm_nano += self.assumptions.capital(locked, self.parameters.reveal_blocks)
            return
        moves = self.assumptions.moves if act != "stall" else 0
        challenger.profit_nano -= self.fees.challenge + moves * self.fees.move
        cost = self._dispute_cost(solver.agent)
        solver.profit_nano -= cost
        blocks = schedule.game_blocks_max(self.parameters) if act == "stall" else self.parameters.move_clock_blocks
        challenger.harm_nano += cost + self.assumptions.capital(locked, blocks)
        self._slash(challenger, challenge_bond, solver)
