"""Addresses as text: bech32 (BIP-173) with the prefix `gsn`."""

from __future__ import annotations

from gensyn_node.primitives import reasons
from gensyn_node.primitives.errors import Rejection

PREFIX = "gsn"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
ADDRESS_BYTES = 20


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= generator
    return checksum


def _expand(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def encode_address(address: bytes) -> str:
    """`gsn1…` for a 20-byte address."""
    if len(address) != ADDRESS_BYTES:
        raise Rejection(reasons.BAD_ADDRESS, f"an address has {ADDRESS_BYTES} bytes, not {len(address)}")
    number = int.from_bytes(address, "big")
    words = [(number >> shift) & 31 for shift in range(155, -1, -5)]
    checksum = _polymod([*_expand(PREFIX), *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [(checksum >> 5 * (5 - i)) & 31 for i in range(6)]
    return PREFIX + "1" + "".join(_ALPHABET[word] for word in words)


def decode_address(text: str) -> bytes:
    """The 20 bytes of a `gsn1…` address; `Rejection` BAD_ADDRESS otherwise."""
    if len(text) != len(PREFIX) + 1 + 32 + 6 or not text.startswith(PREFIX + "1"):
        raise Rejection(reasons.BAD_ADDRESS, f"{text[:60]!r} does not look like {PREFIX}1…")
    words = [_ALPHABET.find(c) for c in text[len(PREFIX) + 1 :]]
    if -1 in words or _polymod(_expand(PREFIX) + words) != 1:
        raise Rejection(reasons.BAD_ADDRESS, f"{text!r} has a wrong character or checksum")
    number = 0
    for word in words[:-6]:
        number = number << 5 | word
    return number.to_bytes(ADDRESS_BYTES, "big")
