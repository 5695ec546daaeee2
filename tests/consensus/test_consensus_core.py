"""`ConsensusCore` by transcript: four validators with real keys, effects performed by hand."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import consensus.tendermint
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.early import EARLY_VOTES_MAX, EarlyMessages
from consensus.tendermint.effects import (
    Broadcast,
    BuildValue,
    Decide,
    Effect,
    EvidenceFound,
    ScheduleTimeout,
    SignProposal,
    SignVote,
    ValidateValue,
)
from consensus.tendermint.inputs import (
    Input,
    StartHeight,
    Timeout,
    ValueBuilt,
    ValueValidated,
    VerifiedProposal,
    VerifiedVote,
)
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.types import (
    NIL,
    Block,
    Certificate,
    CommitFlag,
    ConsensusMessage,
    FullProposal,
    Header,
    Proposal,
    Step,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.validators import new_validator_set
from consensus.tendermint.verify import verify_certificate, verify_proposal, verify_vote
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import InvariantViolation, Rejection

CHAIN = "test-chain"
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT
KEYS = {key.address: key for key in (SecretKey(hashlib.sha256(b"%d" % i).digest()) for i in range(4))}
SET = new_validator_set([Validator(key.address, key.public, 1) for key in KEYS.values()])
NAMES = [validator.address for validator in SET.validators]
PROPOSER = SET.proposer
ME, *OTHERS = [name for name in NAMES if name != PROPOSER]


def block(salt: bytes = b"", time_ms: int = 1_000, height: int = 1) -> Block:
    header = Header(CHAIN, height, time_ms, NIL, b"", salt, b"", b"", b"", SET.hash, SET.hash, PROPOSER, b"")
    return Block(header, (salt,), None, ())


def vote(name: bytes, kind: VoteType, block_id: bytes, round: int = 0, height: int = 1) -> VerifiedVote:
    unsigned = Vote(kind, height, round, block_id, name)
    signature = KEYS[name].sign(vote_sign_bytes(CHAIN, unsigned))
    return verify_vote(CHAIN, SET, Vote(kind, height, round, block_id, name, signature))


def proposal(of: Block, round: int = 0, valid_round: int = -1, received_ms: int = 1_050) -> VerifiedProposal:
    name = started(None).proposers.of(round)
    unsigned = Proposal(of.header.height, round, valid_round, of.id, name)
    signature = KEYS[name].sign(proposal_sign_bytes(CHAIN, unsigned))
    signed = Proposal(of.header.height, round, valid_round, of.id, name, signature)
    return verify_proposal(CHAIN, SET, signed, of, received_ms)


def started(address: bytes | None = ME) -> ConsensusCore:
    core = ConsensusCore(CHAIN, ConsensusParameters(), address)
    core.step(StartHeight(1, SET))
    return core


@dataclass
class Driver:
    """Performs what needs no judgement: signs and feeds back, says every block is valid."""

    core: ConsensusCore
    log: list[Input]
    done: list[Effect]

    def feed(self, *inputs: Input) -> list[Effect]:
        before = len(self.done)
        for given in inputs:
            self.log.append(given)
            for effect in self.core.step(given):
                self.done.append(effect)
                match effect:
                    case SignVote(asked):
                        self.feed(vote(asked.validator, asked.kind, asked.block_id, asked.round, asked.height))
                    case ValidateValue(height, _, of):
                        self.feed(ValueValidated(height, of.id, True))
        return self.done[before:]


def driver() -> Driver:
    return Driver(started(), [], [])


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def decided() -> Driver:
    node, value = driver(), block(b"x")
    node.feed(proposal(value))
    node.feed(*(vote(name, kind, value.id) for kind in VoteType for name in (PROPOSER, OTHERS[0])))
    return node


def test_a_height_from_proposal_to_decision() -> None:
    node, value = driver(), block(b"x")
    assert kinds(node.feed(proposal(value))) == ["ValidateValue", "SignVote", "Broadcast"]
    assert kinds(node.feed(vote(PROPOSER, PREVOTE, value.id))) == []
    assert kinds(node.feed(vote(OTHERS[0], PREVOTE, value.id))) == ["SignVote", "Broadcast"]
    node.feed(vote(PROPOSER, PRECOMMIT, value.id))
    (decision,) = node.feed(vote(OTHERS[0], PRECOMMIT, value.id))
    assert isinstance(decision, Decide)
    assert decision.block == value
    assert [slot.flag for slot in decision.commit.slots].count(CommitFlag.COMMIT) == 3


def test_late_precommits_complete_the_next_last_commit() -> None:
    node, value = decided(), block(b"x")
    node.feed(vote(OTHERS[1], PRECOMMIT, NIL))
    commit = node.core.decided_commit()
    assert commit is not None
    assert [slot.flag for slot in commit.slots].count(CommitFlag.NIL) == 1
    node.feed(StartHeight(2, SET, commit, SET))
    node.feed(vote(OTHERS[1], PRECOMMIT, value.id))
    last = node.core.last_commit()
    assert last is not None
    assert [slot.flag for slot in last.slots].count(CommitFlag.COMMIT) == 4


def test_the_proposer_builds_signs_and_broadcasts() -> None:
    core = ConsensusCore(CHAIN, ConsensusParameters(), PROPOSER)
    effects = core.step(StartHeight(1, SET))
    assert kinds(effects) == ["RoundEntered", "ScheduleTimeout", "BuildValue"]
    assert isinstance(effects[2], BuildValue)
    value = block(b"mine")
    effects = core.step(ValueBuilt(1, 0, value))
    assert kinds(effects) == ["ValidateValue", "SignProposal"]
    assert isinstance(effects[1], SignProposal)
    signed = proposal(value)
    assert core.step(signed) == [Broadcast(FullProposal(signed.proposal, value))]
    assert core.step(signed) == []


def test_an_untimely_fresh_proposal_gets_nil_but_may_still_be_decided() -> None:
    late = driver()
    late.feed(proposal(block(b"x"), received_ms=1_000 + 15_000 + 506))
    early = driver()
    early.feed(proposal(block(b"x", time_ms=2_000), received_ms=2_000 - 506))
    for node, time_ms in ((late, 1_000), (early, 2_000)):
        (signed,) = [effect for effect in node.done if isinstance(effect, SignVote)]
        assert signed.vote.block_id == NIL
        value = block(b"x", time_ms=time_ms)
        effects = node.feed(*(vote(name, PRECOMMIT, value.id) for name in (PROPOSER, *OTHERS)))
        assert kinds(effects)[-1] == "Decide"


def test_the_timely_bounds_grow_with_the_round() -> None:
    parameters = ConsensusParameters()
    assert parameters.timely(1_000, 495, 0)
    assert not parameters.timely(1_000, 494, 0)
    assert parameters.timely(1_000, 16_505, 0)
    assert not parameters.timely(1_000, 16_506, 0)
    assert parameters.timely(1_000, 16_506, 1)
    assert not parameters.timely(1_000, 494, 9)
    assert parameters.timeout_ms(Step.PROPOSE, 4) == 5_000
    assert parameters.timeout_ms(Step.PRECOMMIT, 4) == 3_000


def test_an_observer_follows_and_signs_nothing() -> None:
    core = started(None)
    value = block(b"x")
    effects = core.step(proposal(value)) + core.step(ValueValidated(1, value.id, True))
    for kind in VoteType:
        for name in (PROPOSER, *OTHERS):
            effects += core.step(vote(name, kind, value.id))
    assert "SignVote" not in kinds(effects)
    assert kinds(effects)[-1] == "Decide"


def test_two_votes_of_one_validator_are_evidence_once() -> None:
    node = driver()
    node.feed(vote(OTHERS[0], PREVOTE, block(b"x").id))
    (found,) = node.feed(vote(OTHERS[0], PREVOTE, NIL))
    assert isinstance(found, EvidenceFound)
    assert found.evidence.first.block_id < found.evidence.second.block_id
    assert node.feed(vote(OTHERS[0], PREVOTE, block(b"y").id)) == []


def test_a_replayed_log_asks_again_for_what_was_not_answered() -> None:
    node, value = driver(), block(b"x")
    node.feed(proposal(value), vote(PROPOSER, PREVOTE, value.id))
    core = started()
    for given in node.log:
        core.step(decode(Input, encode(given)))
    assert core.machine.state == node.core.machine.state
    assert core.status() == node.core.status()
    (timer,) = core.outstanding()
    assert timer == ScheduleTimeout(1, 0, Step.PROPOSE, 3_000)
    effects = core.step(vote(OTHERS[0], PREVOTE, value.id))
    assert kinds(effects) == ["SignVote"]
    assert effects[0] in core.outstanding()
    core.step(vote(ME, PRECOMMIT, value.id))
    assert effects[0] not in core.outstanding()


def test_a_decision_is_outstanding_until_the_next_height_starts() -> None:
    node = decided()
    assert kinds(node.core.outstanding()) == ["Decide"]
    node.core.step(StartHeight(2, SET, node.core.decided_commit(), SET))
    assert "Decide" not in kinds(node.core.outstanding())
    with pytest.raises(InvariantViolation):
        node.core.step(StartHeight(2, SET))


def test_a_conflicting_stored_commit_stops_the_node() -> None:
    node = decided()
    commit = node.core.decided_commit()
    assert commit is not None
    other = type(commit)(commit.height, commit.round, block(b"other").id, commit.slots)
    with pytest.raises(InvariantViolation):
        node.core.step(StartHeight(2, SET, other, SET))


def verified(message: ConsensusMessage) -> Input:
    match decode(ConsensusMessage, encode(message)):
        case Vote() as received:
            return verify_vote(CHAIN, SET, received)
        case FullProposal(signed, of):
            return verify_proposal(CHAIN, SET, signed, of, 1_050)
        case Certificate() as certificate:
            return verify_certificate(CHAIN, SET, certificate)
    raise AssertionError


def test_catch_up_brings_a_node_that_heard_nothing_to_the_decision() -> None:
    ahead, behind = decided(), Driver(started(OTHERS[1]), [], [])
    answer = ahead.core.answer(behind.core.status())
    assert [type(message) for message in answer[:2]] == [Certificate, FullProposal]
    behind.feed(*map(verified, answer))
    assert isinstance(behind.done[-1], Decide)
    assert ahead.core.answer(behind.core.status()) == []


def test_catch_up_moves_a_node_to_the_round_of_the_others() -> None:
    ahead, behind = driver(), Driver(started(OTHERS[1]), [], [])
    ahead.feed(*(vote(name, PREVOTE, NIL, round=5) for name in (PROPOSER, OTHERS[0])))
    assert ahead.core.machine.state.round == 5
    behind.feed(*map(verified, ahead.core.answer(behind.core.status())))
    assert behind.core.machine.state.round == 5


def test_catch_up_shows_a_polka_that_an_equivocator_hid() -> None:
    value = block(b"x")
    ahead, behind = driver(), Driver(started(OTHERS[1]), [], [])
    ahead.feed(proposal(value), vote(PROPOSER, PREVOTE, value.id), vote(OTHERS[0], PREVOTE, value.id))
    assert ahead.core.machine.state.locked_round == 0
    behind.feed(vote(OTHERS[0], PREVOTE, NIL), vote(PROPOSER, PREVOTE, value.id), proposal(value))
    assert behind.core.machine.votes.quorum(PREVOTE, 0) is None
    effects = behind.feed(*map(verified, ahead.core.answer(behind.core.status())))
    assert behind.core.machine.votes.quorum(PREVOTE, 0) == value.id
    assert any(isinstance(effect, EvidenceFound) for effect in effects)


def test_own_messages_can_be_sent_again() -> None:
    node, value = driver(), block(b"x")
    node.feed(proposal(value))
    (own,) = node.core.own_messages()
    assert isinstance(own, Vote)
    assert (own.validator, own.block_id) == (ME, value.id)
    assert started(None).own_messages() == []


def test_messages_of_the_next_height_wait_within_bounds() -> None:
    early = EarlyMessages()
    assert not early.offer(vote(ME, PREVOTE, NIL, height=1), height=1)
    assert not early.offer(Timeout(2, 0, Step.PROPOSE), height=1)
    for round in range(EARLY_VOTES_MAX + 3):
        assert early.offer(vote(OTHERS[0], PREVOTE, NIL, round=round, height=2), height=1)
    assert early.offer(vote(OTHERS[1], PREVOTE, NIL, height=2), height=1)
    assert len(early.take()) == EARLY_VOTES_MAX + 1
    assert early.take() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"round": -1}, "bad_vote"),
        ({"height": 0}, "bad_vote"),
        ({"block_id": b"short"}, "bad_vote"),
        ({"validator": bytes(20)}, "unknown_validator"),
        ({"round": 1}, "bad_vote_signature"),
        ({"kind": PRECOMMIT}, "bad_vote_signature"),
        ({"signature": b""}, "bad_vote_signature"),
    ],
)
def test_bad_votes_are_refused(change: dict[str, object], reason: str) -> None:
    good = vote(ME, PREVOTE, NIL).vote
    fields = {name: getattr(good, name) for name in good.__struct_fields__} | change
    with pytest.raises(Rejection) as caught:
        verify_vote(CHAIN, SET, Vote(**fields))
    assert caught.value.reason.name == reason
    with pytest.raises(Rejection):
        verify_vote("other-chain", SET, good)


def test_bad_proposals_are_refused() -> None:
    good = proposal(block(b"x"))

    def refused(signed: Proposal, of: Block = good.block, validators: ValidatorSet = SET) -> str:
        with pytest.raises(Rejection) as caught:
            verify_proposal(CHAIN, validators, signed, of, 0)
        return caught.value.reason.name

    p = good.proposal
    assert refused(p, block(b"y")) == "bad_proposal"
    assert refused(Proposal(1, 0, 0, p.block_id, p.proposer, p.signature)) == "bad_proposal"
    out_of_turn = Proposal(1, 0, -1, p.block_id, ME, KEYS[ME].sign(proposal_sign_bytes(CHAIN, p)))
    assert refused(out_of_turn) == "wrong_proposer"
    assert refused(Proposal(1, 0, -1, p.block_id, bytes(20), p.signature)) == "unknown_validator"
    assert refused(Proposal(1, 0, -1, p.block_id, p.proposer, bytes(64))) == "bad_proposal_signature"


def test_bad_certificates_are_refused() -> None:
    signatures = tuple((i, vote(name, PREVOTE, NIL).vote.signature) for i, name in enumerate(NAMES[:3]))
    assert verify_certificate(CHAIN, SET, Certificate(PREVOTE, 1, 0, NIL, signatures))
    for bad in (
        signatures[:2],
        signatures[::-1],
        (signatures[0], *signatures),
        (*signatures[:2], (9, signatures[2][1])),
        (*signatures[:2], (3, signatures[2][1])),
    ):
        with pytest.raises(Rejection):
            verify_certificate(CHAIN, SET, Certificate(PREVOTE, 1, 0, NIL, bad))


def test_only_verify_makes_verified_inputs() -> None:
    """Nobody in the product constructs a `Verified…` except the functions that check signatures."""
    root = Path(consensus.tendermint.__file__).parent.parent.parent
    makers = set()
    for folder in ("consensus", "gensyn_node", "p2p", "cli"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if name in ("VerifiedVote", "VerifiedProposal", "VerifiedCertificate"):
                        makers.add(path.relative_to(root).as_posix())
    assert makers == {"consensus/tendermint/verify.py"}
