"""A person's data as a data set that the network can serve, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import blobs, reasons
from gensyn_node.sdk.client import NodeClient, Progress

if TYPE_CHECKING:
    from ml.data.manifest import Manifest

FOLDER = "datasets"


def make_dataset(home: Home, file: Path, *, context: int | None = None, label: str = "") -> tuple[Path, Manifest]:
    """Turn a file into a data set in the home; its folder and manifest.

    .npz and .safetensors: arrays as they are. .csv: `label` names the column of classes. Anything else is text, in
    records of `context` + 1 characters.
    """
    from ml.data import sources

    if not file.is_file():
        raise Rejection(reasons.BAD_DATA_FILE, f"there is no file {file}")
    match file.suffix.lower():
        case ".npz":
            source = sources.from_npz(file)
        case ".safetensors":
            source = sources.from_arrays(_read_safetensors(file))
        case ".csv":
            source = sources.from_csv(file, label)
        case _:
            source = sources.from_text(file, context or 64)
    temporary = home.path / FOLDER / f".{file.name}.new"
    manifest = source.write(temporary)
    folder = home.path / FOLDER / manifest.root.hex()
    if folder.exists():
        _remove(temporary)
    else:
        temporary.replace(folder)
    return folder, manifest


def list_datasets(home: Home) -> list[tuple[Path, Manifest]]:
    """The data sets of a home, by root."""
    from ml.data.manifest import manifest_path, read_manifest

    folders = sorted(path for path in (home.path / FOLDER).glob("*") if manifest_path(path).is_file())
    return [(folder, read_manifest(manifest_path(folder).read_bytes())) for folder in folders]


def upload_dataset(client: NodeClient, folder: Path, manifest: Manifest, progress: Progress | None = None) -> bytes:
    """Give shards and manifest to the node; the manifest's blob id. What is there already is not sent again."""
    from ml.data.manifest import manifest_path, shard_path

    total, done = sum(shard.size for shard in manifest.blobs), 0
    for shard in manifest.blobs:

        def shard_progress(sent: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + sent, total)

        blobs.upload(client, shard_path(folder, shard.blob_id), shard_progress)
        done += shard.size
    return blobs.upload(client, manifest_path(folder))


def download_dataset(
    client: NodeClient, manifest_blob: bytes, folder: Path, progress: Progress | None = None
) -> Manifest:
    """Get a data set by the blob id of its manifest; every byte is checked against the roots in it."""
    from ml.data.dataset import open_dataset
    from ml.data.manifest import manifest_path, read_manifest, shard_path

    folder.mkdir(parents=True, exist_ok=True)
    blobs.download(client, manifest_blob, manifest_path(folder))
    manifest = read_manifest(manifest_path(folder).read_bytes())
    total, done = sum(shard.size for shard in manifest.blobs), 0
    for shard in manifest.blobs:
        done += blobs.download(client, shard.blob_id, shard_path(folder, shard.blob_id))
        if progress is not None:
            progress(done, total)
    open_dataset(folder)
    return manifest


def _read_safetensors(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(file))
    except (OSError, SafetensorError, ValueError) as error:
        raise Rejection(reasons.BAD_DATA_FILE, f"{file} is no safetensors file: {error}") from None


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
