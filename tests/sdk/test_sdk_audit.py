"""Auditing one's own job: with a real worker against the real ledger, from the draw to the solver's lost bond."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

import msgspec
import torch
import typer
from ledger_world import CHAIN, DATA, GSN, PROGRAM, WRONG_ROOT, Actor, Run, World, id_of, key, spec

from cli import output, task_audit
from consensus.ledger import queries
from consensus.ledger.duties import Duty
from consensus.ledger.guarantee import caught
from consensus.ledger.messages import CommitInstalment, TaskSpec
from consensus.ledger.parameters import Parameters
from consensus.ledger.records import Task
from consensus.ledger.schedule import instalment_segments, segment_span
from gensyn_node.config.home import Home
from gensyn_node.primitives.bech32 import decode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from gensyn_node.rpc.reasons import NOT_FOUND
from gensyn_node.sdk import audit_challenge, blobs, reasons
from gensyn_node.sdk.audit import (
    AGREES,
    DIFFERS,
    EVIDENCE_DIFFERS,
    INITIAL_DIFFERS,
    UNAVAILABLE,
    Audit,
    Finding,
    chances,
    run_audit,
    sample_size,
)
from gensyn_node.sdk.audit_challenge import Filing
from ml.checkpoint import save_state
from ml.data.manifest import manifest_path, shard_path, write_dataset
from ml.worker.kernels import kernel_store
from ml.worker.session import worker_session


@pytest.mark.parametrize(
    ("committed", "fraction", "segments", "count"),
    [
        (1000, 0.01, None, 10),
        (50, 0.01, None, 1),
        (50, 0.0, None, 1),
        (50, 1.0, None, 50),
        (50, 0.5, 7, 7),
        (5, 0, 9, 5),
    ],
)
def test_how_many_segments(committed: int, fraction: float, segments: int | None, count: int) -> None:
    assert sample_size(committed, fraction, segments) == count


def test_what_an_audit_says_of_the_rest() -> None:
    assert chances(100, 10).one_bps == 1_000
    assert chances(100, 100).certain_segments == 1
    assert caught(20, 3, 1, 1) == Fraction(15, 100)  # One wrong in twenty, by three.
    assert caught(4, 3, 2, 1) == 1
    wrong = chances(100, 10).certain_segments
    assert caught(100, 10, wrong, 1) >= Fraction(95, 100) > caught(100, 10, wrong - 1, 1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A folder, and one real worker that may write there; it takes seconds to start."""
    root = tmp_path_factory.mktemp("audits")
    with worker_session(root, kernel_store(root / "kernels"), 4 << 30) as session:
        yield root, session


# --- a network in memory


class ServingActor(Actor):
    """A solver that serves its states as files."""

    folder: Path

    def commit(self, run: Run, task: Task, order: TaskSpec, duty: Duty) -> CommitInstalment:
        made = super().commit(run, task, order, duty)
        ends = [sum(segment_span(order, segment)) for segment in instalment_segments(order, duty.instalment)]
        return msgspec.structs.replace(made, state_blobs=tuple(self.serve(run, end) for end in ends))

    def serve(self, run: Run, step: int) -> bytes:
        path = self.folder / f"{self.name}-{step}"
        save_state(path, PROGRAM.state, [torch.from_numpy(run.state(step))], 0.5)
        blob_id, _ = blobs.blob_id_of_file(path)
        path.rename(self.folder / blob_id.hex())
        return blob_id


class FakeClient:
    """A node: the world's ledger, and blobs in a folder."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self._results: dict[str, Any] = {}

    def parameters(self) -> Parameters:
        return self.world.parameters

    def call(self, method: str, /, **given: Any) -> Any:
        match method:
            case "record":
                found = self.world.ledger.get(bytes.fromhex(given["key"]))
                return {"value": None if found is None else found.hex()}
            case "blob_fetch":
                path = self.folder / given["blob_id"]
                if not path.exists():
                    raise Rejection(NOT_FOUND, "nobody serves the blob")
                return {"length": path.stat().st_size}
            case "status":
                return {"chain_id": CHAIN}
            case "account":
                return {"nonce": queries.account(self.world.ledger, decode_address(given["address"])).nonce}
            case "submit_transaction":
                data = bytes.fromhex(given["transaction"])
                result = self.world.raw_block(data)[0]
                self._results[id_of(data).hex()] = {
                    "accepted": result.applied,
                    "code": result.code,
                    "error": result.message,
                    "height": self.world.height,
                    "fee_nano": result.fee_nano,
                }
                return None
            case "wait_transaction":
                return self._results[given["transaction_id"]]
        raise AssertionError(method)

    def get_chunk(self, blob_id: bytes, chunk: int) -> bytes:
        data = (self.folder / blob_id.hex()).read_bytes()
        return data[chunk * BLOB_CHUNK_BYTES : (chunk + 1) * BLOB_CHUNK_BYTES]


def network(
    folder: Path, faults: tuple[int, ...] = (), initial: bool = False
) -> tuple[World, FakeClient, bytes, Actor]:
    """A task in its window, verified by nobody who looked."""
    folder.mkdir()
    write_dataset(folder / "data", {"x": DATA})
    manifest, _ = blobs.blob_id_of_file(manifest_path(folder / "data"))
    (folder / manifest.hex()).write_bytes(manifest_path(folder / "data").read_bytes())
    from ml.data.manifest import read_manifest

    for shard in read_manifest((folder / manifest.hex()).read_bytes()).blobs:
        (folder / shard.blob_id.hex()).write_bytes(shard_path(folder / "data", shard.blob_id).read_bytes())
    world = World()
    actors = [ServingActor(name, faults=faults, lazy=True, patient=True) for name in ("alice", "bob", "carol")]
    for actor in actors:
        actor.folder = folder
    world.register(*actors)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=6, dataset_manifest=manifest))
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    return world, FakeClient(world, folder), task_id, solver


def look(client: FakeClient, folder: Path, task_id: bytes) -> Audit:
    return Audit(client, Home(folder), task_id)  # type: ignore[arg-type]


def test_an_audit_finds_the_wrong_segment_challenges_it_and_earns_the_bounty(
    bench: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, worker = bench
    world, client, task_id, solver = network(folder / "wrong", faults=(9,))
    monkeypatch.setattr(audit_challenge.time, "sleep", lambda _: world.step())
    told: list[str] = []
    audit = look(client, folder, task_id)
    everything = audit.drawn(1.0, None)
    assert sorted(segment for _, segment in everything) == list(range(6))
    assert len(audit.drawn(0.01, 2)) == 2
    job = audit.job(1)
    found = run_audit(audit, worker, everything, job)
    results = {one.segment: one.result for one in found}
    # The verifier made its evidence up, so segments that are right in themselves show that.
    assert set(results.values()) <= {DIFFERS, EVIDENCE_DIFFERS} and len(found) == 1, "it stops where it may challenge"
    wrong = next(one for one in [audit.examine(worker, job, *one) for one in everything] if one.segment == 4)
    assert (wrong.result, wrong.first_step, wrong.steps, wrong.open) == (DIFFERS, 8, 2, True)

    filing = Filing(client, key("submitter"), audit, told.append)  # type: ignore[arg-type]
    with pytest.raises(Rejection) as caught:
        filing.require_bond()
    assert caught.value.reason is reasons.NOT_BONDED and "--bond" in caught.value.reason.remedy
    before = world.worth("submitter")
    assert filing.bond() == world.parameters.provider_bond_min_nano
    filing.require_bond()
    assert world.worth("submitter") >= before - GSN // 100, "a bond is not spent"
    filing.announce(wrong)
    # Interrupted here, the same command goes on.
    again = Filing(client, key("submitter"), look(client, folder, task_id), told.append)  # type: ignore[arg-type]
    ruling = again.resume(worker, 1)
    assert ruling is not None and ruling.state == "defender_wrong" and ruling.segment == 4
    assert ruling.challengers[0].address == key("submitter").address
    lost = queries.provider(world.ledger, solver.address)
    assert lost is not None and lost.slashed_nano > 0
    assert world.worth("submitter") - before >= lost.slashed_nano * world.parameters.winner_bps // 10_000 - GSN // 10
    assert again.resume(worker, 1) is None, "nothing is left to go on with"
    audit.clean()
    assert not audit.folder.exists()


class Lent:
    """A client until it is closed."""

    def __init__(self, client: FakeClient) -> None:
        self._client: FakeClient | None = client

    def __getattr__(self, name: str) -> Any:
        assert self._client is not None, f"{name} of a closed client"
        return getattr(self._client, name)

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *_: object) -> None:
        self._client = None


def test_the_command_files_what_it_finds_and_tells_how_it_ended(
    bench: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = bench
    world, client, task_id, _ = network(folder / "command", faults=(9,))
    monkeypatch.setattr(audit_challenge.time, "sleep", lambda _: world.step())
    monkeypatch.setattr(task_audit, "client_of", lambda *_: Lent(client))
    monkeypatch.setattr(task_audit, "key_of", lambda *_: key("submitter"))
    monkeypatch.setattr(task_audit, "home_of", lambda _: Home(folder))
    with pytest.raises(typer.Exit) as ended:
        task_audit.audit(task_id.hex(), fraction=1.0, segments=None, bond=True, yes=True, as_json=True)
    assert ended.value.exit_code == output.EXIT_REFUSED
    told = json.loads(capsys.readouterr().out)
    assert (told["wrong"], told["committed"], told["proven_at"]) == (1, 6, None)
    assert told["dispute"]["state"] == "defender_wrong"


def test_what_is_right_agrees_and_what_is_withheld_is_said_to_be(bench: tuple[Path, Any]) -> None:
    folder, worker = bench
    world, client, task_id, _ = network(folder / "right")
    audit = look(client, folder, task_id)
    instalment = world.instalment(task_id)
    honest = msgspec.structs.replace(instalment, verifications=())
    (client.folder / instalment.state_blobs[1].hex()).unlink()
    job = audit.job(1)
    found = {segment: audit.examine(worker, job, honest, segment) for segment in (0, 1, 2, 3)}
    assert [found[segment].result for segment in (0, 1, 2, 3)] == [AGREES, AGREES, UNAVAILABLE, AGREES]
    assert found[1].own_root == instalment.segment_roots[1] and not found[1].wrong
    lazy = audit.examine(worker, job, instalment, 1)
    assert (lazy.result, lazy.verifier) == (EVIDENCE_DIFFERS, instalment.verifications[0].verifier)
    assert audit_challenge.challenge_of(lazy).evidence_root == lazy.own_root  # type: ignore[union-attr]
    other = msgspec.structs.replace(audit.task, initial_root=sha256(b"other").digest())
    audit.task = other
    assert audit.examine(worker, job, honest, 0).result == INITIAL_DIFFERS


def in_window(world: World, task_id: bytes) -> bool:
    return any(one.state == "window" for one in queries.instalments(world.ledger, task_id))


def test_who_audits_and_meets_a_planted_error_takes_of_what_its_approvers_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks like any wrong segment; no dispute comes of it, the bond is free again."""
    world, task_id = World(), b""
    world.crew("alice", "bob", "carol", lazy=True, patient=True)
    for number in range(12):
        order = spec(name=str(number), instalments=1, verifiers=1, samples=6, forced_error_bps=5_000)
        task_id = world.submit(msgspec.structs.replace(order, max_price_nano=40 * GSN))
        world.until(partial(in_window, world, task_id))
        if WRONG_ROOT in world.instalment(task_id).segment_roots:
            break
    instalment = world.instalment(task_id)
    segment = instalment.segment_roots.index(WRONG_ROOT)
    right = Run(world.task(task_id).seed).state_roots(2 * segment + 2, 0)[0]
    finding = Finding(
        segment, 0, instalment.attempt, "window", 2 * segment, 2, DIFFERS, WRONG_ROOT, right, b"", 0.0, ""
    )
    monkeypatch.setattr(audit_challenge.time, "sleep", lambda _: world.step())
    client = FakeClient(world, tmp_path)
    audit = look(client, tmp_path / "home", task_id)
    audit.folder.mkdir(parents=True)
    filing = Filing(client, key("submitter"), audit, lambda _: None)  # type: ignore[arg-type]
    filing.bond()
    filing.announce(finding)
    before = world.worth("submitter")
    assert filing.resume(None, 1) is None and filing.forced_error  # type: ignore[arg-type]
    provider = queries.provider(world.ledger, key("submitter").address)
    assert provider is not None and provider.locked_nano == 0
    world.until(lambda: world.instalment(task_id).second_round)
    assert "jackpot_paid" not in world.kinds(), "its solver could have told"
    assert world.worth("submitter") > before


def test_what_cannot_be_audited_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    client = FakeClient(world, tmp_path)

    def refused(action: Any) -> Any:
        with pytest.raises(Rejection) as caught:
            action()
        return caught.value.reason

    assert refused(lambda: look(client, tmp_path, bytes(32))) is reasons.NOTHING_TO_AUDIT
    task_id = world.submit()
    audit = look(client, tmp_path, task_id)
    assert refused(audit.committed) is reasons.NOTHING_TO_AUDIT
    audit.task = msgspec.structs.replace(audit.task, memory_bytes=1 << 50)
    assert refused(lambda: audit.job(1)) is reasons.AUDIT_TOO_LARGE
