"""Randomness nobody can choose: ECVRF-EDWARDS25519-SHA512-TAI (RFC 9381) proofs, chained from block to block.

The proposer of each block proves, under its consensus key, the one value that belongs to the previous beacon; the next
beacon hashes both. A proposer can only withhold a block, not shape the value. Written on libsodium's group operations.
"""

from __future__ import annotations

import hashlib

from nacl import bindings
from nacl.exceptions import CryptoError

from consensus.tendermint.reasons import BAD_BEACON
from gensyn_node.primitives.crypto import PUBLIC_KEY_BYTES, SEED_BYTES
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash

PROOF_BYTES = 80
OUTPUT_BYTES = 64
_SUITE = b"\x03"
_ORDER = 2**252 + 27742317777372353535851937790883648493
_FIELD = 2**255 - 19
_CHALLENGE_BYTES = 16
_POINT_BYTES = 32


def prove(seed: bytes, alpha: bytes) -> bytes:
    """The 80-byte proof for input `alpha` under the ed25519 seed (RFC 9381, 5.1; nonce as in 5.4.2.2)."""
    if len(seed) != SEED_BYTES:
        raise Rejection(BAD_BEACON, f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    expanded = hashlib.sha512(seed).digest()
    clamped = bytes([expanded[0] & 248]) + expanded[1:31] + bytes([expanded[31] & 127 | 64])
    secret = bindings.crypto_core_ed25519_scalar_reduce(clamped + bytes(32))
    public_key = bindings.crypto_scalarmult_ed25519_base_noclamp(secret)
    point = _hash_to_curve(public_key, alpha)
    gamma = _multiply(secret, point)
    nonce = bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(expanded[32:] + point).digest())
    commitment = bindings.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _challenge(public_key, point, gamma, commitment, _multiply(nonce, point))
    product = bindings.crypto_core_ed25519_scalar_mul(challenge + bytes(16), secret)
    return gamma + challenge + bindings.crypto_core_ed25519_scalar_add(nonce, product)


def verify(public_key: bytes, alpha: bytes, proof: bytes) -> bytes:
    """The 64-byte output that `proof` proves for `alpha` under `public_key` (RFC 9381, 5.3, with key validation).

    `Rejection` BAD_BEACON for wrong lengths, points that are not canonical, not on the curve or not in the prime-order
    group (so every small-order key), scalars that are not canonical, and proofs that do not verify.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(proof) != PROOF_BYTES:
        raise Rejection(BAD_BEACON, f"key of {len(public_key)} bytes, proof of {len(proof)} bytes")
    gamma, challenge, scalar = proof[:32], proof[32:48], proof[48:]
    if int.from_bytes(scalar, "little") >= _ORDER:
        raise Rejection(BAD_BEACON, "the scalar of the proof is not reduced")
    if not (_in_group(public_key) and _in_group(gamma)):
        raise Rejection(BAD_BEACON, "a point is not canonical, not on the curve or of small order")
    point = _hash_to_curve(public_key, alpha)
    wide = challenge + bytes(16)
    commitment = _subtract(_multiply(scalar, None), _multiply(wide, public_key))
    second = _subtract(_multiply(scalar, point), _multiply(wide, gamma))
    if _challenge(public_key, point, gamma, commitment, second) != challenge:
        raise Rejection(BAD_BEACON, "the proof does not verify")
    return proof_to_hash(proof)


def proof_to_hash(proof: bytes) -> bytes:
    """The output of a proof that is known to be good (RFC 9381, 5.2)."""
    return hashlib.sha512(_SUITE + b"\x03" + _times_cofactor(proof[:_POINT_BYTES]) + b"\x00").digest()


def beacon_input(chain_id: str, height: int, previous: bytes) -> bytes:
    """What the proposer of a height proves: bound to chain, height and the previous beacon."""
    return tagged_hash("gensyn/beacon-input", chain_id.encode(), height.to_bytes(8, "little"), previous)


def next_beacon(previous: bytes, proof: bytes) -> bytes:
    """The 32-byte beacon after a block whose proof was verified."""
    return tagged_hash("gensyn/beacon", previous, proof_to_hash(proof))


def _hash_to_curve(salt: bytes, alpha: bytes) -> bytes:
    """Try and increment (RFC 9381, 5.4.1.1): the first hash that decodes to a point, times the cofactor."""
    for counter in range(256):
        hashed = hashlib.sha512(_SUITE + b"\x01" + salt + alpha + bytes([counter]) + b"\x00").digest()[:_POINT_BYTES]
        if _canonical(hashed):
            try:
                return _times_cofactor(hashed)
            except CryptoError:
                continue
    raise Rejection(BAD_BEACON, "no point found in 256 attempts")


def _canonical(point: bytes) -> bool:
    """Whether y is below the field's prime (RFC 8032, 5.1.3 refuses the others)."""
    return int.from_bytes(point, "little") & ((1 << 255) - 1) < _FIELD


def _in_group(point: bytes) -> bool:
    """Whether it is a canonical point of the prime-order group; honest keys and gammas always are."""
    return _canonical(point) and bool(bindings.crypto_core_ed25519_is_valid_point(point))


def _challenge(*points: bytes) -> bytes:
    return hashlib.sha512(_SUITE + b"\x02" + b"".join(points) + b"\x00").digest()[:_CHALLENGE_BYTES]


def _times_cofactor(point: bytes) -> bytes:
    for _ in range(3):
        point = bindings.crypto_core_ed25519_add(point, point)
    return point


def _multiply(scalar: bytes, point: bytes | None) -> bytes:
    """A multiple of `point`, or of the base point. libsodium refuses a zero result; no honest proof has one."""
    try:
        if point is None:
            return bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
        return bindings.crypto_scalarmult_ed25519_noclamp(scalar, point)
    except CryptoError:
        raise Rejection(BAD_BEACON, "a product of the proof is the neutral element") from None


def _subtract(left: bytes, right: bytes) -> bytes:
    return bindings.crypto_core_ed25519_sub(left, right)
