"""`gensyn devnet …`: a network on this machine."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.options import JsonOption
from cli.output import emit, facts, say, table

app = typer.Typer(help="A local network of real nodes.", no_args_is_help=True, rich_markup_mode=None)
DevnetHome = Annotated[Path, typer.Option("--home", help="Folder of the devnet.")]
DEFAULT = Path("~/.gensyn-devnet")


def _end_in_order() -> None:
    """Told to end, it stops its nodes like after Ctrl-C; a terminal that closes says the same with SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@app.command()
def up(
    nodes: Annotated[int, typer.Option("-n", "--nodes", help="Number of nodes.", min=1, max=32)] = 4,
    cheat: Annotated[
        list[str] | None,
        typer.Option(
            "--cheat",
            help="The last nodes cheat, one each: flip-bit@step=37 (also skip-step, false-accuser, colluder, "
            "staller), lazy-verifier, copying-verifier, wrong-data, withheld-data or equivocation.",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is up; stop it with devnet down.")] = False,
    block_ms: Annotated[int, typer.Option("--block-ms", help="Block interval of the idle chain.", min=50)] = 500,
    home: DevnetHome = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Start a network: genesis, homes, faucet, processes. Ctrl-C stops all of it."""
    from gensyn_node.devnet import layout, processes

    _end_in_order()
    path = home.expanduser()
    if (path / layout.MANIFEST).exists():
        devnet = layout.open_devnet(path)
    else:
        devnet = layout.create_devnet(path, layout.plans_with_cheats(nodes, tuple(cheat or ())), block_ms=block_ms)
    processes.start_nodes(devnet)
    keep = False
    try:
        processes.wait_ready(devnet)
        states = processes.node_states(devnet)
        value = {
            "chain_id": devnet.chain_id,
            "home": str(devnet.path),
            "client_home": str(devnet.client.path),
            "nodes": [{"name": one.name, "home": str(one.home), "pid": one.pid, "rpc": one.rpc} for one in states],
        }

        def show() -> None:
            facts([("Chain", devnet.chain_id), ("Client's home", devnet.client.path), ("Keys", "account, faucet")])
            rows = [(one.name, one.rpc, one.pid, one.home) for one in states]
            table("Nodes", ("Node", "RPC", "Process", "Home"), rows, "none")
            token = states[0].home / "rpc.token"
            say(f"Try: gensyn wallet balance --home {devnet.client.path} --node {states[0].rpc}")
            say(f"Writing needs: --token-file {token}")
            say("Stop it with: gensyn devnet down" if detach else "Ctrl-C stops all nodes.")

        emit(as_json, value, show)
        keep = detach
        while not detach:
            processes.check_alive(devnet)
            time.sleep(0.5)
    finally:
        if not keep:
            processes.stop_nodes(devnet)


@app.command()
def down(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the files, to go on later.")] = False,
    home: DevnetHome = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Stop all nodes and delete the network."""
    from gensyn_node.devnet import layout, processes

    devnet = layout.open_devnet(home.expanduser())
    processes.stop_nodes(devnet)
    if not keep:
        layout.remove_devnet(devnet)
    ending = f"its files are in {devnet.path}" if keep else "their files are deleted"
    emit(as_json, {"stopped": devnet.nodes, "kept": keep}, lambda: say(f"{devnet.nodes} nodes are stopped; {ending}."))


@app.command()
def status(home: DevnetHome = DEFAULT, as_json: JsonOption = False) -> None:
    """Which nodes run."""
    from gensyn_node.devnet import layout, processes

    states = processes.node_states(layout.open_devnet(home.expanduser()))
    value = [{"name": one.name, "pid": one.pid, "rpc": one.rpc, "running": one.pid is not None} for one in states]
    rows = [(one.name, one.pid or "stopped", one.rpc) for one in states]
    emit(as_json, value, lambda: table("Nodes", ("Node", "Process", "RPC"), rows, "none"))


@app.command()
def logs(
    node: Annotated[int, typer.Argument(help="Number of the node.", min=0, max=31)] = 0,
    lines: Annotated[int, typer.Option("--lines", help="How many of the last lines.", min=1, max=10_000)] = 40,
    home: DevnetHome = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """The end of a node's log."""
    from gensyn_node.devnet import layout, processes, reasons
    from gensyn_node.primitives.errors import Rejection

    devnet = layout.open_devnet(home.expanduser())
    if node >= devnet.nodes:
        raise Rejection(reasons.BAD_DEVNET, f"there are nodes 0 to {devnet.nodes - 1}")
    text = processes.log_tail(devnet.homes[node], lines)
    emit(as_json, {"node": node, "lines": text.splitlines()}, lambda: say(text))


@app.command()
def scenario(
    name: Annotated[str, typer.Argument(help="A name of devnet/scenarios, or the path of a scenario file.")],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder of the network and its logs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Play one story on a fresh network: who lies, who finds it, what it cost. Exit code 1 when it ends otherwise."""
    import shutil
    import tempfile

    from cli import scenario_view
    from gensyn_node.devnet import crowd, story
    from gensyn_node.devnet import scenario as files
    from gensyn_node.rpc.json_view import to_json

    _end_in_order()
    path = files.find_scenario(name)
    told = files.read_scenario(path)
    folder = Path(tempfile.mkdtemp(prefix=f"gensyn-{told.name}-"))
    tell: story.Tell = (lambda kind, data: None) if as_json else scenario_view.Teller()
    ended: story.Ending | crowd.Crowd
    if told.copies > 1:
        ended = crowd.run_crowd(told, path.parent, folder, tell)
    else:
        ended = story.run_story(told, path.parent, folder, tell)

    def show() -> None:
        if isinstance(ended, crowd.Crowd):
            scenario_view.show_crowd(ended)
        else:
            scenario_view.show_ending(ended)

    emit(as_json, to_json(ended), show)
    if keep or ended.failures:
        if not as_json:
            say(f"The network's folder is {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if ended.failures:
        raise typer.Exit(1)
