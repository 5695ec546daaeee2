"""The seam between a simulated validator and what it agrees on.

A node is the production consensus core, a disk, a network and an `Application`; a run has one `Setting`, which makes
the applications of all its nodes and holds what only the whole run can know: actors, invariants across nodes.
`applications.APPLICATIONS` names the settings that a schedule can choose.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Protocol

from consensus.tendermint.effects import BuildValue
from consensus.tendermint.inputs import StartHeight
from consensus.tendermint.types import Block, Commit, DuplicateVoteEvidence, Evidence, ValidatorSet
from consensus.tendermint.verify import SignatureCheck
from tests.simulator.schedule import Schedule
from tests.simulator.signatures import Key


class Application(Protocol):
    """One node's replicated state. What `execute` did is on disk when it returns; all else `crash` may forget."""

    @property
    def height(self) -> int:
        """Of the last executed block; 0 at genesis."""

    @property
    def state_root(self) -> bytes:
        """After the last executed block; equal on all honest nodes of one height."""

    def start_input(self) -> StartHeight:
        """The consensus input that starts the height after the last executed block."""

    def validators(self, height: int) -> ValidatorSet | None:
        """The set that signs this height; known up to two blocks after the last executed one."""

    def sealed(self, height: int) -> tuple[Block, Commit] | None:
        """An executed block and its commit."""

    def build(self, request: BuildValue, now_ms: int) -> Block:
        """A block to propose; `now_ms` is this machine's clock."""

    def validate(self, block: Block) -> bool:
        """Whether a proposed block may follow the last executed one."""

    def execute(self, block: Block, commit: Commit) -> None:
        """Make a decided block the last executed one: all of it or, if the machine stops before, nothing."""

    def add_evidence(self, evidence: DuplicateVoteEvidence) -> None:
        """Keep proof of an offence for our next block. `Rejection` when it proves nothing."""

    def pending_evidence(self) -> tuple[Evidence, ...]:
        """The evidence that no block carries yet."""

    def receive(self, sender: int, message: Any) -> None:
        """A message that another node's application sent with `gossip`. `Rejection` when it is no good."""

    def gossip(self, now_ms: int) -> list[Any]:
        """Messages for all other nodes, asked for once a simulated second."""

    def crash(self) -> None:
        """Forget what only memory held."""


class Setting(Protocol):
    """What the nodes of one run share."""

    def application(self, number: int, key: Key, salt: bytes) -> Application:
        """The application of node `number` at genesis. Twins have one key and different salts."""

    def executed(self, number: int, block: Block) -> None:
        """An honest node has executed a block: check what must hold then. Raises `Violation`."""

    def act(self, now_ms: int) -> None:
        """Let the run's actors do something; called every simulated half second while faults last."""

    def finish(self, honest: list[int]) -> None:
        """The run is over: check what must hold at the end. Raises `Violation`."""

    def seen(self) -> dict[str, int]:
        """How often each rare state of the application was reached."""


@dataclass(frozen=True)
class Surroundings:
    """What a setting is made from."""

    schedule: Schedule
    keys: list[Key]
    check: SignatureCheck
    rng: random.Random


class Violation(AssertionError):  # noqa: N818  (it names what happened)
    """A promise of the protocol was broken."""


def require(holds: bool, message: str) -> None:
    """`Violation` unless it holds."""
    if not holds:
        raise Violation(message)


CHAIN = "simulated"
"""The chain id of every run."""
BAD = b"bad"
"""A transaction with this in it is invalid in every application of the simulator."""
