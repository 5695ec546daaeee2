"""The tasks that are played: a spec like any other, with a gas that makes its training cost a given price."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.ledger import schedule
from consensus.ledger.messages import ARITHMETIC_REP_V1, TaskSpec
from consensus.ledger.money import GIGA, work_price
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.roles.policy import REFERENCE_ASK_NANO

SEGMENT_STEPS = 50
SIZES = ((12, 2), (40, 2), (400, 4))
"""Segments and instalments of what is played by default: small, middling, large."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of task."""

    spec: TaskSpec
    """The data behind it plays no part."""
    gas_per_step: int

    @property
    def name(self) -> str:
        """In words."""
        return f"{schedule.segment_count(self.spec)} segments in {self.spec.instalments} instalments"

    @property
    def price_nano(self) -> int:
        """Of the whole training, at the reference ask."""
        return work_price(schedule.train_gas(self.spec, self.gas_per_step), REFERENCE_ASK_NANO)

    def segments_price(self, segments: int, ask_nano: int) -> int:
        """Price of the work of so many segments."""
        return work_price(segments * self.spec.segment_steps * self.gas_per_step, ask_nano)


def shape(
    segments: int,
    instalments: int,
    *,
    verifiers: int = 2,
    samples: int = 2,
    price_nano: int = 40 * NANO_PER_GSN,
    solver_bond_bps: int = 0,
    forced_error_bps: int = 0,
) -> Shape:
    """A kind of task whose training costs `price_nano` at the reference ask."""
    steps = segments * SEGMENT_STEPS
    spec = TaskSpec(
        name="simulated",
        program_id=bytes(32),
        dataset=(),
        dataset_manifest=b"",
        checkpoint_root=b"",
        checkpoint_blob=b"",
        steps=steps,
        segment_steps=SEGMENT_STEPS,
        instalments=instalments,
        arithmetic=ARITHMETIC_REP_V1,
        verifiers=verifiers,
        samples=samples,
        max_price_nano=2 * price_nano,
        deadline_blocks=100_000,
        memory_bytes=1 << 30,
        endpoints=(),
        solver_bond_bps=solver_bond_bps,
        forced_error_bps=forced_error_bps,
    )
    return Shape(spec, max(1, price_nano * GIGA // (REFERENCE_ASK_NANO * steps)))


def default_shapes(forced_error_bps: int = 0) -> tuple[Shape, ...]:
    """What is played in turn: small, middling, large."""
    return tuple(shape(*size, forced_error_bps=forced_error_bps) for size in SIZES)


SHAPES = default_shapes()
