"""The key that draws the samples of a segment's evidence: known from the draw of its verifiers on, the same for all.

A second draw after verdicts were shown (states that could not be fetched, a forced error put right) has a new one: with
the old one its verifiers could show what others have shown.
"""

from __future__ import annotations

from consensus.ledger.messages import ARITHMETIC_NATIVE, TaskSpec
from consensus.ledger.records import Instalment
from proofs.samples import evidence_key


def evidence_key_of(spec: TaskSpec, instalment: Instalment, segment: int) -> bytes:
    """The segment's key; empty before the draw, and of native tasks, whose evidence has no samples."""
    if spec.arithmetic == ARITHMETIC_NATIVE or not instalment.evidence_beacon:
        return b""
    beacon, task_id = instalment.evidence_beacon, instalment.task_id
    return evidence_key(beacon, task_id, instalment.number, instalment.attempt, segment)
