"""Hashes. SHA-256 for everything of the chain, BLAKE3 for tensors and blobs; each use has its own domain."""

from __future__ import annotations

import hashlib

from blake3 import blake3

HASH_BYTES = 32


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def tagged_hash(domain: str, *parts: bytes) -> bytes:
    """SHA-256 of a domain and length-prefixed parts: no two different inputs have the same preimage."""
    hasher = hashlib.sha256()
    for part in (domain.encode("ascii"), *parts):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def blake3_256(data: bytes | memoryview) -> bytes:
    """BLAKE3, 32 bytes, one thread."""
    return blake3(data).digest()
