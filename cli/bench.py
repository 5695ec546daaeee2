"""`gensyn bench`: what training costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import JsonOption
from cli.output import console, emit, say, table
from cli.progress import count_bar, waiting

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


@app.command()
def economics(
    tasks: Annotated[int, typer.Option(min=10, max=1_000_000, help="Tasks for each strategy and share.")] = 1_500,
    agents: Annotated[int, typer.Option(min=50, max=100_000, help="Providers.")] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Of all dice.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 2,
    preset: Annotated[str, typer.Option("--parameters", help="mainnet or devnet.")] = "mainnet",
    forced_bps: Annotated[
        int, typer.Option("--forced-errors", min=0, max=10_000, help="Chance of one an instalment, basis points.")
    ] = 0,
    around: Annotated[bool, typer.Option("--grid", help="Also around the parameters; many times longer.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the table as a picture to this .svg.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What each strategy earns under the ledger's rules, by simulation. Takes a few minutes."""
    from consensus.ledger.parameters import devnet_parameters, mainnet_parameters
    from gensyn_node.economics.assumptions import Assumptions
    from gensyn_node.economics.grid import region
    from gensyn_node.economics.plots import strategies_svg
    from gensyn_node.economics.report import report
    from gensyn_node.economics.shape import default_shapes

    presets = {"mainnet": mainnet_parameters, "devnet": devnet_parameters}
    if preset not in presets:
        raise typer.BadParameter(f"{preset!r} is none of {', '.join(presets)}")
    with count_bar("Campaigns", as_json) as told:
        found = report(
            presets[preset](),
            Assumptions(),
            tasks=tasks,
            agents=agents,
            seed=seed,
            processes=jobs,
            shapes=default_shapes(forced_bps),
            told=told,
        )
    if around:
        with count_bar("Around the parameters", as_json) as told:
            found["region"] = region(
                presets[preset](), Assumptions(), tasks=tasks, processes=jobs, seed=seed, told=told
            )
    if plot is not None:
        plot.write_text(strategies_svg(found), encoding="utf-8")
    emit(as_json, {"parameters": preset, "forced_error_bps": forced_bps, **found}, lambda: show_economics(found))


def show_economics(found: dict[str, Any]) -> None:
    """The table of strategies, and what it rests on."""
    rows = []
    for name, one in found["strategies"].items():
        bounds = ["none"] * 3 if one["mean"] is None else [f"{one[key]:+.2f}" for key in ("mean", "low", "high")]
        ratio = one.get("loss_per_harm")
        harm = "" if ratio is None else f"{min(ratio, 9_999):.4g}"
        rows.append((name, *bounds, harm, "yes" if one["holds"] else "NO"))
    shares = ", ".join(f"{share / 100:g} %" for share in found["shares_bps"])
    say(f"{found['tasks']} tasks, {found['agents']} agents; bad shares {shares}; {found['unit']}.")
    say("Cheats: the best of all shares. Honest roles: the worst. Bounds hold with 99.9 %.")
    columns = ("Strategy", "Mean #", "Low #", "High #", "Loss/harm #", "Holds")
    table("What each strategy earns, GSN", columns, rows, "No strategy.", whole=1)
    for name, one in found["strategies"].items():
        if "more_than_honest" in one:
            more, high = one["more_than_honest"], one["more_high"]
            say(f"{name}: {more:+.3f} GSN a task beside honest work of as many, at most {high:+.3f}.")
    split = [
        (f"{one['share_bps'] / 100:g} %", *(f"{one[key]:+.3f}" for key in ("one", "many", "gain", "low", "high")))
        for one in found["splitting"]
    ]
    columns = ("Share of bonds #", "As one #", "As 20 #", "Gain #", "Low #", "High #")
    table("Splitting into Sybils, GSN a task", columns, split, "Nothing.")
    region = [(one["point"], ", ".join(one["fails"]) or "nothing") for one in found.get("region", ())]
    if region:
        table("Around the parameters, bad share 30 %", ("Changed", "Fails"), region, "", whole=1)
    for sentence in found["assumptions"]:
        say(f"Assumed: {sentence}")
