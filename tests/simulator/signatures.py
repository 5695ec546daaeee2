"""Keys of simulated validators: real ed25519 in some runs, a cheap stand-in in most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from consensus.tendermint.verify import SignatureCheck
from gensyn_node.primitives import crypto

Signer = Callable[[bytes], bytes]


def stub_sign(public_key: bytes, message: bytes) -> bytes:
    """As good as real as long as nobody uses another's key, which no simulated node does."""
    return hashlib.blake2b(message, key=public_key, digest_size=16).digest()


def stub_check(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `stub_sign` made it."""
    return stub_sign(public_key, message) == signature


@dataclass(frozen=True)
class Key:
    """One validator's consensus key."""

    secret: crypto.SecretKey
    sign: Signer

    @property
    def address(self) -> bytes:
        """Names the validator."""
        return self.secret.address

    @property
    def public(self) -> bytes:
        """Checks its signatures."""
        return self.secret.public


_SECRETS: dict[int, crypto.SecretKey] = {}


def make_key(position: int, *, real: bool) -> Key:
    """The key of a position; the same in every run."""
    if position not in _SECRETS:
        _SECRETS[position] = crypto.SecretKey(hashlib.sha256(b"%d" % position).digest())
    secret = _SECRETS[position]
    return Key(secret, secret.sign if real else _stub_signer(secret.public))


def _stub_signer(public_key: bytes) -> Signer:
    return lambda message: stub_sign(public_key, message)


def signature_check(*, real: bool) -> SignatureCheck:
    """What verifies the signatures of `make_key`."""
    return crypto.verify if real else stub_check
