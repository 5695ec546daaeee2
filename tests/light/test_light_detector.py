"""Witnesses: who agrees, who is merely wrong, and what a true divergence proves against whom."""

from __future__ import annotations

from collections.abc import Callable

from light_world import CHAIN, OPTIONS, Members, World, header, members, seal
from msgspec import structs

from consensus.light import reasons
from consensus.light.detector import Agrees, BadWitness, Detector, Diverges, FetchFrom, Source, Verdict
from consensus.light.skipping import Fetch, NotAvailable, Skipping, Verified
from consensus.light.types import LightBlock
from consensus.tendermint.light_attack import as_set, lunatic_offenders
from consensus.tendermint.reasons import BAD_COMMIT
from consensus.tendermint.types import Header

HEIGHTS = 200
NOW_MS = HEIGHTS * 1_000 + 5_000
Answer = Callable[[int], LightBlock | NotAvailable]


def turning(height: int) -> Members:
    """One of four is replaced every 20 heights."""
    return members([f"{name}{(height + shift) // 80}" for name, shift in zip("abcd", (0, 20, 40, 60), strict=True)])


TRUE = World(turning, HEIGHTS)


def trace_of(answer: Answer, target: int = HEIGHTS) -> tuple[LightBlock, ...]:
    skipping = Skipping(CHAIN, TRUE.genesis(), target, OPTIONS)
    effect = skipping.start(NOW_MS)
    while isinstance(effect, Fetch):
        effect = skipping.step(answer(effect.height), NOW_MS)
    assert isinstance(effect, Verified), effect
    return effect.trace


def compare(primary: Answer, witness: Answer) -> tuple[Verdict, list[FetchFrom]]:
    detector = Detector(CHAIN, TRUE.genesis(), trace_of(primary), OPTIONS)
    effect, asked = detector.start(), []
    while isinstance(effect, FetchFrom):
        asked.append(effect)
        source = primary if effect.source is Source.PRIMARY else witness
        effect = detector.step(source(effect.height), NOW_MS)
    return effect, asked


class Fork:
    """A chain that leaves the true one after `last`: its validators of then lie about the state from there on."""

    def __init__(self, last: int, signers: Callable[[int], Members] | None = None) -> None:
        self.last = last
        self.liars = signers or (lambda height: turning(last))
        self._headers: dict[int, Header] = {}

    def header(self, height: int) -> Header:
        if height <= self.last:
            return TRUE.header(height)
        if height not in self._headers:
            previous = self.header(height - 1).id
            set_ = self.set_of(height)
            self._headers[height] = header(height, set_, self.set_of(height + 1), previous=previous, salt=b"fork")
        return self._headers[height]

    def set_of(self, height: int) -> Members:
        return turning(height) if height <= self.last + 1 else self.liars(height)

    def block(self, height: int) -> LightBlock:
        if height <= self.last:
            return TRUE.block(height)
        return seal(self.header(height), self.set_of(height), self.set_of(height + 1))


def test_a_witness_with_the_same_header_agrees_at_once() -> None:
    verdict, asked = compare(TRUE.block, TRUE.block)
    assert verdict == Agrees()
    assert asked == [FetchFrom(Source.WITNESS, HEIGHTS)]


def test_a_witness_without_the_header_says_nothing() -> None:
    verdict, _ = compare(TRUE.block, NotAvailable)
    assert isinstance(verdict, BadWitness)
    assert verdict.why.reason is reasons.NOT_AVAILABLE


def test_a_witness_with_a_header_that_nobody_would_believe_is_only_a_bad_witness() -> None:
    strangers = members(["x", "y", "z"])
    forged = seal(header(HEIGHTS, strangers, strangers), strangers, strangers)
    verdict, _ = compare(TRUE.block, lambda height: forged if height == HEIGHTS else TRUE.block(height))
    assert isinstance(verdict, BadWitness)
    unsigned = seal(Fork(100).header(HEIGHTS), Fork(100).set_of(HEIGHTS), Fork(100).set_of(201), signers=())
    verdict, _ = compare(TRUE.block, lambda height: unsigned if height == HEIGHTS else TRUE.block(height))
    assert isinstance(verdict, BadWitness)
    other = structs.replace(TRUE.block(HEIGHTS), header=Fork(100).header(HEIGHTS))
    verdict, _ = compare(TRUE.block, lambda height: other)
    assert isinstance(verdict, BadWitness)
    verdict, _ = compare(TRUE.block, lambda height: TRUE.block(HEIGHTS - 1))
    assert isinstance(verdict, BadWitness)
    assert verdict.why.reason in (reasons.BAD_LIGHT_BLOCK, BAD_COMMIT)


class Records:
    """The true chain's records."""

    def header(self, height: int) -> Header | None:
        return TRUE.header(height)

    def is_punishable(self, validator: bytes, height: int) -> bool:
        return True


def test_a_lying_primary_is_convicted_before_an_honest_witness() -> None:
    fork = Fork(90)
    verdict, _ = compare(fork.block, TRUE.block)
    assert isinstance(verdict, Diverges)
    assert verdict.common.height <= 90
    evidence = verdict.against_primary
    assert evidence.header.height > 90
    common = as_set(TRUE.set_of(evidence.common_height + 1))
    guilty = lunatic_offenders(CHAIN, common, Records(), evidence)
    assert guilty
    assert set(guilty) <= {member.address for member in turning(90)}


def test_a_lying_witness_is_convicted_before_an_honest_primary() -> None:
    fork = Fork(90)
    verdict, _ = compare(TRUE.block, fork.block)
    assert isinstance(verdict, Diverges)
    evidence = verdict.against_witness
    assert evidence is not None
    assert evidence.header.height > 90
    assert evidence.header.id == fork.header(evidence.header.height).id
    common = as_set(TRUE.set_of(evidence.common_height + 1))
    assert lunatic_offenders(CHAIN, common, Records(), evidence)


def test_the_evidence_names_the_last_common_header() -> None:
    fork = Fork(90)
    for primary, witness in ((fork.block, TRUE.block), (TRUE.block, fork.block)):
        verdict, _ = compare(primary, witness)
        assert isinstance(verdict, Diverges)
        assert verdict.common.block_id in (TRUE.header(max(1, verdict.common.height)).id, b"")
        for evidence, liar in ((verdict.against_primary, primary), (verdict.against_witness, witness)):
            assert evidence is not None
            assert evidence.common_height < evidence.header.height
            assert liar(evidence.header.height).id == evidence.header.id


def test_a_primary_that_hides_its_own_headers_does_not_stop_the_report() -> None:
    true_trace = trace_of(TRUE.block)
    fork = Fork(90)
    detector = Detector(CHAIN, TRUE.genesis(), true_trace, OPTIONS)
    effect = detector.start()
    while isinstance(effect, FetchFrom):
        hides = effect.source is Source.PRIMARY
        answer = NotAvailable(effect.height) if hides else fork.block(effect.height)
        effect = detector.step(answer, NOW_MS)
    assert isinstance(effect, Diverges)
