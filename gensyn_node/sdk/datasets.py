"""A person's data as a data set that the network can serve, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from numpy.typing import NDArray

from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import blobs, reasons
from gensyn_node.sdk.client import NodeClient, Progress

if TYPE_CHECKING:
    from ml.data.manifest import Manifest
    from ml.data.sources import DataOptions

FOLDER = "datasets"


@dataclass(frozen=True, slots=True)
class MadeDataset:
    """A data set in the home, and the part that was held out of it."""

    folder: Path
    manifest: Manifest
    held_out: Path | None
    """The held-out records as a data set of their own; None when there are none."""


def make_dataset(
    home: Home, file: Path, options: DataOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> MadeDataset:
    """Turn a file, or a folder of images, into a data set in the home. Raises Rejection BAD_DATA_FILE, BAD_DATASET.

    `progress` is called with (records done, records in all).
    """
    from ml.data.sources import open_source

    if not file.exists():
        raise Rejection(reasons.BAD_DATA_FILE, f"there is no file {file}")
    source = open_source(file, options)
    datasets = home.path / FOLDER
    datasets.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".new-", dir=datasets) as temporary:
        train, held_out = Path(temporary, "train"), Path(temporary, "held-out")
        manifest = source.write(train, held_out, progress)
        folder = _keep(datasets, train)
        kept = _keep(datasets, held_out) if source.validation is not None else None
    return MadeDataset(folder, manifest, kept)


def _keep(datasets: Path, made: Path) -> Path:
    """Move a new data set to its name, which is its root; what is there already stays."""
    from ml.data.manifest import manifest_path, read_manifest

    folder = datasets / read_manifest(manifest_path(made).read_bytes()).root.hex()
    if not manifest_path(folder).is_file():
        if folder.exists():
            _remove(folder)
        made.replace(folder)
    return folder


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz by name; BAD_DATA_FILE when it is none."""
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise Rejection(reasons.BAD_DATA_FILE, f"{file} is no .npz file: {error}") from None


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


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
