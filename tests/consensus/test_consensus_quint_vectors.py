"""Executions of the formal specification of Tendermint (Quint, malachite, Apache-2.0), replayed on our code.

The specification emits one output per step and keeps the rest pending; ours applies every rule that holds at once. So
whole systems are compared by what each process says (votes, proposals, decisions, in order) and by its state wherever
the specification has nothing pending; time-outs are not compared, ours are scheduled only when a polka is undecided.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consensus.tendermint import round as machine
from consensus.tendermint.height import HeightMachine, Output
from consensus.tendermint.round import RoundState, RoundStep
from consensus.tendermint.types import NIL, Step, VoteType
from consensus.tendermint.votes import VoteKeeper

FOLDER = Path(__file__).parent.parent / "vectors/tendermint"


def traces(suite: str) -> list[Any]:
    data = json.loads((FOLDER / f"{suite}.json").read_text())
    return [pytest.param(trace, id=trace["trace"]) for trace in data["traces"]]


def value_id(value: Any) -> bytes:
    if value == "Nil":
        return NIL
    return (value["Val"] if isinstance(value, dict) else value).encode()


def tagged(union: Any) -> tuple[str, Any]:
    return (union, None) if isinstance(union, str) else next(iter(union.items()))


def said(output: Any) -> tuple[Any, ...] | None:
    """What an output of the specification says to others."""
    match tagged(output):
        case "VoteOutput", vote:
            return vote["voteType"], vote["round"], value_id(vote["valueId"])
        case "ProposalOutput", proposal:
            return "Proposal", proposal["round"], value_id(proposal["proposal"]), proposal["validRound"]
        case "DecidedOutput", (_, value):
            return "Decided", value_id(value)
    return None


def said_by_us(output: Output | machine.Action) -> tuple[Any, ...] | None:
    match output:
        case machine.CastVote(kind, round, value):
            return kind.name.capitalize(), round, value
        case machine.Propose(round, value, valid_round):
            return "Proposal", round, value, valid_round
        case machine.Decided(_, value):
            return "Decided", value
    return None


def spec_state(state: dict[str, Any]) -> tuple[Any, ...]:
    step = {"CommitStep": "DECIDED", "NoStep": "UNSTARTED"}.get(state["step"], state["step"][:-4].upper())
    locked, valid = (None if state[k] == "Nil" else value_id(state[k]) for k in ("lockedValue", "validValue"))
    return state["round"], step, state["lockedRound"], locked, state["validRound"], valid


def our_state(state: RoundState) -> tuple[Any, ...]:
    fields = state.locked_round, state.locked_value, state.valid_round, state.valid_value
    return state.round, state.step.name, *fields


def event_of(given: Any, round: int) -> machine.Event | None:
    match tagged(given):
        case "NewRoundCInput", r:
            return machine.EnterRound(r, False)
        case "NewRoundProposerCInput", r:
            return machine.EnterRound(r, True)
        case "ProposeValueCInput", value:
            return machine.ValueReady(round, value_id(value))
        case "ProposalCInput", (_, value):
            return machine.FreshProposal(value_id(value), True)
        case "ProposalInvalidCInput", _:
            return machine.FreshProposal(b"?", False)
        case "ProposalAndPolkaAndValidCInput", value:
            return machine.ProposalWithPolka(value_id(value))
        case "ProposalAndCommitAndValidCInput", (r, value):
            return machine.ProposalWithCommit(r, value_id(value))
        case "PolkaAnyCInput", _:
            return machine.PolkaAny()
        case "PolkaNilCInput", _:
            return machine.PolkaNil()
        case "PrecommitAnyCInput", _:
            return machine.PrecommitAny()
        case "TimeoutProposeCInput", (_, r):
            return machine.TimeoutElapsed(r, Step.PROPOSE)
        case "TimeoutPrevoteCInput", (_, r):
            return machine.TimeoutElapsed(r, Step.PREVOTE)
        case "TimeoutPrecommitCInput", (_, r):
            return machine.TimeoutElapsed(r, Step.PRECOMMIT)
    assert given == "NoConsensusInput", given
    return None


def timers(output: Any) -> list[tuple[int, str]]:
    match tagged(output):
        case "TimeoutOutput", (round, name):
            return [(round, name)]
        case "GetValueAndScheduleTimeoutOutput", (_, round, name):
            return [(round, name)]
    return []


@pytest.mark.parametrize("trace", traces("consensusTest"))
def test_round_machine(trace: dict[str, Any]) -> None:
    state = RoundState(trace["steps"][0]["state"]["height"])
    for step in trace["steps"]:
        event = event_of(step["input"], state.round)
        state, actions = machine.step(state, event) if event else (state, ())
        assert [s for a in actions if (s := said_by_us(a))] == [s for s in [said(step["output"])] if s]
        ours = [(a.round, f"{a.step.name.capitalize()}Timeout") for a in actions if isinstance(a, machine.StartTimer)]
        assert ours == timers(step["output"])
        name, argument = tagged(step["output"])
        if name == "SkipRoundOutput":  # there the round changes with the next input
            assert actions == (machine.MoveToRound(argument),)
            assert state.step is RoundStep.UNSTARTED
        else:
            assert our_state(state) == spec_state(step["state"])


@pytest.mark.parametrize("trace", traces("votekeeperTest"))
def test_vote_keeper(trace: dict[str, Any]) -> None:
    names = list(trace["steps"][0]["bookkeeper"]["validatorSet"])
    keeper = VoteKeeper(list(trace["steps"][0]["bookkeeper"]["validatorSet"].values()))
    emitted: set[tuple[Any, ...]] = set()
    expected: set[tuple[Any, ...]]
    for step in trace["steps"]:
        if step["weightedVote"] == "NoWeightedVote":
            continue
        vote, _, current = step["weightedVote"]["WV"]
        round, kind = vote["round"], VoteType[vote["voteType"].upper()]
        keeper.add(kind, round, names.index(vote["srcAddress"]), value_id(vote["valueId"]), b"", current)
        now = emits(keeper, kind, round, current) - emitted
        emitted |= now
        name, argument = tagged(step["lastEmitted"])
        match name:
            case "NoVKOutput":
                expected = set()
            case "PolkaAnyVKOutput":
                expected = {("any", VoteType.PREVOTE)}
            case "PolkaNilVKOutput":
                expected = {("any", VoteType.PREVOTE), ("quorum", VoteType.PREVOTE, NIL)}
            case "SkipVKOutput":
                expected = {("skip", argument)}
            case _:
                kind = {"Polka": VoteType.PREVOTE, "Preco": VoteType.PRECOMMIT}[name[:5]]
                expected = {("any", kind), ("quorum", kind, value_id(argument[1]))}
        assert now == expected


def emits(keeper: VoteKeeper, kind: VoteType, round: int, current: int) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    if round > current:
        return {("skip", round)} if keeper.somebody_honest(round) else found
    if keeper.quorum_any(kind, round):
        found.add(("any", kind))
    quorum = keeper.quorum(kind, round)
    if quorum is not None:
        found.add(("quorum", kind, quorum))
    return found


SYSTEMS = ["statemachineTest", "decideForPastRoundTest", "line26Test", "line28Test"]
SILENT = ("StepChangeDInput", "NoDInput", "PendingDInput", "StartDInput")


@pytest.mark.parametrize("trace", [trace for suite in SYSTEMS for trace in traces(suite)])
def test_system(trace: dict[str, Any]) -> None:
    names = list(trace["weights"])
    for process in trace["processes"]:
        steps = [step for step in trace["steps"] if step["process"] == process]
        check_process(process, names, list(trace["weights"].values()), without_stutter(steps))


def without_stutter(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The traces repeat a process's last step when they stop."""
    return [step for i, step in enumerate(steps) if i == 0 or step != steps[i - 1]]


def check_process(process: str, names: list[str], powers: list[int], steps: list[dict[str, Any]]) -> None:
    height = HeightMachine(0, powers)
    ours: list[tuple[Any, ...]] = []
    theirs: list[tuple[Any, ...]] = []
    for number, step in enumerate(steps):
        outputs = feed(height, step, names)
        for output in outputs:
            if isinstance(output, machine.MoveToRound):
                outputs += height.enter_round(output.round, proposes(process, output.round, steps))
        ours += [s for o in outputs if (s := said_by_us(o))]
        theirs += [s for s in [said(step["output"])] if s]
        following = steps[number + 1]["input"] if number + 1 < len(steps) else "PendingDInput"
        if tagged(following)[0] not in SILENT and step["after"]["step"] != "UnstartedStep":
            assert our_state(height.state) == spec_state(step["after"]), (process, number)
    assert ours[: len(theirs)] == theirs, process
    assert len(ours) <= len(theirs) + 1, "at most what the trace stops before"


def proposes(process: str, round: int, steps: list[dict[str, Any]]) -> bool:
    """Whether the specification asks this process for a value, or makes it propose, in this round."""
    for step in steps:
        match tagged(step["output"]):
            case "GetValueAndScheduleTimeoutOutput", (_, r, _) if r == round:
                return True
            case "ProposalOutput", proposal if proposal["round"] == round:
                return True
    return False


def feed(height: HeightMachine, step: dict[str, Any], names: list[str]) -> list[Output]:
    match tagged(step["input"]):
        case "StartDInput", _:
            return height.enter_round(0, "GetValueAndScheduleTimeoutOutput" in step["output"])
        case "ProposeValueDInput", value:
            return height.value_ready(height.state.round, value_id(value))
        case "ProposalDInput", proposal:
            value = value_id(proposal["proposal"])
            return height.add_proposal(proposal["round"], value, proposal["validRound"], valid=value != b"invalid")
        case "VoteDInput", vote:
            kind, position = VoteType[vote["voteType"].upper()], names.index(vote["srcAddress"])
            return height.add_vote(kind, vote["round"], position, value_id(vote["valueId"]))[1]
        case "CertificateDInput", votes:
            value, round = value_id(votes[0]["valueId"]), votes[0]["round"]
            return height.add_certificate(
                VoteType.PRECOMMIT, round, value, [(names.index(vote["srcAddress"]), b"") for vote in votes]
            )
        case "TimeoutDInput", name:
            return height.timeout(height.state.round, Step[name.removesuffix("Timeout").upper()])
        case (("StepChangeDInput" | "NoDInput" | "PendingDInput"), _):
            return []
    raise AssertionError(step["input"])
