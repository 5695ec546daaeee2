"""`gensyn node rollback | reset | snapshot | debug-bundle`: what an operator does with the files of a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import HomeOption, JsonOption, YesOption, home_of
from cli.output import confirm, emit, facts, say, table

snapshot = typer.Typer(help="Snapshots for those who join.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Put the commands into the group `node`."""
    app.command()(rollback)
    app.command()(reset)
    app.command("debug-bundle")(debug_bundle)
    app.add_typer(snapshot, name="snapshot")


def rollback(
    to: Annotated[int | None, typer.Option("--to", help="The height that becomes the head.")] = None,
    blocks: Annotated[int | None, typer.Option("--blocks", min=1, help="How many blocks to go back.")] = None,
    home: HomeOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to an earlier block of a stopped node. The blocks above come again from peers.

    The sign state stays: a validator signs nothing at or below the height it has signed.
    """
    from gensyn_node.app.maintenance import chain_heights, roll_back
    from gensyn_node.config.home import lock_home

    if (to is None) == (blocks is None):
        raise typer.BadParameter("give either --to HEIGHT or --blocks N")
    place = home_of(home)
    with lock_home(place):
        before = chain_heights(place)
        target = before.head - blocks if blocks is not None else int(to or 0)
        if not confirm(f"Go back from block {before.head} to {target}?", yes):
            raise typer.Abort
        head = roll_back(place, target)
    value = {"before": before.head, "height": head.height, "app_hash": head.app_hash.hex()}
    emit(as_json, value, lambda: say(f"The head is block {head.height} now; it was {before.head}."))


def reset(
    home: HomeOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Begin again from the genesis. Keys, configuration and sign state stay; the old database is set aside.

    The blocks come again from peers, or a snapshot with `gensyn node run --state-sync`. A validator signs nothing at or
    below the height it has signed.
    """
    from gensyn_node.app.startup import begin_again
    from gensyn_node.config.genesis import read_genesis
    from gensyn_node.config.home import lock_home

    place = home_of(home)
    genesis = read_genesis(place.genesis)
    with lock_home(place):
        if not confirm(f"Set the chain of {place.path} aside and begin again from the genesis?", yes):
            raise typer.Abort
        aside = begin_again(place, genesis)
    value = {"home": str(place.path), "set_aside": None if aside is None else str(aside)}
    emit(as_json, value, lambda: say(f"The chain is at its genesis. The old database is {aside}; delete it at will."))


def debug_bundle(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The archive to write.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One archive for whoever helps: versions, configuration, chain, peers, log. Keys and tokens are left out."""
    import time

    from gensyn_node.app.debug_bundle import write_bundle

    place = home_of(home)
    path = (output or Path(f"gensyn-debug-{int(time.time())}.tar.gz")).absolute()
    names = write_bundle(place, path, _live(home))
    value = {"path": str(path), "bytes": path.stat().st_size, "files": names}
    emit(as_json, value, lambda: say(f"{path}: {len(names)} files. Look at it before you send it."))


def _live(home: Path | None) -> dict[str, Any]:
    """What the running node says; why not, when none runs."""
    from cli.options import client_of
    from gensyn_node.primitives.errors import Rejection

    found: dict[str, Any] = {}
    try:
        with client_of(home, None, None) as client:
            for method in ("status", "peers", "seeds", "validators", "duties", "block"):
                try:
                    found[method] = client.call(method)
                except Rejection as rejection:
                    found[method] = {"unavailable": str(rejection)}
    except Rejection as rejection:
        found["node"] = {"unavailable": str(rejection)}
    return found


@snapshot.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The snapshots in the home."""
    from gensyn_node.app.settings import SNAPSHOT_FOLDER
    from gensyn_node.storage.snapshots import SnapshotFolder

    folder = SnapshotFolder(home_of(home).data / SNAPSHOT_FOLDER)
    rows = [_row(folder.manifest(height)) for height in folder.heights()]

    def show() -> None:
        table(
            "Snapshots",
            ("Height #", "Entries #", "Bytes #", "Chunks #", "Id"),
            [(one["height"], one["entries"], one["bytes"], one["chunks"], one["id"]) for one in rows],
            "No snapshots.",
        )

    emit(as_json, {"snapshots": rows}, show)


@snapshot.command()
def create(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make a snapshot of the head of a stopped node; a running one makes its own, see [storage] snapshot_interval."""
    from gensyn_node.app.maintenance import snapshot_now
    from gensyn_node.config.home import lock_home

    place = home_of(home)
    with lock_home(place):
        row = _row(snapshot_now(place))

    def show() -> None:
        facts([("Height", row["height"]), ("Entries", row["entries"]), ("Bytes", row["bytes"]), ("Id", row["id"])])

    emit(as_json, row, show)


def _row(manifest: Any) -> dict[str, Any]:
    return {
        "height": manifest.height,
        "entries": manifest.entries,
        "bytes": manifest.size,
        "chunks": len(manifest.chunks),
        "id": manifest.id.hex(),
    }
