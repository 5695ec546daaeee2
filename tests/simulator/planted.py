"""Bugs to plant, one at a time, to see that the simulator finds them: what is changed, where, and what must be said.

Each is one that an implementation could have, or once had. The seeds are the budget in which it must be found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs
from pytest import MonkeyPatch

from consensus.tendermint import block, core, height, round, verify, votes
from consensus.tendermint.early import EarlyMessages
from consensus.tendermint.evidence import EvidencePool
from consensus.tendermint.inputs import Input
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.proposer import ProposerSchedule
from consensus.tendermint.round import Event, RoundState, RoundStep
from consensus.tendermint.types import (
    NO_ROUND,
    Block,
    Certificate,
    Commit,
    CommitFlag,
    CommitSlot,
    ValidatorSet,
    VoteType,
)
from gensyn_node.storage import wal
from gensyn_node.storage.signer import Signed, SignRequest, SignState, state_after
from tests.simulator import disk, node, simulation, toy
from tests.simulator.disk import Disk, OpenedLog
from tests.simulator.node import SimulatedNode
from tests.simulator.schedule import Schedule
from tests.simulator.signatures import Signer

LOSSY = Schedule([1, 1, 1, 1], {0: "twins"}, fault_ms=12_000, drop=0.4, slow=0.3, partition_every_ms=600)
SPLIT = replace(LOSSY, drop=0.05, slow=0.0, partition_every_ms=300)
CRASHING = replace(LOSSY, byzantine={}, crash_probability=0.02, crash_every_ms=300)
TEARING = replace(CRASHING, damages=("torn",))
ROTTING = replace(CRASHING, damages=("rotten",), fragile=(0,))
QUIET = Schedule([1, 1, 1, 1], {}, fault_ms=4_000, drop=0.1)
LIARS = replace(
    QUIET,
    powers=[1] * 7,
    byzantine={0: "answer liar", 1: "answer liar"},
    late={5: 3_000, 6: 3_000},
    fault_ms=6_000,
)
HASTY = replace(QUIET, hasty=True)
UNSTEADY = replace(QUIET, crash_probability=0.02)
NOISE = replace(SPLIT, byzantine={0: "random"})


def against(kind: str, schedule: Schedule = LOSSY) -> Schedule:
    """The same with another Byzantine habit."""
    return replace(schedule, byzantine={0: kind})


@dataclass(frozen=True)
class PlantedBug:
    """One bug and how it is found."""

    name: str
    plant: Callable[[MonkeyPatch], None]
    schedule: Schedule
    found: str
    """Part of what the violation says."""
    seeds: int = 60
    limit_ms: int | None = None


# Counting.


def _quorum(rule: Callable[[int, int], bool]) -> Callable[[MonkeyPatch], None]:
    def plant(patch: MonkeyPatch) -> None:
        for module in (votes, verify):
            patch.setattr(module, "is_quorum", rule)

    return plant


def _by_head(patch: MonkeyPatch) -> None:
    init = votes.VoteKeeper.__init__
    patch.setattr(votes.VoteKeeper, "__init__", lambda keeper, powers: init(keeper, [1] * len(powers)))
    patch.setattr(verify, "is_quorum", lambda power, total: True)


def _equivocators_count_twice(patch: MonkeyPatch) -> None:
    add = votes.VoteKeeper.add

    def careless(
        keeper: votes.VoteKeeper, kind: VoteType, round: int, position: int, value: bytes, sig: bytes, current: int
    ) -> tuple[bool, votes.Conflict | None]:
        counted, conflict = add(keeper, kind, round, position, value, sig, current)
        if conflict is not None:
            keeper._count(keeper.rounds[round].of(kind), position, conflict.first[0], conflict.first[1])
        return counted, conflict

    patch.setattr(votes.VoteKeeper, "add", careless)


def _skip_on_one_message(patch: MonkeyPatch) -> None:
    patch.setattr(votes, "has_honest", lambda power, total: power > 0)


def _skip_counts_both_kinds(patch: MonkeyPatch) -> None:
    def somebody_honest(keeper: votes.VoteKeeper, round: int) -> bool:
        voted = keeper.rounds.get(round)
        if voted is None:
            return False
        return votes.has_honest(voted.prevotes.power_any + voted.precommits.power_any, keeper.total)

    patch.setattr(votes.VoteKeeper, "somebody_honest", somebody_honest)


def _polka_taken_for_commit(patch: MonkeyPatch) -> None:
    after = height.HeightMachine._after_votes

    def hurried(machine: height.HeightMachine, kind: VoteType, round: int, outputs: list[height.Output]) -> Any:
        value = machine.votes.quorum(VoteType.PREVOTE, round)
        if value:
            machine._committed_rounds.setdefault(round, value)
        return after(machine, kind, round, outputs)

    patch.setattr(height.HeightMachine, "_after_votes", hurried)


# The rules of the round machine.


def _rule(change: Callable[[RoundState, Event], tuple[RoundState, Event | None]]) -> Callable[[MonkeyPatch], None]:
    """Change the state or the event before the machine sees it; None for an event that is ignored."""
    step = round.step

    def plant(patch: MonkeyPatch) -> None:
        def changed(state: RoundState, event: Event) -> tuple[RoundState, tuple[round.Action, ...]]:
            state, seen = change(state, event)
            return (state, ()) if seen is None else step(state, seen)

        patch.setattr(height.machine, "step", changed)

    return plant


def _without_lock(state: RoundState) -> RoundState:
    return replace(state, locked_round=NO_ROUND, locked_value=None)


def _no_lock(state: RoundState, event: Event) -> tuple[RoundState, Event | None]:
    return _without_lock(state), event


def _lock_ends_with_a_fresh_proposal(state: RoundState, event: Event) -> tuple[RoundState, Event | None]:
    return (_without_lock(state) if isinstance(event, round.FreshProposal) else state), event


def _any_polka_overrules(state: RoundState, event: Event) -> tuple[RoundState, Event | None]:
    return (_without_lock(state) if isinstance(event, round.ProposalWithEarlierPolka) else state), event


def _valid_value_only_with_lock(state: RoundState, event: Event) -> tuple[RoundState, Event | None]:
    late = isinstance(event, round.ProposalWithPolka) and state.step is RoundStep.PRECOMMIT
    return state, None if late else event


def _fresh_value_always(state: RoundState, event: Event) -> tuple[RoundState, Event | None]:
    if isinstance(event, round.EnterRound):
        return replace(state, valid_value=None, valid_round=NO_ROUND), event
    return state, event


def _commit_of_this_round_only(patch: MonkeyPatch) -> None:
    enabled = height.HeightMachine._enabled

    def narrow(machine: height.HeightMachine) -> Event | None:
        kept = machine._committed_rounds
        machine._committed_rounds = {r: value for r, value in kept.items() if r == machine.state.round}
        try:
            return enabled(machine)
        finally:
            machine._committed_rounds = kept

    patch.setattr(height.HeightMachine, "_enabled", narrow)


def _nil_polka_ignored(patch: MonkeyPatch) -> None:
    enabled = height.HeightMachine._enabled_polka

    def deaf(machine: height.HeightMachine) -> Event | None:
        event = enabled(machine)
        return None if isinstance(event, round.PolkaNil) else event

    patch.setattr(height.HeightMachine, "_enabled_polka", deaf)


def _old_proposal_is_fresh(patch: MonkeyPatch) -> None:
    enabled = height.HeightMachine._enabled_proposal

    def lenient(machine: height.HeightMachine) -> Event | None:
        event = enabled(machine)
        for value in machine.proposals.get(machine.state.round - 1, {}) if event is None else ():
            if machine.validity.get(value):
                return round.FreshProposal(value, True)
        return event

    patch.setattr(height.HeightMachine, "_enabled_proposal", lenient)


def _valid_round_believed(patch: MonkeyPatch) -> None:
    enabled = height.HeightMachine._enabled_proposal

    def trusting(machine: height.HeightMachine) -> Event | None:
        event = enabled(machine)
        for value, entry in machine.proposals.get(machine.state.round, {}).items() if event is None else ():
            valid = machine.validity.get(value)
            if valid is not None and 0 <= entry.valid_round < machine.state.round:
                return round.ProposalWithEarlierPolka(value, entry.valid_round, valid)
        return event

    patch.setattr(height.HeightMachine, "_enabled_proposal", trusting)


def _validity_not_awaited(patch: MonkeyPatch) -> None:
    set_validity = height.HeightMachine.set_validity
    patch.setattr(
        height.HeightMachine, "set_validity", lambda machine, value, valid: set_validity(machine, value, True)
    )


def _timeouts_do_not_grow(patch: MonkeyPatch) -> None:
    timeout = ConsensusParameters.timeout_ms
    patch.setattr(ConsensusParameters, "timeout_ms", lambda parameters, step, round: timeout(parameters, step, 0))


def _proposer_does_not_rotate(patch: MonkeyPatch) -> None:
    patch.setattr(ProposerSchedule, "of", lambda schedule, round: schedule.validators.proposer)


def _proposer_unchecked(patch: MonkeyPatch) -> None:
    def claimed(kept: core.ConsensusCore, given: Any, effects: list[Any]) -> None:
        of = kept.proposers.of
        kept.proposers.of = lambda round: given.proposal.proposer if round == given.proposal.round else of(round)  # type: ignore[method-assign]
        try:
            take(kept, given, effects)
        finally:
            del kept.proposers.of

    take = core.ConsensusCore._proposal
    patch.setattr(core.ConsensusCore, "_proposal", claimed)

    def verify_any(chain_id: str, schedule: ProposerSchedule, proposal: Any, block: Block, *rest: Any) -> Any:
        always = ProposerSchedule(structs.replace(schedule.validators, proposer=proposal.proposer))
        always.of = lambda round: proposal.proposer  # type: ignore[method-assign]
        return checked(chain_id, always, proposal, block, *rest)

    checked = node.verify_proposal
    patch.setattr(node, "verify_proposal", verify_any)


def _any_time_is_timely(patch: MonkeyPatch) -> None:
    patch.setattr(ConsensusParameters, "timely", lambda *given: True)


# Evidence.


def _evidence_punished_again(patch: MonkeyPatch) -> None:
    patch.setattr(EvidencePool, "commit", lambda pool, evidence, forget_below: None)


def _evidence_unverified(patch: MonkeyPatch) -> None:
    patch.setattr(block, "verify_evidence", lambda *given: None)


def _evidence_not_kept(patch: MonkeyPatch) -> None:
    patch.setattr(votes.VoteKeeper, "_conflict", lambda *given: None)


def _evidence_left_out(patch: MonkeyPatch) -> None:
    patch.setattr(EvidencePool, "pending", lambda pool, *given: ())


# Signatures beyond two thirds.


def _first_quorum_of_certificate(patch: MonkeyPatch) -> None:
    def verify_some(chain_id: str, validators: ValidatorSet, certificate: Certificate, check: Any) -> Input:
        power, enough = 0, 0
        for position, _ in certificate.signatures:
            enough += 1
            power += validators.validators[position].power if 0 <= position < len(validators.validators) else 0
            if 3 * power > 2 * validators.total_power:
                break
        checked = structs.replace(certificate, signatures=certificate.signatures[:enough])
        verified = verify.verify_certificate(chain_id, validators, checked, check)
        return structs.replace(verified, certificate=certificate)

    patch.setattr(simulation, "verify_certificate", verify_some)


def _first_quorum_of_commit(patch: MonkeyPatch) -> None:
    def verify_some(chain_id: str, validators: ValidatorSet, commit: Commit, check: Any) -> None:
        power, slots = 0, []
        for validator, slot in zip(validators.validators, commit.slots, strict=False):
            slots.append(CommitSlot(CommitFlag.ABSENT, b"") if 3 * power > 2 * validators.total_power else slot)
            power += validator.power if slots[-1].flag is CommitFlag.COMMIT else 0
        block.verify_commit(chain_id, validators, structs.replace(commit, slots=tuple(slots)), check)

    patch.setattr(node, "verify_commit", verify_some)


# Storage.


def _log_not_synced(patch: MonkeyPatch) -> None:
    patch.setattr(Disk, "sync", lambda disk: None)


def _signature_before_its_record(patch: MonkeyPatch) -> None:
    """The record is written later; a crash finds the one before."""
    sign, crash = Disk.sign, Disk.crash

    def signed(machine: Disk, request: SignRequest, signer: Signer) -> Signed:
        machine.__dict__.setdefault("before", machine.signed)
        return sign(machine, request, signer)

    def crashed(machine: Disk, *how: Any) -> None:
        machine.signed = machine.__dict__.pop("before", machine.signed)
        crash(machine, *how)

    patch.setattr(Disk, "sign", signed)
    patch.setattr(Disk, "crash", crashed)


def _signer_forgets_order(patch: MonkeyPatch) -> None:
    def anything(last: SignState, request: SignRequest, sign: Signer) -> SignState:
        return state_after(structs.replace(last, height=0, round=0, step=0, silent_through=0), request, sign)

    patch.setattr(disk, "state_after", anything)


def _damaged_log_signs_on(patch: MonkeyPatch) -> None:
    patch.setattr(disk, "state_sitting_out", lambda state: state)
    patch.setattr(disk, "log_is_short", lambda state, height, records: False)


def _early_messages_not_logged(patch: MonkeyPatch) -> None:
    def feed(machine: SimulatedNode, given: Input) -> None:
        started = machine.core.height
        machine._feed(given)
        while machine.core.height > started:
            started = machine.core.height
            for waiting in machine.early.take():
                machine._perform_all(machine._step(waiting))

    patch.setattr(SimulatedNode, "feed", feed)
    take = EarlyMessages.take

    def event(machine: SimulatedNode, given: Any) -> None:
        kind, incarnation = given[:2]
        if kind == "executed" and machine.alive and incarnation == machine.incarnation:
            waiting = take(machine.early)
            handle(machine, given)
            for message in waiting:
                machine._perform_all(machine._step(message))
        else:
            handle(machine, given)

    handle = SimulatedNode.event
    patch.setattr(SimulatedNode, "event", event)


def _replay(change: Callable[[list[Input]], list[Input]]) -> Callable[[MonkeyPatch], None]:
    def plant(patch: MonkeyPatch) -> None:
        open_log = Disk.open_log

        def opened(machine: Disk, height: int) -> OpenedLog:
            log = open_log(machine, height)
            return replace(log, records=change(log.records))

        patch.setattr(Disk, "open_log", opened)

    return plant


def _sound_record_cut(patch: MonkeyPatch) -> None:
    """With a torn tail goes the last record before it."""

    def hasty(data: bytes) -> wal.LogContent:
        content = parse(data)
        if content.records and content.good_bytes < len(data) and not content.corrupt:
            short = content.good_bytes - len(wal.frame(content.records[-1]))
            return wal.LogContent(content.records[:-1], short, corrupt=False)
        return content

    parse = wal.parse_log
    patch.setattr(disk, "parse_log", hasty)


def _torn_tail_stays(patch: MonkeyPatch) -> None:
    def uncut(data: bytes) -> wal.LogContent:
        content = parse(data)
        return content if content.corrupt else replace(content, good_bytes=len(data))

    parse = wal.parse_log
    patch.setattr(disk, "parse_log", uncut)


def _full_disk_ignored(patch: MonkeyPatch) -> None:
    def append(machine: Disk, given: Input) -> None:
        if not machine.full:
            machine._records.append(given)

    patch.setattr(Disk, "append", append)


# Heights.


def _catch_up_never_answers(patch: MonkeyPatch) -> None:
    patch.setattr(SimulatedNode, "_answer", lambda machine, peer, status: None)


def _set_change_one_height_early(patch: MonkeyPatch) -> None:
    """On the machines whose addresses are even."""
    execute = toy.ToyApplication.execute

    def early(application: toy.ToyApplication, decided: Block, commit: Commit) -> None:
        execute(application, decided, commit)
        if application.key.address[0] % 2 == 0:
            application.state = replace(application.state, validators=application.state.next_validators)

    patch.setattr(toy.ToyApplication, "execute", early)


def _set_of_wrong_height(patch: MonkeyPatch) -> None:
    """Commits are checked against the set after the one that signed them."""
    validators = toy.ToyApplication.validators
    patch.setattr(toy.ToyApplication, "validators", lambda application, height: validators(application, height + 1))


CHANGING = replace(
    QUIET, powers=[1, 1, 1, 1, 1], set_changes={2: [(4, 3)], 3: [(4, 0)], 4: [(0, 3)], 6: [(0, 0)], 7: [(1, 2)]}
)

PLANTED = (
    PlantedBug("half is enough", _quorum(lambda p, t: 2 * p >= t), LOSSY, "was decided by 2 of 4"),
    PlantedBug(
        "two thirds are enough",
        _quorum(lambda p, t: 3 * p >= 2 * t),
        replace(LOSSY, powers=[1, 1, 1, 1, 1, 1]),
        "was decided by 4 of 6",
    ),
    PlantedBug("votes counted by head", _by_head, replace(LOSSY, powers=[1, 1, 1, 1, 10], byzantine={}), "of 14"),
    PlantedBug("equivocators count twice", _equivocators_count_twice, LOSSY, "nil polka"),
    PlantedBug("a polka taken for a commit", _polka_taken_for_commit, LOSSY, "bad commit"),
    PlantedBug("skip on one message", _skip_on_one_message, NOISE, "skipped to round"),
    PlantedBug("skip counts one validator twice", _skip_counts_both_kinds, NOISE, "skipped to round"),
    PlantedBug("no lock", _rule(_no_lock), SPLIT, "prevoted another value", seeds=200),
    PlantedBug("unlock by a fresh proposal", _rule(_lock_ends_with_a_fresh_proposal), SPLIT, "prevoted another", 200),
    PlantedBug("an old polka overrules a lock", _rule(_any_polka_overrules), SPLIT, "prevoted another value", 400),
    PlantedBug("valid value only with lock", _rule(_valid_value_only_with_lock), LOSSY, "does not remember"),
    PlantedBug("valid value not proposed again", _rule(_fresh_value_always), LOSSY, "no progress"),
    PlantedBug("only this round's commit decides", _commit_of_this_round_only, LOSSY, "knows the commit of round"),
    PlantedBug("nil polka ignored", _nil_polka_ignored, LOSSY, "ignores the nil polka"),
    PlantedBug("old proposal taken as fresh", _old_proposal_is_fresh, LOSSY, "was not proposed in it"),
    PlantedBug("valid round believed", _valid_round_believed, against("valid round liar"), "on the mere word"),
    PlantedBug("everything is valid", _validity_not_awaited, against("bad proposer", QUIET), "no progress"),
    PlantedBug(
        "time-outs do not grow", _timeouts_do_not_grow, replace(QUIET, hasty=True), "no progress", limit_ms=9_000
    ),
    PlantedBug("proposer does not rotate", _proposer_does_not_rotate, against("silent", QUIET), "no progress"),
    PlantedBug("anybody may propose", _proposer_unchecked, NOISE, "whose turn it was not"),
    PlantedBug("any time is timely", _any_time_is_timely, against("time bender", QUIET), "ahead of time"),
    PlantedBug("evidence punished again", _evidence_punished_again, against("equivocator", QUIET), "again"),
    PlantedBug("evidence unverified", _evidence_unverified, against("bad proposer", QUIET), "is accused"),
    PlantedBug("evidence not kept", _evidence_not_kept, against("equivocator", QUIET), "kept no proof"),
    PlantedBug("evidence left out of blocks", _evidence_left_out, against("equivocator", QUIET), "leaves out"),
    PlantedBug("certificate checked up to two thirds", _first_quorum_of_certificate, LIARS, "bad commit"),
    PlantedBug("commit checked up to two thirds", _first_quorum_of_commit, LIARS, "bad commit"),
    PlantedBug("log not synced", _log_not_synced, CRASHING, "no progress"),
    PlantedBug("signature before its record", _signature_before_its_record, ROTTING, "signed two values", 200),
    PlantedBug("signer forgets its order", _signer_forgets_order, ROTTING, "signed two values", 200),
    PlantedBug("damaged log, and signs on", _damaged_log_signs_on, ROTTING, "prevoted another value", 200),
    PlantedBug("early messages not logged", _early_messages_not_logged, UNSTEADY, "a replay led to"),
    PlantedBug("replay in another order", _replay(lambda records: records[::-1]), CRASHING, "a replay led to"),
    PlantedBug("replay of half", _replay(lambda records: records[::2]), CRASHING, "a replay led to"),
    PlantedBug(
        "sound record cut with a torn tail", _sound_record_cut, replace(CRASHING, damages=("torn",)), "was synced"
    ),
    PlantedBug("torn tail stays", _torn_tail_stays, replace(CRASHING, damages=("torn",)), "was synced"),
    PlantedBug("full disk ignored", _full_disk_ignored, replace(CRASHING, full_every_ms=1_000), "a replay led to"),
    PlantedBug("catch-up never answers", _catch_up_never_answers, LOSSY, "no progress"),
    PlantedBug("set change a height early", _set_change_one_height_early, CHANGING, "two validator sets"),
    PlantedBug("set of another height", _set_of_wrong_height, CHANGING, "no progress"),
)
