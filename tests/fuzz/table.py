"""The table of decoders: what is fuzzed, with which valid messages to begin, and what must come out.

Codec types come out of the source by themselves (`call_sites`). Readers with rules of their own, and those of text, are
listed here; `READS_FILES` are the thin ones that open a path and hand its bytes to one of these.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import msgpack
import trio

from consensus.ledger.messages import Transaction, Transfer, decode_transaction, sign_transaction
from consensus.ledger.programs import decode_program
from consensus.ledger.records import Genesis
from gensyn_node.app import sign_history, sync_wire, wire
from gensyn_node.config.genesis import decode_genesis
from gensyn_node.config.node_config import NodeConfig, parse_config
from gensyn_node.config.template import render_config
from gensyn_node.devnet.scenario import parse_scenario
from gensyn_node.keys import keystore
from gensyn_node.light import wire as light_wire
from gensyn_node.light.trust import parse_anchor
from gensyn_node.primitives import codec
from gensyn_node.primitives.bech32 import decode_address, encode_address
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import parse_amount
from gensyn_node.primitives.reasons import MALFORMED
from gensyn_node.roles.cheats import parse_cheat
from gensyn_node.rpc.strict_json import parse_json
from gensyn_node.sdk import certificate
from gensyn_node.sdk.blobs import parse_id
from gensyn_node.sdk.task_file import parse_task_file
from gensyn_node.storage import wal
from ml.data.manifest import Manifest, Shard, ShardedTensor, read_manifest
from ml.worker import frames as worker_frames
from p2p import book, frames, handshake
from p2p.blobstore import Summary, decode_summary
from p2p.download import Ask, decode_ask
from proofs import blobs, merkle
from proofs.dataset import DatasetTensor
from proofs.program.types import Program, TensorType
from tests.fuzz import data_files, mutate
from tests.fuzz.call_sites import ROOT, decode_sites
from tests.fuzz.values import builtins, encoded

SEEDS_PER_DECODER = 24


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder."""

    name: str
    run: Callable[[bytes], Any]
    """Raises `Rejection`, or returns what it read."""
    seeds: Callable[[random.Random], Sequence[bytes]]
    """Valid messages."""
    again: Callable[[Any], bytes] | None = None
    """What was read, as bytes again: they must be those that were read."""
    mutate: Callable[[Sequence[bytes], random.Random], bytes] = mutate.mutated
    weight: int = 4
    """Share of the inputs of a campaign."""


READS_FILES = {
    "gensyn_node.config.node_config.read_config": "parse_config",
    "gensyn_node.config.genesis.read_genesis": "decode_genesis",
    "gensyn_node.config.strict_toml.load_toml": "parse_config and parse_task_file",
    "gensyn_node.rpc.guard.read_or_make_token": "a secret of our own, compared and never parsed",
    "gensyn_node.app.service.read_token": "a secret of our own, compared and never parsed",
    "gensyn_node.app.settings.load_settings": "parse_config, decode_genesis, keystore.unpack",
    "consensus.pool.decode_sender": "decode_transaction",
    "gensyn_node.storage.signer.read_state": "a sign state is fuzzed as its codec type; byte flips are in tests/node",
    "gensyn_node.storage.wal.read_log": "parse_log",
    "gensyn_node.sdk.certificate.read_certificate": "unpack_certificate",
    "gensyn_node.app.sign_history.read_history": "decode_history",
    "gensyn_node.light.trust.load_block": "a file of our own, fuzzed as its codec type",
    "gensyn_node.light.reads.read_account": "records proven under a verified header",
    "gensyn_node.light.reads.read_under": "records proven under a verified header",
    "gensyn_node.sdk.datasets.read_arrays": "a .npz of one's own; numpy's reader without pickles",
    "gensyn_node.sdk.task_file.read_task_file": "parse_task_file",
    "gensyn_node.devnet.account_book.read_book": "reads our own node's ledger",
    "gensyn_node.devnet.digits.load_digits": "a file of an installed package",
    "gensyn_node.devnet.scenario.read_scenario": "parse_scenario",
    "ml.worker.frames.read_frame": "fuzzed with decode_request",
    "ml.presets.configuration.parse_preset": "takes a typed table of parse_task_file",
    "ml.presets.configuration.parse_optimizer": "takes a typed table of parse_task_file",
    "ml.presets.configuration.parse_schedule": "takes a typed table of parse_task_file",
    "ml.presets.build.load_parameters": "takes tensors, no bytes",
    "ml.presets.weights.load_weights": "safetensors; tests/ml",
    "ml.checkpoint.load_state": "safetensors; tests/ml",
    "ml.native.values_file.load_values": "safetensors; tests/ml",
    "ml.tensor_file.read_tensor_file": "safetensors; tests/hostile",
    "ml.checkpoint.load_verified_state": "safetensors; tests/ml",
    "ml.data.formats.arrays.read_npz": "data.npz",
    "ml.data.formats.arrays.read_safetensors": "data.safetensors",
    "ml.data.formats.images.read_images": "data.png and others",
    "ml.data.formats.table.read_csv": "data.csv",
    "ml.data.formats.table.read_parquet": "data.parquet",
    "ml.data.formats.text.read_text": "data.txt",
    "proofs.arithmetic.jobs.read_block": "takes decoded tiles",
    "proofs.arithmetic.jobs.read_elements": "takes decoded tiles",
}
"""Readers that are no decoder of their own, and what of them is."""

RUN_TIME_TYPES = {
    ("consensus.ledger.invariants", "_SINGLE[key]"): "records of our own ledger",
    ("consensus.ledger.invariants", "_TYPES[kind]"): "records of our own ledger",
    ("consensus.ledger.view", "type_"): "records of our own ledger",
    ("gensyn_node.app.asker", "type_"): "answers, which `WIRE_MODULES` list",
    ("gensyn_node.light.peers", "type_"): "answers, which `WIRE_MODULES` list",
}
"""Calls of the codec whose type the source does not name, and what they read."""

WIRE_MODULES = (wire, sync_wire, light_wire)
"""Every struct declared here is what a peer may send."""


def packed_again(value: Any) -> bytes:
    """The encoding by MessagePack's own library, which our codec must agree with."""
    return bytes(msgpack.packb(builtins(value), use_bin_type=True) or b"")


def _seeds_of(type_: Any, rng: random.Random) -> list[bytes]:
    return [encoded(type_, rng) for _ in range(SEEDS_PER_DECODER)]


@cache
def codec_targets() -> tuple[Target, ...]:
    """A target for every type that the program decodes anywhere."""
    found: dict[str, Target] = {}
    for site in decode_sites():
        if site.type_ is None:
            continue
        name = f"codec:{site.expression.removeprefix('wire.')}"
        if name in found:
            name = f"{name}@{site.module}"
        run = partial(codec.decode, site.type_, max_bytes=site.max_bytes)
        if all(str(other.run) != str(run) for other in found.values()):
            found[name] = Target(name, run, partial(_seeds_of, site.type_), packed_again)
    for module in WIRE_MODULES:
        for name, type_ in vars(module).items():
            declared = (
                isinstance(type_, type) and issubclass(type_, codec.Struct) and type_.__module__ == module.__name__
            )
            if declared and f"codec:{name}" not in found:
                run = partial(codec.decode, type_)
                found[f"codec:{name}"] = Target(f"codec:{name}", run, partial(_seeds_of, type_), packed_again)
    return tuple(found.values())


# --- readers with rules of their own


def _text(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    def run(data: bytes) -> Any:
        return read(data.decode("utf-8", "surrogateescape"))

    return run


def _transactions(rng: random.Random) -> list[bytes]:
    signed = [
        codec.encode(sign_transaction(SecretKey(bytes([n]) * 32), "devnet-test", n, 1_000 + n, Transfer(b"\1" * 20, n)))
        for n in range(8)
    ]
    return [*signed, *_seeds_of(Transaction, rng)]


def _frame(max_bytes: int) -> Callable[[bytes], Any]:
    class Stream:
        def __init__(self, data: bytes) -> None:
            self.data = data

        async def read_exactly(self, count: int) -> bytes:
            await trio.lowlevel.checkpoint()
            if count > len(self.data):
                raise OSError("the stream ended")
            part, self.data = self.data[:count], self.data[count:]
            return part

        async def write(self, data: bytes) -> None:
            raise OSError("nobody writes here")

    def run(data: bytes) -> Any:
        try:
            return trio.run(frames.read_frame, Stream(data), max_bytes, MALFORMED)
        except OSError as error:
            raise Rejection(MALFORMED, str(error)) from None

    return run


def _worker_frame(data: bytes) -> Any:
    content = worker_frames.read_frame(io.BytesIO(data))
    return None if content is None else worker_frames.decode_request(content)


def _log(data: bytes) -> Any:
    content = wal.parse_log(data)
    whole = b"".join(wal.frame(record) for record in content.records)
    if whole != data[: content.good_bytes] or (content.good_bytes == len(data) and content.corrupt):
        raise AssertionError("records were read that are not in the log")
    return content


BLOB = b"\1" * (1 << 20) + b"\2" * 1_000
HELLOS = (
    handshake.Hello("devnet-test", b"\1" * 32, 1, "0.1.0", 7, (26600,)),
    handshake.Hello("a", b"\2" * 32, 2, "", 0, ()),
)


def _hellos(rng: random.Random) -> list[bytes]:
    return [codec.encode(hello) for hello in HELLOS] + _seeds_of(handshake.Hello, rng)


def _hello_replies(rng: random.Random) -> list[bytes]:
    made = [handshake.HelloReply(hello, "", "") for hello in HELLOS]
    made.append(handshake.HelloReply(HELLOS[0], "E1601", "we are on another chain"))
    return [codec.encode(reply) for reply in made] + _seeds_of(handshake.HelloReply, rng)


def _manifests(rng: random.Random) -> list[bytes]:
    record = TensorType("f32", (3,))
    shards = (Shard(b"\1" * 32, 10, 120), Shard(b"\2" * 32, 5, 60))
    tensor = ShardedTensor(DatasetTensor("x", record, 15, b"\3" * 32), shards)
    made = [Manifest(1, (tensor,), ("a", "b")), Manifest(1, (tensor, tensor), ())]
    return [codec.encode(manifest) for manifest in made] + _seeds_of(Manifest, rng)


def _summaries(rng: random.Random) -> list[bytes]:
    return [codec.encode(Summary(len(BLOB), b"".join(blobs.hash_chunks(BLOB)))), *_seeds_of(Summary, rng)]


def _paths(data: bytes) -> Any:
    """Merkle paths of untrusted length, index and size; only a path to the true root may be accepted."""
    leaves = [bytes([number]) * 32 for number in range(7)]
    index, size, first, path = codec.decode(tuple[int, int, int, tuple[bytes, ...]], data)
    root = merkle.root(leaves)
    leaf = merkle.SHA256.leaf(leaves[3])
    if merkle.verify_inclusion(merkle.SHA256, root, leaf, index, size, path) and (
        tuple(path) != merkle.inclusion_path(merkle.SHA256, [merkle.SHA256.leaf(one) for one in leaves], 3)
    ):
        raise AssertionError("another path leads to the root")
    merkle.verify_consistency(merkle.SHA256, first, merkle.root(leaves[:3]), size, root, path)
    blobs.chunk_count(size)
    try:
        blobs.verify_chunk(root, size, index, leaves[0], path)
    except Rejection:
        return None
    raise AssertionError("a chunk of no blob was accepted")


def _path_seeds(rng: random.Random) -> list[bytes]:
    hashes = [merkle.SHA256.leaf(bytes([number]) * 32) for number in range(7)]
    paths = [(at, 7, 3, merkle.inclusion_path(merkle.SHA256, hashes, at)) for at in range(7)]
    return [codec.encode(item) for item in paths]


JSON_SEEDS = (
    b'{"jsonrpc":"2.0","id":1,"method":"status","params":{}}',
    b'{"jsonrpc":"2.0","id":"a","method":"block","params":{"height":3}}',
    b'[{"jsonrpc":"2.0","id":null,"method":"account","params":{"address":"gsn1"}},{"jsonrpc":"2.0","method":"peers"}]',
    b'{"jsonrpc":"2.0","id":18446744073709551615,"method":"tasks","params":{"offset":0,"limit":9e3}}',
    b'{"a":[1,2.5,-3e-7,true,false,null,"\\u00e9\\ud83d\\ude00"],"b":{"c":{}}}',
    b'{"jsonrpc":"2.0","id":7,"method":"submit_transaction","params":{"data":"00ff"}}',
)


def _task_files(rng: random.Random) -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "devnet" / "scenarios").glob("*-task*.toml"))]


def _scenarios(rng: random.Random) -> list[bytes]:
    return [
        path.read_bytes() for path in sorted((ROOT / "devnet" / "scenarios").glob("*.toml")) if "task" not in path.name
    ]


def _configs(rng: random.Random) -> list[bytes]:
    return [render_config(NodeConfig()).encode()]


def _texts(*texts: str) -> Callable[[random.Random], list[bytes]]:
    return lambda rng: [text.encode() for text in texts]


def _key_files(rng: random.Random) -> list[bytes]:
    key = SecretKey(b"\7" * 32)
    return [keystore.pack(keystore.plain(key)), *(keystore.MAGIC + seed for seed in _seeds_of(keystore.KeyFile, rng))]


def _certificates(rng: random.Random) -> list[bytes]:
    return [certificate.MAGIC + encoded(certificate.Certificate, rng) for _ in range(8)]


def _logs(rng: random.Random) -> list[bytes]:
    return [b"".join(wal.frame(rng.randbytes(rng.randrange(60))) for _ in range(count)) for count in range(6)]


def _histories(rng: random.Random) -> list[bytes]:
    return [
        sign_history.encode_history(
            sign_history.SigningHistory(
                sign_history.FORMAT, "devnet-test", rng.randbytes(32).hex(), rng.randbytes(32).hex(), height, 2, 3, 0
            )
        )
        for height in (0, 1, 10**6)
    ]


def _framed(prefix: int) -> Callable[[random.Random], list[bytes]]:
    return lambda rng: [len(body).to_bytes(prefix, "big") + body for body in (b"", b"\1", rng.randbytes(200))]


def _worker_frames(rng: random.Random) -> list[bytes]:
    bodies = _seeds_of(worker_frames.Request, rng)
    return [len(body).to_bytes(worker_frames.LENGTH_BYTES, "big") + body for body in bodies]


PEER = "/ip4/127.0.0.1/tcp/26600/p2p/12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
READER_TARGETS: dict[str, Target] = {
    "consensus.ledger.messages.decode_transaction": Target(
        "decode_transaction", decode_transaction, _transactions, packed_again, weight=8
    ),
    "consensus.ledger.programs.decode_program": Target(
        "decode_program", decode_program, partial(_seeds_of, Program), packed_again
    ),
    "gensyn_node.config.genesis.decode_genesis": Target(
        "decode_genesis", decode_genesis, partial(_seeds_of, Genesis), packed_again
    ),
    "gensyn_node.keys.keystore.unpack": Target("keystore.unpack", keystore.unpack, _key_files, keystore.pack),
    "gensyn_node.sdk.certificate.unpack_certificate": Target(
        "unpack_certificate", certificate.unpack_certificate, _certificates, certificate.pack_certificate
    ),
    "gensyn_node.storage.wal.parse_log": Target("parse_log", _log, _logs),
    "gensyn_node.app.sign_history.decode_history": Target(
        "decode_history", sign_history.decode_history, _histories, mutate=mutate.mutated_text
    ),
    "ml.data.manifest.read_manifest": Target("read_manifest", read_manifest, _manifests, packed_again),
    "ml.worker.frames.decode_request": Target("worker frame", _worker_frame, _worker_frames),
    "ml.worker.frames.decode_reply": Target(
        "worker reply", worker_frames.decode_reply, partial(_seeds_of, worker_frames.Reply), packed_again
    ),
    "p2p.handshake.decode_hello": Target("decode_hello", handshake.decode_hello, _hellos, handshake.encode_hello),
    "p2p.handshake.decode_reply": Target(
        "decode_hello_reply", handshake.decode_reply, _hello_replies, handshake.encode_reply
    ),
    "p2p.blobstore.decode_summary": Target(
        "decode_summary", partial(decode_summary, blobs.blob_id_of(BLOB)), _summaries, packed_again
    ),
    "p2p.download.decode_ask": Target("decode_ask", decode_ask, partial(_seeds_of, Ask), packed_again),
    "p2p.frames.read_frame": Target("stream frame", _frame(4096), _framed(frames.PREFIX_BYTES), weight=1),
    "gensyn_node.rpc.strict_json.parse_json": Target(
        "parse_json", parse_json, lambda rng: JSON_SEEDS, mutate=mutate.mutated_text
    ),
    "gensyn_node.config.node_config.parse_config": Target(
        "config.toml", _text(parse_config), _configs, mutate=mutate.mutated_text, weight=1
    ),
    "gensyn_node.sdk.task_file.parse_task_file": Target(
        "task.toml", _text(parse_task_file), _task_files, mutate=mutate.mutated_text, weight=1
    ),
    "gensyn_node.devnet.scenario.parse_scenario": Target(
        "scenario.toml", _text(parse_scenario), _scenarios, mutate=mutate.mutated_text, weight=1
    ),
    "gensyn_node.primitives.money.parse_amount": Target(
        "parse_amount",
        _text(parse_amount),
        _texts("1.5 GSN", "10 nano", "0.000000001 GSN", "18446744073 GSN"),
        mutate=mutate.mutated_text,
    ),
    "gensyn_node.primitives.bech32.decode_address": Target(
        "decode_address",
        _text(decode_address),
        _texts(encode_address(b"\1" * 20), encode_address(bytes(20))),
        mutate=mutate.mutated_text,
    ),
    "p2p.book.parse_address": Target(
        "peer address",
        _text(book.parse_address),
        _texts(PEER, PEER.replace("ip4/127.0.0.1", "ip6/::1"), PEER.replace("ip4/127.0.0.1", "dns/a.example")),
        mutate=mutate.mutated_text,
    ),
    "gensyn_node.sdk.blobs.parse_id": Target(
        "parse_id", _text(parse_id), _texts("00" * 32, "fF" * 32), mutate=mutate.mutated_text
    ),
    "gensyn_node.light.trust.parse_anchor": Target(
        "parse_anchor", _text(parse_anchor), _texts("7:" + "ab" * 32, "1:" + "00" * 32), mutate=mutate.mutated_text
    ),
    "gensyn_node.roles.cheats.parse_cheat": Target(
        "parse_cheat", _text(parse_cheat), _texts("flip-bit@step=37", "lazy-verifier"), mutate=mutate.mutated_text
    ),
}
"""Readers by the function that they exercise."""
OTHER_TARGETS = (
    Target("merkle paths", _paths, _path_seeds),
    *(Target(name, read, seeds, weight=1) for name, (read, seeds) in data_files.FILES.items()),
)


def decoders() -> tuple[Target, ...]:
    """Every decoder."""
    return (*codec_targets(), *READER_TARGETS.values(), *OTHER_TARGETS)
