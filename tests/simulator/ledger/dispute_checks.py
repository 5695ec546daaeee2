"""Disputes seen from outside: a chess clock of our own, who lost and why, nothing after the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from consensus.ledger.block import Event
from consensus.ledger.parameters import Parameters
from consensus.ledger.records import DISPUTE_BOTH_WRONG, DISPUTE_OPEN, TURN_CHALLENGER, TURN_DEFENDER
from consensus.ledger.schedule import game_blocks_max
from consensus.ledger.view import State
from tests.simulator.application import require

OTHER = {TURN_DEFENDER: TURN_CHALLENGER, TURN_CHALLENGER: TURN_DEFENDER}


def turn_of(phase: str) -> str:
    """Who has to move in a phase of the game."""
    return TURN_CHALLENGER if phase.startswith("Name") or phase == "AwaitEvidence" else TURN_DEFENDER


@dataclass
class Clock:
    """One dispute's present game."""

    left: dict[str, int]
    turn: str
    since: int
    began: int
    moves: int = 0
    over: bool = False

    @property
    def due(self) -> int:
        """Last height at which the party in turn may move."""
        return self.since + self.left[self.turn]


@dataclass
class DisputeChecks:
    """All disputes of a chain."""

    parameters: Parameters
    seen: Counter[str]
    clocks: dict[bytes, Clock] = field(default_factory=dict)
    ended_now: dict[bytes, str] = field(default_factory=dict)
    """Disputes that lost a game in the block at hand -> whose clock ran out, or nothing."""

    def begin_block(self) -> None:
        """Forget what the block before ended."""
        self.ended_now = {}

    def on_event(self, event: Event, height: int) -> None:
        """One event of a block, in order."""
        subject, kind = event.subject, event.kind
        if kind == "dispute_opened":
            self._start(subject, height)
        elif kind == "dispute_moved":
            self._moved(event, height)
        elif kind == "dispute_timed_out":
            self._timed_out(event, height)
        elif kind == "dispute_taken_over":
            self.seen["a challenger took over"] += 1
            self.ended_now.setdefault(subject, "")
            require(not self.clocks[subject].over, "a game was taken over after its resolution")
            self._start(subject, height)
        elif kind == "dispute_resolved":
            clock = self.clocks[subject]
            require(not clock.over, "a dispute was resolved twice")
            clock.over = True
            self.ended_now.setdefault(subject, "")
            self.seen["both wrong"] += event.get("outcome") == DISPUTE_BOTH_WRONG
            self.seen[f"dispute {event.get('outcome')}"] += 1

    def _start(self, dispute_id: bytes, height: int) -> None:
        clock = max(self.parameters.move_clock_blocks, self.parameters.move_extension_blocks)
        began = self.clocks[dispute_id].began if dispute_id in self.clocks else height
        left = {TURN_DEFENDER: clock, TURN_CHALLENGER: self.parameters.move_clock_blocks}
        self.clocks[dispute_id] = Clock(left, TURN_DEFENDER, height, began)

    def _moved(self, event: Event, height: int) -> None:
        clock, turn = self.clocks[event.subject], str(event.get("turn"))
        require(not clock.over, "a move counted after the dispute's resolution")
        require(turn == clock.turn, f"the {turn} moved when it was the other's turn")
        require(height <= clock.due, "a move counted after its time")
        self.seen["move in the last block of its time"] += height == clock.due
        clock.left[turn] = max(0, clock.left[turn] - (height - clock.since))
        clock.moves += 1
        clock.turn, clock.since = turn_of(str(event.get("phase"))), height
        if clock.moves <= self.parameters.game_moves_max and clock.left[clock.turn] < (
            least := self.parameters.move_extension_blocks
        ):
            clock.left[clock.turn] = least
            self.seen["a turn lasted by its extension"] += 1

    def _timed_out(self, event: Event, height: int) -> None:
        clock, turn = self.clocks[event.subject], str(event.get("turn"))
        require(not clock.over, "a time-out after the dispute's resolution")
        require(turn == clock.turn, "the party that was not in turn lost by the clock")
        require(height > clock.due, f"the {turn} lost by the clock with time left")
        self.ended_now[event.subject] = turn
        self.seen[f"the {turn} lost by the clock"] += 1

    def after_block(self, state: State, height: int) -> None:
        """Compare with what is stored."""
        for dispute_id, clock in self.clocks.items():
            if clock.over:
                continue
            record = state.dispute(dispute_id)
            require(record.state == DISPUTE_OPEN, "a dispute ended without saying so")
            require(record.turn == clock.turn, "the ledger and our own clock disagree on whose turn it is")
            require(record.due_height == clock.due, f"the ledger's clock ends at {record.due_height}, not {clock.due}")
            require(height <= clock.due, "a clock ran out and nothing happened")
            games = self.parameters.challengers_per_dispute_max
            most = games * (game_blocks_max(self.parameters) + 2)
            require(height - clock.began <= most, "a dispute outlived its bound")
