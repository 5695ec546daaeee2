"""config.toml: what is written reads back, every mistake names its line and field; homes and their lock."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.config.home import HOME_VARIABLE, find_home, lock_home
from gensyn_node.config.node_config import NodeConfig, RpcSection, check_cheat, parse_config, read_config
from gensyn_node.config.strict_toml import find_line
from gensyn_node.config.template import render_config
from gensyn_node.primitives.errors import Rejection


def test_template_reads_back() -> None:
    changed = msgspec.structs.replace(
        NodeConfig(), rpc=RpcSection(port=0, allowed_hosts=("node.lan:26601", 'q"uo\\te:1'))
    )
    for config in (NodeConfig(), changed):
        text = render_config(config)
        assert parse_config(text) == config
        assert all(line.startswith(("#", "[")) or "=" in line or not line for line in text.splitlines())
    assert parse_config("") == NodeConfig()


@pytest.mark.parametrize(
    ("text", "code", "line", "field"),
    [
        ('[rpc]\nport = "x"\n', "E1801", 2, "rpc.port"),
        ("[rpc]\n\nport = 70000\n", "E1801", 3, "rpc.port"),
        ("# a comment\n[rpc]\nprot = 1\n", "E1802", 3, "rpc.prot"),
        ("[p2p]\nlisten = [1]\n", "E1801", 2, "p2p.listen"),
        ("x = 1\n", "E1802", 1, "x"),
        ("[worker]\nthreads = 1\n\n[nodes]\n", "E1802", 4, "nodes"),
        ('[node]\nname = "a"\nrole = "king"\n', "E1801", 3, "node.role"),
        ('[devnet]\ncheat = "rm -rf"\n', "E1801", 2, "devnet.cheat"),
        ("[worker]\nthreads = 1.5\n", "E1801", 2, "worker.threads"),
        ("[node]\nvalidator = 1\n", "E1801", 2, "node.validator"),
        ("rpc = 5\n", "E1801", 1, "rpc"),
        ("rpc.port = -1\n", "E1801", 1, "rpc.port"),
    ],
)
def test_mistakes_name_line_and_field(text: str, code: str, line: int, field: str) -> None:
    with pytest.raises(Rejection) as error:
        parse_config(text, "here.toml")
    assert error.value.reason.code == code
    assert error.value.message.startswith(f"here.toml line {line}, {field}: ")


@pytest.mark.parametrize("text", ["[rpc\n", "a = 1\na = 2\n", "a = " + "[" * 3000, "\x00", '[rpc]\nhost = "a\n'])
def test_broken_toml_is_refused(text: str) -> None:
    with pytest.raises(Rejection) as error:
        parse_config(text)
    assert error.value.reason.code == "E1801"


@given(st.text(max_size=80) | st.text('[]=".#\nabrpcport 1', max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    try:
        parse_config(text)
    except Rejection as error:
        assert error.reason.code in ("E1801", "E1802")


def test_line_of_a_field() -> None:
    text = 'top = 1\n[a]\nx = 1\n[a.b]\n# x = 9\nx = 2\n[[list]]\ny = 1\n["quoted"]\nz = 1\n'
    wanted = {"top": 1, "a.x": 3, "a.b": 4, "a.b.x": 6, "a.b.missing": 4, "list.y": 8, "quoted.z": 10, "nowhere": 1}
    assert {field: find_line(text, field) for field in wanted} == wanted


def test_cheats_are_for_devnets() -> None:
    config = parse_config('[devnet]\ncheat = "flip-bit@step=37"')
    check_cheat(config, "devnet-1")
    check_cheat(NodeConfig(), "gensyn-1")
    with pytest.raises(Rejection) as error:
        check_cheat(config, "gensyn-1")
    assert error.value.reason.code == "E1805"


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "from-variable"))
    assert find_home().path == tmp_path / "from-variable"
    assert find_home(tmp_path / "given").path == tmp_path / "given"
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_home().path == tmp_path / ".gensyn"
    home = find_home()
    home.make()
    assert home.keys.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Rejection) as error:
        read_config(home)
    assert error.value.reason.code == "E1803"


def test_one_process_a_home(tmp_path: Path) -> None:
    home = find_home(tmp_path)
    with lock_home(home), pytest.raises(Rejection) as error, lock_home(home):
        pass
    assert error.value.reason.code == "E1806"
    with lock_home(home):
        pass


@pytest.mark.parametrize("text", ["[rpc]\nport = " + "9" * 5_000, "[node]\nname = '\udcff'"])
def test_numbers_without_end_and_half_characters_are_refused(text: str) -> None:
    with pytest.raises(Rejection) as caught:
        parse_config(text)
    assert caught.value.reason.name == "bad_config"
