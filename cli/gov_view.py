"""Proposals for people: how far the vote is from its quorum and its majority."""

from __future__ import annotations

from typing import Any

from cli.output import facts, say, table

BAR = 24
"""Characters of a bar."""
_HINTS = {
    "passed": "it would pass",
    "rejected": "it would be rejected",
    "no_quorum": "it would fall without a quorum, the deposit burnt",
    "vetoed": "it would be vetoed, the deposit burnt",
}


def show_proposals(value: dict[str, Any]) -> None:
    """The list, with what governance has under way."""
    from gensyn_node.primitives.money import format_amount

    governance = value["governance"]
    rows: list[tuple[str, object]] = [
        ("Treasury", format_amount(governance["treasury_nano"])),
        ("Protocol", governance["protocol"]),
    ]
    if plan := governance["upgrade"]:
        known = "this node knows it" if governance["upgrade_known"] else "THIS NODE DOES NOT KNOW IT and stops there"
        rows.append(("Upgrade", f"{plan['name']} at block {plan['height']}: {known}"))
    facts(rows)
    listed = [
        (
            one["number"],
            one["title"],
            one["state"].replace("_", " "),
            _percent(one["tally"]["yes_nano"], _decided(one["tally"])),
            _percent(_voted(one["tally"]), one["tally"]["bonded_nano"]),
            one["effect_height"] or (one["voting_end_height"] if one["state"] == "voting" else "-"),
        )
        for one in value["proposals"]
    ]
    columns = ("Nr #", "Title", "State", "Yes #", "Turnout #", "Ends/From #")
    table("Proposals", columns, listed, "No proposals: gensyn gov propose --help")


def show_proposal(one: dict[str, Any]) -> None:
    """One proposal in full."""
    from gensyn_node.primitives.money import format_amount

    tally = one["tally"]
    voted, decided = _voted(tally), _decided(tally)
    quorum, majority, veto = one["quorum_nano"], one["threshold_bps"] / 10_000, one["veto_bps"] / 10_000
    state = one["state"].replace("_", " ")
    if one["state"] == "voting":
        state = f"voting, {one['blocks_left']} blocks left; now {_HINTS.get(one['outcome'], one['outcome'])}"
    facts(
        [
            ("Proposal", f"{one['number']}: {one['title']}"),
            *([("Summary", one["summary"])] if one["summary"] else []),
            ("By", one["proposer"]),
            ("State", state),
            *([("Why", one["why"])] if one["why"] else []),
            ("Asks for", _content(one)),
            ("In force", _when(one)),
            ("Turnout", _bar(voted, tally["bonded_nano"], quorum / max(1, tally["bonded_nano"]), "quorum")),
            ("Yes", _bar(tally["yes_nano"], decided, majority, "majority above")),
            ("Veto", _bar(tally["veto_nano"], voted, veto, "falls above")),
            *([("Deposit", format_amount(one["deposit_nano"]))] if one["deposit_nano"] else []),
        ]
    )
    rows = [
        (name, format_amount(tally[f"{name}_nano"]), _percent(tally[f"{name}_nano"], voted))
        for name in ("yes", "no", "abstain", "veto")
    ]
    table("Votes", ("Choice", "Stake GSN", "Share #"), rows, "No votes.")
    if one["state"] == "voting":
        say(f"Vote: gensyn gov vote {one['number']} yes|no|abstain|veto")


def _content(one: dict[str, Any]) -> str:
    from gensyn_node.primitives.money import format_amount

    content = one["content"]
    match one["kind"]:
        case "change_parameters":
            return ", ".join(f"{change['name']} = {change['value']}" for change in content["changes"])
        case "plan_upgrade":
            return f"upgrade {content['name']} (protocol {content['protocol']}) at block {content['height']}"
        case "cancel_upgrade":
            return f"no upgrade {content['name']}"
        case "grant":
            return f"{format_amount(content['amount_nano'])} to {content['to']}"
        case _:
            return "an answer"


def _when(one: dict[str, Any]) -> str:
    if one["effect_height"]:
        return f"from block {one['effect_height']}"
    if one["state"] == "voting":
        return f"vote ends with block {one['voting_end_height']}"
    return "-"


def _voted(tally: dict[str, int]) -> int:
    return tally["yes_nano"] + tally["no_nano"] + tally["abstain_nano"] + tally["veto_nano"]


def _decided(tally: dict[str, int]) -> int:
    return _voted(tally) - tally["abstain_nano"]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _bar(part: int, whole: int, mark: float, word: str) -> str:
    """A bar of `part` in `whole` with a mark at the share that decides."""
    share = part / whole if whole else 0.0
    filled, at = round(share * BAR), min(BAR - 1, round(mark * BAR))
    cells = ["█" if position < filled else "·" for position in range(BAR)]
    cells[at] = "┃" if at < filled else "|"
    return f"{''.join(cells)} {_percent(part, whole)}, {word} {100 * mark:.1f} %"
