"""`gensyn node doctor`: what works on this machine, what holds training in, and what to do about the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from cli.options import HomeOption, JsonOption, home_of
from cli.output import EXIT_REFUSED, console, emit, say, table


def register(app: typer.Typer) -> None:
    """Add the command to a group."""
    app.command("doctor")(doctor)


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check this machine: arithmetic, the training process, the measures of its sandbox. Needs no running node."""
    import logging

    import structlog

    from gensyn_node.config.node_config import NodeConfig, read_config
    from gensyn_node.roles.doctor import examine
    from ml.worker.kernels import kernel_store

    # The findings say it all, and the log of a starting worker would go to where the JSON goes.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    place = home_of(home)
    config = read_config(place) if place.config.exists() else NodeConfig()
    if not as_json and console.is_terminal:
        say("Starting a training process; its libraries take some seconds to load …")
    kernels = kernel_store(place.kernels) if place.config.exists() else None
    worker = config.worker
    findings = examine(worker.threads, worker.memory_mib << 20, place.keys, worker.device, kernels)
    value: dict[str, Any] = {"ok": all(item.ok for item in findings), "findings": [asdict(item) for item in findings]}

    def show() -> None:
        rows = [(item.subject, item.name, "ok" if item.ok else "NO", item.detail) for item in findings]
        table("This machine", ("Of", "What", "", "Found"), rows, "Nothing was looked at.", whole=3)
        for item in findings:
            if not item.ok and item.remedy:
                say(f"{item.subject} {item.name}: {item.remedy}")

    emit(as_json, value, show)
    if not value["ok"]:
        raise typer.Exit(EXIT_REFUSED)
