"""The screen of a running node says what is true: chain, peers, role, work or why there is none, money, seeds down."""

from __future__ import annotations

from rich.console import Console

from cli.node_screen import picture
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.rpc.backend import SeedState, Status

STATUS = Status(
    version="0.1.0",
    chain_id="devnet-1",
    genesis_hash=b"g" * 32,
    node_id="12D3Koo",
    address=b"a" * 20,
    height=41,
    head_time_ms=0,
    head_id=b"h" * 32,
    app_hash=b"s" * 32,
    syncing=True,
    peers=0,
    mempool=0,
    validator=True,
    role="solver",
    activity="training task 0102: step 37 of 600, loss 0.1234",
    started_ms=0,
    block_interval_ms=512,
)


def shown(seeds: tuple[SeedState, ...] = ()) -> str:
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(STATUS, (2_500_000_000, 10_000_000_000, 1), seeds))
    return capture.get()


def test_the_screen_says_what_the_node_does() -> None:
    text = shown()
    for part in (
        "devnet-1, block 41, a block every 0.5 s, catching up",
        "none: looking for some",
        "solver and validator",
        "training task 0102: step 37 of 600, loss 0.1234",
        "2.5 GSN; bonded 10 GSN, of it locked 0.000000001 GSN",
        encode_address(b"a" * 20),
    ):
        assert part in text, text
    assert "Seed down" not in text


def test_a_seed_that_is_down_is_shown_with_its_next_try() -> None:
    text = shown((SeedState("/ip4/127.0.0.1/tcp/1/p2p/12D3Koo", False, 3, 8, "connection refused"),))
    assert "/ip4/127.0.0.1/tcp/1/p2p/12D3Koo: connection refused; next try in 8 s" in text
