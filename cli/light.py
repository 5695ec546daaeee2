"""Options of the commands that need no node, and what they make of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import home_of

if TYPE_CHECKING:
    from gensyn_node.light.session import LightSettings

LightFlag = Annotated[
    bool, typer.Option("--light", help="Without a node: over peers, everything proven (see gensyn chain light).")
]
SeedsOption = Annotated[
    list[str] | None,
    typer.Option("--seeds", help="Multiaddress of a peer; may be repeated (else [p2p] seeds of the home)."),
]
GenesisOption = Annotated[
    Path | None, typer.Option("--genesis", help="Genesis file (else the home's).", show_default=False)
]
TrustedOption = Annotated[
    str | None, typer.Option("--trusted", help="HEIGHT:HASH of a header that somebody you trust told you.")
]
WitnessesOption = Annotated[
    int, typer.Option("--witnesses", help="Peers that must confirm what the first one shows.", min=0, max=4)
]
TrustHoursOption = Annotated[
    float | None,
    typer.Option("--trust-hours", help="A header is trusted this long (else two thirds of the unbonding time)."),
]


def light_settings(
    home: Path | None,
    seeds: list[str] | None,
    genesis: Path | None = None,
    trusted: str | None = None,
    witnesses: int = 1,
    trust_hours: float | None = None,
) -> LightSettings:
    """The settings that the options name; the home needs no more than a genesis, or not even that."""
    from gensyn_node.config.genesis import read_genesis
    from gensyn_node.config.node_config import NodeConfig, read_config
    from gensyn_node.light.session import LightSettings
    from gensyn_node.light.trust import parse_anchor

    place = home_of(home)
    config = read_config(place) if place.config.exists() else NodeConfig()
    return LightSettings(
        genesis=read_genesis(genesis or place.genesis),
        folder=place.path / "light",
        seeds=tuple(seeds) if seeds else config.p2p.seeds,
        witnesses=witnesses,
        anchor=None if trusted is None else parse_anchor(trusted),
        trust_period_ms=None if trust_hours is None else int(trust_hours * 3_600_000),
    )
