"""`gensyn task …`: describe, price, submit, follow and fetch a training task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import task_view
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
from cli.output import confirm, emit, facts, say, short, table
from cli.progress import byte_bar

if TYPE_CHECKING:
    from gensyn_node.sdk.task_build import BuiltTask

app = typer.Typer(help="Training tasks.", no_args_is_help=True, rich_markup_mode=None)
FileArgument = Annotated[Path, typer.Argument(help="The task file.")]
TaskArgument = Annotated[str, typer.Argument(help="The task's id.")]
BLOCK_MS_OFFLINE = 1000
"""Assumed length of a block where no node is asked."""


@app.command()
def init(
    file: FileArgument = Path("task.toml"),
    preset: Annotated[str, typer.Option("--preset", help="mlp, cnn, resnet, vit, lstm or gpt.")] = "mlp",
    as_json: JsonOption = False,
) -> None:
    """Write a commented task file to start from."""
    from gensyn_node.primitives.errors import Rejection
    from gensyn_node.sdk import reasons
    from gensyn_node.sdk.task_template import PRESETS, template

    if preset not in PRESETS:
        raise Rejection(reasons.BAD_TASK_FILE, f"preset {preset!r}; there are {', '.join(PRESETS)}")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(template(preset))
    except OSError as error:
        raise Rejection(reasons.BAD_TASK_FILE, f"{file} cannot be written: {error.strerror}") from None
    emit(
        as_json, {"file": str(file), "preset": preset}, lambda: say(f"Wrote {file}. Next: gensyn task validate {file}")
    )


@app.command()
def validate(file: FileArgument = Path("task.toml"), home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check a task file and its data, capture the program. Needs no network."""
    task = _build(home, file, BLOCK_MS_OFFLINE)
    value = task_view.described(task)
    emit(as_json, {"valid": True, **value}, lambda: facts([("Task file", "valid"), *value.items()]))


@app.command()
def quote(
    file: FileArgument = Path("task.toml"),
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the task would cost, and who could do it."""
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.task_flow import quote_task

    with client_of(home, node, None) as client:
        task = _build(home, file, client.call("status")["block_interval_ms"])
        found = quote_task(client, task)
    value = {**to_json(found), "problem": found.problem, **task_view.memory_of(task)}
    emit(as_json, value, lambda: task_view.show_quote(found, task))


@app.command()
def submit(
    file: FileArgument = Path("task.toml"),
    key: KeyOption = "account",
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Quote, ask, upload the data, hold the price, submit. The machine may be switched off afterwards."""
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.quote import check_quote
    from gensyn_node.sdk.task_flow import quote_task, submit_task

    with client_of(home, node, token_file) as client:
        task = _build(home, file, client.call("status")["block_interval_ms"])
        found = quote_task(client, task)
        if not as_json:
            task_view.show_quote(found, task)
        check_quote(found)
        if not confirm(f"Hold {format_amount(task.spec.max_price_nano)} and submit?", yes):
            raise typer.Abort
        with byte_bar("Uploading", as_json) as progress:
            outcome = submit_task(client, key_of(home, key, passphrase_file), task, progress)
    value = {"task_id": outcome.transaction_id.hex(), "height": outcome.height, "fee_nano": outcome.fee_nano}

    def show() -> None:
        say(f"Submitted in block {outcome.height}: {value['task_id']}")
        say(f"Follow it: gensyn task watch {value['task_id']}")

    emit(as_json, value, show)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many, newest first.")] = 50,
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest tasks."""
    with client_of(home, node, None) as client:
        value = client.call("tasks", limit=limit)
    rows = [
        (short(one["task_id"]), one["record"]["name"], one["state"], f"{one['step']}/{one['record']['steps']}")
        for one in value
    ]
    emit(as_json, value, lambda: table("Tasks", ("Task", "Name", "State", "Step #"), rows, "No tasks."))


@app.command()
def show(task_id: TaskArgument, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """One task: state, money, what its verification promises, and why it waits when it waits."""
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.promises import promise_of

    with client_of(home, node, None) as client:
        value = client.call("task", task_id=task_id)
        promise = promise_of(value, client.parameters())
        value["guarantee"] = to_json(promise)
        value["why"] = client.call("why", task_id=task_id)
        value["disputes"] = client.call("disputes", task_id=task_id)
    emit(as_json, value, lambda: task_view.show_task(value, promise))


@app.command()
def watch(task_id: TaskArgument, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Follow a task live: loss curve, who works, verification, disputes. Ends with the task."""
    from gensyn_node.sdk.blobs import parse_id

    with client_of(home, node, None) as client:
        value = task_view.watch_task(client, parse_id(task_id), quiet=as_json)
    emit(as_json, value, lambda: task_view.show_task(value))


@app.command()
def cancel(
    task_id: TaskArgument,
    key: KeyOption = "account",
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    passphrase_file: PassphraseOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop a task. What was committed is still verified and paid; the rest comes back."""
    from gensyn_node.sdk.blobs import parse_id
    from gensyn_node.sdk.task_flow import cancel_task

    identifier = parse_id(task_id)
    if not confirm(f"Cancel the task {short(task_id)}?", yes):
        raise typer.Abort
    with client_of(home, node, token_file) as client:
        outcome = cancel_task(client, key_of(home, key, passphrase_file), identifier)
    value = {"task_id": task_id, "height": outcome.height}
    emit(as_json, value, lambda: say(f"Cancelled in block {outcome.height}."))


@app.command()
def download(
    task_id: TaskArgument,
    folder: Annotated[Path, typer.Option("--to", help="Where to put the files.")] = Path("."),
    merge: Annotated[
        bool, typer.Option("--merge", help="Also write merged.safetensors: the weights alone, adapters added in.")
    ] = False,
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch model.safetensors and model.cert, and check one against the other."""
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.blobs import parse_id
    from gensyn_node.sdk.task_flow import download_verified

    with client_of(home, node, token_file) as client, byte_bar("Downloading", as_json) as progress:
        found, verified = download_verified(client, parse_id(task_id), folder, home_of(home), progress)
    whole = folder / "merged.safetensors" if merge else None
    if whole is not None:
        from ml.presets.lora import write_merged

        write_merged(found.model, whole)
    value = {"model": str(found.model), "certificate": str(found.certificate), "bytes": found.bytes}
    value |= {"merged": str(whole)} if whole is not None else {}

    def show_files() -> None:
        facts([("Model", found.model), ("Certificate", f"{found.certificate}, valid"), ("Bytes", found.bytes)])
        if whole is not None:
            facts([("Merged", f"{whole}; the certificate is for the model, not for this file")])
        say(f"Check it anywhere: gensyn verify {found.certificate} --model {found.model}")

    emit(as_json, {**value, "verified": to_json(verified)}, show_files)


@app.command()
def evaluate(
    file: FileArgument = Path("task.toml"),
    model: Annotated[Path, typer.Option("--model", help="The downloaded model.")] = Path("model.safetensors"),
    data: Annotated[
        Path | None, typer.Option("--data", help="Arrays (.npz) of records; the task's held-out ones when left out.")
    ] = None,
    merge: Annotated[
        Path | None, typer.Option("--merge", help="Also write the weights alone, adapters added in, to this file.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """How good a model is, on held-out records, by plain PyTorch on this machine."""
    from gensyn_node.rpc.json_view import to_json
    from gensyn_node.sdk.datasets import read_arrays
    from gensyn_node.sdk.evaluate import evaluate_model
    from gensyn_node.sdk.task_file import read_task_file

    held_out = None if data is None else read_arrays(data)
    found = evaluate_model(home_of(home), read_task_file(file), file.absolute().parent, model, held_out)
    if merge is not None:
        from ml.presets.lora import write_merged

        write_merged(model, merge)

    def show_it() -> None:
        accuracy = "none: the outputs are no scores of classes" if found.accuracy is None else f"{found.accuracy:.4f}"
        facts([("Records", found.records), ("Loss", f"{found.loss:.6g}"), ("Accuracy", accuracy)])

    emit(as_json, to_json(found), show_it)


@app.command()
def wait(
    task_id: TaskArgument,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0, help="Seconds; for ever when left out.")
    ] = None,
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait for the end. Exit code 0: finished; 4: ended otherwise; 6: still running."""
    from gensyn_node.sdk.blobs import parse_id
    from gensyn_node.sdk.task_flow import wait_task

    with client_of(home, node, None) as client:
        value: dict[str, Any] = wait_task(client, parse_id(task_id), timeout_s)
    emit(as_json, value, lambda: say(f"Finished: {value['step']} steps."))


def _build(home: Path | None, file: Path, block_interval_ms: int) -> BuiltTask:
    from gensyn_node.sdk.task_build import build_task
    from gensyn_node.sdk.task_file import read_task_file

    return build_task(home_of(home), read_task_file(file), file.absolute().parent, block_interval_ms)
