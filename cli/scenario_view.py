"""A scenario, told as it happens, and the table of what it did to everybody's money."""

from __future__ import annotations

from typing import Any

from cli.output import facts, gsn_number, say, short, table
from consensus.ledger.records import ENDED_BY_ANOTHER, ENDED_BY_CLOCK, ENDED_BY_MOVE
from gensyn_node.devnet.account_book import Line, rewards_between
from gensyn_node.devnet.crowd import Crowd
from gensyn_node.devnet.story import Dispute, Ending
from gensyn_node.primitives.money import format_amount


class Teller:
    """Prints what happens; nothing twice."""

    def __init__(self) -> None:
        self._last = ""
        self._state = ""

    def __call__(self, kind: str, data: Any) -> None:
        match kind:
            case "network":
                liars = f"; lying: {', '.join(data['cheaters'])}" if data["cheaters"] else ""
                self._say(f"{data['nodes']} nodes are up, chain {data['chain_id']}{liars}")
            case "submitted":
                self._say(f"block {data['height']}: the task {short(data['task_id'])} is submitted")
            case "task":
                record = data["record"]
                trains = data["state"] == "training"
                step = f": step {data['step']} of {record['steps']}" if trains else ""
                if data["state"] + step != self._state:
                    self._state = data["state"] + step
                    self._say(f"the task is {self._state}")
            case "chain":
                self._say(f"block {data['height']}: {data['text']}")
            case "move":
                move = data["move"]
                which = short(data["dispute"]["dispute_id"])
                self._say(f"block {move.height}: dispute {which}: {move.mover} {move.description}")
            case "frozen":
                self._say(f"the training of {data} stands still")
            case "killed":
                self._say(f"{data} is ended by kill -9")
            case "started":
                self._say(f"{data} is started")
            case "crowd":
                self._say(", ".join(f"{count} {state}" for state, count in data.items()))
            case "verified":
                self._say(f"the certificate is valid: {data.segments_verified} of {data.segments} segments verified")

    def _say(self, text: str) -> None:
        if text != self._last:
            say(f"  {text}")
        self._last = text


def show_ending(ending: Ending) -> None:
    """The tables of a story's end."""
    facts(
        [
            ("Scenario", ending.title),
            ("Task", f"{ending.state}, held-out accuracy {ending.accuracy:.4f}, {ending.attempts} solver(s)"),
            ("Paid work by", ", ".join(ending.solvers) or "nobody"),
            ("Time", f"{ending.seconds:.0f} s, {ending.blocks} blocks of {ending.block_interval_s:.2f} s"),
        ]
    )
    if ending.disputes:
        rows = [
            (short(one.dispute_id), one.outcome or "moot", _where(one), one.moves, one.bytes, f"{one.seconds:.1f} s")
            for one in ending.disputes
        ]
        table("Disputes", ("Dispute", "Outcome", "First wrong", "Moves #", "Bytes #", "Took"), rows, "none")
    _show_money(ending.lines, ending)
    _show_failures(ending.failures)


def show_crowd(crowd: Crowd) -> None:
    """The tables of many tasks at once."""
    states = ", ".join(f"{count} {state}" for state, count in crowd.states.items())
    facts(
        [
            ("Scenario", crowd.title),
            ("Tasks", states),
            ("Time", f"{crowd.seconds:.0f} s, {crowd.blocks} blocks: {crowd.tasks_per_minute:.1f} tasks a minute"),
            (
                "Fairness",
                f"{crowd.fairness:.3f} (Jain's index of tasks solved by weight; a fair lot gives {crowd.fair_lot:.3f})",
            ),
            ("Disputes", crowd.disputes),
        ]
    )
    rows = [
        (
            one.name,
            f"{one.weight:.1%}",
            one.solved,
            f"{one.weight * crowd.tasks:.1f}",
            one.verified,
            gsn_number(one.earned_nano),
        )
        for one in crowd.shares
    ]
    table("Who did what", ("Node", "Weight #", "Solved #", "By weight #", "Verified #", "Earned GSN"), rows, "none")
    _show_money(crowd.lines, crowd)
    _show_failures(crowd.failures)


_HOW = {
    ENDED_BY_CLOCK: "by the clock",
    ENDED_BY_MOVE: "by a move that proves nothing",
    ENDED_BY_ANOTHER: "another one was decided first",
}


def _where(dispute: Dispute) -> str:
    if dispute.outcome and dispute.operator:
        return f"step {dispute.step}, {dispute.operator}"
    return _HOW.get(dispute.how, dispute.how)


def _show_money(lines: tuple[Line, ...], told: Ending | Crowd) -> None:
    rows = [
        (
            line.name,
            line.part.partition("@")[0],
            *(gsn_number(nano) for nano in (line.earned_nano, line.slashed_nano, line.change_nano)),
            _verdict(line),
        )
        for line in lines
    ]
    table("Money", ("Account", "Part", "Earned GSN", "Slashed GSN", "Change GSN", ""), rows, "none", whole=2)
    rewards = rewards_between(told.before, told.after)
    whole = told.before.conserved and told.after.conserved and rewards is not None
    burnt = told.after.supply["burnt"] - told.before.supply["burnt"]
    facts(
        [
            ("New money", f"{format_amount(rewards or 0)} of block rewards"),
            ("Burnt", format_amount(burnt)),
            ("Conserved", "yes, to the nano" if whole else "NO"),
        ]
    )


def _verdict(line: Line) -> str:
    if line.lies:
        return "lost" if line.slashed_nano > line.earned_nano else "GAINED"
    return "whole" if not line.slashed_nano else "punished for its absence" if line.part == "killed" else "HURT"


def _show_failures(failures: tuple[str, ...]) -> None:
    for failure in failures:
        say(f"Not as it should be: {failure}")
    if not failures:
        say("It ended as it should.")
