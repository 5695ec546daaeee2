"""Four processes and the command line: a parameter changes, an upgrade stops the old program and not the new one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from node_cluster import FEE_NANO, Cluster, key, make_cluster
from test_node_processes import WAIT_S, NodeProcess, open_chain, processes

from cli.main import main
from cli.output import EXIT_UPGRADE
from consensus.ledger import queries
from consensus.ledger.messages import encode_transaction, sign_transaction
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import YES, CastVote
from consensus.ledger.proposal_queries import governance
from gensyn_node.app.settings import SIGN_STATE_FILE
from gensyn_node.storage.signer import read_state

pytestmark = pytest.mark.integration

PARAMETERS = structs.replace(devnet_parameters(), voting_blocks=18, enactment_blocks=2)
UPGRADED = str(Path(__file__).parent / "upgraded_program.py")


class Commands:
    """`gensyn` commands in this process, each on a node's home."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, node: NodeProcess, *arguments: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--json", "--home", str(node.settings.home.path)])
        shown = json.loads(self._capsys.readouterr().out)
        assert not ended.value.code, shown
        return shown


def vote(cluster: Cluster, voter: int, nonce: int, number: int) -> bytes:
    """A signed yes of a node's account with its own stake."""
    message = CastVote(number, key("consensus", voter).address, YES)
    signed = sign_transaction(key("account", voter), cluster.genesis.chain_id, nonce, FEE_NANO, message)
    return encode_transaction(signed)


def test_a_parameter_changes_and_an_upgrade_stops_only_who_does_not_know_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gensyn = Commands(capsys)
    cluster = make_cluster(tmp_path, 4, parameters=PARAMETERS, commit_ms=300)
    with processes(cluster) as nodes:
        nodes[0].wait_height(1)
        changing = gensyn(nodes[0], "gov", "propose", "parameter", "window_blocks=12", "--yes")["proposal"]
        # Late enough that the commands below end before the nodes stop there, however slow the machine is.
        height = changing["voting_end_height"] + 40
        upgrade = ("upgrade", "v2", "--height", str(height), "--protocol", "2")
        upgrading = gensyn(nodes[0], "gov", "propose", *upgrade, "--yes")["proposal"]
        numbers = [changing["number"], upgrading["number"]]
        for voter in (1, 2):
            for nonce, number in enumerate(numbers):
                nodes[voter].call("submit_transaction", transaction=vote(cluster, voter, nonce, number).hex())
        gensyn(nodes[0], "gov", "vote", str(numbers[0]), "yes")
        effect = changing["voting_end_height"] + PARAMETERS.enactment_blocks
        for node in (nodes[0], nodes[2]):
            node.wait_height(max(effect - 1, upgrading["voting_end_height"] + 1))
        assert gensyn(nodes[0], "gov", "show", str(numbers[0]))["effect_height"] == effect
        assert gensyn(nodes[2], "chain", "params")["window_blocks"] == 12
        shown = gensyn(nodes[0], "gov", "list")["governance"]
        assert (shown["upgrade"]["name"], shown["upgrade_known"]) == ("v2", False)
        # The old program stops before it signs or stores anything of that height, and says what to do.
        for node in nodes:
            assert node.process is not None
            assert node.process.wait(timeout=WAIT_S) == EXIT_UPGRADE
            assert f"upgrade 'v2' begins at block {height}" in node.log()
            assert "E1258" in node.log()
            assert read_state(node.settings.home.signer / SIGN_STATE_FILE).height < height
            chain = open_chain(node.settings)
            assert chain.head.height == height - 1
            assert queries.parameters(chain.view()).window_blocks == 12
            chain.close()
        # The new program goes on with the same homes.
        for node in nodes:
            node.start((sys.executable, UPGRADED))
        for node in nodes:
            node.wait_height(height + 2)
            assert node.stop(15) == 0
    chain = open_chain(cluster.settings[3])
    assert (governance(chain.view()).protocol, governance(chain.view()).upgrades[0].height) == (2, height)
    chain.close()
