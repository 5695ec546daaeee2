"""Power cuts: record a workload, make folders that a cut can leave, start a node on each and judge what it does.

A folder passes when the node starts with every acknowledged block, a database that is whole for its height, a sign
state that knows every signature that left, and goes on without contradicting one of them; or when it is refused with
a code. The same trace, rule and seed give the same folders.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import system_trace
import trio
from chaos_home import Place, Validator, opened_home, signed_thing, store_digest
from crash_disk import DataLoss, Disk, Left, NameLoss, Rule, is_diary
from system_trace import Operation

from consensus.tendermint.types import ConsensusMessage
from gensyn_node.app.settings import NodeSettings
from gensyn_node.app.startup import Opened
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons

FOLDER = Path(__file__).parent
GO_ON_S = 60.0
SPARE = 3
"""Cuts that are planned for each that is wanted."""
Planned: TypeAlias = tuple[int, NameLoss, DataLoss | Literal["mixed"], int]
"""After which operation, what of the names and of the data is lost, and the seed of the rest."""
WENT_ON, SAT_OUT, NOT_MADE = "went on", "sits out", "init repeated"
LOST_SIGN_STATE = (reasons.SIGN_STATE_MISSING, reasons.SIGN_STATE_CORRUPT)


@dataclass(frozen=True, slots=True)
class Past:
    """What had left the node when the power went."""

    made: bool = False
    committed: int = -1
    signed: dict[Place, bytes] = field(default_factory=dict)

    def after(self, line: str) -> Past:
        """With one line of the workload more."""
        words = line.split()
        match words[0]:
            case "made":
                return Past(True, self.committed, self.signed)
            case "committed":
                return Past(self.made, int(words[1]), self.signed)
            case "signed":
                place = (int(words[1]), int(words[2]), int(words[3]))
                return Past(self.made, self.committed, {**self.signed, place: bytes.fromhex(words[4])})
        raise AssertionError(line)


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut: after which operation, what of the names and the data is lost, and the folder that is left."""

    number: int
    point: int
    names: NameLoss
    data: str
    left: Left
    past: Past


class Fault(AssertionError):  # noqa: N818  (it names what was found)
    """A folder after which the node would lose, invent or contradict something."""


def record(folder: Path, *, sessions: int, blocks: int, transfers: int, bug: str = "") -> list[Operation]:
    """Trace the workload, with a mistake in it if wanted."""
    saying, output = folder / "said", folder / "trace"
    command = [sys.executable, str(FOLDER / "power_cut_workload.py"), str(folder / "home"), str(saying)]
    system_trace.record([*command, str(sessions), str(blocks), str(transfers), bug], folder / "home", saying, output)
    return system_trace.load(output)


def digests(trace: list[Operation]) -> dict[int, str]:
    """Height → digest over the database after that block."""
    said = (operation.text.split() for operation in trace if operation.do == "say")
    return {int(words[1]): words[2] for words in said if words[0] == "committed"}


def crash_points(trace: list[Operation]) -> list[int]:
    """Operations after which something can be different, what was said among them: not closes, not diaries."""
    paths: dict[int, str] = {}
    points = []
    for number, operation in enumerate(trace):
        if operation.do == "open":
            paths[operation.file] = operation.path
        path = operation.path or paths.get(operation.file, "")
        if operation.do != "close" and not is_diary(path):
            points.append(number)
    return points


def cuts(trace: list[Operation], rule: Rule, seed: int, count: int) -> Iterator[Cut]:
    """`count` different folders (fewer when there are not so many), from the whole length of the trace."""
    plan = _plan(crash_points(trace), rule, seed, count)
    seen: set[tuple[bytes, int]] = set()
    different = []
    for number, cut in enumerate(_made(trace, rule, plan)):
        name = (cut.left.digest(), cut.past.committed)
        if name not in seen:
            seen.add(name)
            different.append(plan[number])
    kept = sorted(random.Random(seed).sample(range(len(different)), min(count, len(different))))
    yield from _made(trace, rule, [different[place] for place in kept])


def _plan(points: list[int], rule: Rule, seed: int, count: int) -> list[Planned]:
    """More cuts than wanted, since many leave the same; by their points."""
    chance = random.Random(f"{rule} {seed}")
    kinds = [
        (names, data)
        for names in get_args(NameLoss)
        for data in (*get_args(DataLoss), "mixed")
        if rule == "posix" or names != "subset"
    ]
    every = [(point, *kind) for point in points for kind in kinds]
    chosen = sorted(chance.sample(every, min(len(every), SPARE * count)), key=lambda one: one[0])
    return [(point, names, data, chance.getrandbits(32)) for point, names, data in chosen]


def _made(trace: list[Operation], rule: Rule, plan: list[Planned]) -> Iterator[Cut]:
    """The folders of a plan, in one walk along the trace."""
    disk, past, done = Disk(rule), Past(), 0
    for number, (point, names, data, seed) in enumerate(plan):
        for operation in trace[done : point + 1]:
            if operation.do == "say":
                past = past.after(operation.text)
            else:
                disk.take(operation)
        done = max(done, point + 1)
        yield Cut(number, point, names, data, disk.cut(names, data, random.Random(seed)), past)


def judge(cut: Cut, whole: dict[int, str], target: Path) -> str:
    """Start a node on the folder: what it did, or `Fault`."""
    shutil.rmtree(target, ignore_errors=True)
    cut.left.write(target)
    try:
        with opened_home(target) as (settings, opened):
            _check_opened(cut.past, opened, whole)
            return trio.run(_go_on, cut.past, settings, opened)
    except Rejection as rejection:
        if not cut.past.made:
            return NOT_MADE
        if rejection.reason in LOST_SIGN_STATE:
            raise Fault(f"the sign state is lost: {rejection}") from rejection
        return f"refused {rejection.reason.code} {rejection.reason.name}"


def _check_opened(past: Past, opened: Opened, whole: dict[int, str]) -> None:
    head = opened.chain.head.height
    if head < past.committed:
        raise Fault(f"block {past.committed} was acknowledged, the head is {head}")
    if store_digest(opened.chain.store) != whole[head]:
        raise Fault(f"the database is not what it was after block {head}")
    assert opened.signer is not None
    state = opened.signer.state
    if past.signed and (state.height, state.round, state.step) < max(past.signed):
        raise Fault(f"signed {max(past.signed)}, the record says {(state.height, state.round, state.step)}")


async def _go_on(past: Past, settings: NodeSettings, opened: Opened) -> str:
    """Commit one more block; nothing that left before may be contradicted."""
    assert opened.signer is not None
    head = opened.chain.head.height
    if opened.signer.state.silent_through > head:
        return SAT_OUT
    contradicted: list[Place] = []

    def sent(message: ConsensusMessage) -> None:
        place, covered = signed_thing(message) or ((0, 0, 0), b"")
        if past.signed.get(place, covered) != covered:
            contradicted.append(place)

    validator = Validator(settings, opened, sent=sent, committed=lambda _: None)
    try:
        await validator.run_to(head + 1, GO_ON_S)
    except* trio.TooSlowError as error:
        raise Fault(f"no block {head + 1} in {GO_ON_S:g} s") from error
    if contradicted:
        raise Fault(f"signed twice at {contradicted}")
    return WENT_ON


@dataclass(slots=True)
class Outcome:
    """What came of a number of cuts."""

    states: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def campaign(
    trace: list[Operation],
    rule: Rule,
    seed: int,
    count: int,
    target: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Judge `count` cuts; faults are collected, not raised."""
    whole, result = digests(trace), Outcome()
    for cut in cuts(trace, rule, seed, count):
        result.states += 1
        try:
            result.outcomes[judge(cut, whole, target)] += 1
        except Exception as error:  # noqa: BLE001  (whatever it is, the node would end with it)
            result.outcomes["FAULT"] += 1
            what = f"{type(error).__name__}: {error}"
            result.faults.append(
                f"{rule} seed {seed} state {cut.number} (op {cut.point}, {cut.names}/{cut.data}): {what}"
            )
        progress(result.states)
    return result
