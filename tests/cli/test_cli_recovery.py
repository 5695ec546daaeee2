"""`gensyn node rollback` and `snapshot` on the home of a stopped node."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

from chain_maker import ChainMaker
from node_cluster import make_cluster

from cli.main import main
from cli.output import EXIT_REFUSED
from gensyn_node.config.home import lock_home
from gensyn_node.config.reasons import HOME_IN_USE
from gensyn_node.config.template import render_config
from gensyn_node.storage.reasons import CANNOT_ROLL_BACK


class Program:
    """Runs commands on one home."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._home = home
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        """Exit code and JSON document."""
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(self._home), "--json"])
        return int(ended.value.code or 0), json.loads(self._capsys.readouterr().out)


@pytest.fixture
def maker(tmp_path: Path) -> ChainMaker:
    cluster = make_cluster(tmp_path, 1)
    cluster.settings[0].home.config.write_text(render_config(cluster.settings[0].config), "utf-8")
    made = ChainMaker(cluster)
    made.grow(8)
    made.chain.close()
    return made


@pytest.fixture
def gensyn(maker: ChainMaker, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(maker.settings.home.path, capsys)


def test_rollback_goes_back_and_says_from_where(gensyn: Program, maker: ChainMaker) -> None:
    code, value = gensyn("node", "rollback", "--blocks", "3", "--yes")
    assert (code, value["before"], value["height"]) == (0, 8, 5)
    code, value = gensyn("node", "rollback", "--to", "4", "--yes")
    assert (code, value["before"], value["height"]) == (0, 5, 4)
    assert ChainMaker(maker.cluster).chain.head.height == 4


def test_rollback_is_refused_with_a_reason(gensyn: Program, maker: ChainMaker) -> None:
    code, value = gensyn("node", "rollback", "--to", "9", "--yes")
    assert (code, value["error"]["code"]) == (EXIT_REFUSED, CANNOT_ROLL_BACK.code)
    with lock_home(maker.settings.home):
        code, value = gensyn("node", "rollback", "--to", "3", "--yes")
    assert (code, value["error"]["code"]) == (EXIT_REFUSED, HOME_IN_USE.code)


def test_snapshots_are_made_and_listed(gensyn: Program) -> None:
    assert gensyn("node", "snapshot", "list") == (0, {"snapshots": []})
    code, made = gensyn("node", "snapshot", "create")
    assert (code, made["height"]) == (0, 8)
    assert gensyn("node", "snapshot", "list") == (0, {"snapshots": [made]})
    assert gensyn("node", "rollback", "--blocks", "1", "--yes")[0] == 0
    assert gensyn("node", "snapshot", "list") == (0, {"snapshots": []})


def test_reset_sets_the_chain_aside(gensyn: Program, maker: ChainMaker) -> None:
    code, value = gensyn("node", "reset", "--yes")
    assert code == 0
    assert Path(value["set_aside"]).is_dir()
    chain = ChainMaker(maker.cluster).chain
    assert chain.head.height == 0
    chain.close()
