"""`ConsensusCore`: one validator (or observer) through height after height. Inputs in, effects out, nothing else.

It adds to `height` what is not in the paper: whole blocks, our own signing, time-outs with durations, proposer-based
time, the hand-over between heights (late precommits; `early` holds what comes too soon), and what is outstanding after
a restart.
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus.tendermint import round as machine
from consensus.tendermint.catchup import answer_status, height_status
from consensus.tendermint.commits import CommitKeeper
from consensus.tendermint.effects import (
    Broadcast,
    BuildValue,
    Decide,
    Effect,
    EvidenceFound,
    RoundEntered,
    ScheduleTimeout,
    SignProposal,
    SignVote,
    ValidateValue,
)
from consensus.tendermint.height import HeightMachine, Output
from consensus.tendermint.inputs import (
    Input,
    StartHeight,
    Timeout,
    ValueBuilt,
    ValueValidated,
    VerifiedCertificate,
    VerifiedProposal,
    VerifiedVote,
)
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.proposer import ProposerSchedule
from consensus.tendermint.round import RoundStep
from consensus.tendermint.types import (
    NO_ROUND,
    Block,
    BlockId,
    Commit,
    ConsensusMessage,
    DuplicateVoteEvidence,
    FullProposal,
    HeightStatus,
    Proposal,
    Step,
    ValidatorSet,
    Vote,
    VoteType,
)
from consensus.tendermint.votes import Conflict
from gensyn_node.primitives.errors import InvariantViolation

RequestKey = tuple[str, int | BlockId]


class ConsensusCore:
    """One process. Owns no clock, key, disk or socket; deterministic in its inputs."""

    def __init__(self, chain_id: str, parameters: ConsensusParameters, address: bytes | None) -> None:
        """`address` is our validator address, None for a node that only follows."""
        self.chain_id = chain_id
        self.parameters = parameters
        self.address = address
        self.height = 0
        self.validators = ValidatorSet((), (), b"")
        self.proposers = ProposerSchedule(self.validators)
        self.machine = HeightMachine(0, ())
        self.blocks: dict[BlockId, Block] = {}
        self.proposals: dict[tuple[int, BlockId], Proposal] = {}
        self._previous: CommitKeeper | None = None
        self._requests: dict[RequestKey, Effect] = {}

    # Inputs.

    def step(self, given: Input) -> list[Effect]:
        """Take one input; returns the effects in the order in which they are to be done."""
        effects: list[Effect] = []
        match given:
            case VerifiedVote():
                self._vote(given, effects)
            case VerifiedProposal():
                self._proposal(given, effects)
            case VerifiedCertificate():
                self._certificate(given, effects)
            case Timeout(height, round, step) if height == self.height:
                self._requests.pop((f"timeout {step.name}", round), None)
                self._follow(self.machine.timeout(round, step), effects)
            case ValueBuilt(height, round, block) if height == self.height:
                self._value_built(round, block, effects)
            case ValueValidated(height, block_id, valid) if height == self.height:
                self._requests.pop(("validate", block_id), None)
                if block_id in self.blocks and block_id not in self.machine.validity:
                    self._follow(self.machine.set_validity(block_id, valid), effects)
            case StartHeight():
                self._start_height(given, effects)
            case _:
                pass  # an answer or a time-out of a height that is over
        return effects

    def wants(self, given: Input) -> bool:
        """Whether `step` would make anything of it. What it would not need not be logged: repetitions cost nobody else.

        True for answers and time-outs, and when in doubt.
        """
        match given:
            case VerifiedVote(vote) if vote.height == self.height:
                position = self.validators.positions.get(vote.validator)
                return position is not None and self.machine.votes.wants(vote.kind, vote.round, position, vote.block_id)
            case VerifiedVote(vote):
                return vote.height == self.height - 1 and self._previous is not None and self._previous.wants(vote)
            case VerifiedProposal(proposal) if proposal.height == self.height:
                return proposal.proposer == self.address or self.machine.wants_proposal(
                    proposal.round, proposal.block_id
                )
            case VerifiedCertificate(certificate) if certificate.height == self.height:
                known = self.machine.votes.quorum(certificate.kind, certificate.round)
                return known != certificate.block_id
            case VerifiedProposal() | VerifiedCertificate():
                return False
        return True

    def _start_height(self, given: StartHeight, effects: list[Effect]) -> None:
        if given.height <= self.height:
            raise InvariantViolation(f"height {given.height} started after height {self.height}")
        self._previous = self._commit_of_last_height(given)
        self.height, self.validators = given.height, given.validators
        self.proposers = ProposerSchedule(given.validators)
        self.machine = HeightMachine(given.height, [validator.power for validator in given.validators.validators])
        self.blocks, self.proposals, self._requests = {}, {}, {}
        self._enter_round(0, effects)

    def _commit_of_last_height(self, given: StartHeight) -> CommitKeeper | None:
        """The previous height's precommits: our own count, with whatever the given commit adds."""
        state, commit = self.machine.state, given.last_commit
        if given.height == self.height + 1 and state.decision is not None:
            if commit is not None and commit.block_id != state.decision:
                raise InvariantViolation(f"two different blocks are committed at height {self.height}")
            votes = self.machine.votes.rounds[state.decision_round].precommits
            keeper = CommitKeeper(self.height, state.decision_round, state.decision, self.validators, votes)
            if commit is not None:
                keeper.add_commit(commit)
            return keeper
        if commit is None or given.last_validators is None:
            return None
        return CommitKeeper.of_commit(commit, given.last_validators)

    def _vote(self, given: VerifiedVote, effects: list[Effect]) -> None:
        vote = given.vote
        if vote.height != self.height:
            if vote.height == self.height - 1 and self._previous is not None:
                self._previous.add_vote(vote, given.public_key)
            return
        position = self.validators.positions.get(vote.validator)
        if position is None or self.validators.validators[position].public_key != given.public_key:
            return
        counted, outputs = self.machine.add_vote(vote.kind, vote.round, position, vote.block_id, vote.signature)
        if vote.validator == self.address:
            self._requests.pop((f"vote {vote.kind.name}", vote.round), None)
            if counted:
                effects.append(Broadcast(vote))
        if outputs:
            self._follow(outputs, effects)

    def _proposal(self, given: VerifiedProposal, effects: list[Effect]) -> None:
        proposal, block = given.proposal, given.block
        key = (proposal.round, proposal.block_id)
        if proposal.height != self.height or self.proposers.of(proposal.round) != proposal.proposer:
            return
        if proposal.proposer == self.address:
            self._requests.pop(("propose", proposal.round), None)
        if not self.machine.wants_proposal(*key):
            return
        if proposal.proposer == self.address:
            effects.append(Broadcast(FullProposal(proposal, block)))
        self.proposals[key] = proposal
        self._validate(proposal.round, block, effects)
        timely = proposal.valid_round != NO_ROUND or self.parameters.timely(
            block.header.time_ms, given.received_ms, proposal.round
        )
        outputs = self.machine.add_proposal(proposal.round, proposal.block_id, proposal.valid_round, timely=timely)
        self._follow(outputs, effects)

    def _certificate(self, given: VerifiedCertificate, effects: list[Effect]) -> None:
        certificate = given.certificate
        if certificate.height == self.height and given.validators_hash == self.validators.hash:
            outputs = self.machine.add_certificate(
                certificate.kind, certificate.round, certificate.block_id, certificate.signatures
            )
            self._follow(outputs, effects)

    def _value_built(self, round: int, block: Block, effects: list[Effect]) -> None:
        self._requests.pop(("build", round), None)
        if round == self.machine.state.round and self.machine.state.step is RoundStep.PROPOSE:
            self._validate(round, block, effects)
            self._follow(self.machine.value_ready(round, block.id), effects)

    def _validate(self, round: int, block: Block, effects: list[Effect]) -> None:
        """Keep a block, and have it validated once (our own as well: a bug of ours must not cost our bond)."""
        if block.id in self.blocks:
            return
        self.blocks[block.id] = block
        if block.id not in self.machine.validity:
            self._request(("validate", block.id), ValidateValue(self.height, round, block), effects)

    # Outputs of the height machine become effects.

    def _follow(self, outputs: Iterable[Output], effects: list[Effect]) -> None:
        for output in outputs:
            match output:
                case machine.CastVote(kind, round, value):
                    self._cast_vote(kind, round, value, effects)
                case machine.StartTimer(round, step):
                    duration = self.parameters.timeout_ms(step, round)
                    timer = ScheduleTimeout(self.height, round, step, duration)
                    self._request((f"timeout {step.name}", round), timer, effects)
                case machine.MoveToRound(round):
                    self._enter_round(round, effects)
                case machine.GetValue(round):
                    request = BuildValue(self.height, round, self.last_commit())
                    self._request(("build", round), request, effects)
                case machine.Propose(round, value, valid_round):
                    self._propose(round, value, valid_round, effects)
                case machine.Decided(round, value):
                    self._requests.clear()
                    self._request(("decide", round), self._decision(round, value), effects)
                case Conflict():
                    effects.append(EvidenceFound(self._evidence(output)))

    def _enter_round(self, round: int, effects: list[Effect]) -> None:
        proposer = self.proposers.of(round)
        effects.append(RoundEntered(self.height, round, proposer))
        outputs = self.machine.enter_round(round, proposer == self.address)
        self._forget_blocks()
        self._requests = {key: request for key, request in self._requests.items() if key[1] in self.blocks}
        self._follow(outputs, effects)

    def _request(self, key: RequestKey, effect: Effect, effects: list[Effect]) -> None:
        """Emit an effect that will be answered, and remember it until then."""
        self._requests[key] = effect
        effects.append(effect)

    def _cast_vote(self, kind: VoteType, round: int, value: BlockId, effects: list[Effect]) -> None:
        if self.address is not None and self.address in self.validators.positions:
            vote = Vote(kind, self.height, round, value, self.address)
            self._request((f"vote {kind.name}", round), SignVote(vote), effects)

    def _propose(self, round: int, value: BlockId, valid_round: int, effects: list[Effect]) -> None:
        if self.address is None:
            raise InvariantViolation("a node that only follows was asked to propose")
        if valid_round != NO_ROUND:  # The paper needs no time-out here; we do, should the signer refuse.
            self._follow((machine.StartTimer(round, Step.PROPOSE),), effects)
        proposal = Proposal(self.height, round, valid_round, value, self.address)
        self._request(("propose", round), SignProposal(proposal, self.blocks[value]), effects)

    def _decision(self, round: int, value: BlockId) -> Decide:
        votes = self.machine.votes.rounds[round].precommits
        commit = CommitKeeper(self.height, round, value, self.validators, votes).commit()
        return Decide(self.height, round, self.blocks[value], commit)

    def _evidence(self, conflict: Conflict) -> DuplicateVoteEvidence:
        address = self.validators.validators[conflict.position].address
        (low, low_signature), (high, high_signature) = sorted((conflict.first, conflict.second))
        return DuplicateVoteEvidence(
            Vote(conflict.kind, self.height, conflict.round, low, address, low_signature),
            Vote(conflict.kind, self.height, conflict.round, high, address, high_signature),
        )

    def _forget_blocks(self) -> None:
        """Drop proposals and blocks that the height machine no longer holds."""
        held = {(round, value) for round, entries in self.machine.proposals.items() for value in entries}
        self.proposals = {key: proposal for key, proposal in self.proposals.items() if key in held}
        state = self.machine.state
        wanted = {value for _, value in held} | {state.locked_value, state.valid_value}
        self.blocks = {block_id: block for block_id, block in self.blocks.items() if block_id in wanted}

    # Questions; they change nothing.

    def outstanding(self) -> list[Effect]:
        """What the core still waits for: the effects to perform after a restart, once the log was fed."""
        return list(self._requests.values())

    def last_commit(self) -> Commit | None:
        """The fullest known commit of the previous height; None at the first."""
        return None if self._previous is None else self._previous.commit()

    def decided_commit(self) -> Commit | None:
        """The fullest known commit of the current height, None before its decision."""
        state = self.machine.state
        return None if state.decision is None else self._decision(state.decision_round, state.decision).commit

    def own_messages(self) -> list[ConsensusMessage]:
        """Our signed messages of the current round, to send again when the height does not advance."""
        position = self.validators.positions.get(self.address or b"")
        return [] if position is None else answer_status(self, None, only=position)

    def status(self) -> HeightStatus:
        """What we have of this height; a peer's `answer` to it is what we lack."""
        return height_status(self)

    def answer(self, status: HeightStatus) -> list[ConsensusMessage]:
        """What we have and a peer with this status lacks, most useful first; bounded. Empty for other heights."""
        return answer_status(self, status)
