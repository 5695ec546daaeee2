"""How the role of a node is shown: what the owner wants, what that comes to, and why."""

from __future__ import annotations

from typing import Any

from cli.output import facts, say, table


def in_words(role: str, report: dict[str, Any] | None) -> str:
    """The role in one line."""
    if report is None or report["offered"] == role:
        return role
    finishing = f"; still finishing: {', '.join(report['draining'])}" if report["draining"] else ""
    return f"{role}: offers {report['offered']} since block {report['since_height']}{finishing}"


def show_role(value: dict[str, Any]) -> None:
    """The role, the reasons of `auto`, the accelerator, the latest changes."""
    report = value["report"]
    say(in_words(value["role"], report))
    if report is None:
        return
    rows = [(one["role"], "yes" if one["offered"] else "no", one["why"]) for one in report["reasons"]]
    if rows:
        table("What auto chose", ("Role", "Offered", "Why"), rows, "")
    speed = report["machine"]["gas_per_block"]
    battery = "on its battery" if report["machine"]["on_battery"] else "plugged in"
    waiting = f"; waiting: {', '.join(report['waiting'])}" if report["waiting"] else ""
    facts(
        [
            ("Accelerator", f"{report['machine']['device']}: {report['working'] or 'free'}{waiting}"),
            ("Speed", f"{speed} gas a block, measured in its own work" if speed else "not measured yet"),
            ("Power", battery if report["machine"]["has_battery"] else "no battery"),
            ("Finishing", ", ".join(report["draining"]) or "nothing of another role"),
        ]
    )
    changes = [(one["height"], one["before"], one["after"], one["why"]) for one in report["changes"][-5:]]
    table("Latest changes", ("Block #", "Before", "After", "Why"), changes, "No change yet.")
