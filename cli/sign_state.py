"""`gensyn node sign-state …`: what the validator's key has signed, to be moved together with the key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import HomeOption, JsonOption, home_of
from cli.output import emit, facts, say

app = typer.Typer(
    help="Move a validator's signing history. The node must be stopped.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("export")
def export(
    to: Annotated[Path, typer.Argument(help="The file to write.")], home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Write the history to a file. Do not start this node again once another one has it."""
    from gensyn_node.app.sign_history import encode_history, export_history
    from gensyn_node.config.home import lock_home
    from gensyn_node.storage.files import replace_file

    place = home_of(home)
    with lock_home(place):
        history = export_history(place)
    replace_file(to.absolute(), encode_history(history))
    value = {"file": str(to.absolute()), "height": history.height, "round": history.round, "step": history.step}

    def show() -> None:
        facts([("File", value["file"]), ("Signed up to", f"height {history.height} round {history.round}")])
        say("Next, on the other machine: gensyn node sign-state import FILE. Never run both.")

    emit(as_json, value, show)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file that export wrote.")],
    restore: Annotated[
        bool, typer.Option("--restore", help="Begin a record that is missing or damaged; the file must be the newest.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Never sign what the history names. It raises the record of this home, and never lowers it."""
    from gensyn_node.app.sign_history import import_history, read_history
    from gensyn_node.config.home import lock_home

    place, history = home_of(home), read_history(source)
    with lock_home(place):
        state = import_history(place, history, restore=restore)
    value: dict[str, Any] = {
        "height": state.height,
        "round": state.round,
        "step": state.step,
        "signs_from_height": state.silent_through + 1 if state.silent_through >= state.height else state.height,
    }
    emit(as_json, value, lambda: say(f"This node signs from height {value['signs_from_height']} on."))
