"""A node's home is made whole or not at all: what a killed `init` left is cleared away by the next one.

A marker says that a home is being made. It is written only where nothing is that the making would write, so whatever is
found beside it later was made by whoever was killed, and was never used: `config.toml`, without which nothing starts,
is written last.
"""

from __future__ import annotations

import shutil

from consensus.ledger.records import Genesis
from gensyn_node.app.settings import CHAIN_FOLDER, SIGN_STATE_FILE
from gensyn_node.app.startup import init_storage
from gensyn_node.config import reasons
from gensyn_node.config.home import Home, lock_home
from gensyn_node.keys.keyring import CONSENSUS, Keyring
from gensyn_node.keys.reasons import KEY_EXISTS
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.files import replace_file, sync_directory
from gensyn_node.storage.reasons import STORE_EXISTS

MARKER_FILE = "init.unfinished"


def make_home(
    home: Home, genesis: Genesis, keys: dict[str, SecretKey], passphrase: str | None, configuration: str
) -> None:
    """Write keys, genesis, an empty chain, the sign state and `configuration`; plain keys without a passphrase.

    `Rejection`: HOME_EXISTS, KEY_EXISTS or STORE_EXISTS for a home in use, HOME_IN_USE while another process makes it.
    """
    home.make()
    with lock_home(home):
        if home.config.exists():
            raise Rejection(reasons.HOME_EXISTS, f"{home.path} has a node")
        ring, marker = Keyring(home.keys), home.path / MARKER_FILE
        files = [*(ring.path(name) for name in keys), home.genesis, home.signer / SIGN_STATE_FILE]
        chain = home.data / CHAIN_FOLDER
        if marker.exists():
            for path in files:
                path.unlink(missing_ok=True)
            if chain.exists():
                shutil.rmtree(chain)
            for folder in (home.keys, home.signer, home.data, home.path):
                sync_directory(folder)
        for name in keys:
            if ring.path(name).exists():
                raise Rejection(KEY_EXISTS, f"there is a key {name!r} in {home.keys}")
        if chain.exists() or (home.signer / SIGN_STATE_FILE).exists():
            raise Rejection(STORE_EXISTS, f"{home.path} is initialised already")
        replace_file(marker, b"A node's home is being made here. The next `gensyn node init` begins anew.\n")
        for name, key in keys.items():
            ring.add(name, key, passphrase)
        init_storage(home, genesis, keys[CONSENSUS])
        replace_file(home.config, configuration.encode())
        marker.unlink()
        sync_directory(home.path)
