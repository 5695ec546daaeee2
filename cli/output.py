"""Printing: for people by rich, or one JSON document; errors and exit codes alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gensyn_node.primitives.errors import Rejection

EXIT_OK = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_TASK_FAILED = 4
EXIT_NOT_VERIFIED = 5
EXIT_STILL_RUNNING = 6
EXIT_HALTED = 70
EXIT_UPGRADE = 71
EXIT_INTERRUPTED = 130

EXIT_CODES = {
    EXIT_OK: "done",
    EXIT_REFUSED: "refused, by the node or by a check here; the error says why",
    EXIT_USAGE: "wrong arguments",
    EXIT_UNREACHABLE: "no node answers",
    EXIT_TASK_FAILED: "the task ended without being finished",
    EXIT_NOT_VERIFIED: "the certificate, proof or model is not what it should be",
    EXIT_STILL_RUNNING: "still running when the time was over",
    EXIT_HALTED: "the node stopped itself because of a bug; its log says which",
    EXIT_UPGRADE: "the chain goes on under rules that need a newer program; the data is good",
    EXIT_INTERRUPTED: "interrupted",
}
_EXIT_OF_REASON = {
    "node_unreachable": EXIT_UNREACHABLE,
    "task_not_finished": EXIT_TASK_FAILED,
    "bad_certificate": EXIT_NOT_VERIFIED,
    "bad_inclusion": EXIT_NOT_VERIFIED,
    "other_genesis": EXIT_NOT_VERIFIED,
    "other_model": EXIT_NOT_VERIFIED,
    "still_running": EXIT_STILL_RUNNING,
    "not_included": EXIT_STILL_RUNNING,
    "upgrade_needed": EXIT_UPGRADE,
}

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def gsn_number(nano: int) -> str:
    """An amount for a column that names the unit."""
    from gensyn_node.primitives.money import format_amount

    return format_amount(nano).removesuffix(" GSN")


def emit(as_json: bool, value: Any, show: Callable[[], None]) -> None:
    """One result: `value` as a JSON document, or whatever `show` prints."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False))
    else:
        show()


def fail(rejection: Rejection, as_json: bool) -> int:
    """Print what was wrong and what to do; the exit code."""
    why = rejection.reason
    if as_json:
        error = {"code": why.code, "name": why.name, "message": rejection.message, "remedy": why.remedy}
        print(json.dumps({"error": error}, ensure_ascii=False))
    else:
        errors.print(f"[bold red]{why.code}[/] {escape(printable(rejection.message))}")
        errors.print(f"      {escape(why.meaning)} {escape(why.remedy)} (gensyn explain {why.code})")
    return _EXIT_OF_REASON.get(why.name, EXIT_REFUSED)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str, *, whole: int = 0) -> None:
    """A table, or one line when there is nothing in it. The first `whole` columns are never broken."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for at, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.endswith(("GSN", "#")) else "left"
        made.add_column(column.removesuffix(" #"), overflow="fold", justify=justify, no_wrap=at < whole)
    listed = list(rows)
    for row in listed:
        made.add_row(*(escape(printable(str(cell))) for cell in row))
    console.print(made if listed else escape(empty))


def facts(rows: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(f"[bold]{escape(name)}[/]", escape(printable(str(value))))
    console.print(made)


def say(text: str) -> None:
    """A line for people."""
    console.print(escape(printable(text)), soft_wrap=True)


def printable(text: str) -> str:
    """Text without control characters: what strangers wrote must not drive the terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def confirm(question: str, yes: bool) -> bool:
    """Ask, unless `--yes`; without a terminal the answer is no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return console.input(f"{escape(question)} [y/N] ").strip().lower() in ("y", "yes")


def short(identifier: str) -> str:
    """The first digits of an id, for tables."""
    return identifier[:12]
