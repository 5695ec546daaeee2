"""What the node is doing for others right now, in words for people and in fields for programs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

LOSSES_KEPT = 2_000


@dataclass
class Activity:
    """One sentence that stays true, and the progress of what is being trained."""

    sentence: str = "starting"
    task_id: bytes | None = None
    step: int = 0
    steps: int = 0
    loss: float | None = None
    failures: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    """The last things that went wrong, newest last."""

    def now(self, sentence: str, task_id: bytes | None = None) -> None:
        """Say what is being done."""
        self.sentence = sentence
        self.task_id = task_id
        self.loss = None

    def training(self, task_id: bytes, step: int, steps: int, loss: float, records: int = 0) -> None:
        """Training goes on, `records` of the batch at a time (0: as they come)."""
        parts = f", {records} records at a time" if records else ""
        self.sentence = f"training task {task_id.hex()[:12]}: step {step} of {steps}, loss {loss:.4f}{parts}"
        self.task_id, self.step, self.steps, self.loss = task_id, step, steps, loss

    def failed(self, what: str, error: BaseException) -> None:
        """Remember what went wrong."""
        self.failures.append(f"{what}: {error}")
