"""The handshake: who may talk to whom, said so that a person can act on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from p2p_hosts import CHAIN, GENESIS, config_of, run, until

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from p2p import handshake
from p2p.api import PROTOCOL_VERSION, RequestFailed
from p2p.network import open_network

OURS = handshake.Hello("ours", b"g" * 32, PROTOCOL_VERSION, "gensyn/0.1.0", 7, (7400,))


def theirs(**changes: Any) -> handshake.Hello:
    """Like ours, of another version, changed."""
    return msgspec.structs.replace(OURS, software_version="gensyn/9", **changes)


@pytest.mark.parametrize(
    ("hello", "code", "words"),
    [
        (OURS, None, ()),
        (theirs(chain_id="theirs"), "E1607", ("'ours'", "'theirs'", "genesis file")),
        (theirs(genesis_hash=b"h" * 32), "E1608", ("67676767", "68686868", "genesis file")),
        (theirs(protocol_version=2), "E1609", ("gensyn/0.1.0", "gensyn/9", "pipx upgrade")),
    ],
)
def test_mismatch_names_both_sides_and_what_to_run(
    hello: handshake.Hello, code: str | None, words: tuple[str, ...]
) -> None:
    rejection = handshake.mismatch(OURS, hello)
    assert (rejection and rejection.reason.code) == code
    for word in words:
        assert rejection is not None and word in rejection.message


@pytest.mark.parametrize(
    "hello",
    [
        handshake.Hello("x\x1b[31m", b"g" * 32, 1, "v", 0, ()),
        handshake.Hello("x" * 65, b"g" * 32, 1, "v", 0, ()),
        handshake.Hello("x", b"g" * 31, 1, "v", 0, ()),
        handshake.Hello("x", b"g" * 32, 1, "v", -1, ()),
        handshake.Hello("x", b"g" * 32, 1, "v", 0, (1, 2, 3, 4, 5)),
        handshake.Hello("x", b"g" * 32, 1, "v", 0, (65536,)),
    ],
)
def test_odd_hello_is_refused(hello: handshake.Hello) -> None:
    with pytest.raises(Rejection):
        handshake.decode_hello(encode(hello))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_hello_or_a_rejection(data: bytes) -> None:
    for read in (handshake.decode_hello, handshake.decode_reply):
        try:
            read(data)
        except Rejection:
            continue


@pytest.mark.parametrize("chain_id", ["", "a/b", "x" * 65, "sp ace", "ü"])
def test_chain_id_that_cannot_name_a_protocol_is_refused(chain_id: str) -> None:
    with pytest.raises(Rejection):
        handshake.check_chain_id(chain_id)


@pytest.mark.integration
def test_other_chain_is_refused_on_both_sides_by_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "alice")) as alice,
            open_network(config_of(tmp_path, "bob", chain_id="other-chain")) as bob,
        ):
            with pytest.raises(RequestFailed) as failed:
                await bob.peers.connect(alice.addresses[0])
            assert CHAIN in str(failed.value) and "other-chain" in str(failed.value)
            assert "genesis file" in str(failed.value)
            await until(alice.peers.refused_handshakes, "the refusal at the listener")
            assert CHAIN in alice.peers.refused_handshakes()[0] and "other-chain" in alice.peers.refused_handshakes()[0]
            assert not alice.peers.connected() and not bob.peers.connected()
            await until(lambda: not alice._host.is_connected(bob.peer_id), "the disconnection")

    run(test)


@pytest.mark.integration
def test_handshake_carries_head_and_version_and_pings_keep_it_fresh(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "alice", ping_interval_s=0.1)) as alice,
            open_network(config_of(tmp_path, "bob", ping_interval_s=0.1, software_version="gensyn/7")) as bob,
        ):
            alice.set_head(41)
            await bob.peers.connect(alice.addresses[0])
            await until(lambda: bob.peers.connected()[0].head_height == 41, "the head in the handshake")
            assert alice.peers.connected()[0].software_version == "gensyn/7"
            alice.set_head(42)
            await until(lambda: bob.peers.connected()[0].head_height == 42, "the new head")
            await until(lambda: bob.peers.connected()[0].latency_ms is not None, "a latency")

    run(test)


@pytest.mark.integration
def test_same_seed_same_peer_id(tmp_path: Path) -> None:
    async def test() -> str:
        async with open_network(config_of(tmp_path, "alice", genesis_hash=GENESIS)) as alice:
            return alice.peer_id

    assert run(test) == run(test)
