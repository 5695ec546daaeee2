"""`gensyn data …`: files as data sets that tasks can name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import HomeOption, JsonOption, NodeOption, TokenOption, client_of, home_of
from cli.output import emit, facts, short, table
from cli.progress import byte_bar, count_bar

if TYPE_CHECKING:
    from ml.data.manifest import Manifest

app = typer.Typer(help="Data sets, named by their content.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(help="A .npz, .safetensors, .csv, .parquet or text file, or a folder of images by class.")
    ],
    label: Annotated[str, typer.Option("--label", help="Tables: the column of classes.")] = "",
    target: Annotated[
        list[str] | None, typer.Option("--target", help="Tables: a column of numbers to predict.")
    ] = None,
    context: Annotated[int, typer.Option("--context", help="Text: tokens of a record (64 if left out).", min=0)] = 0,
    tokens: Annotated[str, typer.Option("--tokens", help="Text: characters or bytes.")] = "characters",
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="Text: a tokenizer.json to use.")] = None,
    size: Annotated[int, typer.Option("--size", help="Images: pixels a side.", min=0)] = 0,
    gray: Annotated[bool, typer.Option("--gray", help="Images: one channel.")] = False,
    validation: Annotated[float, typer.Option("--validation", help="Share of the records to hold out.")] = 0.0,
    offline: Annotated[bool, typer.Option("--offline", help="Keep it in the home, do not upload.")] = False,
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set of a file and give it to the node, which serves it to the network."""
    from gensyn_node.sdk.datasets import make_dataset, upload_dataset
    from ml.data.sources import DataOptions

    options = DataOptions(validation, label, tuple(target or ()), context, tokens, tokenizer, size, gray)
    with count_bar("Reading", as_json) as records:
        made = make_dataset(home_of(home), file, options, records)
    value = _described(made.folder, made.manifest)
    if made.held_out is not None:
        value["held_out"] = str(made.held_out)
    if not offline:
        with client_of(home, node, token_file) as client, byte_bar("Uploading", as_json) as progress:
            value["manifest_blob"] = upload_dataset(client, made.folder, made.manifest, progress).hex()
    emit(as_json, value, lambda: facts(value.items()))


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The data sets of the home."""
    from gensyn_node.sdk.datasets import list_datasets

    value = [_described(folder, manifest) for folder, manifest in list_datasets(home_of(home))]
    rows = [(short(one["root"]), one["records"], one["tensors"], one["bytes"]) for one in value]
    columns = ("Root", "Records #", "Tensors", "Bytes #")
    emit(as_json, value, lambda: table("Data sets", columns, rows, "None yet: gensyn data add FILE"))


@app.command()
def get(
    manifest_blob: Annotated[str, typer.Argument(help="Blob id of the data set's manifest.")],
    folder: Annotated[Path, typer.Argument(help="Where to put it.")],
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a data set; every byte is checked."""
    from gensyn_node.sdk.blobs import parse_id
    from gensyn_node.sdk.datasets import download_dataset

    identifier = parse_id(manifest_blob)
    with client_of(home, node, token_file) as client, byte_bar("Downloading", as_json) as progress:
        value = _described(folder, download_dataset(client, identifier, folder, progress))
    emit(as_json, value, lambda: facts(value.items()))


def _described(folder: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "root": manifest.root.hex(),
        "folder": str(folder),
        "records": manifest.records,
        "tensors": ", ".join(f"{one.name} {one.record.dtype}{list(one.record.shape)}" for one in manifest.dataset),
        "bytes": sum(shard.size for shard in manifest.blobs),
    }
