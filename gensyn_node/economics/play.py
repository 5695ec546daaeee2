"""One task from its draw to its end: who gets, pays and loses what, by the ledger's rules (see the cross-check test).

Money is counted for each duty (one training, one verification, one challenge), costs included. The rules that are
called are the ledger's own: prices, bonds, penalties, the shares of a slashed bond. The order of events follows
`consensus.ledger`: verdicts by commit and reveal, disputes, the window, settlement; a solver that fails is replaced.
"""

from __future__ import annotations

from consensus.ledger import schedule
from consensus.ledger.jackpots import POOL_SHARE, share_nano
from consensus.ledger.money import split_slash, work_price
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.costs import Fees, fees_of
from gensyn_node.economics.fate import LOSES, WINS, Fate, Work
from gensyn_node.economics.population import Population
from gensyn_node.economics.shape import Shape
from gensyn_node.economics.strategies import COALITION, HONEST, OUTSIDER, SOLVER, VERIFIER, Strategy
from gensyn_node.economics.table import Duty, Result, Slot, Table
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

ATTEMPTS_MAX = 50
"""Solvers of one task, after which it is given up; with bad shares up to a third it never comes to that."""


class Play:
    """One task after the other, with one crowd of agents and one set of rules."""

    def __init__(
        self, population: Population, shape: Shape, parameters: Parameters, assumptions: Assumptions, fate: Fate
    ) -> None:
        self.population, self.shape, self.parameters = population, shape, parameters
        self.assumptions, self.fate = assumptions, fate
        self.fees: Fees = fees_of(shape, parameters)
        self.result = Result()
        self.rate_bps = shape.spec.forced_error_bps
        self.pool_nano = POOL_SHARE * SUPPLY_NANO_MAX
        """Of jackpots; it is taken to hold enough for a whole one."""
        self.tax_nano = 0
        """Of the instalment at hand: its solver pays it once more when it lets the instalment fall."""

    # --- helpers

    def _strategy(self, agent: int) -> Strategy:
        return self.population.strategies[agent]

    def _ask(self, agent: int) -> int:
        return self.population.providers[agent].ask_price_nano

    def _segment_cost(self, agent: int) -> int:
        return self.assumptions.cost_of(self.shape.segments_price(1, self._ask(agent)))

    def _check_cost(self, agent: int, segments: int) -> int:
        return segments * self._segment_cost(agent) * self.assumptions.verify_cost_bps // BASIS_POINTS

    def _duty(self, agent: int, role: str, solver: Duty | None = None, watch: bool = False) -> Duty:
        """A new duty. What a coalition does for others' tasks counts as honest where it is."""
        strategy = self._strategy(agent)
        alone = (
            solver is not None and strategy.verifier in (HONEST, "collude", "leak") and solver.label != strategy.name
        )
        if strategy.counts == role or (strategy.counts == COALITION and not alone):
            label = strategy.name
        else:
            label = f"honest {'whistleblower' if role == OUTSIDER or watch else role}"
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
        verifiers = self.shape.spec.verifiers * schedule.verifier_bond(bond_nano, self.parameters)
        return bond_nano + verifiers + self.shape.spec.max_price_nano

    # --- a task

    def task(self, cheat_first: bool = False) -> Result:
        """Play one task. `cheat_first`: its first solver is drawn among those who cheat as solvers, if any do."""
        result = self.result = Result()
        shape = self.shape
        gone: set[int] = set()
        self.taxed: set[int] = set()
        self.tax_nano = 0
        while result.settled < shape.spec.instalments and result.attempts < ATTEMPTS_MAX and not result.expired:
            solver = self.fate.solver(gone, cheat_first)
            if solver is None:
                break
            result.attempts += 1
            gone.add(solver)
            self._attempt(solver, gone)
        paid = result.submitter_nano
        value = shape.price_nano * self.assumptions.value_bps // BASIS_POINTS
        worth = value * (result.settled - result.wrong) // shape.spec.instalments
        blocks = shape.spec.instalments * self._instalment_blocks()
        result.submitter_nano = worth + paid - self.fees.submit
        result.submitter_nano -= self.assumptions.capital(shape.spec.max_price_nano, blocks)
        result.trained = result.settled * schedule.segment_count(shape.spec) // shape.spec.instalments
        return result

    def _instalment_blocks(self) -> int:
        gas = schedule.train_gas(self.shape.spec, self.shape.gas_per_step) // self.shape.spec.instalments
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
        for number in range(result.settled, shape.spec.instalments):
            if act == "desert":
                self._slash(duty, self._penalty(bond), None)
                blocks = schedule.train_blocks(shape.spec, shape.gas_per_step, number, parameters)
                duty.harm_nano += self.assumptions.capital(shape.spec.max_price_nano, blocks)
                return
            segments = len(schedule.instalment_segments(shape.spec, number))
            work = self.fate.work(act, segments)
            duty.profit_nano -= segments * self._segment_cost(solver) * work.done_bps // BASIS_POINTS
            duty.profit_nano -= self.fees.commit + self.assumptions.capital(bond, self._instalment_blocks())
            if not self._sealed(number, segments, duty, bond, work, gone):
                return
            price = schedule.instalment_steps(shape.spec, number)[1] * shape.gas_per_step
            paid = work_price(price, self._ask(solver))
            duty.profit_nano += paid
            result.submitter_nano -= paid
            result.settled += 1
            result.wrong += bool(work.bad)

    # --- an instalment

    def _sealed(self, number: int, segments: int, solver: Duty, bond: int, work: Work, gone: set[int]) -> bool:
        """An instalment with its draw of a forced error, if the task has any."""
        spec, parameters = self.shape.spec, self.parameters
        if not self.rate_bps:
            return self._instalment(number, segments, solver, bond, work, gone)
        gas = schedule.instalment_steps(spec, number)[1] * self.shape.gas_per_step
        self.tax_nano = work_price(gas, self._ask(solver.agent)) * parameters.forced_tax_bps // BASIS_POINTS
        if number not in self.taxed:
            self.taxed.add(number)
            self.result.submitter_nano -= self.tax_nano
            self.result.jackpot_nano += self.tax_nano
        solver.profit_nano -= self.fees.commit + self.fees.start  # OpenInstalment and RevealSecret
        error = self.fate.forced(segments, self.rate_bps)
        if error is not None and not self._shown_with_error(number, segments, solver, bond, work, gone, error):
            return False
        return self._instalment(number, segments, solver, bond, work, gone)

    def _shown_with_error(
        self, number: int, segments: int, solver: Duty, bond: int, work: Work, gone: set[int], error: int
    ) -> bool:
        """The first round, over roots with the error: finders share the jackpot, who approved it loses its bond."""
        table = Table(set(gone))
        slots = self._drawn(number, segments, solver, bond, table)
        shown = Work(work.bad | {error}, work.done_bps, work.hidden)
        for slot in slots:
            self._examine(slot, solver, shown, slots)
        watch = self._watch(number, solver, bond, shown, slots, table.out)
        slots += [watch] if watch else []
        for slot in slots:
            slot.told = slot.act == "leak" and self._friends(slot.duty, solver) and error in slot.segments
            slot.approved &= not slot.told
        found = [slot.duty for slot in slots if (slot.worked or slot.told) and error in slot.segments]
        self._pay_jackpot(found if error not in work.bad else [])
        finder = self._finder_of_error(solver, slots, segments, error)
        for slot in slots:
            # The next segment was shown from the error's end: whatever is said about it says nothing.
            wrong = [segment for segment in slot.segments if segment in work.bad and segment != error + 1]
            if slot.worked and wrong:
                slot.disagreed = wrong[0]
            elif slot.act != "lie":
                slot.disagreed = None
        open_to_doubt = Work(work.bad - {error + 1}, work.done_bps, work.hidden)
        if not self._disputes(solver, bond, open_to_doubt, [slot for slot in slots if slot.revealed]):
            return False
        for slot in slots:
            if slot.approved and error in slot.segments:
                self._slash(slot.duty, slot.bond_nano, finder)
            elif (slot.worked or slot.told or slot.approved) and not slot.slashed and not slot.unavailable:
                fee = self.shape.segments_price(len(slot.segments), slot.ask_nano)
                slot.duty.profit_nano += fee
                self.result.submitter_nano -= fee
        return True

    def _finder_of_error(self, solver: Duty, slots: list[Slot], segments: int, error: int) -> Duty | None:
        """Who challenges the error: it takes its share of what approvers lose, and no jackpot. An accomplice is told.

        It knows the verdicts when it announces: where nobody approved there is nothing to win.
        """
        approved = any(slot.approved and error in slot.segments for slot in slots)
        finder = None
        if approved and self._strategy(solver.agent).solver == "tell":
            finder = self._accomplice(solver)
            finder.profit_nano -= self.fees.challenge
        found = self.fate.watcher({solver.agent, *(slot.duty.agent for slot in slots)}, range(segments))
        if found is not None:
            watcher = self._duty(found[0], OUTSIDER)
            self.result.checked += 1
            watcher.profit_nano -= self._check_cost(found[0], 1)
            if found[1] == error:
                watcher.profit_nano -= self.fees.challenge
                finder = finder or watcher
        return finder

    def _pay_jackpot(self, claimants: list[Duty]) -> None:
        if claimants:
            payout = self.parameters.forced_payout_bps
            share = share_nano(self.pool_nano, self.tax_nano, self.rate_bps, payout, len(claimants))
            for duty in claimants:
                duty.profit_nano += share
                self.result.jackpot_nano -= share

    def _slash_solver(
        self, solver: Duty, amount: int, winner: Duty | None, wanted: tuple[tuple[Duty, int], ...] = ()
    ) -> None:
        """The solver lets an instalment fall: the tax of its next draw first, then what it loses."""
        solver.profit_nano -= self.tax_nano
        self.result.jackpot_nano += self.tax_nano
        self._slash(solver, amount, winner, wanted)

    def _instalment(self, number: int, segments: int, solver: Duty, bond: int, work: Work, gone: set[int]) -> bool:
        """Verify until a verifier is left that nobody proved wrong, then settle; whether the instalment stands."""
        table = Table(set(gone))
        spoken: list[Slot] = []
        while True:
            if not self._rounds(number, segments, solver, bond, work, table):
                return False
            now = [slot for slot in table.spoken() if slot not in spoken]
            spoken += now
            if not self._disputes(solver, bond, work, spoken):
                return False
            if not self._window(segments, solver, bond, work, now, spoken):
                return False
            table.slots = [slot for slot in table.slots if not slot.slashed]
            if table.slots:
                break
            table.out |= {slot.duty.agent for slot in now}
            table.draws += 1
            if table.draws >= self.parameters.verifier_draws_max:
                return self._give_up(solver, [], segments)
        for slot in spoken:
            if slot.approved and not slot.slashed:
                fee = self.shape.segments_price(len(slot.segments), slot.ask_nano)
                slot.duty.profit_nano += fee
                self.result.submitter_nano -= fee
        return True

    def _rounds(self, number: int, segments: int, solver: Duty, bond: int, work: Work, table: Table) -> bool:
        """Draw until every slot had its states, or no draw is left; whether enough have spoken."""
        parameters, verifiers, blind = self.parameters, self.shape.spec.verifiers, list[Duty]()
        while True:
            drawn = self._drawn(number, segments, solver, bond, table)
            if not table.enough(verifiers):
                return self._give_up(solver, table.slots, segments)
            for slot in drawn:
                self._examine(slot, solver, work, table.slots)
            if not table.watched:
                table.watched, chosen = self._watch_drawn(solver, drawn, table.out)
                table.watch = self._watched(number, solver, bond, work, chosen, table.slots) if chosen else None
                table.out |= {table.watch.duty.agent} if table.watch else set()
            silent = sum(not slot.revealed for slot in drawn)
            blind += [slot.duty for slot in drawn if slot.act == "blind"]
            self._blame_delay(drawn, bond)
            table.take(drawn)
            if any(times >= parameters.refusals_max for _, times in table.waiting):
                return self._unserved(number, segments, solver, bond, work, table.spoken(), blind)
            table.draws += bool(silent)
            if len(table.slots) == verifiers or table.draws >= parameters.verifier_draws_max or not drawn:
                break
        return table.enough(verifiers) or self._give_up(solver, table.slots, segments)

    def _unserved(
        self, number: int, segments: int, solver: Duty, bond: int, work: Work, slots: list[Slot], blind: list[Duty]
    ) -> bool:
        """So many could not have the same states that the solver answers for it, unless it is proven wrong first."""
        if not self._disputes(solver, bond, work, slots):
            return False
        gas = schedule.instalment_steps(self.shape.spec, number)[1] * self.shape.gas_per_step
        price = work_price(gas, self._ask(solver.agent))
        share = price * self.parameters.unserved_bps // BASIS_POINTS
        lost = min(bond, max(self._penalty(bond), share))
        self._slash_solver(solver, lost, None)
        if work.hidden:
            solver.harm_nano += self.parameters.refusals_max * self.fees.verdict + self._delay(bond)
        elif blind:
            blind[-1].harm_nano += segments * self._segment_cost(solver.agent) + lost
        return False

    def _give_up(self, solver: Duty, slots: list[Slot], segments: int) -> bool:
        """Nobody can verify: the task expires, and the solver's work since the last settlement was in vain."""
        self.result.expired = True
        for slot in slots[:1]:
            slot.duty.harm_nano += segments * self._segment_cost(solver.agent)
        return False

    def _blame_delay(self, drawn: list[Slot], bond: int) -> None:
        """Who says that served states cannot be had makes everybody wait for another."""
        blocks = schedule.verify_blocks(self.shape.spec, self.shape.gas_per_step, self.parameters)
        for slot in drawn:
            if slot.act == "blind":
                slot.duty.harm_nano += self.assumptions.capital(self._locked(bond), blocks)

    def _drawn(self, number: int, segments: int, solver: Duty, bond: int, table: Table) -> list[Slot]:
        """Fill the empty slots; who stays silent is replaced. Whoever takes a refuser's place looks at its segments."""
        parameters, shape, drawn = self.parameters, self.shape, list[Slot]()
        samples = schedule.samples_of(shape.spec, number)
        while True:
            silent = 0
            taken = table.out | {slot.duty.agent for slot in table.slots}
            for agent in self.fate.verifiers(shape.spec.verifiers - len(table.slots), taken, solver.agent):
                duty = self._duty(agent, VERIFIER, solver)
                ask, gas = self._ask(agent), shape.gas_per_step
                verifier_bond = schedule.slot_bond(shape.spec, gas, number, ask, bond, parameters)
                again, refusals = table.waiting.pop(0) if table.waiting else ((), 0)
                if self._strategy(agent).verifier == "silent":
                    silent += 1
                    table.out.add(agent)
                    if again:
                        table.waiting.append((again, refusals))
                    self._slash(duty, self._penalty(verifier_bond), None)
                    blocks = schedule.verify_blocks(shape.spec, shape.gas_per_step, parameters)
                    duty.harm_nano += self.assumptions.capital(self._locked(bond), blocks)
                    continue
                looks = again or self.fate.segments(agent, segments, samples)
                slot = Slot(duty, self._strategy(agent).verifier, ask, verifier_bond, looks, refusals=refusals)
                table.slots.append(slot)
                drawn.append(slot)
            table.draws += bool(silent)
            if not silent or table.draws >= parameters.verifier_draws_max:
                return drawn

    def _watch_drawn(self, solver: Duty, slots: list[Slot], missed: set[int]) -> tuple[bool, tuple[int, int] | None]:
        """(whether there is one, who and over which segment): by chance, after all verdicts are bound."""
        taken = missed | {solver.agent, *(slot.duty.agent for slot in slots)}
        claimed = [segment for slot in slots for segment in slot.segments]
        drawn = self.fate.watch(taken, claimed, self.parameters.watch_bps)
        return drawn is not None, drawn

    def _watched(
        self, number: int, solver: Duty, bond: int, work: Work, drawn: tuple[int, int], slots: list[Slot]
    ) -> Slot | None:
        """The watch does what its strategy says as a verifier; None when it is silent."""
        agent, segment = drawn
        duty = self._duty(agent, VERIFIER, solver, watch=True)
        ask, gas = self._ask(agent), self.shape.gas_per_step
        own_bond = schedule.slot_bond(self.shape.spec, gas, number, ask, bond, self.parameters)
        slot = Slot(duty, self._strategy(agent).verifier, ask, own_bond, (segment,), watch=True)
        if slot.act == "silent":
            self._slash(duty, self._penalty(own_bond), None)
            blocks = schedule.watch_blocks(self.shape.spec, gas, self.parameters)
            duty.harm_nano += self.assumptions.capital(self._locked(bond), blocks)
            return None
        self._examine(slot, solver, work, slots)
        return slot

    def _watch(
        self, number: int, solver: Duty, bond: int, work: Work, slots: list[Slot], missed: set[int]
    ) -> Slot | None:
        _, drawn = self._watch_drawn(solver, slots, missed)
        return self._watched(number, solver, bond, work, drawn, slots) if drawn else None

    def _friends(self, one: Duty, other: Duty) -> bool:
        return one.label == other.label and self._strategy(one.agent).counts == COALITION

    def _examine(self, slot: Slot, solver: Duty, work: Work, slots: list[Slot]) -> None:
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
        elif act == "shared" and not work.hidden:
            others = {segment for other in slots if other is not slot for segment in other.segments}
            done = [segment for segment in slot.segments if segment in others]
            duty.profit_nano -= self._check_cost(duty.agent, len(done))
            found = [segment for segment in done if segment in work.bad]
            slot.disagreed = min(found) if found else None
            slot.approved, slot.fakes = not found, frozenset(slot.segments) - set(done)
        elif act == "blind":
            slot.unavailable = True
        elif act == "lie":
            slot.disagreed = slot.segments[0]
        elif act == "collude" and friend:
            slot.approved, slot.fakes = True, work.bad & frozenset(slot.segments)
        elif act == "leak" and friend:
            slot.approved = True
            cost = self._check_cost(duty.agent, len(slot.segments))
            duty.profit_nano -= cost * self.assumptions.leaked_work_bps // BASIS_POINTS
        else:
            looked = [segment for segment in slot.segments if segment not in work.hidden]
            self.result.checked += len(looked)
            duty.profit_nano -= self._check_cost(duty.agent, len(looked))
            found = [segment for segment in looked if segment in work.bad]
            slot.disagreed = min(found) if found else None
            slot.unavailable = len(looked) < len(slot.segments) and not found
            slot.worked = not slot.unavailable
            slot.approved = slot.worked and not found

    def _disputes(self, solver: Duty, bond: int, work: Work, slots: list[Slot]) -> bool:
        """Play the disputes of negative verdicts; whether the solver's work stands."""
        for slot in sorted(slots, key=lambda slot: self.fate.rank(slot.duty.agent)):
            if slot.disagreed is None or slot.slashed:
                continue
            slot.duty.profit_nano -= self.assumptions.moves * self.fees.move
            cost = self._dispute_cost(solver.agent)
            solver.profit_nano -= cost
            outcome = self.fate.lie(slot.duty.agent) if slot.act == "lie" else WINS
            if slot.disagreed in work.bad and outcome != LOSES:
                winner = slot.duty if outcome == WINS else None
                if winner is None:
                    slot.slashed = True
                    self._slash(slot.duty, slot.bond_nano, None)
                self._solver_wrong(solver, bond, work.bad, slot.disagreed, winner, slots)
                return False
            slot.duty.harm_nano += cost + self._delay(bond)
            slot.slashed = True
            self._slash(slot.duty, slot.bond_nano, solver)
        return True

    def _delay(self, bond: int) -> int:
        """What a dispute's usual length costs those whose money waits."""
        return self.assumptions.capital(self._locked(bond), self.parameters.move_clock_blocks)

    def _solver_wrong(
        self,
        solver: Duty,
        bond: int,
        bad: frozenset[int],
        segment: int,
        winner: Duty | None,
        slots: list[Slot],
        doubted: tuple[Slot, ...] = (),
    ) -> None:
        """The ledger's `settlement.solver_wrong`: who was right is compensated, who approved the claim is not paid."""
        owed = []
        for slot in slots:
            if slot in doubted or slot.slashed or (slot.approved and segment in slot.segments):
                continue
            right = len(slot.segments) if slot.approved else 0
            if slot.worked:  # also who found a forced error, and nothing else
                right = sum(s == segment or s not in bad for s in slot.segments)
            elif slot.duty is winner:
                right = 1  # a lie that came true
            owed.append((slot.duty, self.shape.segments_price(right, slot.ask_nano)))
        self._slash_solver(solver, bond - self.tax_nano, winner, tuple(owed))

    # --- the window

    def _window(
        self, segments: int, solver: Duty, bond: int, work: Work, slots: list[Slot], spoken: list[Slot]
    ) -> bool:
        """`slots` spoke since the last window, `spoken` ever; whether the solver's work stands."""
        approving = [slot for slot in slots if slot.approved and not slot.slashed]
        accused = self._cross_check(approving)
        finder, segment = self._challenged(solver, work, approving)
        if finder is not None and segment in work.bad - work.hidden:
            finder.profit_nano -= self.fees.challenge + self.assumptions.moves * self.fees.move
            self._solver_wrong(solver, bond, work.bad, segment, finder, spoken, tuple(slot for slot, _ in accused))
            return False
        for slot, challenger in accused:
            self._evidence_wrong(slot, challenger)
        if finder is not None:
            for slot in approving:
                if segment in slot.fakes - work.hidden and not slot.slashed:
                    self._evidence_wrong(slot, finder)
                    break
        self._outsiders(solver, bond, approving)
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
            if not slot.worked or not self.fate.compares(slot.duty.agent):
                continue
            for other in slots:
                if other is not slot and other.fakes & frozenset(slot.segments):
                    accused.append((other, slot.duty))
                    break
        return accused

    def _challenged(self, solver: Duty, work: Work, approving: list[Slot]) -> tuple[Duty | None, int]:
        """Who looks from outside, and at which segment."""
        if self._strategy(solver.agent).solver == "self":
            return self._accomplice(solver), min(work.bad)
        approved = sorted({segment for slot in approving for segment in slot.segments})
        found = self.fate.watcher({solver.agent, *(slot.duty.agent for slot in approving)}, approved)
        if found is None:
            return None, -1
        watcher, segment = found
        duty = self._duty(watcher, OUTSIDER)
        self.result.checked += 1
        duty.profit_nano -= self._check_cost(watcher, 1)
        return duty, segment

    def _accomplice(self, solver: Duty) -> Duty:
        """Another account of the solver's hand."""
        duty = Duty(solver.label, solver.agent)
        self.result.duties.append(duty)
        return duty

    def _outsiders(self, solver: Duty, bond: int, approving: list[Slot]) -> None:
        """False challenges against right work, by griefers or by the solver's own accomplice."""
        if self._strategy(solver.agent).outsider == "own":
            self._false_challenge(self._accomplice(solver), "own", solver, bond)
            return
        for griefer in self.fate.griefers({solver.agent, *(slot.duty.agent for slot in approving)}):
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
