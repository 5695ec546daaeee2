"""`gensyn chain …`: blocks, validators, parameters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.light import (
    GenesisOption,
    SeedsOption,
    TrustedOption,
    TrustHoursOption,
    WitnessesOption,
    light_settings,
)
from cli.options import HomeOption, JsonOption, NodeOption, client_of
from cli.output import emit, facts, short, table
from cli.progress import waiting

if TYPE_CHECKING:
    from consensus.ledger.parameter_bounds import Bound

app = typer.Typer(help="Blocks, validators, parameters.", no_args_is_help=True, rich_markup_mode=None)
HeightArgument = Annotated[int | None, typer.Argument(help="Height; the newest when left out.", min=0)]


@app.command()
def block(
    height: HeightArgument = None, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """A block and its transactions."""
    with client_of(home, node, None) as client:
        value = client.call("block", height=height)

    def show() -> None:
        facts(
            [
                ("Height", value["height"]),
                ("Block", value["block_id"]),
                ("Time", datetime.fromtimestamp(value["time_ms"] / 1000, UTC).isoformat(timespec="milliseconds")),
                ("Proposer", value["proposer"]),
                ("State", value["app_hash"]),
                ("Round", value["commit_round"]),
                ("Signatures", value["signatures"]),
                ("Bytes", value["bytes"]),
            ]
        )
        rows = [_row(transaction) for transaction in value["transactions"]]
        table("Transactions", ("Transaction", "Sender", "Kind", "Result"), rows, "No transactions.")

    emit(as_json, value, show)


@app.command()
def validators(
    height: HeightArgument = None, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """The validators that sign a block."""
    with client_of(home, node, None) as client:
        value = client.whole_list("validators", height=height)
    total = sum(validator["power"] for validator in value) or 1
    rows = [(one["address"], one["power"], f"{100 * one['power'] / total:.1f} %") for one in value]
    emit(as_json, value, lambda: table("Validators", ("Address", "Power #", "Share #"), rows, "none"))


@app.command()
def params(
    home: HomeOption = None,
    node: NodeOption = None,
    bounds: Annotated[bool, typer.Option("--bounds", help="Also what a vote may make of each, and why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The parameters in force, changed by `gensyn gov propose parameter`."""
    from consensus.ledger.parameter_bounds import BOUNDS

    with client_of(home, node, None) as client:
        value = client.call("parameters")
    rows: list[tuple[object, ...]] = [(name, number) for name, number in value.items()]
    columns: tuple[str, ...] = ("Parameter", "Value #")
    if bounds:
        rows = [(*row, *_bound(BOUNDS.get(str(row[0])))) for row in rows]
        columns = (*columns, "May become", "Because")
        described = {
            name: dict(zip(("may_become", "because"), _bound(BOUNDS.get(name)), strict=True)) for name in value
        }
        value = {"parameters": value, "bounds": described}
    emit(as_json, value, lambda: table("Parameters in force", columns, rows, "none"))


def _bound(bound: Bound | None) -> tuple[str, str]:
    if bound is None or bound.fixed:
        return "never changes", bound.why if bound else ""
    least = "no less than now" if bound.raise_only else f"{bound.least:,}"
    return f"{least} … {bound.most:,}", bound.why


@app.command()
def light(
    trusted: TrustedOption = None,
    seeds: SeedsOption = None,
    genesis: GenesisOption = None,
    witnesses: WitnessesOption = 1,
    trust_hours: TrustHoursOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the newest header without a node: one peer shows it, others may contradict."""
    from gensyn_node.primitives.bech32 import encode_address
    from gensyn_node.sdk.light import verified_head

    settings = light_settings(home, seeds, genesis, trusted, witnesses, trust_hours)
    with waiting("Verifying the head over peers", as_json):
        head = verified_head(settings)
    block, synced = head.synced.block, head.synced
    members = [{"address": encode_address(one.address), "power": one.power} for one in block.validators]
    value = {
        "chain_id": block.header.chain_id,
        "height": block.height,
        "block_id": block.id.hex(),
        "app_hash": block.header.app_hash.hex(),
        "time_ms": block.header.time_ms,
        "trusted_height": head.trusted_height,
        "headers_fetched": synced.fetched,
        "witnesses": len(synced.witnesses),
        "validators": members,
        "total_power": sum(one.power for one in block.validators),
    }

    def show() -> None:
        facts(
            [
                ("Chain", value["chain_id"]),
                ("Height", value["height"]),
                ("Block", value["block_id"]),
                ("State before it", value["app_hash"]),
                ("Time", datetime.fromtimestamp(block.header.time_ms / 1000, UTC).isoformat(timespec="milliseconds")),
                ("Trusted from", head.trusted_height or "genesis"),
                ("Headers fetched", synced.fetched),
                ("Witnesses", len(synced.witnesses)),
            ]
        )
        rows = [(one["address"], one["power"]) for one in members]
        table("Validators", ("Address", "Power #"), rows, "none")

    emit(as_json, value, show)


def _row(transaction: dict[str, Any]) -> tuple[object, ...]:
    result = "ok" if transaction["accepted"] else f"{transaction['code']} {transaction['error']}"
    return short(transaction["transaction_id"]), transaction["sender"], transaction["kind"], result
