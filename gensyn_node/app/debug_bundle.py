"""One archive with what somebody needs who helps: never a key, a token, a passphrase or recovery words.

Nothing is copied as it is: the configuration is rendered anew from its known keys (comments do not travel), logs are
cleaned line by line, of the sign state only the place travels, of the database only headers.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from consensus.ledger.genesis import genesis_hash
from gensyn_node.app.chain import Chain
from gensyn_node.app.redaction import Redactor
from gensyn_node.app.room import free_bytes, used_bytes
from gensyn_node.app.settings import CHAIN_FOLDER, LOG_FOLDER, SIGN_STATE_FILE
from gensyn_node.config.genesis import read_genesis
from gensyn_node.config.home import Home, lock_home
from gensyn_node.config.node_config import read_config
from gensyn_node.config.template import render_config
from gensyn_node.keys.keystore import LockedKey, unlock, unpack
from gensyn_node.keys.recovery import words_of
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage.files import replace_file
from gensyn_node.storage.signer import read_state
from gensyn_node.storage.wal import log_heights

LOG_TAIL_BYTES = 512 << 10
HEADERS = 20
FILES_MAX = 2_000
PACKAGES = ("gensyn", "trio", "libp2p", "plyvel", "msgspec", "msgpack", "pynacl", "torch", "numpy", "numba")


def write_bundle(home: Home, path: Path, live: Mapping[str, Any]) -> list[str]:
    """Write the archive, readable by its owner only; the names in it. `live`: what the running node answered."""
    redactor = Redactor(known_secrets(home))
    parts: dict[str, str] = {}

    def add(name: str, make: Callable[[], Any]) -> None:
        """A part that cannot be made says why instead: a bundle is asked for when things are broken."""
        try:
            made = make()
        except (Rejection, InvariantViolation, OSError, ValueError) as error:
            made = {"unavailable": str(error)}
        text = made if isinstance(made, str) else json.dumps(made, indent=1, sort_keys=True, default=repr)
        parts[name] = redactor.clean(text)

    add("versions.json", _versions)
    add("system.json", lambda: _system(home))
    add("config.toml", lambda: render_config(read_config(home)))
    add("chain.json", lambda: _chain(home))
    add("sign_state.json", lambda: _sign_state(home))
    add("files.json", lambda: _files(home))
    for name, value in sorted(live.items()):
        add(f"live/{name}.json", partial(_as_it_is, value))
    for log in sorted(home.log.glob("*.log")):
        add(f"log/{log.name}", partial(_tail, log))
    replace_file(path, _archive(parts))
    return sorted(parts)


def known_secrets(home: Home) -> list[bytes]:
    """The secrets of a home, to look for: token, keys without a passphrase with their words, the passphrase's own."""
    found = [value.encode() for name, value in os.environ.items() if name.startswith("GENSYN_") and "PASS" in name]
    if home.token.exists():
        found.append(home.token.read_bytes().strip())
    for path in sorted(home.keys.glob("*")):
        if path.is_file():
            found += _secrets_of(path.read_bytes())
    return found


def _secrets_of(file: bytes) -> list[bytes]:
    """A key file's own bytes, and the key in it when it is sound and has no passphrase."""
    try:
        stored = unpack(file)
        if isinstance(stored, LockedKey):
            return [file]
        key = unlock(stored, "")
    except Rejection:
        return [file]
    return [file, key.seed, words_of(key).encode()]


def _as_it_is(value: Any) -> Any:
    return value


def _archive(parts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in sorted(parts.items()):
            data = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"gensyn-debug/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _versions() -> dict[str, str]:
    found = {"python": sys.version, "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _system(home: Home) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "time": int(time.time()),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "disk_free_bytes": free_bytes(home.path),
        "home_used_bytes": used_bytes(home.path),
    }


def _sign_state(home: Home) -> dict[str, Any]:
    state = read_state(home.signer / SIGN_STATE_FILE)
    return {
        "height": state.height,
        "round": state.round,
        "step": state.step,
        "silent_through": state.silent_through,
        "log_heights": log_heights(home.data / LOG_FOLDER),
    }


def _chain(home: Home) -> dict[str, Any]:
    genesis = read_genesis(home.genesis)
    found: dict[str, Any] = {"chain_id": genesis.chain_id, "genesis_hash": genesis_hash(genesis).hex()}
    try:
        with lock_home(home):
            found |= _head(Chain.open(home.data / CHAIN_FOLDER, genesis))
    except Rejection as rejection:
        found["database"] = str(rejection)  # the node runs and answers for itself, or the database is what is broken
    return found


def _head(chain: Chain) -> dict[str, Any]:
    try:
        head = chain.head
        headers = []
        for height in range(head.height, max(chain.base - 1, head.height - HEADERS), -1):
            header, commit = chain.header(height), chain.commit(height)
            if header is not None:
                headers.append(
                    {
                        "height": height,
                        "id": header.id.hex(),
                        "time_ms": header.time_ms,
                        "proposer": header.proposer.hex(),
                        "app_hash": header.app_hash.hex(),
                        "validators_hash": header.validators_hash.hex(),
                        "round": None if commit is None else commit.round,
                        "slots": None if commit is None else [slot.flag.name for slot in commit.slots],
                    }
                )
        return {
            "height": head.height,
            "block_id": head.block_id.hex(),
            "app_hash": head.app_hash.hex(),
            "lowest_block": chain.base,
            "oldest_state": chain.store.oldest_state,
            "validators": [[one.address.hex(), one.power] for one in chain.state.validators.validators],
            "headers": headers,
        }
    finally:
        chain.close()


def _files(home: Home) -> list[dict[str, Any]]:
    found = []
    for path in sorted(home.path.rglob("*"))[:FILES_MAX]:
        if path.is_file():
            status = path.stat()
            name = str(path.relative_to(home.path))
            found.append({"name": name, "bytes": status.st_size, "changed": int(status.st_mtime)})
    return found


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text if path.stat().st_size <= LOG_TAIL_BYTES else text.partition("\n")[2]
