"""Ed25519 by libsodium (PyNaCl) alone: libraries disagree on small-order keys, and validators that mix them fork.

What PyNaCl accepts is the protocol's definition of a valid signature (RFC 8032 with libsodium's refusals: non-canonical
S, small-order keys and R).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from nacl import bindings
from nacl.exceptions import BadSignatureError

from gensyn_node.primitives import reasons
from gensyn_node.primitives.errors import Rejection

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class SecretKey:
    """An ed25519 key pair made from its 32-byte seed. Its repr never shows the seed."""

    seed: bytes = field(repr=False)
    public: bytes = field(init=False)
    _expanded: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise Rejection(reasons.BAD_KEY, f"a seed has {SEED_BYTES} bytes, not {len(self.seed)}")
        public, expanded = bindings.crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "public", public)
        object.__setattr__(self, "_expanded", expanded)

    @property
    def address(self) -> bytes:
        """The account address of this key."""
        return address_of(self.public)

    def sign(self, message: bytes) -> bytes:
        """The deterministic 64-byte signature of `message` (RFC 8032)."""
        return bindings.crypto_sign(message, self._expanded)[:SIGNATURE_BYTES]


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is valid; False for keys and signatures of a wrong length as well."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public_key)
    except (BadSignatureError, ValueError):
        return False
    return True


def address_of(public_key: bytes) -> bytes:
    """The 20-byte account address: BLAKE2b-160 of the public key."""
    return hashlib.blake2b(public_key, digest_size=20).digest()
