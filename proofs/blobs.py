"""Blob identity: a Merkle root over the BLAKE3 hashes of 1 MiB chunks, bound to the length.

Whoever knows a blob's id can check its list of chunk hashes, and then each chunk by itself as it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import BLOB_BYTES_MAX, BLOB_CHUNK_BYTES
from proofs import merkle
from proofs.reasons import BAD_CHUNK

_CHUNK_KEY = blake3(b"gensyn/chunk/1").digest()
_NODE_KEY = blake3(b"gensyn/chunk-node/1").digest()
_BLOB_KEY = blake3(b"gensyn/blob/1").digest()


def chunk_hash(chunk: bytes | memoryview) -> bytes:
    """The 32-byte hash of one chunk."""
    digest: bytes = blake3(chunk, key=_CHUNK_KEY).digest()
    return digest


def _node(left: bytes, right: bytes) -> bytes:
    digest: bytes = blake3(left + right, key=_NODE_KEY).digest()
    return digest


CHUNKS = merkle.Scheme(chunk_hash, _node, blake3(b"", key=_NODE_KEY).digest())
"""The tree over a blob's chunks."""


def chunk_count(length: int) -> int:
    """Number of chunks of a blob of `length` bytes; an empty blob has none."""
    return -(-length // BLOB_CHUNK_BYTES)


def chunk_length(length: int, index: int) -> int:
    """Bytes of chunk `index` of a blob of `length` bytes."""
    return min(BLOB_CHUNK_BYTES, length - index * BLOB_CHUNK_BYTES)


def blob_id(chunk_hashes: Sequence[bytes], length: int) -> bytes:
    """The 32-byte id of a blob. `Rejection` BAD_CHUNK when the number of hashes does not fit the length."""
    if not 0 <= length <= BLOB_BYTES_MAX or len(chunk_hashes) != chunk_count(length):
        raise Rejection(BAD_CHUNK, f"{len(chunk_hashes)} chunk hashes do not fit a blob of {length} bytes")
    return _bind(length, merkle.fold(CHUNKS, chunk_hashes))


def _bind(length: int, tree_root: bytes) -> bytes:
    digest: bytes = blake3(length.to_bytes(8, "little") + tree_root, key=_BLOB_KEY).digest()
    return digest


def hash_chunks(data: bytes | memoryview) -> list[bytes]:
    """The chunk hashes of a whole blob in memory."""
    view = memoryview(data)
    return [chunk_hash(view[start : start + BLOB_CHUNK_BYTES]) for start in range(0, len(view), BLOB_CHUNK_BYTES)]


def blob_id_of(data: bytes | memoryview) -> bytes:
    """The id of a whole blob in memory."""
    return blob_id(hash_chunks(data), len(data))


def check_chunk(chunk_hashes: Sequence[bytes], length: int, index: int, chunk: bytes) -> None:
    """Check one chunk against hashes already checked by `blob_id`. `Rejection` BAD_CHUNK when it is another."""
    if not 0 <= index < len(chunk_hashes) or len(chunk) != chunk_length(length, index):
        raise Rejection(BAD_CHUNK, f"chunk {index} of {len(chunk)} bytes does not fit a blob of {length} bytes")
    if chunk_hash(chunk) != chunk_hashes[index]:
        raise Rejection(BAD_CHUNK, f"chunk {index} has another hash")


def verify_chunk(id_: bytes, length: int, index: int, chunk: bytes, path: Sequence[bytes]) -> None:
    """Check one chunk by its Merkle path, without the list of hashes. `Rejection` BAD_CHUNK when it is another."""
    tree_root = merkle.root_from_path(CHUNKS, chunk_hash(chunk), index, chunk_count(length), path)
    fits = length <= BLOB_BYTES_MAX and len(chunk) == chunk_length(length, index)
    if tree_root is None or not fits or _bind(length, tree_root) != id_:
        raise Rejection(BAD_CHUNK, f"the path of chunk {index} does not lead to the blob's id")
