"""`gensyn dispute …`: who disagrees with whom, and how it is narrowed down."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cli.options import HomeOption, JsonOption, NodeOption, client_of
from cli.output import emit, facts, say, short, table

app = typer.Typer(help="Disputes and their moves.", no_args_is_help=True, rich_markup_mode=None)
DisputeArgument = Annotated[str, typer.Argument(help="The dispute's id.")]
POLL_S = 0.5
ENDINGS = {
    "arbitration": "the chain computed the disputed piece itself",
    "move": "a party's move contradicted what it claimed",
    "clock": "a party's clock ran out",
    "another_dispute": "another dispute about the same work was decided first",
}
"""What the ledger's word for the end of a dispute means."""


@app.command("list")
def list_(
    task: Annotated[str | None, typer.Option("--task", help="Only those of this task.")] = None,
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """All disputes."""
    with client_of(home, node, None) as client:
        value = client.call("disputes", task_id=task)
    rows = [
        (
            short(one["dispute_id"]),
            short(one["task_id"]),
            one["phase"],
            one["outcome"] or one["turn"],
            len(one["moves"]),
        )
        for one in value
    ]
    emit(
        as_json,
        value,
        lambda: table("Disputes", ("Dispute", "Task", "Phase", "Turn or outcome", "Moves #"), rows, "None."),
    )


@app.command()
def show(
    dispute_id: DisputeArgument, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """One dispute, played again on this machine move by move."""
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.dispute_replay import replay_dispute

    with client_of(home, node, None) as client:
        value = client.call("dispute", dispute_id=dispute_id)
        value["replay"] = to_json(replay_dispute(client, value))
    emit(as_json, value, lambda: _show(value))


@app.command()
def watch(
    dispute_id: DisputeArgument, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """Follow a dispute until it is over."""
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.dispute_replay import replay_dispute

    shown = 0
    with client_of(home, node, None) as client:
        while True:
            value = client.call("dispute", dispute_id=dispute_id)
            value["replay"] = to_json(replay_dispute(client, value))
            if not as_json:
                for move in value["replay"]["moves"][shown:]:
                    say(_move(move))
            shown = len(value["replay"]["moves"])
            if value["final"]:
                break
            time.sleep(POLL_S)
    emit(as_json, value, lambda: say(f"Over: {value['outcome'] or value['state']}. {_why(value)}"))


def _show(value: dict[str, Any]) -> None:
    replay = value["replay"]
    facts(
        [
            ("Dispute", value["dispute_id"]),
            ("Task", value["task_id"]),
            ("State", value["state"]),
            ("Defender", value["defender"]),
            ("Challenger", value["challenger"]),
            ("Phase", value["phase"]),
            ("Step", "not known yet" if replay["step"] is None else replay["step"]),
            ("Operator", replay["operator"] or "not known yet"),
            ("Turn", value["turn"] or "nobody's"),
            ("Outcome", value["outcome"] or value["state"]),
            ("Why", _why(value)),
            ("Played again", replay["outcome"] or "undecided by moves alone"),
        ]
    )
    for move in replay["moves"]:
        say(_move(move))


def _why(value: dict[str, Any]) -> str:
    """How the dispute ended, in a sentence; the game, played again, knows it best."""
    how = value["record"]["how"]
    ending = ENDINGS.get(how, how)
    return f"{ending}: {value['replay']['why']}" if value["replay"]["why"] else ending


def _move(move: dict[str, Any]) -> str:
    return f"  block {move['height']}  {move['mover']:<10}  {move['description']}  ({move['bytes']} bytes)"
