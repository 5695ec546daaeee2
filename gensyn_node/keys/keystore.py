"""One key in one file: a header and a secretbox of the seed under an argon2id key.

The key of the box is derived from the passphrase, the salt *and the header's own bytes*: a header that was changed
opens nothing, so its parameters are authenticated. They are bounded before any memory is taken, so that a file from
a stranger cannot ask for 64 GiB. A plain file (devnets only) has a checksum instead of a lock.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal

import nacl.exceptions
import nacl.pwhash.argon2id
import nacl.secret

from gensyn_node.keys import reasons
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.crypto import SEED_BYTES, SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash

MAGIC = b"gensyn key 1\n"
FILE_BYTES_MAX = 4096
OPERATIONS_MAX = 16
MEMORY_BYTES_MIN = 8 << 20
MEMORY_BYTES_MAX = 1 << 30
SALT_BYTES = 16


class Cost(Struct, frozen=True):
    """Argon2id parameters: passes over memory, and bytes of it."""

    operations: int
    memory_bytes: int


MODERATE = Cost(3, 256 << 20)
"""libsodium's MODERATE: about half a second on a small machine."""
LIGHT = Cost(1, MEMORY_BYTES_MIN)
"""The least that is accepted; for tests."""


class LockedKey(Struct, frozen=True, tag=1):
    """An encrypted seed. `public` is kept readable so that a wallet can be listed without its passphrase."""

    public: bytes
    cost: Cost
    salt: bytes
    box: bytes
    checksum: bytes


class PlainKey(Struct, frozen=True, tag=2):
    """An unencrypted seed, for devnets: only on explicit request."""

    public: bytes
    seed: bytes
    checksum: bytes


KeyFile = LockedKey | PlainKey


def lock(key: SecretKey, passphrase: str, cost: Cost = MODERATE) -> LockedKey:
    """Encrypt `key` under `passphrase`."""
    salt = secrets.token_bytes(SALT_BYTES)
    box = nacl.secret.SecretBox(_box_key(key.public, cost, salt, passphrase)).encrypt(key.seed)
    return LockedKey(
        key.public, cost, salt, bytes(box), _checksum("locked", key.public, encode(cost), salt, bytes(box))
    )


def plain(key: SecretKey) -> PlainKey:
    """`key` without protection."""
    return PlainKey(key.public, key.seed, _checksum("plain", key.public, key.seed))


def unlock(stored: KeyFile, passphrase: str) -> SecretKey:
    """The key; WRONG_PASSPHRASE when it does not open, BAD_KEY_FILE when it opens to something else."""
    if isinstance(stored, PlainKey):
        seed = stored.seed
    else:
        box_key = _box_key(stored.public, stored.cost, stored.salt, passphrase)
        try:
            seed = nacl.secret.SecretBox(box_key).decrypt(stored.box)
        except (nacl.exceptions.CryptoError, ValueError):
            raise Rejection(reasons.WRONG_PASSPHRASE, "the key does not open with this passphrase") from None
    if len(seed) != SEED_BYTES or (key := SecretKey(seed)).public != stored.public:
        raise Rejection(reasons.BAD_KEY_FILE, "the seed does not belong to the public key in the file")
    return key


def pack(stored: KeyFile) -> bytes:
    """The bytes of a key file."""
    return MAGIC + encode(stored)


def unpack(data: bytes) -> KeyFile:
    """The key file in `data`; BAD_KEY_FILE for anything damaged, with parameters out of bounds, or foreign."""
    if len(data) > FILE_BYTES_MAX or not data.startswith(MAGIC):
        raise Rejection(reasons.BAD_KEY_FILE, "it does not begin like a gensyn key file")
    try:
        stored: KeyFile = decode(KeyFile, data[len(MAGIC) :], max_bytes=FILE_BYTES_MAX)
    except Rejection as error:
        raise Rejection(reasons.BAD_KEY_FILE, error.message) from None
    if isinstance(stored, PlainKey):
        expected = _checksum("plain", stored.public, stored.seed)
    else:
        expected = _checksum("locked", stored.public, encode(stored.cost), stored.salt, stored.box)
        _check_cost(stored)
    if stored.checksum != expected:
        raise Rejection(reasons.BAD_KEY_FILE, "its checksum does not match: the file is damaged")
    return stored


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write `data` with mode 0600 so that after a crash there is the old file, the new one, or none: never a part."""
    if not replace and path.exists():
        raise Rejection(reasons.KEY_EXISTS, f"{path} exists")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_cost(stored: LockedKey) -> None:
    cost = stored.cost
    if not 1 <= cost.operations <= OPERATIONS_MAX or not MEMORY_BYTES_MIN <= cost.memory_bytes <= MEMORY_BYTES_MAX:
        raise Rejection(
            reasons.BAD_KEY_FILE,
            f"argon2id with {cost.operations} passes over {cost.memory_bytes} bytes is out of bounds",
        )
    if len(stored.salt) != SALT_BYTES:
        raise Rejection(reasons.BAD_KEY_FILE, f"a salt has {SALT_BYTES} bytes")


def _box_key(public: bytes, cost: Cost, salt: bytes, passphrase: str) -> bytes:
    """The box's key: argon2id of the passphrase, then bound to the header."""
    stretched = nacl.pwhash.argon2id.kdf(
        32, passphrase.encode("utf-8"), salt, opslimit=cost.operations, memlimit=cost.memory_bytes
    )
    return tagged_hash("gensyn/keystore/1", stretched, public, encode(cost), salt)


def _checksum(kind: Literal["locked", "plain"], *parts: bytes) -> bytes:
    """Tells damage from a wrong passphrase; guards nothing against an attacker."""
    return tagged_hash(f"gensyn/keystore/1/{kind}", *parts)[:8]
