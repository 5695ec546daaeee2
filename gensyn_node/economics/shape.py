"""The tasks that are played: a spec like any other, with a gas that makes its training cost a given price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from consensus.ledger import schedule
from consensus.ledger.messages import ARITHMETIC_REP_V1, TaskSpec
from consensus.ledger.money import GIGA, work_price
from consensus.ledger.parameters import Parameters
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.roles.policy import REFERENCE_ASK_NANO

SEGMENT_STEPS = 50


@dataclass(frozen=True)
class Shape:
    """One kind of task."""

    name: str
    segments: int
    instalments: int
    verifiers: int = 2
    samples: int = 2
    price_nano: int = 40 * NANO_PER_GSN
    """Of the whole training, at the reference ask."""

    @cached_property
    def spec(self) -> TaskSpec:
        """Its spec; the data behind it plays no part."""
        steps = self.segments * SEGMENT_STEPS
        return TaskSpec(
            name=self.name,
            program_id=bytes(32),
            dataset=(),
            dataset_manifest=b"",
            checkpoint_root=b"",
            checkpoint_blob=b"",
            steps=steps,
            segment_steps=SEGMENT_STEPS,
            instalments=self.instalments,
            arithmetic=ARITHMETIC_REP_V1,
            verifiers=self.verifiers,
            samples=self.samples,
            max_price_nano=2 * self.price_nano,
            deadline_blocks=100_000,
            memory_bytes=1 << 30,
            endpoints=(),
        )

    @cached_property
    def gas_per_step(self) -> int:
        """So that the training costs the price."""
        return max(1, self.price_nano * GIGA // (REFERENCE_ASK_NANO * self.spec.steps))

    def segment_price(self, ask_nano: int) -> int:
        """Price of one segment's work."""
        return work_price(SEGMENT_STEPS * self.gas_per_step, ask_nano)

    def train_blocks(self, parameters: Parameters) -> int:
        """Blocks that a machine at the network's least speed needs for one instalment."""
        return schedule.train_blocks(self.spec, self.gas_per_step, 0, parameters)


SHAPES = (
    Shape("12 segments in 2 instalments", 12, 2),
    Shape("40 segments in 2 instalments", 40, 2),
    Shape("400 segments in 4 instalments", 400, 4),
)
"""What is played by default, in turn: small, middling, large."""
