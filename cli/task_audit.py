"""`gensyn task audit`: re-execute random segments of one's own task on this machine, and challenge what is wrong."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
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
from cli.options import (
    HomeOption,
    JsonOption,
    KeyOption,
    NodeOption,
    PassphraseOption,
    TokenOption,
    YesOption,
    client_of,
    home_of,
    key_of,
)
from cli.output import EXIT_REFUSED, confirm, emit, facts, say, short, table
from cli.progress import count_bar

if TYPE_CHECKING:
    from consensus.ledger.records import DisputeRecord
    from gensyn_node.sdk.audit import Asks, Audit, Chances, Finding
    from gensyn_node.sdk.audit_challenge import Filing


def register(app: typer.Typer) -> None:
    """Add the command to a group."""
    app.command("audit")(audit)


def audit(
    task_id: Annotated[str, typer.Argument(help="The task's id.")],
    fraction: Annotated[
        float, typer.Option("--fraction", min=0.0, max=1.0, help="Part of the committed segments, at least one.")
    ] = 0.01,
    segments: Annotated[int | None, typer.Option("--segments", min=1, help="How many, instead of a fraction.")] = None,
    challenge: Annotated[
        bool, typer.Option("--challenge/--no-challenge", help="File a challenge against what is wrong.")
    ] = True,
    bond: Annotated[bool, typer.Option("--bond", help="Put up the bond of a challenge where it is missing.")] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="Threads of the re-execution.")] = 1,
    key: KeyOption = "account",
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    passphrase_file: PassphraseOption = None,
    light: Annotated[
        bool, typer.Option("--light", help="Read the ledger over peers, every record proven (see gensyn chain light).")
    ] = False,
    seeds: SeedsOption = None,
    genesis: GenesisOption = None,
    trusted: TrustedOption = None,
    witnesses: WitnessesOption = 1,
    trust_hours: TrustHoursOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Re-run random segments here, bit for bit. A mismatch is challenged and earns the bounty. Exit code 1: wrong.

    With --light the records are proven over peers; the node only hands over blobs, which are checked, and sends.
    """
    from gensyn_node.sdk.audit import Audit, chances
    from gensyn_node.sdk.audit_challenge import Filing
    from gensyn_node.sdk.blobs import parse_id

    def tell(text: str) -> None:
        if not as_json:
            say(text)

    with ExitStack() as held:
        client = held.enter_context(client_of(home, node, token_file))
        reader = None
        if light:
            from gensyn_node.light.reader import proven_reader

            settings = light_settings(home, seeds, genesis, trusted, witnesses, trust_hours)
            reader = held.enter_context(proven_reader(settings))
        look = Audit(client, home_of(home), parse_id(task_id), reader)
        chosen, committed = look.drawn(fraction, segments), len(look.committed())
        proven_at = None if reader is None else reader.height
        tell(f"Fetching the data of {len(chosen)} segments by their content …")
        job = look.job(threads)
        with look.worker(threads) as worker:
            filing = Filing(client, key_of(home, key, passphrase_file), look, tell) if challenge else None
            ruling = filing.resume(worker, threads) if filing else None
            found = _looked_at(look, worker, chosen, job, as_json)
            culprit = next((one for one in found if one.wrong and one.open), None)
            if filing is not None and culprit is not None:
                ruling = _file(filing, worker, culprit, bond=bond, threads=threads, ask=not yes)
        look.clean()
    value = _value(task_id, found, chances(committed, len(found)), ruling)
    value["proven_at"] = proven_at
    value["forced_error"] = filing is not None and filing.forced_error
    emit(as_json, value, lambda: _show(value))
    if value["wrong"]:
        raise typer.Exit(EXIT_REFUSED)


def _looked_at(look: Audit, worker: Asks, chosen: list[Any], job: Any, as_json: bool) -> list[Finding]:
    from gensyn_node.sdk.audit import run_audit

    with count_bar("Re-executing segments", as_json) as progress:
        done: list[Finding] = []

        def count(finding: Finding) -> None:
            done.append(finding)
            progress(len(done), len(chosen))

        return run_audit(look, worker, chosen, job, count)


def _file(
    filing: Filing, worker: Asks, culprit: Finding, *, bond: bool, threads: int, ask: bool
) -> DisputeRecord | None:
    from gensyn_node.primitives.money import format_amount

    missing, _ = filing.bond_missing()
    if missing and bond:
        if not confirm(f"Put up {format_amount(missing)} as a bond and challenge?", not ask):
            raise typer.Abort
        filing.bond()
    filing.require_bond()
    filing.announce(culprit)
    return filing.resume(worker, threads)


def _value(task_id: str, found: list[Finding], odds: Chances, ruling: DisputeRecord | None) -> dict[str, Any]:
    from gensyn_node.rpc.json_view import to_json

    return {
        "task_id": task_id,
        "segments": [{**to_json(asdict(one)), "wrong": one.wrong, "challengeable": one.open} for one in found],
        "wrong": sum(one.wrong for one in found),
        "unavailable": sum(one.result == "unavailable" for one in found),
        **asdict(odds),
        "dispute": None if ruling is None else to_json(ruling),
    }


def _show(value: dict[str, Any]) -> None:
    rows = [
        (
            one["segment"],
            f"{one['first_step']} to {one['first_step'] + one['steps'] - 1}",
            one["phase"],
            one["result"],
            f"{one['seconds']:.1f}",
            one["note"] or short(one["own_root"]),
        )
        for one in value["segments"]
    ]
    table("Re-executed here", ("Segment #", "Steps", "Instalment", "Result", "s #", "Root, or why"), rows, "None.")
    facts(
        [
            ("Looked at", f"{value['audited']} of {value['committed']} committed segments"),
            ("One wrong segment", f"would have been met with {value['one_bps'] / 100:.2f} %"),
            *([] if value["proven_at"] is None else [("Records", f"proven, from block {value['proven_at']} on")]),
            ("With 95 %", f"one of {value['certain_segments']} wrong segments would have been met"),
        ]
    )
    if value["dispute"] is not None:
        say(f"The dispute {value['dispute']['dispute_id']} ended: {value['dispute']['state']}.")
        say(f"See it: gensyn dispute show {value['dispute']['dispute_id']}")
    elif value["forced_error"]:
        say("It was an error that the network had planted: its first finder gets a share of what approvers of it lose.")
    elif value["wrong"]:
        say("No challenge was filed: the window is over, or --no-challenge was given.")
