"""Dishonest behaviour for rehearsals on local networks: a node plays the liar so that its defeat can be watched.

Configured as `[devnet] cheat` and refused on any chain whose id does not begin with `devnet`. A liar stands by its lie:
in a dispute it moves by the same wrong computation that it committed to.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from consensus.ledger.duties import SegmentWork
from consensus.ledger.messages import APPROVED, Finding
from consensus.ledger.records import VERIFICATION_REVEALED, Instalment
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from gensyn_node.roles.reasons import BAD_CHEAT
from ml.data.manifest import Manifest, manifest_path, read_manifest, shard_path, write_dataset
from ml.worker.messages import Fault, Job
from proofs import tensors
from proofs.program.types import Program

COLLUDER = "colluder"
FLIPPED_BIT = 22
"""The highest bit of the fraction: the value changes by half, no NaN, no overflow."""


@dataclass(frozen=True, slots=True)
class Cheats:
    """What this node does wrong on purpose; the default is nothing."""

    flip_bit_step: int | None = None
    """Flip one bit of one operator's output in this step, and stand by the result."""
    skip_step: int | None = None
    """Leave this step out: what is committed after it is the state before it."""
    poisoned_data: bool = False
    """Train on other records than the task's."""
    solving: bool = True
    """The wrong computation is what it trains."""
    verifying: bool = False
    """The wrong computation is what it re-executes."""
    withholds: bool = False
    """As solver: commit, and serve none of the states."""
    stalls: bool = False
    """In a dispute: make every move as late as the clock allows."""
    lazy_verifier: bool = False
    """As verifier: approve everything without work, with made-up evidence."""
    copying_verifier: bool = False
    """As verifier: commit to anything, then show what another one has shown."""
    equivocates: bool = False
    """As validator: vote for two blocks."""

    @property
    def idle_verifier(self) -> bool:
        """Whether its verdicts are made up."""
        return self.lazy_verifier or self.copying_verifier


_WORDS = {
    "lazy-verifier": Cheats(lazy_verifier=True),
    "copying-verifier": Cheats(copying_verifier=True),
    "wrong-data": Cheats(poisoned_data=True),
    "withheld-data": Cheats(withholds=True),
    "equivocation": Cheats(equivocates=True),
}
_AT_A_STEP: dict[str, Callable[[int], Cheats]] = {
    "flip-bit": lambda step: Cheats(flip_bit_step=step),
    "skip-step": lambda step: Cheats(skip_step=step),
    "false-accuser": lambda step: Cheats(flip_bit_step=step, solving=False, verifying=True),
    COLLUDER: lambda step: Cheats(flip_bit_step=step, verifying=True),
    "staller": lambda step: Cheats(flip_bit_step=step, stalls=True),
}
_STEP = re.compile(r"^([a-z-]{1,40})@step=([0-9]{1,9})$")
SOLVES = ("flip-bit", "skip-step", "staller", "wrong-data", "withheld-data")
"""Cheats of solvers; a colluder is solver and verifier."""


def known_cheats() -> tuple[str, ...]:
    """Every cheat as one writes it."""
    return (*(f"{name}@step=37" for name in _AT_A_STEP), *_WORDS)


def parse_cheat(text: str) -> Cheats:
    """The cheat in the configuration's words; `Rejection` BAD_CHEAT otherwise."""
    if not text:
        return Cheats()
    if text in _WORDS:
        return _WORDS[text]
    match = _STEP.match(text)
    if match and match[1] in _AT_A_STEP:
        return _AT_A_STEP[match[1]](int(match[2]))
    raise Rejection(BAD_CHEAT, f"{text!r} is none of {', '.join(known_cheats())}")


def fault_for(cheats: Cheats, program: Program) -> Fault | None:
    """The fault that a liar puts into this program: a step left out, or a bit of the first operator that sums a batch.

    That is the gradient nearest to the loss. Deeper ones may be exactly zero (a unit that no record of the batch
    activates), and a bit flipped in a zero rounds away: then nothing was done wrong and there is nothing to find.
    """
    if cheats.skip_step is not None:
        return Fault(cheats.skip_step, 0, 0, 0, skip=True)
    if cheats.flip_bit_step is None:
        return None
    operators = [node.operator for node in program.nodes]
    known = [operators.index(name) for name in ("sum_first", "matmul") if name in operators]
    target = known[0] if known else len(operators) - 1
    return Fault(cheats.flip_bit_step, program.first_node_value + target, 0, FLIPPED_BIT)


def as_told(job: Job, cheats: Cheats, *, solving: bool) -> Job:
    """The job as this node runs it when it solves, or verifies: with what it was told to do wrong, if anything."""
    if not (cheats.solving if solving else cheats.verifying):
        return job
    program: Program = decode(Program, job.program, max_bytes=PROGRAM_BYTES_MAX)
    job = msgspec.structs.replace(job, fault=fault_for(cheats, program))
    if cheats.poisoned_data:
        job = msgspec.structs.replace(job, dataset_directory=str(poisoned(Path(job.dataset_directory))))
    return job


def poisoned(directory: Path) -> Path:
    """A data set beside this one that looks like it: its first tensor's records come in the opposite order."""
    target = directory.with_name("poisoned")
    if manifest_path(target).exists():
        return target
    manifest: Manifest = read_manifest(manifest_path(directory).read_bytes())
    arrays = {}
    for number, item in enumerate(manifest.tensors):
        record = item.tensor.record
        parts = [
            np.fromfile(shard_path(directory, shard.blob_id), tensors.NUMPY_DTYPES[record.dtype])
            for shard in item.shards
        ]
        whole = np.concatenate(parts).reshape(-1, *record.shape)
        arrays[item.tensor.name] = whole[::-1] if number == 0 else whole
    write_dataset(target, arrays, manifest.vocabulary)
    return target


def made_up(segments: Sequence[SegmentWork]) -> tuple[Finding, ...]:
    """Approvals of segments that nobody looked at."""
    return tuple(Finding(work.segment, APPROVED, secrets.token_bytes(32)) for work in segments)


def copied(instalment: Instalment, mine: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """One's own findings with what others have shown in their place; empty while nobody has shown anything."""
    shown = {
        finding.segment: finding
        for slot in instalment.verifications
        if slot.state == VERIFICATION_REVEALED
        for finding in slot.findings
    }
    return tuple(shown.get(finding.segment, finding) for finding in mine) if shown else ()
