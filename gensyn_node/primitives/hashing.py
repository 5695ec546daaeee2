"""Hashes. SHA-256 for everything of the chain, BLAKE3 for tensors and blobs; each use has its own domain."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from blake3 import blake3

HASH_BYTES = 32


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def tagged_hash(domain: str, *parts: bytes) -> bytes:
    """SHA-256 of a domain and length-prefixed parts: no two different inputs have the same preimage."""
    hasher = _begun(domain).copy()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


@lru_cache(maxsize=256)
def _begun(domain: str) -> hashlib._Hash:
    """The hash after the domain; domains are constants of the program."""
    encoded = domain.encode("ascii")
    return hashlib.sha256(len(encoded).to_bytes(8, "little") + encoded)


def blake3_256(data: bytes | memoryview) -> bytes:
    """BLAKE3, 32 bytes, one thread."""
    return blake3(data).digest()
