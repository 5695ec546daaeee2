"""Which rule of the paper fires when: one height's votes and proposals, and the round machine they drive.

Each method takes one message, counts it, and then applies rules until none holds any more, so the outcome does not
depend on the order in which the parts of a condition arrived (a polka may come before or after its proposal).
Values are block ids; blocks, signatures to make and clocks are the business of `core`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.tendermint import round as machine
from consensus.tendermint.round import Action, RoundState, RoundStep
from consensus.tendermint.types import NIL, NO_ROUND, BlockId, Step, VoteType
from consensus.tendermint.votes import Conflict, VoteKeeper

PROPOSALS_PER_ROUND_MAX = 2
"""Different proposals kept of one round (only an equivocating proposer sends two); one with a quorum always fits."""
FUTURE_PROPOSAL_ROUNDS_MAX = 4
"""How far above the current round proposals are kept."""
OLD_PROPOSAL_ROUNDS_MAX = 4
"""How far below the current round proposals are kept that no quorum voted for."""

PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT
Output = Action | Conflict


@dataclass(slots=True)
class ProposalEntry:
    """A proposal's part in the rules."""

    valid_round: int
    timely: bool


class HeightMachine:
    """One process in one height."""

    def __init__(self, height: int, powers: Sequence[int]) -> None:
        self.state = RoundState(height)
        self.votes = VoteKeeper(powers)
        self.proposals: dict[int, dict[BlockId, ProposalEntry]] = {}
        self.validity: dict[BlockId, bool] = {}
        self._fired: set[tuple[str, int]] = set()
        self._committed_rounds: dict[int, BlockId] = {}

    # The inputs.

    def enter_round(self, round: int, proposer: bool) -> list[Output]:
        """Answer to `MoveToRound`, and the start of round 0."""
        self._forget_old_proposals(round)
        return self._apply(machine.EnterRound(round, proposer))

    def value_ready(self, round: int, value: BlockId) -> list[Output]:
        """Answer to `GetValue`."""
        return self._apply(machine.ValueReady(round, value))

    def timeout(self, round: int, step: Step) -> list[Output]:
        """A time-out that `StartTimer` asked for."""
        return self._apply(machine.TimeoutElapsed(round, step))

    def wants_proposal(self, round: int, value: BlockId) -> bool:
        """Whether `add_proposal` would keep it: new, within the bounds, or named by a quorum."""
        known = self.proposals.get(round, {})
        if value in known or self.state.step is RoundStep.DECIDED:
            return False
        if any(self.votes.quorum(kind, round) == value for kind in VoteType):
            return True
        low, high = self.state.round - OLD_PROPOSAL_ROUNDS_MAX, self.state.round + FUTURE_PROPOSAL_ROUNDS_MAX
        return len(known) < PROPOSALS_PER_ROUND_MAX and low <= round <= high

    def add_proposal(
        self, round: int, value: BlockId, valid_round: int, *, valid: bool | None = None, timely: bool = True
    ) -> list[Output]:
        """A proposal from the proposer of its round; `valid` is None while the answer is not known."""
        if valid is not None:
            self.validity[value] = valid or self.validity.get(value, False)
        if self.wants_proposal(round, value):
            self.proposals.setdefault(round, {})[value] = ProposalEntry(valid_round, timely)
        return self._settle([])

    def set_validity(self, value: BlockId, valid: bool) -> list[Output]:
        """The answer to whether a proposed value is valid."""
        self.validity[value] = valid
        return self._settle([])

    def add_vote(
        self, kind: VoteType, round: int, position: int, value: BlockId, signature: bytes = b""
    ) -> tuple[bool, list[Output]]:
        """A vote; returns whether it counted, and what followed."""
        counted, conflict = self.votes.add(kind, round, position, value, signature, self.state.round)
        if conflict is not None:
            return False, [conflict]
        if not counted:
            return False, []
        return True, self._after_votes(kind, round, [])

    def add_certificate(
        self, kind: VoteType, round: int, value: BlockId, signatures: Sequence[tuple[int, bytes]]
    ) -> list[Output]:
        """A verified quorum of votes for one value."""
        conflicts = self.votes.add_certificate(kind, round, value, signatures)
        return self._after_votes(kind, round, list(conflicts))

    # The rules.

    def _after_votes(self, kind: VoteType, round: int, outputs: list[Output]) -> list[Output]:
        if kind is PRECOMMIT and round not in self._committed_rounds:
            value = self.votes.quorum(PRECOMMIT, round)
            if value is not None and value != NIL:
                self._committed_rounds[round] = value
        return self._settle(outputs)

    def _apply(self, event: machine.Event) -> list[Output]:
        self.state, actions = machine.step(self.state, event)
        return self._settle(list(actions))

    def _settle(self, outputs: list[Output]) -> list[Output]:
        """Apply rules until no rule holds."""
        while (event := self._enabled()) is not None:
            self.state, actions = machine.step(self.state, event)
            outputs.extend(actions)
        return outputs

    def _enabled(self) -> machine.Event | None:
        """The next rule whose whole condition holds; each fires once, or changes the step that enables it."""
        state = self.state
        if state.step is RoundStep.DECIDED or state.round == NO_ROUND:
            return None
        for round, value in self._committed_rounds.items():
            if value in self.proposals.get(round, ()) and self.validity.get(value):
                return machine.ProposalWithCommit(round, value)  # L49
        if (higher := self._higher_round()) is not None:
            return machine.HigherRound(higher)  # L55
        if state.step is RoundStep.PROPOSE:
            return self._enabled_proposal() or self._enabled_precommit_any()
        if state.step is RoundStep.UNSTARTED:
            return None
        return self._enabled_polka() or self._enabled_precommit_any()

    def _higher_round(self) -> int | None:
        current = self.state.round
        above = [round for round in self.votes.rounds if round > current]
        return max((round for round in above if self.votes.somebody_honest(round)), default=None)

    def _enabled_proposal(self) -> machine.Event | None:
        """L22 and L28, for the first proposal of this round that can be judged."""
        for value, entry in self.proposals.get(self.state.round, {}).items():
            valid = self.validity.get(value)
            if valid is None:
                continue
            if entry.valid_round == NO_ROUND:
                return machine.FreshProposal(value, valid and entry.timely)
            if entry.valid_round < self.state.round and self.votes.quorum(PREVOTE, entry.valid_round) == value:
                return machine.ProposalWithEarlierPolka(value, entry.valid_round, valid)
        return None

    def _enabled_polka(self) -> machine.Event | None:
        """L36, L44, L34 in this order: a time-out is only worth starting when the polka itself decides nothing."""
        state = self.state
        polka = self.votes.quorum(PREVOTE, state.round)
        if polka and polka in self.proposals.get(state.round, ()) and self.validity.get(polka):
            if self._first_time("L36"):
                return machine.ProposalWithPolka(polka)
        elif polka == NIL and state.step is RoundStep.PREVOTE:
            return machine.PolkaNil()
        if state.step is RoundStep.PREVOTE and self.votes.quorum_any(PREVOTE, state.round) and self._first_time("L34"):
            return machine.PolkaAny()
        return None

    def _enabled_precommit_any(self) -> machine.Event | None:
        if self.votes.quorum_any(PRECOMMIT, self.state.round) and self._first_time("L47"):
            return machine.PrecommitAny()
        return None

    def _first_time(self, rule: str) -> bool:
        if (rule, self.state.round) in self._fired:
            return False
        self._fired.add((rule, self.state.round))
        return True

    def _forget_old_proposals(self, current: int) -> None:
        """Drop proposals of rounds long past that no quorum named; a peer has them should one turn up."""
        for round in [r for r in self.proposals if r < current - OLD_PROPOSAL_ROUNDS_MAX]:
            quorums = {self.votes.quorum(kind, round) for kind in VoteType}
            kept = {value: entry for value, entry in self.proposals[round].items() if value in quorums}
            if kept:
                self.proposals[round] = kept
            else:
                del self.proposals[round]
