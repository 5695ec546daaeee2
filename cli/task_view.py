"""How tasks are shown: quote, state, and the live view with its loss curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.output import console, facts, printable, say, short, table

if TYPE_CHECKING:
    from consensus.ledger.guarantee import Guarantee
    from gensyn_node.sdk.client import NodeClient
    from gensyn_node.sdk.quote import Quote
    from gensyn_node.sdk.task_build import BuiltTask

CURVE_WIDTH, CURVE_HEIGHT = 72, 8
_BLOCKS = " ▁▂▃▄▅▆▇█"


def described(task: BuiltTask) -> dict[str, Any]:
    """What a built task is, without a network."""
    spec = task.spec
    return {
        "name": spec.name,
        "program_id": spec.program_id.hex(),
        "parameters": task.parameter_count,
        "records": task.manifest.records,
        "steps": spec.steps,
        "segments": -(-spec.steps // spec.segment_steps),
        "instalments": spec.instalments,
        "gas_per_step": task.gas_per_step,
        **memory_of(task),
        "max_price_nano": spec.max_price_nano,
        "deadline_blocks": spec.deadline_blocks,
    }


def memory_of(task: BuiltTask) -> dict[str, Any]:
    """The memory that a task asks for, for programs."""
    reason = task.memory_reason
    return {"memory_bytes": task.spec.memory_bytes, "memory_measured": not reason, "memory_reason": reason}


def memory_words(task: BuiltTask) -> str:
    """How much memory the task asks for, and how that is known."""
    how = f"predicted: {task.memory_reason}" if task.memory_reason else "measured by a few steps on zeros"
    return f"{task.spec.memory_bytes >> 20} MiB ({how}, with a margin)"


def show_quote(quote: Quote, task: BuiltTask) -> None:
    """The quote as a table."""
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.promises import promise_lines

    price = "no estimate"
    if quote.low_nano is not None and quote.high_nano is not None:
        price = format_amount(quote.low_nano)
        if quote.high_nano != quote.low_nano:
            price += f" to {format_amount(quote.high_nano)}"
    facts(
        [
            ("Price", price),
            ("At most", f"{format_amount(quote.max_price_nano)}; what is not used comes back"),
            ("Arithmetic", quote.arithmetic),
            ("Training", f"{quote.train_gas / 1e9:.3f} giga-gas"),
            ("Verification", f"at most {quote.verify_gas / 1e9:.3f} giga-gas"),
            *forced_error_lines(quote.forced_error_bps, f"tax {quote.tax_gas / 1e9:.3f} giga-gas"),
            ("Memory", memory_words(task)),
            ("Eligible now", f"{quote.solvers} solvers, {quote.verifiers} verifiers"),
            ("Solver's bond", format_amount(quote.solver_bond_nano)),
            *promise_lines(quote.guarantee, quote.arithmetic),
            ("Over within", f"{quote.end_bound_blocks} blocks, whatever happens"),
        ]
    )
    if quote.problem:
        say(f"It would not start now: {quote.problem}")


def forced_error_lines(chance_bps: int, tax: str) -> list[tuple[str, str]]:
    """How often a task's instalments are shown with an error, and what that costs; nothing where they never are."""
    return [("Forced errors", f"chance {chance_bps / 100:g} % an instalment; {tax}")] if chance_bps else []


def show_task(task: dict[str, Any], promise: Guarantee | None = None) -> None:
    """State, money and work of a task, and what its verification promises."""
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.promises import promise_lines

    record = task["record"]
    facts(
        [
            ("Task", f"{record['name']} {task['task_id']}"),
            ("State", task["state"]),
            ("Step", f"{task['step']} of {record['steps']}"),
            ("Settled", f"{record['settled']} of {record['instalments']} instalments"),
            ("Solver", task["solver"] or "none"),
            ("In escrow", format_amount(record["escrow_nano"])),
            ("Paid", format_amount(record["solver_paid_nano"] + record["verifiers_paid_nano"])),
            ("Refunded", format_amount(record["refunded_nano"])),
            ("Disputes", len(record["disputes"])),
            *forced_error_lines(
                record["spec"]["forced_error_bps"],
                f"{format_amount(record['taxed_nano'])} paid into the jackpot pool",
            ),
            *(promise_lines(promise, record["spec"]["arithmetic"]) if promise is not None else ()),
        ]
    )
    if task["losses"]:
        console.print(curve(task["losses"]))
    if task.get("diverged_step") is not None:
        say(f"The loss is no finite number from step {task['diverged_step']} on: the training diverged.")
        if not task["final"]:
            say(f"What is settled stays paid; the rest comes back: gensyn task cancel {task['task_id']}")
    rows = [(one["number"], one["state"], one["explanation"]) for one in task["instalments"]]
    if rows and not task["final"]:
        table("Committed, not settled", ("Instalment #", "State", "What that means"), rows, "")
    rows = [(one["role"], one["state"], one["explanation"]) for one in task.get("why", ())]
    if rows and not task["final"]:
        table("Who, and why not", ("Role", "State", "Why"), rows, "")


def watch_task(client: NodeClient, task_id: bytes, *, quiet: bool = False) -> dict[str, Any]:
    """Show a task live until it is over; the last state."""
    from gensyn_node.sdk.task_flow import follow_task

    task: dict[str, Any] = {}
    if quiet or not console.is_terminal:
        before = ""
        for task in follow_task(client, task_id):
            line = one_line(task)
            if not quiet and line != before:
                say(line)
            before = line
        return task
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        for task in follow_task(client, task_id):
            live.update(live_view(task))
    return task


def one_line(task: dict[str, Any]) -> str:
    """A task's state in one line."""
    record = task["record"]
    # A number that is not finite comes as a word.
    loss = f", loss {float(task['losses'][-1][1]):.4f}" if task["losses"] else ""
    if task.get("diverged_step") is not None:
        loss += f" (diverged at step {task['diverged_step']})"
    settled = f"{record['settled']}/{record['instalments']} settled"
    disputes = f", {len(record['disputes'])} disputes" if record["disputes"] else ""
    parts = "".join(f", instalment {one['number']} {one['state']}" for one in task["instalments"])
    return f"{task['state']:<10} step {task['step']}/{record['steps']}{loss}, {settled}{parts}{disputes}"


def live_view(task: dict[str, Any]) -> Group:
    """State, bar and loss curve."""
    record = task["record"]
    head = Table.grid(padding=(0, 2))
    head.add_row("[bold]Task[/]", escape(printable(f"{record['name']} {short(task['task_id'])}")))
    head.add_row("[bold]Now[/]", escape(one_line(task)))
    head.add_row("[bold]Solver[/]", escape(task["solver"] or "none yet"))
    for one in task["instalments"]:
        head.add_row(f"[bold]Instalment {one['number']}[/]", f"{one['state']}: {escape(one['explanation'])}")
    bar = ProgressBar(total=record["steps"], completed=task["step"], width=CURVE_WIDTH)
    return Group(head, bar, curve(task["losses"]))


def curve(losses: list[list[float]]) -> Text:
    """The loss over steps, drawn with block characters; finite values only."""
    points = [(float(step), float(loss)) for step, loss in losses if abs(float(loss)) < float("inf")]
    if len(points) < 2:
        return Text("")
    first, last = points[0][0], points[-1][0]
    columns: list[float | None] = [None] * CURVE_WIDTH
    for step, loss in points:
        columns[int((step - first) / max(1.0, last - first) * (CURVE_WIDTH - 1))] = loss
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    heights, seen = [], points[0][1]
    for value in columns:
        seen = seen if value is None else value
        heights.append((seen - low) / (high - low or 1.0) * CURVE_HEIGHT)
    lines = []
    for row in range(CURVE_HEIGHT - 1, -1, -1):
        marks = "".join(_BLOCKS[max(0, min(8, round((height - row) * 8)))] for height in heights)
        label = f"{high:8.4f} " if row == CURVE_HEIGHT - 1 else f"{low:8.4f} " if row == 0 else " " * 9
        lines.append(label + marks)
    return Text("\n".join([*lines, f"{'':9}step {first:g} to {last:g}"]))
