"""`gensyn node debug-bundle`: it says what a helper needs, and no secret is in it in any form."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

from chain_maker import ChainMaker
from node_cluster import make_cluster

from cli.main import main
from consensus.ledger import keys as ledger_keys
from gensyn_node.app.debug_bundle import write_bundle
from gensyn_node.app.redaction import REDACTED, Redactor
from gensyn_node.config.template import render_config
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.keys.recovery import words_of
from gensyn_node.primitives.crypto import SecretKey

TOKEN = "7f3a" * 16
PASSPHRASE = "canary correct horse"
COMMENT = "canary-in-a-comment"


def forms(secret: bytes) -> list[bytes]:
    """How a secret may be written."""
    return [
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
    ]


@pytest.mark.parametrize("broken", [False, True])
def test_no_secret_is_in_the_bundle(
    broken: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(tmp_path, 1)
    settings = cluster.settings[0]
    home = settings.home
    maker = ChainMaker(cluster)
    maker.grow(5)
    maker.chain.close()
    keys = {name: SecretKey(os.urandom(32)) for name in (ACCOUNT, CONSENSUS, P2P)}
    for name, key in keys.items():
        Keyring(home.keys).add(name, key, None)
    home.token.write_text(TOKEN)
    monkeypatch.setenv("GENSYN_PASSPHRASE", PASSPHRASE)
    home.config.write_text(render_config(settings.config) + f"# password: {COMMENT}\n", "utf-8")
    words = words_of(keys[ACCOUNT])
    other = words_of(SecretKey(os.urandom(32)))  # of a key that is nowhere in the home
    lines = [
        json.dumps({"event": "started", "authorization": f"Bearer {TOKEN}"}),
        f"key {keys[CONSENSUS].seed!r} and {keys[CONSENSUS].seed.hex()}",
        f"b64 {base64.b64encode(keys[P2P].seed).decode()}",
        f"words: {words}",
        f"someone typed {other} into a field",
        json.dumps({"words": other.split()}),
        f"passphrase={PASSPHRASE}",
        "token=unknownButNamedSecret99",
        "an honest line about block 5",
    ]
    (home.log / "node.log").write_text("\n".join(lines) + "\n", "utf-8")
    if broken:
        home.config.write_text(f'token = "{TOKEN}"\n', "utf-8")
        (home.data / "chain" / "CURRENT").unlink()
    output = tmp_path / "bundle.tar.gz"
    with pytest.raises(SystemExit) as ended:
        main(["node", "debug-bundle", "--home", str(home.path), "-o", str(output), "--json"])
    assert not ended.value.code
    listed = json.loads(capsys.readouterr().out)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    with tarfile.open(output) as archive:
        parts = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]
    assert {f"gensyn-debug/{name}" for name in listed["files"]} == parts.keys()
    whole = b"\n".join(parts.values())
    secrets = [key.seed for key in keys.values()] + [TOKEN.encode(), PASSPHRASE.encode(), COMMENT.encode()]
    for secret in secrets:
        for form in forms(secret):
            assert form not in whole
    assert b"unknownButNamedSecret99" not in whole
    for phrase in (words, other):
        row = phrase.split()
        assert not any(" ".join(row[n : n + 3]).encode() in whole for n in range(22))
        assert json.dumps(row[3:6])[1:-1].encode() not in whole
    assert b"an honest line about block 5" in parts["gensyn-debug/log/node.log"]
    chain = json.loads(parts["gensyn-debug/chain.json"])
    assert chain["chain_id"] == "devnet-test"
    sign_state = json.loads(parts["gensyn-debug/sign_state.json"])
    assert set(sign_state) == {"height", "round", "step", "silent_through", "log_heights"}
    if broken:
        assert "E2003" in chain["database"]
    else:
        assert (chain["height"], len(chain["headers"])) == (5, 5)
        assert b"[consensus]" in parts["gensyn-debug/config.toml"]


def test_words_that_name_secrets_do_not_cut_a_row_of_recovery_words() -> None:
    row = "abandon secret network private absorb token ability seed abandon absent mother zoo"
    assert Redactor([]).clean(f"typed {row}.") == f"typed {REDACTED}."


def test_ordinary_text_stays() -> None:
    text = "block 5 committed by 12D3KooW at height 7; the seed nodes answer; about able above absent zoo"
    assert Redactor([b"s3cret-token"]).clean(text) == text
    assert Redactor([b"s3cret-token"]).clean("x s3cret-token y") == f"x {REDACTED} y"
    assert Redactor([b"tiny"]).clean("tiny") == "tiny"


def test_damaged_keys_and_a_damaged_ledger_do_not_keep_it_from_being_made(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    maker = ChainMaker(cluster)
    maker.grow(2)
    maker.chain.store.database.write([(b"s" + ledger_keys.PARAMETERS, None)])
    maker.chain.close()
    home = cluster.settings[0].home
    key = SecretKey(os.urandom(32))
    Keyring(home.keys).add(ACCOUNT, key, None)
    Keyring(home.keys).add(P2P, SecretKey(os.urandom(32)), None)
    damaged = Keyring(home.keys).path(P2P)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (home.log / "node.log").write_text(f"the seed is {key.seed.hex()}\n", "utf-8")
    names = write_bundle(home, tmp_path / "bundle.tar.gz", {})
    assert {"chain.json", "log/node.log", "files.json"} <= set(names)
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        chain, log = found["gensyn-debug/chain.json"], found["gensyn-debug/log/node.log"]
        assert chain and log
        assert "unavailable" in json.load(chain)
        assert key.seed.hex().encode() not in log.read()
