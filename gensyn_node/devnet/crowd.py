"""Many tasks at once on a fresh devnet: how long they take, and how evenly the draw deals them out."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.ledger import queries
from consensus.ledger.assignment import weight
from consensus.ledger.fees import fee_for
from consensus.ledger.messages import SubmitTask, encode_transaction, sign_transaction, transaction_id
from consensus.ledger.records import VERIFICATION_PAID
from gensyn_node.devnet.account_book import Book, Line, addresses, draw_up, read_book, rewards_between, whole
from gensyn_node.devnet.digits import write_digits
from gensyn_node.devnet.layout import Devnet, create_devnet, plans_with_cheats
from gensyn_node.devnet.processes import check_alive, running
from gensyn_node.devnet.scenario import Scenario
from gensyn_node.devnet.story import Tell, parameters_of, wait_for_providers
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.primitives.bech32 import decode_address, encode_address
from gensyn_node.sdk import transactions
from gensyn_node.sdk.certificate import unpack_certificate
from gensyn_node.sdk.client import NodeClient, connect
from gensyn_node.sdk.ledger_reader import LedgerReader
from gensyn_node.sdk.task_build import BuiltTask, build_task
from gensyn_node.sdk.task_file import read_task_file
from gensyn_node.sdk.task_flow import fetch_certificate, submit_task

_POLL_S = 5.0
"""Seldom: the node that is asked works as well, and the times are the blocks'."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """What one node got to do."""

    name: str
    solved: int
    """Tasks of which it settled at least one instalment."""
    verified: int
    """Verdicts that it was paid for."""
    earned_nano: int
    weight: float
    """Its part of all weights in the draw (bond per asked price), 0 to 1: what a fair lot gives it of the tasks."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How it ended."""

    name: str
    title: str
    tasks: int
    states: dict[str, int]
    seconds: float
    """From the first submission to the last end, by the blocks' times."""
    tasks_per_minute: float
    blocks: int
    shares: tuple[Share, ...]
    fairness: float
    """Jain's index of the tasks solved per weight: 1 when all nodes got their part, 1/n when one solved all."""
    fair_lot: float
    """What the index comes to on average when so many tasks are dealt out by a fair lot."""
    disputes: int
    before: Book
    after: Book
    lines: tuple[Line, ...]
    failures: tuple[str, ...]


def fairness_of(counts: list[int] | list[float]) -> float:
    """Jain's index: (Σx)² / (n Σx²); 1 when nothing was dealt out."""
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 1.0


def fair_lot(tasks: int, nodes: int) -> float:
    """About what `fairness_of` comes to when a fair lot deals out the tasks: counts spread by (nodes - 1) / tasks."""
    return 1 / (1 + (nodes - 1) / tasks)


def run_crowd(scenario: Scenario, folder: Path, workdir: Path, tell: Tell = lambda kind, data: None) -> Crowd:
    """Run `scenario.copies` tasks in the empty `workdir`. Every process is gone when it returns."""
    workdir.mkdir(parents=True, exist_ok=True)
    network = scenario.network
    plans = plans_with_cheats(network.nodes, network.cheats)
    devnet = create_devnet(
        workdir / "net",
        plans,
        parameters=parameters_of(network),
        block_ms=network.block_ms,
        validators=network.validators or None,
    )
    task_file = workdir / "task.toml"
    shutil.copyfile(folder / scenario.task, task_file)
    task = read_task_file(task_file)
    write_digits(workdir / task.data.train)
    built = build_task(devnet.client, task, workdir, network.block_ms)
    address = devnet.homes[0].endpoint
    with running(devnet), connect(devnet.client, address.read_text("ascii").strip(), devnet.homes[0].token) as client:
        tell("network", {"chain_id": devnet.chain_id, "nodes": devnet.nodes, "cheaters": network.cheats})
        wait_for_providers(client, devnet, sum(plan.role != "none" for plan in plans))
        before = read_book(client, devnet)
        end = time.monotonic() + scenario.time_limit_s
        identities = _submit(client, devnet, built, scenario.copies)
        views = _wait(client, devnet, identities, end, tell)
        seconds = _seconds(client, views)
        after = read_book(client, devnet)
        parts = {home.path.name: plan.cheat for home, plan in zip(devnet.homes, plans, strict=True) if plan.cheat}
        lines = draw_up(client, devnet, before, after, parts)
        return _told(scenario, client, devnet, views, seconds, before, after, lines)


def _submit(client: NodeClient, devnet: Devnet, built: BuiltTask, copies: int) -> list[bytes]:
    """Data and program once, then all tasks without waiting for one another; their ids."""
    key = Keyring(devnet.client.keys).open(ACCOUNT)
    first = submit_task(client, key, built).transaction_id
    chain_id, parameters = devnet.chain_id, client.parameters()
    nonce = int(client.call("account", address=encode_address(key.address))["nonce"])
    message, found = SubmitTask(built.spec), [first]
    for number in range(nonce, nonce + copies - 1):
        fee_nano = fee_for(parameters, chain_id, key, number, message)
        data = encode_transaction(sign_transaction(key, chain_id, number, fee_nano, message))
        client.call("submit_transaction", transaction=data.hex())
        found.append(transaction_id(data))
    for identity in found:
        transactions.wait(client, identity)
    return found


def _wait(client: NodeClient, devnet: Devnet, identities: list[bytes], end: float, tell: Tell) -> list[Json]:
    """All tasks' views when every one is over, or time is up."""
    done: dict[bytes, Json] = {}
    while True:
        open_ones = [identity for identity in identities if identity not in done]
        views = {identity: client.call("task", task_id=identity.hex()) for identity in open_ones}
        done |= {identity: view for identity, view in views.items() if view["final"]}
        states = Counter(view["state"] for view in (done | views).values())
        tell("crowd", dict(sorted(states.items())))
        check_alive(devnet)
        if len(done) == len(identities) or time.monotonic() > end:
            return [(done | views)[identity] for identity in identities]
        time.sleep(_POLL_S)


def _seconds(client: NodeClient, views: list[Json]) -> float:
    """From the block of the first submission to that of the last end, or to the head while one is open."""
    records = [view["record"] for view in views]
    last = max(int(record["ended_height"]) for record in records) if all(view["final"] for view in views) else None
    first = min(int(record["submitted_height"]) for record in records)
    times = [int(client.call("block", height=height)["time_ms"]) for height in (first, last)]
    return (times[1] - times[0]) / 1000


def _told(
    scenario: Scenario,
    client: NodeClient,
    devnet: Devnet,
    views: list[Json],
    seconds: float,
    before: Book,
    after: Book,
    lines: tuple[Line, ...],
) -> Crowd:
    names = {address: name for name, address in addresses(devnet).items()}
    solved, verified = Counter[str](), Counter[str]()
    disputes = 0
    for view in views:
        if not view["final"]:
            continue
        record = unpack_certificate(fetch_certificate(client, bytes.fromhex(view["task_id"]))).record
        disputes += len(record.disputes)
        solved.update({names[encode_address(part.solver)] for part in record.instalments})
        for part in record.instalments:
            paid = (one for one in part.verdicts if one.state == VERIFICATION_PAID)
            verified.update(names[encode_address(one.verifier)] for one in paid)
    earned = {line.name: line.earned_nano for line in lines}
    nodes = [home.path.name for home in devnet.homes]
    weights = _weights(client, {name: address for address, name in names.items()}, nodes)
    shares = tuple(Share(name, solved[name], verified[name], earned[name], weights[name]) for name in nodes)
    states = dict(sorted(Counter(view["state"] for view in views).items()))
    failures = whole(lines)
    if states != {scenario.expect.state: len(views)}:
        failures.append(f"the tasks ended {states}")
    if not scenario.expect.disputes_min <= disputes <= scenario.expect.disputes_max:
        failures.append(f"{disputes} disputes")
    if not (before.conserved and after.conserved and rewards_between(before, after) is not None):
        failures.append("money was lost or made")
    return Crowd(
        name=scenario.name,
        title=scenario.title,
        tasks=len(views),
        states=states,
        seconds=seconds,
        tasks_per_minute=len(views) * 60 / seconds,
        blocks=int(client.call("block", height=None)["height"]),
        shares=shares,
        fairness=fairness_of([share.solved / share.weight for share in shares if share.weight]),
        fair_lot=fair_lot(len(views), sum(share.weight > 0 for share in shares)),
        disputes=disputes,
        before=before,
        after=after,
        lines=lines,
        failures=tuple(failures),
    )


def _weights(client: NodeClient, addresses_by_name: dict[str, str], nodes: list[str]) -> dict[str, float]:
    """Each node's part of all weights in the draw; 0 for one that is no provider."""
    reader = LedgerReader(client)
    found = {name: queries.provider(reader, decode_address(addresses_by_name[name])) for name in nodes}
    weights = {name: weight(one) if one else 0 for name, one in found.items()}
    everything = sum(weights.values())
    return {name: one / everything if everything else 0.0 for name, one in weights.items()}
