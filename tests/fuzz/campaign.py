"""Runs decoders on mutated messages and keeps the account: how many were read, refused, and what must not happen."""

from __future__ import annotations

import logging
import random
import resource
import signal
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import structlog

from gensyn_node.primitives.errors import Rejection
from tests.fuzz import rules
from tests.fuzz.table import Target, decoders

HANG_S = 20
"""A decoder that takes longer hangs, on any machine."""
FAILURES_KEPT = 20
MEMORY_MIB = 6_144


@dataclass(frozen=True, slots=True)
class Failure:
    """One input that broke the rule: read and the same again, or a `Rejection`."""

    target: str
    seed: int
    number: int
    what: str
    data: bytes

    @property
    def command(self) -> str:
        """Repeats it."""
        return f"python -m tests.fuzz --target '{self.target}' --seed {self.seed} --only {self.number}"


@dataclass(slots=True)
class Account:
    """What happened to one decoder."""

    target: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    bytes: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    failures: list[Failure] = field(default_factory=list)


class HangError(BaseException):
    """Raised inside a decoder that does not come to an end; not an `Exception`, so that nothing catches it."""


@contextmanager
def hang_watch() -> Iterator[None]:
    """Interrupt what runs longer than `HANG_S`; each call of `signal.alarm` starts the time again."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def input_of(target: Target, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Input `number` of a campaign: the same bytes wherever it is made."""
    return target.mutate(seeds, random.Random(f"{seed}/{target.name}/{number}"))


def seeds_of(target: Target, seed: int) -> list[bytes]:
    """The valid messages that a campaign starts from."""
    return list(target.seeds(random.Random(f"{seed}/{target.name}")))


def attempt(target: Target, data: bytes) -> tuple[bool, str]:
    """(whether it was read, what went wrong or nothing)."""
    try:
        value = target.run(data)
        if target.again is not None and target.again(value) != data:
            return True, "what was read has another encoding than what was received"
    except Rejection:
        return False, ""
    except (HangError, Exception):  # noqa: BLE001  (any exception at all is what is looked for)
        return False, traceback.format_exc(limit=-6)
    return True, ""


def run_target(target: Target, numbers: Iterable[int], seed: int) -> Account:
    """Give a decoder these inputs of a campaign."""
    account = Account(target.name)
    seeds = seeds_of(target, seed)
    started = time.monotonic()
    with hang_watch():
        for number in numbers:
            data = input_of(target, seeds, seed, number)
            signal.alarm(HANG_S)
            begun = time.perf_counter()
            read, wrong = attempt(target, data)
            account.slowest_ms = max(account.slowest_ms, 1000 * (time.perf_counter() - begun))
            account.inputs += 1
            account.bytes += len(data)
            account.read += read
            account.refused += not read and not wrong
            if wrong and len(account.failures) < FAILURES_KEPT:
                account.failures.append(Failure(target.name, seed, number, wrong, data))
    account.seconds = time.monotonic() - started
    return account


def bound_memory(mebibytes: int) -> None:
    """From here on this process gets no more address space than that: what wants more fails with MemoryError."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, hard))


def shares(chosen: Sequence[Target], inputs: int) -> list[tuple[str, int]]:
    """How many inputs each decoder gets, by weight, at least `inputs` together."""
    total = sum(target.weight for target in chosen)
    return [(target.name, -(-inputs * target.weight // total)) for target in chosen]


def work(job: tuple[str, int, int]) -> Account:
    """One decoder's share, in a process of its own."""
    name, count, seed = job
    bound_memory(MEMORY_MIB)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return run_target(by_name(name), range(count), seed)


def targets() -> tuple[Target, ...]:
    """Everything that a campaign covers."""
    return (*decoders(), *rules.targets())


def by_name(name: str) -> Target:
    """The decoder with this name."""
    found = {target.name: target for target in targets()}
    if name not in found:
        raise SystemExit(f"no decoder {name!r}; there are: {', '.join(sorted(found))}")
    return found[name]
