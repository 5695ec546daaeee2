"""Nodes as processes, ended by kill -9: they come back, lose nothing that was committed, and never sign twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from node_cluster import Cluster, make_cluster, transfer

from cli.output import EXIT_REFUSED
from consensus.ledger import keys
from consensus.ledger.records import Account
from consensus.ledger.stake_records import ValidatorRecord
from consensus.tendermint.types import Block, Commit
from gensyn_node.app.chain import Chain
from gensyn_node.app.settings import CHAIN_FOLDER, SIGN_STATE_FILE, NodeSettings
from gensyn_node.app.startup import check_chain
from gensyn_node.config.reasons import HOME_IN_USE
from gensyn_node.config.template import render_config
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.primitives import codec
from gensyn_node.storage.reasons import SIGN_STATE_MISSING
from gensyn_node.storage.signer import read_state

pytestmark = pytest.mark.integration

WAIT_S = 90.0
ROOT = Path(__file__).parents[2]
"""`python -m` finds the packages here, installed or not."""


def write_home(settings: NodeSettings) -> None:
    """What a process reads from its home besides the chain: configuration and keys."""
    settings.home.config.write_text(render_config(settings.config), "utf-8")
    ring = Keyring(settings.home.keys)
    ring.add(ACCOUNT, settings.account_key, None)
    ring.add(CONSENSUS, settings.consensus_key, None)
    ring.add(P2P, settings.p2p_key, None)


class NodeProcess:
    """`python -m gensyn_node node run` on one home."""

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, program: tuple[str, ...] = (sys.executable, "-m", "gensyn_node")) -> None:
        """Start it; what it prints goes beside its log."""
        home = self.settings.home
        home.endpoint.unlink(missing_ok=True)
        command = [*program, "node", "run", "--home", str(home.path)]
        with (home.log / "output.log").open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=WAIT_S)

    def call(self, method: str, **parameters: object) -> dict[str, object]:
        """One JSON-RPC call; raises `httpx.HTTPError` or `OSError` while the node does not answer."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        headers = {"Authorization": f"Bearer {self.settings.home.token.read_text()}"}
        reply = httpx.post(self.settings.home.endpoint.read_text() + "/rpc", json=body, headers=headers, timeout=20)
        answer: dict[str, object] = reply.json()
        if "error" in answer:
            raise AssertionError(answer["error"])
        result = answer["result"]
        assert isinstance(result, dict)
        return result

    def height(self) -> int:
        """Its head, or -1 while it does not answer."""
        try:
            return int(str(self.call("status")["height"]))
        except (httpx.HTTPError, OSError):
            return -1

    def wait_height(self, height: int) -> int:
        """Wait until its head is at least there."""
        deadline = time.monotonic() + WAIT_S
        while (found := self.height()) < height:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"at {found}, not {height}: {self.log()}"
            time.sleep(0.1)
        return found

    def log(self) -> str:
        """The end of its log."""
        files = (self.settings.home.log / name for name in ("node.log", "output.log"))
        return "".join(file.read_text("utf-8", "replace")[-3000:] for file in files if file.exists())


@contextmanager
def processes(cluster: Cluster) -> Iterator[list[NodeProcess]]:
    """All nodes of a cluster as processes; none is left behind."""
    nodes = [NodeProcess(settings) for settings in cluster.settings]
    try:
        for node in nodes:
            write_home(node.settings)
            node.start()
        yield nodes
    finally:
        for node in nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait()


def open_chain(settings: NodeSettings) -> Chain:
    """The chain of a node that does not run."""
    return Chain.open(settings.home.data / CHAIN_FOLDER, settings.genesis)


def block_and_commit(chain: Chain, height: int) -> tuple[Block, Commit]:
    """A committed block, which must be there."""
    block, commit = chain.block(height), chain.commit(height)
    assert block is not None
    assert commit is not None
    return block, commit


def test_killed_nodes_come_back_and_lose_nothing(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 4)
    target = b"\x77" * 20
    chance = random.Random(7)
    acknowledged: list[bytes] = []
    with processes(cluster) as nodes:
        for node in nodes:
            node.wait_height(1)
        for turn in range(3):
            victim, other = nodes[turn], nodes[(turn + 1) % 4]
            reply = other.call("submit_transaction", transaction=transfer(cluster, 0, turn, 11, target).hex())
            name = str(reply["transaction_id"])
            assert other.call("wait_transaction", transaction_id=name, timeout_s=60)["accepted"]
            acknowledged.append(bytes.fromhex(name))
            time.sleep(chance.random() * 0.4)  # any moment of a height, not always the same
            assert victim.stop(signal.SIGKILL) == -signal.SIGKILL
            seen = other.wait_height(other.height() + 1)
            victim.start()
            victim.wait_height(seen)
        highest = max(node.height() for node in nodes)
        for node in nodes:
            assert node.process is not None
            node.process.kill()
        for node in nodes:
            node.stop(signal.SIGKILL)
            node.start()
        for node in nodes:
            node.wait_height(highest + 2)
        for node in nodes:
            assert node.stop(signal.SIGTERM) == 0, node.log()
    check_homes(cluster, highest, {target: 11 * len(acknowledged)}, acknowledged)


def check_homes(cluster: Cluster, height: int, balances: dict[bytes, int], acknowledged: list[bytes]) -> None:
    """Every home is consistent, holds what was acknowledged, agrees with the others, and nobody signed twice."""
    chains = [open_chain(settings) for settings in cluster.settings]
    lowest = min(chain.head.height for chain in chains)
    assert lowest >= height
    for chain in chains:
        check_chain(chain)
        for address, nano in balances.items():
            account: Account = codec.decode(Account, chain.view().get(keys.account(address)) or b"")
            assert account.balance_nano == nano
        assert all(chain.store.place_of(name) is not None for name in acknowledged)
    for number in range(1, lowest + 1):
        assert len({block_and_commit(chain, number)[0].id for chain in chains}) == 1
        assert not block_and_commit(chains[0], number)[0].evidence, "somebody signed twice"
    for settings, chain in zip(cluster.settings, chains, strict=True):
        record: ValidatorRecord = codec.decode(
            ValidatorRecord, chain.view().get(keys.validator(settings.consensus_key.address)) or b""
        )
        assert not record.tombstoned
        assert read_state(settings.home.signer / SIGN_STATE_FILE).height <= chain.head.height + 1
        assert "evidence_found" not in (settings.home.log / "node.log").read_text()
        chain.close()


def test_what_a_process_refuses_to_start_with(tmp_path: Path) -> None:
    """A home in use, and a home whose sign state is gone: whatever its database says, nobody knows what it signed."""
    cluster = make_cluster(tmp_path, 1)
    with processes(cluster) as (first,):
        first.wait_height(2)
        endpoint = first.settings.home.endpoint.read_text()
        second = NodeProcess(cluster.settings[0])
        second.start()
        assert second.process is not None
        assert second.process.wait(timeout=WAIT_S) == EXIT_REFUSED
        assert HOME_IN_USE.code in second.log()
        first.settings.home.endpoint.write_text(endpoint)
        assert first.height() >= 2
        first.stop(signal.SIGKILL)
        (first.settings.home.signer / SIGN_STATE_FILE).unlink()
        first.start()
        assert first.process is not None
        assert first.process.wait(timeout=WAIT_S) == EXIT_REFUSED
        assert SIGN_STATE_MISSING.code in first.log()
