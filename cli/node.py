"""`gensyn node …`: make a home, run a node, look at it, change its role."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer

from cli import sign_state
from cli.options import (
    HomeOption,
    JsonOption,
    NodeOption,
    PassphraseOption,
    PlainOption,
    TokenOption,
    client_of,
    home_of,
)
from cli.output import EXIT_HALTED, console, emit, facts, say, table

PEER = 16
"""Characters of a peer's id that are shown."""

app = typer.Typer(help="Make, run and look at a node.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(sign_state.app, name="sign-state")


@app.command()
def init(
    genesis: Annotated[Path, typer.Option("--genesis", help="The genesis file of the chain.")],
    seed: Annotated[list[str] | None, typer.Option("--seed", help="Multiaddress of a node to call first.")] = None,
    role: Annotated[str, typer.Option("--role", help="auto, solver, verifier, whistleblower or none.")] = "auto",
    home: HomeOption = None,
    plain: PlainOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a home: keys, a commented config.toml, an empty chain."""
    from consensus.ledger.genesis import genesis_hash
    from gensyn_node.app.new_home import make_home
    from gensyn_node.config import reasons
    from gensyn_node.config.genesis import read_genesis
    from gensyn_node.config.node_config import parse_config
    from gensyn_node.config.template import render_config
    from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, new_key
    from gensyn_node.keys.passphrase import find_passphrase
    from gensyn_node.keys.recovery import words_of
    from gensyn_node.primitives.bech32 import encode_address
    from gensyn_node.primitives.errors import Rejection

    place, chain = home_of(home), read_genesis(genesis)
    if place.config.exists():
        raise Rejection(reasons.HOME_EXISTS, f"{place.path} has a node")
    config = parse_config(
        f"[node]\nrole = {_quoted(role)}\n[p2p]\nseeds = [{', '.join(map(_quoted, seed or []))}]\n", "--role, --seed"
    )
    passphrase = None if plain else find_passphrase(new=True, file=passphrase_file)
    keys = {name: new_key() for name in (ACCOUNT, CONSENSUS, P2P)}
    make_home(place, chain, keys, passphrase, render_config(config))
    value = {
        "home": str(place.path),
        "chain_id": chain.chain_id,
        "genesis_hash": genesis_hash(chain).hex(),
        "address": encode_address(keys[ACCOUNT].address),
        "recovery_words": words_of(keys[ACCOUNT]),
    }

    def show() -> None:
        facts([("Home", value["home"]), ("Chain", value["chain_id"]), ("Account", value["address"])])
        say("\nRecovery words of the account. Write them down now; they are not shown again:\n")
        console.print(f"  {value['recovery_words']}\n")
        say("Next: gensyn node run")

    emit(as_json, value, show)


@app.command()
def run(
    home: HomeOption = None,
    passphrase_file: PassphraseOption = None,
    state_sync: Annotated[
        bool, typer.Option("--state-sync", help="Join by a snapshot of a peer when the home has no block yet.")
    ] = False,
) -> None:
    """Run the node of the home until Ctrl-C, with a screen that stays true. It logs to log/node.log in the home."""
    import trio

    from cli.node_screen import show_screen
    from gensyn_node.app.service import run_whole_node
    from gensyn_node.app.settings import load_settings, with_state_sync
    from gensyn_node.config.node_config import check_cheat, read_config
    from gensyn_node.keys.keyring import ACCOUNT, Keyring
    from gensyn_node.keys.memory import forbid_dumps
    from gensyn_node.keys.passphrase import find_passphrase
    from gensyn_node.primitives.errors import InvariantViolation

    place = home_of(home)
    config = read_config(place)
    encrypted = Keyring(place.keys).is_encrypted(ACCOUNT)
    forbid_dumps()
    settings = load_settings(place, find_passphrase(file=passphrase_file) if encrypted else "")
    check_cheat(config, settings.genesis.chain_id)
    settings = with_state_sync(settings, wanted=state_sync)
    log = _log_to(place.log / "node.log", config.log.level)
    say(f"Node of {place.path} on {settings.genesis.chain_id}. Ctrl-C stops it; see gensyn node status.")
    try:
        trio.run(run_whole_node, settings, *([show_screen] if console.is_terminal else []))
    except InvariantViolation as violation:
        log.critical("node_halted", why=str(violation), exc_info=violation)
        raise typer.Exit(EXIT_HALTED) from None


@app.command()
def status(home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """What the node does, and why."""
    from cli.node_role import in_words
    from gensyn_node.primitives.money import format_amount

    with client_of(home, node, None) as client:
        value: dict[str, Any] = client.call("status")
        value["duties"] = client.call("duties")
        value["seeds"] = client.call("seeds")
        value["roles"] = client.find("role_report")
        account = client.call("account", address=value["address"])
    value["account"] = account

    def show() -> None:
        behind = " (catching up)" if value["syncing"] else ""
        facts(
            [
                ("Chain", f"{value['chain_id']}, block {value['height']}{behind}"),
                ("Peers", value["peers"]),
                ("Validator", "yes" if value["validator"] else "no"),
                ("Role", in_words(value["role"], value["roles"])),
                ("Now", value["activity"]),
                ("Account", value["address"]),
                ("Balance", format_amount(account["balance_nano"])),
                ("Bonded", format_amount(account["bonded_nano"])),
                ("Locked", format_amount(account["locked_nano"])),
                ("Disk", f"{value['disk_used_bytes'] >> 20} MiB used, {value['disk_free_bytes'] >> 20} MiB free"),
                ("Version", value["version"]),
            ]
        )
        if value["paused"]:
            say(f"PAUSED: {value['paused']}")
        rows = [(one["role"], one["state"], one["explanation"]) for one in value["duties"]]
        table("Duties", ("Role", "State", "Why"), rows, "No duties.")
        for seed in value["seeds"]:
            if not seed["connected"]:
                say(f"Seed {seed['address']} is down, next try in {seed['next_attempt_s']} s: {seed['note']}")

    emit(as_json, value, show)


@app.command()
def peers(home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """The peers of the node, and its seeds."""
    with client_of(home, node, None) as client:
        value = {"peers": client.call("peers"), "seeds": client.call("seeds")}

    def show() -> None:
        rows = [
            (
                _brief_peer(one["peer_id"]),
                "in" if one["inbound"] else "out",
                one["height"],
                one["score"],
                one["version"],
                one["note"] or (_place(one["addresses"][0]) if one["addresses"] else ""),
            )
            for one in value["peers"]
        ]
        table("Peers", ("Peer", "Way", "Height #", "Score #", "Version", "Where, or why not"), rows, "No peers.")
        seeds = [
            (
                _brief_peer(one["address"].rpartition("/p2p/")[2]),
                "up" if one["connected"] else "down",
                _place(one["address"]),
                one["note"],
            )
            for one in value["seeds"]
        ]
        table("Seeds", ("Peer", "State", "Where", "Note"), seeds, "No seeds are configured.")

    emit(as_json, value, show)


@app.command()
def consensus(home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """The round in progress: its proposer, votes by power, who is missing."""
    from cli.consensus_view import show_consensus, with_power

    with client_of(home, node, None) as client:
        state: dict[str, Any] = client.call("consensus_state")
        value = with_power(state, client.whole_list("validators", height=state["height"]))
    emit(as_json, value, lambda: show_consensus(value))


@app.command()
def role(
    new: Annotated[
        str | None, typer.Argument(help="auto, solver, verifier, whistleblower or none; shows it when left out.")
    ] = None,
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change the role, and what it comes to. Work under way is finished first."""
    from cli.node_role import show_role

    with client_of(home, node, token_file) as client:
        value: dict[str, Any] = {"role": client.call("role") if new is None else client.call("set_role", role=new)}
        value["report"] = client.find("role_report")
    emit(as_json, value, lambda: show_role(value))


def _brief_peer(peer: str) -> str:
    """The part of a peer's id that tells it from others; `--json` shows all."""
    return peer if len(peer) <= PEER else f"{peer[:PEER]}…"


def _place(address: str) -> str:
    """`/ip4/1.2.3.4/tcp/26600/p2p/…` as `1.2.3.4:26600`."""
    match address.partition("/p2p/")[0].split("/"):
        case ["", "ip6", host, "tcp", port]:
            return f"[{host}]:{port}"
        case ["", _, host, "tcp", port]:
            return f"{host}:{port}"
    return address


def _log_to(path: Path, level: str) -> Any:
    """Log one JSON object a line to a file."""
    import logging

    import structlog

    from cli.log_file import LogFile

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=repr),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, LogFile(path))),
    )
    return structlog.get_logger()


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
