"""`node init` ended at any point: the next one makes a whole home, and never clears away what is in use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gensyn_node.app.new_home import MARKER_FILE, make_home
from gensyn_node.app.settings import load_settings
from gensyn_node.app.startup import open_home
from gensyn_node.config import reasons
from gensyn_node.config.home import Home, lock_home
from gensyn_node.config.node_config import NodeConfig
from gensyn_node.config.template import render_config
from gensyn_node.devnet.genesis import derive_keys, make_genesis
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.keys.reasons import KEY_EXISTS
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.reasons import STORE_EXISTS

GENESIS = make_genesis(derive_keys(bytes(32), 1), "devnet-home", 1_700_000_000_000)
CONFIGURATION = render_config(NodeConfig())


def init(home: Home, salt: int) -> dict[str, SecretKey]:
    """What `gensyn node init` does, with keys of its own each time."""
    make_home(home, GENESIS, keys_of(salt), None, CONFIGURATION)
    return keys_of(salt)


def keys_of(salt: int) -> dict[str, SecretKey]:
    return {name: SecretKey(bytes((salt, number)) * 16) for number, name in enumerate((ACCOUNT, CONSENSUS, P2P))}


def check(home: Home, keys: dict[str, SecretKey]) -> None:
    """The home has these keys, and a node can start in it."""
    settings = load_settings(home)
    assert settings.genesis == GENESIS
    assert [Keyring(home.keys).open(name).seed for name in keys] == [key.seed for key in keys.values()]
    opened = open_home(settings)
    assert opened.chain.head.height == 0
    assert opened.signer is not None and opened.signer.public_key == keys[CONSENSUS].public
    opened.chain.close()
    opened.wal.close()


def init_until(home: Home, point: int) -> bool:
    """Whether an `init` in a process of its own is done before it ends at its system call number `point`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    left = point

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os._exit(9)
            return real(*arguments, **named)

        return call

    for name in "fsync", "replace", "mkdir", "unlink":
        setattr(os, name, counted(getattr(os, name)))
    try:
        init(home, 1)
        os._exit(0)
    finally:
        os._exit(1)


def test_killed_at_any_step_the_next_one_makes_a_whole_home(tmp_path: Path) -> None:
    homes = [Home(tmp_path / "1")]
    while not init_until(homes[-1], len(homes)):
        homes.append(Home(tmp_path / str(len(homes) + 1)))
    assert len(homes) > 20, "it was ended at each of its steps"
    for home in homes:
        if home.config.exists():  # ended after the last step that counts: the home is whole already
            with pytest.raises(Rejection) as caught:
                init(home, 2)
            assert caught.value.reason is reasons.HOME_EXISTS
            check(home, keys_of(1))
        else:
            check(home, init(home, 2))
    assert sum(load_settings(home).account_key.seed == keys_of(1)[ACCOUNT].seed for home in homes) < 8


def test_what_is_in_use_is_never_cleared_away(tmp_path: Path) -> None:
    whole = Home(tmp_path / "whole")
    keys = init(whole, 1)
    (whole.path / MARKER_FILE).write_bytes(b"left by a kill after the last step")
    with_key = Home(tmp_path / "client")
    Keyring(with_key.keys).add(ACCOUNT, SecretKey(bytes(32)), None)
    signed = Home(tmp_path / "signed")
    init(signed, 1)
    signed.config.unlink()  # a home that lost its configuration has a sign state that must not be lost
    for path in signed.keys.iterdir():
        path.unlink()
    for home, reason in (whole, reasons.HOME_EXISTS), (with_key, KEY_EXISTS), (signed, STORE_EXISTS):
        with pytest.raises(Rejection) as caught:
            init(home, 2)
        assert caught.value.reason is reason
    check(whole, keys)
    assert Keyring(with_key.keys).open(ACCOUNT).seed == bytes(32)


def test_two_at_once_make_one_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    with lock_home(home), pytest.raises(Rejection) as caught:
        init(home, 1)
    assert caught.value.reason is reasons.HOME_IN_USE
    check(home, init(home, 2))
