"""`gensyn chain …`: blocks, transactions, validators, parameters."""

from __future__ import annotations

import json
from dataclasses import asdict
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
from cli.output import emit, facts, say, short, table
from cli.progress import waiting

if TYPE_CHECKING:
    from consensus.ledger.parameter_bounds import Bound

app = typer.Typer(help="Blocks, transactions, validators, parameters.", no_args_is_help=True, rich_markup_mode=None)
BRIEF = 96
"""Characters of a field that are shown."""
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
def tx(
    transaction_id: Annotated[str, typer.Argument(help="All 64 digits of its id.")],
    proof: Annotated[bool, typer.Option("--proof", help="Also check, here, that its block contains it.")] = False,
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """A transaction that is in a block, and what became of it."""
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.inclusion import check_inclusion

    with client_of(home, node, None) as client:
        value = client.call("transaction", transaction_id=transaction_id)
        if proof:
            shown = client.call("transaction_proof", transaction_id=transaction_id)
            header = client.call("header", height=shown["height"])
            inclusion = check_inclusion(transaction_id, shown, header)
            value["proof"] = {"holds": True, "block_id": header["block_id"], **asdict(inclusion), "path": shown["path"]}

    def show() -> None:
        facts(
            [
                ("Transaction", value["transaction_id"]),
                ("Block", f"{value['height']}, number {value['index']} in it"),
                ("Result", "ok" if value["accepted"] else f"{value['code']} {value['error']}"),
                ("Kind", value["kind"].replace("_", " ")),
                ("Sender", value["sender"]),
                ("Nonce", value["nonce"]),
                ("Fee", format_amount(value["fee_nano"])),
                *((f"  {name}", _brief(field)) for name, field in (value["message"] or {}).items() if name != "type"),
            ]
        )
        if proof:
            found = value["proof"]
            place = f"{found['index'] + 1} of {found['total']} in block {found['height']}"
            say(f"\nThe proof holds: {place}, data root {short(found['data_root'])}.")
            say("The header is this node's word: gensyn chain light verifies headers.")

    emit(as_json, value, show)


@app.command()
def validators(
    height: HeightArgument = None, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False
) -> None:
    """The validators that sign a block."""
    with client_of(home, node, None) as client:
        value = client.whole_list("validators", height=height)
    total = sum(validator["power"] for validator in value) or 1
    rows = [(one["address"], f"{one['power']:,}", f"{100 * one['power'] / total:.1f} %") for one in value]
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
    rows: list[tuple[object, ...]] = [
        (name, f"{number:,}" if isinstance(number, int) else number) for name, number in value.items()
    ]
    columns: tuple[str, ...] = ("Parameter", "Value #")
    if bounds:
        rows = [(*row, ": ".join(filter(None, _bound(BOUNDS.get(str(row[0])))))) for row in rows]
        columns = (*columns, "May become, and why")
        described = {
            name: dict(zip(("may_become", "because"), _bound(BOUNDS.get(name)), strict=True)) for name in value
        }
        value = {"parameters": value, "bounds": described}
    emit(as_json, value, lambda: table("Parameters in force", columns, rows, "none", whole=2))


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
    from consensus.tendermint.types import CommitFlag
    from gensyn_node.primitives.bech32 import encode_address
    from gensyn_node.sdk.light import verified_head

    settings = light_settings(home, seeds, genesis, trusted, witnesses, trust_hours)
    with waiting("Verifying the head over peers", as_json):
        head = verified_head(settings)
    block, synced = head.synced.block, head.synced
    signers = {
        one.address
        for one, slot in zip(block.validators, block.commit.slots, strict=True)
        if slot.flag is CommitFlag.COMMIT
    }
    total = sum(one.power for one in block.validators)
    signed = sum(one.power for one in block.validators if one.address in signers)
    members = [
        {"address": encode_address(one.address), "power": one.power, "signed": one.address in signers}
        for one in block.validators
    ]
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
        "total_power": total,
        "signed_power": signed,
    }

    def show() -> None:
        trusted_from = f"block {head.trusted_height}" if head.trusted_height else "the genesis"
        say(
            f"Verified: block {value['height']} of {value['chain_id']}, from {trusted_from}, with {synced.fetched} "
            f"header{'' if synced.fetched == 1 else 's'} fetched. No node was trusted."
        )
        agreeing = f"{len(synced.witnesses)} agree, none contradicts"
        facts(
            [
                ("Block", value["block_id"]),
                ("State before it", value["app_hash"]),
                ("Time", datetime.fromtimestamp(block.header.time_ms / 1000, UTC).isoformat(timespec="milliseconds")),
                ("Signed by", f"{100 * signed / total:.1f} % of the voting power, more than 66.7 % is needed"),
                ("Other peers", agreeing if synced.fetched else "asked when it was verified"),
            ]
        )
        rows = [
            (
                encode_address(one.address),
                f"{one.power:,}",
                f"{100 * one.power / total:.1f} %",
                "yes" if one.address in signers else "no",
            )
            for one in block.validators
        ]
        table("Validators", ("Address", "Power #", "Share #", "Signed"), rows, "none")

    emit(as_json, value, show)


def _brief(field: object) -> str:
    """A field of a message, on at most two lines of a terminal."""
    text = field if isinstance(field, str) else json.dumps(field, ensure_ascii=False)
    return text if len(text) <= BRIEF else f"{text[:BRIEF]}… ({len(text)} characters; --json shows all)"


def _row(transaction: dict[str, Any]) -> tuple[object, ...]:
    result = "ok" if transaction["accepted"] else f"{transaction['code']} {transaction['error']}"
    return short(transaction["transaction_id"]), transaction["sender"], transaction["kind"], result
