"""Every signature check of consensus gives one fixed answer for each known hard case: libsodium's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consensus import beacon
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import Rejection

VECTORS = Path(__file__).parent.parent / "vectors"


def load(path: str) -> Any:
    return json.loads((VECTORS / path).read_text())


def test_rfc8032() -> None:
    for case in load("ed25519/rfc8032.json")["cases"]:
        key = crypto.SecretKey(bytes.fromhex(case["seed"]))
        message = bytes.fromhex(case["msg"])
        assert (key.public.hex(), key.sign(message).hex()) == (case["pk"], case["sig"])
        assert crypto.verify(key.public, message, key.sign(message))


def test_wycheproof() -> None:
    verdicts = 0
    for group in load("ed25519/wycheproof_ed25519.json")["testGroups"]:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            accepted = crypto.verify(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert accepted == (case["result"] == "valid"), case["tcId"]
            verdicts += 1
    assert verdicts == 151


def test_small_order_keys_and_points_are_refused() -> None:
    cases = load("ed25519/zip215_small_order.json")["cases"]
    assert len(cases) == 196
    assert not any(crypto.verify(bytes.fromhex(c["pk"]), b"Zcash", bytes.fromhex(c["sig"])) for c in cases)


def test_speccheck_verdicts_are_pinned() -> None:
    verdicts = [
        crypto.verify(*(bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature")))
        for case in load("ed25519/speccheck_cases.json")
    ]
    # Pinned, so that no new version of a library can change what is a valid block.
    assert verdicts == [False, False, False, True, False, False, False, False, False, False, False, False]


@pytest.mark.parametrize("vector", load("ecvrf/rfc9381_tai.json")["vectors"])
def test_rfc9381(vector: dict[str, str]) -> None:
    fields = {name: bytes.fromhex(text) for name, text in vector.items() if name != "name"}
    assert beacon._hash_to_curve(fields["pk"], fields["alpha"]) == fields["hash_to_curve"]
    assert beacon.prove(fields["sk"], fields["alpha"]) == fields["pi"]
    assert beacon.verify(fields["pk"], fields["alpha"], fields["pi"]) == fields["beta"]
    assert beacon.proof_to_hash(fields["pi"]) == fields["beta"]


def refused(key: bytes, alpha: bytes, proof: bytes) -> bool:
    with pytest.raises(Rejection) as caught:
        beacon.verify(key, alpha, proof)
    return caught.value.reason is beacon.BAD_BEACON


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    key = crypto.SecretKey(bytes(range(32)))
    proof = beacon.prove(key.seed, b"alpha")
    for bit in range(8 * len(proof)):
        flipped = bytearray(proof)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(key.public, b"alpha", bytes(flipped))
    assert refused(key.public, b"beta", proof)
    assert refused(crypto.SecretKey(bytes(32)).public, b"alpha", proof)


def test_odd_proofs_and_keys_are_refused() -> None:
    key = crypto.SecretKey(bytes(range(32)))
    proof = beacon.prove(key.seed, b"alpha")
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(proof[48:], "little")
    assert refused(key.public, b"alpha", proof[:48] + (scalar + order).to_bytes(32, "little"))
    assert refused(key.public, b"alpha", proof[:48] + bytes(32))
    assert refused(key.public, b"alpha", proof[:32] + bytes(16) + proof[48:])
    assert refused(key.public, b"alpha", proof[:32] + bytes(48))
    for length in (0, 79, 81):
        assert refused(key.public, b"alpha", (proof + b"x")[:length])
    small_order = {case["pk"] for case in load("ed25519/zip215_small_order.json")["cases"]}
    for point in map(bytes.fromhex, sorted(small_order)):
        assert refused(point, b"alpha", proof)
        assert refused(key.public, b"alpha", point + proof[32:])
    with pytest.raises(Rejection):
        beacon.prove(b"short", b"alpha")


def test_beacons_chain() -> None:
    key = crypto.SecretKey(bytes(range(32)))
    values, current = [], bytes(32)
    for height in range(1, 6):
        alpha = beacon.beacon_input("chain", height, current)
        proof = beacon.prove(key.seed, alpha)
        beacon.verify(key.public, alpha, proof)
        current = beacon.next_beacon(current, proof)
        values.append(current)
    assert len(set(values)) == 5
    assert beacon.beacon_input("chain", 1, bytes(32)) != beacon.beacon_input("other", 1, bytes(32))
