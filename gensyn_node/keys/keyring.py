"""Named keys in one folder: `<name>.key` each."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.keys import keystore, reasons
from gensyn_node.primitives.crypto import SecretKey, address_of
from gensyn_node.primitives.errors import Rejection

ACCOUNT = "account"
"""A node's own account: validator stake, provider bonds and earnings."""
CONSENSUS = "consensus"
"""What a validator signs votes with."""
P2P = "p2p"
"""The network identity."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class ListedKey:
    """What is known of a stored key without opening it."""

    name: str
    public: bytes
    address: bytes
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a folder."""

    folder: Path

    def path(self, name: str) -> Path:
        """File of the key `name`; BAD_KEY_NAME for anything that could leave the folder."""
        if not _NAME.match(name):
            raise Rejection(reasons.BAD_KEY_NAME, f"{name[:60]!r} cannot name a key")
        return self.folder / f"{name}.key"

    def add(self, name: str, key: SecretKey, passphrase: str | None, cost: keystore.Cost = keystore.MODERATE) -> None:
        """Store `key`; unencrypted when the passphrase is None (devnets). KEY_EXISTS rather than replace one."""
        path = self.path(name)
        if path.exists():
            raise Rejection(reasons.KEY_EXISTS, f"there is a key {name!r} in {self.folder}")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored = keystore.plain(key) if passphrase is None else keystore.lock(key, passphrase, cost)
        keystore.write_private(path, keystore.pack(stored))

    def stored(self, name: str) -> keystore.KeyFile:
        """The file of the key, still locked."""
        path = self.path(name)
        try:
            with path.open("rb") as file:
                data = file.read(keystore.FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise Rejection(reasons.NO_SUCH_KEY, f"there is no key {name!r} in {self.folder}") from None
        try:
            return keystore.unpack(data)
        except Rejection as error:
            raise Rejection(error.reason, f"{path}: {error.message}") from None

    def is_encrypted(self, name: str) -> bool:
        """Whether opening `name` needs a passphrase."""
        return isinstance(self.stored(name), keystore.LockedKey)

    def open(self, name: str, passphrase: str = "") -> SecretKey:
        """The key `name`; `passphrase` is not looked at for a plain file."""
        return keystore.unlock(self.stored(name), passphrase)

    def list(self) -> tuple[ListedKey, ...]:
        """All keys, by name."""
        names = sorted(path.stem for path in self.folder.glob("*.key") if _NAME.match(path.stem))
        return tuple(self._listed(name) for name in names)

    def _listed(self, name: str) -> ListedKey:
        stored = self.stored(name)
        return ListedKey(name, stored.public, address_of(stored.public), isinstance(stored, keystore.LockedKey))


def new_key() -> SecretKey:
    """A fresh key from the system's randomness."""
    return SecretKey(secrets.token_bytes(32))
