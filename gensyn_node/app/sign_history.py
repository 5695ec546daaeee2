"""A validator's signing history as a JSON file, to move a key to another machine without signing anything twice.

The file says up to which place the key may have signed, in the way of EIP-3076 (minimal form): format, chain, genesis
hash, public key, height, round, step. Importing only ever raises the record: what it names, and the whole height it
ends in, is never signed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from consensus.ledger.genesis import genesis_hash
from gensyn_node.app.settings import SIGN_STATE_FILE
from gensyn_node.config.genesis import read_genesis
from gensyn_node.config.home import Home
from gensyn_node.keys.keyring import CONSENSUS, Keyring
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc.strict_json import parse_json
from gensyn_node.storage import reasons
from gensyn_node.storage.files import replace_file
from gensyn_node.storage.signer import SignState, SignStep, encode_state, new_state, raised, read_state

FORMAT: Literal["gensyn signing history 1"] = "gensyn signing history 1"
FILE_BYTES_MAX = 16 << 10
HEIGHT_MAX = (1 << 53) - 1
ROUND_MAX = (1 << 31) - 1

Hexadecimal = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class SigningHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file."""

    format: Literal["gensyn signing history 1"]
    chain_id: Annotated[str, Meta(max_length=64)]
    genesis_hash: Hexadecimal
    public_key: Hexadecimal
    height: Annotated[int, Meta(ge=0, le=HEIGHT_MAX)]
    """0: nothing was ever signed."""
    round: Annotated[int, Meta(ge=0, le=ROUND_MAX)]
    step: Annotated[int, Meta(ge=0, le=int(SignStep.PRECOMMIT))]
    silent_through: Annotated[int, Meta(ge=0, le=HEIGHT_MAX)]


def encode_history(history: SigningHistory) -> bytes:
    """The file."""
    return (json.dumps(msgspec.to_builtins(history), indent=1) + "\n").encode()


def decode_history(data: bytes) -> SigningHistory:
    """The history in a file; `Rejection` BAD_SIGNING_HISTORY for anything else."""
    if len(data) > FILE_BYTES_MAX:
        raise Rejection(reasons.BAD_SIGNING_HISTORY, f"a signing history has at most {FILE_BYTES_MAX} bytes")
    try:
        plain: Any = parse_json(data)
        return msgspec.convert(plain, SigningHistory, strict=True)
    except Rejection as error:
        raise Rejection(reasons.BAD_SIGNING_HISTORY, error.message) from None
    except msgspec.ValidationError as error:
        raise Rejection(reasons.BAD_SIGNING_HISTORY, str(error)) from None


def read_history(path: Path) -> SigningHistory:
    """The history in the file at `path`; `Rejection` BAD_SIGNING_HISTORY."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise Rejection(reasons.BAD_SIGNING_HISTORY, f"{path} cannot be read: {error.strerror}") from None
    return decode_history(data)


def export_history(home: Home) -> SigningHistory:
    """What the key of a home has signed. The caller holds the home's lock: a running node would make it stale."""
    genesis = read_genesis(home.genesis)
    state = read_state(home.signer / SIGN_STATE_FILE)
    return SigningHistory(
        format=FORMAT,
        chain_id=genesis.chain_id,
        genesis_hash=genesis_hash(genesis).hex(),
        public_key=state.public_key.hex(),
        height=state.height,
        round=state.round,
        step=state.step,
        silent_through=state.silent_through,
    )


def import_history(home: Home, history: SigningHistory, *, restore: bool = False) -> SignState:
    """Raise the record of a home to what the history names; the record after it. The caller holds the home's lock.

    `restore`: begin a record that is missing or damaged with the history; without it such a home is refused. Raises
    `Rejection` (WRONG_KEY, WRONG_CHAIN, SIGN_STATE_MISSING, SIGN_STATE_CORRUPT).
    """
    genesis = read_genesis(home.genesis)
    own = Keyring(home.keys).stored(CONSENSUS).public
    if history.public_key != own.hex():
        raise Rejection(reasons.WRONG_KEY, f"the history is of key {history.public_key}, the home has {own.hex()}")
    if history.genesis_hash != genesis_hash(genesis).hex():
        raise Rejection(reasons.WRONG_CHAIN, f"the history is of the chain {history.chain_id!r} of another genesis")
    path = home.signer / SIGN_STATE_FILE
    try:
        last = read_state(path)
    except Rejection as error:
        if not restore or error.reason not in (reasons.SIGN_STATE_MISSING, reasons.SIGN_STATE_CORRUPT):
            raise
        last = new_state(own)
    if last.public_key != own:
        raise Rejection(reasons.WRONG_KEY, f"{path} is for key {last.public_key.hex()}")
    place = (history.height, history.round, history.step)
    state = raised(last, place, silent_through=history.silent_through)
    replace_file(path, encode_state(state))
    return state
