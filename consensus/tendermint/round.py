"""The round machine: the pseudo-code of arXiv 1807.04938 (Algorithm 1) as one pure `match`.

`step(state, event) -> (state, actions)`. An event is the condition of one of the paper's *upon* rules, already counted
and found true by `height`; the machine holds the variables of lines 2 to 9 and does what the rule's body says.
Rules that must fire only "for the first time" are told apart by the caller. Values are block ids; `NIL` is nil.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from consensus.tendermint.types import NIL, NO_ROUND, BlockId, Step, VoteType


class RoundStep(IntEnum):
    """`step_p`, with a state before the first line 11 of a round and one after the decision."""

    UNSTARTED = 0
    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3
    DECIDED = 4


@dataclass(frozen=True, slots=True)
class RoundState:
    """The variables of one process in one height (lines 2 to 9)."""

    height: int
    round: int = NO_ROUND
    step: RoundStep = RoundStep.UNSTARTED
    locked_value: BlockId | None = None
    locked_round: int = NO_ROUND
    valid_value: BlockId | None = None
    valid_round: int = NO_ROUND
    decision: BlockId | None = None
    decision_round: int = NO_ROUND


# Events: the conditions of the rules.


@dataclass(frozen=True, slots=True)
class EnterRound:
    """StartRound(round), line 11."""

    round: int
    proposer: bool


@dataclass(frozen=True, slots=True)
class ValueReady:
    """getValue() of line 18 has returned, for this round."""

    round: int
    value: BlockId


@dataclass(frozen=True, slots=True)
class FreshProposal:
    """Line 22: a proposal of this round with valid round -1."""

    value: BlockId
    acceptable: bool
    """valid(v), and timely by proposer-based time."""


@dataclass(frozen=True, slots=True)
class ProposalWithEarlierPolka:
    """Line 28: a proposal of this round with a valid round below it, and the polka it claims."""

    value: BlockId
    valid_round: int
    valid: bool


@dataclass(frozen=True, slots=True)
class PolkaAny:
    """Line 34: a quorum of prevotes of this round, for anything."""


@dataclass(frozen=True, slots=True)
class ProposalWithPolka:
    """Line 36: a valid proposal of this round and its polka."""

    value: BlockId


@dataclass(frozen=True, slots=True)
class PolkaNil:
    """Line 44: a quorum of prevotes of this round for nil."""


@dataclass(frozen=True, slots=True)
class PrecommitAny:
    """Line 47: a quorum of precommits of this round, for anything."""


@dataclass(frozen=True, slots=True)
class ProposalWithCommit:
    """Line 49: a valid proposal of any round and a quorum of precommits for it in that round."""

    round: int
    value: BlockId


@dataclass(frozen=True, slots=True)
class HigherRound:
    """Line 55: messages of a higher round from more than one third of the power."""

    round: int


@dataclass(frozen=True, slots=True)
class TimeoutElapsed:
    """Lines 57, 61, 65: a time-out of this height."""

    round: int
    step: Step


Event = (
    EnterRound
    | ValueReady
    | FreshProposal
    | ProposalWithEarlierPolka
    | PolkaAny
    | ProposalWithPolka
    | PolkaNil
    | PrecommitAny
    | ProposalWithCommit
    | HigherRound
    | TimeoutElapsed
)


# Actions: what the bodies of the rules do to the outside.


@dataclass(frozen=True, slots=True)
class GetValue:
    """Ask for a value to propose (line 18)."""

    round: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Broadcast a proposal (line 19)."""

    round: int
    value: BlockId
    valid_round: int


@dataclass(frozen=True, slots=True)
class CastVote:
    """Broadcast a vote."""

    kind: VoteType
    round: int
    value: BlockId


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Schedule a time-out."""

    round: int
    step: Step


@dataclass(frozen=True, slots=True)
class MoveToRound:
    """StartRound(round) is due: answer with `EnterRound` once the proposer is known."""

    round: int


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision (line 51), taken with the precommits of `round`."""

    round: int
    value: BlockId


Action = GetValue | Propose | CastVote | StartTimer | MoveToRound | Decided

_PROPOSE, _PREVOTE, _PRECOMMIT = RoundStep.PROPOSE, RoundStep.PREVOTE, RoundStep.PRECOMMIT


def step(state: RoundState, event: Event) -> tuple[RoundState, tuple[Action, ...]]:
    """Apply one rule. An event whose remaining conditions (step, round) do not hold changes nothing."""
    r = state.round
    match event:
        case _ if state.step is RoundStep.DECIDED:
            return state, ()

        # L11-21: StartRound. Only the proposer does not need the propose time-out to prevote, but getValue may fail it.
        case EnterRound(round, proposer) if round > r or (round == r and state.step is RoundStep.UNSTARTED):
            state = replace(state, round=round, step=_PROPOSE)
            if not proposer:
                return state, (StartTimer(round, Step.PROPOSE),)
            if state.valid_value is not None:  # L15-16
                return state, (Propose(round, state.valid_value, state.valid_round),)
            return state, (StartTimer(round, Step.PROPOSE), GetValue(round))  # L18
        case ValueReady(round, value) if round == r and state.step is _PROPOSE:  # L19
            return state, (Propose(round, value, NO_ROUND),)

        # L22-27: a fresh proposal: prevote it unless locked on another value.
        case FreshProposal(value, acceptable) if state.step is _PROPOSE:
            accept = acceptable and (state.locked_round == NO_ROUND or state.locked_value == value)
            return replace(state, step=_PREVOTE), (CastVote(VoteType.PREVOTE, r, value if accept else NIL),)

        # L28-33: a proposal with a polka in an earlier round, which overrules any lock not newer than that polka.
        case ProposalWithEarlierPolka(value, valid_round, valid) if state.step is _PROPOSE and 0 <= valid_round < r:
            accept = valid and (state.locked_round <= valid_round or state.locked_value == value)
            return replace(state, step=_PREVOTE), (CastVote(VoteType.PREVOTE, r, value if accept else NIL),)

        # L34-35
        case PolkaAny() if state.step is _PREVOTE:
            return state, (StartTimer(r, Step.PREVOTE),)

        # L36-43: lock and precommit in step prevote; in step precommit only remember the value as valid.
        case ProposalWithPolka(value) if state.step is _PREVOTE:
            locked = replace(
                state, step=_PRECOMMIT, locked_value=value, locked_round=r, valid_value=value, valid_round=r
            )
            return locked, (CastVote(VoteType.PRECOMMIT, r, value),)
        case ProposalWithPolka(value) if state.step is _PRECOMMIT:
            return replace(state, valid_value=value, valid_round=r), ()

        # L44-46
        case PolkaNil() if state.step is _PREVOTE:
            return replace(state, step=_PRECOMMIT), (CastVote(VoteType.PRECOMMIT, r, NIL),)

        # L47-48: in whatever step of the round.
        case PrecommitAny() if state.step is not RoundStep.UNSTARTED:
            return state, (StartTimer(r, Step.PRECOMMIT),)

        # L49-54: a commit of any round decides.
        case ProposalWithCommit(round, value):
            return replace(state, step=RoundStep.DECIDED, decision=value, decision_round=round), (
                Decided(round, value),
            )

        # L55-56: somebody honest is in a higher round.
        case HigherRound(round) if round > r:
            return _leave(state, round)

        # L57-60, L61-64, L65-67
        case TimeoutElapsed(round, Step.PROPOSE) if round == r and state.step is _PROPOSE:
            return replace(state, step=_PREVOTE), (CastVote(VoteType.PREVOTE, r, NIL),)
        case TimeoutElapsed(round, Step.PREVOTE) if round == r and state.step is _PREVOTE:
            return replace(state, step=_PRECOMMIT), (CastVote(VoteType.PRECOMMIT, r, NIL),)
        case TimeoutElapsed(round, Step.PRECOMMIT) if round == r and state.step is not RoundStep.UNSTARTED:
            return _leave(state, r + 1)
    return state, ()


def _leave(state: RoundState, round: int) -> tuple[RoundState, tuple[Action, ...]]:
    """Wait, unstarted, for the proposer of the next round to be looked up."""
    return replace(state, round=round, step=RoundStep.UNSTARTED), (MoveToRound(round),)
