"""The round in progress for people: who has voted for what, weighed by power, and who is missing."""

from __future__ import annotations

from typing import Any

from cli.output import facts, say, short, table

BAR = 24
"""Characters of a bar."""
VOTERS_SHOWN_MAX = 24
NIL = "nil"


def with_power(state: dict[str, Any], validators: list[dict[str, Any]]) -> dict[str, Any]:
    """The round in progress with its votes weighed, for people and for `--json` alike."""
    powers = {one["address"]: one["power"] for one in validators}
    rounds = {one["round"]: one for one in state["rounds"]}
    current = rounds.get(state["round"], {"proposer": "", "proposals": [], "prevotes": {}, "precommits": {}})
    voted = {kind: sum(powers.get(one, 0) for one in current[kind]) for kind in ("prevotes", "precommits")}
    missing = {kind: [one for one in powers if one not in current[kind]] for kind in ("prevotes", "precommits")}
    return state | {
        "proposer": current["proposer"],
        "total_power": sum(powers.values()),
        "voted_power": voted,
        "missing": missing,
        "validators": validators,
    }


def show_consensus(value: dict[str, Any]) -> None:
    """Place, bars, and one row for each validator, those who are missing first."""
    current: dict[str, Any] = next((one for one in value["rounds"] if one["round"] == value["round"]), {})
    total, voted = value["total_power"], value["voted_power"]
    proposals = [short(one) for one in current.get("proposals", ())]
    rows: list[tuple[str, object]] = [
        ("Height", f"{value['height']}, round {value['round']}, {value['step']}"),
        ("Proposer", value["proposer"] or "-"),
        ("Proposal", ", ".join(proposals) or "none yet"),
        ("Prevotes", _bar(voted["prevotes"], total)),
        ("Precommits", _bar(voted["precommits"], total)),
        ("Standing", f"{value['seconds_since_progress']:.1f} s since something new"),
    ]
    if value["locked_round"] >= 0:
        rows.append(("Locked", f"{short(value['locked_block'])} since round {value['locked_round']}"))
    facts(rows)
    listed = [
        (one["address"], one["power"], *(_vote(current.get(kind, {}), one["address"]) for kind in voted))
        for one in value["validators"]
    ]
    listed.sort(key=lambda row: (row[2:].count("-") * -1, -int(row[1])))
    columns = ("Validator", "Power #", "Prevote", "Precommit")
    table("Votes", columns, listed[:VOTERS_SHOWN_MAX], "No validators.", whole=2)
    if len(listed) > VOTERS_SHOWN_MAX:
        say(f"and {len(listed) - VOTERS_SHOWN_MAX} more: --json lists them")
    for one in value["rounds"]:
        if one["round"] < value["round"]:
            quorum = one["precommit_quorum"] or one["prevote_quorum"]
            found = f"a quorum for {short(quorum)}" if quorum else "no quorum"
            say(f"Round {one['round']}: {len(one['prevotes'])} prevotes, {len(one['precommits'])} precommits, {found}")


def _vote(votes: dict[str, str], address: str) -> str:
    given = votes.get(address)
    return "-" if given is None else NIL if given == NIL else given[:8]


def _bar(part: int, total: int) -> str:
    """Power that has voted, with a mark at two thirds."""
    filled, at = (round(BAR * part / total) if total else 0), BAR * 2 // 3
    cells = ["█" if position < filled else "·" for position in range(BAR)]
    cells[at] = "┃" if at < filled else "|"
    share = f"{100 * part / total:.1f} %" if total else "-"
    return f"{''.join(cells)} {share} of {total}" + (", a quorum" if 3 * part > 2 * total else "")
