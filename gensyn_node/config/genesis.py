"""The genesis file: the canonical encoding of a `Genesis`."""

from __future__ import annotations

from pathlib import Path

from consensus.ledger.genesis import genesis_delta
from consensus.ledger.records import Genesis
from consensus.tendermint.types import Validator, ValidatorSet
from consensus.tendermint.validators import new_validator_set
from gensyn_node.config import reasons
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.crypto import address_of
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import MIB

GENESIS_BYTES_MAX = 16 * MIB


def read_genesis(path: Path) -> Genesis:
    """The genesis in a file; BAD_GENESIS_FILE when there is none or it is damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(GENESIS_BYTES_MAX + 1)
    except OSError as error:
        raise Rejection(reasons.BAD_GENESIS_FILE, f"{path} cannot be read: {error.strerror}") from None
    return decode_genesis(data, str(path))


def decode_genesis(data: bytes, source: str = "the genesis") -> Genesis:
    """The genesis in `data`."""
    try:
        genesis: Genesis = decode(Genesis, data, max_bytes=GENESIS_BYTES_MAX)
    except Rejection as error:
        raise Rejection(reasons.BAD_GENESIS_FILE, f"{source}: {error.message}") from None
    return genesis


def genesis_validators(genesis: Genesis) -> ValidatorSet:
    """The validator set of the first height."""
    return new_validator_set(
        [
            Validator(address_of(update.public_key), update.public_key, update.power)
            for update in genesis_delta(genesis).validator_updates
        ]
    )
