"""`gensyn bench`: what training costs on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import JsonOption
from cli.output import console, emit, say, table
from cli.progress import waiting

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@app.command("ml")
def machine_learning(
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of exact training, and of PyTorch.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Exact training steps beside eager PyTorch, commitments, verification, memory. Takes a minute or two."""
    from ml.benchmark.measures import measure

    quiet = as_json or not console.is_terminal
    with waiting("Exact training beside PyTorch, in turns …", as_json):
        figures = measure(threads, (lambda _: None) if quiet else say)
    emit(as_json, figures, lambda: show(figures))


def show(figures: dict[str, Any]) -> None:
    """The tables."""
    device = figures["device"]
    say(
        f"{device['machine']}, {device['processor']}, {device['cores']} cores, {device['threads']} threads; "
        f"torch {device['torch']} ({device['torch_capability']}), Python {device['python']}"
    )
    rows = [
        (name, item["what"], f"{item['exact_ms']:.2f}", f"{item['eager_ms']:.2f}", f"{item['ratio']:.2f}")
        for name, item in figures["steps"].items()
    ]
    table("A training step", ("Model", "", "Exact ms #", "Eager ms #", "Ratio #"), rows, "No model.", whole=1)
    columns = ("Model", "Steps #", "Train s #", "Root s #", "Save s #", "Cost #", "Verify s #", "Ratio #")
    listed = [
        (
            name,
            item["steps"],
            f"{item['train_s']:.3f}",
            f"{item['root_s']:.4f}",
            f"{item['save_s']:.4f}",
            f"{item['commitment_overhead']:.2%}",
            f"{item['verify_s']:.3f}",
            f"{item['verification_ratio']:.2f}",
        )
        for name, item in figures["segments"].items()
    ]
    table("A segment: steps, root and file at its end, verification", columns, listed, "No model.", whole=1)
    memory = [
        (name, *(f"{item[key] / (1 << 20):.1f}" for key in ("state_bytes", "step_bytes", "process_bytes")))
        for name, item in figures["steps"].items()
    ]
    table("Memory, MiB", ("Model", "State #", "Step #", "Process, predicted #"), memory, "No model.", whole=1)
