"""Who plays how: one word for each role's act, and in plain words what is gained if it goes well."""

from __future__ import annotations

from dataclasses import dataclass

HONEST = "honest"
SOLVER, VERIFIER, OUTSIDER, COALITION = "solver", "verifier", "outsider", "coalition"
"""Whose duty is counted: one training, one verification, one challenge; or all that the bad ones earn in a task."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """What an agent does in each role; where it says nothing it is honest."""

    name: str
    what: str
    counts: str
    solver: str = HONEST
    verifier: str = HONEST
    outsider: str = ""
    griefing: bool = False
    """Meant to harm others: its loss is compared with theirs."""
    free_riding: bool = False
    """The result is right and others check it too, but work is saved that is paid for."""


TRUE = Strategy(HONEST, "does its work in every role", "")
CHEATS: tuple[Strategy, ...] = (
    Strategy("skip one segment", "trains all but one segment, and claims that one too", SOLVER, solver="one"),
    Strategy("skip a tenth", "leaves a tenth of the segments out", SOLVER, solver="tenth"),
    Strategy("skip all", "trains nothing and commits roots of nothing", SOLVER, solver="all"),
    Strategy("stale checkpoint", "trains half and gives an old state out as the new one", SOLVER, solver="stale"),
    Strategy("copied result", "commits what another solver got, under another seed", SOLVER, solver="copy"),
    Strategy("wrong data", "trains on data of its own", SOLVER, solver="data"),
    Strategy("low precision", "trains in half precision", SOLVER, solver="precision"),
    Strategy("withheld states", "commits roots of nothing and serves no state", SOLVER, solver="withhold",
             griefing=True),
    Strategy("hidden tenth", "skips a tenth and withholds just the states that would show it", SOLVER, solver="hide"),
    Strategy("never starts", "is drawn as solver and does nothing", SOLVER, solver="idle", griefing=True),
    Strategy("deserts", "starts, keeps the task to the end of its time, commits nothing", SOLVER, solver="desert",
             griefing=True),
    Strategy("lazy verifying", "approves without looking, with made-up evidence", VERIFIER, verifier="lazy"),
    Strategy("lazy where alone", "works where another verifier was drawn too, makes the rest up", VERIFIER,
             verifier="shared"),
    Strategy("copying verifier", "commits to another verifier's commitment", VERIFIER, verifier="copy"),
    Strategy("lying verifier", "disagrees with what is right", VERIFIER, verifier="lie", griefing=True),
    Strategy("silent verifier", "is drawn and says nothing", VERIFIER, verifier="silent", griefing=True),
    Strategy("never reveals", "commits to a verdict and never shows it", VERIFIER, verifier="unrevealing",
             griefing=True),
    Strategy("false unavailability", "says that served states cannot be had", VERIFIER, verifier="blind",
             griefing=True),
    Strategy("false challenge", "challenges what is right and plays the dispute", OUTSIDER, outsider="false",
             griefing=True),
    Strategy("stalled challenge", "challenges what is right and lets its clock run out", OUTSIDER, outsider="stall",
             griefing=True),
    Strategy("challenge never shown", "announces a challenge and never shows it", OUTSIDER, outsider="announce",
             griefing=True),
    Strategy("colluding solver and verifier", "skips a tenth; verifiers of the same hand approve", COALITION,
             solver="tenth", verifier="collude"),
    Strategy("withheld with accomplices", "commits roots of nothing, serves no state; verifiers of its hand approve",
             COALITION, solver="withhold", verifier="collude"),
    Strategy("self-challenge", "cheats on purpose; an accomplice challenges it for the finder's share", COALITION,
             solver="self"),
    Strategy("self-challenge, false", "an accomplice challenges the own right work and loses to it", COALITION,
             solver="own", outsider="own"),
    Strategy("role-hopping", "cheats in whatever role it is drawn for: skips one, approves unseen", COALITION,
             solver="one", verifier="lazy"),
    Strategy("leaked evidence", "trains rightly and keeps every step's state for verifiers of the same hand", COALITION,
             verifier="leak", free_riding=True),
    Strategy("leaked forced errors", "tells an accomplice each forced error, who claims the jackpot", COALITION,
             solver="tell", free_riding=True),
)  # fmt: skip
HAND = Strategy("honest hand", "as many honest solvers and verifiers, counted together", COALITION)
"""What a coalition is compared with."""
STRATEGIES = (*CHEATS, HAND)
BY_NAME = {one.name: one for one in STRATEGIES}
HONEST_ROLES = {
    "honest solver": "trains what it is drawn for",
    "honest verifier": "re-executes what it is drawn for, and compares evidence",
    "honest whistleblower": "takes drawn watches, and looks on its own a tenth as often",
    "honest submitter": "pays for what is settled",
}
