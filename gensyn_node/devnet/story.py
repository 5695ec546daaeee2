"""Run a scenario on a fresh devnet, from genesis to the checked model, and judge how it ended."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from consensus.ledger.parameters import Parameters
from consensus.ledger.queries import instalments
from gensyn_node.devnet import reasons
from gensyn_node.devnet.account_book import (
    Book,
    Line,
    addresses,
    draw_up,
    names_on_chain,
    read_book,
    rewards_between,
    whole,
)
from gensyn_node.devnet.chronicle import Chronicle
from gensyn_node.devnet.digits import write_digits
from gensyn_node.devnet.genesis import patient_parameters
from gensyn_node.devnet.layout import Devnet, NodePlan, create_devnet, plans_with_cheats
from gensyn_node.devnet.processes import check_alive, freeze_worker, running, start_node, stop_homes
from gensyn_node.devnet.scenario import Network, Scenario
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.cheats import COLLUDER, SOLVES, parse_cheat
from gensyn_node.sdk.client import NodeClient, connect
from gensyn_node.sdk.dispute_replay import replay_dispute
from gensyn_node.sdk.evaluate import Evaluation, evaluate_model
from gensyn_node.sdk.ledger_reader import LedgerReader
from gensyn_node.sdk.quote import check_quote
from gensyn_node.sdk.task_build import BuiltTask, build_task
from gensyn_node.sdk.task_file import TaskFile, read_task_file
from gensyn_node.sdk.task_flow import download_verified, poll_task, quote_task, submit_task
from gensyn_node.sdk.verify import Verified

Json = dict[str, Any]
Tell = Callable[[str, Any], None]
"""tell(kind, data): what happens, as it happens. Kinds: network, started, quote, submitted, task, chain, move, frozen,
killed, verified, evaluated."""
PROVIDERS_S = 90.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Dispute:
    """One dispute, told afterwards."""

    dispute_id: str
    outcome: str
    """`defender_wrong`, `challenger_wrong`, `both_wrong`; empty when another dispute was decided first."""
    how: str
    """How it ended: `arbitration`, `move`, `clock` or `another_dispute`."""
    replayed_outcome: str
    """What playing it again on this machine came to; empty when a clock decided."""
    step: int | None
    operator: str
    moves: int
    bytes: int
    """Of all moves."""
    arbitration_bytes: int
    """Of the move that carried the evidence; 0 when it did not come to that."""
    arbitration_ms: float
    """What the referee's computation takes here."""
    seconds: float
    """From opening to ruling, by the blocks' times."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a story ended."""

    name: str
    title: str
    state: str
    accuracy: float
    loss: float
    certificate_valid: bool
    segments: int
    segments_verified: int
    verdicts: int
    disputes: tuple[Dispute, ...]
    slashed: tuple[str, ...]
    """Names of the nodes that lost a bond."""
    cheaters: tuple[str, ...]
    jackpots: tuple[str, ...]
    """Names of the nodes that found a forced error, one entry a find."""
    solvers: tuple[str, ...]
    """Names of the nodes whose work was settled."""
    blocks: int
    block_interval_s: float
    seconds: float
    before: Book
    after: Book
    lines: tuple[Line, ...]
    """What the story did to each account."""
    attempts: int
    """Solvers that the task needed."""
    chronicle: tuple[str, ...]
    """What the chain did, in sentences."""
    failures: tuple[str, ...]
    """What did not end as the scenario expects; empty for a success."""

    @property
    def money_conserved(self) -> bool:
        """Not a nano was lost, none made but block rewards."""
        return self.before.conserved and self.after.conserved and rewards_between(self.before, self.after) is not None


def run_story(scenario: Scenario, folder: Path, workdir: Path, tell: Tell = lambda kind, data: None) -> Ending:
    """Run `scenario`, whose files are in `folder`, in the empty `workdir`. Every process is gone when it returns.

    `Rejection` when it cannot even be told; an unexpected ending is in `Ending.failures`.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    network = scenario.network
    plans = plans_of(network)
    parameters = parameters_of(network)
    devnet = create_devnet(
        workdir / "net", plans, parameters=parameters, block_ms=network.block_ms, validators=network.validators or None
    )
    cheats = {home.path.name: plan.cheat for home, plan in zip(devnet.homes, plans, strict=True) if plan.cheat}
    providers = sum(plan.role != "none" for plan in plans)
    task_file = workdir / "task.toml"
    shutil.copyfile(folder / scenario.task, task_file)
    task = read_task_file(task_file)
    held_out = write_digits(workdir / task.data.train)
    started = time.monotonic()
    # Captured before the network runs: it would make blocks all the while, and take the processor for them.
    built = build_task(devnet.client, task, workdir, network.block_ms)
    late = tuple(name for name, cheat in cheats.items() if parse_cheat(cheat).equivocates)
    with running(devnet, late), connect(devnet.client, _address(devnet), devnet.homes[0].token) as client:
        tell("network", {"chain_id": devnet.chain_id, "nodes": devnet.nodes - len(late), "cheaters": tuple(cheats)})
        wait_for_providers(client, devnet, providers, late)
        return _Story(scenario, devnet, client, task, built, workdir, held_out, cheats, late, started, tell).run()


def plans_of(network: Network) -> tuple[NodePlan, ...]:
    """What each node of a scenario is. Where the solver is to be ended, the node that tells the story never solves."""
    plans = plans_with_cheats(network.nodes, network.cheats)
    if network.kill_solver_after or network.restart_solver:
        plans = (replace(plans[0], role="verifier"), *plans[1:])
    return plans


def parameters_of(network: Network) -> Parameters:
    """The chain's parameters of a scenario; BAD_SCENARIO for one that does not exist."""
    unknown = sorted(set(network.parameters) - set(Parameters.__struct_fields__))
    if unknown:
        raise Rejection(reasons.BAD_SCENARIO, f"network.parameters: there is no parameter {unknown[0]!r}")
    return msgspec.structs.replace(patient_parameters(network.block_ms), **network.parameters)


def wait_for_providers(client: NodeClient, devnet: Devnet, count: int, late: Collection[str] = ()) -> None:
    """So many nodes offer their work before a task comes; NOT_READY when they do not."""
    end = time.monotonic() + PROVIDERS_S
    while len(client.call("providers")) < count:
        check_alive(devnet, late)
        if time.monotonic() > end:
            raise Rejection(reasons.NOT_READY, f"not every node registered as a provider in {PROVIDERS_S:g} s")
        time.sleep(_POLL_S)


def _address(devnet: Devnet) -> str:
    return devnet.homes[0].endpoint.read_text("ascii").strip()


@dataclass(frozen=True, slots=True)
class _Story:
    """A story under way."""

    scenario: Scenario
    devnet: Devnet
    client: NodeClient
    task: TaskFile
    built: BuiltTask
    workdir: Path
    held_out: dict[str, Any]
    cheats: dict[str, str]
    """Cheat of each node that has one."""
    late: tuple[str, ...]
    """Names of nodes that come when the books are open: a validator lies from its first block on."""
    started: float
    tell: Tell
    ended: list[str] = field(default_factory=list)
    """Names of nodes that the story ended by kill -9."""
    killed: list[str] = field(default_factory=list)
    """Those of them that it did not start again."""

    def run(self) -> Ending:
        before = read_book(self.client, self.devnet)
        for home in self.devnet.homes:
            if home.path.name in self.late:
                start_node(home)
                self.tell("started", home.path.name)
        head = int(self.client.call("block", height=None)["height"])
        chronicle = Chronicle(self.client, names_on_chain(self.devnet), head)
        task_id = self._submit()
        view = self._follow(task_id, chronicle)
        verified, evaluation = self._fetch(task_id, view)
        after = read_book(self.client, self.devnet)
        parts = self.cheats | dict.fromkeys(self.killed, "killed")
        lines = draw_up(self.client, self.devnet, before, after, parts, chronicle.finders)
        disputes = tuple(self._told(one) for one in self.client.call("disputes", task_id=task_id.hex()))
        ending = Ending(
            name=self.scenario.name,
            title=self.scenario.title,
            state=view["state"],
            accuracy=(evaluation.accuracy if evaluation else None) or 0.0,
            loss=evaluation.loss if evaluation else float("nan"),
            certificate_valid=verified is not None,
            segments=verified.segments if verified else 0,
            segments_verified=verified.segments_verified if verified else 0,
            verdicts=verified.verdicts if verified else 0,
            disputes=disputes,
            slashed=tuple(sorted(line.name for line in lines if line.slashed_nano)),
            jackpots=self._jackpots(task_id),
            cheaters=tuple(self.cheats),
            solvers=self._names(verified.solvers if verified else ()),
            **self._blocks(),
            seconds=time.monotonic() - self.started,
            before=before,
            after=after,
            lines=lines,
            attempts=int(view["record"]["attempt"]),
            chronicle=tuple(chronicle.lines),
            failures=(),
        )
        return _judged(ending, self.scenario)

    def _submit(self) -> bytes:
        quote = quote_task(self.client, self.built)
        self.tell("quote", quote)
        check_quote(quote)
        key = Keyring(self.devnet.client.keys).open(ACCOUNT)
        outcome = submit_task(self.client, key, self.built)
        self.tell("submitted", {"task_id": outcome.transaction_id.hex(), "height": outcome.height})
        return outcome.transaction_id

    def _follow(self, task_id: bytes, chronicle: Chronicle) -> Json:
        """Watch the task and its disputes to the end, or to the time limit."""
        told: dict[str, int] = {}
        end = self.started + self.scenario.time_limit_s
        view: Json = {}
        for seen in poll_task(self.client, task_id, end, _POLL_S):
            self._tell_news(task_id, told, chronicle)
            if seen != view:
                self.tell("task", seen)
            view = seen
            self._kill_solver(view)
            check_alive(self.devnet, but=self.killed)
        if not view or not view["final"]:
            state = view["state"] if view else "submitted"
            raise Rejection(reasons.STORY_FAILED, f"the task is {state} after {self.scenario.time_limit_s} s")
        self._tell_news(task_id, told, chronicle)
        return view

    def _tell_news(self, task_id: bytes, told: dict[str, int], chronicle: Chronicle) -> None:
        """Moves and what else is in the blocks, by height."""
        news: list[tuple[int, str, Any]] = [(one["move"].height, "move", one) for one in self._new_moves(task_id, told)]
        news += [(height, "chain", {"height": height, "text": text}) for height, text in chronicle.read_on()]
        for _, kind, data in sorted(news, key=itemgetter(0)):
            self.tell(kind, data)

    def _kill_solver(self, view: Json) -> None:
        """End the node that solves, once, where the scenario says so: for good, or to start it again."""
        network, record = self.scenario.network, view["record"]
        if self.ended or not view["solver"] or not record["committed"]:
            return
        for_good = network.kill_solver_after > 0
        name = next(iter(self._names([view["solver"]])))
        home = next(home for home in self.devnet.homes if home.path.name == name)
        if for_good and record["settled"] < network.kill_solver_after:
            # Else it may have trained everything before the first instalment is paid.
            if record["committed"] >= network.kill_solver_after and freeze_worker(home):
                self.tell("frozen", name)
            return
        if not for_good and not network.restart_solver:
            return
        stop_homes((home,), kill=True)
        self.ended.append(name)
        self.tell("killed", name)
        if for_good:
            self.killed.append(name)
        else:
            start_node(home)
            self.tell("started", name)

    def _new_moves(self, task_id: bytes, told: dict[str, int]) -> list[Json]:
        found = []
        for dispute in self.client.call("disputes", task_id=task_id.hex()):
            known = told.get(dispute["dispute_id"], 0)
            if len(dispute["moves"]) > known:
                moves = replay_dispute(self.client, dispute).moves[known:]
                found += [{"dispute": dispute, "move": move} for move in moves]
            told[dispute["dispute_id"]] = len(dispute["moves"])
        return found

    def _fetch(self, task_id: bytes, view: Json) -> tuple[Verified | None, Evaluation | None]:
        """Model and certificate, checked offline and on records that the network never saw."""
        if view["model_blob"] is None:
            return None, None
        found, verified = download_verified(self.client, task_id, self.workdir / "model", self.devnet.client)
        self.tell("verified", verified)
        evaluation = evaluate_model(self.devnet.client, self.task, self.workdir, found.model, self.held_out)
        self.tell("evaluated", evaluation)
        return verified, evaluation

    def _told(self, dispute: Json) -> Dispute:
        record, replay = dispute["record"], replay_dispute(self.client, dispute)
        judged = [move for move in replay.moves if move.arbitration]
        return Dispute(
            dispute_id=dispute["dispute_id"],
            outcome=dispute["outcome"],
            how=record["how"],
            replayed_outcome=replay.outcome,
            step=replay.step,
            operator=replay.operator,
            moves=len(replay.moves),
            bytes=sum(move.bytes for move in replay.moves),
            arbitration_bytes=max((move.bytes for move in judged), default=0),
            arbitration_ms=max((move.referee_ms for move in judged), default=0.0),
            seconds=(self._time_ms(record["resolved_height"]) - self._time_ms(record["opened_height"])) / 1000,
        )

    def _time_ms(self, height: int) -> int:
        return int(self.client.call("block", height=height)["time_ms"])

    def _jackpots(self, task_id: bytes) -> tuple[str, ...]:
        names = {address: name for name, address in addresses(self.devnet).items()}
        found = instalments(LedgerReader(self.client), task_id)
        return tuple(names[encode_address(finder)] for one in found for finder in one.claimants)

    def _names(self, found: Any) -> tuple[str, ...]:
        names = {address: name for name, address in addresses(self.devnet).items()}
        return tuple(sorted({names.get(address, address) for address in found}))

    def _blocks(self) -> Json:
        head = self.client.call("block", height=None)
        height = int(head["height"])
        interval = (int(head["time_ms"]) - self._time_ms(1)) / 1000 / max(1, height - 1)
        return {"blocks": height, "block_interval_s": round(interval, 3)}


def _judged(ending: Ending, scenario: Scenario) -> Ending:
    """The ending with everything that differs from the scenario's expectation."""
    expect, failures = scenario.expect, []

    def require(holds: bool, message: str) -> None:
        if not holds:
            failures.append(message)

    require(ending.state == expect.state, f"the task is {ending.state}, not {expect.state}")
    require(ending.accuracy >= expect.accuracy_min, f"accuracy {ending.accuracy:.4f} < {expect.accuracy_min}")
    require(expect.state != "finished" or ending.certificate_valid, "there is no valid certificate")
    count = len(ending.disputes)
    require(expect.disputes_min <= count <= expect.disputes_max, f"{count} disputes")
    ruled = [one.outcome for one in ending.disputes if one.outcome not in ("", "moot")]
    require(not expect.outcome or set(ruled) == {expect.outcome}, f"the disputes ended {ruled}, not {expect.outcome}")
    wrong = [one.dispute_id for one in ending.disputes if one.replayed_outcome not in ("", one.outcome)]
    require(not wrong, f"played again, these disputes end otherwise: {wrong}")
    finds = len(ending.jackpots)
    require(finds >= expect.jackpots_min, f"{finds} finds of forced errors, not {expect.jackpots_min}")
    killed = [line.name for line in ending.lines if line.part == "killed"]
    expected = (*(ending.cheaters if expect.cheater_slashed else ()), *killed)
    require(ending.slashed == tuple(sorted(expected)), f"slashed: {ending.slashed or 'nobody'}, not {expected}")
    lying = {line.name for line in ending.lines if line.lies and line.part.partition("@")[0] in (*SOLVES, COLLUDER)}
    require(not set(ending.solvers) & lying, "the cheater's work was paid")
    require(ending.attempts >= expect.attempts_min, f"{ending.attempts} solvers, at least {expect.attempts_min}")
    require(ending.money_conserved, "money was lost or made")
    failures += whole(ending.lines)
    return replace(ending, failures=tuple(failures))
