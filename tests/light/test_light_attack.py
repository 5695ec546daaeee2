"""Whom a false header convicts: recomputed from the chain's records, whatever the evidence itself says."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from light_world import CHAIN, Members, header, key_of, members, seal
from msgspec import structs

from consensus.light.types import LightBlock
from consensus.tendermint import reasons
from consensus.tendermint.evidence import (
    EvidencePool,
    check_place,
    evidence_height,
    evidence_id,
    offenders,
    verify_evidence,
)
from consensus.tendermint.light_attack import as_set, double_votes, lunatic_offenders, verify_light_attack
from consensus.tendermint.types import (
    CommitFlag,
    CommitSlot,
    DuplicateVoteEvidence,
    Evidence,
    Header,
    LightClientAttackEvidence,
    Vote,
    VoteType,
    vote_sign_bytes,
)
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Reason, Rejection

SET = members(["a", "b", "c", "d"])
TRUE = header(20, SET, SET)


@dataclass
class Records:
    """A chain that has header 20, and a ledger that has punished some."""

    headers: dict[int, Header] = field(default_factory=lambda: {20: TRUE})
    punished: set[bytes] = field(default_factory=set)

    def header(self, height: int) -> Header | None:
        return self.headers.get(height)

    def is_punishable(self, validator: bytes, height: int) -> bool:
        return validator not in self.punished


def address(name: str) -> bytes:
    return key_of(name).address


def attack(block: LightBlock, *byzantine: str, common: int = 10) -> LightClientAttackEvidence:
    named = tuple(sorted(address(name) for name in byzantine))
    return LightClientAttackEvidence(common, block.header, block.commit, block.validators, named)


def forged(set_: Members = SET, signers: tuple[str, ...] = ("a", "b", "c"), **fields: object) -> LightBlock:
    """Header 20 with another state: no honest validator can have signed it."""
    head = structs.replace(header(20, set_, set_), **({"app_hash": b"forged".ljust(32)} | fields))
    return seal(head, set_, set_, signers=signers)


def refused(evidence: LightClientAttackEvidence, records: Records | None = None, common: Members = SET) -> Reason:
    with pytest.raises(Rejection) as caught:
        check_place(evidence)
        verify_light_attack(CHAIN, as_set(common), records or Records(), evidence)
    return caught.value.reason


def test_a_lunatic_header_convicts_its_signers() -> None:
    evidence = attack(forged(), "a", "b", "c")
    check_place(evidence)
    verify_light_attack(CHAIN, as_set(SET), Records(), evidence)
    assert evidence_height(evidence) == 11
    assert decode(Evidence, encode(evidence)) == evidence


@pytest.mark.parametrize("field_", ["validators_hash", "next_validators_hash", "app_hash", "results_root"])
def test_every_determined_field_convicts(field_: str) -> None:
    made_up = members({"a": 10, "b": 10, "x": 1})
    if field_ == "validators_hash":
        head = header(20, made_up, SET)
        block = seal(head, made_up, SET)
        verify_light_attack(CHAIN, as_set(SET), Records(), attack(block, "a", "b"))
        return
    block = forged(**{"app_hash": TRUE.app_hash, field_: b"z" * 32})
    verify_light_attack(CHAIN, as_set(SET), Records(), attack(block, "a", "b", "c"))


def test_carried_names_are_never_believed() -> None:
    """Somebody honest added, somebody guilty left out, a stranger, another order: all refused."""
    block = forged()
    for named in (("a", "b", "c", "d"), ("a", "b"), ("a", "b", "c", "x"), ()):
        assert refused(attack(block, *named)) is reasons.BAD_EVIDENCE
    rising = attack(block, "a", "b", "c")
    turned = structs.replace(rising, byzantine=rising.byzantine[::-1])
    assert refused(turned) is reasons.BAD_EVIDENCE


def test_who_is_punished_is_not_accused_again() -> None:
    records = Records(punished={address("a")})
    assert refused(attack(forged(), "a", "b", "c"), records) is reasons.BAD_EVIDENCE
    verify_light_attack(CHAIN, as_set(SET), records, attack(forged(), "b", "c"))
    everybody = Records(punished={address(name) for name in "abc"})
    assert refused(attack(forged()), everybody) is reasons.BAD_EVIDENCE


def test_an_attack_that_is_punished_costs_no_signature_when_it_comes_again() -> None:
    def never(public_key: bytes, message: bytes, signature: bytes) -> bool:
        raise AssertionError("a signature was checked")

    everybody = Records(punished={address(name) for name in "abc"})
    assert lunatic_offenders(CHAIN, as_set(SET), everybody, attack(forged()), never) == ()


def test_who_did_not_sign_is_not_accused() -> None:
    """Absent validators, and those who voted nil."""
    head = structs.replace(TRUE, app_hash=b"z" * 32)
    block = seal(head, SET, SET, signers=("a", "b", "c"), nil=("d",))
    assert lunatic_offenders(CHAIN, as_set(SET), Records(), attack(block)) == tuple(
        sorted(address(name) for name in "abc")
    )


def test_power_is_recomputed_from_the_true_set() -> None:
    """The false header's own set gives its signers all power; in the true set they had exactly a third, or less."""
    true = members({"a": 10, "b": 10, "c": 10})
    made_up = members({"a": 1_000, "x": 1, "y": 1})
    block = seal(header(20, made_up, made_up), made_up, made_up)
    assert refused(attack(block, "a"), common=true) is reasons.BAD_EVIDENCE
    verify_light_attack(CHAIN, as_set(members({"a": 11, "b": 10, "c": 10})), Records(), attack(block, "a"))


def test_a_header_the_chain_could_have_had_is_no_lunacy() -> None:
    for change in ({"data_root": b"z" * 32}, {"time_ms": 1}, {"proposer": b"p" * 20}):
        block = seal(structs.replace(TRUE, **change), SET, SET)
        assert refused(attack(block, "a", "b", "c", "d")) is reasons.BAD_EVIDENCE
    assert refused(attack(seal(TRUE, SET, SET), "a", "b", "c", "d")) is reasons.BAD_EVIDENCE


def test_a_height_this_chain_does_not_have_is_nobodys_fault() -> None:
    assert refused(attack(forged(), "a", "b", "c"), Records(headers={})) is reasons.EVIDENCE_OUT_OF_REACH


@pytest.mark.parametrize("common", [-1, 20, 21, 1 << 62])
def test_an_impossible_common_height_is_refused(common: int) -> None:
    assert refused(attack(forged(), "a", "b", "c", common=common)) is reasons.BAD_EVIDENCE


def test_what_does_not_belong_together_is_refused() -> None:
    block = forged()
    other = forged(results_root=b"q" * 32)
    slots = block.commit.slots
    bad_slot = CommitSlot(CommitFlag.COMMIT, bytes(64))
    good = attack(block, "a", "b", "c")
    for wrong in (
        structs.replace(good, commit=other.commit),
        structs.replace(good, header=structs.replace(good.header, chain_id="other")),
        structs.replace(good, commit=structs.replace(block.commit, height=21)),
        structs.replace(good, commit=structs.replace(block.commit, round=-1)),
        structs.replace(good, commit=structs.replace(block.commit, slots=slots[:3])),
        structs.replace(good, commit=structs.replace(block.commit, slots=(bad_slot, *slots[1:]))),
        structs.replace(good, validators=members(["a", "b", "c", "x"])),
        structs.replace(good, validators=(*SET[:3], SET[0])),
        structs.replace(good, validators=(*SET[:3], structs.replace(SET[3], power=0))),
        attack(forged(signers=("a", "b")), "a", "b"),
    ):
        assert refused(wrong) is reasons.BAD_EVIDENCE or refused(wrong) is reasons.BAD_COMMIT


def test_every_signature_of_the_false_commit_is_checked() -> None:
    """With three of four a quorum is there; the fourth must not be framed by a made-up signature."""
    block = forged()
    slots = list(block.commit.slots)
    position = next(number for number, member in enumerate(SET) if member.address == address("d"))
    slots[position] = CommitSlot(CommitFlag.COMMIT, bytes(64))
    framed = structs.replace(block, commit=structs.replace(block.commit, slots=tuple(slots)))
    assert refused(attack(framed, "a", "b", "c", "d")) is reasons.BAD_COMMIT


# --- equivocation and amnesia


def test_two_commits_of_one_round_are_double_votes() -> None:
    true = seal(TRUE, SET, SET, signers=("a", "b", "c"))
    false = seal(structs.replace(TRUE, data_root=b"z" * 32), SET, SET, signers=("b", "c", "d"))
    found = double_votes(as_set(SET), true.commit, false.header, false.commit)
    assert {item.first.validator for item in found} == {address("b"), address("c")}
    for item in found:
        verify_evidence(CHAIN, as_set(SET), item)


def test_the_same_offence_has_one_name_however_it_was_found() -> None:
    """Seen on the wire or in the commit shown to a light client: punished once."""
    true = seal(TRUE, SET, SET)
    false = seal(structs.replace(TRUE, data_root=b"z" * 32), SET, SET)
    by_attack = double_votes(as_set(SET), true.commit, false.header, false.commit)[0]
    third = Vote(VoteType.PRECOMMIT, 20, 0, b"3" * 32, by_attack.first.validator)
    key = next(key_of(name) for name in "abcd" if address(name) == third.validator)
    third = structs.replace(third, signature=key.sign(vote_sign_bytes(CHAIN, third)))
    on_the_wire = DuplicateVoteEvidence(*sorted((by_attack.second, third), key=lambda vote: vote.block_id))
    verify_evidence(CHAIN, as_set(SET), on_the_wire)
    assert evidence_id(on_the_wire) == evidence_id(by_attack)


def test_two_rounds_prove_nothing_against_anybody() -> None:
    true = seal(TRUE, SET, SET)
    false = seal(structs.replace(TRUE, data_root=b"z" * 32), SET, SET, round=1)
    assert double_votes(as_set(SET), true.commit, false.header, false.commit) == ()


# --- the pool


def test_the_pool_names_nobody_twice_in_one_block() -> None:
    pool = EvidencePool()
    lunatic = attack(forged(), "a", "b", "c")
    true = seal(TRUE, SET, SET, signers=("a", "b", "c"))
    false = seal(structs.replace(TRUE, data_root=b"z" * 32), SET, SET, signers=("a", "b", "d"))
    doubles = double_votes(as_set(SET), true.commit, false.header, false.commit)
    assert pool.add(lunatic)
    assert not pool.add(lunatic)
    assert all(pool.add(item) for item in doubles)
    chosen = pool.pending()
    named = [name for item in chosen for name in offenders(item)]
    assert sorted(named) == sorted(set(named)) == sorted(address(name) for name in "abc")
    left = pool.pending(lambda validator, height: validator != address("c"))
    assert [offenders(item) for item in left] == [tuple(sorted((address("a"), address("b"))))]
    pool.drop_punished(lambda validator, height: validator == address("c"))
    assert pool.all() == (lunatic,)


def test_what_one_validator_signs_does_not_fill_the_pool() -> None:
    pool = EvidencePool()
    other = next(name for name in "abcd" if name != "a")

    def double(name: str, height: int) -> DuplicateVoteEvidence:
        votes = [Vote(VoteType.PREVOTE, height, 0, id_ * 32, address(name)) for id_ in (b"\1", b"\2")]
        return DuplicateVoteEvidence(votes[0], votes[1])

    assert sum(pool.add(double("a", height)) for height in range(1, 500)) == 64
    assert pool.add(double(other, 1))


def test_evidence_of_the_largest_set_fits_a_block() -> None:
    names = [f"v{number}" for number in range(limits.VALIDATORS_MAX)]
    large = members(names)
    block = seal(structs.replace(header(20, large, large), app_hash=b"z" * 32), large, large)
    evidence = attack(block, *names)
    verify_light_attack(CHAIN, as_set(large), Records(), evidence)
    assert len(encode(evidence)) < 32 * limits.KIB
