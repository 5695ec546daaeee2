"""The demonstration: two stories on local four-node networks, told as they happen, summed up, and judged.

Run by `make demo`. The last line of the output is the summary as one JSON object; exit code 0 only if both stories
ended as they should. Nothing keeps running afterwards.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gensyn_node.devnet.account_book import rewards_between
from gensyn_node.devnet.scenario import read_scenario
from gensyn_node.devnet.story import Dispute, Ending, run_story
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import format_amount

SCENARIOS = Path(__file__).resolve().parent / "scenarios"
STORIES = ("honest", "flip-bit")
console = Console(highlight=False, width=120)


class Teller:
    """Prints what happens in a story."""

    def __init__(self) -> None:
        self._line = ""

    def __call__(self, kind: str, data: Any) -> None:
        match kind:
            case "network":
                liars = f"; {', '.join(data['cheaters'])} will cheat" if data["cheaters"] else ""
                self._say(f"{data['nodes']} nodes are up, chain {data['chain_id']}{liars}")
            case "quote":
                low, high = format_amount(data.low_nano or 0), format_amount(data.high_nano or 0)
                self._say(f"quote: {low} to {high}; {data.solvers} solvers, {data.verifiers} verifiers are eligible")
            case "submitted":
                self._say(f"submitted in block {data['height']}: task {data['task_id'][:12]}")
            case "task":
                self._task(data)
            case "move":
                move, dispute = data["move"], data["dispute"]
                self._say(
                    f"[bold magenta]dispute {dispute['dispute_id'][:8]}[/] block {move.height}: "
                    f"{move.mover} {escape(move.description)} ({move.bytes} bytes)",
                    markup=True,
                )
            case "verified":
                self._say(
                    f"certificate valid: {data.segments_verified} of {data.segments} segments verified, "
                    f"signed by {data.signed_power} of {data.total_power} power; the model is the certified one"
                )
            case "evaluated":
                self._say(f"accuracy on {data.records} images that the network never saw: {data.accuracy:.4f}")

    def _task(self, view: dict[str, Any]) -> None:
        record = view["record"]
        loss = f", loss {view['losses'][-1][1]:.4f}" if view["losses"] else ""
        settled = f"{record['settled']}/{record['instalments']} paid"
        line = f"{view['state']}: step {view['step']}/{record['steps']}{loss}, {settled}"
        if line != self._line:
            self._say(line)
        self._line = line

    def _say(self, text: str, *, markup: bool = False) -> None:
        console.print(f"  {text if markup else escape(text)}")


def main() -> int:
    """Tell both stories; the exit code."""
    warnings.filterwarnings("ignore", module=r"torch\..*")
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="gensyn-demo-"))
    endings: list[Ending] = []
    problem = ""
    try:
        for name in STORIES:
            scenario = read_scenario(SCENARIOS / f"{name}.toml")
            console.print(f"\n[bold]{escape(scenario.title)}[/]")
            endings.append(run_story(scenario, SCENARIOS, folder / name, Teller()))
    except Rejection as rejection:
        problem = str(rejection)
    except KeyboardInterrupt:
        problem = "interrupted"
    if problem:
        console.print(f"[bold red]{escape(problem)}[/]")
    good = not problem and not any(ending.failures for ending in endings)
    if endings:
        show_summary(endings)
    if good:
        shutil.rmtree(folder)
    else:
        console.print(f"Logs are in {folder}")
    print(json.dumps(summary(endings, good, problem)))
    return 0 if good else 1


def summary(endings: list[Ending], good: bool, problem: str) -> dict[str, Any]:
    """The last line of the output."""
    told = {ending.name: ending for ending in endings}
    honest, cheated = told.get("honest"), told.get("flip-bit")
    disputes = [dispute for ending in endings for dispute in ending.disputes]
    return {
        "ok": good,
        "problem": problem,
        "failures": [f"{ending.name}: {failure}" for ending in endings for failure in ending.failures],
        "accuracy": honest.accuracy if honest else None,
        "accuracy_after_dispute": cheated.accuracy if cheated else None,
        "certificate_valid": bool(endings) and all(ending.certificate_valid for ending in endings),
        "liar_slashed": cheated is not None and set(cheated.cheaters) <= set(cheated.slashed),
        "money_conserved": bool(endings) and all(ending.money_conserved for ending in endings),
        "segments_verified": sum(ending.segments_verified for ending in endings),
        "verdicts": sum(ending.verdicts for ending in endings),
        "dispute_moves": max((dispute.moves for dispute in disputes), default=0),
        "dispute_s": max((dispute.seconds for dispute in disputes), default=0.0),
        "dispute_bytes": max((dispute.bytes for dispute in disputes), default=0),
        "arbitration_bytes": max((dispute.arbitration_bytes for dispute in disputes), default=0),
        "arbitration_ms": max((dispute.arbitration_ms for dispute in disputes), default=0.0),
        "operator": next((dispute.operator for dispute in disputes if dispute.operator), ""),
        "blocks": sum(ending.blocks for ending in endings),
        "block_interval_s": endings[0].block_interval_s if endings else None,
        "seconds": round(sum(ending.seconds for ending in endings), 1),
    }


def show_summary(endings: list[Ending]) -> None:
    """The table at the end."""
    table = Table(title="\nWhat happened", title_justify="left", header_style="bold")
    table.add_column("")
    for ending in endings:
        table.add_column(ending.name, overflow="fold")
    rows: list[tuple[str, list[object]]] = [
        ("task", [ending.state for ending in endings]),
        ("accuracy, held out", [f"{ending.accuracy:.4f}" for ending in endings]),
        ("certificate", ["valid" if ending.certificate_valid else "NOT VALID" for ending in endings]),
        ("blocks", [ending.blocks for ending in endings]),
        ("block interval", [f"{ending.block_interval_s:.2f} s" for ending in endings]),
        ("segments verified", [f"{ending.segments_verified} of {ending.segments}" for ending in endings]),
        ("verdicts", [ending.verdicts for ending in endings]),
        ("settled work by", [", ".join(ending.solvers) for ending in endings]),
        ("disputes", ["\n".join(map(_dispute, ending.disputes)) or "none" for ending in endings]),
        ("slashed", [", ".join(ending.slashed) or "nobody" for ending in endings]),
        ("seconds", [f"{ending.seconds:.0f}" for ending in endings]),
    ]
    for name in endings[0].before.accounts:
        if name != "faucet":
            rows.append((name, [_money(ending, name) for ending in endings]))
    rows.append(("all money before", [format_amount(ending.before.total_nano) for ending in endings]))
    rewards = [(rewards_between(ending.before, ending.after) or 0) for ending in endings]
    rows.append(("block rewards", [format_amount(amount) for amount in rewards]))
    rows.append(("all money after", [format_amount(ending.after.total_nano) for ending in endings]))
    rows.append(("of it burnt", [format_amount(ending.after.supply["burnt"]) for ending in endings]))
    rows.append(("conserved", ["yes, to the nano" if ending.money_conserved else "NO" for ending in endings]))
    for title, cells in rows:
        table.add_row(title, *(escape(str(cell)) for cell in cells))
    console.print(table)
    for ending in endings:
        for failure in ending.failures:
            console.print(f"[bold red]{ending.name}: {escape(failure)}[/]")


def _dispute(dispute: Dispute) -> str:
    where = f" at {dispute.operator} of step {dispute.step}" if dispute.operator else ""
    lines = [f"{dispute.outcome}{where}", f"{dispute.moves} moves, {dispute.bytes:,} bytes, {dispute.seconds:.1f} s"]
    if dispute.arbitration_bytes:
        lines.append(f"arbitration: {dispute.arbitration_bytes:,} bytes, {dispute.arbitration_ms:.1f} ms")
    return "\n".join(lines)


def _money(ending: Ending, name: str) -> str:
    before, after = ending.before.accounts[name], ending.after.accounts[name]
    change = after - before
    return f"{format_amount(before)} → {format_amount(after)} ({'+' if change >= 0 else ''}{format_amount(change)})"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
