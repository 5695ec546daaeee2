"""Moving a signing history: it only ever raises the record, and is refused unless it is of this key and this chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_cluster import Cluster, key, make_cluster

from cli.main import main
from cli.output import EXIT_REFUSED
from gensyn_node.app.sign_history import (
    FILE_BYTES_MAX,
    FORMAT,
    SigningHistory,
    decode_history,
    encode_history,
    export_history,
    import_history,
)
from gensyn_node.config.home import Home, lock_home
from gensyn_node.keys.keyring import CONSENSUS, Keyring
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.signer import Signer, SignRequest, SignStep, is_beyond, read_state

PLACES = [(height, round_, int(step)) for height in (3, 4) for round_ in (0, 2) for step in SignStep]


def request(place: tuple[int, int, int], block: str = "B") -> SignRequest:
    message = f"{place} {block}".encode()
    return SignRequest(place[0], place[1], SignStep(place[2]), message, message, 0, 1)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Two homes, with keys."""
    made = make_cluster(tmp_path, 2)
    for one in made.settings:
        Keyring(one.home.keys).add(CONSENSUS, one.consensus_key, None)
    return made


def signer_of(cluster: Cluster) -> Signer:
    return Signer.open(cluster.settings[0].home.signer / "last_signed", cluster.settings[0].consensus_key)


def at(history: SigningHistory, place: tuple[int, int, int]) -> SigningHistory:
    return msgspec.structs.replace(history, height=place[0], round=place[1], step=place[2])


def test_a_moved_key_signs_nothing_that_it_signed_before(cluster: Cluster, tmp_path: Path) -> None:
    home = cluster.settings[0].home
    signer_of(cluster).sign(request((7, 1, 2)))
    history = decode_history(encode_history(export_history(home)))
    other = make_cluster(tmp_path / "other", 1).settings[0].home
    Keyring(other.keys).add(CONSENSUS, key("consensus", 0), None)
    (other.genesis).write_bytes(home.genesis.read_bytes())
    import_history(other, history)
    moved = Signer.open(other.signer / "last_signed", key("consensus", 0))
    for place in ((6, 0, 1), (7, 1, 2), (7, 1, 3), (7, 9, 1)):
        with pytest.raises(Rejection) as caught:
            moved.sign(request(place))
        assert caught.value.reason in (reasons.SIGN_REGRESSION, reasons.SIGN_CONFLICT)
    assert not is_beyond(moved.state, (7, 1, 2), b"what the other machine signed")
    moved.sign(request((8, 0, 1)))


def test_importing_never_lowers(cluster: Cluster) -> None:
    """Every pair of places: afterwards all that either of the two allows is refused."""
    home = cluster.settings[0].home
    for last in PLACES:
        for imported in PLACES:
            (home.signer / "last_signed").unlink()
            signer = Signer.create(home.signer / "last_signed", cluster.settings[0].consensus_key)
            signer.sign(request(last))
            state = import_history(home, at(export_history(home), imported))
            assert (state.height, state.round, state.step) == max(last, imported)
            reopened = signer_of(cluster)
            assert reopened.state == state
            for place in PLACES:
                if place <= max(last, imported) and place != last:
                    with pytest.raises(Rejection):
                        reopened.sign(request(place, "another"))
            if imported <= last:  # our own signature can be given again
                assert reopened.sign(request(last)).signature == signer.state.signature


def test_a_history_of_another_key_or_chain_is_refused(cluster: Cluster) -> None:
    home, other = (one.home for one in cluster.settings)
    with pytest.raises(Rejection) as caught:
        import_history(home, export_history(other))
    assert caught.value.reason is reasons.WRONG_KEY
    foreign = msgspec.structs.replace(export_history(home), genesis_hash="ab" * 32)
    with pytest.raises(Rejection) as caught:
        import_history(home, foreign)
    assert caught.value.reason is reasons.WRONG_CHAIN


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_lost_record_is_begun_again_only_when_asked(cluster: Cluster, damage: str) -> None:
    home = cluster.settings[0].home
    signer_of(cluster).sign(request((7, 1, 2)))
    history = export_history(home)
    if damage == "missing":
        (home.signer / "last_signed").unlink()
    else:
        (home.signer / "last_signed").write_bytes(b"damaged record")
    with pytest.raises(Rejection) as caught:
        import_history(home, history)
    assert caught.value.reason in (reasons.SIGN_STATE_MISSING, reasons.SIGN_STATE_CORRUPT)
    import_history(home, history, restore=True)
    state = read_state(home.signer / "last_signed")
    assert (state.height, state.round, state.step, state.silent_through) == (7, 1, 2, 7)


GOOD: dict[str, Any] = {
    "format": FORMAT,
    "chain_id": "c",
    "genesis_hash": "00" * 32,
    "public_key": "11" * 32,
    "height": 5,
    "round": 0,
    "step": 3,
    "silent_through": 0,
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        json.dumps(GOOD | {"more": 1}).encode(),
        json.dumps(GOOD | {"height": -1}).encode(),
        json.dumps(GOOD | {"height": 1 << 60}).encode(),
        json.dumps(GOOD | {"height": 5.0}).encode(),
        json.dumps(GOOD | {"height": "5"}).encode(),
        json.dumps(GOOD | {"step": 4}).encode(),
        json.dumps(GOOD | {"public_key": "11" * 31}).encode(),
        json.dumps(GOOD | {"public_key": "AA" * 32}).encode(),
        json.dumps(GOOD | {"format": "gensyn signing history 2"}).encode(),
        json.dumps({name: GOOD[name] for name in GOOD if name != "round"}).encode(),
        json.dumps(GOOD).encode()[:-1] + b', "height": 1}',
        json.dumps(GOOD).encode() + b" " * FILE_BYTES_MAX,
        b"[" * 10_000,
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Rejection) as caught:
        decode_history(data)
    assert caught.value.reason is reasons.BAD_SIGNING_HISTORY


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_a_history_or_refused(data: bytes) -> None:
    with pytest.raises(Rejection):
        decode_history(data)


def test_the_commands(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = cluster.settings[0].home
    signer_of(cluster).sign(request((7, 1, 2)))

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["node", "sign-state", *arguments, "--home", str(home.path), "--json"])
        assert ended.value.code == code
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        return said

    file = tmp_path / "history.json"
    assert run("export", str(file)) == {"file": str(file), "height": 7, "round": 1, "step": 2}
    assert run("import", str(file))["signs_from_height"] == 7
    with lock_home(Home(home.path)):
        assert run("import", str(file), code=EXIT_REFUSED)["error"]["name"] == "home_in_use"
    assert run("import", str(tmp_path / "nothing"), code=EXIT_REFUSED)["error"]["name"] == "bad_signing_history"
