"""The key that draws the samples of a segment's evidence: known from the draw of its verifiers on, the same for all.

A second draw after verdicts were shown (states that could not be fetched, a forced error put right) has a new one: with
the old one its verifiers could show what others have shown. A slot that stays through it keeps its own beacon.
"""

from __future__ import annotations

from consensus.ledger.messages import ARITHMETIC_NATIVE, TaskSpec
from consensus.ledger.records import Instalment, Verification
from proofs.samples import evidence_key


def evidence_key_of(spec: TaskSpec, instalment: Instalment, segment: int) -> bytes:
    """The segment's key; empty before the draw, and of native tasks, whose evidence has no samples."""
    return _key(spec, instalment, segment, instalment.evidence_beacon)


def shown_key(spec: TaskSpec, instalment: Instalment, segment: int, slot: Verification) -> bytes:
    """The key of the evidence that a slot's verifier shows."""
    return _key(spec, instalment, segment, slot.evidence_beacon)


def comparable(instalment: Instalment, slot: Verification) -> bool:
    """Whether a slot's evidence has the samples that the instalment's verifiers show now."""
    return slot.evidence_beacon == instalment.evidence_beacon


def _key(spec: TaskSpec, instalment: Instalment, segment: int, beacon: bytes) -> bytes:
    if spec.arithmetic == ARITHMETIC_NATIVE or not beacon:
        return b""
    return evidence_key(beacon, instalment.task_id, instalment.number, instalment.attempt, segment)
