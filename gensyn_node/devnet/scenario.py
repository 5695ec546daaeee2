"""A story as a file: how many nodes, who cheats, which task, and how it has to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gensyn_node.config.strict_toml import load_toml
from gensyn_node.devnet import reasons
from gensyn_node.primitives.errors import Rejection

SCENARIOS = Path(__file__).resolve().parents[2] / "devnet" / "scenarios"
"""Beside the packages, in a copy of the source."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's tables."""


class Network(Table, frozen=True):
    """`[network]`."""

    nodes: Annotated[int, Meta(ge=1, le=32)] = 4
    validators: Annotated[int, Meta(ge=0, le=32)] = 0
    """So many of the first nodes validate; 0: all."""
    cheats: tuple[str, ...] = ()
    """The last nodes cheat, one each."""
    block_ms: Annotated[int, Meta(ge=50, le=60_000)] = 500
    parameters: dict[str, Annotated[int, Meta(ge=0)]] = {}
    """What the chain begins with where a devnet's own parameters would make the story long."""
    kill_solver_after: Annotated[int, Meta(ge=0, le=16)] = 0
    """The node that solves is ended by kill -9 once so many instalments are settled, for good; 0: never. Its training
    stands still from when it committed them."""
    restart_solver: bool = False
    """The node that solves is ended by kill -9 as soon as it committed an instalment, and started again at once."""


class Expectation(Table, frozen=True):
    """`[expect]`: what makes the story a success."""

    state: Literal["finished", "cancelled", "expired"] = "finished"
    accuracy_min: Annotated[float, Meta(ge=0, le=1)] = 0.0
    disputes_min: Annotated[int, Meta(ge=0)] = 0
    disputes_max: Annotated[int, Meta(ge=0)] = 1_000
    cheater_slashed: bool = False
    """The cheating node lost money, and nobody else did."""
    jackpots_min: Annotated[int, Meta(ge=0)] = 0
    """Finders of forced errors, in all."""
    outcome: Literal["", "defender_wrong", "challenger_wrong"] = ""
    """How every ruled dispute ended."""
    attempts_min: Annotated[int, Meta(ge=1)] = 1
    """Solvers that the task needed, at least."""


class Scenario(Table, frozen=True):
    """A whole scenario file."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}\Z")]
    title: Annotated[str, Meta(max_length=200)]
    task: Annotated[str, Meta(max_length=200)]
    """The task file, relative to the scenario's."""
    data: Literal["digits"]
    """Written beside the task file under the name that the task file gives."""
    network: Network = Network()
    expect: Expectation = Expectation()
    copies: Annotated[int, Meta(ge=1, le=200)] = 1
    """So many tasks of this kind at once."""
    time_limit_s: Annotated[int, Meta(ge=1, le=3600)] = 300


def parse_scenario(text: str, source: str = "scenario.toml") -> Scenario:
    """The scenario in `text`; BAD_SCENARIO with the line otherwise."""
    return load_toml(text, Scenario, source=source, bad=reasons.BAD_SCENARIO, unknown=reasons.BAD_SCENARIO, remedies={})


def read_scenario(path: Path) -> Scenario:
    """The scenario in a file."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Rejection(reasons.BAD_SCENARIO, f"{path} cannot be read: {error}") from None
    return parse_scenario(text, str(path))


def find_scenario(name: str) -> Path:
    """The file of a scenario: a path, or the name of one that comes with the source. BAD_SCENARIO otherwise."""
    path = Path(name).expanduser()
    if path.suffix == ".toml":
        return path
    found = SCENARIOS / f"{name}.toml"
    if not found.is_file() or Path(name).name != name:
        known = ", ".join(scenario_names()) or "none here: they come with the source, not with the package"
        raise Rejection(reasons.BAD_SCENARIO, f"there is no scenario {name!r}; known: {known}")
    return found


def scenario_names() -> tuple[str, ...]:
    """Names of the scenarios that come with the source."""
    return tuple(sorted(path.stem for path in SCENARIOS.glob("*.toml") if "\n[network]" in path.read_text("utf-8")))
