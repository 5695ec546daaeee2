"""The small program that simulated providers train: its executions, right and wrong, and the states that are served."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from consensus.ledger.duties import SegmentWork
from consensus.ledger.messages import Challenge, TaskSpec
from gensyn_node.primitives.money import NANO_PER_GSN
from proofs import tensors
from proofs.arithmetic.whole import compute_value
from proofs.dataset import DatasetTensor
from proofs.pinpoint.context import Context
from proofs.pinpoint.oracle import ArrayOracle
from proofs.program.initial import initial_tensor
from proofs.program.types import BatchInput, Node, Program, StateEntry, TensorType, Uniform, program_id
from proofs.sampling import batch_indices
from proofs.state import keyed_evidence_root
from proofs.tiled import TiledTensor, tiled
from tests.evidence_of_runs import made_up_samples, samples_of

GSN = NANO_PER_GSN
ASK = 10**14
"""So that the tiny program's steps cost millions of nano."""
BATCH = 2
RECORDS = 10
_W = TensorType("f32", (2, 3))
PROGRAM = Program(
    opset=1,
    state=(StateEntry("parameter.w", _W, Uniform(int(np.float32(0.5).view(np.uint32)))),),
    batch_size=BATCH,
    batch=(BatchInput("x", TensorType("f32", (3,))),),
    nodes=(
        Node("add", (0, 1), ()),
        Node("reshape", (3,), (1, 6)),
        Node("sum_last", (4,), ()),
        Node("reshape", (5,), ()),
    ),
    state_outputs=(3,),
    loss=6,
)
DATA = np.arange(RECORDS * 3, dtype=np.float32).reshape(RECORDS, 3) / np.float32(7)
DATASET = (DatasetTensor("x", TensorType("f32", (3,)), RECORDS, tensors.root_of(DATA)),)

History = tuple[tuple[int, float], ...]
"""The faults that led to a state, (step, what was added to its result); step -1 is a wrong initial state."""


def order(
    name: str,
    *,
    steps: int,
    segment_steps: int,
    instalments: int,
    verifiers: int,
    samples: int,
    deadline_blocks: int,
    forced_error_bps: int = 0,
) -> TaskSpec:
    """A task for the program."""
    return TaskSpec(
        name=name,
        program_id=program_id(PROGRAM),
        dataset=DATASET,
        dataset_manifest=b"",
        checkpoint_root=b"",
        checkpoint_blob=b"",
        steps=steps,
        segment_steps=segment_steps,
        instalments=instalments,
        arithmetic="rep-v1",
        verifiers=verifiers,
        samples=samples,
        max_price_nano=10 * GSN if not forced_error_bps else 40 * GSN,
        deadline_blocks=deadline_blocks,
        memory_bytes=1 << 20,
        endpoints=(),
        forced_error_bps=forced_error_bps,
    )


@dataclass
class Execution:
    """A run of the program from a task's seed with some faults; keeps every step."""

    seed: bytes
    faults: History
    steps: list[list[Any]] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        """What the referee knows of the task."""
        return _context(self.seed)

    @property
    def oracle(self) -> ArrayOracle:
        """What a disputant asks."""
        return ArrayOracle(PROGRAM, self)

    def values(self, step: int) -> list[Any]:
        """Every value of a step."""
        while len(self.steps) <= step:
            number = len(self.steps)
            values = [self.state(number), np.ascontiguousarray(DATA[batch_indices(self.seed, number, BATCH, RECORDS)])]
            values.append(np.array(number, np.int64))
            for position, node in enumerate(PROGRAM.nodes):
                value = compute_value(node, [values[i] for i in node.inputs])
                values.append(self._wrong(number, value) if position == 0 else value)
            self.steps.append(values)
        return self.steps[step]

    def _wrong(self, step: int, value: Any) -> Any:
        for at, error in self.faults:
            value = value + np.float32(error) if at == step else value
        return value

    def state(self, step: int) -> Any:
        """The state before a step."""
        return self.values(step - 1)[3] if step else self._wrong(-1, initial_tensor(PROGRAM.state[0], 0, self.seed))

    def root(self, step: int) -> bytes:
        """The root of the state before a step."""
        if step not in self.roots:
            self.roots[step] = self.context.state_root(step, [tensors.root_of(self.state(step))])
        return self.roots[step]

    def state_roots(self, first_step: int, steps: int) -> list[bytes]:
        """Roots of the states before, between and after some steps."""
        return [self.root(step) for step in range(first_step, first_step + steps + 1)]

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[list[bytes], list[bytes]]:
        """Those roots, and what a key draws in the steps."""
        return self.state_roots(first_step, steps), samples_of(self, first_step, steps, key)

    def evidence_root(self, work: SegmentWork) -> bytes:
        """The evidence of a segment."""
        return keyed_evidence_root(*self.evidence(work.first_step, work.steps, work.evidence_key))

    def dataset(self, batch_input: int) -> TiledTensor:
        """The records of a batch input."""
        return tiled(DATA)


@dataclass
class Told(Execution):
    """What a verifier stands for that was told the state roots and did no work: its samples are made up."""

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[list[bytes], list[bytes]]:
        """See `Execution`."""
        return self.state_roots(first_step, steps), made_up_samples(first_step, steps, key)


@lru_cache(maxsize=64)
def _context(seed: bytes) -> Context:
    return Context(PROGRAM, DATASET, seed)


@lru_cache(maxsize=512)
def execution(seed: bytes, faults: History) -> Execution:
    """The execution with these faults, shared by everyone who computes the same."""
    return Execution(seed, faults)


class StateStore:
    """States that somebody serves: by root, the faults that led there (whoever fetches a state goes on from it)."""

    def __init__(self) -> None:
        self._histories: dict[bytes, History] = {}
        self._withheld: set[bytes] = set()
        self.shown_salts: dict[tuple[bytes, bytes, int, int], bytes] = {}
        """(verifier, task, instalment, attempt) -> the salt that its reveal shows to everybody."""
        self.shown_challenges: dict[bytes, tuple[Challenge, bytes]] = {}
        """Commitment -> the challenge and the salt that its reveal shows to everybody."""

    def serve(self, root: bytes, history: History, *, withheld: bool = False) -> None:
        """Have a state; `withheld`: its only holder does not answer those who would check it."""
        self._histories[root] = history
        if withheld:
            self._withheld.add(root)
        else:
            self._withheld.discard(root)

    def fetch(self, root: bytes) -> History | None:
        """How a state came about; None when nobody serves it."""
        return None if root in self._withheld else self._histories.get(root)

    def remember(self, root: bytes) -> History | None:
        """The same for whoever computed it or took it over."""
        return self._histories.get(root)
