"""What an operator wants to know of consensus: how long rounds and steps take, who is missing, what comes twice.

Told by the driver of everything it does; it never decides anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from consensus.tendermint import effects, inputs
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.round import RoundStep
from consensus.tendermint.types import Block, Commit, CommitFlag, FullProposal, ValidatorSet, VoteType
from gensyn_node.app.measures import Family, Histogram, counter, counters, gauge, histogram, histograms

TRANSACTIONS = (0.0, 1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 16_384.0)
"""Bounds of the histogram of transactions in a block."""


class Telemetry:
    """Counts for one driver."""

    def __init__(self, clock: Callable[[], float], wall_ms: Callable[[], int]) -> None:
        self._clock = clock
        self._wall_ms = wall_ms
        self._place = (0, -1, RoundStep.PROPOSE)
        self._step_began = self._round_began = clock()
        self._quorums: set[VoteType] = set()
        self._steps = {step.name.lower(): Histogram() for step in RoundStep}
        self._rounds = Histogram()
        self._intervals = Histogram()
        self._transactions = Histogram(TRANSACTIONS)
        self._delays = {kind: Histogram() for kind in VoteType}
        self._later_rounds = 0
        self._late: Counter[str] = Counter()
        self._duplicates: Counter[str] = Counter()
        self._proposals: Counter[str] = Counter()
        self._evidence = 0
        self._block: Block | None = None
        self._last_ms = 0
        self._missing = (0, 0)
        self._byzantine = (0, 0)
        self._size = 0
        self._total_transactions = 0

    # --- told by the driver

    def unwanted(self, item: object) -> None:
        """An input that brought nothing new."""
        match item:
            case inputs.VerifiedVote(vote):
                self._duplicates[vote.kind.name.lower()] += 1
            case inputs.VerifiedProposal():
                self._duplicates["proposal"] += 1
            case inputs.VerifiedCertificate():
                self._duplicates["certificate"] += 1

    def fed(self, item: object, core: ConsensusCore) -> None:
        """An input that the core took, and how it stands now."""
        match item:
            case inputs.VerifiedVote(vote) if vote.height < core.height or vote.round < core.machine.state.round:
                self._late[vote.kind.name.lower()] += 1
            case inputs.VerifiedProposal(proposal) if proposal.proposer != core.address:
                self._proposals["received"] += 1
            case inputs.ValueValidated(valid=False):
                self._proposals["refused"] += 1
        self._moved(core)

    def performed(self, effect: effects.Effect) -> None:
        """An effect that was carried out."""
        match effect:
            case effects.Broadcast(FullProposal()):
                self._proposals["created"] += 1
            case effects.EvidenceFound():
                self._evidence += 1

    def committed(self, block: Block, size: int, commit_round: int, last_validators: ValidatorSet | None) -> None:
        """A block that is the new head."""
        time_ms = block.header.time_ms
        if self._last_ms:
            self._intervals.observe(max(0, time_ms - self._last_ms) / 1000)
        self._last_ms = time_ms
        self._later_rounds += commit_round > 0
        self._transactions.observe(len(block.transactions))
        self._total_transactions += len(block.transactions)
        self._size = size
        if block.last_commit is not None and last_validators is not None:
            self._missing = _missing(block.last_commit, last_validators)
            accused = {item.first.validator for item in block.evidence if hasattr(item, "first")}
            powers = [member.power for member in last_validators.validators if member.address in accused]
            self._byzantine = (len(accused), sum(powers))

    def _moved(self, core: ConsensusCore) -> None:
        state, now = core.machine.state, self._clock()
        place = (core.height, state.round, state.step)
        if place != self._place:
            self._steps[self._place[2].name.lower()].observe(now - self._step_began)
            self._step_began = now
            if place[:2] != self._place[:2]:
                self._rounds.observe(now - self._round_began)
                self._round_began = now
                self._quorums = set()
            self._place = place
        for kind in VoteType:
            if kind not in self._quorums and (value := core.machine.votes.quorum(kind, state.round)):
                self._quorums.add(kind)
                proposed = core.blocks.get(value)
                if proposed is not None:
                    self._delays[kind].observe(max(0, self._wall_ms() - proposed.header.time_ms) / 1000)

    # --- asked by the metrics

    def families(self, validators: ValidatorSet) -> list[Family]:
        """Everything counted."""
        height, round_, step = self._place
        c = "gensyn_consensus_"
        return [
            gauge(f"{c}working_height", "Height that consensus works on.", height),
            gauge(f"{c}round", "Round of the height in progress.", max(round_, 0)),
            gauge(f"{c}step", "Step in progress: 1 propose, 2 prevote, 3 precommit.", int(step)),
            histogram(f"{c}round_duration_seconds", "How long rounds took.", self._rounds),
            histograms(f"{c}step_duration_seconds", "How long steps took.", "step", self._steps),
            histogram(f"{c}block_interval_seconds", "Time between blocks.", self._intervals),
            histogram(f"{c}block_transactions", "Transactions in a block.", self._transactions),
            counter(f"{c}transactions_total", "Transactions in committed blocks.", self._total_transactions),
            counter(f"{c}later_round_blocks_total", "Blocks that took more than one round.", self._later_rounds),
            gauge(f"{c}block_size_bytes", "Size of the last block.", self._size),
            gauge(f"{c}validators", "Members of the validator set.", len(validators.validators)),
            gauge(f"{c}validators_power", "Voting power in total.", validators.total_power),
            gauge(f"{c}missing_validators", "Validators that did not sign the last commit.", self._missing[0]),
            gauge(f"{c}missing_validators_power", "Their power.", self._missing[1]),
            gauge(f"{c}byzantine_validators", "Validators accused in the last block.", self._byzantine[0]),
            gauge(f"{c}byzantine_validators_power", "Their power.", self._byzantine[1]),
            histogram(
                f"{c}quorum_prevote_delay_seconds",
                "From a block's time to a quorum of prevotes for it.",
                self._delays[VoteType.PREVOTE],
            ),
            histogram(
                f"{c}quorum_precommit_delay_seconds",
                "From a block's time to a quorum of precommits for it.",
                self._delays[VoteType.PRECOMMIT],
            ),
            counters(f"{c}late_votes_total", "Votes of a round or height that was over.", "type", _known(self._late)),
            counters(
                f"{c}duplicate_messages_total",
                "Messages that brought nothing new.",
                "type",
                {**_known(self._duplicates), "proposal": self._duplicates["proposal"]},
            ),
            counters(
                f"{c}proposals_total",
                "Proposals by what became of them.",
                "status",
                {status: self._proposals[status] for status in ("created", "received", "refused")},
            ),
            counter(f"{c}evidence_found_total", "Double votes that this node saw itself.", self._evidence),
        ]


def _known(counted: Counter[str]) -> dict[str, float]:
    return {kind.name.lower(): counted[kind.name.lower()] for kind in VoteType}


def _missing(commit: Commit, validators: ValidatorSet) -> tuple[int, int]:
    """How many validators did not sign, and their power."""
    absent = [
        member.power
        for member, slot in zip(validators.validators, commit.slots, strict=False)
        if slot.flag is CommitFlag.ABSENT
    ]
    return len(absent), sum(absent)
