"""Where a light client's trust begins, and the verified header it keeps for the next time."""

from __future__ import annotations

import re
from pathlib import Path

from consensus.ledger.genesis import genesis_hash
from consensus.ledger.records import Genesis
from consensus.light.types import Anchor, LightBlock, LightOptions, Trusted, trusted_genesis, trusted_of
from consensus.light.verify import check_shape
from gensyn_node.config.genesis import genesis_validators
from gensyn_node.light import reasons
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.files import replace_file

TRUST_BLOCK_MS = 4_000
"""The trust period is as many of these as unbonding has blocks: two thirds of it at the 6 s blocks it is made for."""
_ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9a-fA-F]{64})\Z")
_FILE_BYTES_MAX = limits.MIB


class TrustFile(Struct):
    """The last header that was verified, of which chain."""

    genesis_hash: bytes
    block: LightBlock


def parse_anchor(text: str) -> Anchor:
    """`HEIGHT:HASH`; BAD_ANCHOR otherwise."""
    match = _ANCHOR.match(text)
    if match is None:
        raise Rejection(reasons.BAD_ANCHOR, f"{text[:100]!r}")
    return Anchor(int(match[1]), bytes.fromhex(match[2]))


def default_options(genesis: Genesis, trust_period_ms: int | None = None) -> LightOptions:
    """The options for a chain; `trust_period_ms` instead of the one that follows from its unbonding time."""
    return LightOptions(trust_period_ms or genesis.parameters.unbonding_blocks * TRUST_BLOCK_MS)


def load_block(path: Path, genesis: Genesis) -> LightBlock | None:
    """The verified header of an earlier run; None when there was none. BAD_TRUST_FILE when it is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        stored: TrustFile = codec.decode(TrustFile, data, max_bytes=_FILE_BYTES_MAX)
        check_shape(genesis.chain_id, stored.block)
    except Rejection as rejection:
        raise Rejection(reasons.BAD_TRUST_FILE, f"{path}: {rejection.message}") from None
    if stored.genesis_hash != genesis_hash(genesis):
        raise Rejection(reasons.BAD_TRUST_FILE, f"{path} is of another genesis")
    return stored.block


def save_block(path: Path, genesis: Genesis, block: LightBlock) -> None:
    """Keep a verified header, in place of the one before, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, codec.encode(TrustFile(genesis_hash(genesis), block)))


def start_of(genesis: Genesis, stored: LightBlock | None, anchor: Anchor | None) -> Trusted | Anchor:
    """Trust begins at what the user names, else at the header of the last run, else at the genesis."""
    if anchor is not None:
        return anchor
    return trusted_of(stored) if stored is not None else trusted_genesis(genesis.time_ms, genesis_validators(genesis))
