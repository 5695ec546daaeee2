"""Addresses, keys, money and reasons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gensyn_node.primitives import reasons
from gensyn_node.primitives.bech32 import decode_address, encode_address
from gensyn_node.primitives.crypto import SecretKey, address_of, verify
from gensyn_node.primitives.errors import REASONS, InvariantViolation, Rejection, reason
from gensyn_node.primitives.hashing import tagged_hash
from gensyn_node.primitives.money import SUPPLY_NANO_MAX, format_amount, parse_amount


@given(st.binary(min_size=20, max_size=20))
def test_addresses_round_trip(address: bytes) -> None:
    assert decode_address(encode_address(address)) == address


@given(st.binary(min_size=20, max_size=20), st.integers(4, 41), st.integers(1, 31))
def test_a_typing_error_in_an_address_is_found(address: bytes, position: int, change: int) -> None:
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    text = encode_address(address)
    other = alphabet[(alphabet.index(text[position]) + change) % 32]
    with pytest.raises(Rejection) as caught:
        decode_address(text[:position] + other + text[position + 1 :])
    assert caught.value.reason is reasons.BAD_ADDRESS


def test_bech32_agrees_with_the_checksum_constant_of_bip_173() -> None:
    # BIP-173's own valid string with our length does not exist; the polymod of a known one is checked instead.
    from gensyn_node.primitives.bech32 import _ALPHABET, _expand, _polymod

    valid = "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w"
    prefix, data = valid.rsplit("1", 1)
    assert _polymod(_expand(prefix) + [_ALPHABET.index(c) for c in data]) == 1


@pytest.mark.parametrize(
    "text", ["", "gsn1", "gsn2" + "q" * 38, "GSN1" + "q" * 38, "gsn1" + "b" * 38, "gsn1" + "q" * 39]
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(Rejection):
        decode_address(text)


def test_rfc_8032_test_2() -> None:
    key = SecretKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = key.sign(b"\x72")
    assert signature.hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
    assert verify(key.public, b"\x72", signature)
    assert not verify(key.public, b"\x73", signature)
    assert not verify(key.public, b"\x72", signature[:-1])
    assert not verify(key.public[:-1], b"\x72", signature)


def test_a_secret_key_never_prints_its_seed() -> None:
    seed = bytes(range(32))
    key = SecretKey(seed)
    assert seed.hex() not in repr(key) and repr(seed) not in repr(key)
    assert key.address == address_of(key.public) and len(key.address) == 20


def test_a_seed_of_a_wrong_length_is_refused() -> None:
    with pytest.raises(Rejection) as caught:
        SecretKey(b"short")
    assert caught.value.reason is reasons.BAD_KEY


@pytest.mark.parametrize(
    ("text", "nano"),
    [("12.5 GSN", 12_500_000_000), ("0.000000001 gsn", 1), ("7 nano", 7), (" 1 GSN ", 10**9), ("0 GSN", 0)],
)
def test_amounts_are_parsed_exactly(text: str, nano: int) -> None:
    assert parse_amount(text) == nano


@pytest.mark.parametrize(
    "text", ["", "12.5", "-1 GSN", "1e3 GSN", "0.0000000001 GSN", "9999999999.9 GSN", "1,5 GSN", "NaN GSN"]
)
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(Rejection) as caught:
        parse_amount(text)
    assert caught.value.reason is reasons.BAD_AMOUNT


@given(st.integers(0, SUPPLY_NANO_MAX))
def test_amounts_print_exactly(nano: int) -> None:
    assert parse_amount(format_amount(nano).replace(",", "")) == nano


def test_tagged_hashes_of_shifted_parts_differ() -> None:
    assert tagged_hash("d", b"ab", b"c") != tagged_hash("d", b"a", b"bc") != tagged_hash("da", b"b", b"c")


def test_a_reason_is_declared_once() -> None:
    with pytest.raises(InvariantViolation):
        reason("E1001", "another_name", "", "")
    with pytest.raises(InvariantViolation):
        reason("E1099", "too_large", "", "")
    assert "E1099" not in REASONS
