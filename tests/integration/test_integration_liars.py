"""Four liars on one network of seven nodes, two tasks at a time: every liar loses, everybody honest is whole.

A solver lies about one task: it leaves out a step. The other task is solved honestly and verified by two honest nodes
and three liars: one that does nothing, one that accuses the honest solver, one that shows what others found. Their
price keeps these three away from the first task. Each alone is a scenario of `gensyn devnet scenario`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from integration_net import recompute, wait_for

from consensus.ledger.messages import TaskSpec
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.schedule import bid_price
from gensyn_node.config.home import Home
from gensyn_node.devnet.account_book import Book, Line, addresses, draw_up, read_book, rewards_between, whole
from gensyn_node.devnet.digits import write_digits
from gensyn_node.devnet.genesis import patient_parameters
from gensyn_node.devnet.layout import CHEAP_ASK_NANO, DEAR_ASK_NANO, NodePlan, create_devnet
from gensyn_node.devnet.processes import running
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.sdk.certificate import Certificate, read_certificate
from gensyn_node.sdk.client import connect
from gensyn_node.sdk.dispute_replay import replay_dispute
from gensyn_node.sdk.task_build import build_task
from gensyn_node.sdk.task_file import parse_task_file
from gensyn_node.sdk.task_flow import download_verified, submit_task

pytestmark = pytest.mark.integration

BLOCK_MS = 700
HONEST = 3
STALE, LAZY, ACCUSER, COPIER = "node3", "node4", "node5", "node6"
PARTS = {
    STALE: "skip-step@step=37",
    LAZY: "lazy-verifier",
    ACCUSER: "false-accuser@step=37",
    COPIER: "copying-verifier",
}
HIGH_NANO = 500 * NANO_PER_GSN
"""What the task with lying verifiers pays at most: a hundred times as much as those with lying solvers."""
BOND_NANO = 100 * NANO_PER_GSN
Json = dict[str, Any]


TASK = """
name = "digits"
[model]
preset = "mlp"
widths = [128]
activation = "relu"
classes = 10
[data]
train = "digits.npz"
[train]
steps = 300
batch_size = 64
optimizer = { name = "adamw", lr = 5e-3 }
loss = "cross_entropy"
[verify]
mode = "reproducible"
verifiers = 2
segment = 50
samples = 6
instalments = 1
[price]
max = "5 GSN"
deadline = "2000 blocks"
"""
"""Digits again, 300 steps in six segments; every verifier checks all of them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task, after it."""

    view: Json
    disputes: tuple[Json, ...]
    replays: tuple[Any, ...]
    """Each dispute, played again on this machine."""
    certificate: Certificate
    path: Path


@dataclass(frozen=True, slots=True)
class Evening:
    """All that was played."""

    stale: Outcome
    verified: Outcome
    names: dict[str, str]
    """Name by address."""
    before: Book
    after: Book
    lines: tuple[Line, ...]
    fees_nano: int
    """Of the client's submissions but the program's publication."""
    folder: Path

    def named(self, address: str) -> str:
        return self.names[address]

    def line(self, name: str) -> Line:
        return next(line for line in self.lines if line.name == name)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evening]:
    folder = tmp_path_factory.mktemp("liars")
    write_digits(folder / "digits.npz")
    builder = Home(folder / "builder")
    builder.make()
    cheap = build_task(builder, parse_task_file(TASK), folder, BLOCK_MS)
    spec = msgspec.structs.replace(cheap.spec, verifiers=5, max_price_nano=HIGH_NANO)
    dear = replace(cheap, spec=spec)
    assert bid(cheap.spec, cheap.gas_per_step) * 2 < bid(dear.spec, dear.gas_per_step)
    above = bid(cheap.spec, cheap.gas_per_step) + 1
    honest = NodePlan(ask_nano_per_gigagas=DEAR_ASK_NANO, bond_nano=BOND_NANO)
    plans = (
        *(honest,) * HONEST,
        NodePlan("solver", PARTS[STALE], CHEAP_ASK_NANO),
        *(NodePlan("verifier", PARTS[name], above) for name in (LAZY, ACCUSER, COPIER)),
    )
    parameters = msgspec.structs.replace(patient_parameters(BLOCK_MS), reveal_blocks=30)
    # One validator: the roles' game is played here, and blocks of several would cost seven nodes most of two cores.
    net = create_devnet(folder / "net", plans, parameters=parameters, block_ms=BLOCK_MS, validators=1)
    with running(net), connect(net.client, net.homes[0].endpoint.read_text(), net.homes[0].token) as client:
        wait_for(lambda: len(client.call("providers")) == len(plans), "all providers", net)
        before = read_book(client, net)
        key = Keyring(net.client.keys).open(ACCOUNT)
        submitted = []
        for built in (cheap, dear):
            # Each has its solver before the next comes: the one that asks little takes the first task.
            submitted.append(submit_task(client, key, built))
            task_id = submitted[-1].transaction_id.hex()
            wait_for(lambda one=task_id: client.call("task", task_id=one)["solver"], "a solver", net)  # type: ignore[misc]
        outcomes = []
        for number, one in enumerate(submitted):
            task_id = one.transaction_id.hex()
            view = wait_for(
                lambda one=task_id: task if (task := client.call("task", task_id=one))["final"] else None,  # type: ignore[misc]
                f"the end of task {number}",
                net,
            )
            assert view["state"] == "finished", view
            files, _ = download_verified(client, one.transaction_id, folder / f"model-{number}", net.client)
            disputes = tuple(client.call("disputes", task_id=task_id))
            replays = tuple(replay_dispute(client, dispute) for dispute in disputes)
            outcomes.append(Outcome(view, disputes, replays, read_certificate(files.certificate), files.certificate))
        after = read_book(client, net)
        lines = draw_up(client, net, before, after, PARTS)
    names = {address: name for name, address in addresses(net).items()}
    fees = sum(one.fee_nano for one in submitted)
    yield Evening(outcomes[0], outcomes[1], names, before, after, lines, fees, folder)


def bid(spec: TaskSpec, gas_per_step: int) -> int:
    return bid_price(spec, gas_per_step, watch_bps=devnet_parameters().watch_bps)


def test_everybody_honest_is_whole_and_no_liar_is(evening: Evening) -> None:
    assert whole(evening.lines) == []
    for name in PARTS:
        assert evening.line(name).slashed_nano > evening.line(name).earned_nano
    assert {line.name for line in evening.lines if line.slashed_nano} == set(PARTS)


def test_money_is_conserved_to_the_nano(evening: Evening) -> None:
    before, after = evening.before, evening.after
    assert before.conserved and after.conserved
    minted = rewards_between(before, after)
    assert minted is not None and minted > 0
    assert after.supply["escrows"] == 0
    paid = 0
    for outcome in (evening.stale, evening.verified):
        record, spec = outcome.certificate.record, outcome.certificate.spec
        assert record.solver_paid_nano + record.verifiers_paid_nano + record.refunded_nano == spec.max_price_nano
        paid += record.solver_paid_nano + record.verifiers_paid_nano
    fees = evening.line("client").before_nano - evening.line("client").after_nano - paid
    assert evening.fees_nano < fees < 2 * evening.fees_nano, "and one program's publication"


def test_a_lying_solver_is_found_slashed_and_replaced(evening: Evening) -> None:
    outcome = evening.stale
    assert outcome.view["record"]["attempt"] >= 2
    decided = [replay for replay in outcome.replays if replay.outcome]
    assert decided and all(replay.outcome == "defender_wrong" for replay in decided)
    for dispute in outcome.disputes:
        assert dispute["outcome"] in ("defender_wrong", "moot", "")  # the last two: another one was decided first
        assert evening.named(dispute["record"]["defender"]) == STALE
    assert {replay.step for replay in decided} <= {37, None}
    solvers = {part.solver for part in outcome.certificate.record.instalments}
    assert len(solvers) == 1
    assert evening.line(STALE).earned_nano == 0


def test_lying_verifiers_change_nothing_for_the_honest_solver(evening: Evening) -> None:
    outcome = evening.verified
    assert outcome.view["record"]["attempt"] == 1
    against = {(evening.named(one["record"]["defender"]), one["outcome"]) for one in outcome.disputes}
    honest = {f"node{number}" for number in range(HONEST)}
    assert (LAZY, "defender_wrong") in against
    accused = [one for one in outcome.disputes if evening.named(one["record"]["defender"]) in honest]
    assert accused and {one["outcome"] for one in accused} == {"challenger_wrong"}
    for one in accused:
        assert [evening.named(other["address"]) for other in one["record"]["challengers"]] == [ACCUSER]
    assert not any(evening.named(one["record"]["defender"]) == COPIER for one in outcome.disputes)
    (instalment,) = outcome.certificate.record.instalments
    paid = {evening.named(encode_address(one.verifier)): one.fee_nano for one in instalment.verdicts}
    assert {name for name, fee in paid.items() if not fee} == {LAZY, ACCUSER, COPIER}, (
        "of the five only these are unpaid"
    )


def test_the_result_is_anybodys_and_each_seed_has_its_own(evening: Evening) -> None:
    records = [outcome.certificate.record for outcome in (evening.stale, evening.verified)]
    assert len({record.program_id for record in records}) == len({record.dataset_root for record in records}) == 1
    assert len({record.seed for record in records}) == len({record.final_root for record in records}) == 2
    for outcome in (evening.stale, evening.verified):
        again = recompute(outcome.path, evening.folder / "digits.npz", "kernels")
        assert again["root"] == outcome.certificate.record.final_root.hex()
