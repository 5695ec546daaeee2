"""Blocks, commits and evidence: what is built is accepted, anything changed is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensus import beacon
from consensus.tendermint import block as blocks
from consensus.tendermint.block import ChainTip, build_block, validate_block, verify_commit
from consensus.tendermint.evidence import (
    EvidenceParameters,
    EvidencePool,
    evidence_id,
    is_expired,
    verify_evidence,
)
from consensus.tendermint.types import (
    NIL,
    Block,
    Commit,
    CommitFlag,
    CommitSlot,
    DuplicateVoteEvidence,
    Header,
    Validator,
    Vote,
    VoteType,
    vote_sign_bytes,
)
from consensus.tendermint.validators import new_validator_set
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection

CHAIN = "test-chain"
KEYS = {key.address: key for key in (SecretKey(hashlib.sha256(b"%d" % i).digest()) for i in range(4))}
SET = new_validator_set([Validator(key.address, key.public, 1) for key in KEYS.values()])
NAMES = [validator.address for validator in SET.validators]
PREVIOUS = b"p" * 32
TIP = ChainTip(CHAIN, 2, PREVIOUS, 1_000, b"a" * 32, b"r" * 32, b"b" * 32, SET, SET.hash, SET)


def signed(
    name: bytes, kind: VoteType, block_id: bytes, *, height: int = 1, round: int = 0, chain: str = CHAIN
) -> Vote:
    vote = Vote(kind, height, round, block_id, name)
    return Vote(kind, height, round, block_id, name, KEYS[name].sign(vote_sign_bytes(chain, vote)))


def commit(flags: str = "CCC-", block_id: bytes = PREVIOUS) -> Commit:
    slots = []
    for name, flag in zip(NAMES, flags, strict=True):
        of = {"C": block_id, "N": NIL}.get(flag)
        signature = b"" if of is None else signed(name, VoteType.PRECOMMIT, of).signature
        slots.append(CommitSlot(CommitFlag("-CN".index(flag)), signature))
    return Commit(1, 0, block_id, tuple(slots))


def double_vote(name: bytes = NAMES[0]) -> DuplicateVoteEvidence:
    return DuplicateVoteEvidence(signed(name, VoteType.PREVOTE, b"1" * 32), signed(name, VoteType.PREVOTE, b"2" * 32))


def good_block(**changes: Any) -> Block:
    proof = beacon.prove(KEYS[NAMES[0]].seed, beacon.beacon_input(CHAIN, TIP.height, TIP.beacon))
    fields: dict[str, Any] = {
        "proposer": NAMES[0],
        "time_ms": 2_000,
        "transactions": (b"one", b"two"),
        "last_commit": commit(),
        "evidence": (double_vote(),),
        "beacon_proof": proof,
    }
    return build_block(TIP, **(fields | changes))


def validate(block: Block, tip: ChainTip = TIP, pool: EvidencePool | None = None) -> None:
    validate_block(tip, block, evidence_validators=lambda _: SET, evidence_pool=pool or EvidencePool())


def reason(block: Block, tip: ChainTip = TIP, pool: EvidencePool | None = None) -> str:
    with pytest.raises(Rejection) as caught:
        validate(block, tip, pool)
    return caught.value.reason.name


def test_a_built_block_is_valid_and_survives_the_codec() -> None:
    block = good_block()
    validate(block)
    again = decode(Block, encode(block))
    assert again == block
    assert again.id == block.id
    assert good_block(time_ms=5).header.time_ms == TIP.previous_time_ms + 1


@pytest.mark.parametrize(
    "name",
    ["chain_id", "height", "previous_block_id", "app_hash", "results_root", "validators_hash", "next_validators_hash"],
)
def test_a_header_that_does_not_follow_is_refused(name: str) -> None:
    block = good_block()
    fields = {field: getattr(block.header, field) for field in block.header.__struct_fields__}
    fields[name] = 7 if name == "height" else "x" if name == "chain_id" else b"x" * 32
    assert reason(Block(Header(**fields), block.transactions, block.last_commit, block.evidence)) == "bad_header"


def test_contents_must_hash_to_the_header() -> None:
    good = good_block()
    h, t, c, e = good.header, good.transactions, good.last_commit, good.evidence
    for block in (
        Block(h, t[:1], c, e),
        Block(h, t[::-1], c, e),
        Block(h, t, commit("CCCC"), e),
        Block(h, t, c, ()),
    ):
        assert reason(block) == "bad_block"
    assert reason(good_block(transactions=(b"x" * (limits.BLOCK_BYTES_MAX + 1),))) == "bad_block"


def test_other_refusals() -> None:
    assert reason(good_block(), replace(TIP, previous_time_ms=2_000)) == "bad_header"
    assert reason(good_block(proposer=bytes(20))) == "bad_header"
    assert reason(good_block(proposer=NAMES[1])) == "bad_beacon"
    assert reason(good_block(), replace(TIP, beacon=bytes(32))) == "bad_beacon"
    assert reason(good_block(last_commit=None)) == "bad_commit"
    assert reason(good_block(last_commit=commit(block_id=b"q" * 32))) == "bad_commit"
    assert reason(good_block(evidence=(double_vote(), double_vote()))) == "bad_evidence"
    pool = EvidencePool()
    pool.commit((double_vote(),), forget_below=0)
    assert reason(good_block(), pool=pool) == "bad_evidence"


@pytest.mark.parametrize(
    ("flags", "good"), [("CCC-", True), ("CCCC", True), ("CCCN", True), ("CC-N", False), ("CNNN", False)]
)
def test_commits_need_more_than_two_thirds(flags: str, good: bool) -> None:
    if good:
        verify_commit(CHAIN, SET, commit(flags))
    else:
        with pytest.raises(Rejection):
            verify_commit(CHAIN, SET, commit(flags))


def test_every_signature_of_a_commit_is_checked() -> None:
    """Also those beyond two thirds, nil ones, and signatures where nobody signed."""
    for flags in ("CCCC", "CCCN"):
        for position in range(4):
            slots = list(commit(flags).slots)
            slots[position] = CommitSlot(slots[position].flag, slots[position - 1].signature)
            with pytest.raises(Rejection):
                verify_commit(CHAIN, SET, Commit(1, 0, PREVIOUS, tuple(slots)))
    slots = [*commit("CCC-").slots[:3], CommitSlot(CommitFlag.ABSENT, b"x")]
    for bad in (slots, slots[:3], []):
        with pytest.raises(Rejection):
            verify_commit(CHAIN, SET, Commit(1, 0, PREVIOUS, tuple(bad)))
    with pytest.raises(Rejection):
        verify_commit("other", SET, commit())


EVIDENCE = json.loads((Path(__file__).parent.parent / "vectors/evidence/duplicate_vote_evidence.json").read_text())


def vote_of(case: dict[str, Any]) -> Vote:
    kind = VoteType[case["type"].upper()]
    names = {"A": NAMES[0], "B": NAMES[1]}
    block_id = hashlib.sha256(case["block"].encode()).digest()
    vote = Vote(kind, case["height"], case["round"], block_id, names[case["validator"]])
    signature = KEYS[names[case["signed_by"]]].sign(vote_sign_bytes(case["chain"], vote))
    return Vote(kind, vote.height, vote.round, block_id, vote.validator, signature)


@pytest.mark.parametrize("case", EVIDENCE["cases"], ids=lambda case: case["name"])
def test_duplicate_vote_vectors(case: dict[str, Any]) -> None:
    votes = sorted([vote_of(EVIDENCE["first_vote"]), vote_of(case["second_vote"])], key=lambda vote: vote.block_id)
    evidence = DuplicateVoteEvidence(*votes)
    if case["valid_evidence"]:
        verify_evidence("mychain", SET, evidence)
        with pytest.raises(Rejection):
            verify_evidence("mychain", SET, DuplicateVoteEvidence(evidence.second, evidence.first))
    else:
        with pytest.raises(Rejection):
            verify_evidence("mychain", SET, evidence)


def test_evidence_expires_by_both_ages() -> None:
    limits_ = EvidenceParameters(max_age_blocks=10, max_age_ms=1_000)
    assert not is_expired(limits_, 1, 0, 11, 5_000)
    assert not is_expired(limits_, 1, 0, 12, 1_000)
    assert is_expired(limits_, 1, 0, 12, 1_001)


def test_the_pool_offers_each_offence_until_it_is_committed() -> None:
    pool, first = EvidencePool(), double_vote()
    again = DuplicateVoteEvidence(first.first, signed(NAMES[0], VoteType.PREVOTE, b"3" * 32))
    assert evidence_id(again) == evidence_id(first)
    assert pool.add(first)
    assert not pool.add(again)
    assert pool.add(double_vote(NAMES[1]))
    assert set(pool.pending()) == {first, double_vote(NAMES[1])}
    pool.commit((first,), forget_below=1)
    assert pool.pending() == (double_vote(NAMES[1]),)
    assert not pool.add(again)
    pool.commit((), forget_below=2)
    assert pool.pending() == ()
    assert not pool.is_committed(first)


def test_roots_of_nothing_are_fixed() -> None:
    assert blocks.data_root(()) == hashlib.sha256(b"").digest()
    assert blocks.commit_root(None) != blocks.commit_root(commit())
