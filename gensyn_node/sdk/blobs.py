"""Blobs between this machine and a node, chunk by chunk, each checked."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from gensyn_node.sdk import reasons
from gensyn_node.sdk.client import NodeClient, Progress
from proofs import blobs

FETCH_TIMEOUT_S = 600.0


def blob_id_of_file(path: Path) -> tuple[bytes, int]:
    """Id and length of a file's content, read once."""
    length = path.stat().st_size
    return blobs.blob_id([blobs.chunk_hash(chunk) for chunk in _chunks(path)], length), length


def parse_id(text: str) -> bytes:
    """The id of a blob, task or dispute that 64 hexadecimal digits stand for; BAD_IDENTIFIER otherwise."""
    try:
        identifier = bytes.fromhex(text)
    except ValueError:
        identifier = b""
    if len(identifier) != HASH_BYTES:
        raise Rejection(reasons.BAD_IDENTIFIER, f"{text[:80]!r} is not 64 hexadecimal digits")
    return identifier


def upload(client: NodeClient, path: Path, progress: Progress | None = None) -> bytes:
    """Give a file to the node, which serves it to the network; its blob id. What is there already is not sent again."""
    blob_id, length = blob_id_of_file(path)
    if length == 0:
        raise Rejection(reasons.UPLOAD_FAILED, f"{path} is empty")
    known = client.call("blob_info", blob_id=blob_id.hex())
    if known and known["complete"]:
        _tell(progress, length, length)
        return blob_id
    first = known["received"] if known else 0
    done = min(first * BLOB_CHUNK_BYTES, length)
    for number, chunk in enumerate(_chunks(path)):
        if number >= first:
            known = client.put_chunk(blob_id, length, number, chunk)
            done += len(chunk)
            _tell(progress, done, length)
    if not known or not known["complete"]:
        raise Rejection(reasons.UPLOAD_FAILED, f"the node has only a part of {path}")
    return blob_id


def download(client: NodeClient, blob_id: bytes, target: Path, progress: Progress | None = None) -> int:
    """Get a blob into `target`, written whole or not at all; its length."""
    info = client.call("blob_fetch", blob_id=blob_id.hex(), timeout_s=FETCH_TIMEOUT_S)
    length, done, hashes = int(info["length"]), 0, []
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            for number in range(blobs.chunk_count(length)):
                chunk = client.get_chunk(blob_id, number)
                hashes.append(blobs.chunk_hash(chunk))
                file.write(chunk)
                done += len(chunk)
                _tell(progress, done, length)
        if done != length or blobs.blob_id(hashes, length) != blob_id:
            raise Rejection(reasons.NODE_ERROR, f"what the node sent is not the blob {blob_id.hex()}")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return length


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(BLOB_CHUNK_BYTES):
            yield chunk


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
