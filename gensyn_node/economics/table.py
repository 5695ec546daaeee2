"""What lies on the table while a task is played: duties and what they earned, an instalment's verifiers, the result."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Duty:
    """What somebody earned by one thing that it did."""

    label: str
    agent: int
    profit_nano: int = 0
    harm_nano: int = 0
    """What it cost honest others."""


@dataclass(slots=True)
class Slot:
    """One verifier of an instalment."""

    duty: Duty
    act: str
    ask_nano: int
    bond_nano: int
    segments: tuple[int, ...]
    worked: bool = False
    approved: bool = False
    """It stands behind all its segments."""
    told: bool = False
    """Its own hand told it where a forced error is."""
    disagreed: int | None = None
    unavailable: bool = False
    revealed: bool = True
    slashed: bool = False
    fakes: frozenset[int] = frozenset()
    """Segments approved with evidence that is not the right one."""
    watch: bool = False
    """Drawn after all verdicts are bound, over a segment of one of them; counts for no majority."""
    refusals: int = 0
    """Verifiers before it who could not have the states of the same segments."""


@dataclass(slots=True)
class Table:
    """The verifiers of an instalment, as they come and go."""

    out: set[int]
    """Who is not drawn (again)."""
    slots: list[Slot] = field(default_factory=list)
    """Whoever is at work or had the states."""
    waiting: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    """Segments for the next verifiers, and how many could not have their states."""
    draws: int = 0
    watched: bool = False
    """Whether there was a watch, silent or not."""
    watch: Slot | None = None

    def enough(self, verifiers: int) -> bool:
        """Whether verification may go on without filling what is empty."""
        return 2 * len(self.slots) > verifiers and not self.waiting

    def spoken(self) -> list[Slot]:
        """Everybody who spoke, the watch too."""
        return [*self.slots, self.watch] if self.watch is not None and self.watch.revealed else list(self.slots)

    def take(self, drawn: list[Slot]) -> None:
        """A round is over: who showed nothing, or could not look, leaves."""
        for slot in drawn:
            if slot.revealed and not slot.unavailable:
                continue
            self.slots.remove(slot)
            self.out.add(slot.duty.agent)
            times = slot.refusals + slot.unavailable
            if times:
                self.waiting.append((slot.segments, times))


@dataclass(slots=True)
class Result:
    """How a task ended."""

    duties: list[Duty] = field(default_factory=list)
    settled: int = 0
    wrong: int = 0
    """Settled instalments that hold a bad segment."""
    attempts: int = 0
    expired: bool = False
    """Nobody could verify it."""
    submitter_nano: int = 0
    burnt_nano: int = 0
    jackpot_nano: int = 0
    trained: int = 0
    """Segments whose training counted."""
    checked: int = 0
    """Segments re-executed, whoever paid for it."""
