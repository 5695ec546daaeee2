"""`gensyn node why` and `gensyn task why`: every reason why nothing happens, and what would help."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import HomeOption, JsonOption, NodeOption, client_of
from cli.output import emit, say, short, table


def register(node: typer.Typer, task: typer.Typer) -> None:
    """Add the commands to their groups."""
    node.command("why")(node_why)
    task.command("why")(task_why)


def node_why(home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Why the node has no work: every cause in order, its standing in every open draw, what would help."""
    with client_of(home, node, None) as client:
        value = client.call("why_node")
    emit(as_json, value, lambda: _show(value, of_node=True))


def task_why(
    task_id: Annotated[str, typer.Argument(help="The task's id.")],
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a task waits for: who can be drawn, what keeps out each of the others, what would help."""
    with client_of(home, node, None) as client:
        value = client.call("why_task", task_id=task_id)
    emit(as_json, value, lambda: _show(value, of_node=False))


def _show(value: dict[str, Any], *, of_node: bool) -> None:
    say(value["sentence"])
    if value["causes"]:
        table("What is in the way", ("Cause", "Do"), [(one["text"], one["next"]) for one in value["causes"]], "")
    rows = [
        (
            short(one["task_id"]) if of_node else one["name"] or short(one["provider"]),
            one["role"],
            f"{one['chance_bps'] / 100:.1f} %" if one["eligible"] else "no",
            "; ".join(one["reasons"]) or "it can be drawn",
        )
        for one in value["standings"]
    ]
    if rows:
        table(
            "Open draws" if of_node else "Providers",
            ("Who" if not of_node else "Task", "As", "Chance #", "Why"),
            rows,
            "",
        )
    if value["changes"]:
        changes = [(one["text"], one["how"]) for one in value["changes"]]
        table("What would help, at least", ("Change", "How"), changes, "")
