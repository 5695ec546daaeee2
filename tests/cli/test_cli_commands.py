"""The command line as a program: instant help, JSON documents, errors with codes, documented exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rpc_fake_node import TOKEN, FakeNode, serving_in_thread
from structlog.testing import capture_logs

from cli import output
from cli.main import app, main
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.money import NANO_PER_GSN

TO = encode_address(bytes(range(20)))


class Program:
    """Runs commands in this process."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output."""
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        code = ended.value.code
        return (code if isinstance(code, int) else 0), self._capsys.readouterr().out

    def json(self, *arguments: str) -> Any:
        code, text = self(*arguments, "--json")
        assert text.count("\n") == 1
        document = json.loads(text)
        assert code == 0 or "error" in document
        return document


@pytest.fixture
def gensyn(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    monkeypatch.setenv("GENSYN_HOME", str(tmp_path / "home"))
    for name in ("GENSYN_PASSPHRASE", "GENSYN_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Program(tmp_path / "home", capsys)


@pytest.fixture
def address(node: FakeNode, gensyn: Program) -> Iterator[str]:
    # The node's log is another program's: what it says of a failure is no part of the command's output.
    with capture_logs(), serving_in_thread(node) as address:
        gensyn.home.mkdir(parents=True, exist_ok=True)
        (gensyn.home / "rpc.address").write_text(address)
        (gensyn.home / "rpc.token").write_text(TOKEN)
        yield address


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'torch', 'libp2p', 'numba', 'numpy', 'trio', 'plyvel', 'starlette', 'httpx', 'nacl'}\n"
        "heavy |= {'ml', 'p2p', 'proofs', 'consensus'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "devnet" in done.stdout


def test_commands_import_no_torch_before_they_run() -> None:
    script = "import sys, cli.main, gensyn_node.sdk.client, gensyn_node.sdk.task_flow\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_every_command_has_help_and_json(gensyn: Program) -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    assert set(groups) == {"node", "wallet", "data", "task", "dispute", "stake", "chain", "gov", "devnet", "bench"}
    for group, commands in list(groups.items()):
        groups |= {f"{group} {inner.name}": inner.typer_instance for inner in commands.registered_groups}
    assert "gov propose" in groups
    without_json = set()
    for group, commands in groups.items():
        for command in commands.registered_commands:
            assert command.callback is not None
            name = (command.name or command.callback.__name__).replace("_", "-")
            code, text = gensyn(*str(group).split(), name, "--help")
            assert code == 0
            assert command.callback.__doc__
            if "--json" not in text:
                without_json.add(f"{group} {name}")
    assert without_json == {"node run"}


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("wallet", "balance", "--nonsense"), ("chain", "block", "-5"), ()]
)
def test_wrong_arguments(gensyn: Program, arguments: tuple[str, ...]) -> None:
    code, _ = gensyn(*arguments)
    assert code == output.EXIT_USAGE


def test_keys(gensyn: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gensyn.json("wallet", "new", "dev", "--insecure-plain")
    words = tmp_path / "words"
    words.write_text(made["recovery_words"])
    again = gensyn.json("wallet", "import", "copy", "--words-file", str(words), "--insecure-plain")
    assert again["address"] == made["address"]
    listed = gensyn.json("wallet", "list")
    assert [(key["name"], key["encrypted"]) for key in listed] == [("copy", False), ("dev", False)]
    assert gensyn.json("wallet", "new", "dev", "--insecure-plain")["error"]["code"] == "E2054"
    words.write_text("abandon " * 24)
    error = gensyn.json("wallet", "import", "bad", "--words-file", str(words), "--insecure-plain")["error"]
    assert error["code"] == "E2056"


def test_a_key_needs_a_passphrase(gensyn: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert gensyn.json("wallet", "new", "locked")["error"]["code"] == "E2057"
    assert gensyn.json("wallet", "list") == []


def test_balance_and_blocks(gensyn: Program, address: str) -> None:
    assert gensyn.json("wallet", "balance", TO)["balance_nano"] == 5 * NANO_PER_GSN
    assert gensyn.json("chain", "block")["height"] == 7
    assert gensyn.json("chain", "block", "3", "--node", address)["height"] == 3
    assert gensyn.json("chain", "validators")[0]["power"] == 10
    code, text = gensyn("wallet", "balance", TO)
    assert code == 0
    assert "5 GSN" in text


def test_status_peers_and_role(gensyn: Program, address: str, node: FakeNode) -> None:
    status = gensyn.json("node", "status")
    assert (status["chain_id"], status["height"], status["duties"]) == ("devnet-test", 7, [])
    assert gensyn.json("node", "peers") == {"peers": [], "seeds": []}
    assert gensyn.json("node", "role") == {"role": "auto", "report": None}
    assert gensyn.json("node", "role", "verifier")["role"] == "verifier"
    assert node.current_role == "verifier"


@pytest.mark.parametrize("arguments", [("node", "why"), ("task", "why", "00" * 32)])
def test_why_is_told_for_people_and_for_programs(arguments: tuple[str, ...], gensyn: Program, address: str) -> None:
    value = gensyn.json(*arguments)
    assert (value["sentence"], value["wanted"], value["eligible"]) == ("No work: it has no peers.", 1, 0)
    assert value["changes"][0]["amount"] == 5 << 20 and value["standings"][0]["reasons"]
    code, shown = gensyn(*arguments)
    assert code == 0
    for words in ("No work", "short", "5 MiB more memory", "worker.memory_mib"):
        assert words in shown, shown


def test_writing_needs_the_token(gensyn: Program, address: str, node: FakeNode, tmp_path: Path) -> None:
    (gensyn.home / "rpc.token").write_text("5b" * 32)
    assert gensyn.json("node", "role", "verifier")["error"]["code"] == "E1703"
    good = tmp_path / "token"
    good.write_text(TOKEN)
    assert gensyn.json("node", "role", "verifier", "--token-file", str(good))["role"] == "verifier"


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("chain", "block", "99"), "E1711", output.EXIT_REFUSED),
        (("task", "show", "00" * 32), "E1711", output.EXIT_REFUSED),
        (("task", "watch", "xyz"), "E1827", output.EXIT_REFUSED),
        (("task", "audit", "00" * 32), "E1834", output.EXIT_REFUSED),
        (("task", "cancel", "00" * 31, "--yes"), "E1827", output.EXIT_REFUSED),
        (("wallet", "balance", "gsn1wrong"), "E1004", output.EXIT_REFUSED),
        (("wallet", "balance", "nobody"), "E2053", output.EXIT_REFUSED),
        (("wallet", "send", TO, "5", "--yes"), "E1006", output.EXIT_REFUSED),
        (("dispute", "show", "00" * 32), "E1714", output.EXIT_REFUSED),
        (("verify", "missing.cert"), "E1882", output.EXIT_REFUSED),
        (("task", "validate", "missing.toml"), "E1811", output.EXIT_REFUSED),
        (("explain", "E9999"), "E1881", output.EXIT_REFUSED),
        (("devnet", "status", "--home", "/nonexistent"), "E1871", output.EXIT_REFUSED),
        (("data", "add", "missing.npz", "--offline"), "E1813", output.EXIT_REFUSED),
    ],
)
def test_errors_have_codes(
    gensyn: Program, address: str, arguments: tuple[str, ...], code: str, exit_code: int
) -> None:
    got, text = gensyn(*arguments, "--json")
    assert json.loads(text)["error"]["code"] == code
    assert got == exit_code
    got, text = gensyn(*arguments)
    assert (got, text) == (exit_code, "")


def test_no_node(gensyn: Program) -> None:
    for arguments in (("node", "status"), ("node", "status", "--node", "127.0.0.1:1")):
        code, text = gensyn(*arguments, "--json")
        assert json.loads(text)["error"]["code"] == "E1821"
        assert code == output.EXIT_UNREACHABLE


def test_explain_knows_the_codes_of_every_package(gensyn: Program) -> None:
    codes = {one["code"] for one in gensyn.json("explain")}
    assert {"E1001", "E1201", "E1301", "E1701", "E1801", "E1811", "E2051"} <= codes
    assert gensyn.json("explain", "e1701")["name"] == "host_refused"


def test_task_file_is_written_once_and_checked(gensyn: Program, tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    assert gensyn.json("task", "init", str(file)) == {"file": str(file), "preset": "mlp"}
    assert gensyn.json("task", "init", str(file))["error"]["code"] == "E1811"
    assert gensyn.json("task", "init", str(file), "--preset", "vgg")["error"]["code"] == "E1811"
    assert gensyn.json("task", "validate", str(file))["error"]["code"] == "E1813"
    file.write_text(file.read_text().replace("steps = 600", "steps = 0"))
    error = gensyn.json("task", "validate", str(file))["error"]
    assert "line 19, train.steps" in error["message"]


def test_nothing_is_sent_without_consent(
    gensyn: Program, address: str, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    gensyn.json("wallet", "new", "account", "--insecure-plain")
    code, _ = gensyn("wallet", "send", TO, "1 GSN")
    assert code == output.EXIT_INTERRUPTED
    assert node.submitted == []


def test_strangers_cannot_drive_the_terminal() -> None:
    assert output.printable("a\x1b[31mb\x07\r\n") == "a�[31mb��\n"


def test_program_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "version", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["version"]
