"""The layout of a home: one folder that holds everything of a node or a client, never the working directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.config import reasons
from gensyn_node.primitives.errors import Rejection

HOME_VARIABLE = "GENSYN_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """The paths inside one home."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def genesis(self) -> Path:
        return self.path / "genesis.bin"

    @property
    def keys(self) -> Path:
        """Keystore files: account, consensus and p2p keys."""
        return self.path / "keys"

    @property
    def data(self) -> Path:
        """LevelDB and the write-ahead log."""
        return self.path / "data"

    @property
    def signer(self) -> Path:
        """The double-sign guard's folder, apart from the database."""
        return self.path / "signer"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def work(self) -> Path:
        """Checkpoints of the worker."""
        return self.path / "work"

    @property
    def kernels(self) -> Path:
        """Compiled kernels, out of the worker's reach."""
        return self.path / "kernels"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def token(self) -> Path:
        """The RPC token, mode 0600."""
        return self.path / "rpc.token"

    @property
    def endpoint(self) -> Path:
        """Address of the running node's RPC server (`http://127.0.0.1:26601`), written at start."""
        return self.path / "rpc.address"

    @property
    def lock(self) -> Path:
        return self.path / "node.lock"

    def make(self) -> None:
        """Create the folders, readable by the owner only."""
        for folder in (self.path, self.keys, self.data, self.signer, self.blobs, self.work, self.log):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def find_home(given: Path | None = None) -> Home:
    """`given`, else `GENSYN_HOME`, else `~/.gensyn`; always absolute."""
    path = given or Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".gensyn")
    return Home(path.expanduser().absolute())


@contextmanager
def lock_home(home: Home) -> Iterator[None]:
    """Hold the home for this process; a second process is refused with HOME_IN_USE."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Rejection(reasons.HOME_IN_USE, f"{home.path} is in use by another process") from None
        yield
    finally:
        os.close(descriptor)
