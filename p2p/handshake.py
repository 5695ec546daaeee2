"""The first words on a connection: chain, version, head. Pure; `peers` sends and receives them.

The protocol's name carries no chain, so that peers of two chains can still tell each other what differs.
"""

from __future__ import annotations

import re

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Reason, Rejection
from gensyn_node.primitives.reasons import MALFORMED
from p2p import reasons
from p2p.api import PROTOCOL_VERSION, NetworkConfig
from p2p.bounds import HELLO_BYTES_MAX

PROTOCOL = "/gensyn/hello/1"
PORTS_MAX = 4
_CHAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRINTABLE = re.compile(r"[ -~]{0,64}")


class Hello(Struct, frozen=True):
    """What each side says of itself."""

    chain_id: str
    genesis_hash: bytes
    protocol_version: int
    software_version: str
    head_height: int
    listen_ports: tuple[int, ...]
    """TCP ports it accepts connections on, at the address this connection comes from."""


class HelloReply(Struct, frozen=True):
    """The listener's own hello, and why it refuses (empty code: it does not)."""

    hello: Hello
    refusal_code: str
    refusal: str


def check_chain_id(chain_id: str) -> None:
    """`Rejection` BAD_CHAIN_ID unless it can be part of protocol and topic names."""
    if not _CHAIN_ID.fullmatch(chain_id):
        raise Rejection(reasons.BAD_CHAIN_ID, f"{chain_id[:80]!r}")


def hello_of(config: NetworkConfig, head_height: int, listen_ports: tuple[int, ...]) -> Hello:
    """Our own hello."""
    return Hello(
        config.chain_id,
        config.genesis_hash,
        PROTOCOL_VERSION,
        config.software_version,
        head_height,
        listen_ports[:PORTS_MAX],
    )


def encode_hello(hello: Hello) -> bytes:
    """The dialler's message."""
    return encode(hello)


def encode_reply(reply: HelloReply) -> bytes:
    """The listener's message."""
    return encode(reply)


def decode_hello(data: bytes) -> Hello:
    """The dialler's message; `Rejection` whatever the bytes."""
    return _plain(decode(Hello, data, max_bytes=HELLO_BYTES_MAX))


def decode_reply(data: bytes) -> HelloReply:
    """The listener's message; `Rejection` whatever the bytes."""
    reply: HelloReply = decode(HelloReply, data, max_bytes=HELLO_BYTES_MAX)
    _plain(reply.hello)
    if not re.fullmatch(r"[A-Z0-9]{0,8}", reply.refusal_code) or not reply.refusal.isprintable():
        raise Rejection(MALFORMED, "the refusal is not a code and a line of text")
    return reply


def _plain(hello: Hello) -> Hello:
    """Texts are shown to people: they are short and printable."""
    if not _PRINTABLE.fullmatch(hello.chain_id) or not _PRINTABLE.fullmatch(hello.software_version):
        raise Rejection(MALFORMED, "chain id and software version are at most 64 printable characters")
    if len(hello.genesis_hash) != 32 or hello.head_height < 0:
        raise Rejection(MALFORMED, "the genesis hash has 32 bytes and a height is not negative")
    if len(hello.listen_ports) > PORTS_MAX or not all(0 < port < 65536 for port in hello.listen_ports):
        raise Rejection(MALFORMED, f"at most {PORTS_MAX} ports from 1 to 65535")
    return hello


def mismatch(ours: Hello, theirs: Hello) -> Rejection | None:
    """Why these two cannot talk, naming both sides and what to do; None if they can."""
    if theirs.protocol_version != ours.protocol_version:
        return _differ(
            reasons.WRONG_PROTOCOL,
            f"we speak network protocol {ours.protocol_version} ({ours.software_version}), "
            f"the peer speaks {theirs.protocol_version} ({theirs.software_version})",
        )
    if theirs.chain_id != ours.chain_id:
        return _differ(reasons.WRONG_CHAIN, f"we are on chain {ours.chain_id!r}, the peer is on {theirs.chain_id!r}")
    if theirs.genesis_hash != ours.genesis_hash:
        return _differ(
            reasons.WRONG_GENESIS,
            f"chain {ours.chain_id!r}: our genesis is {ours.genesis_hash.hex()[:16]}…, "
            f"the peer's is {theirs.genesis_hash.hex()[:16]}…",
        )
    return None


def _differ(why: Reason, what: str) -> Rejection:
    return Rejection(why, f"{what}. {why.remedy}")
